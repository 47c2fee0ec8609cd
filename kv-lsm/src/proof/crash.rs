//! A power cut after every call, an error at every call, and long random histories.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, thread};

use parking_lot::Mutex;

use super::script::{Mix, Model, Random, open, recover, run};
use crate::config::Planted;
use crate::fs::{FailFs, FailKind, Fs, MemFs};
use crate::{Config, Error};

const STEPS: usize = 120;

/// Fifty scripts: script n is the n-th of these mixes, from the beginning again behind the last,
/// with choices drawn from seed n.
const SCRIPTS: usize = 50;
const MIXES: [Mix; 10] = [
    Mix::PLAIN,
    Mix { reopens: true, weak: true, value_bytes_max: 700, ..Mix::PLAIN },
    Mix { reopens: true, kills: true, value_bytes_max: 1500, keys: 20, ..Mix::PLAIN },
    Mix { kills: true, weak: true, value_bytes_max: 1500, keys: 400, ..Mix::PLAIN },
    Mix { reopens: true, kills: true, weak: true, value_bytes_max: 4000, ..Mix::PLAIN },
    Mix { stubborn: true, value_bytes_max: 900, ..Mix::PLAIN },
    Mix { copies: true, value_bytes_max: 900, ..Mix::PLAIN },
    Mix { stubborn: true, reopens: true, kills: true, value_bytes_max: 1500, ..Mix::PLAIN },
    Mix { stubborn: true, reopens: true, copies: true, value_bytes_max: 700, ..Mix::PLAIN },
    Mix { stubborn: true, kills: true, weak: true, copies: true, keys: 90, ..Mix::PLAIN },
];

fn mix(script: usize) -> Mix {
    MIXES[script % MIXES.len()]
}

/// Whether everything is to be covered, which takes minutes.
pub(super) fn is_long() -> bool {
    std::env::var_os("KV_TEST_LONG").is_some()
}

/// The calls of a script at which something happens: all when long tests are asked for, else every
/// so many, begun at another call in each script.
fn points(script: usize, calls: u64, every: u64) -> impl Iterator<Item = u64> {
    let every = if is_long() { 1 } else { every };
    (script as u64 % every..=calls).step_by(every as usize)
}

/// What a test went through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Covered {
    scripts: u64,
    /// Calls of the file system at which something was made to happen.
    pub(super) points: u64,
    pub(super) crashes: u64,
    /// Durable batches that could have been lost, over all crashes.
    pub(super) at_stake: u64,
}

impl Covered {
    fn add(&mut self, other: Self) {
        self.scripts += other.scripts;
        self.points += other.points;
        self.crashes += other.crashes;
        self.at_stake += other.at_stake;
    }

    /// For the record; a test that comes so far has lost nothing.
    pub(super) fn tell(self, what: &str) {
        let Self { scripts, points, crashes, at_stake } = self;
        println!(
            "figure: {what}: {points} calls of {scripts} scripts, {crashes} recoveries, {at_stake} \
             durable batches at stake, 0 lost, 0 holes, 0 panics"
        );
    }
}

/// Runs `work` for each of the first `scripts` scripts, on all cores.
pub(super) fn over_scripts(scripts: usize, work: impl Fn(usize) -> Covered + Sync) -> Covered {
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Covered::default()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let script = next.fetch_add(1, Ordering::Relaxed);
                    if script >= scripts {
                        break;
                    }
                    let covered = work(script);
                    total.lock().add(Covered { scripts: 1, ..covered });
                }
            });
        }
    });
    total.into_inner()
}

/// Runs one script with call `fails_at` failing. Returns the disk, the model, and the calls made.
fn run_failing(
    config: &Config,
    script: usize,
    fails_at: u64,
    kind: FailKind,
) -> (MemFs, Model, u64) {
    let disk = MemFs::new();
    let failing = FailFs::new(Arc::new(disk.clone()), fails_at, kind);
    let fs: Arc<dyn Fs> = Arc::new(failing.clone());
    let mut model = Model::default();
    run(&fs, config, mix(script), script as u64, STEPS, &mut model)
        .unwrap_or_else(|e| panic!("script {script}, {kind:?} at call {fails_at}: {e}"));
    (disk, model, failing.calls())
}

/// The scripts are no use unless they reach everything that touches the disk.
#[test]
fn the_scripts_rotate_recycle_flush_compact_and_copy() {
    let (mut calls, mut flushes, mut compactions, mut copies) = (0, 0, 0, 0);
    for script in 0..SCRIPTS {
        let (_, model, made) = run_failing(&Config::tiny(), script, u64::MAX, FailKind::Torn);
        calls += made;
        flushes += model.done.flushes;
        compactions += model.done.compactions;
        copies += model.done.copies;
    }
    println!("figure: {calls} calls in {SCRIPTS} scripts");
    assert!(calls > 20_000, "only {calls} calls");
    assert!(flushes > 50 && compactions > 30, "{flushes} flushes, {compactions} compactions");
    assert!(copies > 15, "{copies} checkpoints");
}

#[test]
fn a_power_cut_after_every_call_loses_nothing_durable() {
    const CUTS: u64 = 3;
    let config = Config::tiny();
    let covered = over_scripts(SCRIPTS, |script| {
        let mut covered = Covered::default();
        let (.., calls) = run_failing(&config, script, u64::MAX, FailKind::Torn);
        for call in points(script, calls, 10) {
            covered.points += 1;
            for kind in [FailKind::From(io::ErrorKind::Other), FailKind::Torn] {
                let (disk, model, _) = run_failing(&config, script, call, kind);
                covered.at_stake += model.acknowledged() as u64;
                for seed in CUTS * call..CUTS * (call + 1) {
                    covered.crashes += 1;
                    recover(&disk, &config, &model, Some(seed)).unwrap_or_else(|e| {
                        panic!("script {script}, {kind:?} at call {call}, power cut {seed}: {e}")
                    });
                }
            }
        }
        covered
    });
    covered.tell("power cuts, torn writes");
    assert!(covered.crashes >= 10_000 && covered.at_stake > 50_000, "{covered:?}");
}

#[test]
fn an_error_at_every_call_loses_nothing_durable() {
    let config = Config::tiny();
    let covered = over_scripts(SCRIPTS, |script| {
        let mut covered = Covered::default();
        let (.., calls) = run_failing(&config, script, u64::MAX, FailKind::Torn);
        for call in points(script, calls, 10) {
            covered.points += 1;
            for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other].map(FailKind::Once) {
                let (disk, model, _) = run_failing(&config, script, call, kind);
                covered.at_stake += model.acknowledged() as u64;
                for power_cut in [None, Some(call)] {
                    covered.crashes += 1;
                    recover(&disk, &config, &model, power_cut).unwrap_or_else(|e| {
                        panic!("script {script}, {kind:?} at {call}, cut {power_cut:?}: {e}")
                    });
                }
            }
        }
        covered
    });
    covered.tell("one error, full disk or other");
    assert!(covered.scripts == SCRIPTS as u64 && covered.at_stake > 50_000, "{covered:?}");
}

/// Runs a script in which the `nth` sync fails as on Linux: the pages are lost and count as clean.
fn run_failing_sync(script: usize, nth: u64) -> (MemFs, Model) {
    let disk = MemFs::new();
    disk.fail_sync_after(nth);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let mut model = Model::default();
    run(&fs, &Config::tiny(), mix(script), script as u64, STEPS, &mut model).unwrap();
    (disk, model)
}

#[test]
fn a_failed_sync_is_never_papered_over() {
    let config = Config::tiny();
    let covered = over_scripts(SCRIPTS, |script| {
        let mut covered = Covered::default();
        for nth in points(script, 60, 10) {
            covered.points += 1;
            let (disk, model) = run_failing_sync(script, nth);
            // The process restarts on the page cache that lies, works on, and the power is cut.
            let fs: Arc<dyn Fs> = Arc::new(disk.clone());
            let mut after = model.clone();
            // The failure may have waited for this open: then the next one must succeed.
            let opened = open(&fs, &config).or_else(|_| open(&fs, &config));
            let engine = opened
                .unwrap_or_else(|e| panic!("script {script}, sync {nth}: does not open: {e}"));
            after.adopt(&engine).unwrap_or_else(|e| panic!("script {script}, sync {nth}: {e}"));
            drop(engine);
            run(&fs, &config, mix(script), nth, 20, &mut after).unwrap();
            covered.at_stake += after.acknowledged() as u64;
            for seed in 0..4 {
                covered.crashes += 1;
                recover(&disk, &config, &after, Some(seed)).unwrap_or_else(|e| {
                    panic!("script {script}, sync {nth}, power cut {seed}: {e}")
                });
            }
        }
        covered
    });
    covered.tell("a failed sync, then a restart, then a power cut");
}

/// Histories of many crashes, one after another on one disk. `KV_LSM_SEEDS=from..to` chooses seeds.
#[test]
fn crash_after_crash() {
    let config = Config::tiny();
    let usual = if is_long() { (0, 600) } else { (0, 60) };
    let chosen = std::env::var("KV_LSM_SEEDS").ok();
    let (from, to) = chosen
        .as_deref()
        .and_then(|range| range.split_once(".."))
        .map_or(usual, |(from, to)| (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap()));
    for seed in from..to {
        let mut random = Random(seed);
        let mut disk = MemFs::new();
        let mut model = Model::default();
        for life in 0..8 {
            let context = || format!("seed {seed}, life {life}");
            let failing = FailFs::new(Arc::new(disk.clone()), random.below(400), FailKind::Torn);
            let fs: Arc<dyn Fs> = Arc::new(failing);
            let mix = mix(random.below(MIXES.len() as u64) as usize);
            run(&fs, &config, mix, random.below(u64::MAX), 150, &mut model)
                .unwrap_or_else(|e| panic!("{}: {e}", context()));
            let power_cut = (random.below(4) > 0).then(|| random.below(u64::MAX));
            disk = recover(&disk, &config, &model, power_cut)
                .unwrap_or_else(|e| panic!("{}: {e}", context()));
            let fs: Arc<dyn Fs> = Arc::new(disk.clone());
            let engine = open(&fs, &config).unwrap();
            model.adopt(&engine).unwrap_or_else(|e| panic!("{}: {e}", context()));
        }
    }
    println!("figure: {} histories of 8 lives each, that end in torn writes", to - from);
}

/// The loop has teeth: with tickets published before the sync, it must see a loss.
#[test]
fn durable_before_sync_is_caught() {
    let config = Config { planted: Planted::DurableBeforeSync, ..Config::tiny() };
    let (.., calls) = run_failing(&config, 0, u64::MAX, FailKind::Torn);
    let lost = (0..=calls)
        .filter(|&call| {
            let kind = FailKind::From(io::ErrorKind::Other);
            let (disk, model, _) = run_failing(&config, 0, call, kind);
            recover(&disk, &config, &model, Some(call)).is_err_and(|e| e.starts_with("lost"))
        })
        .count();
    assert!(lost > 10, "the planted bug lost in only {lost} of {calls} power cuts");
}

#[test]
fn a_poisoned_engine_says_so_and_still_reads() {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let engine = open(&fs, &Config::tiny()).unwrap();
    let mut batch = crate::Batch::new();
    batch.put(b"a", b"1");
    let kept = engine.append(&batch).unwrap();
    engine.wait_durable(kept).unwrap();
    disk.fail_sync_after(0);
    batch.put(b"b", b"2");
    let lost = engine.append(&batch).unwrap();
    assert!(matches!(engine.wait_durable(lost), Err(Error::Poisoned { .. })));
    assert!(matches!(engine.append(&batch), Err(Error::Poisoned { .. })));
    assert!(matches!(engine.step(), Err(Error::Poisoned { .. })));
    engine.wait_durable(kept).unwrap();
    assert_eq!(engine.get(b"a").unwrap().unwrap().value, "1");
    assert!(engine.stats().poisoned.is_some());
    assert!(matches!(engine.close(), Err(Error::Poisoned { .. })));
}
