//! What of a table is damaged, and what its owner has given up.
//!
//! A block that fails its checksum is remembered by its offset: from then on its keys are answered
//! with the error, without reading it again, and compaction stops before it. A table that can't
//! even be opened (its file is missing, its index is damaged) is kept in its level with all its
//! keys. Only the owner can say that the rows are lost and will come from elsewhere: what it gives
//! up reads as empty, and the next compaction writes the table anew without it.
//!
//! Kept in memory: after a restart damage is found again by the first read that meets it.
//!
//! Invariant: nothing is read as empty that was not given up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

/// Keys that can't be read because the bytes that held some of their versions are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The damaged file.
    pub path: PathBuf,
    /// Id of the table, as in its file's name.
    pub table: u64,
    /// Where the damaged part begins, in bytes.
    pub offset: u64,
    /// What does not hold.
    pub what: &'static str,
    /// No key before this one is touched.
    pub smallest: Bytes,
    /// No key after this one is touched.
    pub largest: Bytes,
    /// Whether the table as a whole can't be read, not only a block of it.
    pub whole: bool,
    /// The keyspace whose keys these are; `None`: the default one's.
    pub keyspace: Option<String>,
}

/// How a part of a table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing is known against it.
    Sound,
    /// It is damaged.
    Damaged {
        /// Where the damage begins.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// It is damaged and reads as empty.
    GivenUp,
}

/// The damage of one table.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Whether there is any: the fast way out.
    any: AtomicBool,
    wounds: Mutex<Wounds>,
}

#[derive(Debug, Default)]
struct Wounds {
    whole: Option<Wound>,
    blocks: BTreeMap<u64, Wound>,
}

#[derive(Clone, Copy, Debug)]
struct Wound {
    offset: u64,
    what: &'static str,
    given_up: bool,
}

impl Wound {
    fn health(self) -> Health {
        let Self { offset, what, given_up } = self;
        if given_up { Health::GivenUp } else { Health::Damaged { offset, what } }
    }
}

impl Quarantine {
    /// Of a table that can't be opened.
    pub(crate) fn whole(offset: u64, what: &'static str) -> Self {
        let whole = Some(Wound { offset, what, given_up: false });
        let wounds = Mutex::new(Wounds { whole, ..Wounds::default() });
        Self { any: AtomicBool::new(true), wounds }
    }

    /// A block is damaged.
    pub(crate) fn add(&self, offset: u64, what: &'static str) {
        let wound = Wound { offset, what, given_up: false };
        self.wounds.lock().blocks.entry(offset).or_insert(wound);
        self.any.store(true, Ordering::Release);
    }

    /// How the table as a whole stands.
    #[inline]
    pub(crate) fn table(&self) -> Health {
        if !self.any.load(Ordering::Acquire) {
            return Health::Sound;
        }
        self.wounds.lock().whole.map_or(Health::Sound, Wound::health)
    }

    /// How the block at `offset` stands.
    #[inline]
    pub(crate) fn block(&self, offset: u64) -> Health {
        if !self.any.load(Ordering::Acquire) {
            return Health::Sound;
        }
        self.wounds.lock().blocks.get(&offset).map_or(Health::Sound, |wound| wound.health())
    }

    /// What is damaged and not given up: the whole table, then blocks by offset.
    pub(crate) fn open_wounds(&self) -> Vec<(bool, u64, &'static str)> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let wounds = self.wounds.lock();
        let whole = wounds.whole.iter().map(|wound| (true, wound));
        let blocks = wounds.blocks.values().map(|wound| (false, wound));
        let open = whole.chain(blocks).filter(|(_, wound)| !wound.given_up);
        open.map(|(whole, wound)| (whole, wound.offset, wound.what)).collect()
    }

    /// Reads as empty from now on.
    pub(crate) fn give_up(&self, whole: bool, offset: u64) {
        let mut wounds = self.wounds.lock();
        let wound = if whole { wounds.whole.as_mut() } else { wounds.blocks.get_mut(&offset) };
        if let Some(wound) = wound {
            wound.given_up = true;
        }
    }

    /// Whether something was given up, and nothing else is damaged: then it can be written anew.
    pub(crate) fn is_spoilt(&self) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let wounds = self.wounds.lock();
        let mut all = wounds.whole.iter().chain(wounds.blocks.values());
        all.all(|wound| wound.given_up)
    }
}
