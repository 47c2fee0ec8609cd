//! The short way: one node, one copy.
//!
//! Where a keyspace has one copy and this node is the only member, nobody else has to be asked or
//! told. The same mint, lock, append and sync run, without trackers, sends or timers.

use bytes::Bytes;
use kv_ring::Partition;

use super::write::{Ended, SetItem, draft_of};
use super::{Coordinator, Scope};
use crate::error::RequestError;
use crate::keys::PREFIX_BYTES;
use crate::plug::storage::Ticket;
use crate::replica::Verdict;

impl Coordinator {
    /// Whether this node is the whole cluster.
    pub(super) fn is_alone(scope: &Scope) -> bool {
        scope.layouts.live().all(|layout| layout.members() == [scope.view.me])
    }

    /// SETs where this node is the whole cluster: their ends, and the records that were written.
    pub(super) async fn set_alone(
        &self,
        scope: &Scope,
        items: &[SetItem<'_>],
    ) -> (Vec<Ended>, Vec<Option<Bytes>>) {
        let mut answers: Vec<Ended> = items
            .iter()
            .map(|item| Self::check_size(scope, item.key.key, item.value.len()))
            .collect();
        let mut arena = Vec::with_capacity(items.len() * (PREFIX_BYTES + 32));
        let mut ends = Vec::with_capacity(items.len());
        for item in items {
            item.key.write_to(&mut arena);
            ends.push(arena.len());
        }
        let mut keys: Vec<&[u8]> = Vec::with_capacity(items.len());
        let mut start = 0;
        for end in ends {
            keys.push(arena.get(start..end).unwrap_or_default());
            start = end;
        }
        let now_ms = self.now_ms();
        let stamp = self.parts.dots.time(now_ms);
        let partition =
            |at: usize| items.get(at).map_or(Partition::ALL, |item| scope.partition(item.key));
        let done = self
            .mint_batch(&keys, &partition, &mut |at, stored, out| {
                let (Some(item), Some(Ok(()))) = (items.get(at), answers.get(at)) else {
                    return Ok(Verdict::Keep);
                };
                let draft = draft_of(item.value, item.expiry, stamp);
                self.overwrite(scope.partition(item.key), now_ms, stored, &draft, out)
            })
            .await;
        for (at, error) in done.failed {
            if let Some(answer) = answers.get_mut(at) {
                *answer = Err(error);
            }
        }
        self.parts.figures.replica_applies.add(items.len() as u64);
        if let Err(unknown) = self.synced_in_time(scope, done.ticket).await {
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(unknown.clone());
            }
        }
        (answers, done.records)
    }

    async fn synced_in_time(&self, scope: &Scope, ticket: Ticket) -> Ended {
        if ticket.is_durable() {
            return Ok(());
        }
        let silent = vec![scope.view.me];
        let unknown = RequestError::Indeterminate { reached: 0, wanted: 1, silent };
        match self.in_time(scope, self.parts.replica.durable(ticket)).await {
            Some(synced) => synced.map_err(|error| unknown.also(&error)),
            None => Err(unknown),
        }
    }
}

impl RequestError {
    /// Logs the cause that a client is not told.
    fn also(self, cause: &crate::plug::storage::StorageError) -> Self {
        tracing::error!(%cause, "a write is indeterminate");
        self
    }
}
