//! Which of the versions of a key go on in a compaction.
//!
//! Snapshots cut the sequences into stripes: those up to the first snapshot, those between two, and
//! those behind the last, which only readers to come will see. Of each key the newest version in
//! each stripe is visible to somebody; the others to nobody (RocksDB's CompactionIterator).
//!
//! A tombstone is needed as long as it hides something: it goes when no deeper level may hold its
//! key and it lies in the oldest stripe, in which all that it hid here is dropped with it.

use bytes::Bytes;

use super::{CompactionFilter, Decision};
use crate::key::Entry;
use crate::sstable::key_hash;

/// Passes entries in order; see the module.
pub(crate) struct Retain<'a> {
    /// Sequences that snapshots read at, ascending.
    snapshots: &'a [u64],
    filter: Option<&'a dyn CompactionFilter>,
    /// Key and stripe of the entry before.
    before: Option<(Bytes, usize)>,
    /// Hashes of the keys for which the filter has not said that the value is kept.
    pub(crate) changed: Vec<u64>,
}

impl<'a> Retain<'a> {
    /// Begins a run. `snapshots` is sorted.
    pub(crate) fn new(snapshots: &'a [u64], filter: Option<&'a dyn CompactionFilter>) -> Self {
        assert!(snapshots.is_sorted(), "snapshots come in order");
        Self { snapshots, filter, before: None, changed: Vec::new() }
    }

    /// The entry as it goes on, if it does. `deeper` says whether a level below the output may
    /// hold the key; it is asked for tombstones only.
    pub(crate) fn pass(
        &mut self,
        mut entry: Entry,
        deeper: impl FnOnce(&[u8]) -> bool,
    ) -> Option<Entry> {
        let stripe = self.snapshots.partition_point(|snapshot| *snapshot < entry.seq);
        let newest = match &self.before {
            Some((key, newer)) if *key == entry.key => {
                if *newer == stripe {
                    return None;
                }
                false
            }
            _ => true,
        };
        self.before = Some((entry.key.clone(), stripe));
        if newest
            && stripe == self.snapshots.len()
            && let Some(filter) = self.filter
            && let Some(value) = &entry.value
        {
            let decision = filter.decide(&entry.key, value);
            if decision != Decision::Keep {
                self.changed.push(key_hash(&entry.key));
            }
            match decision {
                Decision::Keep => {}
                Decision::Drop => entry.value = None,
                Decision::Replace(value) => entry.value = Some(value),
            }
        }
        let hides = entry.value.is_some() || stripe > 0 || deeper(&entry.key);
        hides.then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(
        entries: &[(&'static str, u64, Option<&'static str>)],
        snapshots: &[u64],
        filter: Option<&dyn CompactionFilter>,
        deeper: bool,
    ) -> String {
        let mut retain = Retain::new(snapshots, filter);
        let mut out = Vec::new();
        for (key, seq, value) in entries {
            let value = value.map(|value| Bytes::from_static(value.as_bytes()));
            let entry = Entry { key: Bytes::from_static(key.as_bytes()), seq: *seq, value };
            if let Some(entry) = retain.pass(entry, |_| deeper) {
                let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                let value = entry.value.as_ref().map_or_else(|| "-".to_owned(), text);
                out.push(format!("{}@{}={value}", text(&entry.key), entry.seq));
            }
        }
        out.join(" ")
    }

    #[test]
    fn each_stripe_keeps_its_newest() {
        let entries =
            [("a", 9, Some("9")), ("a", 7, Some("7")), ("a", 4, Some("4")), ("a", 3, Some("3"))];
        assert_eq!(passed(&entries, &[], None, true), "a@9=9");
        assert_eq!(passed(&entries, &[8], None, true), "a@9=9 a@7=7");
        assert_eq!(passed(&entries, &[9], None, true), "a@9=9");
        assert_eq!(passed(&entries, &[4, 8], None, true), "a@9=9 a@7=7 a@4=4");
        assert_eq!(passed(&entries, &[2], None, true), "a@9=9");
    }

    #[test]
    fn a_tombstone_goes_when_it_hides_nothing() {
        let entries = [("a", 9, None), ("a", 7, Some("7")), ("b", 3, None)];
        assert_eq!(passed(&entries, &[], None, false), "");
        assert_eq!(passed(&entries, &[], None, true), "a@9=- b@3=-");
        assert_eq!(passed(&entries, &[8], None, false), "a@9=- a@7=7");
        assert_eq!(passed(&entries, &[8], None, true), "a@9=- a@7=7 b@3=-");
    }

    #[derive(Debug)]
    struct ByValue;

    impl CompactionFilter for ByValue {
        fn decide(&self, _: &[u8], value: &[u8]) -> Decision {
            match value {
                b"dead" => Decision::Drop,
                b"old" => Decision::Replace(Bytes::from_static(b"new")),
                _ => Decision::Keep,
            }
        }
    }

    #[test]
    fn the_filter_sees_what_no_snapshot_does_and_uncovers_nothing() {
        let filter: Option<&dyn CompactionFilter> = Some(&ByValue);
        let entries = [
            ("a", 9, Some("dead")),
            ("a", 7, Some("older")),
            ("b", 5, Some("old")),
            ("c", 4, Some("x")),
            ("c", 2, Some("dead")),
        ];
        assert_eq!(passed(&entries, &[], filter, false), "b@5=new c@4=x");
        assert_eq!(passed(&entries, &[], filter, true), "a@9=- b@5=new c@4=x");
        assert_eq!(passed(&entries, &[8], filter, false), "a@9=- a@7=older b@5=old c@4=x");
        assert_eq!(passed(&entries, &[9], filter, false), "a@9=dead b@5=old c@4=x");
    }
}
