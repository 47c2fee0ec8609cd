//! Real processes whose links are cut, that are stopped and killed, under load.
//!
//! Five nodes in a network namespace of the test's own, at 127.0.0.1 to .5. Nothing that was
//! acknowledged may be missing; in a sloppy keyspace whoever talks to a node that sees a majority
//! of the nodes is served all the time; a strict one refuses exactly the keys that have too few
//! primaries on a side; and after healing all replicas agree within a minute.
//!
//! Needs root, `unshare` and iptables: else `SKIPPED`, loudly. Two short rounds, or with
//! `KV_TEST_LONG=1` ten long ones, which take some minutes.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_tests::cluster::{Client, Cluster, ClusterConfig, Explained, Links, Network};
use kv_tests::sim::checkers::{Rules, check_all, check_under};
use kv_tests::sim::history::History;
use kv_tests::sim::run::AUDITOR;
use parking_lot::Mutex;

const NODES: usize = 5;
/// How far each node's wall clock is off.
const SKEWS_MS: [i64; NODES] = [0, 1_500, -1_000, 300, 0];
/// A node's deadline for a request, its default: what is in flight at a fault ends by then.
const DEADLINE: Duration = Duration::from_secs(5);
/// All replicas of every key agree so soon after healing.
const CONVERGED: Duration = Duration::from_mins(1);
/// Keys that are compared between their replicas, at most.
const COMPARED_KEYS_MAX: usize = 1_000;
const BATCH: usize = 100;

/// What is done to the cluster for a while.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// These are cut off from the others.
    Split(&'static [usize]),
    /// The second hears nothing from the first.
    OneWay(usize, usize),
    /// Each hears its two neighbours only.
    Ring,
    /// Killed with -9.
    Kill(usize),
    /// Stopped with its sockets open.
    Stop(usize),
}

impl Fault {
    fn begin(self, cluster: &mut Cluster, links: &Links) {
        match self {
            Self::Split(side) => links.split(side),
            Self::OneWay(from, to) => links.cut_one_way(from, to),
            Self::Ring => links.ring(),
            Self::Kill(node) => cluster.kill(&[node]),
            Self::Stop(node) => cluster.pause(node, true),
        }
        .expect("the system obeys");
    }

    fn end(self, cluster: &mut Cluster, links: &Links) {
        match self {
            Self::Kill(node) => cluster.start(node),
            Self::Stop(node) => cluster.pause(node, false),
            Self::Split(_) | Self::OneWay(..) | Self::Ring => links.heal(),
        }
        .expect("the system obeys");
    }

    /// Whether a node sees a majority of all nodes, itself included.
    fn leaves_a_majority_to(self, node: usize) -> bool {
        match self {
            Self::Split(side) => !side.contains(&node),
            Self::OneWay(..) | Self::Ring => true,
            Self::Kill(gone) | Self::Stop(gone) => node != gone,
        }
    }

    fn lasts(self) -> Duration {
        Duration::from_secs(match self {
            _ if !is_long() => 6,
            Self::Stop(_) => 30,
            _ => 12,
        })
    }
}

const SHORT: &[Fault] = &[Fault::Split(&[3, 4]), Fault::Ring];

const LONG: &[Fault] = &[
    Fault::Split(&[3, 4]),
    Fault::Split(&[2]),
    Fault::OneWay(0, 1),
    Fault::Ring,
    Fault::Kill(4),
    Fault::Stop(1),
    Fault::Split(&[0, 2]),
    Fault::OneWay(4, 2),
    Fault::Kill(0),
    Fault::Ring,
];

/// What a client was told instead of an answer, and between which moments it waited.
struct Trouble {
    asked: Instant,
    at: Instant,
    node: usize,
    error: String,
}

/// When a fault began to be made, and when it was made.
type Struck = (Instant, Instant);

/// Who is silent counts as down after a second, and is looked at a few times in each: so long a
/// write may still be forwarded over a link that is cut.
const NOTICED: Duration = Duration::from_millis(1_500);

/// Membership alone, without a request that would wait for it, has found everybody who is silent:
/// each is looked at in turn, suspected, and down a second later.
const SEEN_BY_ALL: Duration = Duration::from_secs(4);

impl Trouble {
    /// Whether nobody can know what became of it: it was on its way to the other side when the
    /// fault was made, or before anybody could have noticed.
    fn was_in_flight(&self, (_, made): Struck) -> bool {
        self.error.contains("INDETERMINATE") && self.asked <= made + NOTICED
    }
}

fn is_long() -> bool {
    std::env::var_os("KV_TEST_LONG").is_some()
}

/// A cluster in a network of this test's own; `None` if the test is over already.
fn in_own_network(test: &str, settings: &[&str]) -> Option<(Cluster, Links)> {
    // Ten nodes at once would starve each other.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    if !Network::is_own(test) {
        return None;
    }
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: SKEWS_MS.to_vec(),
        settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        spread: true,
    };
    Some((Cluster::begin(config).expect("five nodes serve"), Links::whole(NODES)))
}

/// SETs of distinct keys through one node, and now and then a GET, until told to stop.
fn work(
    id: usize,
    node: usize,
    addresses: &[SocketAddr],
    history: &Mutex<History>,
    stop: &AtomicBool,
) -> Vec<Trouble> {
    let mut client = Client::new(id, addresses.to_vec(), history);
    let mut trouble = Vec::new();
    for n in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("d:{id}:{n}");
        let asked = Instant::now();
        client.set(node, &key, &format!("value of {key}"));
        if n % 4 == 0 {
            client.get(node, &format!("d:{id}:{}", n / 2));
        }
        let rest_ms = if client.errors.is_empty() { 2 } else { 50 };
        let at = Instant::now();
        let told = client.errors.drain(..).map(|error| Trouble { asked, at, node, error });
        trouble.extend(told);
        thread::sleep(Duration::from_millis(rest_ms));
    }
    trouble
}

#[test]
fn a_majority_is_served_whatever_is_cut_and_nothing_is_lost() {
    let name = "a_majority_is_served_whatever_is_cut_and_nothing_is_lost";
    let Some((mut cluster, links)) = in_own_network(name, &["log.level=info"]) else { return };
    let history = Mutex::new(History::default());
    let faults = if is_long() { LONG } else { SHORT };
    for (round, fault) in faults.iter().enumerate() {
        let (struck, trouble) = play(&mut cluster, &links, &history, round, *fault);
        let in_flight = |trouble: &&Trouble| trouble.was_in_flight(struck);
        let bad: Vec<String> = trouble
            .iter()
            .filter(|trouble| fault.leaves_a_majority_to(trouble.node) && !in_flight(trouble))
            .map(|Trouble { asked, at, node, error }| {
                let after = |at: &Instant| at.saturating_duration_since(struck.0).as_millis();
                format!("node {node} from {} to {} ms: {error}", after(asked), after(at))
            })
            .collect();
        let shown = bad.get(..bad.len().min(5)).unwrap_or_default();
        assert!(bad.is_empty(), "{fault:?}: {} errors: {shown:?}\n{}", bad.len(), cluster.logs());
        let told = trouble.iter().filter(in_flight).count();
        let elsewhere = trouble.len() - told;
        println!("round {round}, {fault:?}: {told} indeterminate in flight, {elsewhere} elsewhere");
        converge(&cluster, &history, *fault);
    }
    audit(&cluster, &history);
    println!("{} operations", history.lock().ops().len());
}

/// One round: load on every node, a fault in the middle of it. When the fault was made, and what
/// clients met.
fn play(
    cluster: &mut Cluster,
    links: &Links,
    history: &Mutex<History>,
    round: usize,
    fault: Fault,
) -> (Struck, Vec<Trouble>) {
    let addresses = cluster.addresses();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (addresses, stop) = (&addresses, &stop);
        let clients: Vec<_> = (0..NODES)
            .map(|node| {
                let id = round * NODES + node;
                scope.spawn(move || work(id, node, addresses, history, stop))
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        fault.begin(cluster, links);
        let struck = (began, Instant::now());
        thread::sleep(fault.lasts());
        fault.end(cluster, links);
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        let trouble = clients.into_iter().flat_map(|client| client.join().expect("a client ends"));
        (struck, trouble.collect())
    })
}

/// Waits until all replicas of every key that was written have the same versions.
fn converge(cluster: &Cluster, history: &Mutex<History>, fault: Fault) {
    let mut keys: Vec<String> = history.lock().ops().iter().map(|op| op.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    let stride = keys.len().div_ceil(COMPARED_KEYS_MAX).max(1);
    let mut open: Vec<String> = keys.into_iter().step_by(stride).collect();
    let (count, healed) = (open.len(), Instant::now());
    let mut client = Client::new(AUDITOR, cluster.addresses(), history);
    loop {
        open.retain(|key| !Explained::of(&mut client, 0, key).is_some_and(|said| said.agree()));
        if open.is_empty() {
            println!("{count} keys compared, equal {:?} after healing", healed.elapsed());
            return;
        }
        assert!(
            healed.elapsed() < CONVERGED,
            "{fault:?}: {} of {count} keys differ, such as {:?}: {:?}\n{}",
            open.len(),
            open.first(),
            open.first().map(|key| Explained::of(&mut client, 0, key)),
            cluster.logs()
        );
        thread::sleep(Duration::from_millis(500));
    }
}

/// Reads every key through all nodes in turn; nothing acknowledged is missing now, and nothing was
/// ever shown that nobody wrote.
fn audit(cluster: &Cluster, history: &Mutex<History>) {
    let mut keys: Vec<String> = history.lock().ops().iter().map(|op| op.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut auditor = Client::new(AUDITOR, cluster.addresses(), history);
    for (turn, keys) in keys.chunks(BATCH).enumerate() {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        auditor.get_all(turn % cluster.len(), &keys);
    }
    assert!(auditor.errors.is_empty(), "{:?}\n{}", auditor.errors, cluster.logs());
    let history = history.lock();
    let skew_ms = SKEWS_MS.iter().map(|ms| ms.unsigned_abs()).max().unwrap_or(0);
    let rules = Rules { sloppy: true, skew_ms, skew_ms_healed: skew_ms, ..Rules::default() };
    let violations = check_under(history.ops(), &rules);
    // What only fallbacks held when it was read elsewhere: R + W > N promises nothing then.
    let late = check_all(history.ops()).len().saturating_sub(violations.len());
    println!("{late} reads showed less than had been acknowledged before all was healed");
    let shown = violations.get(..violations.len().min(20)).unwrap_or_default();
    assert!(violations.is_empty(), "{} found: {shown:?}\n{}", violations.len(), cluster.logs());
}

#[test]
fn a_strict_keyspace_refuses_exactly_what_it_must() {
    let name = "a_strict_keyspace_refuses_exactly_what_it_must";
    let strict = ["log.level=warn", "keyspace.sloppy=false"];
    let Some((cluster, links)) = in_own_network(name, &strict) else { return };
    let history = Mutex::new(History::default());
    let mut client = Client::new(0, cluster.addresses(), &history);
    let keys: Vec<String> = (0..40).map(|n| format!("d:0:{n}")).collect();
    let places: Vec<Vec<usize>> = keys
        .iter()
        .map(|key| {
            assert!(client.set(0, key, "whole"), "{:?}", client.errors);
            let said = Explained::of(&mut client, 0, key).expect("KV.EXPLAIN answers");
            said.primaries(&mut client)
        })
        .collect();
    links.split(&[3, 4]).expect("the packet filter obeys");
    let cut = Instant::now();
    let at_once = ask_both_sides(&cluster, &history, &keys, &places);
    thread::sleep(SEEN_BY_ALL.saturating_sub(cut.elapsed()));
    let known = ask_both_sides(&cluster, &history, &keys, &places);
    for Asked { key, node, enough, took, set, get } in at_once.iter().chain(&known) {
        assert!(*took < DEADLINE + SLACK, "{key} through node {node}: {took:?}");
        assert_eq!(get.is_none(), *enough, "{key}: {get:?}");
        assert!(*enough || set.is_some(), "{key} is on too few");
    }
    // Before anybody noticed the cut a write was forwarded over it: nobody knows what became of it.
    let unknown =
        at_once.iter().filter(|asked| asked.enough).filter_map(|asked| asked.set.as_ref());
    let unknown: Vec<&String> = unknown.collect();
    assert!(unknown.iter().all(|code| *code == "INDETERMINATE"), "{unknown:?}");
    println!("{} writes were forwarded over the cut before it was noticed", unknown.len());
    for Asked { key, enough, set, .. } in &known {
        assert_eq!(set.is_none(), *enough, "{key}: {set:?}");
    }
    let refused: Vec<&Asked> = known.iter().filter(|asked| !asked.enough).collect();
    for Asked { key, set, get, .. } in &refused {
        let codes = (set.as_deref(), get.as_deref());
        assert_eq!(codes, (Some("NOREPLICAS"), Some("UNAVAILABLE")), "{key}");
    }
    println!("{} of {} pairs of a key and a side were refused", refused.len(), known.len());
    assert!(!refused.is_empty() && refused.len() < known.len(), "the cut divides the keys");
    links.heal().expect("the packet filter obeys");
}

/// A busy machine takes so much longer than a deadline to tell of it.
const SLACK: Duration = Duration::from_secs(1);

/// What came of a SET and a GET of a key through a node of one side.
struct Asked {
    key: String,
    node: usize,
    /// Whether enough primaries of the key are on this side.
    enough: bool,
    /// The longer of the two.
    took: Duration,
    /// The code of the error, if there was one.
    set: Option<String>,
    get: Option<String>,
}

/// Asks for each key on both sides of a cut of nodes 3 and 4, all at once.
fn ask_both_sides(
    cluster: &Cluster,
    history: &Mutex<History>,
    keys: &[String],
    places: &[Vec<usize>],
) -> Vec<Asked> {
    let addresses = &cluster.addresses();
    thread::scope(|scope| {
        let mut asking = Vec::new();
        for (key, primaries) in keys.iter().zip(places) {
            for (node, side) in [(0, 0..3), (4, 3..5)] {
                let enough = primaries.iter().filter(|place| side.contains(*place)).count() >= 2;
                asking.push(scope.spawn(move || {
                    let mut client = Client::new(node, addresses.clone(), history);
                    let (set_took, set) =
                        timed(|| client.ask::<String>(node, redis::cmd("SET").arg(key).arg("cut")));
                    let (get_took, get) =
                        timed(|| client.ask::<Option<String>>(node, redis::cmd("GET").arg(key)));
                    let (key, took) = (key.clone(), set_took.max(get_took));
                    Asked { key, node, enough, took, set, get }
                }));
            }
        }
        asking.into_iter().map(|asked| asked.join().expect("a client ends")).collect()
    })
}

/// How long it took, and the code of its error.
fn timed<T>(ask: impl FnOnce() -> redis::RedisResult<T>) -> (Duration, Option<String>) {
    let asked = Instant::now();
    let answer = ask();
    let code = |error: redis::RedisError| error.code().unwrap_or("no answer").to_owned();
    (asked.elapsed(), answer.err().map(code))
}
