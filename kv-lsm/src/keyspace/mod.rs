//! Keyspaces: several sets of keys in one engine, each with a name and options of its own.
//!
//! # The design: one tree, parted
//!
//! The usual way (RocksDB's column families, fjall's keyspaces) gives each its own memtables and
//! levels over a common log. Then what is appended at once is flushed at different times, and much
//! follows: the log can go only when the *last* of them has been flushed, so a quiet one holds old
//! segments (fjall #261); a table may hold what the log, cut by a power failure, has lost for
//! another keyspace, so that each flush has to sync the log first, or there are holes; each costs a
//! memtable, a list of levels and a place in every snapshot; the budget for memtables has to be
//! shared out.
//!
//! Here all keyspaces are parts of the one tree. A key of keyspace `n` is stored behind four bytes
//! that sort by `n`:
//!
//! ```text
//! 0xFF | n, three bytes, big-endian | key        n > 0, and keys of the default keyspace (n = 0)
//!                                                that begin with 0xFF themselves
//! key                                            all other keys of the default keyspace
//! ```
//!
//! Log, commit, memtable, flush, recovery, snapshots, checkpoints, damage and the cache see keys
//! and need know nothing more. A batch over keyspaces is a batch; a flush flushes all; the promise
//! of prefixes without holes is the old one, not a new one. A read takes one look at the first
//! byte. What a keyspace has of its own it has in its *tables*: below level 0 a table holds keys of
//! one keyspace only (compaction ends a table where the next begins), so it is compressed, filtered
//! and cleaned by that one's [`KeyspaceOptions`], compaction in one rewrites nothing of another,
//! and dropping one removes its tables as files, unread. One without rows costs its name.
//!
//! What it costs: level 0 and the memtable are common. So a keyspace has no memtable sizes or level
//! sizes of its own, a table of level 0 is made by the engine's settings, a walk in a small
//! keyspace looks into level 0 tables that others have filled, and what is left of a dropped
//! keyspace in the memtable and in level 0 goes when these are flushed and compacted. Nobody sees
//! it: a number is never used again, and a key whose number was given away and is no keyspace's is
//! dead. And a keyspace with rows has at least a table in each level in which it has some, however
//! few: a compaction of level 0 writes, and syncs, at least a file for each keyspace that was
//! written to. That is right for tens of keyspaces, and slow for thousands that are all busy.
//!
//! # Life
//!
//! A directory begins without keyspaces, and its keys lie as they are, whatever they begin with.
//! The first [`Engine::create_keyspace`] makes sure, durably, that no key begins with 0xFF, and
//! from then on the directory knows keyspaces, and the format version of its manifest says so. What
//! such keys there were is deleted then, but may still be in tables, under their tombstones, at the
//! places of numbers that are given away later: what has a number yet to come is kept like any
//! other. The manifest
//! holds names and numbers. Options are the owner's code as much as data (filters, compaction
//! filters), so they are given at each open: [`Config::keyspaces`](crate::Config::keyspaces). A
//! keyspace that is not named there has the engine's.
//!
//! To drop is: refuse batches that name it, sync the log as far as it was appended (so that the
//! drop never survives what came before it), write the drop to the manifest. Its tables are removed
//! by the next compaction; who reads at a snapshot or walks holds them open until it ends.
//!
//! Invariant: a live keyspace's keys are those of its number; below level 0 no table has keys of
//! two (but for deleted ones from before the first).

mod change;
mod handle;
#[cfg(test)]
mod revenant_tests;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

pub use handle::Keyspace;
pub(crate) use handle::Token;

use crate::compaction::{CompactionFilter, Decision};
use crate::config::{Compression, Config};
use crate::sstable::{Damage, FilterPolicy, TableMeta};

/// The number of a keyspace.
pub(crate) type Id = u32;

/// The default keyspace.
pub(crate) const DEFAULT: Id = 0;
/// The last number that is given away; one more parts its keys from nothing.
pub(crate) const ID_MAX: Id = 0xFF_FFFE;

/// With what the stored key of a numbered keyspace begins.
const MARK: u8 = 0xFF;
/// Bytes before such a key.
pub(crate) const PREFIX_BYTES: usize = 4;

/// How a keyspace's tables are made, and what compaction drops of it. Of the levels below level 0,
/// which all keyspaces share.
#[derive(Clone, Debug)]
pub struct KeyspaceOptions {
    /// As [`Config::compression`].
    pub compression: Compression,
    /// As [`Config::compression_last`].
    pub compression_last: Option<Compression>,
    /// As [`Config::block_bytes`].
    pub block_bytes: usize,
    /// As [`Config::filter`].
    pub filter: Arc<dyn FilterPolicy>,
    /// As [`Config::filter_upper`].
    pub filter_upper: Arc<dyn FilterPolicy>,
    /// As [`Config::compaction_filter`]; it is given the keys as their owner knows them.
    pub compaction_filter: Option<Arc<dyn CompactionFilter>>,
}

impl KeyspaceOptions {
    /// The options that the engine's default keyspace has.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            compression: config.compression,
            compression_last: config.compression_last,
            block_bytes: config.block_bytes,
            filter: Arc::clone(&config.filter),
            filter_upper: Arc::clone(&config.filter_upper),
            compaction_filter: config.compaction_filter.clone(),
        }
    }

    /// How the blocks of a level's tables are compressed.
    pub(crate) fn compression_of(&self, is_last: bool) -> Compression {
        self.compression_last.filter(|_| is_last).unwrap_or(self.compression)
    }
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

/// Engines that were opened so far.
static ENGINES: AtomicU64 = AtomicU64::new(0);

/// The keyspaces of a directory at one moment; never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    /// Tells the keyspaces of this engine from those of others of the process.
    engine: u64,
    /// The next number; 0 in a directory that knows no keyspaces.
    next_id: Id,
    spaces: BTreeMap<Id, Arc<Space>>,
    /// The one that is being dropped: nobody comes to it any more, and nothing of it goes before
    /// the manifest knows.
    leaving: Option<Id>,
}

/// A keyspace.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) name: Arc<str>,
    /// `None`: the engine's.
    options: Option<KeyspaceOptions>,
}

impl Registry {
    /// That of an engine that is being opened, with the options that `config` has for these names.
    pub(crate) fn new(next_id: Id, names: &BTreeMap<Id, String>, config: &Config) -> Self {
        let engine = ENGINES.fetch_add(1, Ordering::Relaxed) + 1;
        let mut registry = Self { engine, next_id, ..Self::default() };
        for (id, name) in names {
            registry.insert(*id, name, config);
        }
        registry
    }

    /// Whether these are its keyspaces.
    pub(crate) fn is_of(&self, next_id: Id, names: &BTreeMap<Id, String>) -> bool {
        self.next_id == next_id && self.spaces.keys().eq(names.keys())
    }

    fn insert(&mut self, id: Id, name: &str, config: &Config) {
        let options = config.keyspaces.get(name).cloned();
        self.spaces.insert(id, Arc::new(Space { name: Arc::from(name), options }));
        self.next_id = self.next_id.max(id.saturating_add(1));
    }

    /// Whether the directory knows keyspaces: if not, all keys lie as they are.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.next_id > 0
    }

    /// Whether a keyspace of an engine is there for those who come.
    pub(crate) fn has(&self, engine: u64, id: Id) -> bool {
        self.engine == engine && self.spaces.contains_key(&id) && self.leaving != Some(id)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.spaces.values().map(|space| &space.name)
    }

    fn find(&self, name: &str) -> Option<(Id, &Arc<str>)> {
        let found = self.spaces.iter().find(|(_, space)| &*space.name == name)?;
        Some((*found.0, &found.1.name))
    }

    /// How a key of the default keyspace is stored.
    #[inline]
    pub(crate) fn default_key<'a>(&self, key: &'a [u8]) -> Cow<'a, [u8]> {
        if key.first() == Some(&MARK) && self.is_on() {
            return Cow::Owned([&prefix(DEFAULT)[..], key].concat());
        }
        Cow::Borrowed(key)
    }

    /// How a key is stored.
    pub(crate) fn stored<'a>(&self, id: Id, key: &'a [u8]) -> Cow<'a, [u8]> {
        if id == DEFAULT { self.default_key(key) } else { Cow::Owned(prefixed(id, key)) }
    }

    /// The bounds of a range of a keyspace, as its keys are stored.
    pub(crate) fn bounds(
        &self,
        id: Id,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> (Bound<Bytes>, Bound<Bytes>) {
        let stored =
            |bound: Bound<&[u8]>| bound.map(|key| Bytes::from(self.stored(id, key).into_owned()));
        let lower = match stored(lower) {
            Bound::Unbounded if id != DEFAULT => {
                Bound::Included(Bytes::copy_from_slice(&prefix(id)))
            }
            lower => lower,
        };
        let upper = match stored(upper) {
            Bound::Unbounded if self.is_on() => {
                Bound::Excluded(Bytes::copy_from_slice(&prefix(id + 1)))
            }
            upper => upper,
        };
        (lower, upper)
    }

    /// The keyspace of a stored key, or of what parts two of them, and the key as its owner knows
    /// it.
    #[inline]
    pub(crate) fn split<'a>(&self, stored: &'a [u8]) -> (Id, &'a [u8]) {
        if stored.first() != Some(&MARK) || !self.is_on() {
            return (DEFAULT, stored);
        }
        let digit = |at| u32::from(stored.get(at).copied().unwrap_or(0));
        let id = digit(1) << 16 | digit(2) << 8 | digit(3);
        (id, stored.get(PREFIX_BYTES..).unwrap_or_default())
    }

    /// Whether a number was that of a keyspace that was dropped, so that nobody can ever ask for
    /// its keys. A number that no keyspace has had yet may have keys, all of them deleted, from the
    /// time before the first one: what hides them must stay until its turn comes.
    pub(crate) fn is_dead(&self, id: Id) -> bool {
        id != DEFAULT && id < self.next_id && !self.spaces.contains_key(&id)
    }

    /// Whether a stored key is of a keyspace that was dropped.
    #[inline]
    pub(crate) fn is_dead_key(&self, stored: &[u8]) -> bool {
        stored.first() == Some(&MARK) && self.is_on() && self.is_dead(self.split(stored).0)
    }

    /// The one keyspace of a table's keys, if they are of one.
    pub(crate) fn of_table(&self, meta: &TableMeta) -> Option<Id> {
        let (first, last) = (self.split(&meta.smallest).0, self.split(&meta.largest).0);
        (first == last).then_some(first)
    }

    /// The options of a keyspace, unless they are the engine's.
    pub(crate) fn options(&self, id: Id) -> Option<&KeyspaceOptions> {
        self.spaces.get(&id)?.options.as_ref()
    }

    /// All policies by which filters may have been made, beside the engine's.
    pub(crate) fn policies(config: &Config) -> impl Iterator<Item = &Arc<dyn FilterPolicy>> {
        config.keyspaces.values().flat_map(|options| [&options.filter, &options.filter_upper])
    }

    /// Damage as the owners of keys know it: one for each keyspace that has keys in its range. What
    /// has keys of dropped ones only is told as it is stored, as it has to be given up as well.
    pub(crate) fn told(&self, damage: Damage, key_bytes_max: usize) -> Vec<Damage> {
        if !self.is_on() {
            return vec![damage];
        }
        let (first, smallest) = self.split(&damage.smallest);
        let (last, largest) = self.split(&damage.largest);
        let default = (first == DEFAULT).then_some((DEFAULT, None));
        let spaces = self.spaces.range(first..=last.max(first));
        let within = default.into_iter().chain(spaces.map(|(id, space)| (*id, Some(&space.name))));
        let told = within.map(|(id, name)| Damage {
            keyspace: name.map(ToString::to_string),
            smallest: Bytes::copy_from_slice(if id == first { smallest } else { &[] }),
            largest: if id == last {
                Bytes::copy_from_slice(largest)
            } else {
                // There is no key behind this one.
                Bytes::from(vec![u8::MAX; key_bytes_max])
            },
            ..damage.clone()
        });
        let told: Vec<Damage> = told.collect();
        if told.is_empty() { vec![damage] } else { told }
    }
}

/// What stands before the keys of a keyspace.
pub(crate) fn prefix(id: Id) -> [u8; PREFIX_BYTES] {
    let [_, high, middle, low] = id.to_be_bytes();
    [MARK, high, middle, low]
}

fn prefixed(id: Id, key: &[u8]) -> Vec<u8> {
    [&prefix(id)[..], key].concat()
}

/// Whether a key of the default keyspace can't lie as it is where keyspaces are known.
#[inline]
pub(crate) fn is_marked(key: &[u8]) -> bool {
    key.first() == Some(&MARK)
}

/// Asks the compaction filter of each key's keyspace.
#[derive(Debug)]
pub(crate) struct FilterBySpace<'a> {
    pub(crate) registry: &'a Registry,
    /// The engine's.
    pub(crate) default: Option<&'a dyn CompactionFilter>,
}

impl CompactionFilter for FilterBySpace<'_> {
    fn decide(&self, stored: &[u8], value: &[u8]) -> Decision {
        let (id, key) = self.registry.split(stored);
        let filter = match self.registry.options(id) {
            Some(options) => options.compaction_filter.as_deref(),
            None => self.default,
        };
        filter.map_or(Decision::Keep, |filter| filter.decide(key, value))
    }
}
