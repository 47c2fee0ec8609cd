//! The workloads, as one engine in one process does them.
//!
//! A workload ends after so many operations or so many seconds, whichever comes first: slow engines
//! take as long as fast ones and are measured on less.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::data::{Key, Random, Value, Zipf, is_value_of, key, key_in_order, value};
use crate::process;
use crate::store::{Result, Store};

/// Pairs of a batch.
pub(crate) const BATCH_PAIRS: u64 = 100;
/// Pairs of a scan.
const SCAN_PAIRS: usize = 100;
const ZIPF_THETA: f64 = 0.99;
/// The part of a workload's time before it that is not measured.
const WARM_SHARE: f64 = 0.3;
/// Operations between two looks at the clock's bound.
const OPS_PER_LOOK: u64 = 16;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    FillInOrder,
    FillInBatches,
    FillAtRandom,
    Overwrite,
    Sync,
    ReadHit,
    ReadMiss,
    ReadZipf,
    Scan,
    /// Reads and updates of a Zipf choice, so many reads of 100; `true`: each update reads first.
    Ycsb(u64, bool),
}

/// A workload: its name, what is done and by how many threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) threads: u64,
}

const fn workload(name: &'static str, kind: Kind, threads: u64) -> Workload {
    Workload { name, kind, threads }
}

pub(crate) const WORKLOADS: &[Workload] = &[
    workload("fillseq", Kind::FillInOrder, 1),
    workload("fillbatch", Kind::FillInBatches, 1),
    workload("fillrandom2", Kind::FillAtRandom, 2),
    workload("fillrandom", Kind::FillAtRandom, 1),
    workload("readhit", Kind::ReadHit, 1),
    workload("readhit2", Kind::ReadHit, 2),
    workload("readmiss", Kind::ReadMiss, 1),
    workload("readzipf", Kind::ReadZipf, 1),
    workload("readzipf2", Kind::ReadZipf, 2),
    workload("scan100", Kind::Scan, 1),
    workload("ycsbc", Kind::Ycsb(100, false), 2),
    workload("ycsbb", Kind::Ycsb(95, false), 2),
    workload("ycsbf", Kind::Ycsb(50, true), 2),
    workload("ycsba", Kind::Ycsb(50, false), 2),
    workload("overwrite", Kind::Overwrite, 1),
    workload("readcold", Kind::ReadHit, 1),
    workload("sync1", Kind::Sync, 1),
    workload("sync16", Kind::Sync, 16),
    workload("sync64", Kind::Sync, 64),
];

/// When a workload ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) ops: u64,
    pub(crate) seconds: f64,
}

/// What came out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) ops: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Reads that found nothing or something else.
    pub(crate) wrong: u64,
    /// Latencies in microseconds: p50, p99, p99.9, worst.
    pub(crate) latency_us: [f64; 4],
}

/// What one thread saw.
struct Seen {
    ops: u64,
    wrong: u64,
    nanoseconds: Histogram<u64>,
}

/// The state of one run, shared by its threads.
struct Run<'a> {
    store: &'a dyn Store,
    workload: Workload,
    /// Pairs that are loaded.
    pairs: u64,
    zipf: Option<Zipf>,
    /// Pairs that a fill has begun.
    next: &'a AtomicU64,
    ops_max: u64,
    until: Instant,
}

/// Does a workload over `pairs` loaded ones. `next` counts the pairs that fills have written.
pub(crate) fn run(
    store: &dyn Store,
    workload: Workload,
    pairs: u64,
    next: &AtomicU64,
    limits: Limits,
) -> Result<Outcome> {
    let zipf = matches!(workload.kind, Kind::ReadZipf | Kind::Ycsb(..))
        .then(|| Zipf::new(pairs, ZIPF_THETA));
    // Commits warm up too: the first finds files to be made.
    let warms_up = !matches!(
        workload.kind,
        Kind::FillInOrder | Kind::FillInBatches | Kind::FillAtRandom | Kind::Overwrite
    );
    let for_seconds = |seconds: f64| Run {
        store,
        workload,
        pairs,
        zipf: zipf.clone(),
        next,
        ops_max: limits.ops,
        until: Instant::now() + Duration::from_secs_f64(seconds),
    };
    if warms_up && workload.name != "readcold" {
        for_seconds(limits.seconds * WARM_SHARE).on_all_threads(1)?;
    }
    let (began, cpu_began) = (Instant::now(), process::cpu_seconds());
    let seen = for_seconds(limits.seconds).on_all_threads(2)?;
    let (seconds, cpu_seconds) =
        (began.elapsed().as_secs_f64(), process::cpu_seconds() - cpu_began);
    let mut all = Histogram::new(3)?;
    let mut outcome = Outcome { seconds, cpu_seconds, ..Outcome::default() };
    for part in seen {
        all.add(&part.nanoseconds)?;
        outcome.ops += part.ops;
        outcome.wrong += part.wrong;
    }
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let at = |quantile: f64| us(all.value_at_quantile(quantile));
    outcome.latency_us = [at(0.5), at(0.99), at(0.999), us(all.max())];
    Ok(outcome)
}

impl Run<'_> {
    fn on_all_threads(&self, seed: u64) -> Result<Vec<Seen>> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.workload.threads)
                .map(|thread| scope.spawn(move || self.on_thread(seed << 32 | thread)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    }

    fn on_thread(&self, seed: u64) -> Result<Seen> {
        let mut random = Random::new(seed);
        let mut seen = Seen { ops: 0, wrong: 0, nanoseconds: Histogram::new(3)? };
        let ops_max = self.ops_max / self.workload.threads;
        let is_slow = self.workload.kind == Kind::Sync;
        let mut pairs: Vec<(Key, Value)> = Vec::new();
        let mut began = Instant::now();
        while seen.ops < ops_max {
            let done = self.one(&mut random, &mut pairs, &mut seen)?;
            let now = Instant::now();
            // The time of making keys and values is in it, for all alike: some ten nanoseconds.
            seen.nanoseconds.record(((now - began).as_nanos() as u64).max(1))?;
            began = now;
            seen.ops += done;
            if (is_slow || seen.ops.is_multiple_of(OPS_PER_LOOK)) && now >= self.until {
                break;
            }
        }
        Ok(seen)
    }

    /// One operation; gives what it counts for.
    fn one(
        &self,
        random: &mut Random,
        pairs: &mut Vec<(Key, Value)>,
        seen: &mut Seen,
    ) -> Result<u64> {
        match self.workload.kind {
            Kind::FillInOrder => {
                let key = key_in_order(self.next.fetch_add(1, Ordering::Relaxed));
                self.store.put(&key, &value(&key, 0), false)?;
            }
            Kind::FillAtRandom | Kind::Sync => {
                let key = key(self.next.fetch_add(1, Ordering::Relaxed));
                self.store.put(&key, &value(&key, 0), self.workload.kind == Kind::Sync)?;
            }
            Kind::FillInBatches => {
                let first = self.next.fetch_add(BATCH_PAIRS, Ordering::Relaxed);
                pairs.clear();
                pairs
                    .extend((first..first + BATCH_PAIRS).map(key).map(|key| (key, value(&key, 0))));
                self.store.put_batch(pairs)?;
                return Ok(BATCH_PAIRS);
            }
            Kind::Overwrite => {
                let key = key(random.below(self.pairs));
                self.store.put(&key, &value(&key, random.next()), false)?;
            }
            Kind::ReadHit => self.read(random.below(self.pairs), seen)?,
            Kind::ReadZipf => self.read(self.choice(random), seen)?,
            Kind::ReadMiss => {
                // Numbers that no fill ever reaches.
                let key = key(random.next() | 1 << 63);
                seen.wrong += u64::from(self.store.get(&key, &mut |_| ())?);
            }
            Kind::Scan => {
                let mut wrong = 0;
                let from = key_in_order(random.next());
                let count = self.store.scan(&from, SCAN_PAIRS, &mut |key, value| {
                    let key = key.try_into().expect("sixteen bytes");
                    wrong += u64::from(!is_value_of(value, key));
                })?;
                // Only a scan that begins at the very end may be short.
                seen.wrong += wrong + u64::from(count < SCAN_PAIRS && from[0] != b'f');
            }
            Kind::Ycsb(reads, modifies) => {
                let at = self.choice(random);
                let writes = random.below(100) >= reads;
                if !writes || modifies {
                    self.read(at, seen)?;
                }
                if writes {
                    let key = key(at);
                    self.store.put(&key, &value(&key, random.next()), false)?;
                }
            }
        }
        Ok(1)
    }

    fn choice(&self, random: &mut Random) -> u64 {
        self.zipf.as_ref().expect("a workload that chooses has a Zipf").next(random)
    }

    fn read(&self, number: u64, seen: &mut Seen) -> Result<()> {
        let key = key(number);
        let mut right = false;
        self.store.get(&key, &mut |value| right = is_value_of(value, &key))?;
        seen.wrong += u64::from(!right);
        Ok(())
    }
}
