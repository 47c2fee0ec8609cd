//! What replicas say to each other to find and mend what differs between them.
//!
//! Partitions travel by their codes (kv-ring), which name the count too: what is asked by another
//! count than there is by now finds no tree.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What one asks. Only `Ended` and `Doubt` leave anything behind at the asked node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExchangeOp {
    /// An exchange begins: answered before anything is looked at.
    Begin,
    /// One step of comparing the roots of all partitions that both nodes hold.
    Roots {
        /// Digest of the asker's live layouts: they say which partitions those are.
        layouts: u64,
        /// Depth of the partitions' trees whose roots these are.
        depth: u8,
        /// A request of kv-merkle, encoded.
        request: Bytes,
    },
    /// One step of comparing the trees of one partition.
    Partition {
        /// The partition's code.
        partition: u16,
        /// A request of kv-merkle, encoded.
        request: Bytes,
    },
    /// Which keys lie in a range, and what they are worth.
    List {
        /// The code of the range's partition.
        partition: u16,
        /// First storage key, inclusive.
        from: Bytes,
        /// End, exclusive.
        to: Bytes,
    },
    /// An exchange ended: what differed is mended, durably on both sides.
    Ended {
        /// Digest of the asker's live layouts.
        layouts: u64,
        /// What the asked node answered to `Begin`.
        begun: u64,
        /// The same.
        life: u64,
        /// Codes of partitions that both hold and of which it is not true, ascending.
        except: Vec<u16>,
        /// What it came to, for the asked node's operators.
        tally: RepairTally,
    },
    /// Leaves differ again and again and the keys in them don't: one of the trees is wrong.
    Doubt {
        /// The partition's code.
        partition: u16,
    },
    /// Exchange a partition with all its other replicas now.
    Repair {
        /// The partition's code.
        partition: u16,
        /// Only this storage key; empty for all.
        key: Bytes,
    },
}

/// What the other answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExchangeOut {
    /// The exchange has begun at the asked node.
    Begun {
        /// A stamp of its log of exchanges.
        begun: u64,
        /// Its life: after a restart the stamp says nothing.
        life: u64,
    },
    /// A step of a comparison.
    Compared {
        /// An answer of kv-merkle, encoded.
        answer: Bytes,
        /// Whether this replica is complete: what it has is all that it ever acknowledged.
        complete: bool,
        /// Its mark for the partition, a hybrid time: what it does not hold live at or below that
        /// is dead. 0 for none.
        mark: u64,
    },
    /// There is no tree to compare with: it is being built, or the partition is not held.
    NoTree {
        /// As in `Compared`.
        complete: bool,
        /// As in `Compared`.
        mark: u64,
    },
    /// The trees of this node are flatter: ask again with this depth.
    Flatter {
        /// Their depth.
        depth: u8,
    },
    /// A page of a list, in key order.
    Listed {
        /// Storage keys with the fingerprints of their records.
        rows: Vec<Fingerprinted>,
        /// Up to which storage key, inclusive; empty: to the end of the range.
        until: Bytes,
        /// As in `Compared`.
        complete: bool,
        /// As in `Compared`.
        mark: u64,
    },
    /// What an exchange of a partition with all its replicas came to.
    Repaired(RepairTally),
    /// Noted.
    Noted,
}

/// A storage key and the fingerprint of its record: sixteen bytes, since a number of that size
/// would take more.
pub type Fingerprinted = (Bytes, [u8; 16]);

/// What exchanges came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairTally {
    /// Bytes of operations sent.
    pub sent_bytes: u64,
    /// Bytes of answers received.
    pub received_bytes: u64,
    /// Leaves that differed and were looked into.
    pub leaves: u64,
    /// Rows of this node that were read to be listed.
    pub rows_listed: u64,
    /// Keys that differed.
    pub found: u64,
    /// Keys mended, here, there or both.
    pub mended: u64,
    /// Replicas exchanged with.
    pub peers: u64,
}

impl RepairTally {
    /// Adds what others came to.
    pub fn add(&mut self, other: &Self) {
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.leaves += other.leaves;
        self.rows_listed += other.rows_listed;
        self.found += other.found;
        self.mended += other.mended;
        self.peers += other.peers;
    }
}
