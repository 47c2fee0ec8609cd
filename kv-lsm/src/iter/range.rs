//! What a reader at a snapshot sees of a merged walk: for each key its newest version at or below
//! the snapshot, unless that is a tombstone.
//!
//! Forward, the first version at or below the snapshot decides, and the rest of the key is passed
//! over. Backward, versions come oldest first, so the whole key is walked and one entry of the next
//! key is fetched to know where it ends. Where the two ends meet inside one key, the end that
//! decided it first has decided it for both.

use bytes::Bytes;

use crate::error::Error;
use crate::key::{Entry, EntryIter};

/// What is visible of `entries` at `snapshot`, as keys and values, from both ends.
pub(crate) fn visible(entries: EntryIter, snapshot: u64) -> Visible {
    Visible {
        entries,
        snapshot,
        decided: Vec::new(),
        has_decided: false,
        fetched: None,
        failed: false,
    }
}

/// See [`visible`].
pub(crate) struct Visible {
    entries: EntryIter,
    snapshot: u64,
    /// The last key that the front decided, if it has decided any: copied, as that is cheaper than
    /// to share it.
    decided: Vec<u8>,
    has_decided: bool,
    /// An entry that the back has fetched and not used.
    fetched: Option<Entry>,
    failed: bool,
}

impl Visible {
    fn forward(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        loop {
            let entry = match self.entries.next() {
                Some(entry) => entry?,
                None => match self.fetched.take() {
                    Some(entry) => entry,
                    None => return Ok(None),
                },
            };
            if entry.seq > self.snapshot || self.is_decided(&entry.key) {
                continue;
            }
            self.decided.clear();
            self.decided.extend_from_slice(&entry.key);
            self.has_decided = true;
            if let Some(value) = entry.value {
                return Ok(Some((entry.key, value)));
            }
        }
    }

    fn is_decided(&self, key: &[u8]) -> bool {
        self.has_decided && self.decided == key
    }

    fn backward(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        // The newest visible version of the key that is being walked.
        let mut newest: Option<Entry> = None;
        loop {
            let entry = match self.fetched.take() {
                Some(entry) => Some(entry),
                None => self.entries.next_back().transpose()?,
            };
            match (entry, newest.take()) {
                (Some(entry), Some(known)) if entry.key == known.key => {
                    newest = Some(if entry.seq <= self.snapshot { entry } else { known });
                }
                (entry, Some(Entry { key, value: Some(value), .. })) => {
                    self.fetched = entry;
                    return Ok(Some((key, value)));
                }
                (Some(entry), _) => {
                    let seen = entry.seq <= self.snapshot;
                    if seen && !self.is_decided(&entry.key) {
                        newest = Some(entry);
                    }
                }
                (None, _) => return Ok(None),
            }
        }
    }

    fn guard<T>(&mut self, item: Result<Option<T>, Error>) -> Option<Result<T, Error>> {
        self.failed = item.is_err();
        item.transpose()
    }
}

impl Iterator for Visible {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.forward();
        self.guard(item)
    }
}

impl DoubleEndedIterator for Visible {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.backward();
        self.guard(item)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_is_passed_on_and_ends_the_walk() {
        let entry = |seq| Entry { key: Bytes::from_static(b"k"), seq, value: Some(Bytes::new()) };
        let walk = || -> Visible {
            let items = vec![Ok(entry(9)), Err(Error::Closed), Ok(entry(1))];
            visible(Box::new(items.into_iter()), 9)
        };
        let mut forward = walk();
        assert!(forward.next().unwrap().is_ok());
        assert!(forward.next().unwrap().is_err());
        assert!(forward.next().is_none());
        let mut backward = walk();
        assert!(backward.next_back().unwrap().is_err(), "an older version is no answer");
        assert!(backward.next_back().is_none());
    }

    proptest! {
        #[test]
        fn visible_is_the_newest_of_each_key(
            puts in proptest::collection::vec((0_u8..12, 0_u64..40, any::<bool>()), 0..120),
            snapshot in 0_u64..45,
            turns in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let entries: BTreeMap<(u8, std::cmp::Reverse<u64>), bool> = puts
                .into_iter()
                .map(|(key, seq, live)| ((key, std::cmp::Reverse(seq)), live))
                .collect();
            let mut model = BTreeMap::new();
            for ((key, seq), live) in entries.iter().rev() {
                if seq.0 <= snapshot {
                    model.insert(*key, live.then_some(seq.0));
                }
            }
            let want: Vec<(u8, u64)> =
                model.into_iter().filter_map(|(key, seq)| Some((key, seq?))).collect();
            let list: Vec<Result<Entry, Error>> = entries
                .iter()
                .map(|((key, seq), live)| {
                    let value = live.then(|| Bytes::copy_from_slice(&seq.0.to_le_bytes()));
                    Ok(Entry { key: Bytes::copy_from_slice(&[*key]), seq: seq.0, value })
                })
                .collect();
            let mut walk = visible(Box::new(list.into_iter()), snapshot);
            let plain = |item: Result<(Bytes, Bytes), Error>| {
                let (key, value) = item.unwrap();
                (key[0], u64::from_le_bytes(value.as_ref().try_into().unwrap()))
            };
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for turn in turns {
                if turn {
                    front.extend(walk.next().map(plain));
                } else {
                    back.extend(walk.next_back().map(plain));
                }
            }
            back.reverse();
            front.extend(back);
            prop_assert_eq!(front, want);
        }
    }
}
