//! What a world is made of, and what its nodes are configured to be.

use std::path::PathBuf;

use kv_node::cluster::birth::BirthPlan;
use kv_node::cluster::floors::FloorTiming;
use kv_node::cluster::record::{KeyspaceSettings, LevelSetting, Rmw};
use kv_node::coordinator::Timing;
use kv_node::coordinator::exchange::AntiEntropyConfig;
use kv_node::node::NodeConfig;
use kv_node::replica::HintConfig;
use kv_node::rpc::peer::PeersConfig;

use super::World;

/// A request's deadline, in milliseconds.
pub const REQUEST_MS_MAX: u64 = 1_000;
/// Deadlines that one request may use up one after the other: what DEL and EXPIRE read first has
/// one of its own.
pub const DEADLINES_MAX: u64 = 2;
/// A peer that is silent for so long counts as down for requests: well under their deadline, so
/// that those that wait for it still turn to somebody else.
const LINK_DOWN_MS: u64 = 400;
/// So few leaves for each partition that two keys share one, and trees cost little.
const TREE_BYTES_MAX: u64 = 16 << 10;
/// When a floor that does not move is an alarm.
const FLOOR_ALARM_MS: u64 = 20_000;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Nodes, at least 3.
    pub nodes: usize,
    /// How far a node's wall clock is from the true time at most, either way, in milliseconds.
    pub skew_ms_max: u64,
    /// How far apart the nodes take sound clocks to be: bytes of what ended so long ago go.
    pub clock_skew_ms_max: u64,
    /// How many copies a read and a write wait for.
    pub copies: LevelSetting,
    /// Whether fallbacks stand in for primaries that are down: then a read need not meet a write
    /// before all is healed.
    pub sloppy: bool,
    /// Bytes of hints that a node keeps at most.
    pub hint_bytes_max: u64,
    /// Whether replicas compare and mend each other by themselves.
    pub antientropy: bool,
    /// How far floors lie behind the clocks, in milliseconds: little, so that every run collects.
    pub floor_lag_ms: u64,
    /// The engines.
    pub lsm: kv_lsm::Config,
    /// How long a sync takes, in milliseconds.
    pub sync_ms: u64,
    /// Whether one node decides every write of a key, as commands need that promise something.
    pub decides: bool,
    /// Engines in memory instead, which forget everything with their process.
    pub memory: bool,
}

impl WorldConfig {
    /// A strict keyspace on so many nodes with sound clocks and fast disks.
    #[must_use]
    pub fn strict(nodes: usize) -> Self {
        Self {
            nodes,
            skew_ms_max: 50,
            clock_skew_ms_max: 60_000,
            copies: LevelSetting::Quorum,
            sloppy: false,
            hint_bytes_max: 16 << 20,
            antientropy: true,
            floor_lag_ms: 2_000,
            lsm: Self::engine(),
            sync_ms: 0,
            decides: false,
            memory: false,
        }
    }

    /// Sizes at which a few hundred writes fill a memtable, flush and compact.
    #[must_use]
    pub fn engine() -> kv_lsm::Config {
        kv_lsm::Config {
            // A record of many small siblings fits; a pair is at most 10 KiB.
            value_bytes_max: 24 << 10,
            batch_bytes_max: 32 << 10,
            log_buffer_bytes_max: 16 << 10,
            log_segment_bytes: 64 << 10,
            log_bytes_max: 512 << 10,
            cache_bytes_max: 256 << 10,
            memtable_bytes_max: 32 << 10,
            memtables_sealed_max: 4,
            ..kv_lsm::Config::tiny()
        }
    }
}

impl World {
    pub(super) fn node_config(&self, place: usize) -> NodeConfig {
        let config = &self.config;
        NodeConfig {
            data_dir: PathBuf::from("/data"),
            address: Self::address(place),
            client_address: String::new(),
            zone: String::new(),
            weight: 1,
            seeds: (0..self.nodes()).map(Self::address).collect(),
            bootstrap_expect: self.nodes() as u16,
            birth: BirthPlan {
                name: "simulated".into(),
                partitions: 16,
                keyspace: KeyspaceSettings {
                    sloppy: config.sloppy,
                    read: config.copies,
                    write: config.copies,
                    rmw: if config.decides { Rmw::BestEffort } else { Rmw::Refuse },
                    ..KeyspaceSettings::default()
                },
                pair_bytes_max: 10 * 1_024,
            },
            gossip: kv_gossip::Config::local(),
            timing: Timing { request_ms_max: REQUEST_MS_MAX, ..Timing::default() },
            peers: PeersConfig { link_down_ms: LINK_DOWN_MS, ..PeersConfig::default() },
            antientropy: AntiEntropyConfig {
                runs: config.antientropy,
                tree_bytes_max: TREE_BYTES_MAX,
                ..AntiEntropyConfig::default()
            },
            hints: HintConfig { hint_bytes_max: config.hint_bytes_max, ..HintConfig::default() },
            clock_skew_ms_max: config.clock_skew_ms_max,
            floors: FloorTiming::with_lag(config.floor_lag_ms, FLOOR_ALARM_MS),
        }
    }
}
