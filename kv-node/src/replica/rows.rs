//! One key's row and the hints about it, decided together under the key's lock.
//!
//! A fallback that mints must know everything that it holds of the key, in whichever rows, and what
//! it drops or hands on must not change between the look and the append. All rows of a key share
//! its lock, so this is `update` with one lock and a decision over several rows.
//!
//! Invariant: what is decided takes effect together or not at all.

use bytes::Bytes;

use super::update::{OVERTAKEN_MAX, PassWriter};
use super::{Replica, Verdict};
use crate::plug::storage::{Resident, Row, StorageError, Ticket, WriteBatch};

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// It holds this from now on.
    Put(Bytes),
    /// It goes, for good.
    Remove,
}

/// Decides over the stored records of all rows, in their order: what changes, by place.
pub type DecideRows<'d> = dyn FnMut(&[Option<Bytes>]) -> Vec<(usize, RowChange)> + Send + 'd;

/// What one look under the lock came to.
enum Look {
    Done(Ticket),
    /// Some rows are on disk only; the lock's count of changes then.
    NeedsIo(u64),
}

impl Replica {
    /// Decides rows of one key under its lock, and appends what was decided. `decide` is called
    /// once.
    ///
    /// # Errors
    /// Nothing was appended.
    pub async fn update_rows(
        &self,
        rows: &[Bytes],
        decide: &mut DecideRows<'_>,
    ) -> Result<Ticket, StorageError> {
        let mut fetched: Option<(u64, Vec<Option<Row>>)> = None;
        for _ in 0..OVERTAKEN_MAX {
            match self.look(rows, fetched.as_ref(), decide)? {
                Look::Done(ticket) => return Ok(ticket),
                Look::NeedsIo(changes) => fetched = Some((changes, self.engine.read(rows).await?)),
            }
        }
        Err(StorageError::Io("other writers of this key were always faster".into()))
    }

    fn look(
        &self,
        rows: &[Bytes],
        fetched: Option<&(u64, Vec<Option<Row>>)>,
        decide: &mut DecideRows<'_>,
    ) -> Result<Look, StorageError> {
        let Some(mut lock) = rows.first().and_then(|row| self.stripes.of(row)) else {
            return Ok(Look::Done(Ticket::DURABLE));
        };
        let changes = *lock;
        let fetched = fetched.filter(|(then, _)| *then == changes).map(|(_, rows)| rows);
        let mut wait = Ticket::DURABLE;
        let mut stored: Vec<Option<Bytes>> = vec![None; rows.len()];
        let mut needs_io = false;
        let keys: Vec<&[u8]> = rows.iter().map(|row| &row[..]).collect();
        self.engine.visit_resident(&keys, &mut |place, resident| {
            let Some(slot) = stored.get_mut(place) else { return };
            match (resident, fetched.map(|rows| rows.get(place))) {
                (Resident::Found { bytes, ticket }, _) => {
                    wait = wait.max(ticket);
                    *slot = Some(Bytes::copy_from_slice(bytes));
                }
                (Resident::Absent, _) => {}
                (Resident::NeedsIo, Some(row)) => {
                    let row = row.and_then(Option::as_ref);
                    wait = wait.max(row.map_or(Ticket::DURABLE, |row| row.ticket));
                    *slot = row.map(|row| row.bytes.clone());
                }
                (Resident::NeedsIo, None) => needs_io = true,
            }
        })?;
        if needs_io {
            return Ok(Look::NeedsIo(changes));
        }
        let alive: Vec<Option<Bytes>> =
            stored.iter().map(|row| row.as_ref().and_then(|row| self.left_of(row))).collect();
        let mut writer = PassWriter {
            replica: self,
            batch: WriteBatch::with_capacity(rows.len(), 256 * rows.len()),
            places: Vec::new(),
            ticket: wait,
            left: Vec::new(),
            touched: Vec::new(),
            moved: Vec::new(),
            hinted: Vec::new(),
            changes: Vec::new(),
            siblings: Vec::new(),
        };
        for (place, change) in decide(&alive) {
            let Some(row) = rows.get(place) else { continue };
            let before = stored.get(place).and_then(Option::as_deref);
            writer.decide(row, (place as u32, 0), before, &mut |_, _, out| match &change {
                RowChange::Put(record) => {
                    out.extend_from_slice(record);
                    Verdict::Write
                }
                RowChange::Remove => Verdict::Remove,
            });
        }
        let PassWriter { batch, ticket, moved, hinted, changes, siblings, .. } = writer;
        let batch = batch.freeze();
        if batch.is_empty() {
            return Ok(Look::Done(ticket));
        }
        let appended = self.append(&batch, &moved, &hinted)?;
        self.trees.changed(&changes, appended);
        self.note_siblings(&siblings);
        *lock += 1;
        Ok(Look::Done(ticket.max(appended)))
    }
}
