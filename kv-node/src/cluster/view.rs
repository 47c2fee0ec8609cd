//! What the request path knows of the cluster: one immutable value, replaced whole.
//!
//! Coordinators take the current view once for a batch and decide everything with it, so that no
//! operation sees two layouts or two opinions of who is up. Membership, birth and commits publish
//! new views; nobody edits one.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_client::NodeId;
use kv_ring::History;
use parking_lot::RwLock;

use super::record::ClusterRecord;
use crate::plug::transport::PeerAddress;
use crate::wire::LayoutName;

/// What membership believes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// It answers.
    #[default]
    Up,
    /// It has not answered; others are being asked. Counts as up for requests.
    Suspect,
    /// Believed to be down.
    Down,
    /// It said goodbye.
    Left,
}

/// A member as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Where peers reach it.
    pub address: PeerAddress,
    /// Where clients reach it, for CLUSTER SLOTS and the like.
    pub client_address: String,
    /// Its zone; may be empty.
    pub zone: String,
    /// Whether it is up.
    pub liveness: Liveness,
}

/// The view.
#[derive(Clone, Debug)]
pub struct View {
    /// This node.
    pub me: NodeId,
    /// The cluster's record; without one the node answers `-LOADING`.
    pub record: Option<Arc<ClusterRecord>>,
    /// Live layouts; without one the node answers `-LOADING`.
    pub layouts: Option<Arc<History<NodeId>>>,
    /// Every known member, this node included.
    pub members: BTreeMap<NodeId, Member>,
}

impl View {
    /// A view that knows nobody.
    pub fn empty(me: NodeId) -> Self {
        Self { me, record: None, layouts: None, members: BTreeMap::new() }
    }

    /// Whether requests may be sent to a node.
    pub fn is_up(&self, node: NodeId) -> bool {
        node == self.me
            || self
                .members
                .get(&node)
                .is_some_and(|member| matches!(member.liveness, Liveness::Up | Liveness::Suspect))
    }

    /// The live layouts as an envelope names them, oldest first.
    pub fn layout_names(&self) -> Vec<LayoutName> {
        self.layouts.as_ref().map_or_else(Vec::new, |layouts| {
            super::state::oldest_first(layouts)
                .map(|layout| LayoutName { epoch: layout.epoch(), digest: layout.digest() })
                .collect()
        })
    }
}

/// The current view, for readers and the one publisher.
#[derive(Debug)]
pub struct SharedView(RwLock<Arc<View>>);

impl SharedView {
    /// Starts with `view`.
    pub fn new(view: View) -> Self {
        Self(RwLock::new(Arc::new(view)))
    }

    /// The view of now.
    #[inline]
    pub fn now(&self) -> Arc<View> {
        Arc::clone(&self.0.read())
    }

    /// Replaces the view by what `change` makes of it.
    pub fn publish(&self, change: impl FnOnce(&mut View)) {
        let mut guard = self.0.write();
        let mut next = View::clone(&guard);
        change(&mut next);
        *guard = Arc::new(next);
    }
}
