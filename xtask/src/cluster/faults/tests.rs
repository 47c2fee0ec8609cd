//! Links between real nodes that are cut, slowed down, lossy and healed by the verbs.
//!
//! The node is the one that the whole workspace's tests are built with, beside this test's own
//! program; where it is not there (`cargo test -p xtask` on a fresh clone) the test says so and is
//! skipped.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::place::Ports;
use super::super::probe::{Health, quorum_round};
use super::super::tests::{free_base, scratch};
use super::super::up::launch;
use super::super::{Engine, Shape, Verb, at};
use super::{Change, Place};
use crate::resp::{Connection, Reply};

/// Not a test of anything: the body of the proxy, when a verb below starts it.
#[test]
fn proxy_process() {
    if std::env::var_os(super::PROXY_DIR).is_some() {
        super::run_proxy(&Place::named("unused")).unwrap();
    }
}

fn node_binary() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let node = own.parent()?.parent()?.join("kv-node");
    node.is_file().then_some(node)
}

fn fault(place: &Place, line: &str) -> u8 {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let change = Change::parse(&words[0], &words[1..]).unwrap();
    at(place, "faults", Verb::Faults(change)).map_or_else(|error| error.exit_code(), |()| 0)
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A write through a node: how long it took, and its answer.
fn set(ports: Ports) -> (Duration, Reply) {
    let mut connection = Connection::open(ports.resp, Duration::from_secs(20)).unwrap();
    let began = Instant::now();
    let reply = connection.call(&["SET", "key", "value"]).unwrap();
    (began.elapsed(), reply)
}

#[test]
fn real_nodes_are_parted_slowed_and_healed() {
    let Some(binary) = node_binary() else {
        println!("SKIPPED: there is no kv-node beside this test; `cargo test --workspace`");
        return;
    };
    let scratch = scratch("faults");
    let place = &scratch.0;
    let base_port = free_base(3);
    let shape = Shape { base_port, engine: Engine::Memory, faults: true, ..Shape::default() };
    launch(place, "faults", &shape, binary).unwrap();
    let ports = [1, 2, 3].map(|node| Ports::of(base_port, node));
    let sees = |node: usize| Health::ask(ports[node - 1]).members_up;
    let ok = Reply::Status("OK".into());
    let quickest = |ports: Ports| {
        (0..5).map(|_| set(ports)).filter(|(_, reply)| *reply == ok).map(|(took, _)| took).min()
    };

    // Parted: the majority goes on, who is alone can't write.
    assert_eq!(fault(place, "partition 1,2 / 3"), 0);
    until("both sides see it", || sees(1) == Some(2) && sees(2) == Some(2) && sees(3) == Some(1));
    assert_eq!(set(ports[0]).1, ok);
    let (_, alone) = set(ports[2]);
    let is_error = matches!(&alone, Reply::Error(_));
    assert!(is_error, "n3 acknowledged what no other node has: {alone:?}");
    assert_eq!(fault(place, "heal"), 0);
    until("all see each other", || (1..=3).all(|node| sees(node) == Some(3)));
    until("a put and a get pass", || quorum_round(&ports).is_ok());

    // One way: n3 hears nothing of n1, and both go on, each with who it can speak with.
    assert_eq!(fault(place, "partition 1 to 3"), 0);
    for node in [0, 2] {
        until("it is written by who can", || set(ports[node]).1 == ok);
    }
    assert_eq!(fault(place, "heal"), 0);
    until("all see each other", || (1..=3).all(|node| sees(node) == Some(3)));

    // Slow: whatever needs another node waits there and back, the others do not.
    assert_eq!(fault(place, "slow 2 100ms"), 0);
    let slow = quickest(ports[1]).expect("it writes");
    assert!(slow >= Duration::from_millis(190), "there and back takes 200 ms: {slow:?}");
    let near = quickest(ports[0]).expect("it writes");
    assert!(near < Duration::from_millis(180), "n1 and n3 are a quorum: {near:?}");

    // Lossy: now and then something waits for its retransmission.
    assert_eq!(fault(place, "heal"), 0);
    assert_eq!(fault(place, "drop 60% 1"), 0);
    let late = (0..20).map(|_| set(ports[0]).0).filter(|took| took.as_millis() >= 190).count();
    assert!(late > 0, "six of ten packets are lost, and none was late");
    assert_eq!(fault(place, "heal 1"), 0);
    until("it is whole again", || quickest(ports[0]).is_some_and(|took| took.as_millis() < 150));

    assert_eq!(fault(place, "partition 4"), 2, "there is no node 4");
    at(place, "faults", Verb::Down { purge: true }).unwrap();
    assert_eq!(fault(place, "heal"), 5, "there is no cluster");
}
