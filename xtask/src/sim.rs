//! `cargo xtask sim`: runs the simulation of kv-tests on one seed or a range of seeds.
//!
//! A failure names its seed, and the same seed gives the same run. The simulator itself is
//! kv-tests' `sim` binary; it is built with assertions and optimised, with the features of the
//! whole workspace, so that what tests have compiled is not compiled again. `--teeth` builds it
//! once more, with bugs that can be planted (no other build has them), and hunts them.

use std::path::PathBuf;
use std::process::Command;

use crate::cmd;
use crate::error::{Error, Result};
use crate::metadata::Graph;

/// Where runs leave their traces.
const TRACES: &str = "target/sim";
/// Compiles planted bugs in.
const TEETH_FEATURE: &str = "kv-tests/planted";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Seeds of a scenario.
    Seeds(Runs),
    /// All planted bugs, or those whose name has this in it.
    Teeth(Option<String>),
}

/// Which runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// Which seeds; all, from 0 on, where only a time is given.
    pub(crate) seeds: Option<Seeds>,
    /// The scenario; the swarm if none.
    pub(crate) scenario: Option<String>,
    /// Ends after so many minutes.
    pub(crate) minutes: Option<u64>,
    /// Goes on after a failure.
    pub(crate) keep_going: bool,
}

/// Which seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seeds {
    One(u64),
    /// From `first` to just before `end`.
    Range {
        first: u64,
        end: u64,
    },
}

/// Builds the simulator and hands the seeds, or the planted bugs, over.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let graph = Graph::for_host()?;
    let has_sim = graph.member("kv-tests").is_some_and(|tests| tests.bins.iter().any(is_sim));
    if !has_sim {
        return Err(Error::Failed("the package kv-tests has no binary `sim`".into()));
    }
    let mut build = cmd::cargo(&["build", "--locked", "--quiet", "--workspace", "--bin", "sim"]);
    let mut run = Command::new(built());
    run.current_dir(cmd::root());
    match plan {
        Plan::Seeds(runs) => run.args(runs.arguments()),
        Plan::Teeth(name) => {
            build.args(["--features", TEETH_FEATURE]);
            run.arg("--teeth").args(name)
        }
    };
    cmd::run(&mut build)?;
    cmd::run(&mut run)
}

/// Where cargo leaves the simulator.
fn built() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    cmd::root().join(target).join("debug").join("sim")
}

impl Runs {
    /// A range of seeds of the swarm.
    pub(crate) fn range(first: u64, end: u64) -> Self {
        Self { seeds: Some(Seeds::Range { first, end }), ..Self::default() }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--traces".to_owned(), TRACES.to_owned()];
        match self.seeds {
            Some(Seeds::One(seed)) => arguments.extend(["--seed".to_owned(), seed.to_string()]),
            Some(Seeds::Range { first, end }) => {
                arguments.extend(["--seeds".to_owned(), format!("{first}..{end}")]);
            }
            None => {}
        }
        if let Some(scenario) = &self.scenario {
            arguments.extend(["--scenario".to_owned(), scenario.clone()]);
        }
        if let Some(minutes) = self.minutes {
            arguments.extend(["--minutes".to_owned(), minutes.to_string()]);
        }
        if self.keep_going {
            arguments.push("--keep-going".to_owned());
        }
        arguments
    }
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

    #[test]
    fn what_was_asked_for_is_handed_over() {
        let runs = Runs { scenario: Some("flush".into()), minutes: Some(2), ..Runs::range(1, 9) };
        let wanted = "--traces target/sim --seeds 1..9 --scenario flush --minutes 2";
        assert_eq!(runs.arguments().join(" "), wanted);
    }
}
