//! `cargo xtask demo autoscale`: three nodes become five while they are asked for much, and three
//! again afterwards, by themselves.
//!
//! The nodes decide, ask this program for nodes (`cluster provision`), let them join, leave, and
//! have them ended; here is only the load, and what is told of it. The same settings with longer
//! times are what an operator would use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Load, Stage};
use crate::cluster::{self, Shape, Verb};
use crate::cmd;
use crate::error::{Error, Result};
use crate::term;

const NAME: &str = "autoscale";
/// Nodes that are never taken away: the load goes to them.
const LOADED: usize = 2;
/// Operations a second that one node is to have at most,
const TARGET: u32 = 100;
/// what five nodes are needed for,
const BUSY: u32 = 460;
/// and what three are enough for.
const QUIET: u32 = 60;
/// A change takes as long as data takes to move; a machine that is busy otherwise takes longer.
const PHASE_LIMIT: Duration = Duration::from_mins(6);

/// Shows it.
pub(crate) fn run() -> Result<()> {
    let xtask = std::env::current_exe().map_err(Error::io(Path::new("xtask")))?;
    cluster::run(NAME, Verb::Down { purge: true })?;
    let shape =
        Shape { base_port: cluster::free_block()?, set: settings(&xtask), ..Shape::default() };
    cluster::run(NAME, Verb::Up(shape))?;
    let kv = cmd::built("kv-tui", "kv", &["--release"])?;
    let stage = Stage { kv, xtask, reach: cluster::reach(NAME)? };
    let mut told = Told::default();
    let phases = [
        (QUIET, 3, "little is asked for: three nodes are enough"),
        (BUSY, 5, "much is asked for: it grows to five"),
        (QUIET, 3, "little is asked for again: it shrinks to three"),
    ];
    let began = Instant::now();
    for (rate, nodes, what) in phases {
        term::title(format_args!("{:>5.1} s  {rate} op/s: {what}", began.elapsed().as_secs_f64()));
        let load = stage.load_on(LOADED, rate)?;
        let reached = told.until(&stage, nodes, began);
        let words = load.last_words();
        drop(load);
        reached?;
        term::out(format_args!("load: {words}"));
        if !words.ends_with("errors 0") {
            return Err(Error::Failed(format!("requests failed: {words}")));
        }
    }
    let status = cmd::read(stage.attached(&stage.kv).args(["autoscale", "status"]))?;
    term::out(status.trim_end());
    cluster::run(NAME, Verb::Down { purge: true })
}

fn settings(xtask: &Path) -> Vec<String> {
    let program = xtask.to_string_lossy();
    let command = format!("[{program:?}, \"cluster\", \"provision\", \"--name\", {NAME:?}]");
    let pairs = [
        ("mode", "auto".to_owned()),
        ("provisioner", "command".to_owned()),
        ("command", command),
        ("interval_ms", "500".to_owned()),
        ("nodes_max", "5".to_owned()),
        ("ops_per_node", TARGET.to_string()),
        ("cpu_percent", "0".to_owned()),
        ("out_after_ms", "4000".to_owned()),
        ("in_after_ms", "8000".to_owned()),
        ("cool_down_ms", "4000".to_owned()),
    ];
    let set = pairs.map(|(key, value)| format!("autoscale.{key}={value}"));
    // Few partitions: what is shown is the deciding, not the moving.
    let few = "cluster.partitions=64".to_owned();
    set.into_iter().chain([few]).collect()
}

/// Decisions that were printed.
#[derive(Default)]
struct Told(BTreeSet<(String, u64)>);

impl Told {
    /// Prints what is decided and done until there are so many nodes and nothing moves.
    fn until(&mut self, stage: &Stage, nodes: u64, began: Instant) -> Result<()> {
        let phase = Instant::now();
        let mut settled = 0;
        loop {
            thread::sleep(Duration::from_secs(1));
            self.tell(stage, began)?;
            let members = stage.asked(&["autoscale", "status"])?;
            let members = members.get("members").and_then(Value::as_u64);
            let layouts = stage.asked(&["cluster", "status"])?;
            let stable = layouts.get("stable").and_then(Value::as_bool) == Some(true);
            let ended = cluster::running(NAME)? as u64 == nodes;
            settled = if members == Some(nodes) && stable && ended { settled + 1 } else { 0 };
            // It stays so for longer than the policy needs to change its mind.
            if settled >= 12 {
                return self.tell(stage, began);
            }
            if phase.elapsed() > PHASE_LIMIT {
                let limit = term::human(PHASE_LIMIT);
                return Err(Error::Degraded(format!("there are not {nodes} nodes after {limit}")));
            }
        }
    }

    fn tell(&mut self, stage: &Stage, began: Instant) -> Result<()> {
        let history = stage.asked(&["autoscale", "history"])?;
        let events = history.get("events").and_then(Value::as_array);
        for event in events.into_iter().flatten() {
            let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
            let number = event.get("number").and_then(Value::as_u64).unwrap_or_default();
            if self.0.insert((text("on").to_owned(), number)) {
                let (at, code) = (began.elapsed().as_secs_f64(), text("code"));
                term::out(format_args!("{at:>7.1} s  {code:<15} {}", text("text")));
            }
        }
        Ok(())
    }
}

impl Stage {
    /// What a verb of `kv` answers, as JSON. A node that has just gone is not an answer.
    fn asked(&self, words: &[&str]) -> Result<Value> {
        let mut verb = self.attached(&self.kv);
        verb.arg("--json").args(words);
        let output = verb.output().map_err(|source| Error::Spawn {
            program: self.kv.to_string_lossy().into_owned(),
            source,
        })?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Starts so many requests a second to the first nodes.
    fn load_on(&self, nodes: usize, rate: u32) -> Result<Load> {
        let log: PathBuf = self.reach.secret_file.with_file_name(format!("load-{rate}.log"));
        let ports = self.reach.resp.get(..nodes).unwrap_or(&self.reach.resp);
        self.bench(ports, &rate.to_string(), log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loads_need_what_the_phases_say() {
        assert_eq!(BUSY.div_ceil(TARGET), 5);
        const { assert!(QUIET * 100 < 3 * TARGET * 75, "three do with the margin") };
        let set = settings(Path::new("some/xtask"));
        let command = "autoscale.command=[\"some/xtask\", \"cluster\", \"provision\", \"--name\", \
                       \"autoscale\"]";
        assert!(set.iter().any(|setting| setting == command), "{set:?}");
    }
}
