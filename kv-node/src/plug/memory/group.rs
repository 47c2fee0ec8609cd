//! The tables behind one lock, and the rows of all of them in one arena.
//!
//! Invariant: each live row of the arena has exactly one entry, in the table of its key.

use std::cell::Cell;
use std::hint::black_box;

use bytes::Bytes;

use super::arena::{Address, Arena};
use super::pack::Packer;
use super::row::{Row, Stored};
use super::table::{ENTRY_BYTES, Hash, Table};
use crate::plug::storage::{PageRequest, Resident, StorageError, Ticket};

/// A larger buffer is not kept for the next read.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Where values are put together that are not held as they are.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A key's place: its group, its table in that, its hash in that.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) group: usize,
    pub(super) table: usize,
    pub(super) hash: Hash,
}

/// Key and value, each a copy.
pub(super) type Pair = (Bytes, Bytes);

/// Some tables and their rows.
pub(super) struct Group {
    tables: Box<[Table]>,
    arena: Arena,
    rows: u64,
}

impl Group {
    pub(super) fn new(tables: usize) -> Self {
        let tables = (0..tables).map(|_| Table::default()).collect();
        Self { tables, arena: Arena::default(), rows: 0 }
    }

    /// Rows, and the bytes that they take with what is dead and not yet given back.
    #[inline]
    pub(super) fn size(&self) -> (u64, u64) {
        (self.rows, self.arena.bytes() as u64 + ENTRY_BYTES * self.rows)
    }

    /// Puts a row in the place of an older one, if there is any.
    #[inline]
    pub(super) fn put(&mut self, place: Place, key: &[u8], stored: &Stored<'_>) {
        let (Self { tables, arena, rows }, hash) = (self, place.hash);
        let Some(table) = tables.get_mut(place.table) else { return };
        match table.find(hash, |at| arena.row(at).key == key) {
            Some(at) if arena.replace(at, key, stored) => {}
            Some(at) => {
                arena.free(at);
                table.replace(hash, at, arena.push(key, stored));
            }
            None => {
                table.insert(hash, arena.push(key, stored));
                *rows += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, place: Place, key: &[u8]) {
        let (Self { tables, arena, rows }, hash) = (self, place.hash);
        let Some(table) = tables.get_mut(place.table) else { return };
        if let Some(at) = table.find(hash, |at| arena.row(at).key == key) {
            table.remove(hash, at);
            arena.free(at);
            *rows -= 1;
        }
    }

    /// By how much a put makes the group larger.
    pub(super) fn growth(&self, place: Place, key: &[u8], stored: &Stored<'_>) -> u64 {
        let bytes = stored.row_bytes(key);
        match self.find(place, key) {
            Some(row) if bytes <= row.bytes() => 0,
            Some(_) => bytes as u64,
            None => bytes as u64 + ENTRY_BYTES,
        }
    }

    /// Moves what lives in chunks that are mostly dead. `place_of` gives a key's place.
    #[inline]
    pub(super) fn move_from_sparse(&mut self, place_of: impl Fn(&[u8]) -> Place) {
        while let Some((number, bytes)) = self.arena.take_listed() {
            self.move_rows(number, &bytes, &place_of);
        }
    }

    /// Moves what lives in one chunk that is in part dead; false if too little is dead for that.
    pub(super) fn move_from_next(&mut self, place_of: impl Fn(&[u8]) -> Place) -> bool {
        let is_listed = self.arena.list_next();
        self.move_from_sparse(place_of);
        is_listed
    }

    #[cold]
    fn move_rows(&mut self, number: usize, bytes: &[u8], place_of: &impl Fn(&[u8]) -> Place) {
        for (offset, row) in Arena::rows_of(bytes) {
            let (place, old) = (place_of(row.key), Address::new(number, offset));
            if let Some(table) = self.tables.get_mut(place.table)
                && table.holds(place.hash, old)
            {
                let new = self.arena.push(row.key, &row.as_stored());
                table.replace(place.hash, old, new);
            }
        }
        self.arena.give_back(number);
    }

    /// The row of a key.
    #[inline]
    pub(super) fn find(&self, place: Place, key: &[u8]) -> Option<Row<'_>> {
        let table = self.tables.get(place.table)?;
        let likely = self.arena.row(table.find(place.hash, |_| true)?);
        if likely.key == key {
            return Some(likely);
        }
        // Another key has the same hash.
        let at = table.find(place.hash, |at| self.arena.row(at).key == key)?;
        Some(self.arena.row(at))
    }

    /// The rows of some keys, likely, without a look at the keys: all look-ups wait for memory
    /// together, and the rows are on their way from there.
    #[inline]
    pub(super) fn guess<const N: usize>(
        &self,
        places: &[Option<Place>; N],
    ) -> [Option<Address>; N] {
        let table = |place: &Place| self.tables.get(place.table);
        let homes = places.iter().flatten();
        let touch = |place| table(place).map_or(0, |table| table.touch(place.hash));
        black_box(homes.fold(0, |sum, place| sum ^ touch(place)));
        let guess = |place: &Option<Place>| {
            let place = place.as_ref()?;
            table(place)?.find(place.hash, |_| true)
        };
        let guesses = places.each_ref().map(guess);
        black_box(guesses.iter().flatten().fold(0, |sum, at| sum ^ self.arena.touch(*at)));
        guesses
    }

    /// The row at an address, if it is the key's.
    #[inline]
    pub(super) fn row(&self, at: Address, key: &[u8]) -> Option<Row<'_>> {
        Some(self.arena.row(at)).filter(|row| row.key == key)
    }

    /// The rows of one table with `from <= key < to`, sorted.
    pub(super) fn sorted(
        &self,
        table: usize,
        page: &PageRequest,
        packer: &Packer,
    ) -> Result<Vec<Pair>, StorageError> {
        let within = |key: &[u8]| *key >= *page.from && (page.to.is_empty() || *key < *page.to);
        let Some(table) = self.tables.get(table) else { return Ok(Vec::new()) };
        let rows = table.addresses().map(|at| self.arena.row(at));
        let mut rows = with_scratch(|scratch| {
            rows.filter(|row| within(row.key))
                .map(|row| Ok((Bytes::copy_from_slice(row.key), plain(&row, packer, scratch)?)))
                .collect::<Result<Vec<_>, StorageError>>()
        })?;
        rows.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        Ok(rows)
    }
}

#[inline]
pub(super) fn show(
    at: usize,
    row: Option<Row<'_>>,
    packer: &Packer,
    scratch: &mut Vec<u8>,
    visit: &mut dyn FnMut(usize, Resident<'_>),
) -> Result<(), StorageError> {
    match row {
        None => visit(at, Resident::Absent),
        Some(row) => {
            let bytes = row.value(packer, scratch).ok_or_else(cannot_unpack)?;
            visit(at, Resident::Found { bytes, ticket: Ticket::DURABLE });
        }
    }
    Ok(())
}

/// A copy of the value.
pub(super) fn plain(
    row: &Row<'_>,
    packer: &Packer,
    scratch: &mut Vec<u8>,
) -> Result<Bytes, StorageError> {
    row.value(packer, scratch).map(Bytes::copy_from_slice).ok_or_else(cannot_unpack)
}

#[cold]
fn cannot_unpack() -> StorageError {
    StorageError::Damaged("a compressed value in memory".to_owned())
}

/// Lends this thread's buffer.
#[inline]
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.take();
    let result = work(&mut scratch);
    if scratch.capacity() <= SCRATCH_BYTES_MAX {
        SCRATCH.set(scratch);
    }
    result
}
