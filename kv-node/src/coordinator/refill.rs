//! Filling a replica that lost what it had, or that just came to hold a partition.
//!
//! Such a replica is a newcomer: it counts for W, and not for R nor for what a SET weighs, until it
//! has exchanged with N - W + 1 complete others of every live set of owners, or with all others if
//! they are fewer. Every quorum that acknowledged a write meets one of those. The exchanges are
//! those of anti-entropy; where there is no tree yet, key by key.
//!
//! Invariant: each exchange that counts was begun after the loss.

use std::collections::BTreeMap;

use kv_client::NodeId;

use super::exchange::{Rate, Talk};
use super::{Coordinator, Scope, resolve};
use crate::error::RequestError;
use crate::replica::Newcomer;

/// How the exchange with one source went: `None` if it did not end, else whether the source is
/// complete itself.
type Sources = BTreeMap<NodeId, Option<bool>>;

impl Coordinator {
    /// Brings one partition to what the others have; it is mended then. One that this view does not
    /// give us may begin with the next, any moment now: it stays as it is.
    ///
    /// # Errors
    /// Too few of the others answered: it stays a newcomer, call again later.
    pub(crate) async fn fill(&self, newcomer: Newcomer) -> Result<(), RequestError> {
        let scope = self.scope()?;
        let mut sources = Sources::new();
        if !scope.holds(newcomer.partition) {
            return Ok(());
        }
        let n = scope.keyspace.n;
        let write = resolve(None, scope.keyspace.write, n)?;
        for owners in scope.layouts.write_sets(newcomer.partition) {
            // Removed ones are gone for good: what only they had, nobody has.
            let gone = |node: &NodeId| *node == scope.view.me || scope.view.is_removed(*node);
            let others: Vec<NodeId> = owners.iter().copied().filter(|node| !gone(node)).collect();
            let needed = usize::from(n.saturating_sub(write) + 1).min(others.len());
            self.fill_from(&scope, newcomer, &others, needed, &mut sources).await?;
        }
        self.parts.replica.standings().mended(newcomer);
        self.parts.figures.partitions_filled.one();
        Ok(())
    }

    /// Exchanges with as many of the others as it takes.
    async fn fill_from(
        &self,
        scope: &Scope,
        newcomer: Newcomer,
        others: &[NodeId],
        needed: usize,
        sources: &mut Sources,
    ) -> Result<(), RequestError> {
        for source in others.iter().filter(|node| !scope.down.contains(*node)) {
            if complete(others, sources) >= needed {
                break;
            }
            if !sources.contains_key(source) {
                let ended = self.fill_from_one(newcomer, *source).await;
                sources.insert(*source, ended);
            }
        }
        // Newcomers among the others lost something themselves: they count only if all are asked.
        let ended = |node: &NodeId| sources.get(node).is_some_and(Option::is_some);
        if complete(others, sources) >= needed || others.iter().all(ended) {
            return Ok(());
        }
        let silent = others.iter().copied().filter(|node| !ended(node)).collect();
        Err(RequestError::Unavailable {
            reached: complete(others, sources) as u8,
            wanted: needed as u8,
            silent,
        })
    }

    async fn fill_from_one(&self, newcomer: Newcomer, source: NodeId) -> Option<bool> {
        let Newcomer { partition, loss } = newcomer;
        let begun = self.hybrid_now();
        let bytes_per_second = self.parts.antientropy.fill_bytes_per_second;
        let rate = Rate { bytes_per_second, per_mille: self.background.per_mille().max(250) };
        let mut talk = Talk::new(self, source, rate);
        talk.settle_ms = 0;
        talk.without_trees = true;
        // A tree that was begun before the loss tells of what is gone.
        let ended = if self.parts.replica.trees().is_whole_since(partition, loss) {
            talk.exchange(partition).await
        } else {
            talk.exchange_key_by_key(partition).await
        };
        if let Err(error) = ended {
            tracing::debug!(%source, partition = partition.index(), %error, "not filled yet");
            return None;
        }
        if self.parts.replica.standings().losses(partition) == loss {
            self.parts.replica.exchanged().note(partition, source, begun);
        }
        Some(talk.complete)
    }
}

/// How many of the others are complete and were exchanged with.
fn complete(others: &[NodeId], sources: &Sources) -> usize {
    others.iter().filter(|node| sources.get(node) == Some(&Some(true))).count()
}
