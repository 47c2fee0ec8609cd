//! A power cut after every call, an error at every call, and long random histories.

use std::io;
use std::sync::Arc;

use super::script::{Mix, Model, Random, open, recover, run};
use crate::config::Planted;
use crate::fs::{FailFs, FailKind, Fs, MemFs};
use crate::{Config, Error};

const STEPS: usize = 120;

/// Five scripts: what they mix and how large their values are.
const SCRIPTS: [Mix; 5] = [
    Mix { reopens: false, kills: false, weak: false, value_bytes_max: 64, keys: 40 },
    Mix { reopens: true, kills: false, weak: true, value_bytes_max: 700, keys: 40 },
    Mix { reopens: true, kills: true, weak: false, value_bytes_max: 1500, keys: 20 },
    Mix { reopens: false, kills: true, weak: true, value_bytes_max: 1500, keys: 400 },
    Mix { reopens: true, kills: true, weak: true, value_bytes_max: 4000, keys: 40 },
];

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
    run(&fs, config, SCRIPTS[script], script as u64, STEPS, &mut model)
        .unwrap_or_else(|e| panic!("script {script}, {kind:?} at call {fails_at}: {e}"));
    (disk, model, failing.calls())
}

/// The scripts are no use unless they reach everything that touches the disk.
#[test]
fn the_scripts_rotate_recycle_flush_and_compact() {
    let (mut calls, mut flushes, mut compactions) = (0, 0, 0);
    for script in 0..5 {
        let (_, model, made) = run_failing(&Config::tiny(), script, u64::MAX, FailKind::Torn);
        calls += made;
        flushes += model.done.flushes;
        compactions += model.done.compactions;
    }
    assert!(calls > 2_000, "only {calls} calls");
    assert!(flushes > 5 && compactions > 3, "{flushes} flushes, {compactions} compactions");
}

#[test]
fn a_power_cut_after_every_call_loses_nothing_durable() {
    let config = Config::tiny();
    let (mut acknowledged, mut crashes) = (0, 0);
    for script in 0..SCRIPTS.len() {
        let (.., calls) = run_failing(&config, script, u64::MAX, FailKind::Torn);
        for call in 0..=calls {
            for kind in [FailKind::From(io::ErrorKind::Other), FailKind::Torn] {
                let (disk, model, _) = run_failing(&config, script, call, kind);
                acknowledged += model.acknowledged();
                for seed in 0..3 {
                    crashes += 1;
                    recover(&disk, &config, &model, Some(seed)).unwrap_or_else(|e| {
                        panic!("script {script}, {kind:?} at call {call}, power cut {seed}: {e}")
                    });
                }
            }
        }
    }
    assert!(crashes >= 10_000, "only {crashes} crashes");
    assert!(acknowledged > 50_000, "only {acknowledged} durable batches were at stake");
}

#[test]
fn an_error_at_every_call_loses_nothing_durable() {
    let config = Config::tiny();
    for script in 0..SCRIPTS.len() {
        let (.., calls) = run_failing(&config, script, u64::MAX, FailKind::Torn);
        for call in 0..=calls {
            let kind = FailKind::Once(io::ErrorKind::StorageFull);
            let (disk, model, _) = run_failing(&config, script, call, kind);
            for power_cut in [None, Some(call)] {
                recover(&disk, &config, &model, power_cut).unwrap_or_else(|e| {
                    panic!("script {script}, error at call {call}, power cut {power_cut:?}: {e}")
                });
            }
        }
    }
}

/// Runs a script in which the `nth` sync fails as on Linux: the pages are lost and count as clean.
fn run_failing_sync(script: usize, nth: u64) -> (MemFs, Model) {
    let disk = MemFs::new();
    disk.fail_sync_after(nth);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let mut model = Model::default();
    run(&fs, &Config::tiny(), SCRIPTS[script], script as u64, STEPS, &mut model).unwrap();
    (disk, model)
}

#[test]
fn a_failed_sync_is_never_papered_over() {
    let config = Config::tiny();
    for (script, mix) in SCRIPTS.into_iter().enumerate() {
        for nth in 0..60 {
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
            run(&fs, &config, mix, nth, 20, &mut after).unwrap();
            for seed in 0..4 {
                recover(&disk, &config, &after, Some(seed)).unwrap_or_else(|e| {
                    panic!("script {script}, sync {nth}, power cut {seed}: {e}")
                });
            }
        }
    }
}

/// Histories of many crashes, one after another on one disk. `KV_LSM_SEEDS=from..to` chooses seeds.
#[test]
fn crash_after_crash() {
    let config = Config::tiny();
    let chosen = std::env::var("KV_LSM_SEEDS").ok();
    let (from, to) = chosen
        .as_deref()
        .and_then(|range| range.split_once(".."))
        .map_or((0, 60), |(from, to)| (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap()));
    for seed in from..to {
        let mut random = Random(seed);
        let mut disk = MemFs::new();
        let mut model = Model::default();
        for life in 0..8 {
            let context = || format!("seed {seed}, life {life}");
            let failing = FailFs::new(Arc::new(disk.clone()), random.below(400), FailKind::Torn);
            let fs: Arc<dyn Fs> = Arc::new(failing);
            let mix = SCRIPTS[random.below(5) as usize];
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
