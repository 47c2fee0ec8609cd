//! Anti-entropy: two replicas find what differs between them, and both have all of it then.
//!
//! ```text
//! asker                                   the other (keeps nothing meanwhile)
//!   Begin                             ->  a stamp of its log: where the exchange begins there
//!   Roots, a few steps                ->  which of the shared partitions differ
//!   Partition, a few steps, for each  ->  which leaves differ
//!   (one pause: writes in flight arrive)
//!   Partition, for those              ->  which still do: what differs twice is looked into
//!   List of a leaf's range            ->  keys and fingerprints
//!   Read of what differs              ->  the record, unless it is the same by now
//!   Apply of what the other lacks     ->  durable
//!   Ended                             ->  noted, for collection
//! ```
//!
//! Equal trees cost one short call for a pair of nodes, whatever they hold. Only records that
//! differ travel. Everything compared is durable on its side before it is told, so what was equal
//! is equal on both disks. A difference that comes or goes meanwhile is left to the next exchange.
//!
//! Replicas collect under one mark at different moments, and one may have it before the other. What
//! is told comes with its partition's mark: below it, what the one does not have is dead, and goes
//! from the other too. So an exchange finishes a collection and never undoes one.
//!
//! Invariant: an exchange is noted for a partition only if, after it began, both sides were seen to
//! be equal in every leaf or every differing key was mended durably, and this side lost nothing of
//! the partition meanwhile.

mod answer;
mod mend;
mod pace;
mod pair;
mod partition;
mod repair;
mod talk;
pub mod wire;

use std::collections::BTreeMap;

use kv_client::NodeId;
use kv_ring::Partition;
use parking_lot::Mutex;

pub use pace::{LatencySeen, LatencyWindow, Throttle};
pub(crate) use pair::begins;
pub(crate) use talk::Part;
pub(super) use talk::{Rate, Talk};
pub use wire::RepairTally;

use super::Scope;
use crate::plug::storage::StorageError;
use crate::replica::TREE_BYTES_MAX_DEFAULT;

/// What an operator decides about anti-entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AntiEntropyConfig {
    /// Whether exchanges run by themselves.
    pub runs: bool,
    /// Bytes of the trees' leaves, were all partitions held.
    pub tree_bytes_max: u64,
    /// Bytes a second that exchanges send and receive at most; 0 is no limit.
    pub bytes_per_second: u64,
    /// The same for filling a replica that lost something.
    pub fill_bytes_per_second: u64,
    /// Milliseconds between two exchanges of this node.
    pub rest_ms: u64,
    /// Milliseconds after which what differed is compared again, before any data is sent. Longer
    /// than a copy of a write may be on its way when nothing is wrong.
    pub settle_ms: u64,
}

impl Default for AntiEntropyConfig {
    fn default() -> Self {
        Self {
            runs: true,
            tree_bytes_max: TREE_BYTES_MAX_DEFAULT,
            bytes_per_second: 8 << 20,
            fill_bytes_per_second: 64 << 20,
            rest_ms: 1_000,
            settle_ms: 1_000,
        }
    }
}

/// Why an exchange did not end. What it mended until then is mended.
#[derive(Clone, Debug)]
pub(crate) enum ExchangeError {
    /// The other did not answer, or not in time.
    Silent(String),
    /// One of the two has no tree of the partition yet.
    NoTree,
    /// The other answers what was not asked.
    Confused,
    /// This node's storage.
    Storage(StorageError),
    /// There is nobody to exchange with.
    NoReplicas,
}

impl std::fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(why) => write!(f, "no answer: {why}"),
            Self::NoTree => f.write_str("a tree is still being built"),
            Self::Confused => f.write_str("an answer to another question"),
            Self::Storage(error) => error.fmt(f),
            Self::NoReplicas => f.write_str("no other replica is up"),
        }
    }
}

impl From<StorageError> for ExchangeError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<kv_merkle::Error> for ExchangeError {
    fn from(_: kv_merkle::Error) -> Self {
        Self::Confused
    }
}

/// How exchanges with one peer went.
#[derive(Clone, Debug, Default)]
pub struct PeerExchanges {
    /// Exchanges that ended with everything mended.
    pub exchanges: u64,
    /// When the last of these ended, on the steady clock.
    pub ended_ms: Option<u64>,
    /// What the last one came to.
    pub last: RepairTally,
    /// What all came to.
    pub total: RepairTally,
    /// Why the last one did not end, if it didn't.
    pub failure: Option<String>,
    /// Since when none ended, on the steady clock, if the last one didn't.
    pub failing_since_ms: Option<u64>,
}

/// What is remembered of exchanges. Bounded by the members and by the partitions.
#[derive(Debug, Default)]
pub(super) struct ExchangeBook {
    peers: Mutex<BTreeMap<NodeId, PeerExchanges>>,
    /// How often in a row leaves of a partition differed and no key did.
    phantoms: Mutex<BTreeMap<Partition, u32>>,
}

/// Leaves may differ so often in a row without a key that does; then a tree is wrong.
const PHANTOMS_MAX: u32 = 3;

impl ExchangeBook {
    pub(super) fn peers(&self) -> BTreeMap<NodeId, PeerExchanges> {
        self.peers.lock().clone()
    }

    /// Notes how an exchange with a peer went.
    fn note(&self, peer: NodeId, now_ms: u64, tally: &RepairTally, failure: Option<String>) {
        let mut peers = self.peers.lock();
        let of = peers.entry(peer).or_default();
        of.total.add(tally);
        of.last = *tally;
        if failure.is_none() {
            of.exchanges += 1;
            of.ended_ms = Some(now_ms);
            of.failing_since_ms = None;
        } else {
            of.failing_since_ms.get_or_insert(now_ms);
        }
        of.failure = failure;
    }

    /// An exchange that a peer began has ended, and came to this as the peer says: sent is what the
    /// peer sent.
    fn ended_by(&self, peer: NodeId, now_ms: u64, tally: &RepairTally) {
        let mut peers = self.peers.lock();
        let of = peers.entry(peer).or_default();
        of.total.add(tally);
        of.last = *tally;
        of.exchanges += 1;
        of.ended_ms = Some(now_ms);
        of.failing_since_ms = None;
    }

    /// A partition's leaves differed (or not) without a key that does. Says whether its trees are
    /// in doubt now.
    fn phantom(&self, partition: Partition, differed: bool) -> bool {
        let mut phantoms = self.phantoms.lock();
        if !differed {
            phantoms.remove(&partition);
            return false;
        }
        let count = phantoms.entry(partition).or_default();
        *count += 1;
        let doubt = *count >= PHANTOMS_MAX;
        if doubt {
            phantoms.remove(&partition);
        }
        doubt
    }
}

impl Scope {
    /// Whether a node holds the partition in some live layout.
    pub(super) fn is_held_by(&self, partition: Partition, node: NodeId) -> bool {
        self.layouts.write_sets(partition).any(|owners| owners.contains(&node))
    }

    /// The other nodes that hold the partition in some live layout, each once, in order.
    pub(super) fn others(&self, partition: Partition) -> Vec<NodeId> {
        let sets = self.layouts.write_sets(partition);
        let mut others: Vec<NodeId> =
            sets.flatten().copied().filter(|node| *node != self.view.me).collect();
        others.sort_unstable();
        others.dedup();
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_counted_from_the_first_until_one_ends() {
        let (book, tally) = (ExchangeBook::default(), RepairTally::default());
        let note = |now_ms, failure: Option<&str>| {
            book.note(NodeId(2), now_ms, &tally, failure.map(str::to_owned));
            book.peers().get(&NodeId(2)).and_then(|of| of.failing_since_ms)
        };
        assert_eq!(note(5, None), None);
        assert_eq!((note(10, Some("cut")), note(20, Some("slow"))), (Some(10), Some(10)));
        assert_eq!((note(30, None), note(40, Some("cut"))), (None, Some(40)));
        book.ended_by(NodeId(2), 50, &tally);
        assert_eq!(note(60, Some("cut")), Some(60));
    }
}
