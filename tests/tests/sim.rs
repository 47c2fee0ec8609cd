//! The simulation: seeds that must be green, the same seed twice, and power cuts that must lose
//! nothing unless the engine is told to lie. `KV_TEST_LONG=1` runs 300 seeds instead of 20.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::process::Command;

use kv_lsm::Planted;
use kv_node::cluster::record::LevelSetting;
use kv_tests::sim::cuts::{Cuts, cut_all};
use kv_tests::sim::world::WorldConfig;
use kv_tests::sim::{Options, run};

#[test]
fn twenty_seeds_find_nothing() {
    let mut acknowledged = 0;
    let mut met = [0; 3];
    let seeds = if std::env::var_os("KV_TEST_LONG").is_some() { 300 } else { 20 };
    for seed in 0..seeds {
        let report = run(seed, &Options::drawn(seed)).unwrap_or_else(|why| {
            panic!("seed {seed}: {why}; repeat with: cargo xtask sim --seed {seed}")
        });
        println!("seed {seed}: {} acknowledged, {} unknown", report.acknowledged, report.unknown);
        assert_eq!(
            report.violations,
            [],
            "seed {seed}; repeat with: cargo xtask sim --seed {seed}"
        );
        acknowledged += report.acknowledged;
        for (sum, met) in met.iter_mut().zip(report.met) {
            *sum += met;
        }
    }
    println!("second mints, read repairs, forwarded: {met:?}");
    assert!(met.iter().all(|met| *met > 0), "twenty runs must meet all of these: {met:?}");
    assert!(acknowledged > 5_000, "only {acknowledged} writes were acknowledged in twenty runs");
}

#[test]
fn a_seed_replays_in_another_process() {
    let trace = |seed: &str| {
        let told = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["--seed", seed])
            .output()
            .expect("the simulator starts");
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).expect("text")
    };
    // 6 runs three nodes, 7 five.
    for seed in ["6", "7"] {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.contains(" trace "), "{first}");
        assert_eq!(first, second);
    }
    let hash = |line: &str| line.split(' ').nth(3).map(str::to_owned);
    assert_ne!(hash(&trace("6")), hash(&trace("8")), "another seed is another run");
}

#[test]
fn one_copy_is_seen_to_be_too_few() {
    // The control run: what the quorum promises must be seen to break without it.
    let mut found = Vec::new();
    for seed in 0..4 {
        let mut options = Options::drawn(seed);
        options.world.copies = LevelSetting::One;
        let report = run(seed, &options).expect("it runs all the same");
        found.extend(report.violations.into_iter().map(|violation| violation.checker));
    }
    for checker in ["lost", "order", "siblings"] {
        assert!(found.contains(&checker), "{checker} found nothing: {found:?}");
    }
}

/// Three nodes in several worlds, the power of all cut so many times in each.
fn cuts(worlds: std::ops::Range<u64>, rounds: usize, planted: Planted) -> Cuts {
    let lsm = kv_lsm::Config { planted, ..WorldConfig::engine() };
    let config = WorldConfig { nodes: 3, skew_ms_max: 2_000, copies: LevelSetting::Quorum, lsm };
    let mut all = Cuts::default();
    for seed in worlds {
        let cuts = cut_all(seed, rounds, &config)
            .unwrap_or_else(|why| panic!("world {seed}, {rounds} rounds: {why}"));
        all.acknowledged += cuts.acknowledged;
        all.on_a_change += cuts.on_a_change;
        all.violations.extend(cuts.violations);
    }
    println!("{} acknowledged, {} cuts on a change", all.acknowledged, all.on_a_change);
    all
}

#[test]
fn two_hundred_power_cuts_lose_nothing() {
    let found = cuts(100..120, 10, Planted::None);
    assert_eq!(found.violations, []);
    assert_eq!(found.on_a_change, 200, "a cut that hits nothing proves nothing");
    assert!(found.acknowledged > 1_000, "{found:?}");
}

#[test]
fn acknowledging_before_the_sync_is_found() {
    let found = cuts(100..102, 5, Planted::DurableBeforeSync);
    let lost = found.violations.iter().filter(|found| found.checker == "lost").count();
    println!("{lost} of {} lost", found.acknowledged);
    assert!(lost > 0, "{found:?}");
}
