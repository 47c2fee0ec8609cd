//! What a node carries: operations and bytes by slot, the keys that are asked for most, its CPU and
//! how long its work waits.
//!
//! One operation in 64 is looked at, at random distances, so that no pattern of requests hides
//! from it; what is seen stands for 64. The others cost one subtraction for a batch: no lock, no
//! clock, no allocation. Whoever finds the book in use looks at nothing, and catches up later.
//!
//! Operations are counted where they are coordinated, each once in the cluster; bytes are those
//! that are written. A window ends every few seconds, and shows the rates in it.
//!
//! Invariant: memory is bounded whatever keys there are: one counter for each of 16,384 slots, and
//! `COUNTERS` keys of `KEY_BYTES_MAX` bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use kv_ring::PartitionCount;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::sketch::Sketch;
use crate::keys::KeyRef;

/// What one look stands for: the mean distance between two.
const EVERY: u64 = 64;
/// Keys that are counted at the same time.
const COUNTERS: usize = 128;
/// Bytes of a key that are kept; longer ones are told apart by their token all the same.
const KEY_BYTES_MAX: usize = 256;
/// A key that was surely seen fewer times is not called hot.
const LOOKS_MIN: u64 = 4;
/// Hot keys that a window shows at most.
pub const HOT_KEYS_MAX: usize = 32;
/// Partitions that a node tells the others of at most.
const BUSIEST_MAX: usize = 4;
/// Slots of a keyspace.
const SLOTS: usize = 16_384;
/// Where the CPU is not known.
const UNKNOWN: u32 = u32::MAX;

/// One key of a batch, as it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touched<'a> {
    pub(crate) key: KeyRef<'a>,
    /// Bytes that are written; `None` for a read.
    pub(crate) written: Option<usize>,
}

/// A key that is asked for often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKey {
    /// Its beginning, 256 bytes at most.
    pub key: Vec<u8>,
    /// Its token: what tells it apart.
    pub token: u64,
    /// Its slot.
    pub slot: u16,
    /// Operations in a second: at most so many, and
    pub ops_per_s: u64,
    /// by so many fewer at most (and give or take what counting one in 64 leaves to chance).
    pub error_per_s: u64,
}

/// Operations in a second on a part of the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Reads.
    pub reads_per_s: u64,
    /// Writes.
    pub writes_per_s: u64,
    /// Bytes written.
    pub bytes_per_s: u64,
}

impl Rate {
    /// Reads and writes.
    pub fn ops_per_s(&self) -> u64 {
        self.reads_per_s + self.writes_per_s
    }
}

/// What a window showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Slots that were touched, in order, with their rates.
    slots: Vec<(u16, Rate)>,
    /// Hot keys, the hottest first.
    pub hot: Vec<HotKey>,
}

impl Window {
    /// Everything together.
    pub fn total(&self) -> Rate {
        self.slots.iter().fold(Rate::default(), |sum, (_, rate)| add(sum, *rate))
    }

    /// Whether the key of a token was among the hot ones.
    pub(crate) fn is_hot(&self, token: u64) -> bool {
        self.hot.iter().any(|key| key.token == token)
    }

    /// The rates of partitions that were touched, the busiest first.
    pub fn partitions(&self, count: PartitionCount) -> Vec<(u16, Rate)> {
        let of = |slot: u16| kv_ring::Slot::new(slot).map_or(0, |slot| count.of(slot).index());
        let mut all: Vec<(u16, Rate)> = Vec::new();
        for (slot, rate) in &self.slots {
            match all.last_mut().filter(|(partition, _)| *partition == of(*slot)) {
                Some((_, sum)) => *sum = add(*sum, *rate),
                None => all.push((of(*slot), *rate)),
            }
        }
        all.sort_by_key(|(partition, rate)| (std::cmp::Reverse(rate.ops_per_s()), *partition));
        all
    }
}

fn add(one: Rate, other: Rate) -> Rate {
    Rate {
        reads_per_s: one.reads_per_s + other.reads_per_s,
        writes_per_s: one.writes_per_s + other.writes_per_s,
        bytes_per_s: one.bytes_per_s + other.bytes_per_s,
    }
}

/// What a member tells the others of its load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// CPU, per mille of what its threads can use; `None` where it can't be measured.
    pub cpu_per_mille: Option<u16>,
    /// Microseconds that work waited for its turn lately, about.
    pub wait_us: u32,
    /// Operations in a second on the busiest partitions, about.
    pub busiest: Vec<(u16, u64)>,
    /// The hottest key's part of its operations, per mille.
    pub hottest_per_mille: u16,
    /// Partitions that it has yet to fill.
    pub filling: u16,
}

impl Load {
    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// What a node told. Later versions may tell more: that is not read.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::take_from_bytes(bytes).ok().map(|(load, _)| load)
    }
}

/// Counts.
pub struct LoadMeter {
    /// Operations until the next that is looked at.
    left: AtomicI64,
    book: Mutex<Book>,
    shown: Mutex<Arc<Window>>,
    cpu_per_mille: AtomicU32,
    wait_us: AtomicU32,
}

struct Book {
    random: u64,
    began_us: u64,
    /// Looks by slot: reads, writes and bytes written. Empty until the first.
    slots: Vec<Looks>,
    keys: Sketch<(Vec<u8>, u64, u16)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Looks {
    reads: u32,
    writes: u32,
    bytes: u64,
}

impl std::fmt::Debug for LoadMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadMeter").finish_non_exhaustive()
    }
}

impl LoadMeter {
    /// A meter whose distances follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let book =
            Book { random: seed | 1, began_us: 0, slots: Vec::new(), keys: Sketch::new(COUNTERS) };
        Self {
            left: AtomicI64::new(EVERY as i64),
            book: Mutex::new(book),
            shown: Mutex::default(),
            cpu_per_mille: AtomicU32::new(UNKNOWN),
            wait_us: AtomicU32::new(0),
        }
    }

    /// A batch of `count` operations.
    #[inline]
    pub(crate) fn note<'a>(&self, count: usize, touched: impl Fn(usize) -> Option<Touched<'a>>) {
        let count = count as i64;
        let left = self.left.fetch_sub(count, Ordering::Relaxed);
        if left <= count {
            self.look(left, count, &touched);
        }
    }

    #[cold]
    fn look<'a>(&self, left: i64, count: i64, touched: &impl Fn(usize) -> Option<Touched<'a>>) {
        let Some(mut book) = self.book.try_lock() else { return };
        let mut place = left.max(1);
        while place <= count {
            if let Some(touched) = usize::try_from(place - 1).ok().and_then(touched) {
                book.look(touched);
            }
            let distance = book.distance();
            self.left.fetch_add(distance, Ordering::Relaxed);
            place += distance;
        }
    }

    /// Ends the window: from now on its rates are shown.
    pub(crate) fn roll(&self, now_us: u64) {
        let window = self.book.lock().roll(now_us);
        *self.shown.lock() = Arc::new(window);
    }

    /// What the last window showed.
    pub fn window(&self) -> Arc<Window> {
        Arc::clone(&self.shown.lock())
    }

    /// The process's CPU, per mille of what its threads can use.
    pub fn tell_cpu(&self, per_mille: Option<u16>) {
        self.cpu_per_mille.store(per_mille.map_or(UNKNOWN, u32::from), Ordering::Relaxed);
    }

    /// How long work waited for its turn.
    pub(crate) fn tell_wait(&self, us: u64) {
        self.wait_us.store(u32::try_from(us).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// What is told around, with two digits of what always moves.
    pub(crate) fn told(&self, partitions: PartitionCount, filling: usize) -> Load {
        use crate::cluster::vitals::about;
        let window = self.window();
        let busiest = window.partitions(partitions).into_iter().take(BUSIEST_MAX);
        let total = window.total().ops_per_s().max(1);
        let hottest = window.hot.first().map_or(0, |key| key.ops_per_s * 1_000 / total);
        let cpu = self.cpu_per_mille.load(Ordering::Relaxed);
        let cpu = (cpu != UNKNOWN).then(|| u16::try_from(cpu).unwrap_or(u16::MAX) / 10 * 10);
        Load {
            cpu_per_mille: cpu,
            wait_us: about(self.wait_us.load(Ordering::Relaxed).into()) as u32,
            busiest: busiest.map(|(of, rate)| (of, about(rate.ops_per_s()))).collect(),
            hottest_per_mille: about(hottest.min(1_000)) as u16,
            filling: u16::try_from(filling).unwrap_or(u16::MAX),
        }
    }
}

impl Book {
    fn look(&mut self, Touched { key, written }: Touched<'_>) {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Looks::default());
        }
        if let Some(looks) = self.slots.get_mut(usize::from(key.slot.index())) {
            match written {
                None => looks.reads += 1,
                Some(bytes) => {
                    looks.writes += 1;
                    looks.bytes += (bytes + key.key.len()) as u64;
                }
            }
        }
        let (token, slot) = (key.token.value(), key.slot.index());
        self.keys.note(token, 1, || {
            let kept = key.key.get(..KEY_BYTES_MAX).unwrap_or(key.key);
            (kept.to_vec(), token, slot)
        });
    }

    /// From 1 to 127, so `EVERY` on average. (Marsaglia's xorshift.)
    fn distance(&mut self) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % (2 * EVERY - 1) + 1) as i64
    }

    fn roll(&mut self, now_us: u64) -> Window {
        let passed_ms = (now_us.saturating_sub(self.began_us) / 1_000).max(1);
        self.began_us = now_us;
        let rate = |looks: u64| looks.saturating_mul(EVERY).saturating_mul(1_000) / passed_ms;
        let touched = (0_u16..).zip(&self.slots).filter(|(_, looks)| **looks != Looks::default());
        let slots = touched.map(|(slot, looks)| {
            let (reads_per_s, writes_per_s) = (rate(looks.reads.into()), rate(looks.writes.into()));
            (slot, Rate { reads_per_s, writes_per_s, bytes_per_s: rate(looks.bytes) })
        });
        let slots = slots.collect();
        self.slots.fill(Looks::default());
        let keys = self.keys.take().into_iter();
        let sure = keys.filter(|counter| counter.count - counter.error >= LOOKS_MIN);
        let hot = sure.take(HOT_KEYS_MAX).map(|counter| {
            let (key, token, slot) = counter.thing;
            let (ops_per_s, error_per_s) = (rate(counter.count), rate(counter.error));
            HotKey { key, token, slot, ops_per_s, error_per_s }
        });
        Window { hot: hot.collect(), slots }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::DEFAULT_KEYSPACE;

    fn touch(meter: &LoadMeter, keys: &[String], written: Option<usize>) {
        meter.note(keys.len(), |at| {
            let key = KeyRef::place(DEFAULT_KEYSPACE, keys.get(at)?.as_bytes());
            Some(Touched { key, written })
        });
    }

    #[test]
    fn rates_and_hot_keys_are_about_right() {
        let meter = LoadMeter::new(7);
        // In ten seconds 300,000 reads, a tenth of them of one key, and 100,000 writes.
        for n in 0..30_000 {
            let mut keys: Vec<String> = (0..9).map(|at| format!("key{}", n * 9 + at)).collect();
            keys.push("hot".into());
            touch(&meter, &keys, None);
        }
        for n in 0..100_000 {
            touch(&meter, &[format!("key{n}")], Some(94));
        }
        meter.roll(10_000_000);
        let window = meter.window();
        let total = window.total();
        let near = |value: u64, wanted: u64| value.abs_diff(wanted) * 10 <= wanted;
        assert!(near(total.reads_per_s, 30_000), "{total:?}");
        assert!(near(total.writes_per_s, 10_000), "{total:?}");
        assert!(near(total.bytes_per_s, 1_020_000), "{total:?}");
        let hot = &window.hot[0];
        assert_eq!(hot.key, b"hot");
        assert!(hot.ops_per_s.abs_diff(3_000) < 600, "{hot:?}");
        assert!(window.hot.len() < 4, "one key in 10^5 is not hot: {:?}", window.hot);
        let count = PartitionCount::new(64).expect("a power of two");
        let partitions = window.partitions(count);
        let of_hot = count.of(kv_ring::Slot::of(b"hot")).index();
        assert_eq!(partitions[0].0, of_hot, "the busiest is that of the hot key");
        assert_eq!(partitions.len(), 64);
        let told = meter.told(count, 0);
        assert_eq!((told.busiest.len(), told.busiest[0].0), (BUSIEST_MAX, of_hot));
        assert!((50..=100).contains(&told.hottest_per_mille), "{told:?}");
        meter.roll(20_000_000);
        assert_eq!(*meter.window(), Window::default(), "nothing was touched since");
    }

    #[test]
    fn a_batch_of_always_the_same_keys_hides_none_of_them() {
        let meter = LoadMeter::new(3);
        let keys: Vec<String> = (0..64).map(|n| format!("key{n}")).collect();
        (0..2_000).for_each(|_| touch(&meter, &keys, None));
        meter.roll(1_000_000);
        let window = meter.window();
        let seen = window.slots.len();
        assert_eq!(seen, 64, "each is looked at now and then");
        assert!(window.total().reads_per_s.abs_diff(128_000) < 12_800, "{:?}", window.total());
    }

    #[test]
    fn a_load_travels_in_few_bytes() {
        let load = Load {
            cpu_per_mille: Some(u16::MAX),
            wait_us: u32::MAX,
            busiest: vec![(u16::MAX, u64::MAX); BUSIEST_MAX],
            hottest_per_mille: 1_000,
            filling: u16::MAX,
        };
        let mut bytes = load.to_bytes();
        assert!(bytes.len() <= kv_gossip::Config::lan().fact_bytes_max, "{}", bytes.len());
        bytes.push(1);
        assert_eq!(Load::from_bytes(&bytes), Some(load));
        assert_eq!(Load::from_bytes(&bytes[..4]), None);
    }

    #[test]
    fn the_cpu_is_unknown_until_it_is_told() {
        let (meter, count) = (LoadMeter::new(1), PartitionCount::new(64).expect("a power of two"));
        assert_eq!(meter.told(count, 0).cpu_per_mille, None);
        meter.tell_cpu(Some(437));
        meter.tell_wait(1_234);
        let told = meter.told(count, 0);
        assert_eq!((told.cpu_per_mille, told.wait_us), (Some(430), 1_200));
        meter.tell_cpu(None);
        assert_eq!(meter.told(count, 0).cpu_per_mille, None);
    }
}
