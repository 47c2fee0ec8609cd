//! The changes of the layout that this directory has taken, for those who ask what happened.
//!
//! Layouts are forgotten when they retire; what changed is kept, a bounded number of changes, as
//! a durable fact of the directory. Nothing is decided by it. A node knows of the changes since it
//! is in the cluster.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use kv_client::NodeId;
use kv_ring::{Layout, Plan};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::decree::{Change, Decree};
use super::meta::MetaStore;

const CHANGES_FACT: &str = "changes";

/// Changes that are kept.
pub const CHANGES_MAX: usize = 128;
/// Nodes of a kind that are named of one change.
pub const CHANGED_NODES_MAX: usize = 64;

/// One change, as a node remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The epoch of the layout that it made.
    pub epoch: u64,
    /// When this node took it, by its wall clock, in milliseconds.
    pub at_ms: u64,
    /// What it was.
    pub change: Change,
    /// Nodes that became members.
    pub joined: Vec<NodeId>,
    /// Members that are none any more, or who was given up.
    pub left: Vec<NodeId>,
    /// Copies of partitions that it asked for.
    pub copies: u32,
}

impl Changed {
    /// What a decree changed.
    pub fn of(before: &Layout<NodeId>, decree: &Decree, at_ms: u64) -> Self {
        let after = &decree.layout;
        let set = |layout: &Layout<NodeId>| layout.members().iter().copied().collect();
        let (old, new): (BTreeSet<NodeId>, BTreeSet<NodeId>) = (set(before), set(after));
        let given_up = match decree.change {
            Change::GiveUp { node } => Some(node),
            _ => None,
        };
        let left = old.difference(&new).copied().chain(given_up);
        let copies = Plan::between(before, after).map_or(0, |plan| plan.moves().len());
        Self {
            epoch: after.epoch(),
            at_ms,
            change: decree.change,
            joined: new.difference(&old).copied().take(CHANGED_NODES_MAX).collect(),
            left: left.take(CHANGED_NODES_MAX).collect(),
            copies: u32::try_from(copies).unwrap_or(u32::MAX),
        }
    }
}

/// The changes that a directory remembers.
#[derive(Debug)]
pub struct ChangeLog {
    meta: Arc<MetaStore>,
    changes: Mutex<VecDeque<Changed>>,
}

impl ChangeLog {
    /// What the directory remembers. Blocks on the disk. A list that can't be read is begun anew:
    /// nothing depends on it.
    pub fn load(meta: Arc<MetaStore>) -> Self {
        let fact = meta.load(CHANGES_FACT).ok().flatten();
        let changes = fact.and_then(|fact| postcard::from_bytes(&fact).ok()).unwrap_or_default();
        Self { meta, changes: Mutex::new(changes) }
    }

    /// Remembers a change; the oldest beyond the bound go. Blocks.
    ///
    /// # Errors
    /// The disk failed: it is remembered until this node stops.
    pub fn note(&self, changed: Changed) -> io::Result<()> {
        let mut changes = self.changes.lock();
        changes.push_back(changed);
        while changes.len() > CHANGES_MAX {
            changes.pop_front();
        }
        let fact = postcard::to_allocvec(&*changes).map_err(io::Error::other)?;
        self.meta.store(CHANGES_FACT, &fact)
    }

    /// All that is remembered, the oldest first.
    pub fn all(&self) -> Vec<Changed> {
        self.changes.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kv_lsm::fs::MemFs;
    use kv_ring::{AutoClaim, NodeSpec, Zone};

    use super::*;
    use crate::cluster::decree::tests::first;

    #[test]
    fn changes_are_remembered_over_restarts_and_bounded() {
        let fs = Arc::new(MemFs::new());
        let open = || {
            let meta = MetaStore::open(Arc::clone(&fs) as _, Path::new("/meta")).expect("memory");
            ChangeLog::load(Arc::new(meta))
        };
        let before = first(3);
        let mut members = before.topology();
        members.insert(NodeId(4), NodeSpec::new(1, Zone::named("")));
        members.remove(NodeId(2));
        let next = Layout::next(&before, &members, 3, &AutoClaim).expect("three nodes");
        let changed = Changed::of(&before, &Decree::reshape(&before, &[], next), 17);
        assert_eq!((&changed.joined[..], &changed.left[..]), (&[NodeId(4)][..], &[NodeId(2)][..]));
        assert_eq!((changed.epoch, changed.copies), (2, 16), "all of node 2's");
        let log = open();
        for epoch in 2..CHANGES_MAX as u64 + 12 {
            log.note(Changed { epoch, ..changed.clone() }).expect("memory");
        }
        let kept = open().all();
        assert_eq!(kept, log.all());
        assert_eq!((kept.len(), kept[0].epoch), (CHANGES_MAX, 12));
    }
}
