//! Changes of the ring that must not lose what clients add to sets, and transfers that must not
//! begin anew when a node is killed.
//!
//! `KV_TEST_LONG=1` takes ten turns, and moves 100,000 keys; else it is one turn and 6,000 keys.
//! What was seen is printed as `figure: ...`.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_client::wire::MembersChange;
use kv_client::{Config, NodeId, Versioned};
use kv_tests::cluster::{
    Cluster, ClusterConfig, Operator, StopAtEnd, joins, leaves, load, loaded, wrong,
};

fn is_long() -> bool {
    std::env::var_os("KV_TEST_LONG").is_some()
}

/// How many clients add to how many sets, each so often.
const ADDERS: usize = 40;
const SETS: usize = 10;
const ADD_EVERY: Duration = Duration::from_millis(200);

/// What a client saw of a set: all elements of all siblings.
fn elements(seen: &Versioned) -> BTreeSet<String> {
    let texts = seen.values().map(|value| String::from_utf8_lossy(value).into_owned());
    texts.flat_map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Adds elements of its own to the sets, with what it saw as context: what was acknowledged, by
/// set, and how many additions may have been made or not.
async fn add(
    id: usize,
    turn: usize,
    addresses: Vec<String>,
    stop: &AtomicBool,
) -> (Vec<(usize, String)>, usize) {
    let (mut added, mut unknown) = (Vec::new(), 0);
    let client = kv_client::Client::connect(&addresses, Config::default()).await;
    let client = client.expect("all are up");
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(ADD_EVERY).await;
        let set = (id * 7 + n) % SETS;
        let Ok(seen) = client.get(format!("set:{set}")).await else { continue };
        let mut all = elements(&seen);
        let own = format!("{turn}-{id}-{n}");
        all.insert(own.clone());
        let text = all.into_iter().collect::<Vec<_>>().join(" ");
        match client.put(&seen, text).await {
            Ok(_) => added.push((set, own)),
            Err(_) => unknown += 1,
        }
    }
    (added, unknown)
}

/// Riak lost writes so, under this number in its list of bugs: forty clients read, change and write
/// ten keys with context while two nodes join five and two leave.
#[test]
fn riak_1754_changes_of_the_ring_lose_no_addition_to_a_set() {
    let turns = if is_long() { 10 } else { 1 };
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 200, -150, 90, -40],
        settings: vec!["log.level=warn".into()],
        spread: false,
    };
    let mut cluster = Cluster::begin(config).expect("five nodes serve");
    let operator = Operator::new().expect("there is room");
    let mut members: Vec<usize> = (0..5).collect();
    for turn in 0..turns {
        let rpc = cluster.rpc_addresses();
        let at: Vec<String> =
            members.iter().filter_map(|place| rpc.get(*place)).map(ToString::to_string).collect();
        let stop = AtomicBool::new(false);
        let (added, unknown) = thread::scope(|scope| {
            let _stops = StopAtEnd(&stop);
            let (stop, at) = (&stop, &at);
            let adders = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let of = |id: usize| {
                    // Those that stay come first: nobody is left alone with one that leaves.
                    let mut own = at.clone();
                    own.rotate_left(2 + id % 3);
                    add(id, turn, own, stop)
                };
                runtime.expect("there is room").block_on(async {
                    let all = (0..ADDERS).map(of).collect::<Vec<_>>();
                    futures::future::join_all(all).await
                })
            });
            two_join_and_two_leave(&mut cluster, &operator, &mut members);
            stop.store(true, Ordering::Relaxed);
            let ended = adders.join().expect("the clients end");
            let unknown: usize = ended.iter().map(|(_, unknown)| unknown).sum();
            let added = ended.into_iter().flat_map(|(added, _)| added).collect::<Vec<_>>();
            (added, unknown)
        });
        let all = cluster.rpc_addresses();
        let through = members.iter().filter_map(|place| all.get(*place)).map(ToString::to_string);
        let through: Vec<String> = through.collect();
        let lost = operator.ask(async {
            let client = kv_client::Client::connect(&through, Config::default()).await;
            let client = client.expect("all are up");
            let mut there = Vec::new();
            for set in 0..SETS {
                let seen = client.get(format!("set:{set}")).await.expect("a quorum is there");
                there.push(elements(&seen));
            }
            let is_lost = |(set, own): &&(usize, String)| {
                there.get(*set).is_none_or(|there| !there.contains(own))
            };
            Ok::<_, std::io::Error>(added.iter().filter(is_lost).cloned().collect::<Vec<_>>())
        });
        let lost = lost.expect("all sets were read");
        println!(
            "figure: turn {turn}: {} additions acknowledged, {unknown} unknown, {} lost",
            added.len(),
            lost.len()
        );
        assert!(lost.is_empty(), "{lost:?}\n{}", cluster.logs());
        assert!(added.len() > 100, "no load");
    }
}

/// The two that were members longest go.
fn two_join_and_two_leave(cluster: &mut Cluster, operator: &Operator, members: &mut Vec<usize>) {
    let new = [cluster.add().expect("it starts"), cluster.add().expect("it starts")];
    let stays = *members.last().expect("five members");
    let admin = operator.admin(cluster, stays).expect("it answers");
    let id = |cluster: &Cluster, place: usize| {
        operator.id(cluster, &admin, place).expect("it is heard of")
    };
    let joining = new.map(|place| id(cluster, place));
    let leaving: Vec<NodeId> = members.iter().take(2).map(|place| id(cluster, *place)).collect();
    let (_, joined) = operator.change(cluster, &admin, &joins(&joining)).expect("it ends");
    let (_, left) = operator.change(cluster, &admin, &leaves(&leaving)).expect("it ends");
    println!(
        "figure: two joined five in {:.1} s, two left in {:.1} s",
        joined.as_secs_f64(),
        left.as_secs_f64()
    );
    let gone: Vec<usize> = members.drain(..2).collect();
    members.extend(new);
    cluster.kill(&gone).expect("they ran");
}

/// A quarter of what is to be filled is filled so soon.
const FILLED_WITHIN: Duration = Duration::from_mins(2);

/// Bytes that a node sent and received to fill what it came to hold; nothing else exchanges here.
fn filled_with(cluster: &Cluster, place: usize) -> (u64, u64) {
    let metrics = cluster.metrics(place).expect("it is scraped");
    let bytes = metrics.sum("kv_aae_bytes_sent_total") + metrics.sum("kv_aae_bytes_received_total");
    (bytes, metrics.sum("kv_partitions_filled_total"))
}

/// A node joins; when it has filled a part of what it gets, `who` is killed, and starts again. The
/// bytes that went over all lives, and the partitions that it got.
fn join_with_a_death(
    cluster: &mut Cluster,
    operator: &Operator,
    who: impl Fn(usize) -> Option<usize>,
) -> (u64, u64) {
    let new = cluster.add().expect("it starts");
    let admin = operator.admin(cluster, 1).expect("it answers");
    let id = operator.id(cluster, &admin, new).expect("it is heard of");
    let plan = operator.ask(admin.plan(joins(&[id]))).expect("it can be made");
    let step = MembersChange { after: Some(plan.epoch), ..joins(&[id]) };
    operator.ask(admin.change_members(step)).expect("nobody else changes anything");
    let moves = u64::from(plan.moves);
    let mut before = 0;
    if let Some(dies) = who(new) {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < FILLED_WITHIN, "nothing is filled\n{}", cluster.logs());
            if let Ok(metrics) = cluster.metrics(new)
                && metrics.sum("kv_partitions_filled_total") > moves / 4
            {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let (bytes, filled) = filled_with(cluster, new);
        assert!(filled < moves, "it was too fast to be killed in the middle: {filled} of {moves}");
        cluster.kill(&[dies]).expect("it ran");
        before = if dies == new { bytes } else { 0 };
        thread::sleep(Duration::from_millis(500));
        cluster.start(dies).expect("it starts again");
    }
    operator.stable(cluster, &admin).expect("it ends");
    cluster.ready().expect("all serve");
    (before + filled_with(cluster, new).0, moves)
}

#[test]
fn a_transfer_goes_on_where_it_was_when_either_side_is_killed() {
    let keys = if is_long() { 100_000 } else { 6_000 };
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 0, 0],
        settings: [
            "log.level=warn",
            "cluster.partitions=256",
            "aae.runs=false",
            if is_long() {
                "aae.fill_bytes_per_second=2000000"
            } else {
                "aae.fill_bytes_per_second=200000"
            },
        ]
        .map(str::to_owned)
        .to_vec(),
        spread: false,
    };
    let mut cluster = Cluster::begin(config).expect("three nodes serve");
    load(&cluster.addresses(), keys).expect("three are up");
    let operator = Operator::new().expect("there is room");
    let quiet = join_with_a_death(&mut cluster, &operator, |_| None);
    let each = quiet.0 / quiet.1;
    for (name, who) in [("receiver", None), ("sender", Some(0))] {
        let (bytes, moves) =
            join_with_a_death(&mut cluster, &operator, |new| Some(who.unwrap_or(new)));
        println!(
            "figure: {name} killed while {moves} partitions were filled: {} bytes for each, {each} \
             when nobody is killed",
            bytes / moves
        );
        assert!(bytes / moves <= each + each / 10 + 64, "{name}: too much went twice");
    }
    let names: Vec<String> = (0..keys).map(|key| format!("k:{key}")).collect();
    let address = *cluster.addresses().last().expect("the newest");
    assert_eq!(wrong(address, &names, loaded).expect("a quorum"), [""; 0]);
}
