//! All edits so far, folded into one: what a manifest says.
//!
//! Pure. Invariant: an edit that does not follow from what is there is refused, in words, and never
//! half believed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Edit, Version};
use crate::keyspace::ID_MAX;
use crate::sstable::TableMeta;

/// The version of a manifest that knows no keyspaces.
const VERSION_PLAIN: u32 = 1;
/// That of one that does: who does not must not open the directory.
const VERSION_KEYSPACES: u32 = 2;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) tables: BTreeMap<u64, (u8, TableMeta)>,
    pub(super) cursors: BTreeMap<u8, Bytes>,
    pub(super) next_file_id: u64,
    pub(super) flushed_seq: u64,
    pub(super) keyspaces: BTreeMap<u32, String>,
    /// 0 where keyspaces were never made.
    pub(super) next_keyspace: u32,
}

impl State {
    pub(super) fn apply(&mut self, edit: &Edit) -> Result<(), &'static str> {
        for (level, file_id) in &edit.removed {
            match self.tables.remove(file_id) {
                Some((at, _)) if at == *level => {}
                _ => return Err("an edit removes a table that is not there"),
            }
        }
        for (level, meta) in &edit.added {
            self.next_file_id = self.next_file_id.max(meta.file_id.saturating_add(1));
            if self.tables.insert(meta.file_id, (*level, meta.clone())).is_some() {
                return Err("an edit adds a table that is there");
            }
        }
        for id in &edit.keyspaces_removed {
            self.keyspaces.remove(id).ok_or("an edit removes a keyspace that is not there")?;
        }
        for (id, name) in &edit.keyspaces_added {
            if !(1..=ID_MAX).contains(id) {
                return Err("an edit adds a keyspace with a number that there is not");
            }
            if self.keyspaces.insert(*id, name.clone()).is_some() {
                return Err("an edit adds a keyspace that is there");
            }
            self.next_keyspace = self.next_keyspace.max(id.saturating_add(1));
        }
        self.cursors.extend(edit.cursors.iter().cloned());
        self.next_file_id = self.next_file_id.max(edit.next_file_id.unwrap_or(0));
        self.flushed_seq = self.flushed_seq.max(edit.flushed_seq.unwrap_or(0));
        self.next_keyspace = self.next_keyspace.max(edit.next_keyspace.unwrap_or(0));
        Ok(())
    }

    /// One edit that leads from nothing to here.
    pub(super) fn snapshot(&self) -> Edit {
        Edit {
            added: self.tables.values().cloned().collect(),
            removed: Vec::new(),
            cursors: self.cursors.iter().map(|(level, key)| (*level, key.clone())).collect(),
            next_file_id: Some(self.next_file_id),
            flushed_seq: Some(self.flushed_seq),
            keyspaces_added: self.keyspaces.iter().map(|(id, name)| (*id, name.clone())).collect(),
            keyspaces_removed: Vec::new(),
            next_keyspace: Some(self.next_keyspace).filter(|next| *next > 0),
        }
    }

    pub(super) fn version(&self) -> Result<Version<TableMeta>, &'static str> {
        Version::from_tables(self.tables.values().cloned(), &self.snapshot().cursors)
    }

    /// The format version of a manifest that says this.
    pub(super) fn format_version(&self) -> u32 {
        if self.next_keyspace > 0 { VERSION_KEYSPACES } else { VERSION_PLAIN }
    }

    /// Whether this code reads such a format version.
    pub(super) fn reads(format_version: u32) -> bool {
        matches!(format_version, VERSION_PLAIN | VERSION_KEYSPACES)
    }
}
