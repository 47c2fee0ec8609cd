//! The replica: this node's own copies, and the only place where records change.
//!
//! Every change of a record (a mint, a join, a register) is read, decided and appended under the
//! key's lock, and the lock is never held across a wait for a disk sync or for the network. A
//! batch takes all its locks at once in one order, crosses the storage seam twice (once to look,
//! once to append), and gets one ticket; whoever acknowledges waits for that ticket first.
//!
//! Reads that need the disk are made outside the locks, and count only if nothing changed under
//! the key's lock meanwhile.
//!
//! Invariant: an append is the join of what was stored and what came in, or a mint over it.

mod collect;
mod conflicts;
mod counts;
mod exchanged;
#[cfg(test)]
mod flush_tests;
mod hints;
mod latest;
mod marks;
mod rows;
mod serve;
mod standing;
mod trees;
mod update;
#[cfg(test)]
pub(crate) mod update_tests;
mod upkeep;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kv_quorum::{HybridTime, Mark, Record};
use kv_ring::{Partition, PartitionCount, Slot};
use parking_lot::Mutex;

pub use collect::Collected;
pub use conflicts::{CONFLICT_BYTES_MAX_DEFAULT, ConflictCounts, ConflictIndex, Siblings};
pub use counts::LiveCounts;
pub use exchanged::ExchangeLog;
pub(crate) use hints::{FULL, UNCOUNTED};
pub use hints::{Hint, HintConfig, HintLog, LateHint, Queued};
use latest::Latest;
pub use marks::Marks;
pub use rows::{DecideRows, RowChange};
pub use serve::Join;
pub use standing::{Newcomer, Standings};
pub use trees::{TREE_BYTES_MAX_DEFAULT, TreeCounts, TreeSettings, Trees};
pub use update::{Update, Verdict};

use crate::cluster::dots::DotSource;
use crate::cluster::meta::MetaStore;
use crate::plug::storage::{Resident, StorageEngine, StorageError, Ticket};
use crate::teeth::{Bug, planted};

/// The name of the flush mark among the directory's facts.
const FLUSH_FACT: &str = "flushed";

/// Damaged records that wait to be taken for lost at most; more are met again.
const DAMAGED_RECORDS_MAX: usize = 1_024;

/// This node's copies.
pub struct Replica {
    engine: Arc<dyn StorageEngine>,
    /// A batch of so many bytes takes no further rows.
    batch_room_bytes: usize,
    meta: Arc<MetaStore>,
    stripes: update::Stripes,
    counts: LiveCounts,
    /// Which keys have siblings.
    conflicts: ConflictIndex,
    /// Where this replica has everything that it ever acknowledged.
    standings: Standings,
    /// What was exchanged with whom, and when.
    exchanged: ExchangeLog,
    /// A hash tree over the rows of each partition held.
    trees: Trees,
    /// What is kept here for replicas that are down.
    hints: HintLog,
    /// What may be forgotten because every replica has it.
    marks: Marks,
    /// Where something can be collected, and when.
    garbage: collect::Garbage,
    /// The latest append: what is to be durable before a mark is in force.
    appended: AtomicU64,
    /// Whether the engine keeps nothing over a restart: all is in memory and as durable as it gets.
    volatile: bool,
    /// Everything minted at or below it is dead: the flush mark of keyspace 0.
    flushed: AtomicU64,
    /// Rows that this flush mark made dead are removed.
    removed_below: AtomicU64,
    flushing: Mutex<()>,
    /// The latest time in a dot that was given to this replica.
    latest: Latest,
    /// Keys whose stored record is not one, not yet taken for lost.
    damaged_records: Mutex<BTreeSet<Bytes>>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("flushed", &self.flushed).finish_non_exhaustive()
    }
}

impl Replica {
    /// A replica over `engine`, with the flush mark that the directory remembers. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// The mark is there and can't be read: what was flushed would come back. Or what is lost can't
    /// be read.
    pub fn open(
        engine: Arc<dyn StorageEngine>,
        meta: Arc<MetaStore>,
        partitions: PartitionCount,
        trees: TreeSettings,
        hints: HintConfig,
    ) -> io::Result<Self> {
        let flushed = match meta.load(FLUSH_FACT)? {
            Some(_) if planted(Bug::ForgetFlush) => 0,
            None => 0,
            Some(fact) => fact.as_slice().try_into().map(u64::from_le_bytes).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, "the flush mark is not eight bytes")
            })?,
        };
        let (status, _) = engine.status(None);
        let volatile = status.volatile;
        let batch_room_bytes = match status.batch_room_bytes {
            0 => usize::MAX,
            bytes => bytes,
        };
        let marks = Marks::open(&meta, partitions, volatile)?;
        Ok(Self {
            engine,
            batch_room_bytes,
            standings: Standings::open(partitions, Arc::clone(&meta))?,
            latest: Latest::open(&meta)?,
            meta,
            stripes: update::Stripes::new(),
            counts: LiveCounts::new(volatile),
            conflicts: ConflictIndex::new(partitions, CONFLICT_BYTES_MAX_DEFAULT),
            exchanged: ExchangeLog::default(),
            trees: Trees::new(partitions, trees),
            hints: HintLog::new(hints, volatile),
            marks,
            garbage: collect::Garbage::new(volatile),
            appended: AtomicU64::new(0),
            volatile,
            flushed: AtomicU64::new(flushed),
            removed_below: AtomicU64::new(0),
            flushing: Mutex::new(()),
            damaged_records: Mutex::default(),
        })
    }

    /// Where this replica has everything that it ever acknowledged. Elsewhere it counts for W,
    /// and not for R nor for what a SET weighs.
    #[inline]
    pub fn standings(&self) -> &Standings {
        &self.standings
    }

    /// The partitions are doubled, if `count` is more than there are: what is kept by partition is
    /// inherited by the parts, or made anew. To be done before a layout with so many is acted by;
    /// done twice it changes nothing. What is stored by partition says how many there were, so
    /// nothing has to be stored now.
    pub fn refine(&self, count: PartitionCount) {
        if count <= self.standings.partitions() {
            return;
        }
        self.standings.refine(count);
        self.marks.refine(count);
        self.conflicts.refine(count);
        self.exchanged.forget_all();
        self.trees.refine(count);
    }

    /// This replica lost something of these partitions, durably: it is a newcomer there, what it
    /// exchanged before counts for nothing, and what it mints from now on is under new tenures.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// The loss counts, but a restart may have forgotten it; call again.
    pub fn lose(&self, partitions: &[Partition], dots: &DotSource) -> io::Result<()> {
        for partition in partitions {
            // Before anybody can see that something is gone: what is minted over that is not to
            // cover what this node minted before.
            dots.end_tenure(*partition);
            self.standings.lost(*partition);
            self.exchanged.forget(*partition);
        }
        self.standings.store()?;
        dots.begin_tenures(partitions)
    }

    /// What a stored record that can't be read is worth: nothing, once its partition is known to
    /// have lost something; else it stays as it is and whoever needs it gets an error. The loss is
    /// reported either way.
    pub(crate) fn damaged_record<'a>(
        &self,
        key: &[u8],
        stored: Option<&'a [u8]>,
    ) -> Option<&'a [u8]> {
        if !self.standings.is_complete_for(key) {
            return None;
        }
        let mut records = self.damaged_records.lock();
        if records.len() < DAMAGED_RECORDS_MAX {
            records.insert(Bytes::copy_from_slice(key));
        }
        stored
    }

    /// Storage keys of records that were found damaged since the last call.
    pub fn take_damaged_records(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.damaged_records.lock()).into_iter().collect()
    }

    /// What was exchanged with whom, and when.
    pub fn exchanged(&self) -> &ExchangeLog {
        &self.exchanged
    }

    /// The latest time in a dot that was given to this replica, whoever minted it.
    pub fn latest(&self) -> HybridTime {
        self.latest.time()
    }

    /// Has a restart remember it, where that is more than the lease of this node's clock will tell.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// A restart knows what was stored before.
    pub fn store_latest(&self, lease: HybridTime) -> io::Result<()> {
        self.latest.store(&self.meta, lease.to_bits())
    }

    /// The hash trees over what is stored.
    pub fn trees(&self) -> &Trees {
        &self.trees
    }

    /// What is kept here for replicas that are down.
    #[inline]
    pub fn hints(&self) -> &HintLog {
        &self.hints
    }

    /// What may be forgotten because every replica has it, whatever a partition's standing.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The mark of a partition: at or below it, what this replica does not hold live is dead. A
    /// newcomer has that of a flush only, which is true of everybody: it goes with every answer, so
    /// that who has not heard of the flush yet brings nothing back.
    #[inline]
    pub fn mark(&self, partition: Partition) -> Mark {
        let flushed = Mark::at(self.flushed());
        let mark = self.marks.stored(partition).max(flushed);
        if mark == flushed || self.standings.is_complete(partition) { mark } else { flushed }
    }

    /// The mark of a slot's partition.
    #[inline]
    pub fn mark_at(&self, slot: Slot) -> Mark {
        let flushed = Mark::at(self.flushed());
        let mark = self.marks.stored_at(slot).max(flushed);
        if mark == flushed || self.standings.is_complete_at(slot) { mark } else { flushed }
    }

    /// What is minted in a partition has to lie above it.
    #[inline]
    pub fn minted_above(&self, partition: Partition) -> HybridTime {
        self.marks.highest(partition).time().max(self.flushed())
    }

    /// The same for a storage key's partition.
    #[inline]
    pub fn mark_for(&self, storage_key: &[u8]) -> Mark {
        let key = crate::keys::KeyRef::parse(storage_key);
        // Rows of hints lie in a keyspace of their own, and under no mark.
        let key = key.filter(|key| key.keyspace == crate::keys::DEFAULT_KEYSPACE);
        key.map_or(Mark::NONE, |key| self.mark_at(key.slot))
    }

    /// Returns when everything that was appended before is durable.
    ///
    /// # Errors
    /// It may or may not survive.
    pub async fn all_durable(&self) -> Result<(), StorageError> {
        self.durable(Ticket(self.appended.load(Ordering::Acquire))).await
    }

    /// Whether every read is served from memory and nothing waits for a sync.
    #[inline]
    pub fn is_always_durable(&self) -> bool {
        self.volatile
    }

    /// The engine, for scans and figures.
    pub fn engine(&self) -> &Arc<dyn StorageEngine> {
        &self.engine
    }

    /// Live keys by slot, as far as this node holds them.
    pub fn counts(&self) -> &LiveCounts {
        &self.counts
    }

    /// The flush mark in force.
    pub fn flushed(&self) -> HybridTime {
        HybridTime::from_bits(self.flushed.load(Ordering::Acquire))
    }

    /// Stores a flush mark and puts it in force; a lower one than the present changes nothing. From
    /// then on `dots` mints above it only. Blocks on the disk.
    ///
    /// # Errors
    /// The mark isn't durable and isn't in force.
    pub fn flush_durably(
        &self,
        mark: HybridTime,
        dots: &DotSource,
        wall_ms: u64,
    ) -> io::Result<()> {
        // One at a time: a lower mark stored after a higher one would bring keys back at a restart.
        let _one = self.flushing.lock();
        if mark <= self.flushed() {
            return Ok(());
        }
        dots.raise(mark, wall_ms)?;
        self.meta.store(FLUSH_FACT, &mark.to_bits().to_le_bytes())?;
        if self.flushed.fetch_max(mark.to_bits(), Ordering::AcqRel) < mark.to_bits() {
            self.counts.clear();
        }
        Ok(())
    }

    /// What a record is worth under the flush mark: nothing, if all of it is dead; and without its
    /// dead siblings, if some are.
    #[inline]
    pub fn alive<'a>(&self, record: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let flushed = self.flushed();
        if flushed == HybridTime::ZERO {
            return Some(Cow::Borrowed(record));
        }
        let tells = || kv_quorum::latest_of(record).is_ok_and(|latest| latest > flushed);
        match kv_quorum::peek(record) {
            // Whoever minted it may have been behind the clock of what it covers: that is as dead
            // as before, and the coverage above the mark is all that says so.
            Ok(Some(peek)) if peek.dot.time <= flushed && !tells() => None,
            Ok(Some(peek)) if peek.dot.time > flushed && peek.live == 1 => {
                Some(Cow::Borrowed(record))
            }
            Ok(Some(_)) => {
                let mut left = Record::decode(record).ok()?;
                let changed = left.flush(flushed);
                Some(if changed { Cow::Owned(left.to_bytes()) } else { Cow::Borrowed(record) })
            }
            // Coverage alone: it tells of what died since.
            Ok(None) => tells().then_some(Cow::Borrowed(record)),
            // Damage is for the reader to report.
            Err(_) => Some(Cow::Borrowed(record)),
        }
    }

    /// `alive` of bytes that are shared.
    pub fn left_of(&self, record: &Bytes) -> Option<Bytes> {
        self.alive(record).map(|left| match left {
            Cow::Owned(left) => Bytes::from(left),
            Cow::Borrowed(_) => record.clone(),
        })
    }

    /// Shows each key's record without waiting for a disk. Answers the places that need one, and
    /// what to wait for before the others are shown to anybody.
    ///
    /// # Errors
    /// Nothing is known of any key.
    #[inline]
    pub fn read_resident(
        &self,
        keys: &[&[u8]],
        show: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<(Ticket, Vec<u32>), StorageError> {
        let mut wait = Ticket::DURABLE;
        let mut left = Vec::new();
        self.engine.visit_resident(keys, &mut |place, resident| match resident {
            Resident::Found { bytes, ticket } => {
                wait = wait.max(ticket);
                show(place, self.alive(bytes).as_deref());
            }
            Resident::Absent => show(place, None),
            Resident::NeedsIo => left.push(place as u32),
        })?;
        Ok((wait, left))
    }

    /// Shows each key's record, from disk where need be, in no particular order. What is shown is
    /// durable only after `durable` of the ticket.
    ///
    /// # Errors
    /// Nothing is known of the keys that were not shown.
    pub async fn read(
        &self,
        keys: &[&[u8]],
        show: &mut (dyn FnMut(usize, Option<&[u8]>) + Send),
    ) -> Result<Ticket, StorageError> {
        let (mut wait, left) = self.read_resident(keys, show)?;
        if left.is_empty() {
            return Ok(wait);
        }
        let owned: Vec<Bytes> = left
            .iter()
            .filter_map(|place| keys.get(*place as usize))
            .map(|key| Bytes::copy_from_slice(key))
            .collect();
        let rows = self.engine.read(&owned).await?;
        for (place, row) in left.iter().zip(&rows) {
            if let Some(row) = row {
                wait = wait.max(row.ticket);
            }
            let record = row.as_ref().and_then(|row| self.alive(&row.bytes));
            show(*place as usize, record.as_deref());
        }
        Ok(wait)
    }

    /// Returns when what `ticket` names is durable.
    ///
    /// # Errors
    /// It may or may not survive.
    #[inline]
    pub async fn durable(&self, ticket: Ticket) -> Result<(), StorageError> {
        if ticket.is_durable() { Ok(()) } else { self.engine.durable(ticket).await }
    }
}
