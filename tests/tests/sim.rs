//! The simulation: seeds that must be green, the same seed twice, controls that must lose, and
//! power cuts that must lose nothing unless the engine is told to lie. `KV_TEST_LONG=1` runs a
//! thousand seeds of the swarm instead of a hundred.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::process::Command;

use kv_lsm::Planted;
use kv_node::cluster::record::LevelSetting;
use kv_tests::sim::cuts::{Cuts, cut_all};
use kv_tests::sim::run::MET;
use kv_tests::sim::scenario::SCENARIOS;
use kv_tests::sim::world::WorldConfig;
use kv_tests::sim::{Report, Scenario, run};

/// Runs a seed in which nothing may be found.
fn sound(scenario: Scenario, seed: u64) -> Report {
    let repeat = format!("cargo xtask sim --seed {seed} --scenario {}", scenario.name());
    let report = run(seed, &scenario.options(seed))
        .unwrap_or_else(|why| panic!("seed {seed}: {why}; repeat with: {repeat}"));
    assert_eq!(report.violations, [], "seed {seed}; repeat with: {repeat}");
    report
}

/// Runs some seeds of a scenario beside the others; what they met, added up.
fn swarm(seeds: std::ops::Range<u64>) -> (usize, [u64; MET.len()]) {
    let mut acknowledged = 0;
    let mut met = [0; MET.len()];
    for seed in seeds {
        let report = sound(Scenario::Swarm, seed);
        acknowledged += report.acknowledged;
        for (sum, met) in met.iter_mut().zip(report.met) {
            *sum += met;
        }
    }
    println!("{acknowledged} acknowledged; {MET:?}: {met:?}");
    (acknowledged, met)
}

#[test]
fn a_hundred_seeds_of_the_swarm_find_nothing() {
    let seeds = if std::env::var_os("KV_TEST_LONG").is_some() { 1_000 } else { 100 };
    let halves = [0..seeds / 2, seeds / 2..seeds];
    let (mut acknowledged, mut met) = (0, [0; MET.len()]);
    std::thread::scope(|scope| {
        for half in halves.map(|half| scope.spawn(|| swarm(half))) {
            let (more, also) = half.join().expect("a half found nothing");
            acknowledged += more;
            for (sum, met) in met.iter_mut().zip(also) {
                *sum += met;
            }
        }
    });
    assert!(met.iter().all(|met| *met > 0), "the runs must meet all of these: {met:?}");
    assert!(acknowledged > 10_000, "only {acknowledged} writes were acknowledged");
}

#[test]
fn named_scenarios_find_nothing() {
    let named = SCENARIOS.into_iter().filter(|one| *one != Scenario::Swarm && !one.is_control());
    let runs: Vec<(Scenario, u64)> =
        named.flat_map(|scenario| (0..4).map(move |seed| (scenario, seed))).collect();
    std::thread::scope(|scope| {
        for half in runs.chunks(runs.len().div_ceil(2)) {
            scope.spawn(move || {
                for (scenario, seed) in half {
                    let report = sound(*scenario, *seed);
                    println!("{} {}", scenario.name(), report.line());
                }
            });
        }
    });
}

/// Seeds that found something once, and what.
const REGRESSIONS: &[(Scenario, u64, &str)] = &[
    (Scenario::Swarm, 1, "a log that counted a hint which was not there held floors back for ever"),
    (Scenario::Swarm, 14, "of two hints for one key in one call the second wrote over the first"),
    (Scenario::Swarm, 36, "a read of what a disk without room had not synced waited for ever"),
    (
        Scenario::Flush,
        9,
        "a SET from below a half-done flush was taken, dead, and what it replaced shown",
    ),
    (
        Scenario::StandIns,
        137,
        "a KV.PUT was tried again when its first node was gone, and came back with that node",
    ),
    (Scenario::StandIns, 164, "the same, after a KV.DEL"),
    (
        Scenario::Reshape,
        237,
        "what a layout that was called off had given counted as unfilled for a minute",
    ),
    (Scenario::Taken, 12, "a newcomer did not ask whom it displaced, where a hint had counted"),
    (Scenario::Taken, 15, "hints for who was displaced went nowhere: the log had no room for more"),
];

#[test]
fn what_was_found_once_is_not_found_again() {
    for (scenario, seed, what) in REGRESSIONS {
        let report = sound(*scenario, *seed);
        println!("{} {}: {what}", scenario.name(), report.line());
    }
}

#[test]
fn an_old_copy_of_a_directory_is_refused_and_its_node_replaced() {
    let refused = (0..8).any(|seed| {
        let report = sound(Scenario::ForgetRestored, seed);
        let noted = |what: &str| report.log.iter().any(|(_, line)| line.contains(what));
        noted("Refused") && noted("is replaced in layout")
    });
    assert!(refused, "no seed met a copy that was old enough");
}

#[test]
fn a_seed_replays_in_another_process() {
    let trace = |scenario: Scenario, seed: &str| {
        let traces = std::env::temp_dir().join(format!("kv-sim-{}", std::process::id()));
        let told = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["--seed", seed, "--scenario", scenario.name(), "--traces"])
            .arg(&traces)
            .output()
            .expect("the simulator starts");
        assert!(told.status.success(), "{told:?}");
        let file = traces.join(format!("{}-{seed}.txt", scenario.name()));
        std::fs::read_to_string(file).expect("a trace")
    };
    for scenario in SCENARIOS.into_iter().filter(|one| !one.is_control()) {
        let (first, second) = (trace(scenario, "6"), trace(scenario, "6"));
        assert!(first.contains(" trace "), "{first}");
        assert_eq!(first, second, "{}", scenario.name());
    }
    let hash = |trace: &str| trace.split(' ').nth(3).map(str::to_owned);
    let (one, other) = (trace(Scenario::Swarm, "6"), trace(Scenario::Swarm, "8"));
    assert_ne!(hash(&one), hash(&other), "another seed is another run");
}

/// Within so many seeds a quorum of one is seen to break everything that quorums promise.
const CONTROL_SEEDS: u64 = 40;

#[test]
fn controls_are_seen_to_lose() {
    // What the quorum promises must be seen to break without it.
    let checkers = ["lost", "register", "siblings"];
    let mut found = Vec::new();
    for seed in 0..CONTROL_SEEDS {
        let mut options = Scenario::Swarm.options(seed);
        options.world.copies = LevelSetting::One;
        let report = run(seed, &options).expect("it runs all the same");
        found.extend(report.violations.into_iter().map(|violation| violation.checker));
        if checkers.iter().all(|checker| found.contains(checker)) {
            break;
        }
    }
    for checker in checkers {
        assert!(found.contains(&checker), "{checker} found nothing: {found:?}");
    }
}

#[test]
fn two_destroyed_disks_are_seen_to_lose() {
    let loses = |seed| {
        let report = run(seed, &Scenario::TwoDisks.options(seed)).expect("it runs");
        report.violations.iter().any(|violation| violation.checker == "lost")
    };
    assert!((0..24).any(loses), "two of three copies were destroyed, and nothing was lost");
}

/// Three nodes in several worlds, the power of all cut so many times in each.
fn cuts(worlds: std::ops::Range<u64>, rounds: usize, planted: Planted) -> Cuts {
    let lsm = kv_lsm::Config { planted, ..WorldConfig::engine() };
    let config = WorldConfig { skew_ms_max: 2_000, lsm, ..WorldConfig::strict(3) };
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
