//! How far the nodes have got with what the newest layout gives them, and what changed before.

use kv_client::NodeId;
use kv_client::wire::LayoutProgress;

use super::layouts::concerned;
use super::{Inner, Node};
use crate::cluster::changes::Changed;
use crate::cluster::membership::LayoutsSeen;
use crate::cluster::transfers::Transfers;
use crate::cluster::view::View;

/// Told again after so long at least: how many bytes went says little sooner.
const TELL_AGAIN_MS: u64 = 500;

/// Where the present transition began, for this node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TransferBase {
    /// The newest layout; 0 for none.
    epoch: u64,
    /// Partitions that were to be filled then.
    begun: u32,
    /// Bytes that had been sent and received by then to fill partitions.
    bytes: u64,
    /// When that was, on the steady clock.
    at_ms: u64,
    /// When it was last told.
    told_ms: u64,
}

impl Inner {
    /// What this node has to fill, and has filled, of the newest layout.
    pub(super) fn transfers(&self, view: &View) -> Transfers {
        let left = u32::try_from(self.unfilled(view)).unwrap_or(u32::MAX);
        let (now_ms, bytes) = (self.clock.steady_ms(), self.figures.fill_bytes.value());
        let mut base = self.transfer_base.lock();
        if base.epoch != view.epoch() {
            let epoch = view.epoch();
            *base = TransferBase { epoch, begun: left, bytes, at_ms: now_ms, told_ms: 0 };
        }
        // What was lost besides is filled too.
        base.begun = base.begun.max(left);
        Transfers {
            epoch: base.epoch,
            begun: base.begun,
            left,
            bytes: bytes - base.bytes,
            ms: now_ms.saturating_sub(base.at_ms),
        }
    }

    /// Tells the others, while a transition runs.
    pub(super) fn tell_transfers(&self, view: &View) {
        if !view.layouts.as_ref().is_some_and(|layouts| layouts.in_transition()) {
            return;
        }
        let told = self.transfers(view);
        let now_ms = self.clock.steady_ms();
        {
            let mut base = self.transfer_base.lock();
            let due = base.told_ms == 0 || now_ms >= base.told_ms.saturating_add(TELL_AGAIN_MS);
            if !due {
                return;
            }
            base.told_ms = now_ms.max(1);
        }
        self.membership.publish_transfers(told);
    }

    /// How far every node that the live layouts concern has got with them, as this one knows.
    pub(super) fn progress(&self) -> Vec<LayoutProgress> {
        let (view, said) = (self.view.now(), self.membership.layouts_seen());
        let (newest, told) = (view.epoch(), self.membership.transfers());
        let layouts = view.layouts.as_ref();
        let holds = |node: NodeId| layouts.is_some_and(|known| known.newest().contains(node));
        let progress = |node: NodeId| {
            let own = node == view.me;
            let LayoutsSeen { seen, finished, sealed, .. } = if own {
                self.layouts_seen()
            } else {
                said.get(&node).copied().unwrap_or_default()
            };
            let transfers =
                if own { Some(self.transfers(&view)) } else { told.get(&node).copied() };
            let transfers = transfers.filter(|told| told.epoch == newest).unwrap_or_default();
            let left = if finished >= newest { 0 } else { transfers.left };
            let waits_for = match left {
                _ if finished >= newest && (sealed >= newest || !holds(node)) => String::new(),
                _ if !view.is_up(node) && holds(node) => {
                    "it is down: start it, or replace it too".into()
                }
                _ if !view.is_up(node) => {
                    format!("it is down: start it, or: kv cluster replace {node}")
                }
                // It seals when all have finished.
                _ if finished >= newest => String::new(),
                _ if seen < newest => format!("it has not said that it knows epoch {newest}"),
                0 if own => "operations under an older layout are under way".into(),
                0 => "partitions to fill, or operations under an older layout".into(),
                left => format!("{left} partitions to fill"),
            };
            LayoutProgress {
                node,
                seen,
                finished,
                waits_for,
                begun: transfers.begun,
                left,
                bytes: transfers.bytes,
                ms: transfers.ms,
            }
        };
        concerned(&view).into_iter().map(progress).collect()
    }
}

impl Node {
    /// How far every node that the live layouts concern has got with them, as this one knows.
    pub fn progress(&self) -> Vec<LayoutProgress> {
        self.inner.progress()
    }

    /// The changes of the layout that this node has taken, the oldest first; a bounded number.
    pub fn changes(&self) -> Vec<Changed> {
        self.inner.changes.all()
    }
}
