//! What this directory durably knows of its cluster: the record, the live layouts, its own id.
//!
//! Loaded at the start, changed by birth and by commits, each change stored before it is used.

use std::io;
use std::sync::Arc;

use kv_client::NodeId;
use kv_ring::{History, Layout};
use parking_lot::Mutex;

use super::meta::MetaStore;
use super::record::ClusterRecord;
use super::view::SharedView;
use crate::plug::rng::Rng;

const ID_FACT: &str = "node-id";
const RECORD_FACT: &str = "record";
const LAYOUTS_FACT: &str = "layouts";

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
    changing: Mutex<()>,
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
        let layouts = match meta.load(LAYOUTS_FACT)? {
            None => None,
            Some(fact) => Some(decode_layouts(&fact).ok_or_else(|| invalid("the layouts"))?),
        };
        view.publish(|view| {
            view.record = record.map(Arc::new);
            view.layouts = layouts.map(Arc::new);
        });
        Ok(Self { meta, view, changing: Mutex::new(()) })
    }

    /// The directory's facts.
    pub fn meta(&self) -> &Arc<MetaStore> {
        &self.meta
    }

    /// Whether the directory belongs to a cluster.
    pub fn has_record(&self) -> bool {
        self.view.now().record.is_some()
    }

    /// Takes a cluster's record and layouts, once: a directory never changes its cluster. Blocks.
    ///
    /// # Errors
    /// It belongs to another cluster, the bytes are not what they should be, or the disk failed.
    pub fn adopt(&self, record: &[u8], layouts: &[&[u8]]) -> io::Result<()> {
        let _one = self.changing.lock();
        let decoded = ClusterRecord::decode(record).ok_or_else(|| invalid("the record"))?;
        let mut history: Option<History<NodeId>> = None;
        for layout in layouts {
            let layout = decode_layout(layout).ok_or_else(|| invalid("a layout"))?;
            match &mut history {
                None => history = Some(History::new(layout)),
                Some(history) => history.push(layout).map_err(|_| invalid("a layout's epoch"))?,
            }
        }
        let history = history.ok_or_else(|| invalid("the layouts"))?;
        if let Some(own) = &self.view.now().record {
            return if own.id == decoded.id { Ok(()) } else { Err(invalid("the cluster")) };
        }
        self.meta.store(LAYOUTS_FACT, &encode_layouts(&history))?;
        self.meta.store(RECORD_FACT, record)?;
        self.view.publish(|view| {
            view.record = Some(Arc::new(decoded));
            view.layouts = Some(Arc::new(history));
        });
        Ok(())
    }

    /// Takes the next layout, durably; one that is known already changes nothing. Blocks.
    ///
    /// # Errors
    /// It is not the next one, or the disk failed; nothing changed.
    pub fn push_layout(&self, layout: Layout<NodeId>) -> io::Result<()> {
        let _one = self.changing.lock();
        let now = self.view.now();
        let Some(history) = now.layouts.as_ref() else { return Err(invalid("no layout yet")) };
        if let Some(known) = history.layout(layout.epoch()) {
            return if known.digest() == layout.digest() {
                Ok(())
            } else {
                Err(invalid("another layout has this epoch"))
            };
        }
        let mut next = History::clone(history);
        next.push(layout).map_err(|error| io::Error::other(error.to_string()))?;
        self.meta.store(LAYOUTS_FACT, &encode_layouts(&next))?;
        self.view.publish(|view| view.layouts = Some(Arc::new(next)));
        Ok(())
    }

    /// The encoded record and layouts, for a node that asks.
    pub fn encoded(&self) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        let view = self.view.now();
        let layouts = oldest_first(view.layouts.as_ref()?).map(encode_layout).collect();
        Some((view.record.as_ref()?.encode(), layouts))
    }
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

fn encode_layouts(history: &History<NodeId>) -> Vec<u8> {
    let mut out = Vec::new();
    for layout in oldest_first(history) {
        let bytes = encode_layout(layout);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    out
}

fn decode_layouts(mut bytes: &[u8]) -> Option<History<NodeId>> {
    let mut history: Option<History<NodeId>> = None;
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (layout, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let layout = decode_layout(layout)?;
        match &mut history {
            None => history = Some(History::new(layout)),
            Some(history) => history.push(layout).ok()?,
        }
        bytes = rest;
    }
    history
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} can't be taken"))
}
