//! Readers that see one moment: snapshots, and the walks that are taken from them.
//!
//! A view holds its memtables and tables, so a snapshot needs nothing from compaction; only the
//! active memtable goes on changing under it. It keeps the version that an overwrite displaces
//! exactly when a live snapshot can see it.
//!
//! Invariant: the newest live sequence is never below that of a snapshot that is still held.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Error;
use crate::iter::{Visible, visible};
use crate::keyspace;
use crate::ticket::Ticket;
use crate::view::{Found, View};

/// The live snapshots of one engine.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    newest: AtomicU64,
    live: Mutex<BTreeMap<u64, usize>>,
}

impl Snapshots {
    /// The newest sequence that a snapshot reads at; 0 when there is none.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Takes a hold on `seq`. The caller holds the lock under which sequences are assigned.
    pub(crate) fn hold(self: &Arc<Self>, seq: u64) -> Held {
        let mut live = self.live.lock();
        *live.entry(seq).or_default() += 1;
        self.newest.fetch_max(seq, Ordering::AcqRel);
        Held { snapshots: Arc::clone(self), seq }
    }

    pub(crate) fn count(&self) -> usize {
        self.live.lock().values().sum()
    }
}

/// A hold on one sequence, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    snapshots: Arc<Snapshots>,
    seq: u64,
}

impl Held {
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut live = self.snapshots.live.lock();
        if let Some(count) = live.get_mut(&self.seq) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.seq);
            }
        }
        let newest = live.last_key_value().map_or(0, |(&seq, _)| seq);
        self.snapshots.newest.store(newest, Ordering::Release);
    }
}

/// A reader that sees the engine as of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    held: Arc<Held>,
    view: Arc<View>,
}

impl Snapshot {
    pub(crate) fn new(held: Held, view: Arc<View>) -> Self {
        Self { held: Arc::new(held), view }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The ticket of the last batch that the snapshot sees: once it is durable, so is everything
    /// that the snapshot shows.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket::from_seq(self.held.seq())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As [`Engine::get`](crate::Engine::get).
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        self.view.get(&self.view.spaces.default_key(key), self.held.seq())
    }

    /// A walk over the keys that begin with `prefix`, from either end.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Iter {
        self.scan::<Vec<u8>>((Bound::Included(prefix.to_vec()), end_of_prefix(prefix)))
    }

    /// A walk over the keys of a range, from either end.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        self.walk(keyspace::DEFAULT, &range)
    }

    /// A walk in a keyspace that is there.
    pub(crate) fn walk<K: AsRef<[u8]>>(
        &self,
        id: keyspace::Id,
        range: &impl RangeBounds<K>,
    ) -> Iter {
        let (lower, upper) = self.view.stored_bounds(id, range);
        let entries = visible(self.view.range(&lower, &upper), self.held.seq());
        let strips = match id {
            keyspace::DEFAULT if !self.view.spaces.is_on() => Strips::Nothing,
            keyspace::DEFAULT => Strips::Marked,
            _ => Strips::All,
        };
        Iter { held: Arc::clone(&self.held), entries, strips }
    }
}

/// The least key above all that begin with `prefix`, if there is one.
pub(crate) fn end_of_prefix(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

/// A walk over key and value pairs, ascending from the front and descending from the back. After an
/// error it ends.
pub struct Iter {
    held: Arc<Held>,
    entries: Visible,
    strips: Strips,
}

/// Whose stored keys have something before them that their owner doesn't know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strips {
    Nothing,
    /// Those that begin with the mark.
    Marked,
    All,
}

impl Strips {
    fn strip(self, (key, value): (Bytes, Bytes)) -> (Bytes, Bytes) {
        let strip = self == Self::All || self == Self::Marked && keyspace::is_marked(&key);
        (if strip { key.slice(keyspace::PREFIX_BYTES.min(key.len())..) } else { key }, value)
    }
}

impl Iter {
    /// The ticket of the last batch that the walk sees.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket::from_seq(self.held.seq())
    }
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("ticket", &self.ticket()).finish_non_exhaustive()
    }
}

impl Iterator for Iter {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.entries.next();
        if self.strips == Strips::Nothing {
            return item;
        }
        item.map(|item| item.map(|pair| self.strips.strip(pair)))
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        let item = self.entries.next_back();
        if self.strips == Strips::Nothing {
            return item;
        }
        item.map(|item| item.map(|pair| self.strips.strip(pair)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next() {
        let end = |prefix: &[u8]| end_of_prefix(prefix);
        assert_eq!(end(b"ab"), Bound::Excluded(b"ac".to_vec()));
        assert_eq!(end(b"a\xff\xff"), Bound::Excluded(b"b".to_vec()));
        assert_eq!(end(b"\xff"), Bound::Unbounded);
        assert_eq!(end(b""), Bound::Unbounded);
    }

    #[test]
    fn the_newest_follows_what_is_held() {
        let snapshots = Arc::new(Snapshots::default());
        let a = snapshots.hold(3);
        let b = snapshots.hold(7);
        let c = snapshots.hold(7);
        drop(b);
        assert_eq!((snapshots.newest(), snapshots.count()), (7, 2));
        drop(c);
        assert_eq!(snapshots.newest(), a.seq());
        drop(a);
        assert_eq!((snapshots.newest(), snapshots.count()), (0, 0));
    }
}
