//! Merges sorted sources into one, from both ends.
//!
//! The heads of the sources are kept in order in a small list. Taking the least and putting its
//! successor back costs one comparison as long as the same source stays the least, which is how
//! runs of hashed keys mostly look after compaction, and at most one for each source otherwise
//! (there are about a dozen). The two directions never run at once: a change of direction takes
//! the heads of the other ends anew. Sources hand an entry that one end has fetched and not given
//! to the other end when nothing is left between.

use std::cmp::Ordering;

use crate::error::Error;
use crate::head::{Head, head};
use crate::key::{Entry, EntryIter};

/// Merges `sources`, the newest first: of entries that are equal in key and sequence the earlier
/// source's comes first (from the front). Complexity: O(sources) for each entry at worst.
pub(crate) fn merge(mut sources: Vec<EntryIter>) -> EntryIter {
    match sources.len() {
        1 => sources.remove(0),
        _ => Box::new(Merge {
            sources: sources.into_iter().map(Source::new).collect(),
            order: Vec::new(),
            direction: None,
        }),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

struct Source {
    iter: EntryIter,
    /// The head of the key that is next in the direction of the walk: mostly it decides alone.
    head: Head,
    front: Option<Result<Entry, Error>>,
    back: Option<Result<Entry, Error>>,
}

impl Source {
    fn new(iter: EntryIter) -> Self {
        Self { iter, head: 0, front: None, back: None }
    }

    /// Fetches the head of an end, unless it is there.
    fn fill(&mut self, direction: Direction) -> bool {
        let (own, other) = match direction {
            Direction::Forward => (&mut self.front, &mut self.back),
            Direction::Backward => (&mut self.back, &mut self.front),
        };
        if own.is_none() {
            let fetched = match direction {
                Direction::Forward => self.iter.next(),
                Direction::Backward => self.iter.next_back(),
            };
            *own = fetched.or_else(|| other.take());
        }
        if let Some(Ok(entry)) = own {
            self.head = head(&entry.key);
        }
        own.is_some()
    }

    fn next(&self, direction: Direction) -> Option<&Result<Entry, Error>> {
        match direction {
            Direction::Forward => self.front.as_ref(),
            Direction::Backward => self.back.as_ref(),
        }
    }

    fn take(&mut self, direction: Direction) -> Option<Result<Entry, Error>> {
        match direction {
            Direction::Forward => self.front.take(),
            Direction::Backward => self.back.take(),
        }
    }
}

struct Merge {
    sources: Vec<Source>,
    /// Indices of the sources that have a head, the one to take at the end.
    order: Vec<usize>,
    direction: Option<Direction>,
}

impl Merge {
    fn step(&mut self, direction: Direction) -> Option<Result<Entry, Error>> {
        if self.direction != Some(direction) {
            self.direction = Some(direction);
            self.order.clear();
            for index in 0..self.sources.len() {
                self.put(index, direction);
            }
        }
        let index = self.order.pop()?;
        let item = self.sources.get_mut(index)?.take(direction);
        if matches!(item, Some(Err(_))) {
            self.sources.clear();
            self.order.clear();
        } else {
            self.put(index, direction);
        }
        item
    }

    /// Puts a source into the order, if it has anything left.
    fn put(&mut self, index: usize, direction: Direction) {
        if !self.sources.get_mut(index).is_some_and(|source| source.fill(direction)) {
            return;
        }
        let mut at = self.order.len();
        while let Some(&other) = at.checked_sub(1).and_then(|below| self.order.get(below))
            && self.after(index, other, direction)
        {
            at -= 1;
        }
        self.order.insert(at, index);
    }

    /// Whether source `a` is to be taken after source `b`. Errors are taken first.
    fn after(&self, a: usize, b: usize, direction: Direction) -> bool {
        let source = |index: usize| {
            self.sources.get(index).and_then(|source| Some((source.head, source.next(direction)?)))
        };
        let order = match (source(a), source(b)) {
            (Some((left_head, Ok(left))), Some((right_head, Ok(right)))) => {
                left_head.cmp(&right_head).then_with(|| left.order(right)).then(a.cmp(&b))
            }
            (Some((_, Err(_))), _) => return false,
            _ => return true,
        };
        match direction {
            Direction::Forward => order == Ordering::Greater,
            Direction::Backward => order == Ordering::Less,
        }
    }
}

impl Iterator for Merge {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl DoubleEndedIterator for Merge {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry(key: u8, seq: u64) -> Entry {
        Entry { key: Bytes::copy_from_slice(&[key]), seq, value: None }
    }

    fn source(items: Vec<Result<Entry, Error>>) -> EntryIter {
        Box::new(items.into_iter())
    }

    #[test]
    fn an_error_ends_the_walk() {
        for back in [false, true] {
            let good = source((0..9).map(|key| Ok(entry(key, 1))).collect());
            let bad = source(vec![Ok(entry(4, 7)), Err(Error::Closed), Ok(entry(5, 7))]);
            let mut merged = merge(vec![good, bad]);
            let mut given = Vec::new();
            let mut step = || if back { merged.next_back() } else { merged.next() };
            let error = loop {
                match step() {
                    Some(Ok(entry)) => given.push(entry),
                    Some(Err(error)) => break error,
                    None => panic!("the error was swallowed"),
                }
            };
            assert!(matches!(error, Error::Closed));
            let past = |entry: &Entry| if back { entry.key[0] < 5 } else { entry.key[0] > 4 };
            assert!(!given.iter().any(past), "went on behind a gap");
            assert!(step().is_none());
        }
    }

    proptest! {
        #[test]
        fn merged_is_sorted(
            lists in proptest::collection::vec(
                proptest::collection::vec((0_u8..20, 0_u64..50), 0..40), 0..7),
            turns in proptest::collection::vec(any::<bool>(), 300),
        ) {
            let mut want = Vec::new();
            let mut sources = Vec::new();
            for list in lists {
                let mut list: Vec<Entry> =
                    list.into_iter().map(|(key, seq)| entry(key, seq)).collect();
                list.sort_by(Entry::order);
                list.dedup();
                want.extend(list.clone());
                sources.push(source(list.into_iter().map(Ok).collect()));
            }
            want.sort_by(Entry::order);
            let mut merged = merge(sources);
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for turn in turns {
                if turn {
                    front.extend(merged.next().map(Result::unwrap));
                } else {
                    back.extend(merged.next_back().map(Result::unwrap));
                }
            }
            back.reverse();
            front.extend(back);
            prop_assert_eq!(front, want);
        }
    }
}
