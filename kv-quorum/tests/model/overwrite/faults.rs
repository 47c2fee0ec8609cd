//! What befalls the nodes of the model: they end, come back, are cut off, lose their disks, and are
//! filled again.
//!
//! Invariant: at most W - 1 disks are lost at a time.

use super::World;

impl World {
    /// The process dies: what it coordinated has no known outcome, what it stored is synced.
    pub(super) fn crash(&mut self, at: usize) {
        if self.nodes.iter().filter(|node| !node.up).count() == 0 {
            self.nodes[at].up = false;
            self.ops.retain(|_, op| op.coordinator != at);
        }
    }

    pub(super) fn restart(&mut self, at: usize) {
        if !self.nodes[at].up {
            self.nodes[at].up = true;
            self.nodes[at].actor.tenure = self.rng.draw();
        }
    }

    pub(super) fn toggle_cut(&mut self, at: usize) {
        let count = self.nodes.len();
        let other = (at + 1 + self.rng.below(count - 1)) % count;
        let cut = !self.cut[at][other];
        self.cut[at][other] = cut;
        self.cut[other][at] = cut;
    }

    /// The disk of one node (W - 1) is lost, and no other's until it is complete again.
    pub(super) fn wipe(&mut self, at: usize) {
        if self.nodes.iter().all(|node| node.complete) {
            self.ops.retain(|_, op| op.coordinator != at);
            self.nodes[at].record = None;
            self.nodes[at].complete = false;
            self.nodes[at].lost_at = self.now;
            self.nodes[at].actor.tenure = self.rng.draw();
        }
    }

    /// A newcomer exchanges with N - W + 1 others, and is complete. The exchange begins when
    /// the operations that may have counted it before its loss have ended: what these still
    /// acknowledge would be on one replica less than they think, and not in the exchange.
    pub(super) fn exchange(&mut self, at: usize) {
        let lost_at = self.nodes[at].lost_at;
        let counted = self.ops.values().any(|op| op.began <= lost_at);
        if counted || self.nodes[at].complete || self.nodes.iter().any(|node| !node.up) {
            return;
        }
        let count = self.nodes.len();
        let first = self.rng.below(count);
        let others = (0..count).map(|other| (first + other) % count).filter(|other| *other != at);
        for other in others.take(count - count / 2).collect::<Vec<_>>() {
            if let Some(record) = self.nodes[other].record.clone() {
                self.join(at, &record);
            }
        }
        self.nodes[at].complete = true;
    }
}
