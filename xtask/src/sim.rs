//! `cargo xtask sim`: runs the simulation of kv-tests on one seed or a range of seeds.
//!
//! A failure names its seed, and the same seed gives the same run. The simulator itself is
//! kv-tests' `sim` binary, which takes the same two options; it is built with assertions and
//! optimised.

use crate::cmd;
use crate::error::{Error, Result};
use crate::metadata::Graph;

/// Which runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seeds {
    One(u64),
    /// From `first` to just before `end`.
    Range {
        first: u64,
        end: u64,
    },
}

/// Builds the simulator and hands the seeds over.
pub(crate) fn run(seeds: &Seeds) -> Result<()> {
    let graph = Graph::for_host()?;
    let has_sim = graph.member("kv-tests").is_some_and(|tests| tests.bins.iter().any(is_sim));
    if !has_sim {
        return Err(Error::Failed("the package kv-tests has no binary `sim`".into()));
    }
    let mut run = cmd::cargo(&["run", "--locked", "--quiet", "-p", "kv-tests", "--bin", "sim"]);
    run.arg("--");
    match seeds {
        Seeds::One(seed) => run.args(["--seed", &seed.to_string()]),
        Seeds::Range { first, end } => run.args(["--seeds", &format!("{first}..{end}")]),
    };
    cmd::run(&mut run)
}

fn is_sim(name: &String) -> bool {
    name == "sim"
}

/// Parses `A..B`, at least one seed.
pub(crate) fn parse_range(text: &str) -> Option<Seeds> {
    let (first, end) = text.split_once("..")?;
    let (first, end) = (first.parse().ok()?, end.parse().ok()?);
    (first < end).then_some(Seeds::Range { first, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_at_least_one_seed() {
        assert_eq!(parse_range("3..9"), Some(Seeds::Range { first: 3, end: 9 }));
        for bad in ["", "3", "3..", "..9", "9..3", "3..3", "a..b", "1...3"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
