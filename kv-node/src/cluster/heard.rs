//! What this node has heard from every other: the memory by which an old directory is known.
//!
//! A directory that was restored from a copy, or that runs twice, has a node id whose later life
//! others have seen. So each node tells, with every call and answer, three numbers of its own: its
//! *life* (a time that each start of a directory takes above all earlier ones), its hybrid *time*
//! (never above the lease in its directory) and its *position* (how far its engine is durable). The
//! others keep the highest. A directory that starts asks them before it serves (`confirm`), and who
//! calls with a life that is not the last one is refused.
//!
//! Kept in memory, and stored every lease period: a peer that restarts too has forgotten the last
//! seconds at most. Bounded by the members of the live layouts.
//!
//! Invariant: what is kept of a node never goes back within one life, and its time never at all.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use kv_client::NodeId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::meta::MetaStore;

const HEARD_FACT: &str = "heard";

/// First byte of the stored fact.
const FORMAT_VERSION: u8 = 1;

/// What one node told of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// When its present life began.
    pub life: u64,
    /// Its hybrid time.
    pub time: u64,
    /// How far its engine was durable in that life.
    pub position: u64,
}

/// What a call or an answer from a node is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is from the node's last known life.
    Current,
    /// A later life of the node was heard from.
    Superseded,
}

/// What was heard from every other node.
#[derive(Debug)]
pub struct HeardBook {
    meta: Arc<MetaStore>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    of: BTreeMap<NodeId, Heard>,
    changed: bool,
}

impl HeardBook {
    /// The directory's book. Blocks on the disk.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn open(meta: Arc<MetaStore>) -> io::Result<Self> {
        let of = match meta.load(HEARD_FACT)? {
            None => BTreeMap::new(),
            Some(fact) => decode(&fact).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "the times heard can't be read")
            })?,
        };
        Ok(Self { meta, inner: Mutex::new(Inner { of, changed: false }) })
    }

    /// Notes what a node tells of itself. `admit` is asked when nothing is known of it yet: only
    /// members are kept.
    pub fn note(&self, from: NodeId, told: Heard, admit: impl FnOnce() -> bool) -> Noted {
        if told.life == 0 {
            return Noted::Current;
        }
        let mut inner = self.inner.lock();
        let Inner { of, changed } = &mut *inner;
        let Some(known) = of.get_mut(&from) else {
            if admit() {
                of.insert(from, told);
                *changed = true;
            }
            return Noted::Current;
        };
        if told.life < known.life {
            return Noted::Superseded;
        }
        let position =
            if told.life == known.life { known.position.max(told.position) } else { told.position };
        let time = known.time.max(told.time);
        let next = Heard { life: told.life, time, position };
        *changed |= next != *known;
        *known = next;
        Noted::Current
    }

    /// What was heard from a node last; zeros for nothing.
    pub fn of(&self, node: NodeId) -> Heard {
        self.inner.lock().of.get(&node).copied().unwrap_or_default()
    }

    /// Stores the book if it changed, without those that `keep` refuses. Blocks on the disk.
    ///
    /// # Errors
    /// What was stored before is still there, or this is.
    pub fn store(&self, keep: impl Fn(NodeId) -> bool) -> io::Result<()> {
        let fact = {
            let mut inner = self.inner.lock();
            if !std::mem::take(&mut inner.changed) {
                return Ok(());
            }
            inner.of.retain(|node, _| keep(*node));
            encode(&inner.of)
        };
        self.meta.store(HEARD_FACT, &fact).inspect_err(|_| self.inner.lock().changed = true)
    }
}

fn encode(of: &BTreeMap<NodeId, Heard>) -> Vec<u8> {
    postcard::to_extend(of, vec![FORMAT_VERSION]).expect("serialising to memory doesn't fail")
}

fn decode(fact: &[u8]) -> Option<BTreeMap<NodeId, Heard>> {
    let (version, body) = fact.split_first()?;
    (*version == FORMAT_VERSION).then(|| postcard::from_bytes(body).ok())?
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kv_lsm::fs::MemFs;

    use super::*;

    fn told(life: u64, time: u64, position: u64) -> Heard {
        Heard { life, time, position }
    }

    #[test]
    fn the_last_life_counts_and_time_never_goes_back() {
        let fs = MemFs::new();
        let open = || {
            let meta = MetaStore::open(Arc::new(fs.clone()), Path::new("/meta")).expect("empty");
            HeardBook::open(Arc::new(meta)).expect("readable")
        };
        let book = open();
        let node = NodeId(7);
        assert_eq!(book.note(node, told(10, 50, 3), || false), Noted::Current);
        assert_eq!(book.of(node), Heard::default(), "not a member");
        assert_eq!(book.note(node, told(10, 50, 3), || true), Noted::Current);
        assert_eq!(book.note(node, told(10, 40, 2), || true), Noted::Current);
        assert_eq!(book.of(node), told(10, 50, 3), "late messages change nothing");
        assert_eq!(book.note(node, told(20, 45, 1), || true), Noted::Current);
        assert_eq!(book.of(node), told(20, 50, 1), "a new life has a position of its own");
        assert_eq!(book.note(node, told(10, 60, 9), || true), Noted::Superseded);
        assert_eq!(book.of(node), told(20, 50, 1));
        assert_eq!(book.note(node, told(0, 0, 0), || true), Noted::Current, "tells nothing yet");

        book.store(|_| true).expect("a sound disk");
        assert_eq!(open().of(node), told(20, 50, 1));
        book.note(node, told(20, 51, 1), || true);
        book.store(|kept| kept != node).expect("a sound disk");
        assert_eq!(open().of(node), Heard::default(), "no member any more");
    }
}
