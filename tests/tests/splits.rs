//! Real processes whose partitions are doubled under load, while one of them is killed with -9: no
//! error for clients of the others, nothing that was acknowledged is missing, what was deleted
//! stays deleted, and in the end all replicas are equal.
//!
//! `KV_TEST_LONG=1` loads 200,000 keys into 1,024 partitions; else it is 4,000 keys and 64
//! partitions. What was seen is printed as `figure: ...`.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_client::Admin;
use kv_tests::cluster::{Client, Cluster, ClusterConfig, Operator, StopAtEnd, load, loaded, wrong};
use kv_tests::sim::history::History;
use parking_lot::Mutex;

const WRITERS: usize = 6;
/// The node that is killed, and its writers' place.
const DIES: usize = 2;
/// How long after the split was asked for the node is killed, turn by turn: before anybody has
/// decided anything, in the middle, when all know it.
const KILLED_AFTER_MS: [u64; 4] = [0, 4, 15, 60];

fn is_long() -> bool {
    std::env::var_os("KV_TEST_LONG").is_some()
}

/// What one writer saw.
#[derive(Default)]
struct Wrote {
    /// Numbers of its keys that were acknowledged.
    acknowledged: Vec<usize>,
    /// Numbers of those of which a delete was acknowledged.
    deleted: Vec<usize>,
    errors: Vec<String>,
}

/// Writes new keys through one node, reads old ones, and deletes every fifth.
fn write(id: usize, address: SocketAddr, stop: &AtomicBool) -> Wrote {
    let history = Mutex::new(History::default());
    let mut client = Client::new(id, vec![address], &history);
    let mut wrote = Wrote::default();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("w:{id}:{n}");
        match client.ask::<String>(0, redis::cmd("SET").arg(&key).arg(&key)) {
            Ok(_) if n % 5 == 0 => match client.ask::<u32>(0, redis::cmd("DEL").arg(&key)) {
                Ok(count) => {
                    assert_eq!(count, 1, "{key} was acknowledged");
                    wrote.deleted.push(n);
                }
                Err(error) => wrote.errors.push(format!("DEL: {error}")),
            },
            Ok(_) => wrote.acknowledged.push(n),
            Err(error) => {
                wrote.errors.push(format!("SET: {error}"));
                thread::sleep(Duration::from_millis(5));
            }
        }
        let Some(old) = wrote.acknowledged.get(n / 3) else { continue };
        let key = format!("w:{id}:{old}");
        match client.ask::<Option<String>>(0, redis::cmd("GET").arg(&key)) {
            Ok(value) => assert_eq!(value.as_ref(), Some(&key), "it was acknowledged"),
            Err(error) => wrote.errors.push(format!("GET: {error}")),
        }
    }
    wrote
}

/// The partitions are doubled, and one node is killed so long after that was asked for.
fn split_with_a_death(
    cluster: &mut Cluster,
    operator: &Operator,
    admin: &Admin,
    killed_after: Duration,
) -> Duration {
    let plan = operator.ask(admin.plan_split()).expect("it answers");
    assert_eq!((plan.after, plan.copies, plan.bytes), (plan.before * 2, 0, 0));
    let other = Operator::new().expect("there is room");
    let asked = other.admin(cluster, 0).expect("it answers");
    let began = Instant::now();
    thread::scope(|scope| {
        let split = scope.spawn(move || other.ask(asked.split(plan.epoch)));
        thread::sleep(killed_after);
        cluster.kill(&[DIES]).expect("it ran");
        let epoch = split.join().expect("it ends").expect("two of three are a majority");
        assert_eq!(epoch, plan.epoch + 1);
    });
    let decided = began.elapsed();
    thread::sleep(Duration::from_secs(2));
    let layouts = operator.ask(admin.layouts()).expect("it answers");
    if layouts.live.len() > 1 {
        println!("figure: both layouts are live while the killed node is away");
    }
    cluster.start(DIES).expect("it starts again");
    cluster.ready().expect("it serves");
    operator.stable(cluster, admin).expect("it ends");
    let ring = operator.ask(admin.ring()).expect("it answers");
    assert_eq!(ring.partitions(), plan.after as usize);
    decided
}

#[test]
fn partitions_are_doubled_under_load_while_a_node_is_killed() {
    let (keys, partitions) = if is_long() { (200_000, 1_024) } else { (4_000, 64) };
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 200, -150],
        settings: vec!["log.level=warn".into(), format!("cluster.partitions={partitions}")],
        spread: false,
    };
    let mut cluster = Cluster::begin(config).expect("three nodes serve");
    let addresses = cluster.addresses();
    load(&addresses, keys).expect("three are up");
    let operator = Operator::new().expect("there is room");
    let admin = operator.admin(&cluster, 0).expect("it answers");
    let stop = AtomicBool::new(false);
    let wrote = thread::scope(|scope| {
        let _stops = StopAtEnd(&stop);
        let stop = &stop;
        let writers: Vec<_> = (0..WRITERS)
            .filter_map(|id| Some((id, *addresses.get(id % addresses.len())?)))
            .map(|(id, address)| scope.spawn(move || write(id, address, stop)))
            .collect();
        thread::sleep(Duration::from_secs(1));
        for after_ms in KILLED_AFTER_MS {
            let after = Duration::from_millis(after_ms);
            let decided = split_with_a_death(&mut cluster, &operator, &admin, after);
            println!("figure: killed after {after:?}, decided after {decided:?}");
        }
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|one| one.join().expect("a client ends")).collect::<Vec<Wrote>>()
    });
    judge(&wrote, &cluster);
    let after = partitions << KILLED_AFTER_MS.len();
    for place in 0..addresses.len() {
        let own = operator.admin(&cluster, place).expect("it answers");
        let ring = operator.ask(own.ring()).expect("it answers");
        assert_eq!(ring.partitions(), usize::from(after), "node {place}");
        let filled = cluster.metrics(place).expect("it is scraped").sum("kv_fill_bytes_total");
        assert!(place == DIES || filled == 0, "a split moves nothing, node {place}: {filled}");
    }
    thread::sleep(Duration::from_secs(2));
    let before = operator.differences(&admin, after).expect("all are up");
    println!("figure: {before} keys were on their way still, or missed by the killed node");
    let differences = operator.differences(&admin, after).expect("all are up");
    assert_eq!(differences, 0, "every partition has three equal replicas\n{}", cluster.logs());
    let names: Vec<String> = (0..keys).map(|key| format!("k:{key}")).collect();
    for address in &addresses {
        assert_eq!(wrong(*address, &names, loaded).expect("a quorum"), [""; 0]);
        for (id, wrote) in wrote.iter().enumerate() {
            let named = |of: &[usize]| of.iter().map(|n| format!("w:{id}:{n}")).collect();
            let (kept, gone): (Vec<String>, Vec<String>) =
                (named(&wrote.acknowledged), named(&wrote.deleted));
            assert_eq!(wrong(*address, &kept, str::to_owned).expect("a quorum"), [""; 0]);
            let all = wrong(*address, &gone, str::to_owned).expect("a quorum");
            let absent = all.iter().filter(|line| line.ends_with(": None")).count();
            assert_eq!(absent, gone.len(), "what was deleted stays deleted: {all:?}");
        }
    }
}

/// Writers of the nodes that live meet no error, save for what was on its way to the killed one.
fn judge(wrote: &[Wrote], cluster: &Cluster) {
    let (mut unknown, mut of_killed) = (0, 0);
    for (id, wrote) in wrote.iter().enumerate() {
        if id % 3 == DIES {
            of_killed += wrote.errors.len();
            continue;
        }
        // The system ends a wait when the machine was stopped meanwhile: nobody told this client
        // anything.
        let interrupted = std::io::Error::from_raw_os_error(4).to_string();
        let allowed =
            |error: &&String| error.contains("INDETERMINATE") || error.contains(&interrupted);
        let wrong: Vec<&String> = wrote.errors.iter().filter(|error| !allowed(error)).collect();
        assert!(wrong.is_empty(), "writer {id}: {wrong:?}\n{}", cluster.logs());
        unknown += wrote.errors.len();
    }
    let acknowledged: usize = wrote.iter().map(|wrote| wrote.acknowledged.len()).sum();
    let deleted: usize = wrote.iter().map(|wrote| wrote.deleted.len()).sum();
    println!(
        "figure: {acknowledged} SETs and {deleted} DELs acknowledged, {unknown} -INDETERMINATE, \
         {of_killed} errors of clients of the killed node"
    );
    assert!(acknowledged > 1_000 && deleted > 100, "no load");
}
