//! The short way: one node, one copy.
//!
//! Where a keyspace has one copy and this node is the only member, nobody else has to be asked or
//! told. The same mint, lock, append and sync run, without trackers, sends or timers.

use super::write::{Ended, SetItem, draft_of, storage_error};
use super::{Coordinator, Scope};
use crate::error::RequestError;
use crate::keys::PREFIX_BYTES;
use crate::replica::Verdict;

impl Coordinator {
    /// Whether this node is the whole cluster.
    pub(super) fn is_alone(scope: &Scope) -> bool {
        scope.layouts.live().all(|layout| layout.members() == [scope.view.me])
    }

    /// SETs where this node is the whole cluster.
    pub(super) async fn set_alone(&self, scope: &Scope, items: &[SetItem<'_>]) -> Vec<Ended> {
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
        let update = self
            .parts
            .replica
            .update(&keys, &mut |place, stored, out| {
                let (Some(item), Some(answer)) = (items.get(place), answers.get_mut(place)) else {
                    return Verdict::Keep;
                };
                if answer.is_err() {
                    return Verdict::Keep;
                }
                let draft = draft_of(item.value, item.expiry, stamp);
                let partition = scope.partition(item.key);
                match self.overwrite(partition, now_ms, stored, &draft, out) {
                    Ok(()) => Verdict::Write,
                    Err(error) => {
                        *answer = Err(error);
                        Verdict::Keep
                    }
                }
            })
            .await;
        let durable = match update {
            Ok(update) => self.parts.replica.durable(update.ticket).await.map_err(|error| {
                RequestError::Indeterminate { reached: 0, wanted: 1, silent: vec![scope.view.me] }
                    .also(&error)
            }),
            Err(error) => Err(storage_error(error)),
        };
        self.parts.figures.replica_applies.add(items.len() as u64);
        if let Err(error) = durable {
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(error.clone());
            }
        }
        answers
    }
}

impl RequestError {
    /// Logs the cause that a client is not told.
    fn also(self, cause: &crate::plug::storage::StorageError) -> Self {
        tracing::error!(%cause, "a write is indeterminate");
        self
    }
}
