//! Hints: records kept for a replica that is down, in this node's engine beside its own copies.
//!
//! Where a primary is down the next live node takes the write and keeps it as a hint for that
//! primary (Dynamo, 4.6). A hint is a row of its own for each target and key; the same key hinted
//! again is joined into it. It is as durable as any row before it is answered, since it is in the
//! same log; its answer tells what a replica's would: the live dots that the write did not cover,
//! of every hint here about the key. A fallback that is read answers likewise.
//!
//! ```text
//! keep -> row (target, key) -> delivered -> the target has it durably, the row has not changed
//!                                        -> gone; the node mints no more there under this tenure
//! ```
//!
//! Invariant: a hint that counted towards W goes only when its target, or those who are replicas in
//! its stead, hold it durably, or when a flush made it dead.

mod keep;
mod log;
mod pages;

pub use keep::Hint;
pub(crate) use keep::{FULL, UNCOUNTED};
pub use log::{HintConfig, HintLog, LateHint, Queued};
pub(super) use log::{HintMove, Span};

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{HybridTime, Mark, Record};

use super::{Replica, Verdict};
use crate::keys::hint_row;
use crate::plug::storage::{StorageError, Ticket};

/// The oldest and the latest live dot of a record; of one that can't be read, all time.
pub(super) fn span_of(record: &[u8]) -> Span {
    let times = Record::decode(record).map(|record| {
        let times = record.live().iter().map(|version| version.dot.time);
        (times.clone().min(), times.max())
    });
    let (oldest, latest) = times.unwrap_or_default();
    Span { oldest: oldest.unwrap_or(HybridTime::ZERO), latest: latest.unwrap_or(HybridTime::ZERO) }
}

impl Replica {
    /// For whom this node holds hints. Nobody, until they are counted.
    pub fn hint_targets(&self) -> Vec<NodeId> {
        self.hints.queued().into_keys().collect()
    }

    /// Shows each key's record joined with all hints about it, in order. What is shown is durable
    /// only after `durable` of the ticket.
    ///
    /// # Errors
    /// Nothing is known of any key.
    pub async fn read_hinted(
        &self,
        keys: &[&[u8]],
        show: &mut (dyn FnMut(usize, Option<&[u8]>) + Send),
    ) -> Result<Ticket, StorageError> {
        if !self.hints.is_counted() {
            return Err(StorageError::Busy(UNCOUNTED.into()));
        }
        let targets = self.hint_targets();
        let mut rows: Vec<Bytes> = Vec::with_capacity(keys.len() * (targets.len() + 1));
        for key in keys {
            rows.push(Bytes::copy_from_slice(key));
            rows.extend(targets.iter().map(|target| hint_row(*target, key)));
        }
        let slices: Vec<&[u8]> = rows.iter().map(|row| &row[..]).collect();
        let mut joined: Vec<Option<Vec<u8>>> = vec![None; keys.len()];
        let mut damaged = None;
        let ticket = self
            .read(&slices, &mut |place, record| {
                let slot = joined.get_mut(place / (targets.len() + 1));
                let (Some(slot), Some(record)) = (slot, record) else { return };
                if let Err(error) = kv_quorum::peek(record) {
                    damaged = Some(StorageError::Damaged(error.to_string()));
                    return;
                }
                let mut out = Vec::new();
                let key = keys.get(place / (targets.len() + 1)).copied().unwrap_or_default();
                if self.join(key, slot.as_deref(), record, Mark::NONE, &mut out).0 == Verdict::Write
                {
                    *slot = Some(out);
                }
            })
            .await?;
        if let Some(damaged) = damaged {
            return Err(damaged);
        }
        for (place, record) in joined.iter().enumerate() {
            show(place, record.as_deref());
        }
        Ok(ticket)
    }
}

#[cfg(test)]
mod tests;
