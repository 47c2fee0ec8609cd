//! FLUSHALL and FLUSHDB: a mark above everything that was minted before.
//!
//! First every member says its time, or that of the latest write that it holds: who minted that may
//! have left since, with a clock that was ahead. The mark is put above all of them; then every
//! member stores it durably and mints only above it from then on. OK when all members have it. If
//! one does not answer, what was flushed is not known and the answer says so; the mark still
//! spreads, because every node tells it with its gossip.

use std::sync::Arc;

use kv_client::NodeId;
use kv_quorum::HybridTime;

use super::Coordinator;
use crate::error::RequestError;
use crate::keys::DEFAULT_KEYSPACE;
use crate::plug::exec::blocking;
use crate::wire::{PeerOp, PeerOut};

impl Coordinator {
    /// Flushes the keyspace: what was stored before is gone when this returns.
    ///
    /// # Errors
    /// `NoReplicas`: a member did not say its time, nothing was flushed. `ClockSkew`: a member's
    /// time, or that of something that it holds, lies too far ahead of this node's, nothing was
    /// flushed. `Indeterminate`: a member did not confirm the mark.
    pub async fn flush(&self) -> Result<(), RequestError> {
        let scope = self.scope()?;
        let me = scope.view.me;
        let mut others: Vec<NodeId> = scope
            .layouts
            .live()
            .flat_map(|layout| layout.members().iter().copied())
            .filter(|node| *node != me && !scope.view.is_removed(*node))
            .collect();
        others.sort_unstable();
        others.dedup();
        let asks = others.iter().map(|node| (*node, PeerOp::Time)).collect();
        let mut highest = self.parts.dots.time(self.now_ms()).max(self.parts.replica.latest());
        let mut silent = Vec::new();
        let answers = self.gather(scope.deadline_ms, asks).await;
        for (node, answer) in others.iter().zip(answers) {
            match answer {
                Some(Ok(PeerOut::Time(time))) => highest = highest.max(HybridTime::from_bits(time)),
                _ => silent.push(*node),
            }
        }
        let members = others.len() as u8 + 1;
        if !silent.is_empty() {
            return Err(RequestError::NoReplicas { wanted: members, down: silent });
        }
        let mark = HybridTime::next(highest, 0);
        let (replica, dots) = (Arc::clone(&self.parts.replica), Arc::clone(&self.parts.dots));
        let now_ms = self.now_ms();
        if self.parts.dots.is_far_ahead(mark, now_ms) {
            // Whoever took it would hold everything dead until the clocks have come so far.
            return Err(RequestError::ClockSkew);
        }
        let store = move || replica.flush_durably(mark, &dots, now_ms);
        match blocking(&*self.parts.exec, store).await {
            Some(Ok(())) => {}
            // Either mark may be found after a restart, and what is found spreads.
            not_known => {
                tracing::error!(?not_known, "it is not known whether a flush mark is stored");
                let silent = vec![me];
                return Err(RequestError::Indeterminate { reached: 0, wanted: members, silent });
            }
        }
        let asks = others
            .iter()
            .map(|node| (*node, PeerOp::Flush { keyspace: DEFAULT_KEYSPACE, mark: mark.to_bits() }))
            .collect();
        for (node, answer) in others.iter().zip(self.gather(scope.deadline_ms, asks).await) {
            if !matches!(answer, Some(Ok(PeerOut::Done))) {
                silent.push(*node);
            }
        }
        if silent.is_empty() {
            return Ok(());
        }
        self.parts.figures.indeterminate.one();
        let reached = members - silent.len() as u8;
        Err(RequestError::Indeterminate { reached, wanted: members, silent })
    }
}
