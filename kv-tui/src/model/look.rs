//! A key that was looked up: where it lives, what each replica has, what a read shows.
//!
//! The two halves come from two questions (`explain` and `get`), so either may fail alone, and a
//! write between them may make one newer than the other. What a replica has is told by name and
//! size; the bytes are those that the read showed for the same name.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv_client::wire::{DotName, Explanation, ReplicaAnswer, Sibling};

/// What a read showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// All live versions, the newest first; a `None` value is a delete that others did not see.
    pub siblings: Vec<Sibling>,
    /// The sealed context that covers them.
    pub context: Bytes,
}

impl Seen {
    /// Whether concurrent writes left more than one version.
    pub fn is_conflict(&self) -> bool {
        self.siblings.len() > 1
    }
}

/// A key, looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The key.
    pub key: Bytes,
    /// Where it lives and what its replicas hold, or why that is not known.
    pub explained: Result<Explanation, String>,
    /// What a read shows, or why it showed nothing.
    pub seen: Result<Seen, String>,
}

/// How one replica stands to what the read showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relation {
    /// It has exactly what the read showed.
    Same,
    /// It has some of it, and nothing else.
    Part,
    /// It has something that the read did not show: older, so replaced, or newer, so written since.
    Differs,
    /// It has nothing.
    Nothing,
    /// It did not answer.
    Silent,
    /// The read failed, so there is nothing to compare with.
    Unknown,
}

impl Relation {
    /// What it means, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Same => "same as the read",
            Self::Part => "STALE: lacks a version",
            Self::Differs => "STALE: other versions",
            Self::Nothing => "holds nothing",
            Self::Silent => "no answer",
            Self::Unknown => "not compared",
        }
    }

    /// The same in a word, for where there is little room.
    pub fn brief(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Part | Self::Differs => "STALE",
            Self::Nothing => "nothing",
            Self::Silent => "silent",
            Self::Unknown => "--",
        }
    }
}

impl Look {
    /// Whether the read showed more than one version.
    pub fn is_conflict(&self) -> bool {
        self.seen.as_ref().is_ok_and(Seen::is_conflict)
    }

    /// When the newest of what the read showed was written, milliseconds since 1970; 0 for nothing.
    pub fn newest_ms(&self) -> u64 {
        let siblings = self.seen.as_ref().map_or(&[][..], |seen| &seen.siblings);
        siblings.iter().map(|sibling| sibling.dot.time >> 16).max().unwrap_or(0)
    }

    /// The partition, once it is known.
    pub fn partition(&self) -> Option<usize> {
        self.explained.as_ref().ok().map(|explained| usize::from(explained.location.partition))
    }

    /// How a replica's answer stands to the read.
    pub fn relation(&self, answer: &ReplicaAnswer) -> Relation {
        let Ok(versions) = &answer.versions else { return Relation::Silent };
        let Ok(seen) = &self.seen else { return Relation::Unknown };
        let held: BTreeSet<DotName> = versions.iter().map(|version| version.dot).collect();
        let shown: BTreeSet<DotName> = seen.siblings.iter().map(|sibling| sibling.dot).collect();
        // A tombstone that every replica knows is no sibling: a read of a deleted key shows none.
        let only_deletes = versions.iter().all(|version| version.bytes.is_none());
        if held == shown || shown.is_empty() && only_deletes && !held.is_empty() {
            Relation::Same
        } else if held.is_empty() {
            Relation::Nothing
        } else if held.is_subset(&shown) {
            Relation::Part
        } else {
            Relation::Differs
        }
    }

    /// Which sibling of the read (counted from 0) has this name.
    pub fn sibling(&self, dot: &DotName) -> Option<(usize, &Sibling)> {
        let seen = self.seen.as_ref().ok()?;
        seen.siblings.iter().enumerate().find(|(_, sibling)| sibling.dot == *dot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_client::NodeId;
    use kv_client::wire::VersionName;

    fn dot(time: u64) -> DotName {
        DotName { time, node: NodeId(1), tenure: 1 }
    }

    fn look(shown: &[u64]) -> Look {
        let siblings = shown.iter().map(|time| Sibling {
            dot: dot(*time),
            value: Some(Bytes::from_static(b"v")),
            expires_at_ms: None,
        });
        let seen = Seen { siblings: siblings.collect(), context: Bytes::new() };
        let key = Bytes::from_static(b"k");
        Look { key, explained: Err("not asked".into()), seen: Ok(seen) }
    }

    fn answer(held: &[u64], bytes: Option<u64>) -> ReplicaAnswer {
        let versions = held.iter().map(|time| VersionName { dot: dot(*time), bytes }).collect();
        ReplicaAnswer { node: NodeId(2), versions: Ok(versions), found_in: String::new(), us: 1 }
    }

    #[test]
    fn replicas_are_compared_with_the_read() {
        let table = [
            (vec![1, 2], vec![1, 2], Relation::Same),
            (vec![1, 2], vec![2], Relation::Part),
            (vec![2], vec![1], Relation::Differs),
            (vec![2], vec![], Relation::Nothing),
            (vec![], vec![], Relation::Same),
        ];
        for (shown, held, relation) in table {
            assert_eq!(look(&shown).relation(&answer(&held, Some(1))), relation, "{held:?}");
        }
        assert_eq!(look(&[]).relation(&answer(&[4], None)), Relation::Same, "a known delete");
        let mut silent = answer(&[], None);
        silent.versions = Err("down".into());
        assert_eq!(look(&[1]).relation(&silent), Relation::Silent);
        let unread = Look { seen: Err("no quorum".into()), ..look(&[]) };
        assert_eq!(unread.relation(&answer(&[1], None)), Relation::Unknown);
        assert_eq!(look(&[1, 2]).sibling(&dot(2)).map(|(at, _)| at), Some(1));
    }
}
