//! What the loop sees of the cluster, and how it acts on it: a node, or a test's.

use async_trait::async_trait;
use kv_client::NodeId;
use kv_ring::Exchange;

use super::board::{Board, Told};
use super::policy::Standing;
use crate::events::Happened;
use crate::plug::provisioner::Gone;

/// What the loop sees of the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) now_ms: u64,
    pub(crate) wall_ms: u64,
    /// The newest epoch; 0 while this node has no layout.
    pub(crate) epoch: u64,
    /// Who decides.
    pub(crate) evaluator: Option<NodeId>,
    /// All but `settled_ms`, which the loop knows.
    pub(crate) standing: Standing,
    /// Empty nodes that are up and wait to be joined, in order.
    pub(crate) waiting: Vec<Gone>,
    /// Nodes that left, are up, and hold nothing any more.
    pub(crate) left: Vec<Gone>,
    /// The latest settings.
    pub(crate) board: Board,
    /// The cluster's name, and where a new node finds it.
    pub(crate) cluster: String,
    pub(crate) seeds: Vec<String>,
}

/// A change of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Join(NodeId),
    Leave(NodeId),
    /// Two copies change places.
    Exchange(Exchange<NodeId>),
}

/// What the loop needs of its node.
#[async_trait]
pub(crate) trait Ground: Send + Sync + 'static {
    /// Takes later settings that others tell, and tells what this node says.
    async fn sync(&self);
    /// How everything stands; none while this node does not serve.
    fn look(&self) -> Option<Look>;
    /// Changes the layout, if the newest epoch is still `after`.
    async fn change(&self, change: Change, after: u64) -> Result<u64, String>;
    /// Notes durably that a member is about to be made to leave, after epoch `after`.
    async fn note_left(&self, node: NodeId, after: u64) -> Result<(), String>;
    /// Forgets one that was ended.
    async fn forget_left(&self, node: NodeId);
    /// Changes what this node tells the others.
    fn say(&self, change: Box<dyn FnOnce(&mut Told) + Send>);
    /// Notes an event.
    fn note(&self, happened: Happened);
}
