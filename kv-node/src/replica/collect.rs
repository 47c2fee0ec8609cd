//! Collection: what a partition's mark covers leaves its records, ended values lose their bytes.
//!
//! Where something can go is noted as records are written: for each slot the least time that a mark
//! must have, and the least that the clock must have, before a walk finds anything. So a slot with
//! nothing to collect is never read, however high its mark is. A walk reads the slot page by page
//! and decides again under each key's lock.
//!
//! Coverage of actors of whom nothing is live is worth a write only when there is much of it.
//!
//! Invariant: a slot's times are at most those of any record in it, as soon as the append of the
//! record has returned.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kv_quorum::{EncodedRecord, HybridTime, Mark, Record};
use kv_ring::{Partition, SLOTS};

use super::upkeep::PAGE_ROWS_MAX;
use super::{Replica, Verdict};
use crate::keys::{DEFAULT_KEYSPACE, KeyRef};
use crate::plug::storage::StorageError;
use crate::teeth::{Bug, planted};

/// Entries of actors of whom nothing is live that a record may keep.
const SPARE_ENTRIES_MAX: usize = 3;

/// Where something can be collected, and when.
pub(super) struct Garbage(Box<[Due]>);

/// Of one slot, in milliseconds; `u64::MAX` for nothing.
#[derive(Debug)]
struct Due {
    by_mark: AtomicU64,
    by_clock: AtomicU64,
}

impl Garbage {
    /// Nothing is stored (`empty`), or nothing is known of what is.
    pub(super) fn new(empty: bool) -> Self {
        let due = || AtomicU64::new(if empty { u64::MAX } else { 0 });
        Self((0..SLOTS).map(|_| Due { by_mark: due(), by_clock: due() }).collect())
    }

    /// Notes a record that is written.
    #[inline]
    pub(super) fn note(&self, key: &[u8], record: EncodedRecord<'_>) {
        let due = record.collectable_at_ms(SPARE_ENTRIES_MAX, 0);
        if due != (None, None)
            && let Some(key) = KeyRef::parse(key).filter(|key| key.keyspace == DEFAULT_KEYSPACE)
            && let Some(slot) = self.of(key.slot.index())
        {
            slot.lower(due.0, due.1);
        }
    }

    fn of(&self, slot: u16) -> Option<&Due> {
        self.0.get(usize::from(slot))
    }
}

impl Due {
    fn lower(&self, by_mark: Option<u64>, by_clock: Option<u64>) {
        for (due, ms) in [(&self.by_mark, by_mark), (&self.by_clock, by_clock)] {
            if let Some(ms) = ms.filter(|ms| *ms < due.load(Ordering::Relaxed)) {
                due.fetch_min(ms, Ordering::AcqRel);
            }
        }
    }
}

/// What a walk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Slots that were read.
    pub slots: u64,
    /// Rows that are gone.
    pub rows: u64,
    /// Rows that became shorter.
    pub shortened: u64,
}

impl Replica {
    /// Collects one partition: under its mark what that covers, and by the clock the bytes of
    /// values that ended `clock_skew_ms_max` ago.
    ///
    /// # Errors
    /// Some of it is there still; call again later.
    pub async fn collect(
        &self,
        partition: Partition,
        now_ms: u64,
        clock_skew_ms_max: u64,
    ) -> Result<Collected, StorageError> {
        let early = planted(Bug::CollectEarly).then(|| Mark::at(HybridTime::new(now_ms, 0)));
        let mark = early.unwrap_or_else(|| self.mark(partition));
        let walk = Walk { mark, now_ms, clock_skew_ms_max };
        let mut done = Collected::default();
        // Neighbours are read in one go: after a restart every slot is due.
        let mut run: Vec<(u16, u64, u64)> = Vec::new();
        for slot in partition.slots() {
            let Some(due) = self.garbage.of(slot) else { continue };
            let (by_mark, by_clock) =
                (due.by_mark.load(Ordering::Acquire), due.by_clock.load(Ordering::Acquire));
            let ended = by_clock.saturating_add(clock_skew_ms_max) <= now_ms;
            if ended || (mark != Mark::NONE && by_mark <= mark.time().ms()) {
                run.push((slot, by_mark, by_clock));
            } else {
                self.collect_run(&std::mem::take(&mut run), walk, &mut done).await?;
            }
        }
        self.collect_run(&run, walk, &mut done).await?;
        Ok(done)
    }

    /// Collects slots that follow each other, each with what it was due by.
    async fn collect_run(
        &self,
        run: &[(u16, u64, u64)],
        walk: Walk,
        done: &mut Collected,
    ) -> Result<(), StorageError> {
        let (Some((first, ..)), Some((last, ..))) = (run.first(), run.last()) else {
            return Ok(());
        };
        for due in run.iter().filter_map(|(slot, ..)| self.garbage.of(*slot)) {
            due.by_mark.store(u64::MAX, Ordering::Release);
            due.by_clock.store(u64::MAX, Ordering::Release);
        }
        done.slots += run.len() as u64;
        let collected = self.collect_slots(*first..=*last, walk, done).await;
        if collected.is_err() {
            for (slot, by_mark, by_clock) in run {
                if let Some(due) = self.garbage.of(*slot) {
                    due.lower(Some(*by_mark), Some(*by_clock));
                }
            }
        }
        collected
    }

    async fn collect_slots(
        &self,
        slots: RangeInclusive<u16>,
        walk: Walk,
        done: &mut Collected,
    ) -> Result<(), StorageError> {
        let mut found: Vec<Bytes> = Vec::new();
        self.each_row(slots, &mut |key, record| match walk.left_of(record) {
            Some(_) => found.push(key.clone()),
            None => self.note_left(key, record, walk),
        })
        .await?;
        for keys in found.chunks(PAGE_ROWS_MAX) {
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            self.update(&keys, &mut |_, stored, out| {
                let Some(left) = stored.and_then(|stored| walk.left_of(stored)) else {
                    return Verdict::Keep;
                };
                if left.is_empty() {
                    done.rows += 1;
                    return Verdict::Remove;
                }
                left.encode_into(out);
                done.shortened += 1;
                Verdict::Write
            })
            .await?;
        }
        Ok(())
    }
}

impl Replica {
    /// Notes what a walk left. What it left below its mark (a delete above a sibling that stays) is
    /// for the write that changes it: it would be found again and again.
    fn note_left(&self, key: &[u8], record: &[u8], walk: Walk) {
        let due = KeyRef::parse(key).and_then(|key| self.garbage.of(key.slot.index()));
        let (Some(due), Ok(record)) = (due, EncodedRecord::parse(record)) else { return };
        let (by_mark, by_clock) =
            record.collectable_at_ms(SPARE_ENTRIES_MAX, walk.clock_skew_ms_max);
        due.lower(by_mark.filter(|ms| *ms >= walk.mark.time().ms()), by_clock);
    }
}

/// By what a walk judges.
#[derive(Clone, Copy)]
struct Walk {
    mark: Mark,
    now_ms: u64,
    clock_skew_ms_max: u64,
}

impl Walk {
    /// What is left of a record, if collecting it is worth a write. What can't be read stays, for
    /// its reader to find.
    fn left_of(self, stored: &[u8]) -> Option<Record<&[u8]>> {
        let mut record = Record::decode(stored).ok()?;
        let (live, spare) = (record.live().len(), spare_entries(&record));
        let dropped = record.drop_expired(self.now_ms, self.clock_skew_ms_max);
        if dropped > 0 && planted(Bug::ExpiredIsGone) {
            return Some(Record::new());
        }
        if self.mark != Mark::NONE {
            record.collect(self.mark, self.clock_skew_ms_max);
        }
        let shorter = dropped > 0 || record.live().len() < live || record.is_empty();
        let narrower = spare > SPARE_ENTRIES_MAX && spare_entries(&record) < spare;
        (shorter || narrower).then_some(record)
    }
}

/// Entries beyond one for each live version.
fn spare_entries(record: &Record<&[u8]>) -> usize {
    record.coverage().vector().len().saturating_sub(record.live().len())
}
