//! One change of the set of tables, and its encoding.
//!
//! ```text
//! edit = field*
//! field = 1 u8 | level u8 | table                      a table comes
//!       | 2 u8 | level u8 | file id varint             a table goes
//!       | 3 u8 | level u8 | key                        where compaction of the level goes on
//!       | 4 u8 | id varint                             the next file id
//!       | 5 u8 | sequence varint                       the log is not needed up to here
//!       | 6 u8 | number varint | name                  a keyspace comes
//!       | 7 u8 | number varint                         a keyspace goes
//!       | 8 u8 | number varint                         the next keyspace's number
//! table = file id | bytes | entries | tombstones | max sequence   varints
//!         checksum u32 | smallest key | largest key               keys with their length before
//! ```
//!
//! An edit is applied as a whole or not at all: what goes and what comes in its place are one unit
//! of durability (LevelDB's VersionEdit).

use bytes::Bytes;

use crate::codec::{put_bytes, put_varint, take_bytes, take_u8, take_u32, take_varint};
use crate::sstable::TableMeta;

/// A change. Fields that are empty or `None` change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Tables that come, with their level.
    pub(crate) added: Vec<(u8, TableMeta)>,
    /// Tables that go: level and file id. A table that moves goes and comes.
    pub(crate) removed: Vec<(u8, u64)>,
    /// For a level, the largest key that its last compaction took.
    pub(crate) cursors: Vec<(u8, Bytes)>,
    /// No file id from here on has ever been used.
    pub(crate) next_file_id: Option<u64>,
    /// All up to this sequence is in tables: the log is not needed for it.
    pub(crate) flushed_seq: Option<u64>,
    /// Keyspaces that come, with their names.
    pub(crate) keyspaces_added: Vec<(u32, String)>,
    /// Keyspaces that go.
    pub(crate) keyspaces_removed: Vec<u32>,
    /// No keyspace from this number on has ever been there.
    pub(crate) next_keyspace: Option<u32>,
}

const ADDED: u8 = 1;
const REMOVED: u8 = 2;
const CURSOR: u8 = 3;
const NEXT_FILE_ID: u8 = 4;
const FLUSHED_SEQ: u8 = 5;
const KEYSPACE_ADDED: u8 = 6;
const KEYSPACE_REMOVED: u8 = 7;
const NEXT_KEYSPACE: u8 = 8;

impl Edit {
    /// Bytes of the tables that come and don't just move.
    pub(crate) fn bytes_written(&self) -> u64 {
        let moved = |id: u64| self.removed.iter().any(|(_, removed)| *removed == id);
        let written = self.added.iter().filter(|(_, meta)| !moved(meta.file_id));
        written.map(|(_, meta)| meta.bytes).sum()
    }

    /// Appends the edit's encoding.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (level, meta) in &self.added {
            out.extend_from_slice(&[ADDED, *level]);
            for number in [meta.file_id, meta.bytes, meta.entries, meta.tombstones, meta.max_seq] {
                put_varint(out, number);
            }
            out.extend_from_slice(&meta.checksum.to_le_bytes());
            put_bytes(out, &meta.smallest);
            put_bytes(out, &meta.largest);
        }
        for (level, file_id) in &self.removed {
            out.extend_from_slice(&[REMOVED, *level]);
            put_varint(out, *file_id);
        }
        for (level, key) in &self.cursors {
            out.extend_from_slice(&[CURSOR, *level]);
            put_bytes(out, key);
        }
        for (tag, number) in [(NEXT_FILE_ID, self.next_file_id), (FLUSHED_SEQ, self.flushed_seq)] {
            if let Some(number) = number {
                out.push(tag);
                put_varint(out, number);
            }
        }
        for (id, name) in &self.keyspaces_added {
            out.push(KEYSPACE_ADDED);
            put_varint(out, u64::from(*id));
            put_bytes(out, name.as_bytes());
        }
        let removed = self.keyspaces_removed.iter().map(|id| (KEYSPACE_REMOVED, *id));
        for (tag, id) in removed.chain(self.next_keyspace.map(|id| (NEXT_KEYSPACE, id))) {
            out.push(tag);
            put_varint(out, u64::from(id));
        }
    }

    /// Reads an edit; `None` when the bytes are none.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        let mut edit = Self::default();
        while let Some(tag) = take_u8(from) {
            match tag {
                ADDED => edit.added.push((take_u8(from)?, take_table(from)?)),
                REMOVED => edit.removed.push((take_u8(from)?, take_varint(from)?)),
                CURSOR => edit.cursors.push((take_u8(from)?, take_key(from)?)),
                NEXT_FILE_ID => edit.next_file_id = Some(take_varint(from)?),
                FLUSHED_SEQ => edit.flushed_seq = Some(take_varint(from)?),
                KEYSPACE_ADDED => edit.keyspaces_added.push((take_id(from)?, take_name(from)?)),
                KEYSPACE_REMOVED => edit.keyspaces_removed.push(take_id(from)?),
                NEXT_KEYSPACE => edit.next_keyspace = Some(take_id(from)?),
                _ => return None,
            }
        }
        Some(edit)
    }
}

fn take_table(from: &mut &[u8]) -> Option<TableMeta> {
    Some(TableMeta {
        file_id: take_varint(from)?,
        bytes: take_varint(from)?,
        entries: take_varint(from)?,
        tombstones: take_varint(from)?,
        max_seq: take_varint(from)?,
        checksum: take_u32(from)?,
        smallest: take_key(from)?,
        largest: take_key(from)?,
    })
}

fn take_id(from: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(from)?).ok()
}

fn take_name(from: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_bytes(from)?.to_vec()).ok()
}

fn take_key(from: &mut &[u8]) -> Option<Bytes> {
    take_bytes(from).map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn table()(
            numbers: [u64; 5], checksum: u32, smallest: Vec<u8>, largest: Vec<u8>,
        ) -> TableMeta {
            let [file_id, bytes, entries, tombstones, max_seq] = numbers;
            let (smallest, largest) = (smallest.into(), largest.into());
            TableMeta {
                file_id, smallest, largest, entries, tombstones, max_seq, bytes, checksum,
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            added in proptest::collection::vec((any::<u8>(), table()), 0..4),
            removed: Vec<(u8, u64)>,
            cursors in proptest::collection::vec((any::<u8>(), any::<Vec<u8>>()), 0..4),
            next_file_id: Option<u64>,
            flushed_seq: Option<u64>,
            keyspaces_added: Vec<(u32, String)>,
            keyspaces_removed: Vec<u32>,
            next_keyspace: Option<u32>,
        ) {
            let cursors = cursors.into_iter().map(|(level, key)| (level, key.into())).collect();
            let edit = Edit {
                added, removed, cursors, next_file_id, flushed_seq, keyspaces_added,
                keyspaces_removed, next_keyspace,
            };
            let mut bytes = Vec::new();
            edit.encode(&mut bytes);
            prop_assert_eq!(Edit::decode(&bytes), Some(edit));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Edit::decode(&bytes);
        }
    }
}
