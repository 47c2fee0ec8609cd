//! The real terminal program in a pseudo terminal, attached to real nodes: what an operator sees
//! and presses while a node dies and comes back, and while a cut link makes a conflict.
//!
//! Three nodes in a network namespace of the test's own. Needs root, `unshare`, iptables and
//! `script`: else `SKIPPED`, loudly.

mod attached;
mod pty;
mod safety;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kv_tests::cluster::{Cluster, ClusterConfig, Links, Network};

use pty::Terminal;

const NODES: usize = 3;

/// Hints that the header tells, if it tells them.
fn hints(text: &str) -> Option<u64> {
    let after = text.lines().next()?.split_once("hints ")?.1;
    after.split(' ').next()?.parse().ok()
}

fn client(address: SocketAddr) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{address}/")).expect("an address");
    client.get_connection().expect("it serves")
}

/// SETs through a node until told to stop; how many, and what failed.
fn write(address: SocketAddr, stop: &AtomicBool) -> (u64, Vec<String>) {
    let mut node = client(address);
    let (mut done, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let set = redis::cmd("SET").arg(format!("w:{}", done % 300)).arg(done).to_owned();
        match set.query::<String>(&mut node) {
            Ok(_) => done += 1,
            Err(error) => failed.push(error.to_string()),
        }
        thread::sleep(Duration::from_millis(20));
    }
    (done, failed)
}

/// A cluster in a network of this test's own; `None` if the test is over already.
fn in_own_network(test: &str) -> Option<(Cluster, Links)> {
    let _alone = pty::alone(test)?;
    if !Network::is_own(test) {
        return None;
    }
    Some((Cluster::begin(config(true)).expect("three nodes serve"), Links::whole(NODES)))
}

/// Three nodes.
fn config(spread: bool) -> ClusterConfig {
    ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0; NODES],
        settings: vec!["log.level=warn".into()],
        spread,
    }
}

/// What redis-cli reads of a key, where it is installed.
fn by_redis_cli(address: SocketAddr, key: &str) -> Option<String> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let read = Command::new("redis-cli").args(["-h", &host, "-p", &port, "GET", key]).output();
    let read = read.ok()?;
    assert!(read.status.success(), "{read:?}");
    Some(String::from_utf8_lossy(&read.stdout).trim_end().to_owned())
}

#[test]
fn an_operator_sees_a_node_die_and_resolves_a_conflict() {
    let test = "an_operator_sees_a_node_die_and_resolves_a_conflict";
    let Some((mut cluster, links)) = in_own_network(test) else { return };
    let nodes = cluster.addresses();
    let rpc: Vec<String> = cluster.rpc_addresses().iter().map(ToString::to_string).collect();
    let mut terminal = Terminal::attach(&rpc, "", &[]).expect("a terminal");
    terminal.shows("3 nodes: 3 up");

    // A node dies under writes: none fails, and hints for it grow.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (address, stop) = (nodes[0], Arc::clone(&stop));
        thread::spawn(move || write(address, &stop))
    };
    cluster.kill(&[2]).expect("killed");
    terminal.shows("1 down");
    let some = terminal.until("hints", |text| hints(text).filter(|count| *count > 0));
    let more = terminal.until("more hints", |text| hints(text).filter(|count| *count > some));
    println!("{some}, then {more} hints");
    // It comes back, and they go.
    cluster.start(2).expect("started");
    terminal.shows("3 nodes: 3 up");
    terminal.until("no hints", |text| hints(text).filter(|count| *count == 0));
    stop.store(true, Ordering::Relaxed);
    let (done, failed) = writer.join().expect("it wrote");
    println!("{done} writes meanwhile, {} failed", failed.len());
    assert!(failed.is_empty() && done > 50, "{done} {failed:?}");

    // Both sides of a cut link write one key.
    links.split(&[2]).expect("cut");
    let one = r#"{"items":["tea"],"n":1}"#;
    let other = r#"{"items":["cup"],"n":2}"#;
    let set = |node: &mut redis::Connection, value: &str| {
        let consistency = redis::cmd("KV.CONSISTENCY").arg("W").arg("ONE").to_owned();
        consistency.query::<redis::Value>(node).expect("taken");
        redis::cmd("SET").arg("cart:9001").arg(value).query::<String>(node).expect("stored");
    };
    set(&mut client(nodes[0]), one);
    set(&mut client(nodes[2]), other);
    links.heal().expect("whole");

    // Once the two have met, the operator finds the key among those with siblings, and three keys
    // resolve it: the tab, the rule, and apply.
    terminal.press("4");
    terminal.shows("cart:9001");
    terminal.shows("sibling 2");
    terminal.press("m");
    terminal.shows("result, not yet written");
    terminal.shows("JSON merge");
    terminal.press("a");
    terminal.until("the end of the conflict", |text| {
        (!text.contains("result, not yet written")).then_some(())
    });
    for node in &nodes {
        let value: String =
            redis::cmd("GET").arg("cart:9001").query(&mut client(*node)).expect("read");
        assert!(value.contains("tea") && value.contains("cup"), "{node}: {value}");
        assert!(value.contains("\"n\":2"), "{node}: {value}");
        match by_redis_cli(*node, "cart:9001") {
            Some(read) => assert_eq!(read, value, "{node}"),
            None => println!("there is no redis-cli to read it with, too"),
        }
        let seen: redis::Value =
            redis::cmd("KV.GET").arg("cart:9001").query(&mut client(*node)).expect("read");
        assert_eq!(versions(&seen), 1, "{node}: {seen:?}");
    }
    terminal.press("q");
    terminal.ends_well(0);
}

/// How many values KV.GET showed: its answer is the context, and a list of them.
fn versions(seen: &redis::Value) -> usize {
    match seen {
        redis::Value::Array(parts) => match parts.get(1) {
            Some(redis::Value::Array(values)) => values.len(),
            _ => 0,
        },
        _ => 0,
    }
}
