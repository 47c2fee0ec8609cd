//! Real processes that missed writes while they were dead: hints bring them all of it, and so does
//! anti-entropy where there are no hints; what is equal costs next to nothing to compare.
//!
//! `KV_TEST_LONG=1` leaves the node dead for a minute and compares 100,000 keys; else it is five
//! seconds and 5,000 keys. What was seen is printed as `figure: ...`.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_client::wire::{AaePeer, AaeView, RepairOut};
use kv_client::{Admin, Config};
use kv_tests::cluster::{Client, Cluster, ClusterConfig, StopAtEnd, load, shows};
use kv_tests::sim::history::History;
use parking_lot::Mutex;

/// The node that dies.
const DEAD: usize = 2;
/// As by default in production; the other tests have fewer.
const PARTITIONS: u16 = 1_024;
/// Replicas without hints are equal so soon after the dead one is back.
const EQUAL_WITHIN: Duration = Duration::from_mins(2);
/// Hints are gone so soon.
const DRAINED_WITHIN: Duration = Duration::from_mins(1);
/// Bytes of an exchange of two nodes that are equal, and of one that mends one key.
const EQUAL_BYTES_MAX: u64 = 1_024;
const ONE_KEY_BYTES_MAX: u64 = 16 * 1_024;
/// Rows that may be read, on both sides together, to find one key: those of its leaf.
const ONE_KEY_ROWS_MAX: u64 = 64;
const POLL: Duration = Duration::from_millis(100);

fn is_long() -> bool {
    std::env::var_os("KV_TEST_LONG").is_some()
}

fn cluster(settings: &[&str]) -> Cluster {
    let partitions = format!("cluster.partitions={PARTITIONS}");
    let all = ["log.level=warn", &partitions].into_iter().chain(settings.iter().copied());
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 400, -300],
        settings: all.map(str::to_owned).collect(),
        spread: false,
    };
    Cluster::begin(config).expect("three nodes serve")
}

/// An operator's view of single nodes.
struct Operator {
    runtime: tokio::runtime::Runtime,
    addresses: Vec<SocketAddr>,
}

impl Operator {
    fn of(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("there is room for a runtime");
        Self { runtime, addresses: cluster.rpc_addresses() }
    }

    fn admin(&self, node: usize) -> Admin {
        let config = Config { deadline_ms: 30_000, ..Config::default() };
        let address = self.addresses.get(node).expect("there is such a node").to_string();
        let connected = self.runtime.block_on(Admin::connect(&[address], config));
        connected.expect("it can be connected to")
    }

    fn aae(&self, admin: &Admin) -> AaeView {
        self.runtime.block_on(admin.aae()).expect("it says how its exchanges go")
    }

    /// Compares all replicas of all partitions now: what `kv repair` does.
    fn compare_everything(&self, admin: &Admin) -> RepairOut {
        let mut sum = RepairOut::default();
        for partition in 0..PARTITIONS {
            let one = self.runtime.block_on(admin.repair(partition, None));
            let one = one.expect("all replicas are up");
            sum.leaves += one.leaves;
            sum.found += one.found;
            sum.mended += one.mended;
            sum.bytes += one.bytes;
        }
        sum
    }
}

fn sum(cluster: &Cluster, nodes: &[usize], name: &str) -> u64 {
    nodes.iter().map(|node| cluster.metrics(*node).expect("it is scraped").sum(name)).sum()
}

/// Writes distinct keys through one node until told to stop: how many were acknowledged, and what
/// went wrong.
fn write(
    id: usize,
    node: usize,
    addresses: &[SocketAddr],
    stop: &AtomicBool,
) -> (usize, Vec<String>) {
    let history = Mutex::new(History::default());
    let mut client = Client::new(id, addresses.to_vec(), &history);
    let mut acknowledged = 0;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Half of them overwrite: hints of one key are one hint.
        let key = format!("h:{id}:{}", n / 2);
        acknowledged += usize::from(client.set(node, &key, &format!("value {n}")));
    }
    (acknowledged, client.errors)
}

/// Waits until nobody keeps a hint.
fn no_hints(cluster: &Cluster) {
    let began = Instant::now();
    while sum(cluster, &[0, 1], "kv_hint_queued_keys") > 0 {
        assert!(began.elapsed() < DRAINED_WITHIN, "hints stay\n{}", cluster.logs());
        thread::sleep(POLL);
    }
}

#[test]
fn who_was_dead_under_load_gets_its_hints_and_nothing_is_left_to_find() {
    let away = Duration::from_secs(if is_long() { 60 } else { 5 });
    // Nothing but hints may bring it what it missed.
    let mut cluster = cluster(&["aae.runs=false"]);
    let addresses = cluster.addresses();
    let stop = AtomicBool::new(false);
    let (waiting, drained, writers) = thread::scope(|scope| {
        let _stops = StopAtEnd(&stop);
        let writers: Vec<_> = (0..4)
            .map(|id| {
                let (addresses, stop) = (&addresses, &stop);
                scope.spawn(move || write(id, id % DEAD, addresses, stop))
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        cluster.kill(&[DEAD]).expect("it ran");
        thread::sleep(away);
        let waiting = sum(&cluster, &[0, 1], "kv_hint_queued_keys");
        cluster.start(DEAD).expect("it starts again");
        cluster.ready().expect("it serves again");
        let back = Instant::now();
        // The load goes on meanwhile.
        no_hints(&cluster);
        let drained = back.elapsed();
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        let writers: Vec<_> =
            writers.into_iter().map(|writer| writer.join().expect("a client ends")).collect();
        (waiting, drained, writers)
    });
    // What was on its way when the load ended arrives, or is hinted and then arrives.
    thread::sleep(Duration::from_secs(1));
    no_hints(&cluster);
    let acknowledged: usize = writers.iter().map(|(acknowledged, _)| acknowledged).sum();
    let told = |name: &str| sum(&cluster, &[0, 1], name);
    println!(
        "figure: one of three dead for {} s under load: {acknowledged} writes acknowledged, \
         {waiting} keys hinted when it came back, drained {} ms after it served; {} hints written, \
         {} delivered, {} refused, {} dropped",
        away.as_secs(),
        drained.as_millis(),
        told("kv_hints_written_total"),
        told("kv_hints_delivered_total"),
        told("kv_hints_refused_total"),
        told("kv_hints_dropped_total"),
    );
    for (_, errors) in &writers {
        assert!(errors.is_empty(), "{errors:?}\n{}", cluster.logs());
    }
    assert!(waiting > 100, "no load: {waiting}");
    assert!(told("kv_hints_delivered_total") >= waiting, "they went, and were not dropped");
    assert_eq!((told("kv_hints_refused_total"), told("kv_hints_dropped_total")), (0, 0));
    assert_eq!(sum(&cluster, &[0, 1, DEAD], "kv_aae_exchanges_total"), 0, "anti-entropy is off");

    let operator = Operator::of(&cluster);
    while sum(&cluster, &[0, 1, DEAD], "kv_aae_trees_building") > 0 {
        thread::sleep(POLL);
    }
    let compared = operator.compare_everything(&operator.admin(0));
    println!("figure: an exchange of everything right after it: {compared:?}");
    assert_eq!((compared.found, compared.leaves), (0, 0), "{}", cluster.logs());
}

/// Waits until the exchanges of a node with each of its peers find nothing more: how long it took
/// until the last thing was found, seen from now.
fn equal(cluster: &Cluster, operator: &Operator, admin: &Admin) -> (Duration, AaeView) {
    let began = Instant::now();
    let (mut changed, mut last) = (Duration::ZERO, AaeView::default());
    let mut since: Vec<u64> = Vec::new();
    loop {
        let view = operator.aae(admin);
        let found = |view: &AaeView| view.peers.iter().map(|peer| peer.found).collect::<Vec<_>>();
        let exchanges: Vec<u64> = view.peers.iter().map(|peer| peer.exchanges).collect();
        if found(&view) != found(&last) || since.len() != exchanges.len() {
            changed = began.elapsed();
            since = exchanges;
        } else if view.trees_building == 0
            && exchanges.iter().zip(&since).all(|(now, then)| *now >= then + 2)
        {
            return (changed, view);
        }
        last = view;
        assert!(began.elapsed() < 2 * EQUAL_WITHIN, "{last:?}\n{}", cluster.logs());
        thread::sleep(POLL);
    }
}

/// The pairs that a node begins, by peer.
fn begun(views: &[AaeView]) -> Vec<(usize, AaePeer)> {
    let of = |(node, view): (usize, &AaeView)| {
        let own = view.peers.iter().filter(|peer| peer.begins).cloned();
        own.map(move |peer| (node, peer)).collect::<Vec<_>>()
    };
    views.iter().enumerate().flat_map(of).collect()
}

#[test]
fn without_hints_anti_entropy_makes_replicas_equal_and_equal_ones_cost_nothing() {
    let keys = if is_long() { 100_000 } else { 5_000 };
    // Strict: nobody stands in for the dead one, so there are no hints.
    let mut cluster = cluster(&["keyspace.sloppy=false"]);
    let history = Mutex::new(History::default());
    let mut client = Client::new(0, cluster.addresses(), &history);
    cluster.kill(&[DEAD]).expect("it ran");
    let up = cluster.addresses();
    load(up.get(..DEAD).expect("three nodes"), keys).expect("two of three are enough");
    cluster.start(DEAD).expect("it starts again");
    cluster.ready().expect("it serves again");
    let operator = Operator::of(&cluster);
    let (took, view) = equal(&cluster, &operator, &operator.admin(DEAD));
    let (found, bytes) = totals(&view);
    println!(
        "figure: without hints, a node that missed {keys} keys was equal {:.1} s after it served: \
         {found} differences found in its exchanges, {bytes} bytes, {} rows listed by all",
        took.as_secs_f64(),
        sum(&cluster, &[0, 1, DEAD], "kv_aae_rows_listed_total"),
    );
    assert!(took <= EQUAL_WITHIN, "{took:?}");
    assert!(found >= keys as u64, "each key was missing there: {found}");
    assert_eq!(sum(&cluster, &[0, 1, DEAD], "kv_hints_written_total"), 0);
    let compared = operator.compare_everything(&operator.admin(0));
    assert_eq!((compared.found, compared.leaves), (0, 0), "{compared:?}");
    for key in (0..keys).step_by(keys / 1_000) {
        let key = format!("k:{key}");
        let mut command = redis::cmd("KV.GET");
        let answer: redis::Value =
            client.ask(DEAD, command.arg(&key).arg("R").arg(1)).expect("it serves");
        assert!(shows(&answer, format!("value of {key}").as_bytes()), "{key}: {answer:?}");
    }
    equal_pairs_cost_little(&cluster, &operator, keys);
    one_key_is_found_for_little(&mut cluster, &operator, &mut client, keys);
}

fn totals(view: &AaeView) -> (u64, u64) {
    let peers = view.peers.iter();
    peers.fold((0, 0), |(found, bytes), peer| (found + peer.found, bytes + peer.bytes))
}

/// Watches the exchanges of all pairs for a while in which nothing happens.
fn equal_pairs_cost_little(cluster: &Cluster, operator: &Operator, keys: usize) {
    let admins: Vec<Admin> = (0..cluster.len()).map(|node| operator.admin(node)).collect();
    let look = || begun(&admins.iter().map(|admin| operator.aae(admin)).collect::<Vec<_>>());
    let read = || {
        let all = [0, 1, DEAD];
        (
            sum(cluster, &all, "kv_aae_rows_listed_total"),
            sum(cluster, &all, "kv_replica_reads_total"),
        )
    };
    let (before, rows_before) = (look(), read());
    let mut most = 0;
    let began = Instant::now();
    let after = loop {
        let now = look();
        most = most.max(now.iter().map(|(_, peer)| peer.last_bytes).max().unwrap_or_default());
        let enough = |(was, is): (&(usize, AaePeer), &(usize, AaePeer))| {
            is.1.exchanges >= was.1.exchanges + 3
        };
        if now.len() == before.len() && before.iter().zip(&now).all(enough) {
            break now;
        }
        assert!(began.elapsed() < EQUAL_WITHIN, "{now:?}");
        thread::sleep(POLL);
    };
    let rows_after = read();
    let exchanges: u64 =
        before.iter().zip(&after).map(|(was, is)| is.1.exchanges - was.1.exchanges).sum();
    println!(
        "figure: {exchanges} exchanges of {} pairs of nodes with {keys} equal keys: {most} bytes \
         at most each, {} rows listed and {} records read",
        before.len(),
        rows_after.0 - rows_before.0,
        rows_after.1 - rows_before.1,
    );
    assert_eq!(before.len(), 3, "each pair is begun by one of the two");
    assert!((1..=EQUAL_BYTES_MAX).contains(&most), "{most}");
    assert_eq!(rows_after, rows_before, "nothing is read for what is equal");
}

/// One key is written while a node is dead: what the exchange costs that finds it.
fn one_key_is_found_for_little(
    cluster: &mut Cluster,
    operator: &Operator,
    client: &mut Client<'_>,
    keys: usize,
) {
    for try_number in 0..5 {
        cluster.kill(&[DEAD]).expect("it ran");
        let key = format!("one:{try_number}");
        let told: String = client.ask(0, redis::cmd("SET").arg(&key).arg("x")).expect("W is 2");
        assert_eq!(told, "OK");
        let listed = sum(cluster, &[0, 1], "kv_aae_rows_listed_total");
        cluster.start(DEAD).expect("it starts again");
        cluster.ready().expect("it serves again");
        let Some(mended) = watch_one(cluster, operator) else {
            println!("it was found while the trees were being built: once more");
            continue;
        };
        let rows = sum(cluster, &[0, 1, DEAD], "kv_aae_rows_listed_total") - listed;
        println!(
            "figure: one differing key of {keys} was found and mended with {} bytes, {rows} rows \
             listed by both sides",
            mended.last_bytes
        );
        assert!(mended.last_bytes <= ONE_KEY_BYTES_MAX, "{mended:?}");
        assert!(rows <= ONE_KEY_ROWS_MAX, "{rows}");
        return;
    }
    panic!("five times it was found before the trees were built\n{}", cluster.logs());
}

/// The pair that found the one difference; `None` if a tree was still missing then, or if more
/// than one exchange ended between two looks.
fn watch_one(cluster: &Cluster, operator: &Operator) -> Option<AaePeer> {
    let admins: Vec<Admin> = (0..cluster.len()).map(|node| operator.admin(node)).collect();
    let began = Instant::now();
    let mut before: Vec<AaeView> = admins.iter().map(|admin| operator.aae(admin)).collect();
    loop {
        thread::sleep(POLL / 4);
        let now: Vec<AaeView> = admins.iter().map(|admin| operator.aae(admin)).collect();
        let earlier = begun(&before);
        for (node, is) in begun(&now) {
            let was = earlier.iter().find(|(begins, was)| (*begins, was.node) == (node, is.node));
            if let Some((_, was)) = was
                && is.found > was.found
            {
                let whole = before.iter().all(|view| view.trees_building == 0);
                let alone = is.exchanges == was.exchanges + 1 && is.failure.is_empty();
                return (whole && alone).then_some(is);
            }
        }
        assert!(began.elapsed() < EQUAL_WITHIN, "{now:?}\n{}", cluster.logs());
        before = now;
    }
}
