//! What a node is made from: an operator's decisions, and what it needs of the world.

use std::path::PathBuf;
use std::sync::Arc;

use kv_lsm::fs::Fs;

use crate::cluster::birth::BirthPlan;
use crate::cluster::floors::FloorTiming;
use crate::coordinator::Timing;
use crate::coordinator::exchange::AntiEntropyConfig;
use crate::plug::clock::Clock;
use crate::plug::exec::Exec;
use crate::plug::rng::Rng;
use crate::plug::storage::StorageEngine;
use crate::plug::transport::{PeerAddress, Transport};
use crate::replica::HintConfig;
use crate::rpc::peer::PeersConfig;

/// What an operator decides about a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where it keeps what it must not forget.
    pub data_dir: PathBuf,
    /// Where peers reach it.
    pub address: PeerAddress,
    /// Where clients reach it, as others tell them.
    pub client_address: String,
    /// Its zone; may be empty.
    pub zone: String,
    /// Its share of the data, relative to others.
    pub weight: u32,
    /// Where it looks for others.
    pub seeds: Vec<PeerAddress>,
    /// How many empty nodes begin a cluster; 0 waits to be joined.
    pub bootstrap_expect: u16,
    /// The cluster that they begin.
    pub birth: BirthPlan,
    /// Pace of membership.
    pub gossip: kv_gossip::Config,
    /// Bounds in time of requests.
    pub timing: Timing,
    /// Bounds of the senders to peers.
    pub peers: PeersConfig,
    /// Anti-entropy.
    pub antientropy: AntiEntropyConfig,
    /// Bounds of what it keeps for others that are down.
    pub hints: HintConfig,
    /// How far apart sound clocks may be.
    pub clock_skew_ms_max: u64,
    /// When floors move, and with them collection.
    pub floors: FloorTiming,
}

/// What a node needs of the world.
pub struct NodeParts {
    /// The disk, for what must not be forgotten.
    pub fs: Arc<dyn Fs>,
    /// The engine, open.
    pub engine: Arc<dyn StorageEngine>,
    /// The way to peers.
    pub transport: Arc<dyn Transport>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Tasks and blocking work.
    pub exec: Arc<dyn Exec>,
}
