//! Records: what a replica keeps for one key.
//!
//! A dotted version vector set (Almeida, Baquero, Goncalves, Preguica, Fonte: "Scalable and
//! accurate causality tracking for eventually consistent stores", 2014; the form is that of Riak's
//! `dvvset` and Garage's `DvvsEntry`): a coverage and the live versions with their dots. What is
//! covered and not live is dead.
//!
//! ```text
//! coverage   a: up to 7   b: up to 4          a5 is live, b4 is live;
//! live       a5 "x"       b4 tombstone        a1..a4, a6, a7, b1..b3 are dead
//! ```
//!
//! Invariants: a live dot is covered; live versions are strictly descending by dot, so the first is
//! the one that GET shows; coverage never travels without the live versions under it, nor a version
//! without the coverage that it was minted with. A join is commutative, associative and idempotent,
//! the same in every mode, and refuses nothing.

use crate::context::Context;
use crate::dot::{Dot, HybridTime};
use crate::error::Error;
use crate::expiry::Expiry;
use crate::limits::{Limits, Room};
use crate::teeth::{Bug, planted};
use crate::version::{Draft, Kind, Version};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// A coverage and the live versions under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<V> {
    coverage: Context,
    live: Vec<Version<V>>,
}

/// What a join did, and what the one who sent the other record did not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Whether the record is different now.
    pub changed: bool,
    /// Dots that were live here and that the incoming coverage did not cover, tombstones too,
    /// descending. A coordinator whose blind SET is answered with any mints once more.
    pub uncovered: Vec<Dot>,
}

/// One value that KV.GET shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sibling<'a, V: ?Sized> {
    /// Its name; the highest one, if several dots carry one operation.
    pub dot: Dot,
    /// What the bytes are.
    pub kind: Kind,
    /// The bytes; `None` for a delete and for what has expired.
    pub value: Option<&'a V>,
    /// When it ends.
    pub expiry: Expiry,
}

impl<V> Default for Record<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Record<V> {
    /// The record of a key that nobody wrote.
    pub const fn new() -> Self {
        Self { coverage: Context::new(), live: Vec::new() }
    }

    /// A record of `live` versions under `coverage`, in any order.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a dot is live twice or not covered, or a value and a kind disagree.
    pub fn from_parts(coverage: Context, mut live: Vec<Version<V>>) -> Result<Self, Error> {
        live.sort_unstable_by_key(|version| core::cmp::Reverse(version.dot));
        let distinct = live.is_sorted_by(|a, b| a.dot > b.dot);
        let sound = |version: &Version<V>| {
            coverage.covers(version.dot)
                && version.value.is_none() == (version.kind == Kind::Tombstone)
        };
        if distinct && live.iter().all(sound) {
            Ok(Self { coverage, live })
        } else {
            Err(Error::Malformed)
        }
    }

    pub(crate) const fn from_checked(coverage: Context, live: Vec<Version<V>>) -> Self {
        Self { coverage, live }
    }

    /// The live versions alone. What they were minted with is lost: only for showing.
    pub fn into_live(self) -> Vec<Version<V>> {
        self.live
    }

    pub(crate) const fn parts_mut(&mut self) -> (&mut Context, &mut Vec<Version<V>>) {
        (&mut self.coverage, &mut self.live)
    }

    /// What is covered: live here, or dead.
    pub fn coverage(&self) -> &Context {
        &self.coverage
    }

    /// The live versions, descending by dot.
    pub fn live(&self) -> &[Version<V>] {
        &self.live
    }

    /// The live version of `dot`.
    pub fn find(&self, dot: Dot) -> Option<&Version<V>> {
        let at = self.live.binary_search_by(|version| dot.cmp(&version.dot)).ok()?;
        self.live.get(at)
    }

    /// The version that GET looks at: the highest live dot, tombstones too.
    pub fn winner(&self) -> Option<&Version<V>> {
        self.live.first()
    }

    /// What GET shows at `now_ms`: the value of the highest live dot; nothing when that is a
    /// tombstone or has expired.
    pub fn shown(&self, now_ms: u64) -> Option<&V> {
        self.winner()?.value_at(now_ms)
    }

    /// Whether any live version has a value at `now_ms`.
    pub fn exists(&self, now_ms: u64) -> bool {
        self.live.iter().any(|version| version.value_at(now_ms).is_some())
    }

    /// What KV.GET shows at `now_ms`, highest dot first: every live version, deletes and expired
    /// ones as `None`, one for each operation id. O(n log n).
    pub fn siblings(&self, now_ms: u64) -> Vec<Sibling<'_, V>> {
        let mut shown: Vec<Sibling<'_, V>> = Vec::with_capacity(self.live.len());
        let mut operations = BTreeSet::new();
        for version in &self.live {
            let new = version.operation.is_none_or(|operation| operations.insert(operation));
            if new {
                shown.push(Sibling {
                    dot: version.dot,
                    kind: version.kind,
                    value: version.value_at(now_ms),
                    expiry: version.expiry,
                });
            }
        }
        shown
    }

    /// The context that goes with a read of this record: everything that it covers.
    pub fn context(&self) -> &Context {
        &self.coverage
    }

    /// The context that goes with the answer of a put which minted `minted` with the context
    /// `sent`: what the record covers, less the live versions that its writer was not shown. A
    /// twin of the minted one (the same operation, minted twice) counts as shown.
    pub fn context_after_put(&self, sent: &Context, minted: Dot) -> Context {
        let operation = self.find(minted).and_then(|version| version.operation);
        let mut context = self.coverage.clone();
        for version in &self.live {
            let own =
                version.dot == minted || (operation.is_some() && version.operation == operation);
            if !own && !sent.covers(version.dot) && !planted(Bug::ContextOfRecord) {
                context.except(version.dot);
            }
        }
        context
    }

    /// A stamp for a change of expiry: `now`, and above every stamp in the record.
    pub fn stamp_above(&self, now: HybridTime) -> HybridTime {
        let highest = self.live.iter().map(|version| version.expiry.stamp).max();
        let highest = highest.unwrap_or(HybridTime::ZERO);
        if now > highest { now } else { HybridTime::next(highest, 0) }
    }

    /// Feeds `sink` the canonical form of what replicas compare: for each live version, highest
    /// dot first, node, tenure, time, stamp and end of expiry (five little-endian words of 64 bits,
    /// no end as `u64::MAX`). Never coverage, bytes or kind, so that expiry and collection of
    /// bytes make no difference. Nothing is fed for a record without live versions.
    pub fn fingerprint(&self, mut sink: impl FnMut(&[u8])) {
        for version in &self.live {
            sink(&fingerprint_chunk(version.dot, version.expiry));
        }
    }

    /// Drops the bytes of values that expired `clock_skew_ms_max` ago or earlier: they are
    /// tombstones with the same dot from then on, in form too. Says how many.
    pub fn drop_expired(&mut self, now_ms: u64, clock_skew_ms_max: u64) -> usize {
        let mut dropped = 0;
        for version in &mut self.live {
            if version.value.is_some() && version.expiry.may_drop(now_ms, clock_skew_ms_max) {
                version.kind = Kind::Tombstone;
                version.value = None;
                dropped += 1;
            }
        }
        dropped
    }

    /// EXPIRE and PERSIST: puts `expiry` on those of the versions `seen` that are live here and
    /// have a value at `now_ms`. Nothing is minted and nothing else changes; a version that lost
    /// its bytes takes no later register. Says how many registers changed.
    ///
    /// Take the stamp from [`stamp_above`](Self::stamp_above) on the record that was read.
    pub fn expire(&mut self, seen: &[Dot], expiry: Expiry, now_ms: u64) -> usize {
        let mut changed = 0;
        for version in &mut self.live {
            let wanted = seen.contains(&version.dot) && version.value_at(now_ms).is_some();
            if wanted && expiry > version.expiry {
                version.expiry = expiry;
                changed += 1;
            }
        }
        changed
    }
}

impl<V: Clone + AsRef<[u8]>> Record<V> {
    /// Joins `other` in: a version stays live if both hold it, or if one holds it and the other
    /// does not cover it. Never refused, whatever the limits say. O(n + m) versions.
    pub fn join(&mut self, other: &Self) -> Joined {
        let mut joined = Joined::default();
        let mine = core::mem::take(&mut self.live);
        let mut live = Vec::with_capacity(mine.len().max(other.live.len()));
        let mut theirs = other.live.iter().peekable();
        for mut version in mine {
            while let Some(new) = theirs.next_if(|new| new.dot > version.dot) {
                if !self.coverage.covers(new.dot) {
                    joined.changed = true;
                    live.push(new.clone());
                }
            }
            if let Some(copy) = theirs.next_if(|new| new.dot == version.dot) {
                joined.changed |= version.join(copy);
                live.push(version);
            } else if other.coverage.covers(version.dot) {
                joined.changed = true;
            } else {
                joined.uncovered.push(version.dot);
                live.push(version);
            }
        }
        for new in theirs {
            if !self.coverage.covers(new.dot) {
                joined.changed = true;
                live.push(new.clone());
            }
        }
        if planted(Bug::PruneInJoin) {
            live.truncate(1);
        }
        if planted(Bug::IgnoreSiblings) && live.len() > 1 {
            live.retain(|version| self.coverage.covers(version.dot));
        }
        self.live = live;
        joined.changed |= self.coverage.join(&other.coverage);
        joined
    }

    /// Mints `draft` under `dot` for a writer who was shown `context`: it replaces what the
    /// context covers (and the twins of that: other dots of the same operations), and nothing
    /// else. Says how much room is left for siblings.
    ///
    /// # Errors
    /// [`Error::DotNotNew`], [`Error::TooManySiblings`], [`Error::RecordTooLarge`]; the record is
    /// then as it was.
    pub fn mint(
        &mut self,
        dot: Dot,
        context: &Context,
        draft: Draft<V>,
        limits: &Limits,
    ) -> Result<Room, Error> {
        if self.coverage.vector().covers(dot) || context.vector().covers(dot) {
            return Err(Error::DotNotNew);
        }
        let version = draft.at(dot);
        let covered = self.live.iter().filter(|old| context.covers(old.dot));
        let operations: BTreeSet<u64> = covered.filter_map(|old| old.operation).collect();
        let kept = |old: &Version<V>| {
            let twin = old.operation.is_some_and(|operation| operations.contains(&operation));
            !twin && !context.covers(old.dot)
        };
        let left = self.live.iter().filter(|old| kept(old));
        let room = limits.room(&version, left, &self.coverage, context)?;
        self.live.retain(kept);
        let at = self.live.partition_point(|old| old.dot > dot);
        self.live.insert(at, version);
        self.coverage.join(context);
        self.coverage.insert(dot);
        Ok(room)
    }

    /// Mints `draft` under `dot` over everything that is known here: Redis SET, and every write
    /// of an `lww` keyspace.
    ///
    /// # Errors
    /// [`Error::DotNotNew`]; the record is then as it was.
    pub fn mint_blind(&mut self, dot: Dot, draft: Draft<V>) -> Result<(), Error> {
        if self.coverage.vector().covers(dot) {
            return Err(Error::DotNotNew);
        }
        self.live.clear();
        self.live.push(draft.at(dot));
        self.coverage.insert(dot);
        Ok(())
    }

    /// The second mint of a blind SET: over everything that is known here and everything that
    /// `answers` cover. What they cover is overwritten on purpose, so it needs no live versions.
    ///
    /// # Errors
    /// [`Error::DotNotNew`]; the record is then as it was.
    pub fn mint_over(&mut self, dot: Dot, answers: &Context, draft: Draft<V>) -> Result<(), Error> {
        if answers.vector().covers(dot) || self.coverage.vector().covers(dot) {
            return Err(Error::DotNotNew);
        }
        self.coverage.join(answers);
        self.mint_blind(dot, draft)
    }

    /// DEL, KV.DEL: mints a tombstone over what `context` covers. Whether there was anything to
    /// delete is for the caller, who read R replicas: [`exists`](Self::exists) on their join.
    ///
    /// # Errors
    /// As [`mint`](Self::mint).
    pub fn delete(
        &mut self,
        dot: Dot,
        context: &Context,
        operation: Option<u64>,
        limits: &Limits,
    ) -> Result<Room, Error> {
        self.mint(dot, context, Draft::tombstone().by_operation(operation), limits)
    }
}

pub(crate) fn fingerprint_chunk(dot: Dot, expiry: Expiry) -> [u8; 40] {
    let mut chunk = [0; 40];
    let words = [
        dot.actor.node,
        dot.actor.tenure,
        dot.time.to_bits(),
        expiry.stamp.to_bits(),
        expiry.end(),
    ];
    for (bytes, word) in chunk.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    chunk
}
