//! Real processes whose ring changes under load: two nodes join, two leave, one is killed for good
//! and replaced. Nothing that was acknowledged is lost, and in the end the planned nodes hold equal
//! copies of everything.
//!
//! `KV_TEST_LONG=1` loads 200,000 keys into 1,024 partitions; else it is 4,000 keys and 64
//! partitions. What was seen is printed as `figure: ...`.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_client::{Admin, NodeId};
use kv_tests::cluster::{
    Client, Cluster, ClusterConfig, Operator, StopAtEnd, joins, leaves, load, loaded, shows, wrong,
};
use kv_tests::sim::history::History;
use parking_lot::{Mutex, RwLock};

const WRITERS: usize = 6;
/// While data moves, the 99th percentile may be so many times that of before, and so much more.
const P99_TIMES: u32 = 3;
const P99_SLACK: Duration = Duration::from_millis(20);

fn is_long() -> bool {
    std::env::var_os("KV_TEST_LONG").is_some()
}

/// What goes on, by number. Five nodes share the machine that three had: what that alone costs
/// shows when they are quiet.
const PHASES: [&str; 6] =
    ["quiet", "two join", "quiet, five", "two leave", "one is killed", "replaced"];
/// While these go on, data moves.
const MOVES: [usize; 3] = [1, 3, 5];
const KILLED: usize = 4;

/// What writers share.
struct Shared {
    stop: AtomicBool,
    phase: AtomicUsize,
    /// Nodes that clients may use.
    open: RwLock<Vec<SocketAddr>>,
}

/// What one writer saw.
#[derive(Default)]
struct Wrote {
    /// Numbers of its keys that were acknowledged.
    acknowledged: Vec<usize>,
    /// Each answer's time, with the phase.
    times: Vec<(usize, Duration)>,
    errors: Vec<(usize, String)>,
}

/// Writes a new key and reads an old one, in turn, through all nodes in turn.
fn write(id: usize, shared: &Shared) -> Wrote {
    let history = Mutex::new(History::default());
    let mut wrote = Wrote::default();
    let mut clients: Vec<(SocketAddr, Client<'_>)> = Vec::new();
    for n in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let address = {
            let open = shared.open.read();
            clients.retain(|(address, _)| open.contains(address));
            *open.get((n + id) % open.len()).expect("some node is open")
        };
        if !clients.iter().any(|(at, _)| *at == address) {
            clients.push((address, Client::new(id, vec![address], &history)));
        }
        let client = clients.iter_mut().find(|(at, _)| *at == address).expect("it was made");
        let phase = shared.phase.load(Ordering::Relaxed);
        let key = format!("w:{id}:{n}");
        let asked = Instant::now();
        match client.1.ask::<String>(0, redis::cmd("SET").arg(&key).arg(&key)) {
            Ok(_) => wrote.acknowledged.push(n),
            Err(error) => wrote.errors.push((phase, error.to_string())),
        }
        wrote.times.push((phase, asked.elapsed()));
        let Some(old) = wrote.acknowledged.get(n / 3) else { continue };
        let key = format!("w:{id}:{old}");
        match client.1.ask::<Option<String>>(0, redis::cmd("GET").arg(&key)) {
            Ok(value) => assert_eq!(value.as_ref(), Some(&key), "it was acknowledged"),
            Err(error) => wrote.errors.push((phase, error.to_string())),
        }
    }
    wrote
}

fn percentile(times: &[(usize, Duration)], phase: usize) -> (usize, Duration, Duration) {
    let mut of: Vec<Duration> =
        times.iter().filter(|time| time.0 == phase).map(|time| time.1).collect();
    of.sort_unstable();
    let at = |part: usize| of.get(of.len() * part / 100).copied().unwrap_or_default();
    (of.len(), at(50), at(99))
}

/// Each partition's owners are the planned nodes, as many of them as there are copies.
fn held_as_planned(operator: &Operator, admin: &Admin, members: &BTreeSet<NodeId>) {
    let ring = operator.ask(admin.ring()).expect("it answers");
    let named: BTreeSet<NodeId> = ring.nodes.iter().copied().collect();
    assert_eq!(&named, members);
    for partition in 0..ring.partitions() {
        let distinct: BTreeSet<NodeId> = ring.owners_of(partition).collect();
        assert_eq!(distinct.len(), 3, "of partition {partition}");
    }
}

#[test]
fn two_join_two_leave_and_one_is_replaced_under_load() {
    let (keys, partitions, quiet_ms) =
        if is_long() { (200_000, 1_024, 10_000) } else { (4_000, 64, 2_000) };
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 200, -150],
        settings: vec!["log.level=warn".into(), format!("cluster.partitions={partitions}")],
        spread: false,
    };
    let mut cluster = Cluster::begin(config).expect("three nodes serve");
    load(&cluster.addresses(), keys).expect("three are up");
    let shared = Shared {
        stop: AtomicBool::new(false),
        phase: AtomicUsize::new(0),
        open: RwLock::new(cluster.addresses()),
    };
    let operator = Operator::new().expect("there is room");
    let (wrote, members) = thread::scope(|scope| {
        let _stops = StopAtEnd(&shared.stop);
        let all = &shared;
        let writers: Vec<_> = (0..WRITERS).map(|id| scope.spawn(move || write(id, all))).collect();
        thread::sleep(Duration::from_millis(quiet_ms));
        let members = change_everything(&mut cluster, &operator, &shared);
        shared.stop.store(true, Ordering::Relaxed);
        let wrote: Vec<Wrote> =
            writers.into_iter().map(|writer| writer.join().expect("a client ends")).collect();
        (wrote, members)
    });
    judge(&wrote, &cluster);
    // What was on its way when the load ended arrives.
    thread::sleep(Duration::from_secs(2));
    let admin = operator.admin(&cluster, 3).expect("it answers");
    held_as_planned(&operator, &admin, &members);
    let mut differences = operator.differences(&admin, partitions).expect("all are up");
    if differences > 0 {
        thread::sleep(Duration::from_secs(2));
        println!("figure: {differences} keys were on their way still");
        differences = operator.differences(&admin, partitions).expect("all are up");
    }
    assert_eq!(differences, 0, "every partition has three equal replicas\n{}", cluster.logs());
    let address = *cluster.addresses().get(4).expect("node 4 runs");
    let names: Vec<String> = (0..keys).map(|key| format!("k:{key}")).collect();
    assert_eq!(wrong(address, &names, loaded).expect("a quorum"), [""; 0]);
    for (id, wrote) in wrote.iter().enumerate() {
        let names: Vec<String> = wrote.acknowledged.iter().map(|n| format!("w:{id}:{n}")).collect();
        assert_eq!(wrong(address, &names, str::to_owned).expect("a quorum"), [""; 0]);
    }
    let history = Mutex::new(History::default());
    let mut client = Client::new(0, vec![address], &history);
    let mut command = redis::cmd("KV.GET");
    let one: redis::Value =
        client.ask(0, command.arg("k:0").arg("R").arg("ALL")).expect("all replicas are up");
    assert!(shows(&one, b"value of k:0"));
}

/// Joins, leaves, a death and a replacement: who is a member then.
fn change_everything(
    cluster: &mut Cluster,
    operator: &Operator,
    shared: &Shared,
) -> BTreeSet<NodeId> {
    let (fourth, fifth) = (cluster.add().expect("it starts"), cluster.add().expect("it starts"));
    let admin = operator.admin(cluster, 0).expect("it answers");
    let ids: Vec<NodeId> =
        (0..5).map(|place| operator.id(cluster, &admin, place).expect("it is heard of")).collect();
    let [first, second, third, new, newer] = ids[..] else { panic!("five nodes: {ids:?}") };
    thread::sleep(Duration::from_secs(1));
    shared.phase.store(1, Ordering::Relaxed);
    let (plan, took) = operator.change(cluster, &admin, &joins(&[new, newer])).expect("it ends");
    println!(
        "figure: two joined in {:.1} s, in steps of {:?} copies",
        took.as_secs_f64(),
        plan.steps
    );
    for share in &plan.nodes {
        let ring = operator.ask(admin.ring()).expect("it answers");
        let held = |at: &usize| ring.owners_of(*at).any(|owner| owner == share.node);
        let holds = (0..ring.partitions()).filter(held).count();
        // The last step is planned anew: who gets the odd one may change.
        assert!(holds.abs_diff(share.after as usize) <= 1, "what the plan said: {share:?}");
    }
    *shared.open.write() = cluster.addresses();
    shared.phase.store(2, Ordering::Relaxed);
    thread::sleep(Duration::from_secs(if is_long() { 5 } else { 1 }));

    shared.phase.store(3, Ordering::Relaxed);
    let admin = operator.admin(cluster, fifth).expect("it answers");
    let (plan, took) =
        operator.change(cluster, &admin, &leaves(&[second, third])).expect("it ends");
    println!(
        "figure: two left in {:.1} s, in steps of {:?} copies",
        took.as_secs_f64(),
        plan.steps
    );
    let all = cluster.addresses();
    let at = |places: &[usize]| -> Vec<SocketAddr> {
        places.iter().filter_map(|place| all.get(*place).copied()).collect()
    };
    *shared.open.write() = at(&[0, fourth, fifth]);
    thread::sleep(Duration::from_secs(1));
    cluster.kill(&[1, 2]).expect("they ran");

    shared.phase.store(KILLED, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(500));
    *shared.open.write() = at(&[fourth, fifth]);
    cluster.kill(&[0]).expect("it ran");
    thread::sleep(Duration::from_secs(3));
    let sixth = cluster.add().expect("it starts");
    let newest = operator.id(cluster, &admin, sixth).expect("it is heard of");
    shared.phase.store(5, Ordering::Relaxed);
    let began = Instant::now();
    operator.ask(admin.replace(first, newest)).expect("a majority votes");
    operator.stable(cluster, &admin).expect("it ends");
    println!("figure: one was replaced in {:.1} s", began.elapsed().as_secs_f64());
    thread::sleep(Duration::from_secs(1));
    [new, newer, newest].into_iter().collect()
}

/// Errors and times of all writers.
fn judge(wrote: &[Wrote], cluster: &Cluster) {
    let times: Vec<(usize, Duration)> =
        wrote.iter().flat_map(|wrote| wrote.times.iter().copied()).collect();
    let errors: Vec<&(usize, String)> = wrote.iter().flat_map(|wrote| &wrote.errors).collect();
    let (_, _, quiet) = percentile(&times, 0);
    for (phase, name) in PHASES.iter().enumerate() {
        let (count, p50, p99) = percentile(&times, phase);
        let failed = errors.iter().filter(|error| error.0 == phase).count();
        println!("figure: {name}: {count} SETs, p50 {p50:.1?}, p99 {p99:.1?}, {failed} errors");
    }
    // At the moment of the kill a request may be under way through the killed node, or to it.
    let allowed = |error: &&&(usize, String)| {
        error.0 == KILLED && (error.1.contains("INDETERMINATE") || is_of_connection(&error.1))
    };
    let wrong: Vec<_> = errors.iter().filter(|error| !allowed(error)).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{}", cluster.logs());
    let moves = PHASES.iter().enumerate().filter(|(phase, _)| MOVES.contains(phase));
    for (phase, name) in moves {
        let (_, _, p99) = percentile(&times, phase);
        let slow = p99 > quiet * P99_TIMES + P99_SLACK;
        assert!(!slow, "{name}: p99 {p99:?} beside {quiet:?}");
    }
    let acknowledged: usize = wrote.iter().map(|wrote| wrote.acknowledged.len()).sum();
    println!("figure: {acknowledged} SETs acknowledged while the ring changed");
}

fn is_of_connection(error: &str) -> bool {
    ["refused", "reset", "broken", "Broken", "closed", "end of file", "terminated"]
        .iter()
        .any(|word| error.contains(word))
}
