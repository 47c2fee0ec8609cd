//! Filling a replica that lost what it had, as the in-memory engine does at a restart, or that just
//! came to hold it.
//!
//! Such a replica is a newcomer: it counts for W, and not for R nor for what a SET weighs, until it
//! has every record that N - W + 1 others hold (or all others, if they are fewer). Every quorum
//! that acknowledged a write meets one of those. Records are read in pages of a partition and
//! joined, so what is written meanwhile is kept.

use bytes::Bytes;
use kv_client::NodeId;
use kv_ring::Partition;

use super::write::storage_error;
use super::{Coordinator, Scope, resolve};
use crate::error::RequestError;
use crate::keys::{DEFAULT_KEYSPACE, position, slot_end};
use crate::replica::{Replica, Verdict};
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
                Ok(()) => standings.mended(newcomer),
                Err(error) => short = Err(error),
            }
        }
        short
    }

    async fn refill_partition(
        &self,
        scope: &Scope,
        partition: Partition,
    ) -> Result<(), RequestError> {
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
                if self.copy_range(scope, partition, *source).await.is_ok() {
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
        Ok(())
    }

    /// Joins in everything that `source` has of a partition.
    async fn copy_range(
        &self,
        scope: &Scope,
        partition: Partition,
        source: NodeId,
    ) -> Result<(), RequestError> {
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
            let Some(Some(Ok(PeerOut::Page { rows, end }))) = answers.pop() else {
                return Err(RequestError::Unavailable {
                    reached: 0,
                    wanted: 1,
                    silent: vec![source],
                });
            };
            self.join_page(&rows).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            if end {
                return Ok(());
            }
            from = Bytes::from([&last[..], &[0]].concat());
        }
    }

    async fn join_page(&self, rows: &[(Bytes, Bytes)]) -> Result<(), RequestError> {
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
                let incoming = rows
                    .get(place)
                    .filter(|(_, record)| !record.is_empty())
                    .and_then(|(_, record)| replica.alive(record));
                incoming.map_or(Verdict::Keep, |incoming| Replica::join(stored, incoming, out).0)
            })
            .await
            .map_err(storage_error)?;
        replica.durable(update.ticket).await.map_err(storage_error)
    }
}
