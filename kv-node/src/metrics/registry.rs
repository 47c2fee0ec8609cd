//! The one registry: each figure's name, kind, label and meaning. Pure data.
//!
//! What the page shows, what `docs/METRICS.md` lists and what the dashboard and the alerts may ask
//! for all come from here. Names follow Prometheus's rules: counters end in `_total`, sizes in
//! `_bytes`, times are in seconds, parts of a whole are ratios.

use super::counters::COUNTED;

/// What a figure is about: a chapter of the docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What clients ask for: rate, errors, duration.
    Requests,
    /// What the process uses, and how long work waits for it.
    Process,
    /// Who is up, and which layouts hold.
    Cluster,
    /// This node's copies.
    Replicas,
    /// The storage engine.
    Engine,
    /// The ways to the peers.
    Peers,
    /// Writes kept for others.
    Hints,
    /// Anti-entropy, and the filling of partitions.
    Exchanges,
    /// Keys with several values.
    Siblings,
    /// Floors and marks: when what was deleted is forgotten.
    Collection,
    /// What is asked for most, and how many nodes there should be.
    Load,
}

/// How a figure is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises, and is 0 after a start.
    Counter,
    /// It holds now.
    Gauge,
    /// Counts below bounds, with a sum.
    Histogram,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As it stands on the page.
    pub name: &'static str,
    /// How it is to be read.
    pub kind: Kind,
    /// What it is told apart by, beside `cluster` and `node`, which all have.
    pub label: Option<&'static str>,
    /// What it means.
    pub about: &'static str,
    /// Its chapter.
    pub group: Group,
}

macro_rules! registry {
    ($($group:ident {
        $($(#[doc = $about:literal])+ $id:ident = $kind:ident $name:literal $(by $label:literal)?;)+
    })+) => {
        $($(
            $(#[doc = $about])+
            pub(super) const $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                label: registry!(@label $($label)?),
                about: concat!($($about),+),
                group: Group::$group,
            };
        )+)+

        /// All but the counters of `Figures` and the engine's figures.
        const MEASURED: &[Metric] = &[$($($id,)+)+];
    };
    (@label) => { None };
    (@label $label:literal) => { Some($label) };
}

registry! {
    Requests {
        /// How long a client's command took, or a run of GETs or SETs that was executed as one:
        /// from its first look to its answer, waits for replicas and disks included.
        REQUEST_SECONDS = Histogram "kv_request_seconds" by "op";
        /// Commands that clients were answered an error for, by its first word.
        ERRORS = Counter "kv_errors_total" by "code";
        /// How long it took until all replicas held a write of this node durably: half of them, and
        /// 99 of 100, took no longer, since it started.
        WRITE_EVERYWHERE = Gauge "kv_write_everywhere_seconds" by "quantile";
        /// Client connections that are open.
        CLIENTS = Gauge "kv_clients";
    }
    Process {
        /// 1, with the version that runs.
        BUILD_INFO = Gauge "kv_build_info" by "version";
        /// CPU time that the process has used.
        PROCESS_CPU_SECONDS = Counter "process_cpu_seconds_total";
        /// Memory of the process that is in RAM.
        PROCESS_RESIDENT_BYTES = Gauge "process_resident_memory_bytes";
        /// Files and sockets that the process has open.
        PROCESS_OPEN_FDS = Gauge "process_open_fds";
        /// How many it may have open.
        PROCESS_MAX_FDS = Gauge "process_max_fds";
        /// When the process started, seconds since 1970.
        PROCESS_START_SECONDS = Gauge "process_start_time_seconds";
        /// CPU of the process as a part of what its threads can use.
        LOAD_CPU = Gauge "kv_load_cpu_ratio";
        /// How long work waited for its turn lately, about.
        LOAD_WAIT_SECONDS = Gauge "kv_load_wait_seconds";
        /// Values of labels that were left out of this page because there were too many.
        SERIES_LEFT_OUT = Gauge "kv_series_left_out";
    }
    Cluster {
        /// Whether the node is ready for clients.
        READY = Gauge "kv_ready";
        /// Whether the node is being drained, or is: it takes no clients then.
        DRAINING = Gauge "kv_draining";
        /// Members of the newest layout.
        MEMBERS = Gauge "kv_members";
        /// Members of the newest layout that are up.
        MEMBERS_UP = Gauge "kv_members_up";
        /// Whether a member of the newest layout is up: alert when one stays away.
        MEMBER_UP = Gauge "kv_member_up" by "member";
        /// Epoch of the newest layout.
        LAYOUT_EPOCH = Gauge "kv_layout_epoch";
        /// Live layouts: more than one during a transition.
        LAYOUTS_LIVE = Gauge "kv_layouts_live";
        /// Whether the clock is too far from a majority's: the node forwards writes then.
        CLOCK_SKEWED = Gauge "kv_clock_skewed";
    }
    Engine {
        /// Whether the engine takes no more writes.
        ENGINE_POISONED = Gauge "kv_engine_poisoned";
        /// Bytes of rows held in memory.
        ENGINE_MEMORY_BYTES = Gauge "kv_engine_memory_bytes";
        /// Bytes on disk.
        ENGINE_DISK_BYTES = Gauge "kv_engine_disk_bytes";
        /// Rows, tombstones included, where the engine counts them.
        ENGINE_ROWS = Gauge "kv_engine_rows";
    }
    Peers {
        /// Connections that passed the handshake.
        RPC_ACCEPTED = Counter "kv_rpc_accepted_total";
        /// Connections without the secret.
        RPC_REFUSED_SECRET = Counter "kv_rpc_refused_secret_total";
        /// Connections refused otherwise.
        RPC_REFUSED_OTHER = Counter "kv_rpc_refused_other_total";
        /// Connections over a bound.
        RPC_REFUSED_FULL = Counter "kv_rpc_refused_full_total";
        /// Connections made to peers.
        RPC_DIALLED = Counter "kv_rpc_dialled_total";
        /// Attempts to connect to peers that failed.
        RPC_DIAL_FAILED = Counter "kv_rpc_dial_failed_total";
        /// Those that failed in the handshake.
        RPC_DIAL_REFUSED = Counter "kv_rpc_dial_refused_total";
        /// Recent latency of calls to the peer.
        PEER_CALL_SECONDS = Gauge "kv_peer_call_seconds" by "peer";
        /// What 95 of 100 recent calls with reads to the peer did not exceed.
        PEER_READ_P95_SECONDS = Gauge "kv_peer_read_p95_seconds" by "peer";
        /// How surprising the peer's silence is.
        PEER_PHI = Gauge "kv_peer_phi" by "peer";
        /// 1 while requests count the peer as down.
        PEER_DOWN = Gauge "kv_peer_down" by "peer";
        /// Time since a call was sent to the peer with nothing heard since.
        PEER_UNANSWERED_SECONDS = Gauge "kv_peer_unanswered_seconds" by "peer";
        /// Time until the peer is dialled again.
        PEER_BACKED_OFF_SECONDS = Gauge "kv_peer_backed_off_seconds" by "peer";
        /// Operations queued for peers.
        PEER_QUEUE_OPS = Gauge "kv_peer_queue_ops";
        /// Calls to peers in flight.
        PEER_CALLS_IN_FLIGHT = Gauge "kv_peer_calls_in_flight";
        /// Calls made to peers.
        PEER_CALLS_SENT = Counter "kv_peer_calls_sent_total";
        /// Operations in calls made to peers.
        PEER_OPS_SENT = Counter "kv_peer_ops_sent_total";
    }
    Hints {
        /// Bytes of hints kept for other nodes.
        HINT_BYTES = Gauge "kv_hint_bytes";
        /// Bytes of hints kept at most.
        HINT_BYTES_MAX = Gauge "kv_hint_bytes_max";
        /// Keys of which hints wait for the peer.
        HINT_QUEUED_KEYS = Gauge "kv_hint_queued_keys" by "peer";
        /// Bytes of hints that wait for the peer.
        HINT_QUEUED_BYTES = Gauge "kv_hint_queued_bytes" by "peer";
        /// Time since the write with which the peer's queue of hints began.
        HINT_QUEUED_AGE_SECONDS = Gauge "kv_hint_queued_age_seconds" by "peer";
    }
    Exchanges {
        /// Hash trees that are whole.
        AAE_TREES_BUILT = Gauge "kv_aae_trees_built";
        /// Hash trees in the making.
        AAE_TREES_BUILDING = Gauge "kv_aae_trees_building";
        /// Time since the last exchange with the peer ended.
        AAE_EXCHANGE_AGE_SECONDS = Gauge "kv_aae_exchange_age_seconds" by "peer";
        /// Partitions to be filled after a loss, or because a layout gave them to this node.
        PARTITIONS_FILLING = Gauge "kv_partitions_filling";
    }
    Siblings {
        /// Keys with siblings in partitions whose first live primary this node is: their sum over
        /// all nodes is the cluster's.
        CONFLICT_KEYS = Gauge "kv_conflict_keys";
        /// Keys with siblings that this node holds.
        CONFLICT_KEYS_HELD = Gauge "kv_conflict_keys_held";
        /// Bytes of the index of keys with siblings.
        CONFLICT_INDEX_BYTES = Gauge "kv_conflict_index_bytes";
        /// Partitions whose keys with siblings are not all known.
        CONFLICT_PARTITIONS_OPEN = Gauge "kv_conflict_partitions_open";
    }
    Collection {
        /// How far a member's floor lies behind this node's clock.
        FLOOR_AGE_SECONDS = Gauge "kv_floor_age_seconds" by "member";
        /// Age of the lowest mark of the partitions held here.
        MARK_AGE_SECONDS = Gauge "kv_mark_age_seconds";
        /// Members that hold collection back.
        FLOORS_LATE = Gauge "kv_floors_late";
    }
    Load {
        /// Operations a second on the key of that rank, as this node coordinates them. Keys are
        /// named by `kv hot`.
        HOT_KEY_OPS = Gauge "kv_hot_key_ops" by "rank";
        /// Operations a second on the partition of that rank, likewise.
        HOT_PARTITION_OPS = Gauge "kv_hot_partition_ops" by "rank";
        /// Nodes that there should be next, by the autoscaling policy.
        DESIRED_NODES = Gauge "kv_desired_nodes";
    }
}

/// A figure that only an engine knows, by the name that it gives it. The page shows what ends in
/// `_us` there in seconds.
pub(super) struct OfEngine {
    pub(super) raw: &'static str,
    pub(super) metric: Metric,
}

macro_rules! engine {
    ($($(#[doc = $about:literal])+ $raw:literal = $kind:ident $name:literal;)+) => {
        /// What engines tell beside what all of them do.
        pub(super) const ENGINE: &[OfEngine] = &[$(OfEngine {
            raw: $raw,
            metric: Metric {
                name: $name,
                kind: Kind::$kind,
                label: None,
                about: concat!($($about),+),
                group: Group::Engine,
            },
        },)+];
    };
}

engine! {
    /// Frames written to the log: groups of batches.
    "log_frames" = Counter "kv_engine_log_frames_total";
    /// Bytes written to the log.
    "log_bytes_written" = Counter "kv_engine_log_written_bytes_total";
    /// Syncs of the log.
    "log_syncs" = Counter "kv_engine_log_syncs_total";
    /// Time that the log's syncs took.
    "log_sync_us" = Counter "kv_engine_log_sync_seconds_total";
    /// Bytes of live log segments.
    "log_bytes" = Gauge "kv_engine_log_bytes";
    /// Bytes of the memtable that is written to, about.
    "memtable_bytes" = Gauge "kv_engine_memtable_bytes";
    /// Memtables that wait for their flush.
    "memtables_sealed" = Gauge "kv_engine_memtables_sealed";
    /// Memtables flushed.
    "flushes" = Counter "kv_engine_flushes_total";
    /// Bytes of tables that flushes wrote.
    "flush_bytes_written" = Counter "kv_engine_flush_written_bytes_total";
    /// Compactions done.
    "compactions" = Counter "kv_engine_compactions_total";
    /// Bytes of tables that compactions wrote.
    "compaction_bytes_written" = Counter "kv_engine_compaction_written_bytes_total";
    /// Whether compaction stands still because of a failure.
    "compaction_stopped" = Gauge "kv_engine_compaction_stopped";
    /// Tables.
    "tables" = Gauge "kv_engine_tables";
    /// Tables of level 0: reads look into each, and writes wait when there are too many.
    "level0_tables" = Gauge "kv_engine_level0_tables";
    /// Bytes of blocks and rows in the cache.
    "cache_bytes" = Gauge "kv_engine_cache_bytes";
    /// Bytes that the cache may hold.
    "cache_bytes_max" = Gauge "kv_engine_cache_bytes_max";
    /// Blocks that were not in the cache and were read from the tables' files.
    "cache_misses" = Counter "kv_engine_cache_misses_total";
    /// Bytes pinned for the tables' indexes and filters.
    "pinned_bytes" = Gauge "kv_engine_pinned_bytes";
    /// Appends that had to wait for room.
    "stalls" = Counter "kv_engine_stalls_total";
    /// Snapshots and iterators that are held.
    "snapshots" = Gauge "kv_engine_snapshots";
    /// Writes and replies that wait for a sync.
    "awaiting_sync" = Gauge "kv_engine_awaiting_sync";
    /// Damaged parts of tables that are not given up.
    "damaged" = Gauge "kv_engine_damaged";
    /// Operations of the log that the start had to replay: none after an orderly stop.
    "replayed_ops" = Gauge "kv_engine_replayed_ops";
    /// Whether writes are refused because the disk has no room.
    "disk_full" = Gauge "kv_engine_disk_full";
    /// Bytes of rows that the memory engine may hold.
    "memory_bytes_max" = Gauge "kv_engine_memory_bytes_max";
}

/// Every figure, chapter by chapter.
pub fn all() -> Vec<&'static Metric> {
    let engine = ENGINE.iter().map(|of| &of.metric);
    let mut all: Vec<&Metric> = MEASURED.iter().chain(COUNTED).chain(engine).collect();
    all.sort_by_key(|metric| metric.group);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_their_kind_and_unit() {
        let mut names = BTreeSet::new();
        for Metric { name, kind, label, about, .. } in all() {
            assert!(names.insert(*name), "{name} stands twice");
            let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(sound), "{name}");
            assert!(name.starts_with("kv_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            for unit in ["_ms", "_us", "_per_mille", "_percent", "_hundredths", "_kib"] {
                assert!(!name.contains(unit), "{name} is not in a base unit");
            }
            // A histogram's series must be nobody else's.
            let series = ["_bucket", "_sum", "_count"];
            assert!(!series.iter().any(|end| name.ends_with(end)), "{name}");
            assert!(label.is_none_or(|label| label != "node" && label != "cluster"), "{name}");
            assert!(about.trim().ends_with('.') && !about.contains("  "), "{name}: {about}");
        }
    }
}
