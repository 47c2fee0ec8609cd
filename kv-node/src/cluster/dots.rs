//! The names under which this node mints: tenures, and a hybrid clock under an fsynced lease.
//!
//! A dot is (node, tenure, hybrid time). Coverage says "all dots of this actor up to t", which is
//! only true of an actor that still holds all its own dots; so a new tenure begins at every start,
//! and for one partition whenever this node may have lost something of it or is shown a dot of its
//! own tenure that it doesn't cover (riak_kv #679 is what happens otherwise). A fallback that has
//! dropped a delivered hint lets go of dots that it minted: it notes so before it drops, and begins
//! a new tenure before it mints there again. Tenures and the lease are fsynced before they are
//! used.
//!
//! Who finds out that a tenure is over holds a key's lock and must not wait for a disk: it ends the
//! tenure, and from then on nothing is minted in the partition until `resume`, called where one may
//! block, has begun the next.
//!
//! The clock is a hybrid logical clock (Kulkarni et al. 2014): 48 bits of milliseconds, 16 of a
//! counter. A lease in the directory bounds from above what may have been minted, so a restart
//! begins above it whatever the wall clock says.
//!
//! When the partitions are doubled, both halves go on under the tenure of the whole. A vector is of
//! one key, and a key is in one half: what the tenure says of it is as true as before. What was let
//! go of in the whole may have been of either half.
//!
//! Invariant: dots of one directory are strictly increasing, over restarts too.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_client::NodeId;
use kv_quorum::{Actor, Dot, HybridTime};
use kv_ring::{Partition, PartitionCount, Slot};
use parking_lot::Mutex;

use super::floors::{Flight, Flights};
use super::meta::MetaStore;
use super::minting::Minting;
use crate::by_partition::{ByPartition, converted};
use crate::plug::rng::Rng;
use crate::teeth::{Bug, planted};

/// How far ahead of the wall clock the lease reaches.
pub const LEASE_MS: u64 = 10_000;

/// How far it reaches beyond what was minted ahead of the wall clock. Little: each start mints
/// above the lease before it, so a node that is started again and again would run further ahead
/// each time.
const BEYOND_MS: u64 = 1_000;

/// How far apart the clocks of sound members may be, in milliseconds.
pub const CLOCK_SKEW_MS_MAX: u64 = 60_000;

/// Bits of chance in a life: below the counter of a hybrid time.
const LIFE_SPREAD: u64 = 0x7fff;

const LEASE_FACT: &str = "lease";
const TENURE_FACT: &str = "tenures";

/// Why no dot could be minted. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoDot {
    /// The lease does not reach so far: `resume`, then retry.
    LeaseSpent,
    /// The partition's tenure was ended: `resume` it, then retry.
    TenureOver,
}

/// What stands for a tenure that was ended and has no successor yet. No tenure is named so.
const NO_TENURE: u64 = 0;

/// Mints dots for one directory.
pub struct DotSource {
    node: NodeId,
    last: AtomicU64,
    /// Exclusive upper bound of what may be minted.
    lease: AtomicU64,
    /// The highest time for which it did not reach.
    wanted: AtomicU64,
    /// When this life of the directory began: above every time of the earlier ones.
    life: u64,
    /// How this node mints in each partition.
    each: ByPartition<Minting>,
    /// Kept while any of these is changed or inherited; never across a wait.
    changing: Mutex<()>,
    meta: Arc<MetaStore>,
    rng: Arc<dyn Rng>,
    renewing: Mutex<()>,
    flights: Flights,
    clock_skew_ms_max: u64,
}

impl std::fmt::Debug for DotSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DotSource").field("node", &self.node).finish_non_exhaustive()
    }
}

impl DotSource {
    /// Begins a new tenure for every partition, above everything that this directory may have
    /// minted before. Blocks on the disk.
    ///
    /// # Errors
    /// The directory's facts can't be read or stored; nothing may be minted.
    pub fn open(
        node: NodeId,
        partitions: PartitionCount,
        meta: Arc<MetaStore>,
        rng: Arc<dyn Rng>,
        wall_ms: u64,
        clock_skew_ms_max: u64,
    ) -> io::Result<Self> {
        let spent = Self::stored_lease(&meta)?;
        let tenure = new_tenure(&*rng);
        let mut tenures = vec![tenure; partitions.count()];
        if planted(Bug::KeepTenure)
            && let Some(fact) = meta.load(TENURE_FACT)?
        {
            let words = fact.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
            let words: Vec<u64> = words.collect();
            tenures = converted(&words, partitions, |one, _| one).unwrap_or(tenures);
        }
        let mut tenures = tenures.into_iter();
        let each =
            ByPartition::new(partitions, |_| Minting::under(tenures.next().unwrap_or(tenure)));
        let above = HybridTime::next(HybridTime::from_bits(spent), wall_ms);
        // Two copies of one directory that start in the same millisecond get two lives.
        let life = above.to_bits() + (rng.next_u64() & LIFE_SPREAD);
        let source = Self {
            node,
            last: AtomicU64::new(life),
            lease: AtomicU64::new(life),
            wanted: AtomicU64::new(0),
            life,
            each,
            changing: Mutex::new(()),
            meta,
            rng,
            renewing: Mutex::new(()),
            flights: Flights::default(),
            clock_skew_ms_max,
        };
        source.store_tenures(&BTreeMap::new())?;
        source.renew(wall_ms)?;
        Ok(source)
    }

    /// A write, or a batch of them, begins: to be kept from before it mints until its records are
    /// with their replicas, or nobody waits for that any more. This node's floor stays below it.
    #[inline]
    pub fn begin_flight(&self) -> Flight<'_> {
        self.flights.begin()
    }

    /// The writes in flight.
    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    /// The lease that a directory holds: above every time that it minted or told. Blocks.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn stored_lease(meta: &MetaStore) -> io::Result<u64> {
        let Some(fact) = meta.load(LEASE_FACT)? else { return Ok(0) };
        fact.as_slice()
            .try_into()
            .map(u64::from_le_bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the lease is not eight bytes"))
    }

    /// The actor under which this node mints in a partition now. Where the partition is of a
    /// coarser count than there is now, and its parts have gone on under different tenures: none.
    #[inline]
    pub fn actor(&self, partition: Partition) -> Actor {
        let tenure = match self.each.touched(partition) {
            [] => NO_TENURE,
            [one, others @ ..] => {
                let tenure = one.tenure.load(Ordering::Acquire);
                let same = |other: &Minting| other.tenure.load(Ordering::Acquire) == tenure;
                if others.iter().all(same) { tenure } else { NO_TENURE }
            }
        };
        Actor { node: self.node.0, tenure }
    }

    /// The actor under which this node mints in a slot now.
    #[inline]
    pub fn actor_at(&self, slot: Slot) -> Actor {
        let tenure = self.each.now().of(slot).tenure.load(Ordering::Acquire);
        Actor { node: self.node.0, tenure }
    }

    /// From now on there are `count` partitions, if that is more: their parts go on as they did.
    pub fn refine(&self, count: PartitionCount) {
        let _begins = self.renewing.lock();
        let _one = self.changing.lock();
        self.each.refine(count, Minting::inherited);
    }

    /// A dot above every earlier one of this directory, and above `seen` unless that lies further
    /// ahead of the wall clock than a sound clock can: a far future is not followed.
    ///
    /// # Errors
    /// As `NoDot` says.
    #[inline]
    pub fn mint(&self, partition: Partition, wall_ms: u64, seen: HybridTime) -> Result<Dot, NoDot> {
        let floor = if seen.ms() <= wall_ms.saturating_add(self.clock_skew_ms_max) {
            seen
        } else {
            HybridTime::default()
        };
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let above = HybridTime::from_bits(last).max(floor);
            let next = HybridTime::next(above, wall_ms);
            if next.to_bits() >= self.lease.load(Ordering::Acquire) {
                self.wanted.fetch_max(next.to_bits(), Ordering::AcqRel);
                return Err(NoDot::LeaseSpent);
            }
            match self.last.compare_exchange_weak(
                last,
                next.to_bits(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let actor = self.actor(partition);
                    if actor.tenure == NO_TENURE {
                        return Err(NoDot::TenureOver);
                    }
                    return Ok(Dot { time: next, actor });
                }
                Err(now) => last = now,
            }
        }
    }

    /// The highest time minted so far, or the wall clock where that is later: this node's clock as
    /// its peers see it.
    pub fn time(&self, wall_ms: u64) -> HybridTime {
        HybridTime::from_bits(self.last.load(Ordering::Relaxed)).max(HybridTime::new(wall_ms, 0))
    }

    /// Whether a time lies further ahead of the wall clock than a sound clock can.
    pub fn is_far_ahead(&self, time: HybridTime, wall_ms: u64) -> bool {
        time.ms() > wall_ms.saturating_add(self.clock_skew_ms_max)
    }

    /// When this life of the directory began.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Whether the lease reaches beyond the wall clock: a mint finds it spent otherwise.
    #[inline]
    pub fn lease_reaches(&self, wall_ms: u64) -> bool {
        HybridTime::new(wall_ms, 0).to_bits() < self.lease.load(Ordering::Acquire)
    }

    /// Above everything that this directory may have minted: what a restart begins at.
    pub fn lease(&self) -> HybridTime {
        HybridTime::from_bits(self.lease.load(Ordering::Acquire))
    }

    /// The same as `time`, but never at or above the lease: what peers may remember of this node,
    /// so that a directory whose lease is below what they remember is known to be an old copy.
    pub fn told_time(&self, wall_ms: u64) -> u64 {
        let lease = self.lease.load(Ordering::Acquire);
        self.time(wall_ms).to_bits().min(lease.saturating_sub(1))
    }

    /// Mints only above `mark` from now on. Blocks on the disk if the lease does not reach so far.
    ///
    /// # Errors
    /// The lease could not be moved; nothing changed.
    pub fn raise(&self, mark: HybridTime, wall_ms: u64) -> io::Result<()> {
        if mark.to_bits() >= self.lease.load(Ordering::Acquire) {
            self.wanted.fetch_max(mark.to_bits(), Ordering::AcqRel);
            self.renew(wall_ms)?;
        }
        self.last.fetch_max(mark.to_bits(), Ordering::AcqRel);
        Ok(())
    }

    /// Moves the lease ahead of the wall clock, and of what was minted or is to be. Blocks on the
    /// disk; a worker calls it every quarter of `LEASE_MS`.
    ///
    /// # Errors
    /// The old lease still holds.
    pub fn renew(&self, wall_ms: u64) -> io::Result<()> {
        let _one = self.renewing.lock();
        let reached = self.last.load(Ordering::Relaxed).max(self.wanted.load(Ordering::Acquire));
        let beyond_ms = HybridTime::from_bits(reached).ms().saturating_add(BEYOND_MS);
        let until_ms = wall_ms.saturating_add(LEASE_MS).max(beyond_ms);
        let until = HybridTime::new(until_ms, 0).to_bits();
        if until <= self.lease.load(Ordering::Acquire) {
            return Ok(());
        }
        self.meta.store(LEASE_FACT, &until.to_le_bytes())?;
        self.lease.store(until, Ordering::Release);
        Ok(())
    }

    /// Ends the tenure of one partition: nothing is minted in it until `resume`. Doesn't block.
    pub fn end_tenure(&self, partition: Partition) {
        let _one = self.changing.lock();
        for minting in self.each.touched(partition) {
            minting.tenure.store(NO_TENURE, Ordering::Release);
        }
    }

    /// Begins a new tenure of a partition whose last one was ended, and moves the lease if a mint
    /// found it spent; does nothing where neither is so. Blocks on the disk.
    ///
    /// # Errors
    /// As `begin_tenure`.
    pub fn resume(&self, partition: Partition, wall_ms: u64) -> io::Result<()> {
        if self.wanted.load(Ordering::Acquire) >= self.lease.load(Ordering::Acquire) {
            self.renew(wall_ms)?;
        }
        let _one = self.renewing.lock();
        let over = |minting: &Minting| minting.tenure.load(Ordering::Acquire) == NO_TENURE;
        if self.each.touched(partition).iter().any(over) {
            self.begin(&[partition])?;
        }
        Ok(())
    }

    /// A delivered hint of the partition is about to be dropped, with dots that this node may have
    /// minted: as a fallback it mints there under a new tenure only.
    pub fn let_go(&self, partition: Partition) {
        let _one = self.changing.lock();
        for minting in self.each.touched(partition) {
            minting.times.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether a new tenure is due before this node mints in the partition as a fallback. To be
    /// asked under the key's lock.
    pub fn needs_tenure(&self, partition: Partition) -> bool {
        self.each.touched(partition).iter().any(|minting| !minting.is_new())
    }

    /// Begins a new tenure of one partition. Blocks on the disk.
    ///
    /// # Errors
    /// The new tenure isn't durable and isn't used, and the last one is over: nothing is minted in
    /// the partition until a later try.
    pub fn begin_tenure(&self, partition: Partition) -> io::Result<()> {
        self.begin_tenures(&[partition])
    }

    /// Begins a new tenure of each of these partitions. Blocks on the disk, once.
    ///
    /// # Errors
    /// As `begin_tenure`, for all of them.
    pub fn begin_tenures(&self, partitions: &[Partition]) -> io::Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        for partition in partitions {
            self.end_tenure(*partition);
        }
        let _one = self.renewing.lock();
        self.begin(partitions)
    }

    /// To be called with `renewing` held: the count stays as it is meanwhile.
    fn begin(&self, partitions: &[Partition]) -> io::Result<()> {
        let cells = self.each.now();
        let places = partitions.iter().flat_map(|partition| cells.touched(*partition));
        let begun: BTreeMap<usize, u64> =
            places.map(|place| (place, new_tenure(&*self.rng))).collect();
        // Counted before there are new tenures: what is let go of later may be of either.
        let times = begun.keys().filter_map(|place| cells.all().get(*place));
        let times: Vec<u64> = times.map(|minting| minting.times.load(Ordering::Acquire)).collect();
        self.store_tenures(&begun)?;
        let _one = self.changing.lock();
        for ((place, tenure), times) in begun.into_iter().zip(times) {
            if let Some(minting) = cells.all().get(place) {
                minting.tenure.store(tenure, Ordering::Release);
                minting.settled.store(times, Ordering::Release);
            }
        }
        Ok(())
    }

    fn store_tenures(&self, begun: &BTreeMap<usize, u64>) -> io::Result<()> {
        let cells = self.each.now().all();
        let mut fact = Vec::with_capacity(cells.len() * 8);
        for (place, minting) in cells.iter().enumerate() {
            let now = || minting.tenure.load(Ordering::Acquire);
            let tenure = begun.get(&place).copied().unwrap_or_else(now);
            fact.extend_from_slice(&tenure.to_le_bytes());
        }
        self.meta.store(TENURE_FACT, &fact)
    }
}

fn new_tenure(rng: &dyn Rng) -> u64 {
    rng.next_u64().max(NO_TENURE + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kv_lsm::fs::MemFs;

    use super::*;
    use crate::plug::rng::SeededRng;

    #[test]
    fn what_was_let_go_of_asks_for_a_new_tenure_of_that_partition_only() {
        let meta = MetaStore::open(Arc::new(MemFs::new()), Path::new("/meta")).expect("a disk");
        let rng = Arc::new(SeededRng::new(1));
        let dots = DotSource::open(NodeId(9), four(), Arc::new(meta), rng, 1_000, 60_000);
        let dots = dots.expect("an empty directory");
        let (one, other) = (nth(1), nth(2));
        let before = dots.actor(one);
        dots.let_go(one);
        dots.let_go(one);
        assert!(dots.needs_tenure(one) && !dots.needs_tenure(other));
        dots.begin_tenure(one).expect("a disk");
        assert!(!dots.needs_tenure(one) && dots.actor(one) != before);
        assert_eq!(dots.actor(other), before, "all begin under one at the start");
        dots.let_go(one);
        assert!(dots.needs_tenure(one));
    }

    fn four() -> PartitionCount {
        PartitionCount::new(4).expect("a power of two")
    }

    fn nth(index: u16) -> Partition {
        four().nth(index).expect("one of four")
    }

    #[test]
    fn halves_go_on_under_the_tenure_of_the_whole() {
        let dots = open(&MemFs::new());
        let whole = nth(1);
        let [low, high] = whole.halves().expect("there are slots to halve");
        let before = dots.actor(whole);
        dots.let_go(whole);
        dots.refine(low.count());
        assert_eq!(
            (dots.actor(low), dots.actor(high), dots.actor(whole)),
            (before, before, before)
        );
        assert!(dots.needs_tenure(low) && dots.needs_tenure(high), "it may have been of either");
        dots.begin_tenure(low).expect("a disk");
        assert!(!dots.needs_tenure(low) && dots.needs_tenure(high));
        assert_eq!((dots.actor_at(high.first_slot()), dots.actor(high)), (before, before));
        assert_ne!(dots.actor(low), before);
        // Who began when they were one can't tell of which half it is.
        let none = dots.mint(whole, NOW_MS, HybridTime::ZERO);
        assert_eq!(none, Err(NoDot::TenureOver));
        dots.end_tenure(whole);
        assert_eq!(dots.mint(high, NOW_MS, HybridTime::ZERO), Err(NoDot::TenureOver));
        dots.resume(whole, NOW_MS).expect("a disk");
        let (one, other) = (dots.mint(low, NOW_MS, HybridTime::ZERO), dots.actor(high));
        assert!(one.is_ok_and(|dot| dot.actor == dots.actor(low)) && other != before);
    }

    fn open(disk: &MemFs) -> DotSource {
        let meta = MetaStore::open(Arc::new(disk.clone()), Path::new("/meta")).expect("a disk");
        let rng = Arc::new(SeededRng::new(1));
        DotSource::open(NodeId(9), four(), Arc::new(meta), rng, NOW_MS, 60_000)
            .expect("a directory")
    }

    const NOW_MS: u64 = 1_700_000_000_000;

    #[test]
    fn who_sees_a_time_beyond_the_lease_mints_above_it_once_the_lease_is_moved() {
        let dots = open(&MemFs::new());
        let (partition, seen) = (nth(1), HybridTime::new(NOW_MS + 40_000, 7));
        assert_eq!(dots.mint(partition, NOW_MS, seen), Err(NoDot::LeaseSpent));
        dots.resume(partition, NOW_MS).expect("a disk");
        let dot = dots.mint(partition, NOW_MS, seen).expect("the lease reaches");
        assert!(dot.time > seen);
    }

    #[test]
    fn who_starts_again_and_again_is_a_second_further_ahead_each_time_at_most() {
        let disk = MemFs::new();
        for starts in 0..20 {
            let dots = open(&disk);
            let ahead_ms = dots.time(NOW_MS).ms() - NOW_MS;
            assert!(ahead_ms <= LEASE_MS + starts * (BEYOND_MS + 1), "{ahead_ms} at {starts}");
        }
    }
}
