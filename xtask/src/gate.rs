//! `cargo xtask release-gate`: every proof that exists, at its full length, and the file that says
//! what came of it.
//!
//! The rows are those of the project's reliability goals. A row that nothing proves yet stands in
//! the table too and says so: a gate that leaves rows out would look better than it is. Each row
//! is one command that anybody can type; it passes when the command does. What a command prints
//! after `figure:` is kept beside its row.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bench::{Machine, report};
use crate::cmd;
use crate::error::{Error, Result};
use crate::term;

/// Where the evidence stands.
const EVIDENCE: &str = "docs/EVIDENCE.md";
const HEADER: &str = "# Evidence\n\nWritten by `cargo xtask release-gate`: what was run, on which \
                      commit and machine, and what came of it. Rows without a proof say so.\n";
/// A line of a command's output that is worth keeping.
const FIGURE: &str = "figure: ";
/// Figures that are kept of one row at most.
const FIGURES_MAX: usize = 12;

/// One row of the gate.
struct Row {
    id: &'static str,
    demand: &'static str,
    proof: Proof,
}

enum Proof {
    /// A command, as arguments of cargo, with long tests or without.
    Run { arguments: &'static [&'static str], long: bool },
    /// Nothing proves it yet, and why.
    Missing(&'static str),
}

const fn run(
    id: &'static str,
    demand: &'static str,
    long: bool,
    arguments: &'static [&'static str],
) -> Row {
    Row { id, demand, proof: Proof::Run { arguments, long } }
}

const fn missing(id: &'static str, demand: &'static str, why: &'static str) -> Row {
    Row { id, demand, proof: Proof::Missing(why) }
}

const ROWS: &[Row] = &[
    run("A1", "1,000 seeds of the full swarm, 0 violations", false, SWARM),
    run(
        "A2",
        "one seed, two processes: one trace",
        true,
        &["test", "-p", "kv-tests", "--test", "sim"],
    ),
    missing("A3", "linearizable keyspaces under churn", "no such keyspaces yet"),
    run("A4", "engine against a model, with crashes", true, &["test", "-p", "kv-lsm"]),
    run("A5", "a crash after, an error at every file call", true, PROOFS),
    run(
        "A6",
        "kill -9 of one and of all, nothing lost",
        true,
        &["test", "-p", "kv-tests", "--test", "cluster"],
    ),
    missing("A7", "real power cuts of a mounted file system", "only simulated disks lose power"),
    missing("A8", "every named failpoint aborts 20 times", "crash-everywhere stands in for it"),
    missing("A9", "join two, leave two (riak_kv #1754)", "planned changes come with elasticity"),
    run("A10a", "a wiped replica forgets, 200 seeds", false, FORGET_WIPED),
    run("A10b", "a restored backup forgets, 200 seeds", false, FORGET_RESTORED),
    run("A10c", "a suffix is lost, 200 seeds", false, FORGET_SUFFIX),
    run("A10d", "an old tombstone returns, 200 seeds", false, DOOMSTONE),
    run(
        "A11",
        "real links cut, 10 mixed rounds",
        true,
        &["test", "-p", "kv-tests", "--test", "partitions"],
    ),
    run("A13", "flipped bits are found", true, &["test", "-p", "kv-lsm", "damage"]),
    missing("A14", "disk full, failing sync, slow disk on real disks", "simulated disks only"),
    run(
        "A15",
        "the request parser against an oracle",
        true,
        &["test", "-p", "kv-node", "--lib", "resp"],
    ),
    missing("A16", "a soak of eight hours", "not run"),
    missing("A17", "overload tenfold, 10,000 idle connections", "unit tests of the bounds only"),
    missing("A18", "every command by every user, TLS", "no users and no TLS yet"),
    run("A19", "licences and refused packages", false, &["xtask", "tidy"]),
    run("A20", "planted bugs are caught", false, &["xtask", "sim", "--teeth"]),
    run("gossip", "1,000 members, 5 % of calls lost", false, &["xtask", "bench", "gossip"]),
];

const SWARM: &[&str] = &["xtask", "sim", "--seeds", "1..1001"];
const PROOFS: &[&str] = &["test", "-p", "kv-lsm", "proof"];

const FORGET_WIPED: &[&str] = &["xtask", "sim", "--scenario", "forget-wiped", "--seeds", "1..201"];
const FORGET_RESTORED: &[&str] =
    &["xtask", "sim", "--scenario", "forget-restored", "--seeds", "1..201"];
const FORGET_SUFFIX: &[&str] =
    &["xtask", "sim", "--scenario", "forget-suffix", "--seeds", "1..201"];
const DOOMSTONE: &[&str] = &["xtask", "sim", "--scenario", "doomstone", "--seeds", "1..201"];

/// Which rows, and whether the file is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only the rows whose id begins so.
    pub(crate) only: Option<String>,
    /// Leave the file alone.
    pub(crate) no_write: bool,
}

/// Runs the rows one after the other; the file is written after each, so that what was proved
/// stays when the next one is interrupted.
pub(crate) fn run_rows(options: &Options) -> Result<()> {
    let data = cmd::root().join("target");
    let machine = Machine::look(&data)?;
    let wanted =
        |row: &&Row| options.only.as_deref().is_none_or(|only| row.id.eq_ignore_ascii_case(only));
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    if rows.is_empty() {
        let ids: Vec<&str> = ROWS.iter().map(|row| row.id).collect();
        return Err(Error::Usage(format!("there is no such row; there are: {}", ids.join(" "))));
    }
    let mut table =
        format!("{machine}\n\n| row | demand | how | outcome | time |\n|---|---|---|---|---|\n");
    let mut figures = String::new();
    let mut failed = Vec::new();
    for row in rows {
        let ended = prove(row);
        if ended.outcome == Outcome::Failed {
            failed.push(row.id);
        }
        let _infallible = writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            row.id,
            row.demand,
            ended.how,
            ended.outcome.text(),
            term::human(ended.took)
        );
        for figure in ended.figures {
            let _infallible = writeln!(figures, "- {}: {figure}", row.id);
        }
        if !options.no_write {
            let path = cmd::root().join(EVIDENCE);
            let body = format!("{}\n{figures}", table.trim_end());
            report::write(&path, HEADER, "release-gate", &body)?;
        }
    }
    term::out(format_args!("{table}\n{figures}"));
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::Degraded(format!("not proved: {}", failed.join(" "))))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped,
    Failed,
    Missing,
}

impl Outcome {
    const fn text(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "SKIPPED here",
            Self::Failed => "**FAILED**",
            Self::Missing => "**not built**",
        }
    }
}

struct Ended {
    how: String,
    outcome: Outcome,
    took: Duration,
    figures: Vec<String>,
}

fn prove(row: &Row) -> Ended {
    term::title(format_args!("== {} {}", row.id, row.demand));
    let began = Instant::now();
    match row.proof {
        Proof::Missing(why) => Ended {
            how: why.to_owned(),
            outcome: Outcome::Missing,
            took: Duration::ZERO,
            figures: Vec::new(),
        },
        Proof::Run { arguments, long } => {
            let prefix = if long { "KV_TEST_LONG=1 " } else { "" };
            let how = format!("`{prefix}cargo {}`", arguments.join(" "));
            let (passed, figures, skipped) = follow(arguments, long);
            let outcome = match (passed, skipped) {
                (false, _) => Outcome::Failed,
                (true, true) => Outcome::Skipped,
                (true, false) => Outcome::Passed,
            };
            Ended { how, outcome, took: began.elapsed(), figures }
        }
    }
}

/// Runs cargo, shows what it prints and keeps its figures; whether it passed, and whether anything
/// in it said that it was skipped.
fn follow(arguments: &[&str], long: bool) -> (bool, Vec<String>, bool) {
    let mut arguments = arguments.to_vec();
    if arguments.first() == Some(&"test") {
        arguments.extend(["--", "--nocapture"]);
    }
    let mut command: Command = cmd::cargo(&arguments);
    if long {
        command.env("KV_TEST_LONG", "1");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut figures = Vec::new();
    let mut skipped = false;
    let Ok(mut child) = command.spawn() else { return (false, figures, false) };
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            term::note(&line);
            skipped |= line.starts_with("SKIPPED");
            if let Some(figure) = line.trim_start().strip_prefix(FIGURE)
                && figures.len() < FIGURES_MAX
            {
                figures.push(figure.to_owned());
            }
        }
    }
    let passed = child.wait().is_ok_and(|status| status.success());
    (passed, figures, skipped)
}
