//! Work over all rows in the background: counting after a restart, removing what was flushed.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kv_ring::SLOTS;

use super::update::is_live;
use super::{Replica, Verdict};
use crate::keys::{DEFAULT_KEYSPACE, KeyRef, position, slot_end};
use crate::plug::storage::{PageRequest, StorageError};

/// Rows of one page.
pub(super) const PAGE_ROWS_MAX: usize = 512;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Slots that are counted, or looked through, in one go.
const COUNT_SLOTS: u16 = 64;

impl Replica {
    /// Counts the live keys of every slot that is not counted yet. A slot that can't be read does
    /// not keep the others from being counted.
    ///
    /// # Errors
    /// The first of what went wrong: some slots are not counted, call again later.
    pub async fn recount(&self) -> Result<(), StorageError> {
        let mut wrong = None;
        for first in (0..SLOTS).step_by(usize::from(COUNT_SLOTS)) {
            if !self.counts.begin(first..first.saturating_add(COUNT_SLOTS).min(SLOTS)) {
                continue;
            }
            // What was decided before moves were noted is in the engine when the scan begins.
            self.wait_out_updates();
            if let Err(error) = self.count_from(first).await {
                wrong = wrong.or(Some(error));
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    async fn count_from(&self, first: u16) -> Result<(), StorageError> {
        let mut seen: Vec<(u16, u64)> = Vec::new();
        let last = first.saturating_add(COUNT_SLOTS).min(SLOTS) - 1;
        self.each_row(first..=last, &mut |key, record| {
            if let Some(key) = KeyRef::parse(key)
                && self.alive(record).as_deref().is_some_and(is_live)
            {
                seen.push((key.slot.index(), key.token.value()));
            }
        })
        .await?;
        if self.counts.finish(&seen) {
            return Ok(());
        }
        Err(StorageError::Busy("too many keys came and went while they were counted".into()))
    }

    /// Removes what the flush mark made dead: rows, siblings and hints. Once for each mark, and not
    /// before hints are counted.
    ///
    /// # Errors
    /// Some rows are still there; they stay dead all the same.
    pub async fn remove_flushed(&self) -> Result<(), StorageError> {
        let mark = self.flushed().to_bits();
        if self.removed_below.load(Ordering::Acquire) >= mark || !self.hints.is_counted() {
            return Ok(());
        }
        self.remove_flushed_hints().await?;
        for first in (0..SLOTS).step_by(usize::from(COUNT_SLOTS)) {
            let last = first.saturating_add(COUNT_SLOTS).min(SLOTS) - 1;
            let mut dead: Vec<Bytes> = Vec::new();
            self.each_row(first..=last, &mut |key, record| {
                if !matches!(self.alive(record), Some(Cow::Borrowed(_))) {
                    dead.push(key.clone());
                }
            })
            .await?;
            for keys in dead.chunks(PAGE_ROWS_MAX) {
                let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                // Decided under the key's lock: a row that came to life meanwhile stays.
                self.update(&keys, &mut |_, stored, out| match stored {
                    Some(left) => {
                        out.extend_from_slice(left);
                        Verdict::Write
                    }
                    None => Verdict::Remove,
                })
                .await?;
            }
        }
        self.removed_below.fetch_max(mark, Ordering::AcqRel);
        Ok(())
    }

    pub(super) async fn each_row(
        &self,
        slots: RangeInclusive<u16>,
        visit: &mut (dyn FnMut(&Bytes, &[u8]) + Send),
    ) -> Result<(), StorageError> {
        let mut from = position(DEFAULT_KEYSPACE, *slots.start(), 0);
        loop {
            let page = PageRequest {
                from,
                to: slot_end(DEFAULT_KEYSPACE, *slots.end()),
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
