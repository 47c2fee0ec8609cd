//! Filling a replica that lost what it had, or that just came to hold a partition.
//!
//! Such a replica is a newcomer: it counts for W, and not for R nor for what a SET weighs, until it
//! has exchanged with N - W + 1 complete others of every live set of owners, or with all others if
//! they are fewer; W is a majority or the keyspace's, whichever is less, since a request may ask
//! for less than the keyspace does (who asks for less than a majority is promised nothing). Every
//! quorum of primaries that acknowledged a write meets one of those. Where a fallback counted in a
//! primary's place only the other places may have it, so who comes into a place by a layout asks
//! the one that it displaces too, whatever the others know. The exchanges are those of
//! anti-entropy; where there is no tree yet, key by key.
//!
//! While it is a newcomer it has no mark. Then it takes the highest of those that its sources had
//! before it asked for anything: what they hold live below theirs is all that there is.
//!
//! Invariant: each exchange that counts was begun after the loss, and the mark is durable before
//! the newcomer is complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_client::NodeId;
use kv_quorum::Mark;
use kv_ring::Partition;

use super::exchange::{Rate, Talk};
use super::{Coordinator, Scope, least};
use crate::error::RequestError;
use crate::plug::exec::blocking;
use crate::replica::Newcomer;
use crate::teeth::{Bug, planted};

/// Partitions that are filled at once: small ones cost round trips and syncs, and no bytes. They
/// share one rate.
pub(crate) const FILLS_AT_ONCE: usize = 8;

/// How the exchange with each source went: `None` if it did not end.
type Sources = BTreeMap<NodeId, Option<Source>>;

/// A source that was exchanged with.
#[derive(Clone, Copy)]
struct Source {
    /// Whether it is complete itself.
    complete: bool,
    /// Its mark before anything was listed.
    mark: Mark,
}

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
        let enough = sources_needed(n, least(scope.keyspace.write, n)?);
        for owners in scope.layouts.write_sets(newcomer.partition) {
            // Removed ones are gone for good: what only they had, nobody has.
            let gone = |node: &NodeId| *node == scope.view.me || scope.view.is_removed(*node);
            let others: Vec<NodeId> = owners.iter().copied().filter(|node| !gone(node)).collect();
            let needed = enough.min(others.len());
            let needed = if planted(Bug::FillFromOne) { needed.min(1) } else { needed };
            self.fill_from(&scope, newcomer, &others, needed, &mut sources).await?;
        }
        self.fill_from_displaced(&scope, newcomer, &mut sources).await?;
        let marks = sources.values().flatten().map(|source| source.mark);
        let highest = marks.max().unwrap_or(Mark::NONE);
        if !self.take_mark_of_sources(newcomer.partition, highest).await? {
            // The partitions were doubled meanwhile: each half is to be filled.
            return Ok(());
        }
        self.parts.replica.standings().mended(newcomer);
        self.parts.figures.partitions_filled.one();
        Ok(())
    }

    /// Exchanges with everybody whose place a layout gave away. So many of the others have what W
    /// replicas acknowledged; where a hint counted in the place of one of them, only that place
    /// may, and whoever comes into it takes what is there. (Hints for it are handed on.)
    async fn fill_from_displaced(
        &self,
        scope: &Scope,
        newcomer: Newcomer,
        sources: &mut Sources,
    ) -> Result<(), RequestError> {
        if planted(Bug::PassDisplacedOver) {
            return Ok(());
        }
        let newest = scope.layouts.newest();
        let goes = |node: &NodeId| {
            !newest.owns(*node, newcomer.partition)
                && *node != scope.view.me
                && !scope.view.is_removed(*node)
        };
        let sets = scope.layouts.write_sets(newcomer.partition);
        let mut displaced: Vec<NodeId> = sets.flatten().copied().filter(goes).collect();
        displaced.sort_unstable();
        displaced.dedup();
        let wanted = displaced.len();
        let mut silent = Vec::new();
        for node in displaced {
            let known = sources.get(&node).copied().flatten();
            let ended = match known {
                Some(source) => Some(source),
                None if scope.down.contains(&node) => None,
                None => self.fill_from_one(newcomer, node).await,
            };
            sources.insert(node, ended);
            if ended.is_none() {
                silent.push(node);
            }
        }
        if silent.is_empty() {
            return Ok(());
        }
        let reached = (wanted - silent.len()) as u8;
        Err(RequestError::Unavailable { reached, wanted: wanted as u8, silent })
    }

    async fn take_mark_of_sources(
        &self,
        partition: Partition,
        mark: Mark,
    ) -> Result<bool, RequestError> {
        let replica = Arc::clone(&self.parts.replica);
        let replaced = move || replica.marks().replace(partition, mark);
        match blocking(&*self.parts.exec, replaced).await {
            Some(Ok(is_there)) => Ok(is_there),
            Some(Err(error)) => Err(RequestError::Storage(format!("a mark: {error}"))),
            None => Err(RequestError::Storage("a mark was not stored".into())),
        }
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

    async fn fill_from_one(&self, newcomer: Newcomer, source: NodeId) -> Option<Source> {
        let Newcomer { partition, loss } = newcomer;
        let begun = self.exchange_stamp();
        let bytes_per_second = self.parts.antientropy.fill_bytes_per_second;
        let own_part = bytes_per_second.div_ceil(FILLS_AT_ONCE as u64);
        let per_mille = self.background.per_mille().max(250);
        let rate = Rate { bytes_per_second: own_part, per_mille };
        let mut talk = Talk::new(self, source, rate);
        talk.settle_ms = 0;
        talk.without_trees = true;
        // A tree that was begun before the loss tells of what is gone.
        let ended = if self.parts.replica.trees().is_whole_since(partition, loss) {
            talk.exchange(partition).await
        } else {
            talk.exchange_key_by_key(partition).await
        };
        self.parts.figures.fill_bytes.add(talk.bytes());
        if let Err(error) = ended {
            tracing::debug!(%source, partition = partition.index(), %error, "not filled yet");
            return None;
        }
        if self.parts.replica.standings().losses(partition) == loss {
            self.parts.replica.exchanged().note(partition, source, begun);
        }
        // Of one that lost something meanwhile it says nothing.
        let mark = talk.mark.filter(|_| talk.complete).unwrap_or(Mark::NONE);
        Some(Source { complete: talk.complete, mark })
    }
}

/// So many complete others have between them all that was acknowledged by a majority, or by the
/// keyspace's W where that is less.
fn sources_needed(n: u8, write: u8) -> usize {
    let least_write = write.min(n / 2 + 1);
    usize::from(n.saturating_sub(least_write)) + 1
}

/// How many of the others are complete and were exchanged with.
fn complete(others: &[NodeId], sources: &Sources) -> usize {
    let is_complete =
        |node: &&NodeId| sources.get(node).copied().flatten().is_some_and(|source| source.complete);
    others.iter().filter(is_complete).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_asked_as_meet_every_quorum_that_a_request_may_have_asked_for() {
        let asked: Vec<usize> = (1..=3).map(|write| sources_needed(3, write)).collect();
        assert_eq!(
            asked,
            [3, 2, 2],
            "a request may ask for a majority where the keyspace asks all"
        );
        let asked: Vec<usize> = (1..=5).map(|write| sources_needed(5, write)).collect();
        assert_eq!(asked, [5, 4, 3, 3, 3]);
        assert_eq!(sources_needed(1, 1), 1);
    }
}
