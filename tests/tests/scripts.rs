//! Verbs of `kv` in scripts: the documented exit code of each against three real nodes that are
//! well, of which one is dead, of which two are, and of which nobody is left; and a node that needs
//! an operator while another is asked.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use kv_tests::cluster::{Cluster, ClusterConfig};
use parking_lot::Mutex;

/// For whatever a cluster does by itself: it takes a few seconds, and a busy machine stalls it.
const PATIENCE: Duration = Duration::from_secs(90);
/// How far the wrong clock is off.
const HOUR_MS: i64 = 3_600_000;

/// One cluster at a time: ports are asked of the system before its nodes listen.
static ALONE: Mutex<()> = Mutex::new(());

const OK: i32 = 0;
const ERROR: i32 = 1;
const DEGRADED: i32 = 3;
const NO_QUORUM: i32 = 4;
const UNREACHABLE: i32 = 5;

/// The cluster is so.
const STATES: [&str; 4] = ["healthy", "one is dead", "two are dead", "all are dead"];

/// Each verb, and how it ends in each state. `explain`, `nodes` and `ring` tell what the asked node
/// knows, however ill the others are.
const TABLE: &[(&[&str], [i32; 4])] = &[
    (&["status"], [OK, DEGRADED, NO_QUORUM, UNREACHABLE]),
    (&["doctor"], [OK, DEGRADED, NO_QUORUM, UNREACHABLE]),
    (&["nodes"], [OK, OK, OK, UNREACHABLE]),
    (&["ring"], [OK, OK, OK, UNREACHABLE]),
    (&["locate", "k"], [OK, OK, OK, UNREACHABLE]),
    (&["explain", "k"], [OK, OK, OK, UNREACHABLE]),
    (&["put", "k", "v"], [OK, OK, NO_QUORUM, UNREACHABLE]),
    (&["get", "k"], [OK, OK, NO_QUORUM, UNREACHABLE]),
    (&["get", "nothing"], [ERROR, ERROR, NO_QUORUM, UNREACHABLE]),
    (&["put", "c", "1", "--sibling"], [OK, OK, NO_QUORUM, UNREACHABLE]),
    (&["put", "c", "2", "--sibling"], [OK, OK, NO_QUORUM, UNREACHABLE]),
    // Not all is told: who is dead may know of more.
    (&["conflicts"], [OK, DEGRADED, DEGRADED, UNREACHABLE]),
    (&["events"], [OK, DEGRADED, DEGRADED, UNREACHABLE]),
    (&["resolve", "c", "--rule", "merge"], [ERROR, ERROR, NO_QUORUM, UNREACHABLE]),
    (&["resolve", "c", "--rule", "max"], [OK, OK, NO_QUORUM, UNREACHABLE]),
    (&["conflicts", "resolve", "c"], [OK, OK, NO_QUORUM, UNREACHABLE]),
    (&["del", "k"], [OK, OK, NO_QUORUM, UNREACHABLE]),
];

/// Verbs whose answers follow the state after a while.
const GROWS: [&str; 3] = ["status", "doctor", "conflicts"];

/// A verb asked of one node.
fn kv(cluster: &Cluster, place: usize, words: &[&str]) -> Output {
    let address = cluster.rpc_addresses().get(place).expect("a node").to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv-test-cli"));
    command.args(["--connect", &address]).args(words);
    command.env_remove("KV_CONNECT").env_remove("KV_SECRET_FILE");
    command.output().expect("it runs")
}

/// What it printed, which is one object.
fn json(cluster: &Cluster, place: usize, words: &[&str]) -> serde_json::Value {
    let out = kv(cluster, place, &[words, &["--json"]].concat());
    serde_json::from_slice(&out.stdout).expect("one object")
}

/// Asks again and again until it ends so.
fn until(cluster: &Cluster, words: &[&str], code: i32) {
    let began = Instant::now();
    loop {
        let out = kv(cluster, 0, words);
        if out.status.code() == Some(code) {
            let (words, passed) = (words.join(" "), began.elapsed().as_secs_f64());
            return println!("{words} ends with {code} after {passed:.1} s");
        }
        assert!(began.elapsed() < PATIENCE, "{words:?} never ends with {code}: {out:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Asks again and again until so many members are up.
fn until_up(cluster: &Cluster, up: usize) {
    let began = Instant::now();
    while json(cluster, 0, &["status"]).pointer("/members/up") != Some(&up.into()) {
        assert!(began.elapsed() < PATIENCE, "{up} are never up");
        thread::sleep(Duration::from_millis(200));
    }
}

fn begin(skews_ms: Vec<i64>) -> Cluster {
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms,
        settings: vec!["log.level=warn".into()],
        spread: false,
    };
    Cluster::begin(config).expect("three nodes serve")
}

#[test]
fn each_verb_ends_with_its_documented_code() {
    let _alone = ALONE.lock();
    let mut cluster = begin(vec![0; 3]);
    for (at, state) in STATES.into_iter().enumerate() {
        if at > 0 {
            // The last that goes is the one that is asked.
            cluster.kill(&[STATES.len() - 1 - at]).expect("killed");
        }
        if codes_are_answers(at) {
            // Who is only suspected counts as up.
            until_up(&cluster, STATES.len() - 1 - at);
        }
        // A death is noticed, and rows are read for keys with siblings, in some seconds.
        for (verb, codes) in
            TABLE.iter().filter(|(verb, _)| verb.len() == 1 && GROWS.contains(&verb[0]))
        {
            until(&cluster, verb, codes[at]);
        }
        for (verb, codes) in TABLE {
            let out = kv(&cluster, 0, verb);
            assert_eq!(out.status.code(), Some(codes[at]), "{state}: {verb:?} {out:?}");
        }
        if codes_are_answers(at) {
            let status = json(&cluster, 0, &["status"]);
            let health = ["healthy", "degraded", "no-quorum"][at];
            assert_eq!(
                (&status["health"], &status["members"]["up"]),
                (&health.into(), &(3 - at).into())
            );
            let lints = json(&cluster, 0, &["doctor"]);
            assert!(lints["lints"].as_array().is_some_and(|lints| lints.len() > 10), "{lints}");
        }
    }
}

/// Whether anybody is left who says something.
fn codes_are_answers(state: usize) -> bool {
    state + 1 < STATES.len()
}

#[test]
fn a_node_that_needs_an_operator_is_told_by_any_other() {
    let _alone = ALONE.lock();
    let cluster = begin(vec![0, 0, HOUR_MS]);
    until(&cluster, &["status"], DEGRADED);
    until(&cluster, &["doctor"], DEGRADED);
    let status = json(&cluster, 0, &["status"]);
    assert_eq!(status["members"], serde_json::json!({"up": 3, "total": 3}), "{status}");
    let third = cluster.rpc_addresses()[2].to_string();
    let alerts = status["alerts"].to_string();
    assert!(alerts.contains(&format!("kv --connect {third} status")), "{alerts}");
    let itself = json(&cluster, 2, &["status"])["alerts"].to_string();
    assert!(itself.contains("this node's clock is too far from a majority's"), "{itself}");
}
