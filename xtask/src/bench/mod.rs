//! `cargo xtask bench`: the project's figures, measured on this machine and written down with it.
//!
//! The load on nodes is `redis-benchmark`, which is nobody's of ours; without the Redis tools the
//! verb says SKIPPED and writes nothing. Runs are interleaved, each figure is the median of its
//! rounds, and CPU time is the servers' own from `/proc`, so that a slower generator doesn't
//! flatter anybody.

mod cluster;
mod gossip;
mod load;
mod lsm;
mod machine;
mod redis;
pub(crate) mod report;
mod ring;

pub(crate) use machine::Machine;

use std::collections::BTreeMap;
use std::ffi::OsStr;

use crate::cluster::Shape;
use crate::cmd;
use crate::error::{Error, Result};
use crate::term;

/// Which figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Redis,
    Cluster,
    Gossip,
    Lsm,
    Ring,
}

/// How long and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) rounds: u64,
    /// Requests of one run at a pipeline of 1; a pipeline of 16 runs five times as many.
    pub(crate) requests: u64,
    /// Keys that are loaded before anything is measured.
    pub(crate) keys: u64,
    /// Members of the simulated cluster; the usual sizes if none.
    pub(crate) members: Option<u64>,
    /// Simulated minutes; the usual ones if none.
    pub(crate) minutes: Option<u64>,
    /// Whether docs/PERFORMANCE.md is written.
    pub(crate) write: bool,
    /// Words for a driver outside the workspace.
    pub(crate) driver: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 3,
            requests: 200_000,
            keys: 1_000_000,
            members: None,
            minutes: None,
            write: true,
            driver: Vec::new(),
        }
    }
}

/// The ports of a bench are its own, so that a developer's cluster may go on.
const BASE_PORT: u16 = 17_400;
const REDIS_PORT: u16 = 17_399;

/// A figure as text, and how many of its targets were missed.
struct Figure {
    markdown: String,
    missed: usize,
}

/// Measures and writes docs/PERFORMANCE.md, or docs/SCALE.md; exit code 3 when a target was missed.
pub(crate) fn run(what: What, options: &Options) -> Result<()> {
    let tools: &[&str] = match what {
        What::Redis => &["redis-benchmark", "redis-server"],
        What::Cluster => &["redis-benchmark"],
        What::Gossip | What::Lsm | What::Ring => &[],
    };
    if let Some(missing) = tools.iter().find(|tool| !load::is_installed(tool)) {
        term::out(format_args!("SKIPPED: {missing} is not installed"));
        return Ok(());
    }
    let (section, figure) = match what {
        What::Redis => ("redis", redis::measure(options)?),
        What::Cluster => ("cluster", cluster::measure(options)?),
        What::Gossip => ("gossip", gossip::measure(options)?),
        What::Lsm => ("lsm", lsm::measure(options)?),
        What::Ring => ("ring", ring::measure()?),
    };
    term::out(&figure.markdown);
    if options.write {
        let (file, header) = match what {
            What::Ring => ("docs/SCALE.md", report::SCALE),
            _ => ("docs/PERFORMANCE.md", report::PERFORMANCE),
        };
        report::write(&cmd::root().join(file), header, section, &figure.markdown)?;
        term::note(format_args!("{file} is written"));
    }
    match figure.missed {
        0 => Ok(()),
        missed => Err(Error::Degraded(format!("{missed} targets missed; the table says which"))),
    }
}

/// What an example printed, as `name=value` lines, by name.
type Seen = BTreeMap<String, f64>;

/// Runs an example of a crate in release: the figures that it prints.
fn example(
    package: &str,
    name: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Seen> {
    let run = ["run", "--release", "--locked", "--quiet", "-p", package, "--example", name, "--"];
    let text = cmd::read(cmd::cargo(&run).args(arguments))?;
    let figures = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(figures.collect())
}

/// The shape of a bench's cluster.
fn shape(nodes: u16) -> Shape {
    Shape { nodes, base_port: BASE_PORT, ..Shape::default() }
}
