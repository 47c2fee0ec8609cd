//! The command line: typed verbs, one parser, help that is written beside it.
//!
//! A verb or option that doesn't exist names the nearest one that does. Parsing touches nothing, so
//! it is tested as a table.

mod bench_verbs;
mod cluster_verbs;
mod words;

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

use crate::bench;
use crate::cluster;
use crate::error::{Error, Result};
use crate::gate;
use crate::sim::{self, Plan, Runs, Seeds};
use words::unknown;

pub(crate) const HELP: &str = "\
cargo xtask VERB

  ci [--full]             what CI runs: rustfmt, clippy, tidy, tests, docs; --full adds long ones
  tidy [--fix]            module docs, sizes, arrows, leaves alone, licences, words;
                          --fix folds comments that are too wide
  arrows                  which crate uses which, and whether it may
  package [LEAF]          each leaf packed, built, tested and run outside the workspace
  sim --seed N | --seeds A..B | --minutes M
             [--scenario swarm] [--keep-going]
                          the simulation on one seed, a range, or for so long; a failing seed
                          leaves its trace in target/sim/
  sim --teeth [NAME]      bugs are planted, one at a time, and must be caught

  cluster up [-n 3] [--base-port 7000] [--engine lsm|memory] [--durability sync|periodic|os]
             [--set KEY=VALUE ...] [--faults]
                          builds a release and starts nodes on 127.0.0.1; waits until they serve
  cluster status [--json]
  cluster kill I [-9]     ends node I (SIGTERM; with -9 SIGKILL)
  cluster start I         starts node I again on its data
  cluster restart [I]     all nodes, one drained and back after the other, or node I
  cluster pause I [5s] | resume I
                          node I stands still, for so long or until it is resumed
  cluster logs [I] [-f]   what the nodes said; with -f also what they say from then on
  cluster ls              the clusters of this checkout
  cluster env             how programs find it: eval \"$(cargo xtask cluster env)\"
  cluster exec -- COMMAND ...
                          the command with these variables: KV_CONNECT KV_SECRET_FILE KV_PORTS
  cluster scale N [--detach]
                          N nodes from now on: some join, or some leave and are stopped;
                          the plan is shown, and the data waited for
  cluster partition 1,2 / 3
                          nothing passes between 1, 2 and 3; `partition 3`: between 3 and all;
                          `partition 1 to 2`: 2 hears nothing of 1, 1 hears 2
  cluster slow 2 50ms±10  all that 2 says or hears is late by so much
  cluster drop 5% [2]     so many packets are lost, on all links or on those of 2
  cluster heal [2]        all links are whole again, or those of 2
                          these four need `up --faults`: a proxy stands between the nodes
  cluster down [--purge]  ends all; --purge removes their data too
  cluster provision       starts or ends one node as the JSON on stdin asks: the program for
                          autoscale.command
                          every cluster verb takes --name NAME (default: local)

  demo                    the first minute: three nodes, load and the terminal; a node dies and
                          comes back, a conflict is left to be resolved
  demo autoscale          three nodes grow to five under load and shrink again, by themselves
  tui [--name NAME] [-- ARGUMENTS]
                          builds kv-tui and attaches it to a cluster of `cluster up`
  shots [--check]         draws the pictures of docs/shots/; --check: are they what it would draw?
  metrics [--check]       writes what comes from the registry of figures: docs/METRICS.md, the
                          dashboard, the alert rules; --check: are they what it would write?
  dist                    target/dist: static binaries, completions, manual pages, checksums

  bench redis             one node beside redis-server
  bench cluster           three nodes, then five
             [--rounds 3] [--requests N] [--keys N]
  bench gossip            membership of 10 to 10,000 in a virtual network
             [--members N] [--minutes M]
  bench lsm               kv-lsm beside other embedded stores
             [--against fjall,surrealkv,redb] [--quick] [--rounds 3] [--only WORKLOAD,...]
             [--dir DIR] [--json FILE]
  bench ring              placement on up to 2,000 nodes: docs/SCALE.md
                          the others write docs/PERFORMANCE.md; none with --no-write

  release-gate [--only ROW] [--quick] [--no-write]
                          every proof at its full length; writes docs/EVIDENCE.md;
                          --quick takes minutes, proves little, and says so there

Exit codes: 0 done, 1 error, 2 usage, 3 degraded, 5 unreachable.";

const VERBS: &[&str] = &[
    "ci",
    "tidy",
    "arrows",
    "package",
    "sim",
    "cluster",
    "demo",
    "tui",
    "shots",
    "metrics",
    "dist",
    "bench",
    "release-gate",
    "help",
];
/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Help,
    Ci { full: bool },
    Tidy { fix: bool },
    Arrows,
    Package { leaf: Option<String> },
    Sim(Plan),
    Cluster { name: String, verb: cluster::Verb },
    Demo { autoscale: bool },
    Tui { name: String, arguments: Vec<OsString> },
    Shots { check: bool },
    Metrics { check: bool },
    Dist,
    Bench { what: bench::What, options: bench::Options },
    ReleaseGate(gate::Options),
}

/// Parses the arguments after the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Verb> {
    let mut parser = Parser::from_args(args);
    let verb = match parser.next().map_err(usage)? {
        None | Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Verb::Help),
        Some(Arg::Value(word)) => word.string().map_err(usage)?,
        Some(other) => return Err(usage(other.unexpected())),
    };
    match verb.as_str() {
        "help" => Ok(Verb::Help),
        "ci" => parse_ci(&mut parser),
        "tidy" => parse_tidy(&mut parser),
        "arrows" => alone(&mut parser, Verb::Arrows),
        "package" => parse_package(&mut parser),
        "sim" => parse_sim(&mut parser),
        "cluster" => cluster_verbs::parse(&mut parser),
        "demo" => parse_demo(&mut parser),
        "tui" => parse_tui(&mut parser),
        "shots" => parse_check(&mut parser, |check| Verb::Shots { check }),
        "metrics" => parse_check(&mut parser, |check| Verb::Metrics { check }),
        "dist" => alone(&mut parser, Verb::Dist),
        "bench" => bench_verbs::parse(&mut parser),
        "release-gate" => parse_gate(&mut parser),
        other => Err(unknown("verb", other, VERBS)),
    }
}

fn parse_ci(parser: &mut Parser) -> Result<Verb> {
    let mut full = false;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Long("full") => full = true,
            other => return asked_for_help(other, &["--full"]),
        }
    }
    Ok(Verb::Ci { full })
}

fn parse_tidy(parser: &mut Parser) -> Result<Verb> {
    let mut fix = false;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Long("fix") => fix = true,
            other => return asked_for_help(other, &["--fix"]),
        }
    }
    Ok(Verb::Tidy { fix })
}

fn parse_package(parser: &mut Parser) -> Result<Verb> {
    let mut leaf = None;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Value(name) if leaf.is_none() => leaf = Some(name.string().map_err(usage)?),
            other => return asked_for_help(other, &[]),
        }
    }
    Ok(Verb::Package { leaf })
}

fn parse_sim(parser: &mut Parser) -> Result<Verb> {
    const OPTIONS: &[&str] =
        &["--seed", "--seeds", "--scenario", "--minutes", "--keep-going", "--teeth"];
    let mut runs = Runs::default();
    let mut teeth = None;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Long("seed") => runs.seeds = Some(Seeds::One(number(parser)?)),
            Arg::Long("seeds") => {
                let range = text(parser)?;
                let parsed = sim::parse_range(&range);
                runs.seeds = Some(parsed.ok_or_else(|| {
                    Error::Usage(format!("`{range}` is no range of seeds; write --seeds 1..101"))
                })?);
            }
            Arg::Long("scenario") => runs.scenario = Some(text(parser)?),
            Arg::Long("minutes") => runs.minutes = Some(number(parser)?),
            Arg::Long("keep-going") => runs.keep_going = true,
            Arg::Long("teeth") => teeth = Some(None),
            Arg::Value(name) if teeth == Some(None) => {
                teeth = Some(Some(name.string().map_err(usage)?));
            }
            other => return asked_for_help(other, OPTIONS),
        }
    }
    match teeth {
        Some(name) if runs == Runs::default() => Ok(Verb::Sim(Plan::Teeth(name))),
        Some(_) => Err(Error::Usage("--teeth chooses its seeds itself".into())),
        None if runs.seeds.is_some() || runs.minutes.is_some() => Ok(Verb::Sim(Plan::Seeds(runs))),
        None => {
            Err(Error::Usage("sim needs --seed N, --seeds A..B, --minutes M or --teeth".into()))
        }
    }
}

fn parse_demo(parser: &mut Parser) -> Result<Verb> {
    let mut autoscale = false;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Value(word) if word == "autoscale" && !autoscale => autoscale = true,
            other => return asked_for_help(other, &["autoscale"]),
        }
    }
    Ok(Verb::Demo { autoscale })
}

fn parse_tui(parser: &mut Parser) -> Result<Verb> {
    let mut name = cluster::DEFAULT_NAME.to_owned();
    let mut arguments = Vec::new();
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Long("name") => name = cluster_name(text(parser)?)?,
            // What comes after `--` is the terminal's.
            Arg::Value(word) => {
                arguments.push(word);
                arguments.extend(parser.raw_args().map_err(usage)?);
            }
            other => return asked_for_help(other, &["--name"]),
        }
    }
    Ok(Verb::Tui { name, arguments })
}

/// A verb that writes what comes from elsewhere, or only looks at it.
fn parse_check(parser: &mut Parser, verb: fn(bool) -> Verb) -> Result<Verb> {
    let mut check = false;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Long("check") => check = true,
            other => return asked_for_help(other, &["--check"]),
        }
    }
    Ok(verb(check))
}

fn parse_gate(parser: &mut Parser) -> Result<Verb> {
    let mut options = gate::Options::default();
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Long("only") => options.only = Some(text(parser)?),
            Arg::Long("quick") => options.quick = true,
            Arg::Long("no-write") => options.no_write = true,
            other => return asked_for_help(other, &["--only", "--quick", "--no-write"]),
        }
    }
    Ok(Verb::ReleaseGate(options))
}

/// The word after `cluster` or `bench`; none asks for help.
fn sub_verb(parser: &mut Parser, of: &str, known: &[&str]) -> Result<Option<String>> {
    match parser.next().map_err(usage)? {
        None => Err(Error::Usage(format!("{of} needs a verb: {}", known.join(" ")))),
        Some(Arg::Short('h') | Arg::Long("help")) => Ok(None),
        Some(Arg::Value(word)) => {
            let word = word.string().map_err(usage)?;
            if known.contains(&word.as_str()) {
                return Ok(Some(word));
            }
            Err(unknown(&format!("verb of {of}"), &word, known))
        }
        Some(other) => Err(usage(other.unexpected())),
    }
}

fn alone(parser: &mut Parser, verb: Verb) -> Result<Verb> {
    match parser.next().map_err(usage)? {
        None => Ok(verb),
        Some(other) => asked_for_help(other, &[]),
    }
}

/// `--help` anywhere is help; anything else that no verb took is an error that names the nearest.
fn asked_for_help(arg: Arg<'_>, known: &[&str]) -> Result<Verb> {
    let option = match &arg {
        Arg::Short('h') | Arg::Long("help") => return Ok(Verb::Help),
        Arg::Long(name) => format!("--{name}"),
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Value(_) => return Err(usage(arg.unexpected())),
    };
    Err(unknown("option", &option, known))
}

/// A name becomes a directory, so it is kept to letters, digits, `-` and `_`.
fn cluster_name(name: String) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
        return Err(Error::Usage("--name is 1 to 32 letters, digits, `-` or `_`".into()));
    }
    Ok(name)
}

fn number<T: std::str::FromStr>(parser: &mut Parser) -> Result<T>
where
    T::Err: Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
{
    parser.value().and_then(|value| value.parse()).map_err(usage)
}

fn at_least_one(number: u64) -> Result<u64> {
    if number == 0 { Err(Error::Usage("it must be at least 1".into())) } else { Ok(number) }
}

fn text(parser: &mut Parser) -> Result<String> {
    parser.value().and_then(ValueExt::string).map_err(usage)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn usage(error: lexopt::Error) -> Error {
    Error::Usage(format!("{error}; `cargo xtask help` lists the verbs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Durability, Engine};

    fn parse_line(line: &str) -> Result<Verb> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn cluster_verb(line: &str) -> cluster::Verb {
        match parse_line(line).unwrap() {
            Verb::Cluster { verb, .. } => verb,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_verbs() {
        assert_eq!(parse_line("").unwrap(), Verb::Help);
        assert_eq!(parse_line("cluster --help").unwrap(), Verb::Help);
        assert_eq!(parse_line("ci").unwrap(), Verb::Ci { full: false });
        assert_eq!(parse_line("tidy --fix").unwrap(), Verb::Tidy { fix: true });
        assert_eq!(parse_line("ci --full").unwrap(), Verb::Ci { full: true });
        let one = Runs { seeds: Some(Seeds::One(7)), ..Runs::default() };
        assert_eq!(parse_line("sim --seed 7").unwrap(), Verb::Sim(Plan::Seeds(one)));
        let flush = Runs { scenario: Some("flush".into()), ..Runs::range(0, 9) };
        let line = "sim --seeds 0..9 --scenario flush";
        assert_eq!(parse_line(line).unwrap(), Verb::Sim(Plan::Seeds(flush)));
        let teeth = Plan::Teeth(Some("fsync".into()));
        assert_eq!(parse_line("sim --teeth fsync").unwrap(), Verb::Sim(teeth));
        assert_eq!(parse_line("shots --check").unwrap(), Verb::Shots { check: true });
        assert_eq!(parse_line("metrics").unwrap(), Verb::Metrics { check: false });
        assert_eq!(parse_line("metrics --help").unwrap(), Verb::Help);
        let arguments = ["--once", "ring", "--name"].map(OsString::from).to_vec();
        let tui = Verb::Tui { name: "x".into(), arguments };
        assert_eq!(parse_line("tui --name x -- --once ring --name").unwrap(), tui);
        assert_eq!(
            parse_line("package kv-lsm").unwrap(),
            Verb::Package { leaf: Some("kv-lsm".into()) }
        );
    }

    #[test]
    fn up_takes_its_shape_and_has_defaults() {
        assert_eq!(cluster_verb("cluster up"), cluster::Verb::Up(cluster::Shape::default()));
        let line = "cluster up -n 5 --base-port 9000 --engine memory --durability os \
                    --set a.b=1 --faults --set c=d=e";
        let shape = cluster::Shape {
            nodes: 5,
            base_port: 9000,
            engine: Engine::Memory,
            durability: Durability::Os,
            set: vec!["a.b=1".into(), "c=d=e".into()],
            faults: true,
        };
        assert_eq!(cluster_verb(line), cluster::Verb::Up(shape));
    }

    #[test]
    fn faults_of_links_are_said_in_words() {
        let change = |line| match cluster_verb(line) {
            cluster::Verb::Faults(change) => change,
            other => panic!("{other:?}"),
        };
        let (side, other) = (vec![1, 2], Some(vec![3]));
        let parted = cluster::Change::Partition { side, other, one_way: false };
        assert_eq!(change("cluster partition n1,n2 / n3 --name x"), parted);
        assert_eq!(change("cluster heal"), cluster::Change::Heal { nodes: None });
    }

    #[test]
    fn a_node_is_named_by_its_number() {
        for line in ["cluster kill 3 -9", "cluster kill -9 n3", "cluster kill --name local 3 -9"] {
            assert_eq!(cluster_verb(line), cluster::Verb::Kill { node: 3, hard: true }, "{line}");
        }
        let logs = |node, follow| cluster::Verb::Logs { node, follow };
        assert_eq!(cluster_verb("cluster logs"), logs(None, false));
        assert_eq!(cluster_verb("cluster logs n2 -f"), logs(Some(2), true));
        for (line, ms) in [("cluster pause 3", None), ("cluster pause n3 5s", Some(5_000))] {
            let lasts = ms.map(std::time::Duration::from_millis);
            assert_eq!(cluster_verb(line), cluster::Verb::Pause { node: 3, lasts }, "{line}");
        }
        let line = ["redis-cli", "-p", "7001", "--name"].map(OsString::from).to_vec();
        let exec = cluster_verb("cluster exec --name x -- redis-cli -p 7001 --name");
        assert_eq!(exec, cluster::Verb::Exec { line });
        let told = parse_line("cluster kill -9").unwrap_err().to_string();
        assert!(told.contains("`cargo xtask cluster kill 2`"), "{told}");
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "cluster",
            "cluster up -n 0",
            "cluster up -n 100",
            "cluster up --base-port 80",
            "cluster up --base-port 65500",
            "cluster up --engine rocks",
            "cluster up --set =1",
            "cluster up 3",
            "cluster kill",
            "cluster kill 0",
            "cluster kill 1 2",
            "cluster status --purge",
            "cluster status --faults",
            "cluster partition",
            "cluster slow 2",
            "cluster pause 2 5",
            "cluster pause 2 5s 5s",
            "cluster pause 2 2h",
            "cluster ls 2",
            "cluster up --name ../x",
            "sim",
            "sim --seeds 9..1",
            "sim --teeth --seed 3",
            "bench",
            "bench redis --rounds 0",
            "tidy now",
            "dist now",
            "tui --name ../x",
        ] {
            let error = parse_line(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }

    #[test]
    fn a_mistyped_word_names_the_nearest() {
        let said = |line: &str| parse_line(line).unwrap_err().to_string();
        assert!(said("tydi").contains("did you mean `tidy`"), "{}", said("tydi"));
        assert!(said("clutser up").contains("`cluster`"));
        assert!(said("cluster staus").contains("`status`"));
        assert!(said("cluster up --base-prot 1").contains("`--base-port`"));
        assert!(said("cluster up --engine memroy").contains("`memory`"));
        assert!(!said("xyzzyplugh").contains("did you mean"));
    }
}
