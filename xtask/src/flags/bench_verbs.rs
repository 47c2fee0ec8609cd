//! `cargo xtask bench VERB`.

use lexopt::{Arg, Parser};

use super::{Verb, asked_for_help, at_least_one, number, sub_verb, text, usage};
use crate::bench;
use crate::error::Result;

const VERBS: &[&str] = &["redis", "cluster", "gossip", "lsm", "ring"];

pub(super) fn parse(parser: &mut Parser) -> Result<Verb> {
    let word = sub_verb(parser, "bench", VERBS)?;
    let Some(word) = word else { return Ok(Verb::Help) };
    let what = match word.as_str() {
        "redis" => bench::What::Redis,
        "cluster" => bench::What::Cluster,
        "lsm" => return parse_bench_lsm(parser),
        "ring" => bench::What::Ring,
        _ => bench::What::Gossip,
    };
    let mut options = bench::Options::default();
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Long("rounds") => options.rounds = at_least_one(number(parser)?)?,
            Arg::Long("requests") => options.requests = at_least_one(number(parser)?)?,
            Arg::Long("keys") => options.keys = at_least_one(number(parser)?)?,
            Arg::Long("members") => options.members = Some(at_least_one(number(parser)?)?),
            Arg::Long("minutes") => options.minutes = Some(at_least_one(number(parser)?)?),
            Arg::Long("no-write") => options.write = false,
            other => {
                let known =
                    &["--rounds", "--requests", "--keys", "--members", "--minutes", "--no-write"];
                return asked_for_help(other, known);
            }
        }
    }
    Ok(Verb::Bench { what, options })
}

/// Its options are the driver's own words: they are looked at here and handed on.
fn parse_bench_lsm(parser: &mut Parser) -> Result<Verb> {
    const WITH_VALUE: &[&str] = &["against", "rounds", "only", "dir", "json"];
    let mut options = bench::Options::default();
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Arg::Long("no-write") => options.write = false,
            Arg::Long("quick") => options.driver.push("--quick".to_owned()),
            Arg::Long(name) if WITH_VALUE.contains(&name) => {
                let flag = format!("--{name}");
                options.driver.extend([flag, text(parser)?]);
            }
            other => {
                let known = &[
                    "--against",
                    "--quick",
                    "--rounds",
                    "--only",
                    "--dir",
                    "--json",
                    "--no-write",
                ];
                return asked_for_help(other, known);
            }
        }
    }
    Ok(Verb::Bench { what: bench::What::Lsm, options })
}
