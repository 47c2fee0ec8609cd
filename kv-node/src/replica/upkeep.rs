//! Work over all rows in the background: counting after a restart, removing what was flushed or is
//! held here no more.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kv_ring::{Partition, SLOTS};

use super::update::is_live;
use super::{Replica, Verdict};
use crate::keys::{DEFAULT_KEYSPACE, KeyRef, after, position, slot_end};
use crate::plug::storage::{PageRequest, StorageError, Ticket};

/// Rows of one page.
pub(super) const PAGE_ROWS_MAX: usize = 512;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Slots that are counted, or looked through, in one go at first.
const SPAN_SLOTS: u16 = 64;

/// Slots to look through in one go after a span of so many had so many rows: about a page's, so
/// that a directory with little in it is through in a few goes.
fn next_span(slots: u16, rows: usize) -> u16 {
    match rows {
        0..=128 => slots.saturating_mul(2).min(SLOTS),
        129..=2_048 => slots,
        _ => (slots / 2).max(1),
    }
}

impl Replica {
    /// Whether a flush left slots that are to be counted anew.
    pub(crate) fn must_recount(&self) -> bool {
        self.counts.is_rough()
    }

    /// Counts the live keys of every slot that is not counted yet. A slot that can't be read does
    /// not keep the others from being counted.
    ///
    /// # Errors
    /// The first of what went wrong: some slots are not counted, call again later.
    pub async fn recount(&self) -> Result<(), StorageError> {
        self.counts.begin_all();
        let mut wrong = None;
        let (mut first, mut span) = (0, SPAN_SLOTS);
        while first < SLOTS {
            let end = first.saturating_add(span).min(SLOTS);
            let slots = std::mem::replace(&mut first, end)..end;
            if !self.counts.begin(slots.clone()) {
                continue;
            }
            // What was decided before moves were noted is in the engine when the scan begins.
            self.wait_out_updates();
            match self.count_in(slots).await {
                Ok(keys) => span = next_span(span, keys),
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Counts some slots; says how many keys live in them.
    async fn count_in(&self, slots: Range<u16>) -> Result<usize, StorageError> {
        let mut seen: Vec<(u16, u64)> = Vec::new();
        self.each_row(slots.start..=slots.end - 1, &mut |key, record| {
            if let Some(key) = KeyRef::parse(key)
                && self.alive(record).as_deref().is_some_and(is_live)
            {
                seen.push((key.slot.index(), key.token.value()));
            }
        })
        .await?;
        if self.counts.finish(&seen) {
            return Ok(seen.len());
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
        let (mut first, mut span) = (0, SPAN_SLOTS);
        while first < SLOTS {
            let end = first.saturating_add(span).min(SLOTS);
            let slots = std::mem::replace(&mut first, end)..=end - 1;
            let (mut dead, mut rows): (Vec<Bytes>, usize) = (Vec::new(), 0);
            self.each_row(slots, &mut |key, record| {
                rows += 1;
                if !matches!(self.alive(record), Some(Cow::Borrowed(_))) {
                    dead.push(key.clone());
                }
            })
            .await?;
            span = next_span(span, rows);
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

    /// Drops every row of a partition that this node holds no more, whatever it says, durably.
    /// Says how many there were.
    ///
    /// # Errors
    /// Some are there still; call again later.
    pub async fn drop_partition(&self, partition: Partition) -> Result<u64, StorageError> {
        let slots = partition.slots();
        let to = slot_end(DEFAULT_KEYSPACE, *slots.end());
        let mut from = position(DEFAULT_KEYSPACE, *slots.start(), 0);
        let (mut rows, mut latest) = (0, Ticket::DURABLE);
        loop {
            let (rows_max, bytes_max) = (PAGE_ROWS_MAX, PAGE_BYTES_MAX);
            let page = PageRequest { from, to: to.clone(), rows_max, bytes_max };
            let page = self.engine.scan(page).await?;
            let Some((last, _)) = page.rows.last() else { break };
            from = after(last);
            let keys: Vec<&[u8]> = page.rows.iter().map(|(key, _)| &key[..]).collect();
            let update = self.update(&keys, &mut |_, _, _| Verdict::Remove).await?;
            latest = latest.max(update.ticket);
            rows += keys.len() as u64;
            if page.end {
                break;
            }
        }
        self.durable(latest).await?;
        Ok(rows)
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
            from = after(last);
        }
    }
}
