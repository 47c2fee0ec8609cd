//! The simulator: `sim --seed N [--history]` or `sim --seeds A..B`.
//!
//! A line for each seed, with the hash of its trace. The first violation ends the run with exit
//! code 1, its seed and how to repeat it. `--history` also prints what every client did and was
//! told.

use std::io::Write as _;
use std::process::ExitCode;

use kv_tests::sim::{Options, run};

const USAGE: &str = "usage: sim --seed N [--history] | --seeds A..B";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let seeds = match arguments.as_slice() {
        ["--seed", seed] | ["--seed", seed, "--history"] => {
            seed.parse().ok().map(|seed: u64| seed..seed.saturating_add(1))
        }
        ["--seeds", range] => range.split_once("..").and_then(|(first, end)| {
            let (first, end): (u64, u64) = (first.parse().ok()?, end.parse().ok()?);
            (first < end).then_some(first..end)
        }),
        _ => None,
    };
    let Some(seeds) = seeds else {
        complain(USAGE);
        return ExitCode::from(2);
    };
    for seed in seeds {
        if let Err(why) = one(seed, arguments.contains(&"--history")) {
            complain(&why);
            complain(&format!("repeat with: cargo xtask sim --seed {seed}"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs a seed and says what came of it.
fn one(seed: u64, history: bool) -> Result<(), String> {
    let report = run(seed, &Options::drawn(seed)).map_err(|why| format!("seed {seed}: {why}"))?;
    if history {
        for op in &report.ops {
            writeln!(std::io::stdout(), "{op:?}").map_err(|error| error.to_string())?;
        }
    }
    let line = format!(
        "seed {seed} trace {:016x} ops {} acknowledged {} unknown {} world {} ms violations {}",
        report.trace_hash,
        report.ops.len(),
        report.acknowledged,
        report.unknown,
        report.world_ms,
        report.violations.len(),
    );
    writeln!(std::io::stdout(), "{line}").map_err(|error| error.to_string())?;
    if report.violations.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = report.violations.iter().take(20).map(ToString::to_string).collect();
    Err(format!("seed {seed} failed:\n{}", shown.join("\n")))
}

fn complain(what: &str) {
    let _unwritable = writeln!(std::io::stderr(), "{what}");
}
