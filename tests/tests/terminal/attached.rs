//! What an attached terminal costs the nodes, and what it does when the node that it asks dies.
//!
//! `KV_TEST_LONG=1` measures for minutes instead of seconds.

use std::thread;
use std::time::{Duration, Instant};

use kv_tests::cluster::Cluster;

use crate::pty::{Terminal, alone};

/// Until it asks another node, and says so.
const MOVES_WITHIN: Duration = Duration::from_secs(2);
/// What three terminals may cost three nodes together, in per mille of a core.
const COST_PER_MILLE_MAX: i64 = 10;
const TABS: [&str; 3] = ["ring", "conflicts", "repair"];

/// The node that the header says it asks.
fn asked(text: &str) -> Option<String> {
    let after = text.lines().next()?.split_once("via ")?.1;
    Some(after.split("  ").next()?.trim().to_owned())
}

#[test]
fn a_terminal_moves_on_from_each_node_that_dies_and_says_so() {
    let Some(_alone) = alone("a_terminal_moves_on_from_each_node_that_dies_and_says_so") else {
        return;
    };
    let mut cluster = Cluster::begin(crate::config(false)).expect("three nodes serve");
    // It is told of one node, and learns of the others.
    let first = cluster.rpc_addresses()[0].to_string();
    let mut terminal = Terminal::attach(&[first], "", &[]).expect("a terminal");
    terminal.shows("3 nodes: 3 up");
    terminal.until("a live answer", |text| {
        (text.contains("LIVE") && asked(text).is_some()).then_some(())
    });
    let before = asked(&terminal.text()).expect("it says whom");
    // It may not have met the others yet when the first answer is drawn.
    thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    cluster.kill(&[0]).expect("killed");
    let now = terminal.until("another node", |text| asked(text).filter(|now| *now != before));
    let took = began.elapsed();
    println!("figure: its node was killed, another is asked after {} ms", took.as_millis());
    assert!(took < MOVES_WITHIN, "{} ms", took.as_millis());
    terminal.press("6");
    let said = format!("asking {now} now, {before} before");
    terminal.shows(&said);
    terminal.shows("1 down");
    terminal.press("q");
    terminal.ends_well(0);
}

/// Per mille of a core that all nodes together need in that time.
fn busy(cluster: &Cluster, for_ms: u64) -> i64 {
    let (began, before) = (Instant::now(), cluster.cpu_ms().expect("they run"));
    thread::sleep(Duration::from_millis(for_ms));
    let used = cluster.cpu_ms().expect("they run") - before;
    (used * 1_000 / began.elapsed().as_millis() as u64) as i64
}

#[test]
fn three_terminals_cost_the_nodes_less_than_a_hundredth_of_a_core() {
    let Some(_alone) = alone("three_terminals_cost_the_nodes_less_than_a_hundredth_of_a_core")
    else {
        return;
    };
    let (rounds, each_ms) = match std::env::var_os("KV_TEST_LONG") {
        Some(_) => (5, 20_000),
        None => (2, 5_000),
    };
    let cluster = Cluster::begin(crate::config(false)).expect("three nodes serve");
    kv_tests::cluster::load(&cluster.addresses(), 1_000).expect("loaded");
    let addresses: Vec<String> = cluster.rpc_addresses().iter().map(ToString::to_string).collect();
    // Trees are built, and each pair has met.
    thread::sleep(Duration::from_secs(10));
    let mut costs = Vec::new();
    for _ in 0..rounds {
        let without = busy(&cluster, each_ms);
        let attach = |(address, tab): (&String, &str)| {
            let asks = std::slice::from_ref(address);
            Terminal::attach(asks, &format!("--tab {tab}"), &[]).expect("a terminal")
        };
        let terminals: Vec<Terminal> = addresses.iter().zip(TABS).map(attach).collect();
        for terminal in &terminals {
            terminal.shows("LIVE");
        }
        // What the first answers cost is not what a terminal costs.
        thread::sleep(Duration::from_secs(2));
        let with = busy(&cluster, each_ms);
        println!("per mille of a core, three nodes together: {without} without, {with} with three");
        assert!(terminals.iter().all(|terminal| terminal.text().contains("LIVE")));
        costs.push(with - without);
    }
    // What else the machine does may only make it look dearer, or the quiet time before it.
    costs.sort_unstable();
    let median = costs.get(costs.len() / 2).copied().expect("some rounds");
    println!("figure: three terminals cost {median} per mille of a core ({costs:?})");
    // A build for tests is slower, and measured for the sake of the test alone.
    let most = COST_PER_MILLE_MAX * if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(median < most, "{costs:?}");
}
