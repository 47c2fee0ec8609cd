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
//!
//! Hints lie beside the partitions. Those in damaged bytes are lost, as on a lost disk: this node
//! mints no more as a fallback under a tenure that covers them, and counts what is left.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_ring::{Partition, PartitionCount, Slot};
use parking_lot::Mutex;

use super::{Inner, Serving};
use crate::keys::{DEFAULT_KEYSPACE, KeyRef, Keyspace};
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
        let all = serving.replica.standings().partitions();
        let Touched { partitions, hints } = touched(all, &range);
        if !self.have_others(&partitions) {
            return Ok(());
        }
        if hints {
            all.iter().for_each(|partition| serving.dots.let_go(partition));
            serving.replica.hints().forget_count();
        }
        if !partitions.is_empty() {
            self.inner.fill_later();
        }
        let (node, of) = (Arc::clone(&self.inner), Arc::clone(serving));
        self.inner
            .blocking(move || {
                if !partitions.is_empty() {
                    of.replica.lose(&partitions, &of.dots)?;
                }
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

/// What a range of stored keys may hold some of.
#[derive(Debug, PartialEq, Eq)]
struct Touched {
    partitions: Vec<Partition>,
    hints: bool,
}

fn touched(all: PartitionCount, range: &DamagedRange) -> Touched {
    let (first_in, first) = place_of_bound(&range.smallest);
    let (last_in, last) = place_of_bound(&range.largest);
    let unbounded = range.largest.is_empty();
    let partitions = if first_in == DEFAULT_KEYSPACE {
        // A slot beyond the last is the end of the keyspace, as is a bound in a later one.
        let first = first.map(|slot| all.of(slot));
        let last = last.filter(|_| last_in == DEFAULT_KEYSPACE && !unbounded);
        let last = last.map(|slot| all.of(slot));
        let is_in = |at: &Partition| {
            first.is_some_and(|first| *at >= first) && last.is_none_or(|last| *at <= last)
        };
        all.iter().filter(is_in).collect()
    } else {
        Vec::new()
    };
    Touched { partitions, hints: unbounded || last_in != DEFAULT_KEYSPACE }
}

/// Keyspace and slot of a bound of a range, which may be a key cut short: no key of the range is
/// beyond it, and the bytes that are cut off are the lowest. A hint's row has no slot there.
fn place_of_bound(bound: &[u8]) -> (Keyspace, Option<Slot>) {
    let mut head = [0; 6];
    for (to, from) in head.iter_mut().zip(bound) {
        *to = *from;
    }
    let [a, b, c, d, high, low] = head;
    (Keyspace::from_be_bytes([a, b, c, d]), Slot::new(u16::from_be_bytes([high, low])))
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
    use kv_client::NodeId;

    use super::*;
    use crate::keys::{hint_row, position};

    #[test]
    fn a_bound_that_was_cut_short_still_names_its_slot() {
        let slot = |bound: &[u8]| place_of_bound(bound).1.map(Slot::index);
        assert_eq!(slot(&[0, 0, 0, 0, 0x12, 0x34, 9, 9]), Some(0x1234));
        assert_eq!(slot(&[0, 0, 0, 0, 0x13]), Some(0x1300));
        assert_eq!(slot(&[]), Some(0));
        assert_eq!(slot(&[0, 0, 0, 0, 0x40, 0]), None, "the end of the keyspace");
    }

    #[test]
    fn a_range_names_the_partitions_that_it_may_hold_and_hints_apart() {
        let four = PartitionCount::new(4).expect("a power of two");
        let of = |smallest: &[u8], largest: &[u8]| {
            let range = DamagedRange {
                file: "f".into(),
                offset: 0,
                smallest: Bytes::copy_from_slice(smallest),
                largest: Bytes::copy_from_slice(largest),
                what: String::new(),
            };
            let Touched { partitions, hints } = touched(four, &range);
            (partitions.into_iter().map(Partition::index).collect::<Vec<u16>>(), hints)
        };
        let hint = |target: u64| hint_row(NodeId(target), &[0, 0, 0, 0, 0x20, 0, 1]);
        let row = |slot: u16| position(DEFAULT_KEYSPACE, slot, 7);
        assert_eq!(of(&row(0x0800), &row(0x1fff)), (vec![0, 1], false));
        assert_eq!(of(&row(0x3000), &hint(9)), (vec![3], true), "from one into the other");
        // The target's first bytes are no slot, whatever they are.
        assert_eq!(of(&hint(0x1234 << 48), &hint(0x2345 << 48)), (Vec::new(), true));
        assert_eq!(of(&hint(u64::MAX), &hint(u64::MAX)), (Vec::new(), true));
        assert_eq!(of(&hint(5), &[]), (Vec::new(), true));
        assert_eq!(of(&[], &[]), (vec![0, 1, 2, 3], true), "it may be anything");
    }
}
