//! Three nodes in one process: a cluster is born, what one of them stores the others read, and
//! one of them may stop.
//!
//! The nodes are the production ones; only what they stand on is in memory: the network, the
//! disk, the engine. Run with `cargo run -p kv-node --example three_nodes`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::fs::MemFs;
use kv_node::cluster::birth::BirthPlan;
use kv_node::cluster::record::KeyspaceSettings;
use kv_node::coordinator::{Coordinator, Timing};
use kv_node::node::{Node, NodeConfig, NodeParts};
use kv_node::plug::clock::{Clock, SystemClock};
use kv_node::plug::exec::{Exec, TokioExec};
use kv_node::plug::inproc::InProcNetwork;
use kv_node::plug::memory::{MemoryConfig, MemoryEngine};
use kv_node::plug::rng::OsRng;
use kv_node::rpc::peer::PeersConfig;

const NAMES: [&str; 3] = ["berlin", "lagos", "lima"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let exec: Arc<dyn Exec> = Arc::new(TokioExec);
    let network = InProcNetwork::new(Arc::clone(&clock), Arc::clone(&exec), 1);
    let mut nodes = Vec::new();
    for name in NAMES {
        let parts = NodeParts {
            fs: Arc::new(MemFs::new()),
            engine: Arc::new(MemoryEngine::new(MemoryConfig::default())),
            transport: Arc::new(network.endpoint(name)),
            clock: Arc::clone(&clock),
            rng: Arc::new(OsRng),
            exec: Arc::clone(&exec),
        };
        nodes.push(Node::start(config(name), parts).await?);
    }
    while !nodes.iter().all(Node::sees_all) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let [berlin, lagos, lima] = nodes.as_slice() else { return Err("three were started".into()) };

    door(berlin)?.set(b"planet", b"earth").await?;
    let value = door(lima)?.get(b"planet").await?;
    println!("stored in berlin, read in lima: {value:?}");
    assert_eq!(value.as_deref(), Some(&b"earth"[..]));

    lagos.stop().await?;
    door(lima)?.set(b"planet", b"mars").await?;
    let value = door(berlin)?.get(b"planet").await?;
    println!("without lagos: {value:?}");
    assert_eq!(value.as_deref(), Some(&b"mars"[..]));

    assert!(door(berlin)?.delete(b"planet").await?, "there was a value");
    assert_eq!(door(lima)?.get(b"planet").await?, None);
    println!("deleted everywhere");
    berlin.stop().await?;
    lima.stop().await?;
    Ok(())
}

fn door(node: &Node) -> Result<Arc<Coordinator>, &'static str> {
    node.coordinator().ok_or("the node has no layout yet")
}

fn config(name: &str) -> NodeConfig {
    NodeConfig {
        data_dir: PathBuf::from("/data"),
        address: name.into(),
        client_address: String::new(),
        zone: String::new(),
        weight: 1,
        seeds: NAMES.map(String::from).to_vec(),
        bootstrap_expect: 3,
        birth: BirthPlan {
            name: "planets".into(),
            partitions: 64,
            keyspace: KeyspaceSettings::default(),
            pair_bytes_max: 10 * 1_024,
        },
        gossip: kv_gossip::Config::local(),
        timing: Timing::default(),
        peers: PeersConfig::default(),
        antientropy: kv_node::coordinator::exchange::AntiEntropyConfig::default(),
        hints: kv_node::replica::HintConfig::default(),
        clock_skew_ms_max: 60_000,
        floors: kv_node::cluster::floors::FloorTiming::default(),
    }
}
