//! Filling a replica that lost what it had, as the in-memory engine does at a restart, or that just
//! came to hold it.
//!
//! Such a replica is a newcomer: it counts for W, and not for R nor for what a SET weighs, until it
//! has every record that N - W + 1 others hold (or all others, if they are fewer). Every quorum
//! that acknowledged a write meets one of those. Records are read in pages of a partition and
//! joined, so what is written meanwhile is kept.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{HybridTime, Mark};
use kv_ring::Partition;

use super::write::storage_error;
use super::{Coordinator, Scope, resolve};
use crate::error::RequestError;
use crate::keys::{DEFAULT_KEYSPACE, position, slot_end};
use crate::plug::exec::blocking;
use crate::plug::storage::PageRequest;
use crate::replica::Verdict;
use crate::wire::{PeerOp, PeerOut};

/// Rows of one page.
const PAGE_ROWS_MAX: u32 = 1_024;
/// Bytes of one page.
const PAGE_BYTES_MAX: u32 = 512 * 1_024;

impl Coordinator {
    /// Joins in what the other replicas of every partition held here have, and is complete then.
    ///
    /// # Errors
    /// Too few of the others answered: the replica stays incomplete, call again later.
    pub(crate) async fn refill(&self) -> Result<(), RequestError> {
        let scope = self.scope()?;
        let standings = self.parts.replica.standings();
        let mut short = Ok(());
        for newcomer in standings.newcomers() {
            // One that this view does not give us may begin with the next, any moment now.
            if !scope.holds(newcomer.partition) {
                continue;
            }
            match self.refill_partition(&scope, newcomer.partition).await {
                Ok(mark) => {
                    self.take_mark_of_sources(newcomer.partition, mark).await?;
                    standings.mended(newcomer);
                }
                Err(error) => short = Err(error),
            }
        }
        short
    }

    async fn take_mark_of_sources(
        &self,
        partition: Partition,
        mark: Mark,
    ) -> Result<(), RequestError> {
        let (replica, marks) = (Arc::clone(&self.parts.replica), [(partition, mark)]);
        match blocking(&*self.parts.exec, move || replica.marks().replace(&marks)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(RequestError::Storage(format!("a mark: {error}"))),
            None => Err(RequestError::Storage("a mark was not stored".into())),
        }
    }

    /// Answers the highest mark of those that it was filled from: what they hold below theirs is
    /// all that there is.
    async fn refill_partition(
        &self,
        scope: &Scope,
        partition: Partition,
    ) -> Result<Mark, RequestError> {
        let mut highest = Mark::NONE;
        let n = scope.keyspace.n;
        let write = resolve(None, scope.keyspace.write, n)?;
        for owners in scope.layouts.write_sets(partition) {
            // Removed ones are gone for good: what only they had, nobody has.
            let gone = |node: &NodeId| *node == scope.view.me || scope.view.is_removed(*node);
            let others: Vec<NodeId> = owners.iter().copied().filter(|node| !gone(node)).collect();
            let needed = usize::from(n - write + 1).min(others.len());
            let mut finished = 0;
            for source in others.iter().filter(|node| !scope.down.contains(*node)) {
                if finished == needed {
                    break;
                }
                if let Ok(mark) = self.copy_range(scope, partition, *source).await {
                    highest = highest.max(mark);
                    finished += 1;
                }
            }
            if finished < needed {
                return Err(RequestError::Unavailable {
                    reached: finished as u8,
                    wanted: needed as u8,
                    silent: scope.down.clone(),
                });
            }
        }
        Ok(highest)
    }

    /// Joins in everything that `source` has of a partition; answers its mark, as it was before
    /// the first page was read.
    async fn copy_range(
        &self,
        scope: &Scope,
        partition: Partition,
        source: NodeId,
    ) -> Result<Mark, RequestError> {
        let mut lowest: Option<Mark> = None;
        let slots = scope.layouts.newest().partitions().slots(partition);
        let mut from = position(DEFAULT_KEYSPACE, *slots.start(), 0);
        let to = slot_end(DEFAULT_KEYSPACE, *slots.end());
        loop {
            let page = PeerOp::Scan {
                from: from.clone(),
                to: to.clone(),
                rows_max: PAGE_ROWS_MAX,
                bytes_max: PAGE_BYTES_MAX,
                keys_only: false,
            };
            let deadline = self.parts.clock.steady_ms() + self.parts.timing.request_ms_max;
            let mut answers = self.gather(deadline, vec![(source, page)]).await;
            let Some(Some(Ok(PeerOut::Page { rows, end, mark }))) = answers.pop() else {
                return Err(RequestError::Unavailable {
                    reached: 0,
                    wanted: 1,
                    silent: vec![source],
                });
            };
            let mark = Mark::at(HybridTime::from_bits(mark));
            let until = lowest.map_or(mark, |lowest| lowest.min(mark));
            lowest = Some(until);
            let next = rows.last().filter(|_| !end);
            let next = next.map(|(last, _)| Bytes::from([&last[..], &[0]].concat()));
            self.join_page(&rows, mark).await?;
            self.join_absences(&rows, from..next.clone().unwrap_or_else(|| to.clone()), mark)
                .await?;
            match next {
                Some(next) => from = next,
                None => return Ok(until),
            }
        }
    }

    /// What this replica has in a range and the source has not: below the source's mark it is dead.
    /// A lost tail or block may have taken the deletes and left what they deleted.
    async fn join_absences(
        &self,
        rows: &[(Bytes, Bytes)],
        range: Range<Bytes>,
        mark: Mark,
    ) -> Result<(), RequestError> {
        if mark == Mark::NONE {
            return Ok(());
        }
        let (replica, mut from) = (&self.parts.replica, range.start);
        loop {
            let page = PageRequest {
                from,
                to: range.end.clone(),
                rows_max: PAGE_ROWS_MAX as usize,
                bytes_max: PAGE_BYTES_MAX as usize,
            };
            let (own, end) = replica.page(page).await.map_err(storage_error)?;
            let absent =
                |key: &&Bytes| rows.binary_search_by(|(theirs, _)| theirs.cmp(key)).is_err();
            let keys = own.iter().map(|(key, _)| key).filter(absent);
            let keys: Vec<&[u8]> = keys.map(|key| &key[..]).collect();
            let update = replica
                .update(&keys, &mut |place, stored, out| match keys.get(place) {
                    Some(key) => replica.join_absence(key, stored, mark, out),
                    None => Verdict::Keep,
                })
                .await
                .map_err(storage_error)?;
            replica.durable(update.ticket).await.map_err(storage_error)?;
            match own.last().filter(|_| !end) {
                Some((last, _)) => from = Bytes::from([&last[..], &[0]].concat()),
                None => return Ok(()),
            }
        }
    }

    async fn join_page(&self, rows: &[(Bytes, Bytes)], mark: Mark) -> Result<(), RequestError> {
        // What can't be read was not copied: the source has not been exchanged with.
        for (key, record) in rows {
            if let Err(error) = kv_quorum::peek(record) {
                let key = key.escape_ascii();
                return Err(RequestError::Storage(format!("a record at {key}: {error}")));
            }
        }
        let keys: Vec<&[u8]> = rows.iter().map(|(key, _)| &key[..]).collect();
        let replica = &self.parts.replica;
        let update = replica
            .update(&keys, &mut |place, stored, out| {
                rows.get(place)
                    .filter(|(_, record)| !record.is_empty())
                    .map_or(Verdict::Keep, |(key, record)| {
                        replica.join(key, stored, record, mark, out).0
                    })
            })
            .await
            .map_err(storage_error)?;
        replica.durable(update.ticket).await.map_err(storage_error)
    }
}
