//! What this directory durably knows of its cluster: its id, the record, the live layouts.
//!
//! Loaded at the start, changed by birth and by decrees, each change stored before it is used. The
//! layouts are kept as they were decided, to be handed on; beside them the newest epoch for which
//! this node has said that it is finished.
//!
//! A partition *begins* here with a layout that gives it to this node, if the layouts that it has
//! finished did not: there this node is a newcomer, over restarts too, until it says "finished".
//!
//! Invariant: live layouts follow each other by proven decrees, and what this node finished never
//! goes back.

use std::io;
use std::sync::Arc;

use kv_client::NodeId;
use kv_ring::{History, LIVE_LAYOUTS_MAX, Layout, Partition, PartitionCount};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::decree::{Decided, Decree};
use super::meta::MetaStore;
use super::record::ClusterRecord;
use super::view::SharedView;
use crate::plug::rng::Rng;

const ID_FACT: &str = "node-id";
const RECORD_FACT: &str = "record";
/// The layouts and nothing else: what directories had before there were decrees.
const LAYOUTS_FACT: &str = "layouts";
const DECIDED_FACT: &str = "decided";
const SEALED_FACT: &str = "sealed";

/// The directory's id, made and stored at its first start.
///
/// # Errors
/// The fact can't be read or stored.
pub fn node_id(meta: &MetaStore, rng: &dyn Rng) -> io::Result<NodeId> {
    if let Some(fact) = meta.load(ID_FACT)? {
        let bytes = fact.as_slice().try_into().map_err(|_| invalid("the node id"))?;
        return Ok(NodeId(u64::from_le_bytes(bytes)));
    }
    let id = NodeId(rng.next_u64());
    meta.store(ID_FACT, &id.0.to_le_bytes())?;
    Ok(id)
}

/// The cluster's record and layouts, on disk and in the view.
#[derive(Debug)]
pub struct ClusterState {
    meta: Arc<MetaStore>,
    view: Arc<SharedView>,
    known: Mutex<Known>,
    /// No abort of the layouts up to this epoch is voted for here (`commit`).
    sealed: Mutex<u64>,
}

/// The live layouts as they were decided, oldest first, and how far this node has got.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Known {
    decided: Vec<Decided>,
    /// This node is finished for layouts up to this epoch.
    finished: u64,
}

impl Known {
    /// The layouts and the ids removed by then; `None` if they don't follow each other.
    fn read(&self) -> Option<(History<NodeId>, Vec<NodeId>)> {
        let mut decided = self.decided.iter();
        let oldest = Decree::decode(&decided.next()?.decree)?;
        let (mut history, mut removed) = (History::new(oldest.layout), oldest.removed);
        for next in decided {
            let decree = next.proven(history.newest(), &removed).ok()?;
            history.push(decree.layout).ok()?;
            removed = decree.removed;
        }
        Some((history, removed))
    }
}

impl ClusterState {
    /// Loads what the directory knows into the view. Blocks on the disk.
    ///
    /// # Errors
    /// A fact is there and can't be read.
    pub fn load(meta: Arc<MetaStore>, view: Arc<SharedView>) -> io::Result<Self> {
        let record = match meta.load(RECORD_FACT)? {
            None => None,
            Some(fact) => {
                Some(ClusterRecord::decode(&fact).ok_or_else(|| invalid("the cluster record"))?)
            }
        };
        let known = match (meta.load(DECIDED_FACT)?, meta.load(LAYOUTS_FACT)?) {
            (Some(fact), _) => postcard::from_bytes(&fact).map_err(|_| invalid("the layouts"))?,
            (None, Some(fact)) => before_decrees(&fact).ok_or_else(|| invalid("the layouts"))?,
            (None, None) => Known::default(),
        };
        let read = match known.decided.as_slice() {
            [] => None,
            _ => Some(known.read().ok_or_else(|| invalid("the layouts"))?),
        };
        view.publish(|view| {
            view.record = record.map(Arc::new);
            if let Some((history, removed)) = read {
                view.layouts = Some(Arc::new(history));
                view.removed = removed.into();
            }
        });
        let sealed = match meta.load(SEALED_FACT)? {
            None => 0,
            Some(fact) => {
                let bytes = fact.as_slice().try_into().map_err(|_| invalid("what is sealed"))?;
                u64::from_le_bytes(bytes)
            }
        };
        Ok(Self { meta, view, known: Mutex::new(known), sealed: Mutex::new(sealed) })
    }

    /// The directory's facts.
    pub fn meta(&self) -> &Arc<MetaStore> {
        &self.meta
    }

    /// Whether the directory belongs to a cluster.
    pub fn has_record(&self) -> bool {
        self.view.now().record.is_some()
    }

    /// Takes a cluster's record and live layouts, once: a directory never changes its cluster. A
    /// node that the first layout names has finished it: nothing was written before. Blocks.
    ///
    /// # Errors
    /// It belongs to another cluster, the bytes are not what they should be, or the disk failed.
    pub fn adopt(&self, record: &[u8], decided: Vec<Decided>) -> io::Result<()> {
        let mut known = self.known.lock();
        let decoded = ClusterRecord::decode(record).ok_or_else(|| invalid("the record"))?;
        if let Some(own) = &self.view.now().record {
            return if own.id == decoded.id { Ok(()) } else { Err(invalid("the cluster")) };
        }
        let mut next = Known { decided, finished: 0 };
        let (history, removed) = next.read().ok_or_else(|| invalid("the layouts"))?;
        let me = self.view.now().me;
        next.finished = history.layout(1).filter(|first| first.contains(me)).map_or(0, |_| 1);
        self.store(&next)?;
        self.meta.store(RECORD_FACT, record)?;
        *known = next;
        self.view.publish(|view| {
            view.record = Some(Arc::new(decoded));
            view.layouts = Some(Arc::new(history));
            view.removed = removed.into();
        });
        Ok(())
    }

    /// Takes the next layout, durably; one that is known already changes nothing. `prepare` gets
    /// the count of its partitions, and those that begin with it, before anybody can act by it.
    /// Blocks.
    ///
    /// # Errors
    /// It is not the next one or not proven, `prepare` failed, or the disk did; nothing changed.
    pub fn take(
        &self,
        decided: &Decided,
        prepare: impl FnOnce(PartitionCount, &[Partition]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut known = self.known.lock();
        let now = self.view.now();
        let Some(history) = &now.layouts else { return Err(invalid("no layout yet: it")) };
        let given = Decree::decode(&decided.decree).ok_or_else(|| invalid("a decree"))?;
        let (epoch, digest) = (given.layout.epoch(), given.layout.digest());
        if epoch <= history.newest().epoch() {
            let differs = history.layout(epoch).is_some_and(|layout| layout.digest() != digest);
            return if differs {
                Err(invalid("another layout has this epoch: it"))
            } else {
                Ok(())
            };
        }
        let decree = decided
            .proven(history.newest(), &now.removed)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut next = History::clone(history);
        next.push(decree.layout).map_err(|error| io::Error::other(error.to_string()))?;
        prepare(next.newest().partitions(), &begin(&next, now.me, known.finished))?;
        let mut stored = known.clone();
        stored.decided.push(decided.clone());
        self.store(&stored)?;
        *known = stored;
        self.view.publish(|view| {
            view.layouts = Some(Arc::new(next));
            view.removed = decree.removed.into();
        });
        Ok(())
    }

    /// The partitions in which this node is a newcomer by its layouts.
    pub fn beginning(&self) -> Vec<Partition> {
        let known = self.known.lock();
        let view = self.view.now();
        view.layouts
            .as_ref()
            .map_or_else(Vec::new, |history| begin(history, view.me, known.finished))
    }

    /// The newest epoch for which this node is finished.
    pub fn finished(&self) -> u64 {
        self.known.lock().finished
    }

    /// This node is finished for all layouts up to `epoch`, for good. Blocks.
    ///
    /// # Errors
    /// The disk failed: it must not be said yet.
    pub fn finish(&self, epoch: u64) -> io::Result<()> {
        let mut known = self.known.lock();
        if epoch <= known.finished {
            return Ok(());
        }
        let next = Known { finished: epoch, ..known.clone() };
        self.store(&next)?;
        *known = next;
        Ok(())
    }

    /// The newest epoch whose change this node votes no more to call off.
    pub fn sealed(&self) -> u64 {
        *self.sealed.lock()
    }

    /// This node votes for no abort of the layouts up to `epoch` any more, for good. Blocks.
    ///
    /// # Errors
    /// The disk failed: it must not be said yet.
    pub fn seal(&self, epoch: u64) -> io::Result<()> {
        let mut sealed = self.sealed.lock();
        if epoch > *sealed {
            self.meta.store(SEALED_FACT, &epoch.to_le_bytes())?;
            *sealed = epoch;
        }
        Ok(())
    }

    /// Retires every layout before `epoch`, whose transitions are over. Blocks.
    ///
    /// # Errors
    /// The disk failed: they stay.
    pub fn retire_before(&self, epoch: u64) -> io::Result<()> {
        let mut known = self.known.lock();
        let now = self.view.now();
        let Some(history) = &now.layouts else { return Ok(()) };
        let over: Vec<u64> =
            history.live().map(|layout| layout.epoch()).filter(|live| *live < epoch).collect();
        if over.is_empty() {
            return Ok(());
        }
        let mut left = History::clone(history);
        for epoch in over.iter().rev() {
            left.retire(*epoch).map_err(|error| io::Error::other(error.to_string()))?;
        }
        let mut next = known.clone();
        next.decided.drain(..over.len().min(next.decided.len()));
        self.store(&next)?;
        *known = next;
        self.view.publish(|view| view.layouts = Some(Arc::new(left)));
        Ok(())
    }

    /// The encoded record and the live layouts as they were decided, for a node that asks.
    pub fn encoded(&self) -> Option<(Vec<u8>, Vec<Decided>)> {
        let known = self.known.lock();
        let record = self.view.now().record.as_ref()?.encode();
        Some((record, known.decided.clone()))
    }

    /// The layouts after `epoch` as they were decided, oldest first.
    pub fn decided_after(&self, epoch: u64) -> Vec<Decided> {
        let known = self.known.lock();
        let count = self.view.now().epoch().saturating_sub(epoch);
        let skip = known.decided.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        known.decided.get(skip..).unwrap_or_default().to_vec()
    }

    fn store(&self, known: &Known) -> io::Result<()> {
        assert!(known.decided.len() <= LIVE_LAYOUTS_MAX, "a history has its bound");
        self.meta.store(DECIDED_FACT, &postcard::to_allocvec(known).map_err(io::Error::other)?)
    }
}

/// The partitions that some live layout gives to `me` and that the newest one of those finished did
/// not.
fn begin(history: &History<NodeId>, me: NodeId, finished: u64) -> Vec<Partition> {
    let base = history.live().find(|layout| layout.epoch() <= finished);
    let partitions = history.newest().partitions();
    let held = |layout: &Layout<NodeId>, partition| layout.owns(me, partition);
    let later = |partition| {
        let mut later = history.live().filter(|layout| layout.epoch() > finished);
        later.any(|layout| held(layout, partition))
    };
    partitions
        .iter()
        .filter(|partition| !base.is_some_and(|base| held(base, *partition)) && later(*partition))
        .collect()
}

/// The live layouts in the order in which they were decided.
pub fn oldest_first(history: &History<NodeId>) -> impl Iterator<Item = &Layout<NodeId>> {
    let mut layouts: Vec<&Layout<NodeId>> = history.live().map(|layout| &**layout).collect();
    layouts.sort_unstable_by_key(|layout| layout.epoch());
    layouts.into_iter()
}

/// A layout's bytes.
pub fn encode_layout(layout: &Layout<NodeId>) -> Vec<u8> {
    layout.encode()
}

/// Reads a layout; `None` for anything that isn't one.
pub fn decode_layout(bytes: &[u8]) -> Option<Layout<NodeId>> {
    Layout::decode(bytes).ok()
}

/// Reads the fact of a directory from before there were decrees: the first layout, and no other.
fn before_decrees(bytes: &[u8]) -> Option<Known> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let layout = decode_layout(rest.get(..u32::from_le_bytes(*length) as usize)?)?;
    let finished = layout.epoch();
    Some(Known { decided: vec![Decided::birth(layout)], finished })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} can't be taken"))
}
