//! What a node does about damage: it says that it lost something, and has it filled from others.
//!
//! ```text
//! a read, a scan, a compaction meets a bad checksum -> the engine quarantines the keys (errors)
//!   -> their partitions are lost, durably; new tenures -> the engine gives the bytes up
//!   -> the replica is filled from the others and counts for R again
//! ```
//!
//! In between, reads of these keys fail here and are answered by other replicas. The order matters:
//! once the bytes read as empty, "not found" must not count, and a dot minted over nothing must not
//! be of a tenure that covers what was lost.
//!
//! A partition of which nobody else has a copy is left as it is: its damaged keys answer with an
//! error until an operator decides, never with "not found".

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_ring::{Partition, Slot};
use parking_lot::Mutex;

use super::{Inner, Serving};
use crate::keys::KeyRef;
use crate::plug::storage::DamagedRange;
use crate::worker::Worker;

/// Rest between two looks at what the engine met.
const LOOK_MS: u64 = 100;
/// Ranges that are remembered as told; further ones are told again.
const TOLD_MAX: usize = 1_024;

/// Takes damage that the engine met for lost.
pub(super) struct DamageLoop {
    inner: Arc<Inner>,
    /// What was logged and counted.
    told: Mutex<BTreeSet<(String, u64)>>,
}

impl DamageLoop {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, told: Mutex::default() }
    }

    fn tell(&self, range: &DamagedRange) {
        let mut told = self.told.lock();
        if told.len() >= TOLD_MAX || !told.insert((range.file.clone(), range.offset)) {
            return;
        }
        self.inner.figures.damaged_ranges.one();
        let (file, offset, what) = (&range.file, range.offset, &range.what);
        tracing::error!(file, offset, what, "stored data is damaged and will not be served");
    }

    /// Whether others have copies of all these partitions.
    fn have_others(&self, partitions: &[Partition]) -> bool {
        let view = self.inner.view.now();
        view.layouts.as_ref().is_some_and(|layouts| {
            partitions.iter().all(|partition| {
                let owners = layouts.newest().owners(*partition);
                owners.iter().any(|node| *node != view.me)
            })
        })
    }

    async fn lose_range(&self, serving: &Arc<Serving>, range: DamagedRange) -> io::Result<()> {
        let partitions = touched(serving, &range);
        if !self.have_others(&partitions) {
            return Ok(());
        }
        self.inner.fill_later();
        let (node, of) = (Arc::clone(&self.inner), Arc::clone(serving));
        self.inner
            .blocking(move || {
                of.replica.lose(&partitions, &of.dots)?;
                node.engine.give_up(&range);
                Ok(())
            })
            .await
    }

    /// Records whose bytes are sound and say nothing: they are joined over once their partition is
    /// lost.
    async fn lose_records(&self, serving: &Arc<Serving>, keys: &[Bytes]) -> io::Result<()> {
        let standings = serving.replica.standings();
        let lost: BTreeSet<Partition> = keys
            .iter()
            .filter_map(|key| Some(standings.of(KeyRef::parse(key)?.slot)))
            .filter(|partition| standings.is_complete(*partition))
            .collect();
        let lost: Vec<Partition> = lost.into_iter().collect();
        if lost.is_empty() || !self.have_others(&lost) {
            return Ok(());
        }
        self.inner.figures.damaged_records.add(keys.len() as u64);
        tracing::error!(records = keys.len(), "stored records are damaged and not served");
        self.inner.fill_later();
        let of = Arc::clone(serving);
        self.inner.blocking(move || of.replica.lose(&lost, &of.dots)).await
    }
}

/// The partitions of which a range of stored keys may hold some.
fn touched(serving: &Serving, range: &DamagedRange) -> Vec<Partition> {
    let partitions = serving.replica.standings().partitions();
    match (slot_of_bound(&range.smallest), slot_of_bound(&range.largest)) {
        ((first_in, Some(first)), (last_in, Some(last))) if first_in == last_in => {
            let (first, last) = (partitions.of(first), partitions.of(last));
            partitions.iter().filter(|at| (first..=last).contains(at)).collect()
        }
        // More than one keyspace.
        _ => partitions.iter().collect(),
    }
}

/// Keyspace and slot of a bound of a range, which may be a key cut short: no key of the range is
/// beyond it, and the bytes that are cut off are the lowest.
fn slot_of_bound(bound: &[u8]) -> ([u8; 4], Option<Slot>) {
    let mut head = [0; 6];
    for (to, from) in head.iter_mut().zip(bound) {
        *to = *from;
    }
    let [a, b, c, d, high, low] = head;
    ([a, b, c, d], Slot::new(u16::from_be_bytes([high, low])))
}

#[async_trait]
impl Worker for DamageLoop {
    fn name(&self) -> &'static str {
        "damage"
    }

    fn status(&self) -> String {
        match self.inner.engine.damaged().len() {
            0 => "nothing is damaged".into(),
            ranges => format!("{ranges} ranges of keys are damaged and not served"),
        }
    }

    async fn step(&self) -> Option<Duration> {
        if let Some(serving) = self.inner.serving() {
            for range in self.inner.engine.damaged() {
                self.tell(&range);
                if let Err(error) = self.lose_range(&serving, range).await {
                    tracing::error!(%error, "a loss could not be stored yet: it stays unreadable");
                }
            }
            let records = serving.replica.take_damaged_records();
            if !records.is_empty()
                && let Err(error) = self.lose_records(&serving, &records).await
            {
                tracing::error!(%error, "a loss could not be stored yet: it stays unreadable");
            }
        }
        Some(Duration::from_millis(LOOK_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_cut_short_still_names_its_slot() {
        let slot = |bound: &[u8]| slot_of_bound(bound).1.map(Slot::index);
        assert_eq!(slot(&[0, 0, 0, 0, 0x12, 0x34, 9, 9]), Some(0x1234));
        assert_eq!(slot(&[0, 0, 0, 0, 0x13]), Some(0x1300));
        assert_eq!(slot(&[]), Some(0));
        assert_eq!(slot(&[0, 0, 0, 0, 0x40, 0]), None, "the end of the keyspace");
    }
}
