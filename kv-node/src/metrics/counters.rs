//! What the node counts, read by INFO, by operators and by the metrics page.
//!
//! Plain relaxed atomics, so that the hot path pays one addition for a batch. Names and meanings
//! are given once, here: INFO says `kv_commands`, the page `kv_commands_total`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::errors::Errors;
use super::latencies::Latencies;
use super::registry::{Group, Kind, Metric};
use crate::spread::Spread;

macro_rules! figures {
    ($($group:ident { $($(#[doc = $doc:literal])+ $name:ident,)+ })+) => {
        /// The counters.
        #[derive(Debug, Default)]
        pub struct Figures {
            $($($(#[doc = $doc])+ pub $name: Counter,)+)+
            /// How long steps of clients' connections took.
            pub steps: Latencies,
            /// Errors that clients were answered.
            pub errors: Errors,
            /// How long it took from the mint of a write of this node until all its replicas held
            /// it durably: by their answers (one write of each batch), or when a hint was taken.
            pub everywhere: Spread,
        }

        impl Figures {
            /// Every counter with its name, without the `kv_` that the outside adds.
            pub fn each(&self, mut visit: impl FnMut(&'static str, u64)) {
                $($(visit(stringify!($name), self.$name.value());)+)+
            }

            /// Every counter as the metrics page knows it, in the order of `COUNTED`.
            pub(super) fn values(&self) -> impl Iterator<Item = (&'static Metric, u64)> + '_ {
                COUNTED.iter().zip([$($(self.$name.value(),)+)+])
            }
        }

        /// The counters' part of the registry.
        pub(super) const COUNTED: &[Metric] = &[$($(Metric {
            name: concat!("kv_", stringify!($name), "_total"),
            kind: Kind::Counter,
            label: None,
            about: concat!($($doc),+),
            group: Group::$group,
        },)+)+];
    };
}

figures! {
    Requests {
        /// Reads coordinated here.
        coordinator_gets,
        /// Writes coordinated here.
        coordinator_sets,
        /// Operations begun again because newer layouts came to be known meanwhile.
        replans,
        /// Writes forwarded to a replica of their key.
        forwarded,
        /// Writes that ended INDETERMINATE.
        indeterminate,
        /// Writes refused with NOREPLICAS.
        no_replicas,
        /// Reads that ended UNAVAILABLE.
        unavailable,
        /// Second mints of a blind SET.
        second_mints,
        /// Reads that asked one replica more because the first were slow.
        hedged_reads,
        /// Reads that did not, because one in twenty had done so.
        hedges_unpaid,
        /// Writes acknowledged only by counting fallbacks: for them R + W > N promises nothing.
        sloppy_writes,
        /// Reads answered only by counting fallbacks: they may miss acknowledged writes.
        sloppy_reads,
        /// Commands served to clients.
        commands,
        /// Client connections accepted.
        connections,
        /// Client connections closed.
        connections_closed,
    }
    Replicas {
        /// Records read by this replica, for itself and for peers.
        replica_reads,
        /// Records minted or joined durably by this replica.
        replica_applies,
        /// Reads whose replies differed.
        read_conflicts,
        /// Records written to a replica that lacked them because a read saw it.
        read_repairs,
        /// Mints refused because the lease was spent.
        lease_spent,
        /// Tenures begun because this node was shown a dot of its own that it does not hold.
        amnesia_alarms,
        /// Ranges of stored keys that were found damaged and are not served.
        damaged_ranges,
        /// Records that a scan could not read.
        damaged_records,
        /// Replies that waited for a sync of what they show.
        reads_awaiting_sync,
    }
    Siblings {
        /// Mints that left a key with many siblings.
        sibling_warnings,
        /// GETs of keys that have siblings.
        sibling_gets,
    }
    Hints {
        /// Hints put into this node's log, the same key again included.
        hints_written,
        /// Hints that their target holds durably now.
        hints_delivered,
        /// Hints refused, mostly because the log is full: they counted for nothing.
        hints_refused,
        /// Hints beyond W that found no room: anti-entropy mends what they were for.
        hints_dropped,
        /// Hints that were lost with damaged data.
        hints_lost,
    }
    Exchanges {
        /// Exchanges with a peer that ended with all differences mended.
        aae_exchanges,
        /// Exchanges that did not end.
        aae_exchanges_failed,
        /// Leaves that differed and were looked into.
        aae_leaves_differing,
        /// Rows read to be listed in exchanges, for this node and for peers.
        aae_rows_listed,
        /// Keys mended by exchanges that this node began, here, at the peer or at both.
        aae_keys_mended,
        /// Bytes of operations that exchanges sent.
        aae_bytes_sent,
        /// Bytes of answers that exchanges received.
        aae_bytes_received,
        /// Partitions filled after a loss, or because a layout gave them to this node.
        partitions_filled,
        /// Bytes sent and received to fill partitions.
        fill_bytes,
        /// Rows dropped of partitions that this node holds no more.
        leftovers_dropped,
    }
    Collection {
        /// Marks that this node proved for its partitions.
        marks_raised,
        /// Rows that went because a mark covered all that they held.
        collected_rows,
        /// Rows that a mark, or the end of a value, made shorter.
        shortened_rows,
    }
    Peers {
        /// Peer calls answered.
        peer_calls,
        /// Operations in them.
        peer_ops,
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`.
    #[inline]
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn one(&self) {
        self.add(1);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
