//! The run: rounds, and in each round every workload for one engine after the other.
//!
//! An engine that is not measured rests: its process waits for a line, and what it was left to do
//! in the background was waited for. The order of the engines changes with each round, so that
//! nobody always comes after the same one.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::child::Figures;
use crate::data::{KEY_BYTES, VALUE_BYTES};
use crate::store::{Result, Sizes};
use crate::work::Outcome;

/// What is run, and how much of it.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) engines: Vec<&'static str>,
    pub(crate) rounds: usize,
    pub(crate) pairs: u64,
    pub(crate) sizes: Sizes,
    /// Time of a reading workload; a fill may take three times as long.
    pub(crate) seconds: f64,
    /// The sizes with which a log is filled that is then recovered, and its pairs.
    pub(crate) recovery: (Sizes, u64),
    rest_seconds: f64,
    dir: PathBuf,
    only: Vec<String>,
}

impl Options {
    pub(crate) fn new(
        quick: bool,
        dir: PathBuf,
        against: &[&'static str],
        only: Vec<String>,
    ) -> Self {
        let mut engines = vec!["kv-lsm"];
        engines.extend(against.iter().filter(|name| **name != "kv-lsm"));
        let sizes = |memtable: usize, cache: usize| Sizes {
            memtable_bytes: memtable << 20,
            cache_bytes: cache << 20,
        };
        let (pairs, own, seconds, rest_seconds, recovery) = if quick {
            (300_000, sizes(8, 16), 0.4, 2.0, (sizes(64, 16), 120_000))
        } else {
            (2_000_000, sizes(32, 100), 3.0, 15.0, (sizes(256, 100), 500_000))
        };
        let rounds = 3;
        Self { engines, rounds, pairs, sizes: own, seconds, recovery, rest_seconds, dir, only }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    pub(crate) runs: Vec<Run>,
    pub(crate) gauges: Vec<Gauge>,
}

/// A workload of one engine in one round.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) engine: &'static str,
    pub(crate) workload: &'static str,
    pub(crate) outcome: Outcome,
}

/// A figure of one engine in one round.
#[derive(Debug, Serialize)]
pub(crate) struct Gauge {
    pub(crate) round: usize,
    pub(crate) engine: &'static str,
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// Workloads that begin with nothing and are measured alone.
const FILLS: &[&str] = &["fillseq", "fillbatch", "fillrandom2"];
/// Workloads over the pairs that `fillrandom` has left, in this order.
const OVER_PAIRS: &[&str] = &[
    "readhit",
    "readhit2",
    "readmiss",
    "readzipf",
    "readzipf2",
    "scan100",
    "ycsbc",
    "ycsbb",
    "ycsbf",
    "ycsba",
    "overwrite",
];
const SYNCS: &[&str] = &["sync1", "sync16", "sync64"];

/// Runs it all.
pub(crate) fn run(options: &Options) -> Result<Results> {
    let mut results = Results::default();
    for round in 0..options.rounds {
        let mut engines = options.engines.clone();
        let turn = round % engines.len();
        engines.rotate_left(turn);
        let mut round = Round { options, engines, round, results: &mut results };
        round.fills()?;
        round.over_pairs()?;
        round.syncs()?;
        round.recoveries()?;
    }
    let _ = std::fs::remove_dir_all(&options.dir);
    Ok(results)
}

struct Round<'a> {
    options: &'a Options,
    engines: Vec<&'static str>,
    round: usize,
    results: &'a mut Results,
}

impl Round<'_> {
    fn note(&self, engine: &str, what: &str) {
        eprintln!("round {} of {}: {what}, {engine}", self.round + 1, self.options.rounds);
    }

    fn gauge(&mut self, engine: &'static str, name: &'static str, value: f64) {
        self.results.gauges.push(Gauge { round: self.round, engine, name, value });
    }

    fn fresh_dir(&self, engine: &str) -> Result<PathBuf> {
        let dir = self.options.dir.join(engine);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn run(
        &mut self,
        process: &mut Process,
        workload: &'static str,
        times: f64,
    ) -> Result<Outcome> {
        self.note(process.engine, workload);
        let (ops, seconds) = (self.options.pairs, times * self.options.seconds);
        let is_fill = FILLS.contains(&workload) || workload == "fillrandom";
        let ops = if is_fill { ops } else { u64::MAX / 2 };
        // What others have written is not to be waited for by this one's syncs.
        rustix::fs::sync();
        let outcome: Outcome = process.ask(&format!("run {workload} {ops} {seconds}"))?;
        let (round, engine) = (self.round, process.engine);
        self.results.runs.push(Run { round, engine, workload, outcome: outcome.clone() });
        Ok(outcome)
    }

    fn fills(&mut self) -> Result<()> {
        for &workload in FILLS.iter().filter(|name| self.options.wants(name)) {
            for engine in self.engines.clone() {
                self.fill(engine, workload)?;
                if engine == "kv-lsm" {
                    self.fill("kv-lsm-ticket", workload)?;
                }
            }
        }
        if self.options.wants("fillrandom") {
            self.fill("kv-lsm-ticket", "fillrandom")?;
        }
        Ok(())
    }

    fn fill(&mut self, engine: &'static str, workload: &'static str) -> Result<()> {
        let dir = self.fresh_dir(engine)?;
        let mut process = Process::start(engine, self.options.pairs, self.options.sizes)?;
        process.open(&dir)?;
        let outcome = self.run(&mut process, workload, 3.0)?;
        let _: f64 = process.ask(&format!("rest {}", self.options.rest_seconds))?;
        let figures: Figures = process.ask("figures")?;
        if workload == "fillseq" {
            let user = outcome.ops * (KEY_BYTES + VALUE_BYTES) as u64;
            self.gauge(engine, "wa_fillseq", figures.written_bytes as f64 / user as f64);
        }
        process.kill()?;
        std::fs::remove_dir_all(&dir)?;
        Ok(())
    }

    /// The pairs at random, and all that is done with them.
    fn over_pairs(&mut self) -> Result<()> {
        let wanted: Vec<&'static str> =
            OVER_PAIRS.iter().copied().filter(|name| self.options.wants(name)).collect();
        let others = ["fillrandom", "open", "readcold"];
        if wanted.is_empty() && !others.iter().any(|name| self.options.wants(name)) {
            return Ok(());
        }
        let mut processes = Vec::new();
        for engine in self.engines.clone() {
            processes.push(self.fill_and_rest(engine)?);
        }
        for workload in wanted {
            for process in &mut processes {
                self.run(process, workload, 1.0)?;
                let writes = workload.starts_with("ycsb") || workload == "overwrite";
                if writes {
                    let _: f64 = process.ask(&format!("rest {}", self.options.rest_seconds))?;
                }
            }
        }
        for process in &mut processes {
            let figures: Figures = process.ask("figures")?;
            self.gauge(process.engine, "rss_read", figures.peak_rss_bytes as f64);
            process.told("close")?;
            process.told("chill")?;
        }
        for process in processes {
            let dir = self.options.dir.join(process.engine);
            self.note(process.engine, "open");
            let mut fresh = Process::start(process.engine, self.options.pairs, self.options.sizes)?;
            let seconds = fresh.open(&dir)?;
            self.gauge(process.engine, "open", seconds);
            if self.options.wants("readcold") {
                self.run(&mut fresh, "readcold", 1.0)?;
            }
            fresh.kill()?;
            process.kill()?;
            std::fs::remove_dir_all(&dir)?;
        }
        Ok(())
    }

    fn fill_and_rest(&mut self, engine: &'static str) -> Result<Process> {
        let dir = self.fresh_dir(engine)?;
        let mut process = Process::start(engine, self.options.pairs, self.options.sizes)?;
        process.open(&dir)?;
        process.told("forget")?;
        self.run(&mut process, "fillrandom", 3.0)?;
        let _: u64 = process.ask("load")?;
        let _: f64 = process.ask(&format!("rest {}", 2.0 * self.options.rest_seconds))?;
        let figures: Figures = process.ask("figures")?;
        let user = (self.options.pairs * (KEY_BYTES + VALUE_BYTES) as u64) as f64;
        self.gauge(engine, "wa_fillrandom", figures.written_bytes as f64 / user);
        self.gauge(engine, "disk", figures.disk_bytes as f64 / user);
        self.gauge(engine, "rss_fill", figures.peak_rss_bytes as f64);
        process.told("forget")?;
        Ok(process)
    }

    fn syncs(&mut self) -> Result<()> {
        for &workload in SYNCS.iter().filter(|name| self.options.wants(name)) {
            for engine in self.engines.clone() {
                let dir = self.fresh_dir(engine)?;
                let mut process = Process::start(engine, self.options.pairs, self.options.sizes)?;
                process.open(&dir)?;
                self.run(&mut process, workload, 1.0)?;
                if engine == "kv-lsm" && workload == "sync1" {
                    let outcome: Outcome =
                        process.ask(&format!("bare {}", self.options.seconds))?;
                    let (round, engine) = (self.round, "bare");
                    self.results.runs.push(Run { round, engine, workload, outcome });
                }
                process.kill()?;
                std::fs::remove_dir_all(&dir)?;
            }
        }
        Ok(())
    }

    /// Fills a log, kills the process, and opens what is left.
    fn recoveries(&mut self) -> Result<()> {
        if !self.options.wants("recovery") {
            return Ok(());
        }
        let (sizes, pairs) = self.options.recovery;
        for engine in self.engines.clone() {
            self.note(engine, "recovery");
            let dir = self.fresh_dir(engine)?;
            let mut process = Process::start(engine, pairs, sizes)?;
            process.open(&dir)?;
            let _: Outcome = process.ask(&format!("run fillrandom {pairs} 30"))?;
            let figures: Figures = process.ask("figures")?;
            process.kill()?;
            let mut fresh = Process::start(engine, pairs, sizes)?;
            let seconds = fresh.open(&dir)?;
            // By the pair, as slow engines may not have written them all.
            self.gauge(engine, "recovery", seconds * pairs as f64 / figures.pairs as f64);
            let missing: u64 = fresh.ask(&format!("verify {}", figures.pairs))?;
            self.gauge(engine, "missing", missing as f64);
            fresh.kill()?;
            std::fs::remove_dir_all(&dir)?;
        }
        Ok(())
    }
}

/// A child and the lines to and from it.
struct Process {
    engine: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(engine: &'static str, pairs: u64, sizes: Sizes) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["child", engine])
            .args(
                [pairs, sizes.memtable_bytes as u64, sizes.cache_bytes as u64]
                    .map(|n| n.to_string()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { engine, child, input, output })
    }

    fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        writeln!(self.input, "{line}")?;
        let mut answer = String::new();
        if self.output.read_line(&mut answer)? == 0 {
            return Err(format!("{} ended at `{line}`", self.engine).into());
        }
        Ok(serde_json::from_str(&answer)?)
    }

    fn told(&mut self, line: &str) -> Result<()> {
        self.ask(line)
    }

    fn open(&mut self, dir: &Path) -> Result<f64> {
        self.ask(&format!("open {}", dir.display()))
    }

    /// Ends it with SIGKILL: what it has not handed to the system is lost.
    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
