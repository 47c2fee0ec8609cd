//! The settings: each with its meaning, its unit, its default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::level;
use super::secret::SecretText;
use crate::cluster::record::{Durability, LevelSetting, Mode, Rmw};
use crate::rpc::peer::LINK_DOWN_MS_DEFAULT;
use crate::scale::{Mode as ScaleMode, Policy};

/// A setting's name, type and meaning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) doc: &'static [&'static str],
}

macro_rules! section {
    ($(#[doc = $about:literal])+ $name:ident {
        $(
            $(#[doc = $doc:literal])+
            $(#[serde($($serde:tt)*)])?
            $field:ident: $kind:ty = $default:expr,
        )+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])+ $(#[serde($($serde)*)])? pub $field: $kind,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $name {
            const KEYS: &'static [Key] = &[$(Key {
                name: stringify!($field),
                kind: stringify!($kind),
                doc: &[$($doc),+],
            },)+];
        }
    };
}

/// Who makes members of new nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admit {
    /// An operator does (`kv cluster plan`, `commit`).
    Operator,
    /// Whoever asks is joined.
    Auto,
}

/// All settings of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of everything that the node keeps.
    pub data_dir: PathBuf,
    /// Threads that serve requests.
    pub threads: usize,
    /// Where it listens.
    pub listen: ListenConfig,
    /// What others are told.
    pub announce: AnnounceConfig,
    /// The cluster.
    pub cluster: ClusterConfig,
    /// The keyspace that a cluster is born with.
    pub keyspace: KeyspaceConfig,
    /// The engine.
    pub storage: StorageConfig,
    /// Redis clients.
    pub resp: RespConfig,
    /// Answers that some clients insist on.
    pub compat: CompatConfig,
    /// Bounds in time of a request.
    pub request: RequestConfig,
    /// What is kept for replicas that are down.
    pub handoff: HandoffConfig,
    /// Pace of membership.
    pub membership: MembershipConfig,
    /// When deletes are forgotten.
    pub collection: CollectionConfig,
    /// Anti-entropy.
    pub aae: AaeConfig,
    /// How many nodes there should be.
    pub autoscale: AutoscaleConfig,
    /// Logs.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("kv-data"),
            threads: 1,
            listen: ListenConfig::default(),
            announce: AnnounceConfig::default(),
            cluster: ClusterConfig::default(),
            keyspace: KeyspaceConfig::default(),
            storage: StorageConfig::default(),
            resp: RespConfig::default(),
            compat: CompatConfig::default(),
            request: RequestConfig::default(),
            handoff: HandoffConfig::default(),
            membership: MembershipConfig::default(),
            collection: CollectionConfig::default(),
            aae: AaeConfig::default(),
            autoscale: AutoscaleConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// Every section with its keys; the settings outside sections come first, under an empty name.
pub(super) const SECTIONS: &[(&str, &[Key])] = &[
    (
        "",
        &[
            Key {
                name: "data_dir",
                kind: "PathBuf",
                doc: &[" Directory of everything that the node keeps. One process at a time."],
            },
            Key {
                name: "threads",
                kind: "usize",
                doc: &[
                    " Threads that serve requests. One is fastest on small machines and where",
                    " several nodes share one; the storage engine has threads of its own.",
                ],
            },
        ],
    ),
    ("listen", ListenConfig::KEYS),
    ("announce", AnnounceConfig::KEYS),
    ("cluster", ClusterConfig::KEYS),
    ("keyspace", KeyspaceConfig::KEYS),
    ("storage", StorageConfig::KEYS),
    ("resp", RespConfig::KEYS),
    ("compat", CompatConfig::KEYS),
    ("request", RequestConfig::KEYS),
    ("handoff", HandoffConfig::KEYS),
    ("membership", MembershipConfig::KEYS),
    ("collection", CollectionConfig::KEYS),
    ("aae", AaeConfig::KEYS),
    ("autoscale", AutoscaleConfig::KEYS),
    ("log", LogConfig::KEYS),
];

section! {
    /// Where the node listens. Loopback unless it is started with `--insecure`: there is no TLS
    /// yet.
    ListenConfig {
        /// Redis clients, as `ip:port`. Empty: none.
        resp: String = "127.0.0.1:7001".into(),
        /// Peers, the Rust client and operators' tools, as `ip:port`.
        rpc: String = "127.0.0.1:7101".into(),
        /// Metrics and health, as `ip:port`. Empty: none.
        http: String = "127.0.0.1:7201".into(),
    }
}

section! {
    /// What others are told, where it isn't what the node listens on.
    AnnounceConfig {
        /// Where Redis clients reach this node, as `host:port`. Default: `listen.resp`.
        resp: Option<String> = None,
        /// Where peers reach this node, as `host:port`. Default: `listen.rpc`.
        rpc: Option<String> = None,
    }
}

section! {
    /// The cluster that the node belongs to, or is to begin.
    ClusterConfig {
        /// Its name, for people and metrics.
        name: String = "kv".into(),
        /// A cluster begins when exactly so many empty nodes see each other; 0 waits to be joined
        /// to one. Default: 1 without seeds; with seeds it has to be said.
        bootstrap_expect: Option<u16> = None,
        /// Whether this node, when it is new, asks to be made a member; also `--join`.
        join: bool = false,
        /// Who makes members of new nodes: the `operator`, or `auto`: whoever asks is joined.
        admit: Admit = Admit::Operator,
        /// Where others are asked for first, as `host:port` of their rpc port.
        seeds: Vec<String> = Vec::new(),
        /// A file with further seeds, one a line; it is read again and again.
        seeds_file: Option<String> = None,
        /// Names of which every address is a seed, as `host:port`, 8 at most; they are looked up
        /// again and again.
        seeds_dns: Vec<String> = Vec::new(),
        /// What members and their tools share. Better in a file. Empty admits everybody who
        /// reaches the rpc port, which must then be on loopback.
        secret: SecretText = SecretText::default(),
        /// A file that holds the secret; white space at its end is not part of it.
        secret_file: Option<String> = None,
        /// Partitions of a cluster that begins here: a power of two, at most 16384.
        partitions: u16 = 1024,
        /// The local address to dial peers from; the system's choice if none.
        bind_source: Option<String> = None,
        /// The failure domain of this node: copies go to different zones where they can.
        zone: String = String::new(),
        /// This node's share of the data, relative to others. At least 1.
        weight: u32 = 1,
    }
}

section! {
    /// The keyspace of a cluster that begins here. A cluster that is born keeps what it has.
    KeyspaceConfig {
        /// Copies of each pair; at most as many as there are nodes.
        n: u8 = 3,
        /// Copies that a read waits for: `one`, `quorum`, `all`, a number, or of zones:
        /// `local-quorum`, `each-quorum`.
        #[serde(with = "level")]
        read: LevelSetting = LevelSetting::Quorum,
        /// Copies that a write waits for, likewise.
        #[serde(with = "level")]
        write: LevelSetting = LevelSetting::Quorum,
        /// Concurrent writes are kept as `siblings`, or the last one wins: `lww`.
        mode: Mode = Mode::Siblings,
        /// Whether other nodes stand in for replicas that are down. Meanwhile reads may miss
        /// writes whatever `read` and `write` are; without it such requests are refused.
        sloppy: bool = true,
        /// Commands that need one decision maker, such as INCR: `refuse` or `best-effort`.
        rmw: Rmw = Rmw::Refuse,
        /// What every copy waits for, decided at the cluster's birth: `sync`, `periodic` or `os`.
        /// Default: `storage.durability`. A node whose storage waits for less does not start.
        durability: Option<Durability> = None,
        /// Bytes of key and value of a pair, at most; itself at most 1048576.
        pair_bytes_max: u32 = 10 * 1_024,
    }
}

section! {
    /// The storage engine.
    StorageConfig {
        /// `lsm` keeps pairs on disk, `memory` forgets them at a restart.
        engine: EngineKind = EngineKind::Lsm,
        /// When this node's copy counts: `sync` when it survives a power cut, `periodic` and `os`
        /// when it survives the end of the process. Never less than the keyspace promises.
        durability: Durability = Durability::Sync,
        /// With `periodic`: milliseconds until a sync begins, at most.
        periodic_ms: u64 = 100,
        /// With `memory`: bytes of pairs with overhead before writes are refused.
        memory_bytes_max: u64 = 1 << 30,
        /// With `memory`: values of at least so many bytes are compressed; 0 compresses none.
        compress_bytes_min: usize = 0,
        /// With `lsm`: bytes of pairs in memory before they are written to a table.
        memtable_bytes_max: usize = 128 << 20,
        /// With `lsm`: bytes of table blocks kept in memory.
        block_cache_bytes_max: u64 = 256 << 20,
        /// With `lsm`: bytes of the log before tables are written early.
        log_bytes_max: u64 = 512 << 20,
        /// With `lsm`: bytes of one file of the log.
        log_segment_bytes: u64 = 16 << 20,
        /// With `lsm`: bytes of one table that compaction writes.
        table_bytes_max: u64 = 64 << 20,
        /// With `lsm`: bytes of the first level below level 0.
        level1_bytes: u64 = 256 << 20,
        /// With `lsm`: milliseconds that a write waits for a disk that does not keep up, before
        /// it is refused. Other requests of the same thread wait with it.
        stall_ms_max: u64 = 100,
    }
}

section! {
    /// Redis clients.
    RespConfig {
        /// The password that clients must give; empty asks for none.
        requirepass: SecretText = SecretText::default(),
        /// What INFO and HELLO say: `standalone`, or `cluster` for cluster-aware clients.
        announce: AnnounceAs = AnnounceAs::Standalone,
        /// Whether SCAN, KEYS and DBSIZE speak of the whole `cluster` or of what is first `local`,
        /// which cluster-aware clients add up.
        whole_keyspace: WholeKeyspace = WholeKeyspace::Cluster,
        /// Connections at once, at most.
        clients_max: usize = 10_000,
        /// Bytes of one request on the wire, at most.
        query_bytes_max: u32 = 16 << 20,
        /// Bytes of requests that have not wholly arrived or wait for EXEC, of all clients
        /// together, at most; then those that add to it are answered BUSY, and the unended ones
        /// closed.
        queries_bytes_max: usize = 256 << 20,
        /// Bytes of answers waiting for a client that does not read, at most; then it is closed.
        output_bytes_max: usize = 64 << 20,
        /// Bytes of such answers of all clients together, at most; then those that add to it are
        /// closed.
        outputs_bytes_max: usize = 256 << 20,
        /// Bytes of values that reads bring together at once, of all clients, at most; then reads
        /// wait, and are answered BUSY after 5 s.
        reads_bytes_max: usize = 256 << 20,
        /// Milliseconds after which a silent connection is closed; 0 is never.
        idle_ms_max: u64 = 0,
    }
}

section! {
    /// Answers that some clients insist on.
    CompatConfig {
        /// CONFIG SET of what can't be changed: `strict` refuses, `accept` says OK and does
        /// nothing.
        config_set: ConfigSet = ConfigSet::Strict,
    }
}

section! {
    /// Bounds in time of a request.
    RequestConfig {
        /// Milliseconds after which a request is answered with what is known.
        deadline_ms: u64 = 5_000,
        /// Milliseconds without enough answers after which a read asks one replica more at the
        /// latest: usually it does when 95 of 100 recent answers would have been there.
        hedge_ms: u64 = 50,
        /// Milliseconds that a peer may leave a call unanswered, with nothing heard from it, until
        /// requests count it as down. Under `deadline_ms`.
        link_down_ms: u64 = LINK_DOWN_MS_DEFAULT,
        /// Milliseconds that a node which is to stop waits at most: for its clients' requests to
        /// end, and for its hints to go to those who are up.
        drain_ms_max: u64 = 10_000,
    }
}

section! {
    /// Hints: what this node keeps for replicas that are down, where `keyspace.sloppy` is on.
    HandoffConfig {
        /// Bytes of hints kept here, at most. A full log refuses, and who refuses does not count;
        /// hints beyond the copies that a write waits for have half of it.
        hint_bytes_max: u64 = 512 << 20,
        /// Bytes of hints delivered in a second, at most.
        replay_bytes_per_s: u64 = 16 << 20,
    }
}

section! {
    /// Pace of membership.
    MembershipConfig {
        /// `local` for nodes of one machine, `lan` for a data centre, `auto` by where rpc listens.
        preset: Preset = Preset::Auto,
    }
}

section! {
    /// When deletes are forgotten.
    CollectionConfig {
        /// Milliseconds that a node's floor lies behind its clock: so long at least a delete is
        /// kept, and then until every replica is known to have it. At least twice what clocks may
        /// differ, and four times what a request may take.
        floor_lag_ms: u64 = 180_000,
        /// Milliseconds after which a member whose floor does not move is an alarm: as long as it
        /// stays away nothing deleted is forgotten anywhere.
        floor_alarm_ms: u64 = 900_000,
    }
}

section! {
    /// Anti-entropy: replicas are compared all the time, and what differs is mended.
    AaeConfig {
        /// Whether nodes compare their copies by themselves. Without it what a node missed and no
        /// hint brings is mended by reads and by `kv repair` only, and no delete is forgotten.
        runs: bool = true,
        /// Bytes a second that comparing and mending send and receive, at most; 0 is no limit.
        bytes_per_second: u64 = 8 << 20,
        /// The same for filling a node that lost something.
        fill_bytes_per_second: u64 = 64 << 20,
        /// Bytes of hash trees, at most: with 1,024 partitions and the default, 256 leaves each.
        /// Best the same on all nodes.
        tree_bytes_max: u64 = 4 << 20,
        /// Milliseconds of rest between two exchanges of this node.
        rest_ms: u64 = 1_000,
    }
}

section! {
    /// How many nodes there should be, by what they carry. What `kv autoscale set` says holds for
    /// the whole cluster, over these.
    AutoscaleConfig {
        /// `off`, `advise`: decisions are made and shown, `auto`: and carried out.
        mode: ScaleMode = ScaleMode::Off,
        /// Who starts nodes and ends them: `none` or `command`. With `none` how many there should
        /// be is a recommendation, `kv_desired_nodes`; nodes that come by themselves are joined.
        provisioner: ProvisionerKind = ProvisionerKind::None,
        /// With `command`: the program and its arguments. It gets each request as JSON on stdin.
        command: Vec<String> = Vec::new(),
        /// With `command`: milliseconds after which the program is killed.
        command_ms_max: u64 = 60_000,
        /// Milliseconds in which a node that was asked for has to be seen; then one is asked for
        /// again.
        add_ms_max: u64 = 300_000,
        /// Milliseconds between two looks.
        interval_ms: u64 = 5_000,
        /// Never fewer nodes, nor fewer than a pair has copies.
        nodes_min: u16 = Policy::default().nodes_min,
        /// Never more.
        nodes_max: u16 = Policy::default().nodes_max,
        /// Target: operations a second that one node coordinates; 0: they don't matter.
        ops_per_node: u64 = Policy::default().ops_per_node,
        /// Target: CPU, in percent of what `threads` can use; 0: it does not matter.
        cpu_percent: u8 = Policy::default().cpu_percent,
        /// Target: bytes on disk of one node; 0: they don't matter.
        disk_bytes_per_node: u64 = Policy::default().disk_bytes_per_node,
        /// How far below the targets what remains has to be before a node goes, percent.
        margin_percent: u8 = Policy::default().margin_percent,
        /// Milliseconds for which too few have to be too few.
        out_after_ms: u64 = Policy::default().out_after_ms,
        /// Milliseconds for which too many have to be too many.
        in_after_ms: u64 = Policy::default().in_after_ms,
        /// Milliseconds of rest after a change has settled.
        cool_down_ms: u64 = Policy::default().cool_down_ms,
    }
}

section! {
    /// Logs.
    LogConfig {
        /// `text` for people, `json` for machines.
        format: LogFormat = LogFormat::Text,
        /// `error`, `warn`, `info`, `debug`, `trace`, or by module as `info,kv_node::rpc=debug`.
        level: String = "info".into(),
    }
}

macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }
    };
}

choice! {
    /// Who starts nodes and ends them.
    ProvisionerKind {
        /// Nobody.
        None,
        /// An operator's program.
        Command,
    }
}

choice! {
    /// Which engine holds the pairs.
    EngineKind {
        /// On disk, log-structured.
        Lsm,
        /// In memory only.
        Memory,
    }
}

choice! {
    /// What a node says that it is.
    AnnounceAs {
        /// One Redis server.
        Standalone,
        /// A member of a Redis cluster.
        Cluster,
    }
}

choice! {
    /// Which keys whole-keyspace commands speak of.
    WholeKeyspace {
        /// All of them.
        Cluster,
        /// Those of slots whose first live primary this node is.
        Local,
    }
}

choice! {
    /// What CONFIG SET does with what can't be changed.
    ConfigSet {
        /// It is refused.
        Strict,
        /// OK is answered and nothing done.
        Accept,
    }
}

choice! {
    /// Pace of membership.
    Preset {
        /// By the address that rpc listens on.
        Auto,
        /// For nodes of one machine.
        Local,
        /// For a data centre.
        Lan,
    }
}

choice! {
    /// How logs are written.
    LogFormat {
        /// For people.
        Text,
        /// One JSON object a line.
        Json,
    }
}
