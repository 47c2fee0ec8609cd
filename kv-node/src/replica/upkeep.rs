//! Work over all rows in the background: counting after a restart, removing what was flushed.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kv_ring::SLOTS;

use super::update::is_live;
use super::{Replica, Verdict};
use crate::keys::{DEFAULT_KEYSPACE, position, slot_end};
use crate::plug::storage::{PageRequest, StorageError};

/// Rows of one page.
const PAGE_ROWS_MAX: usize = 512;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// A slot in which something always moves is left uncounted after so many scans, for a later try.
const SCANS_MAX: usize = 8;

impl Replica {
    /// Counts the live keys of every slot that is not counted yet.
    ///
    /// # Errors
    /// The slots that could not be read stay uncounted.
    pub async fn recount(&self) -> Result<(), StorageError> {
        for slot in 0..SLOTS {
            for _ in 0..SCANS_MAX {
                let Some(moves) = self.counts.moves(slot) else { break };
                let mut live = 0;
                self.each_row(slot, &mut |_, record| {
                    live += i64::from(self.alive(record).is_some_and(is_live));
                })
                .await?;
                if self.counts.take(slot, live, moves) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes rows that the flush mark made dead. Once for each mark.
    ///
    /// # Errors
    /// Some rows are still there; they stay dead all the same.
    pub async fn remove_flushed(&self) -> Result<(), StorageError> {
        let mark = self.flushed().to_bits();
        if self.removed_below.load(Ordering::Acquire) >= mark {
            return Ok(());
        }
        for slot in 0..SLOTS {
            let mut dead: Vec<Bytes> = Vec::new();
            self.each_row(slot, &mut |key, record| {
                if self.alive(record).is_none() {
                    dead.push(key.clone());
                }
            })
            .await?;
            for keys in dead.chunks(PAGE_ROWS_MAX) {
                let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                // Decided under the key's lock: a row that came to life meanwhile stays.
                self.update(&keys, &mut |_, stored, _| match stored {
                    Some(_) => Verdict::Keep,
                    None => Verdict::Remove,
                })
                .await?;
            }
        }
        self.removed_below.fetch_max(mark, Ordering::AcqRel);
        Ok(())
    }

    async fn each_row(
        &self,
        slot: u16,
        visit: &mut (dyn FnMut(&Bytes, &[u8]) + Send),
    ) -> Result<(), StorageError> {
        let mut from = position(DEFAULT_KEYSPACE, slot, 0);
        loop {
            let page = PageRequest {
                from,
                to: slot_end(DEFAULT_KEYSPACE, slot),
                rows_max: PAGE_ROWS_MAX,
                bytes_max: PAGE_BYTES_MAX,
            };
            let page = self.engine.scan(page).await?;
            page.rows.iter().for_each(|(key, record)| visit(key, record));
            let Some((last, _)) = page.rows.last() else { return Ok(()) };
            if page.end {
                return Ok(());
            }
            from = Bytes::from([&last[..], &[0]].concat());
        }
    }
}
