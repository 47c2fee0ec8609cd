//! What the request path knows of the cluster: one immutable value, replaced whole.
//!
//! Coordinators take the current view once for a batch and decide everything with it, so that no
//! operation sees two layouts or two opinions of who is up. Membership, birth and commits publish
//! new views; nobody edits one.
//!
//! Whoever acts holds the view that he acts by until he has done. So a node can tell when nothing
//! that began under older layouts is under way in it any more: when no view of theirs is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use kv_client::NodeId;
use kv_ring::History;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

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
    /// Whether it is about to be stopped, as it says: it answers, and takes no clients.
    pub draining: bool,
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
    /// Ids that were removed for good, in order.
    pub removed: Arc<[NodeId]>,
    /// Shared by all views with the same newest layout.
    under: Arc<Under>,
    /// Members that refuse this node's connections or don't answer its calls: down for its
    /// requests, whatever membership believes.
    pub unreachable: BTreeSet<NodeId>,
    /// Members of live layouts that are down for requests. Made anew with every view.
    down: Vec<NodeId>,
    /// Members that are about to be stopped, in order. Made anew with every view.
    draining: Vec<NodeId>,
    /// Whether the others refuse this node's directory: then it answers nobody any more.
    pub refused: bool,
}

/// Lives as long as anybody holds a view with one newest layout.
#[derive(Debug)]
struct Under;

impl View {
    /// A view that knows nobody.
    pub fn empty(me: NodeId) -> Self {
        Self {
            me,
            record: None,
            layouts: None,
            members: BTreeMap::new(),
            removed: Arc::default(),
            under: Arc::new(Under),
            unreachable: BTreeSet::new(),
            down: Vec::new(),
            draining: Vec::new(),
            refused: false,
        }
    }

    /// The newest layout's epoch; 0 without one.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.layouts.as_ref().map_or(0, |layouts| layouts.newest().epoch())
    }

    /// Whether this node holds a partition in some live layout.
    pub fn holds(&self, partition: kv_ring::Partition) -> bool {
        self.layouts.as_ref().is_some_and(|layouts| {
            layouts.write_sets(partition).any(|owners| owners.contains(&self.me))
        })
    }

    /// Whether a node was removed for good.
    #[inline]
    pub fn is_removed(&self, node: NodeId) -> bool {
        !self.removed.is_empty() && self.removed.binary_search(&node).is_ok()
    }

    /// Whether requests may be sent to a node: it is alive, and answers this node.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.is_alive(node) && !self.unreachable.contains(&node)
    }

    /// The members of live layouts that requests should not count on, in order.
    pub fn down(&self) -> &[NodeId] {
        &self.down
    }

    /// Those that are about to be stopped, in order: they answer, and where others can do what is
    /// to be done it is not asked of them.
    pub fn draining(&self) -> &[NodeId] {
        &self.draining
    }

    /// Whether a node is about to be stopped.
    pub fn is_draining(&self, node: NodeId) -> bool {
        self.draining.contains(&node)
    }

    /// Whether membership believes a node to be alive. All nodes agree on that before long, as
    /// they need not on `is_up`.
    pub fn is_alive(&self, node: NodeId) -> bool {
        node == self.me
            || self
                .members
                .get(&node)
                .is_some_and(|member| matches!(member.liveness, Liveness::Up | Liveness::Suspect))
    }

    fn find_down(&mut self) {
        let draining = self.members.iter().filter(|(_, member)| member.draining);
        self.draining = draining.map(|(node, _)| *node).collect();
        let layouts = self.layouts.iter().flat_map(|layouts| layouts.live());
        let members: BTreeSet<NodeId> =
            layouts.flat_map(|layout| layout.members().iter().copied()).collect();
        self.down = members.into_iter().filter(|node| !self.is_up(*node)).collect();
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
pub struct SharedView {
    now: RwLock<Arc<View>>,
    epoch: watch::Sender<u64>,
    /// Newest layouts of the past whose views may still be held.
    older: Mutex<Vec<Weak<Under>>>,
}

impl SharedView {
    /// Starts with `view`.
    pub fn new(mut view: View) -> Self {
        view.find_down();
        let epoch = watch::Sender::new(view.epoch());
        Self { now: RwLock::new(Arc::new(view)), epoch, older: Mutex::default() }
    }

    /// The view of now.
    #[inline]
    pub fn now(&self) -> Arc<View> {
        Arc::clone(&self.now.read())
    }

    /// Replaces the view by what `change` makes of it.
    pub fn publish(&self, change: impl FnOnce(&mut View)) {
        let mut guard = self.now.write();
        let mut next = View::clone(&guard);
        change(&mut next);
        next.find_down();
        let epoch = next.epoch();
        if epoch != guard.epoch() {
            // Noted before the new view can be seen: who sees it must not be told "settled" early.
            self.older.lock().push(Arc::downgrade(&next.under));
            next.under = Arc::new(Under);
        }
        *guard = Arc::new(next);
        drop(guard);
        self.epoch.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    /// Whether nothing that began under older newest layouts is under way here.
    pub fn is_settled(&self) -> bool {
        let mut older = self.older.lock();
        older.retain(|under| under.strong_count() > 0);
        older.is_empty()
    }

    /// Returns when the newest layout's epoch is above `epoch`.
    pub async fn newer_than(&self, epoch: u64) {
        let mut known = self.epoch.subscribe();
        // The sender lives as long as this.
        let _known = known.wait_for(|now| *now > epoch).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::decree::tests::first;

    #[tokio::test]
    async fn it_is_settled_when_no_view_of_older_layouts_is_held() {
        let shared = SharedView::new(View::empty(NodeId(1)));
        let layout = first(5);
        let next = layout.replaced(NodeId(2), NodeId(6)).expect("a replacement");
        let mut history = History::new(layout);
        shared.publish(|view| view.layouts = Some(Arc::new(history.clone())));
        let acting = shared.now();
        shared.publish(|view| _ = view.members.insert(NodeId(3), Member::default()));
        assert!(shared.is_settled(), "the same layouts, whoever is up");
        let later = shared.now();
        history.push(next).expect("the next epoch");
        shared.publish(|view| view.layouts = Some(Arc::new(history)));
        shared.newer_than(1).await;
        assert!(!shared.is_settled());
        drop(acting);
        assert!(!shared.is_settled(), "another view of the old layout is held");
        drop(later);
        assert!(shared.is_settled());
    }
}
