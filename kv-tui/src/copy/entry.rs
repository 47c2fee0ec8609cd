//! What is copied of a key, and when two copies of it are the same.

use bytes::Bytes;

/// Two readings of one expiry may lie so far apart: each is a clock's reading and a time to live.
const EXPIRY_MS_APART_MAX: u64 = 2_000;

/// A key and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    /// What concurrent writers left, the newest first; one but for a cluster's siblings.
    pub(crate) siblings: Vec<Kept>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) value: Bytes,
    pub(crate) expires_at_ms: Option<u64>,
}

/// A key that is not copied, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) key: Bytes,
    /// Its type where that is the reason, else a word for the reason.
    pub(crate) kind: String,
    pub(crate) why: String,
}

/// So much of a source as is copied at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    pub(crate) refused: Vec<Refused>,
    /// Keys that were listed and had gone when they were read.
    pub(crate) gone: u64,
    /// Where the next page begins; `None` after the last.
    pub(crate) next: Option<String>,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Yes,
    /// It expired on the way.
    Gone,
    /// It can't be stored, ever; the reason.
    No(String),
}

impl Entry {
    /// Bytes of key and values.
    pub(crate) fn bytes(&self) -> usize {
        let values = self.siblings.iter().map(|kept| kept.value.len());
        self.key.len() + values.sum::<usize>()
    }
}

/// Whether the values that were found are those that were copied. What is about to expire is not
/// looked at: one side may have dropped it and the other not.
pub(crate) fn same(copied: &[Kept], found: &[Kept], now_ms: u64) -> bool {
    let lasting = |kept: &&Kept| {
        kept.expires_at_ms.is_none_or(|at| at > now_ms.saturating_add(EXPIRY_MS_APART_MAX))
    };
    let mut left: Vec<&Kept> = found.iter().filter(lasting).collect();
    for kept in copied.iter().filter(lasting) {
        match left.iter().position(|other| alike(kept, other)) {
            Some(place) => drop(left.swap_remove(place)),
            None => return false,
        }
    }
    left.is_empty()
}

fn alike(one: &Kept, other: &Kept) -> bool {
    let expiry = match (one.expires_at_ms, other.expires_at_ms) {
        (None, None) => true,
        (Some(one), Some(other)) => one.abs_diff(other) <= EXPIRY_MS_APART_MAX,
        _ => false,
    };
    expiry && one.value == other.value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(value: &'static str, expires_at_ms: Option<u64>) -> Kept {
        Kept { value: value.into(), expires_at_ms }
    }

    #[test]
    fn copies_are_the_same_by_bytes_and_by_expiry_whatever_their_order() {
        let [a, b] = [kept("a", None), kept("b", Some(90_000))];
        let both = [a.clone(), b.clone()];
        let (twice, one, other) = ([a.clone(), a.clone()], [a.clone()], [b]);
        assert!(same(&both, &[kept("b", Some(92_000)), a.clone()], 50_000));
        assert!(!same(&both, &[a, kept("b", Some(92_001))], 50_000));
        assert!(!same(&other, &[kept("b", None)], 50_000), "an expiry that was lost");
        assert!(!same(&one, &twice, 0));
        assert!(!same(&twice, &one, 0));
        assert!(!same(&one, &[kept("A", None)], 0));
        assert!(same(&other, &[], 89_000), "about to expire");
    }
}
