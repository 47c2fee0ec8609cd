//! `cargo xtask ci`: exactly what CI runs, so that green here is green there.
//!
//! It needs Rust, a C compiler and git, and ends within 25 minutes from a clean checkout on two
//! cores. Steps run one after the other (they share cargo's lock anyway) and the first failure ends
//! it. `--full` adds what takes longer: the long tests, packing of the leaves, a range of seeds.

use std::time::{Duration, Instant};

use crate::cmd;
use crate::error::Result;
use crate::tidy::README_TEST_COMMAND;
use crate::{package, sim, term, tidy};

/// From a clean checkout on two cores.
const TOTAL_MINUTES_MAX: u64 = 25;
/// Running the default tests, their build not counted.
const TESTS_MINUTES_MAX: u64 = 6;
/// Set for the tests of a `--full` run; long tests look for it.
const LONG_TESTS_ENV: &str = "KV_TEST_LONG";

/// One step: its name, and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("rustfmt", || cargo(&["fmt", "--all", "--check"])),
    ("clippy", clippy),
    ("tidy", || tidy::run(false)),
    ("build tests", || cargo(&["test", "--workspace", "--locked", "--no-run"])),
    (README_TEST_COMMAND, || cargo(&["test", "--workspace", "--locked", "--quiet"])),
    ("kv-lsm with zstd", zstd),
    ("docs", docs),
];

const FULL_STEPS: &[Step] = &[
    ("long tests", long_tests),
    ("package", || package::run(None)),
    ("sim", || sim::run(&sim::Plan::Seeds(sim::Runs::range(1, 201)))),
    ("teeth", || sim::run(&sim::Plan::Teeth(None))),
];

/// Runs the steps and prints how long each took.
pub(crate) fn run(full: bool) -> Result<()> {
    let began = Instant::now();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let more = if full { FULL_STEPS } else { &[] };
    for (name, step) in STEPS.iter().chain(more) {
        term::title(format_args!("== {name}"));
        let from = Instant::now();
        step()?;
        times.push((name, from.elapsed()));
    }
    for (name, time) in &times {
        term::out(format_args!("{name:<24} {:>12}", term::human(*time)));
        if *name == README_TEST_COMMAND && time.as_secs() > TESTS_MINUTES_MAX * 60 {
            term::warn(format_args!("the default tests may take {TESTS_MINUTES_MAX} min"));
        }
    }
    let total = began.elapsed();
    term::out(format_args!("{:<24} {:>12}", "ci passed", term::human(total)));
    if !full && total.as_secs() > TOTAL_MINUTES_MAX * 60 {
        term::warn(format_args!("ci may take {TOTAL_MINUTES_MAX} min on two cores"));
    }
    Ok(())
}

fn cargo(args: &[&str]) -> Result<()> {
    cmd::run(&mut cmd::cargo(args))
}

fn clippy() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-Dwarnings"])
}

/// What only a build with kv-lsm's feature `zstd` has; no crate of ours asks for it.
fn zstd() -> Result<()> {
    let with = ["-p", "kv-lsm", "--features", "zstd", "--locked", "--quiet"];
    let clippy = [&["clippy"][..], &with[..], &["--all-targets", "--", "-Dwarnings"][..]];
    cargo(&clippy.concat())?;
    // The proofs do not depend on it.
    let only = ["--lib", "--test", "compression", "--", "--skip", "proof"];
    cargo(&[&["test"][..], &with[..], &only[..]].concat())
}

fn docs() -> Result<()> {
    let mut doc = cmd::cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    cmd::run(doc.env("RUSTDOCFLAGS", "-Dwarnings"))
}

fn long_tests() -> Result<()> {
    let mut test = cmd::cargo(&["test", "--workspace", "--locked", "--quiet"]);
    cmd::run(test.env(LONG_TESTS_ENV, "1"))
}
