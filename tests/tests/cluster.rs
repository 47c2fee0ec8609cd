//! Real processes, killed with -9 under load: nothing that was acknowledged may be missing.
//!
//! `KV_TEST_LONG=1` runs ten rounds of killing everything instead of two.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_tests::cluster::{Client, Cluster, ClusterConfig, shows};
use kv_tests::sim::checkers::check_all;
use kv_tests::sim::history::{Action, History};
use kv_tests::sim::run::AUDITOR;
use parking_lot::Mutex;

/// The design's bound on a pause. A machine that also builds and tests other things stalls a
/// process for longer, so the bound is looked at in the long tests.
fn pause_ms_max() -> u128 {
    if std::env::var_os("KV_TEST_LONG").is_some() { 300 } else { 1_000 }
}
const BATCH: usize = 100;

fn cluster() -> Cluster {
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 3_000, -2_500],
        settings: vec!["log.level=warn".into()],
        spread: false,
    };
    Cluster::begin(config).expect("three nodes serve")
}

/// Ends the clients also when the test fails meanwhile.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn distinct(keys: &Mutex<History>) -> Vec<String> {
    let keys: BTreeSet<String> = keys.lock().ops().iter().map(|op| op.key.clone()).collect();
    keys.into_iter().collect()
}

/// Reads every key that anybody touched, through all nodes in turn, at R=2.
fn audit(cluster: &Cluster, history: &Mutex<History>) {
    let mut auditor = Client::new(AUDITOR, cluster.addresses(), history);
    for (turn, keys) in distinct(history).chunks(BATCH).enumerate() {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        auditor.get_all(turn % cluster.len(), &keys);
    }
    assert!(auditor.errors.is_empty(), "{:?}\n{}", auditor.errors, cluster.logs());
}

fn sound(history: &Mutex<History>, cluster: &Cluster) {
    let violations = check_all(history.lock().ops());
    let shown = violations.get(..violations.len().min(20)).unwrap_or_default();
    assert!(violations.is_empty(), "{} found: {shown:?}\n{}", violations.len(), cluster.logs());
}

/// Writes distinct keys through one node until told to stop, or until the node is gone if it may
/// go. The slowest answer and what went wrong.
fn write_distinct(
    id: usize,
    node: usize,
    addresses: &[SocketAddr],
    history: &Mutex<History>,
    stop: &AtomicBool,
) -> (Duration, Vec<String>) {
    let mut client = Client::new(id, addresses.to_vec(), history);
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) && client.errors.is_empty() {
        let key = format!("d:{id}:{n}");
        client.set(node, &key, &format!("value of {key}"));
        n += 1;
    }
    (client.slowest, client.errors)
}

/// SETs to one key one after the other and reads it, each through another node.
fn write_in_order(addresses: &[SocketAddr], history: &Mutex<History>, stop: &AtomicBool) {
    let mut client = Client::new(90, addresses.to_vec(), history);
    for n in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        client.set(n * 7 % 5 % addresses.len(), "s:ordered", &format!("{n}"));
        client.get(n * 5 % 7 % addresses.len(), "s:ordered");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Overwrites keys through the node that comes and goes and then through the others; those must not
/// refuse, however far ahead the first had to begin after its restart.
fn overwrite_in_turn(
    id: usize,
    addresses: &[SocketAddr],
    history: &Mutex<History>,
    stop: &AtomicBool,
) -> (Duration, Vec<String>) {
    let mut through_restarting = Client::new(id, addresses.to_vec(), history);
    let mut through_others = Client::new(id + 1, addresses.to_vec(), history);
    for n in 0_usize.. {
        if stop.load(Ordering::Relaxed) || !through_others.errors.is_empty() {
            break;
        }
        let key = format!("o:{id}:{}", n % 50);
        through_restarting.set(2, &key, &format!("{n} of the first"));
        through_others.set(n % 2, &key, &format!("{n} of the second"));
    }
    (through_others.slowest, through_others.errors)
}

#[test]
fn a_node_that_restarts_three_times_makes_nobody_refuse() {
    let mut cluster = cluster();
    let addresses = cluster.addresses();
    let history = Mutex::new(History::default());
    let stop = AtomicBool::new(false);
    let ends = thread::scope(|scope| {
        let (addresses, history, stop) = (&addresses, &history, &stop);
        let _stops = StopAtEnd(stop);
        let clients: Vec<_> = [0, 10, 20, 30]
            .into_iter()
            .map(|id| scope.spawn(move || overwrite_in_turn(id, addresses, history, stop)))
            .collect();
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(700));
            cluster.kill(&[2]).expect("it ran");
            cluster.start(2).expect("it starts again");
            cluster.ready().expect("it serves again");
        }
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("it ends")).collect::<Vec<_>>()
    });
    for (slowest, errors) in &ends {
        println!("the others answered within {slowest:?}, errors: {errors:?}");
        assert!(errors.is_empty(), "{errors:?}\n{}", cluster.logs());
        assert!(slowest.as_millis() <= pause_ms_max(), "{slowest:?}");
    }
    let written = history.lock().ops().len();
    assert!(written > 400, "no load: {written}");
    audit(&cluster, &history);
    sound(&history, &cluster);
}

#[test]
fn one_node_killed_loses_nothing_and_nobody_else_notices() {
    let mut cluster = cluster();
    let addresses = cluster.addresses();
    let history = Mutex::new(History::default());
    let stop = AtomicBool::new(false);
    let (down_from, down_to, pauses) = thread::scope(|scope| {
        let (addresses, history, stop) = (&addresses, &history, &stop);
        let _stops = StopAtEnd(stop);
        let others: Vec<_> = [0, 1, 0, 1]
            .into_iter()
            .enumerate()
            .map(|(id, node)| {
                scope.spawn(move || write_distinct(id, node, addresses, history, stop))
            })
            .collect();
        // Its client sees it go; what it was told before that must hold all the same.
        scope.spawn(move || write_distinct(10, 2, addresses, history, stop));
        scope.spawn(move || write_in_order(addresses, history, stop));
        thread::sleep(Duration::from_millis(1_500));
        cluster.kill(&[2]).expect("it ran");
        let down_from = history.lock().ops().len();
        thread::sleep(Duration::from_millis(2_500));
        let down_to = history.lock().ops().len();
        cluster.start(2).expect("it starts again");
        cluster.ready().expect("it serves again");
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        let pauses: Vec<_> =
            others.into_iter().map(|other| other.join().expect("a client ends")).collect();
        (down_from, down_to, pauses)
    });
    for (slowest, errors) in &pauses {
        println!("a client of the other nodes waited {slowest:?} at most, errors: {errors:?}");
        assert!(errors.is_empty(), "{errors:?}\n{}", cluster.logs());
        assert!(slowest.as_millis() <= pause_ms_max(), "{slowest:?}");
    }
    mended(&cluster, &history, down_from..down_to);
    audit(&cluster, &history);
    println!("{} operations", history.lock().ops().len());
    sound(&history, &cluster);
}

/// What the killed node missed is on it once it was read through it.
fn mended(cluster: &Cluster, history: &Mutex<History>, missed: std::ops::Range<usize>) {
    let pairs: Vec<(String, String)> = history
        .lock()
        .ops()
        .get(missed)
        .unwrap_or_default()
        .iter()
        .filter(|op| op.is_acknowledged() && op.key.starts_with("d:"))
        .filter_map(|op| match &op.action {
            Action::Set(value) => Some((op.key.clone(), value.clone())),
            _ => None,
        })
        .take(200)
        .collect();
    assert!(pairs.len() == 200, "only {} writes while it was down", pairs.len());
    let mut client = Client::new(AUDITOR, cluster.addresses(), history);
    let mut has = |key: &str, value: &str| {
        let mut command = redis::cmd("KV.GET");
        let answer: redis::Value =
            client.ask(2, command.arg(key).arg("R").arg(1)).expect("it serves");
        shows(&answer, value.as_bytes())
    };
    let before = pairs.iter().filter(|(key, value)| has(key, value)).count();
    let mut reader = Client::new(AUDITOR, cluster.addresses(), history);
    for (key, value) in &pairs {
        assert_eq!(reader.get(2, key).as_ref(), Some(value));
    }
    let after = pairs.iter().filter(|(key, value)| has(key, value)).count();
    let all = pairs.len();
    println!("of {all} pairs that it missed it had {before} before they were read, {after} after");
    assert_eq!(after, all, "a read through the node mends what it shows");
}

#[test]
fn all_nodes_killed_at_once_lose_nothing() {
    let long = std::env::var_os("KV_TEST_LONG").is_some();
    let mut cluster = cluster();
    let addresses = cluster.addresses();
    let history = Mutex::new(History::default());
    for round in 0..if long { 10 } else { 2 } {
        let stop = AtomicBool::new(false);
        let began = history.lock().ops().len();
        thread::scope(|scope| {
            let _stops = StopAtEnd(&stop);
            for client in 0..6 {
                let (addresses, history, stop) = (&addresses, &history, &stop);
                let id = round * 10 + client;
                scope.spawn(move || write_distinct(id, client % 3, addresses, history, stop));
            }
            thread::sleep(Duration::from_secs(1));
            cluster.kill(&[0, 1, 2]).expect("they ran");
            stop.store(true, Ordering::Relaxed);
        });
        let restarted = Instant::now();
        for node in 0..cluster.len() {
            cluster.start(node).expect("it starts again");
        }
        cluster.ready().expect("they serve again");
        let written = history.lock().ops().len() - began;
        println!("round {round}: {written} writes, back after {:?}", restarted.elapsed());
        assert!(written > 100, "no load: {written}");
        audit(&cluster, &history);
    }
    sound(&history, &cluster);
}

/// Reads through nodes 0 and 1 by several clients for a while: what 99 of 100 took at most.
fn p99_of_reads(cluster: &Cluster, keys: usize, long: Duration) -> Duration {
    let ports = cluster.addresses();
    let took: Vec<Vec<Duration>> = thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|id| {
                let ports = ports.clone();
                scope.spawn(move || {
                    let history = Mutex::new(History::default());
                    let mut client = Client::new(id, ports, &history);
                    let (began, mut took) = (Instant::now(), Vec::new());
                    while began.elapsed() < long {
                        let key = format!("r:{}", (took.len() * 31 + id * 7) % keys);
                        let asked = Instant::now();
                        let found = client.get(id % 2, &key);
                        took.push(asked.elapsed());
                        assert_eq!(found.as_deref(), Some("value"), "{:?}", client.errors);
                    }
                    took
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("it read")).collect()
    });
    let mut took = took.concat();
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

#[test]
fn a_stopped_replica_is_hardly_noticed_by_reads_through_the_others() {
    if std::env::var_os("KV_TEST_LONG").is_none() {
        println!("SKIPPED: KV_TEST_LONG is not set");
        return;
    }
    let cluster = cluster();
    let history = Mutex::new(History::default());
    let mut writer = Client::new(0, cluster.addresses(), &history);
    let keys = 200;
    for key in 0..keys {
        assert!(writer.set(0, &format!("r:{key}"), "value"), "{:?}", writer.errors);
    }
    let normal = p99_of_reads(&cluster, keys, Duration::from_secs(5));
    cluster.pause(2, true).expect("it runs");
    let stopped = p99_of_reads(&cluster, keys, Duration::from_secs(5));
    cluster.pause(2, false).expect("it is there");
    println!("p99 of reads: {normal:?}, with a replica stopped {stopped:?}");
    assert!(stopped < normal * 3, "{normal:?} {stopped:?}");
}

/// The page is read by a strict reader of the format, and says what the registry says: no figure
/// more, none less, each with its kind and help.
#[test]
fn the_metrics_page_is_what_the_registry_says_and_shows_what_happened() {
    let cluster = cluster();
    let history = Mutex::new(History::default());
    let mut client = Client::new(0, cluster.addresses(), &history);
    for key in 0..200 {
        assert!(client.set(0, &format!("m:{key}"), "value"), "{:?}", client.errors);
        assert_eq!(client.get(0, &format!("m:{key}")).as_deref(), Some("value"));
    }
    let mut raw = redis::Client::open(format!("redis://{}", cluster.addresses()[0]))
        .and_then(|client| client.get_connection())
        .expect("it is served");
    let refused = redis::cmd("NOSUCHCOMMAND").query::<redis::Value>(&mut raw);
    assert!(refused.is_err());

    let page = cluster.metrics(0).expect("it is a sound page");
    let shown: BTreeSet<(&str, &str, String)> = page
        .families()
        .iter()
        .map(|of| (of.name.as_str(), of.help.as_str(), of.kind.clone()))
        .collect();
    let registered: BTreeSet<(&str, &str, String)> = kv_node::metrics::all()
        .into_iter()
        .map(|of| (of.name, of.about.trim(), format!("{:?}", of.kind).to_lowercase()))
        .collect();
    let apart: Vec<_> = shown.symmetric_difference(&registered).collect();
    assert!(apart.is_empty(), "on the page or in the registry only: {apart:?}");
    assert_eq!(page.families().len(), registered.len(), "each stands there once");

    let of = |name: &str, label: &str, value: &str| {
        let samples = page.values(name).iter();
        let has = |sample: &&kv_tests::cluster::Sample| {
            sample.labels.get(label).is_some_and(|is| is == value)
        };
        samples.filter(has).map(|sample| (sample.name.as_str(), sample.value)).collect::<Vec<_>>()
    };
    for op in ["read", "write"] {
        let steps = of("kv_request_seconds", "op", op);
        let count = steps.iter().find(|(name, _)| *name == "kv_request_seconds_count");
        assert!(count.is_some_and(|(_, count)| *count >= 200.0), "{op}: {steps:?}");
        let sum = steps.iter().find(|(name, _)| *name == "kv_request_seconds_sum");
        assert!(sum.is_some_and(|(_, sum)| (0.001..600.0).contains(sum)), "{op}: {steps:?}");
    }
    assert_eq!(of("kv_errors_total", "code", "ERR"), [("kv_errors_total", 1.0)]);
    assert_eq!(of("kv_errors_total", "code", "BUSY"), [("kv_errors_total", 0.0)]);
    assert_eq!([page.sum("kv_member_up"), page.sum("kv_members"), page.sum("kv_ready")], [3, 3, 1]);
    assert_eq!(page.values("kv_peer_phi").len(), 2, "one for each peer");
    assert_eq!(page.sum("kv_series_left_out"), 0);
    assert!(page.sum("kv_clients") >= 1 && page.sum("kv_engine_log_syncs_total") > 0);
    let synced = page.values("kv_engine_log_sync_seconds_total").first().expect("it is known");
    assert!((1e-6..600.0).contains(&synced.value), "{synced:?}");
    for family in page.families() {
        for sample in &family.samples {
            let has = |label: &str| sample.labels.get(label).is_some_and(|is| !is.is_empty());
            assert!(has("cluster") && has("node"), "{sample:?}");
            assert!(sample.labels.len() <= 4, "{sample:?}");
        }
    }
}
