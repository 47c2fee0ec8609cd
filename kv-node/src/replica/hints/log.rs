//! How many hints are queued for whom: counts beside the rows, and the bound.
//!
//! The rows are in the engine, and nothing here decides what one holds. Counts move after the
//! append that moved them, under the key's lock. After a restart with a durable engine, and after
//! damage that some of them lay in, nothing is known until one scan has counted; until then no hint
//! is taken or removed, so that the scan is exact, and readers take it that there may be some.
//!
//! A hint that counted towards W has all of `hint_bytes_max`, one beyond W half of it: what may be
//! dropped never takes the room of what may not.
//!
//! Invariant: a counted log's numbers are those of its rows, as soon as the appends that moved
//! them have returned.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{HybridTime, Record};
use parking_lot::Mutex;

/// Bounds of the hints that a node keeps, and of their replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintConfig {
    /// Bytes of hints at most, rows with their keys; a full log refuses. Overshot by one call's
    /// hints at most for each thread.
    pub hint_bytes_max: u64,
    /// Bytes of hints sent in a second, at most.
    pub replay_bytes_per_s: u64,
}

impl Default for HintConfig {
    fn default() -> Self {
        Self { hint_bytes_max: 512 << 20, replay_bytes_per_s: 16 << 20 }
    }
}

/// A hint beyond W that is still to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateHint {
    /// For whom it is.
    pub target: NodeId,
    /// The storage key.
    pub key: Bytes,
    /// The encoded record.
    pub record: Bytes,
}

/// Late hints that wait to be written, at most; further ones are dropped.
const LATE_HINTS_MAX: usize = 16_384;
/// Bytes of them at most.
const LATE_HINT_BYTES_MAX: usize = 32 << 20;

/// What is queued for one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Keys.
    pub keys: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// Milliseconds since 1970 of the write with which the queue began.
    pub since_ms: u64,
    /// No dot that is live in a queued record is older.
    pub floor: HybridTime,
}

/// The live dots of a hint's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica) struct Span {
    pub(in crate::replica) oldest: HybridTime,
    pub(in crate::replica) latest: HybridTime,
}

/// What an append does to one hint's row.
#[derive(Clone, Copy, Debug)]
pub(in crate::replica) struct HintMove {
    pub(in crate::replica) target: NodeId,
    /// Bytes of the row before, if there was one.
    pub(in crate::replica) was: Option<usize>,
    /// Bytes of the row after, if there is one, and what it spans.
    pub(in crate::replica) now: Option<(usize, Span)>,
}

/// The counts.
#[derive(Debug)]
pub struct HintLog {
    bytes_max: u64,
    /// Whether there may be a hint: false lets reads pass without a lock.
    any: AtomicBool,
    state: Mutex<State>,
    late: Mutex<Late>,
    /// How many take or remove hints now.
    writers: AtomicUsize,
    /// No hint of a write at or below is taken: this node's floor says that it holds none.
    none_below: AtomicU64,
}

/// Somebody takes or removes hints: nobody counts meanwhile.
#[derive(Debug)]
pub(crate) struct Entered<'l>(&'l HintLog);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Default)]
struct State {
    counted: bool,
    /// How many there were when damage made the count worthless.
    before: u64,
    bytes: u64,
    targets: BTreeMap<NodeId, Queued>,
}

#[derive(Debug, Default)]
struct Late {
    hints: VecDeque<LateHint>,
    bytes: usize,
}

impl HintLog {
    /// Nothing is stored (`empty`), or nothing is counted yet.
    pub(in crate::replica) fn new(config: HintConfig, empty: bool) -> Self {
        Self {
            bytes_max: config.hint_bytes_max,
            any: AtomicBool::new(!empty),
            state: Mutex::new(State { counted: empty, ..State::default() }),
            late: Mutex::default(),
            writers: AtomicUsize::new(0),
            none_below: AtomicU64::new(0),
        }
    }

    /// No hint of a write at or below a time is taken any more. Says whether all that were are
    /// counted: if not, somebody is taking one that he may have looked at before.
    pub(crate) fn take_none_below(&self, time: HybridTime) -> bool {
        self.none_below.fetch_max(time.to_bits(), Ordering::SeqCst);
        self.writers.load(Ordering::SeqCst) == 0
    }

    /// Whether a record's last change is one of which this node has said that it holds no hint.
    /// To be asked while one has [entered](Self::enter).
    pub(in crate::replica) fn is_disowned(&self, record: &[u8]) -> bool {
        let none_below = HybridTime::from_bits(self.none_below.load(Ordering::SeqCst));
        if !kv_quorum::latest_of(record).is_ok_and(|latest| latest <= none_below) {
            return false;
        }
        // A register that was changed since keeps its old dot.
        let Ok(record) = Record::decode(record) else { return false };
        record.live().iter().all(|version| version.expiry.stamp <= none_below)
    }

    /// To be kept while hints are taken or removed; none while they are not counted.
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        let state = self.state.lock();
        state.counted.then(|| {
            self.writers.fetch_add(1, Ordering::SeqCst);
            Entered(self)
        })
    }

    /// Whether a count would be exact: none is known, and nobody takes or removes hints.
    pub(in crate::replica) fn may_be_counted(&self) -> bool {
        !self.state.lock().counted && self.writers.load(Ordering::Acquire) == 0
    }

    /// Some rows are gone and nobody knows which: nothing is known until they are counted again.
    pub(crate) fn forget_count(&self) {
        let mut state = self.state.lock();
        if state.counted {
            let before = state.targets.values().map(|queued| queued.keys).sum();
            *state = State { before, ..State::default() };
            self.any.store(true, Ordering::Release);
        }
    }

    /// Bytes of hints at most.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// False when there surely is no hint.
    #[inline]
    pub fn may_have_some(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether the rows are counted: until then no hint is taken.
    pub fn is_counted(&self) -> bool {
        self.state.lock().counted
    }

    /// What is queued, by target.
    pub fn queued(&self) -> BTreeMap<NodeId, Queued> {
        self.state.lock().targets.clone()
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// No dot that is live in a queued record is older; `None` when nothing is queued. A log that
    /// is not counted yet may hold anything.
    pub fn floor(&self) -> Option<HybridTime> {
        let state = self.state.lock();
        if !state.counted {
            return Some(HybridTime::ZERO);
        }
        state.targets.values().map(|queued| queued.floor).min()
    }

    /// Whether so many more bytes may be kept, for hints that count towards W or for others.
    pub(crate) fn has_room(&self, more: u64, counted: bool) -> bool {
        let limit = if counted { self.bytes_max } else { self.bytes_max / 2 };
        self.bytes().saturating_add(more) <= limit
    }

    /// An append put or removed rows. To be called after it, under the keys' locks.
    pub(in crate::replica) fn moved(&self, moves: &[HintMove]) {
        let mut state = self.state.lock();
        for one in moves {
            state.take(one);
        }
        self.any.store(!state.counted || !state.targets.is_empty(), Ordering::Release);
    }

    /// Takes a scan's count. Nothing may have moved since it began. Answers how many hints are gone
    /// since damage made the last count worthless.
    pub(in crate::replica) fn count(&self, rows: &[HintMove]) -> u64 {
        let mut state = self.state.lock();
        if state.counted {
            return 0;
        }
        let before = state.before;
        *state = State { counted: true, ..State::default() };
        for row in rows {
            state.take(row);
        }
        self.any.store(!state.targets.is_empty(), Ordering::Release);
        before.saturating_sub(rows.len() as u64)
    }

    /// Notes a hint beyond W that somebody is to write when it is convenient. Says whether there
    /// was room.
    pub fn note_late(&self, hint: LateHint) -> bool {
        let mut late = self.late.lock();
        let bytes = hint.key.len() + hint.record.len();
        if late.hints.len() >= LATE_HINTS_MAX || late.bytes + bytes > LATE_HINT_BYTES_MAX {
            return false;
        }
        late.bytes += bytes;
        late.hints.push_back(hint);
        true
    }

    /// Takes what was noted, oldest first, at most `max` hints. Says whether there are more.
    pub fn take_late(&self, max: usize) -> (Vec<LateHint>, bool) {
        let mut late = self.late.lock();
        let count = late.hints.len().min(max);
        let hints: Vec<LateHint> = late.hints.drain(..count).collect();
        late.bytes -= hints.iter().map(|hint| hint.key.len() + hint.record.len()).sum::<usize>();
        (hints, !late.hints.is_empty())
    }
}

impl State {
    fn take(&mut self, one: &HintMove) {
        if let Some(was) = one.was {
            self.bytes = self.bytes.saturating_sub(was as u64);
            if let Some(queued) = self.targets.get_mut(&one.target) {
                queued.keys = queued.keys.saturating_sub(1);
                queued.bytes = queued.bytes.saturating_sub(was as u64);
            }
        }
        if let Some((bytes, span)) = one.now {
            self.bytes += bytes as u64;
            let queued = self.targets.entry(one.target).or_insert_with(|| Queued {
                keys: 0,
                bytes: 0,
                since_ms: span.latest.ms(),
                floor: span.oldest,
            });
            queued.keys += 1;
            queued.bytes += bytes as u64;
            queued.since_ms = queued.since_ms.min(span.latest.ms());
            queued.floor = queued.floor.min(span.oldest);
        } else if self.targets.get(&one.target).is_some_and(|queued| queued.keys == 0) {
            self.targets.remove(&one.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: NodeId = NodeId(3);

    fn log(bytes_max: u64, empty: bool) -> HintLog {
        HintLog::new(HintConfig { hint_bytes_max: bytes_max, ..HintConfig::default() }, empty)
    }

    fn row(was: Option<usize>, now: Option<(usize, u64)>) -> HintMove {
        let span = |ms| Span { oldest: HybridTime::new(ms, 0), latest: HybridTime::new(ms, 0) };
        HintMove { target: TARGET, was, now: now.map(|(bytes, ms)| (bytes, span(ms))) }
    }

    #[test]
    fn counts_follow_the_rows_and_a_queue_that_is_empty_is_gone() {
        let log = log(1_000, true);
        assert!(!log.may_have_some() && log.floor().is_none());
        log.moved(&[row(None, Some((100, 7))), row(None, Some((50, 5)))]);
        log.moved(&[row(Some(100), Some((130, 9)))]);
        let queued = log.queued()[&TARGET];
        assert_eq!((queued.keys, queued.bytes, queued.since_ms), (2, 180, 5));
        assert_eq!(log.floor(), Some(HybridTime::new(5, 0)));
        log.moved(&[row(Some(130), None)]);
        assert!(log.may_have_some());
        log.moved(&[row(Some(50), None)]);
        assert!(!log.may_have_some() && log.queued().is_empty() && log.bytes() == 0);
    }

    #[test]
    fn what_may_be_dropped_has_half_the_room() {
        let log = log(1_000, true);
        log.moved(&[row(None, Some((400, 1)))]);
        assert!(log.has_room(100, false) && !log.has_room(101, false));
        assert!(log.has_room(600, true) && !log.has_room(601, true));
    }

    #[test]
    fn until_it_is_counted_there_may_be_anything() {
        let log = log(1_000, false);
        assert!(log.may_have_some() && !log.is_counted());
        assert_eq!(log.floor(), Some(HybridTime::ZERO));
        log.count(&[row(None, Some((10, 4))), row(None, Some((20, 2)))]);
        assert!(log.is_counted() && log.may_have_some());
        assert_eq!(log.queued()[&TARGET].bytes, 30);
        log.count(&[]);
        assert_eq!(log.bytes(), 30, "a second count changes nothing");
    }

    #[test]
    fn after_damage_it_is_counted_again_when_nobody_takes_hints() {
        let log = log(1_000, true);
        log.moved(&[row(None, Some((100, 7))), row(None, Some((50, 5)))]);
        let taking = log.enter().expect("it is counted");
        log.forget_count();
        assert!(log.enter().is_none() && log.may_have_some() && log.queued().is_empty());
        assert!(!log.may_be_counted(), "one that began before goes on");
        drop(taking);
        assert!(log.may_be_counted());
        assert_eq!(log.count(&[row(None, Some((50, 5)))]), 1, "one of two is gone");
        assert_eq!(log.queued()[&TARGET].keys, 1);
        assert!(log.enter().is_some() && !log.may_be_counted());
    }

    #[test]
    fn late_hints_are_bounded_by_number_and_bytes() {
        let log = log(1_000, true);
        let late = |bytes: usize| LateHint {
            target: TARGET,
            key: Bytes::from_static(b"k"),
            record: Bytes::from(vec![0; bytes]),
        };
        assert!(log.note_late(late(LATE_HINT_BYTES_MAX - 2)));
        assert!(!log.note_late(late(1)), "a byte too many");
        assert_eq!(log.take_late(10).0.len(), 1);
        for _ in 0..LATE_HINTS_MAX {
            assert!(log.note_late(late(0)));
        }
        assert!(!log.note_late(late(0)));
        let (taken, more) = log.take_late(5);
        assert_eq!((taken.len(), more), (5, true));
        assert!(log.note_late(late(0)));
    }
}
