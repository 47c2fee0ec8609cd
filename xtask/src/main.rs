//! `cargo xtask`: the developers' verbs of this workspace.
//!
//! One file for each verb. It depends on nothing of ours and on no runtime, because it is compiled
//! first; it starts the real binaries and speaks to their ports. (The convention is
//! matklad's cargo-xtask.) Unix only: it signals processes and reads their times.

mod arrows;
mod bench;
mod ci;
mod cluster;
mod cmd;
mod demo;
mod dist;
mod error;
mod flags;
mod gate;
mod metadata;
mod metrics;
mod package;
mod process;
mod resp;
mod shots;
mod sim;
mod term;
mod tidy;
mod tui;

use std::process::ExitCode;

use flags::Verb;

fn main() -> ExitCode {
    let result = flags::parse(std::env::args_os().skip(1)).and_then(run);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            term::error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(verb: Verb) -> error::Result<()> {
    match verb {
        Verb::Help => {
            term::out(flags::HELP);
            Ok(())
        }
        Verb::Ci { full } => ci::run(full),
        Verb::Tidy { fix } => tidy::run(fix),
        Verb::Arrows => arrows::run(),
        Verb::Package { leaf } => package::run(leaf.as_deref()),
        Verb::Sim(seeds) => sim::run(&seeds),
        Verb::Cluster { name, verb } => cluster::run(&name, verb),
        Verb::Demo { autoscale: false } => demo::run(),
        Verb::Demo { autoscale: true } => demo::autoscale::run(),
        Verb::Tui { name, arguments } => tui::run(&name, &arguments),
        Verb::Shots { check } => shots::run(check),
        Verb::Metrics { check } => metrics::run(check),
        Verb::Dist => dist::run(),
        Verb::ReleaseGate(options) => gate::run_rows(&options),
        Verb::Bench { what, options } => bench::run(what, &options),
    }
}
