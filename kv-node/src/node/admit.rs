//! Joining without an operator: a new node says that it wants to be a member, and members that are
//! set to admit whoever asks make it one (`cluster.join` there, `cluster.admit = "auto"` here).
//!
//! The live member with the lowest id does it, one node at a time, through the same door as an
//! operator's plan; should two believe that they are it, each names the epoch that it decided
//! after, and one of them is told that it came too late.
//!
//! Invariant: only a node that never knew a layout is admitted. Who left, or was replaced, is not
//! brought back by a flag in its start script. Nobody is admitted while a change is under way, or
//! while a member is down: a change would wait for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use kv_client::NodeId;
use parking_lot::Mutex;

use super::reshape::Reshape;
use super::{Inner, Node};
use crate::events::Happened;
use crate::worker::Worker;

/// Rest between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rest after a change that was not made.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(10);

impl Node {
    /// Tells the members of the cluster that this node wants to be one of them. Nothing where it is
    /// one, or was.
    pub fn ask_to_join(&self) {
        if self.view().now().layouts.is_none() {
            self.inner.membership.publish_wish();
        }
    }

    /// Begins to make members of new nodes that ask for it, when that is for this node to do. Once.
    pub fn admit_who_asks(self: &Arc<Self>) {
        let node = Arc::downgrade(self);
        self.workers.start(Arc::new(AdmitLoop { node, status: Mutex::new("looks on".into()) }));
    }
}

impl Inner {
    /// The node that is to be made a member now, the epoch after which, or why nobody is.
    fn admissible(&self) -> Result<(NodeId, u64), String> {
        let view = self.view.now();
        let layouts = view.layouts.as_ref().filter(|_| self.serving().is_some());
        let layouts = layouts.ok_or("is no member yet")?;
        let newest = layouts.newest();
        let members = newest.members();
        let alive = members.iter().copied().filter(|node| view.is_alive(*node));
        if alive.min() != Some(view.me) {
            return Err("another member decides".into());
        }
        let wishes = self.membership.wishes();
        let waiting = self.waiting(&view, layouts);
        let asks = waiting.into_iter().find(|node| wishes.contains(node));
        let node = asks.ok_or("nobody asks")?;
        if layouts.in_transition() {
            return Err(format!("{node} asks; a change is under way"));
        }
        if let Some(down) = members.iter().find(|member| !view.is_up(**member)) {
            return Err(format!("{node} asks; {down} is down"));
        }
        Ok((node, newest.epoch()))
    }
}

struct AdmitLoop {
    node: Weak<Node>,
    status: Mutex<String>,
}

#[async_trait]
impl Worker for AdmitLoop {
    fn name(&self) -> &'static str {
        "admit"
    }

    fn status(&self) -> String {
        self.status.lock().clone()
    }

    async fn step(&self) -> Option<Duration> {
        let node = self.node.upgrade()?;
        let inner = Arc::clone(&node.inner);
        let (asks, after) = match inner.admissible() {
            Ok(asks) => asks,
            Err(why) => {
                *self.status.lock() = why;
                return Some(LOOK_EVERY);
            }
        };
        let join = Reshape { joins: vec![asks], after: Some(after), ..Reshape::default() };
        let joining = node.reshape(join);
        drop(node);
        let (rest, warns, text) = match joining.await {
            Ok(epoch) => (LOOK_EVERY, false, format!("{asks} asked, and joins: layout {epoch}")),
            Err(why) => {
                (REST_AFTER_FAILURE, true, format!("{asks} asks, and can't be joined: {why}"))
            }
        };
        self.status.lock().clone_from(&text);
        let (code, about) = (if warns { "join.failed" } else { "join.admitted" }, Some(asks));
        inner.events.note(Happened { code, warns, about, text });
        Some(rest)
    }
}
