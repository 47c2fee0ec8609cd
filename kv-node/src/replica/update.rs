//! Locked read-decide-append over a batch of keys: the one way in which records change.
//!
//! Keys are locked by stripe, all stripes of a batch in ascending order, so that two batches never
//! wait for each other in a ring. Each stripe counts its changes: a row that had to be read from
//! disk outside the lock is good only if the stripe's count is still the same. Only a stripe in
//! which something was written counts on, and what a batch itself wrote does not overtake its own
//! reads.
//!
//! A key that stands twice in a batch is decided twice, the second time over what the first wrote.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kv_quorum::EncodedRecord;
use parking_lot::{Mutex, MutexGuard};

use super::Replica;
use super::conflicts::Siblings;
use super::counts::Moved;
use super::hints::{HintMove, span_of};
use super::trees::TreeChange;
use crate::keys::{HINT_PREFIX_BYTES, KeyRef, parse_hint};
use crate::plug::storage::{FrozenBatch, Resident, StorageError, Ticket, WriteBatch};

/// Stripes; a power of two. A batch of 64 keys among so many rarely meets another's.
const STRIPES: usize = 4_096;

/// Disk reads that may be overtaken by other writers before an update gives up.
pub(super) const OVERTAKEN_MAX: usize = 32;

/// The key locks.
pub(super) struct Stripes(Box<[Mutex<u64>]>);

impl Stripes {
    pub(super) fn new() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(0)).collect())
    }

    /// The lock of a row's key.
    pub(super) fn of(&self, row: &[u8]) -> Option<MutexGuard<'_, u64>> {
        self.0.get(stripe_of(row)).map(Mutex::lock)
    }
}

/// What a decision about one key comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What was written to the buffer is the key's new record.
    Write,
    /// The stored record stays; what was written to the buffer is ignored.
    Keep,
    /// The row goes, for good; what was written to the buffer is ignored.
    Remove,
}

/// What a batch of decisions came to.
#[derive(Debug, Default)]
pub struct Update {
    /// The new record of each place, where one was written.
    pub records: Vec<Option<Bytes>>,
    /// What to wait for: covers what was written and what was seen.
    pub ticket: Ticket,
    /// Places of which nothing was appended, although others of the batch were; and why.
    pub failed: Option<(Vec<u32>, StorageError)>,
}

/// Decides the record of one key: place, stored record if any, where to write the new one.
pub(super) type Decide<'d> = dyn FnMut(usize, Option<&[u8]>, &mut Vec<u8>) -> Verdict + Send + 'd;

/// A row read outside the lock.
struct Fetched {
    bytes: Option<Bytes>,
    ticket: Ticket,
    /// The stripe's count when the read began.
    changes: u64,
}

/// One pass under the locks.
struct Pass {
    batch: FrozenBatch,
    /// The place of each row.
    places: Vec<u32>,
    ticket: Ticket,
    /// Places that need the disk, or that the batch had no room for, with their stripe's count.
    left: Vec<(u32, u64)>,
}

impl Replica {
    /// Decides each key under its lock and appends what was decided, all in one append as long as
    /// no key needs the disk and the engine takes that much at once. `keys` are storage keys.
    /// `decide` is called once for each place.
    ///
    /// # Errors
    /// What was decided so far was not appended, or only what did not need the disk was: to a
    /// caller nothing is known.
    pub async fn update(
        &self,
        keys: &[&[u8]],
        decide: &mut Decide<'_>,
    ) -> Result<Update, StorageError> {
        let mut update = self.update_each(keys, decide).await?;
        match update.failed.take() {
            None => Ok(update),
            Some((_, error)) => Err(error),
        }
    }

    /// `update` for callers that answer for each key: where the disk fails after what was in memory
    /// has been appended, `failed` names the places of which nothing was, and the others stand.
    ///
    /// # Errors
    /// Nothing was appended.
    pub async fn update_each(
        &self,
        keys: &[&[u8]],
        decide: &mut Decide<'_>,
    ) -> Result<Update, StorageError> {
        let pass = self.pass(keys, None, &[], decide)?;
        let mut update = Update { records: vec![None; keys.len()], ..Update::default() };
        let mut left = update.take(pass);
        let mut overtaken = 0;
        while !left.is_empty() {
            if overtaken == OVERTAKEN_MAX {
                let why = "other writers of these keys were always faster";
                return Ok(update.broken_off(&left, StorageError::Busy(why.into())));
            }
            let before = left.len();
            match self.pass_over_disk(keys, &left, decide).await {
                Ok(pass) => left = update.take(pass),
                Err(error) => return Ok(update.broken_off(&left, error)),
            }
            overtaken = if left.len() < before { 0 } else { overtaken + 1 };
        }
        Ok(update)
    }

    /// Reads what is left from disk and passes over it; on an error nothing of it was appended.
    async fn pass_over_disk(
        &self,
        keys: &[&[u8]],
        left: &[(u32, u64)],
        decide: &mut Decide<'_>,
    ) -> Result<Pass, StorageError> {
        let fetched = self.fetch(keys, left).await?;
        let places: Vec<u32> = left.iter().map(|(place, _)| *place).collect();
        let some: Vec<&[u8]> =
            places.iter().filter_map(|place| keys.get(*place as usize).copied()).collect();
        self.pass(&some, Some(&places), &fetched, decide)
    }

    async fn fetch(
        &self,
        keys: &[&[u8]],
        left: &[(u32, u64)],
    ) -> Result<Vec<Fetched>, StorageError> {
        let owned: Vec<Bytes> = left
            .iter()
            .filter_map(|(place, _)| keys.get(*place as usize))
            .map(|key| Bytes::copy_from_slice(key))
            .collect();
        let rows = self.engine.read(&owned).await?;
        let fetched = rows.into_iter().zip(left).map(|(row, (_, changes))| match row {
            Some(row) => Fetched { bytes: Some(row.bytes), ticket: row.ticket, changes: *changes },
            None => Fetched { bytes: None, ticket: Ticket::DURABLE, changes: *changes },
        });
        Ok(fetched.collect())
    }

    /// One pass over `keys`, whose places in the caller's batch are `places` (or their own order).
    fn pass(
        &self,
        keys: &[&[u8]],
        places: Option<&[u32]>,
        fetched: &[Fetched],
        decide: &mut Decide<'_>,
    ) -> Result<Pass, StorageError> {
        let order = LockOrder::of(keys);
        let mut locked = self.lock(&order);
        let mut writer = PassWriter {
            replica: self,
            batch: WriteBatch::with_capacity(keys.len(), keys.len() * 192),
            places: Vec::with_capacity(keys.len()),
            ticket: Ticket::DURABLE,
            left: Vec::new(),
            touched: Vec::with_capacity(keys.len()),
            moved: Vec::new(),
            changes: Vec::new(),
            hinted: Vec::new(),
            siblings: Vec::new(),
        };
        self.engine.visit_resident(keys, &mut |at, resident| {
            let Some(key) = keys.get(at) else { return };
            let place = places.map_or(at as u32, |places| places.get(at).copied().unwrap_or(0));
            let stripe = order.guard_of(at);
            if writer.batch.byte_len() >= self.batch_room_bytes {
                writer.left.push((place, stripe));
                return;
            }
            let changes = || locked.get(stripe).map_or(0, |guard| **guard);
            // The last of the same key that changed anything: one in between may have kept it.
            let earlier = order.twins_before(at, keys).find_map(|twin| {
                let twin = places.map_or(twin as u32, |of| of.get(twin).copied().unwrap_or(0));
                writer.left_by(twin)
            });
            match (earlier, resident, fetched.get(at)) {
                (Some(left), ..) => writer.decide(key, (place, stripe), left.as_deref(), decide),
                (None, Resident::Found { bytes, ticket }, _) => {
                    writer.ticket = writer.ticket.max(ticket);
                    writer.decide(key, (place, stripe), Some(bytes), decide);
                }
                (None, Resident::Absent, _) => writer.decide(key, (place, stripe), None, decide),
                (None, Resident::NeedsIo, Some(row)) if row.changes == changes() => {
                    writer.ticket = writer.ticket.max(row.ticket);
                    writer.decide(key, (place, stripe), row.bytes.as_deref(), decide);
                }
                (None, Resident::NeedsIo, _) => writer.left.push((place, stripe)),
            }
        })?;
        let PassWriter { batch, places, mut ticket, left, touched, .. } = writer;
        let PassWriter { moved, changes, hinted, siblings, .. } = writer;
        let batch = batch.freeze();
        if !batch.is_empty() {
            let appended = self.append(&batch, &moved, &hinted)?;
            ticket = ticket.max(appended);
            self.trees.changed(&changes, appended);
            self.note_siblings(&siblings);
            for stripe in touched {
                if let Some(guard) = locked.get_mut(stripe) {
                    **guard += 1;
                }
            }
        }
        // Read under the locks and after what this pass wrote: only others' writes count from here.
        let count = |stripe: usize| locked.get(stripe).map_or(0, |guard| **guard);
        let left = left.into_iter().map(|(place, stripe)| (place, count(stripe))).collect();
        Ok(Pass { batch, places, ticket, left })
    }

    /// Appends, and counts the keys that come to life or die by it. They are counted first: a count
    /// that ends in between then has what it could not see in the engine yet. Hints are counted
    /// after it.
    pub(super) fn append(
        &self,
        batch: &FrozenBatch,
        moved: &[Moved],
        hinted: &[HintMove],
    ) -> Result<Ticket, StorageError> {
        for moved in moved {
            self.counts.moved(*moved);
        }
        let appended = self.engine.append(batch);
        if let Ok(ticket) = appended {
            self.appended.fetch_max(ticket.0, Ordering::AcqRel);
        }
        if appended.is_err() {
            for moved in moved.iter().rev() {
                self.counts.moved(moved.back());
            }
        } else if !hinted.is_empty() {
            self.hints.moved(hinted);
        }
        appended
    }

    /// Tells the index what became of keys that have or had siblings. To be called under their
    /// locks, after the append.
    #[inline]
    pub(super) fn note_siblings(&self, of: &[(&[u8], Siblings)]) {
        for (key, siblings) in of {
            self.conflicts.note(key, *siblings);
        }
    }

    /// Returns when every update that held a key's lock at the call has let it go.
    pub(super) fn wait_out_updates(&self) {
        for stripe in &self.stripes.0 {
            drop(stripe.lock());
        }
    }

    fn lock(&self, order: &LockOrder) -> Vec<MutexGuard<'_, u64>> {
        let stripes = order.stripes.iter().filter_map(|stripe| self.stripes.0.get(*stripe));
        stripes.map(Mutex::lock).collect()
    }
}

impl Update {
    fn broken_off(mut self, left: &[(u32, u64)], error: StorageError) -> Self {
        self.failed = Some((left.iter().map(|(place, _)| *place).collect(), error));
        self
    }

    fn take(&mut self, pass: Pass) -> Vec<(u32, u64)> {
        self.ticket = self.ticket.max(pass.ticket);
        for ((_, value), place) in pass.batch.rows().zip(&pass.places) {
            if let Some(slot) = self.records.get_mut(*place as usize) {
                *slot = value;
            }
        }
        pass.left
    }
}

/// Collects what a pass decides.
pub(super) struct PassWriter<'r, 'k> {
    pub(super) replica: &'r Replica,
    pub(super) batch: WriteBatch,
    pub(super) places: Vec<u32>,
    pub(super) ticket: Ticket,
    /// Places that need the disk, or that the batch had no room for, with the stripe of each.
    pub(super) left: Vec<(u32, usize)>,
    /// The stripe of each row.
    pub(super) touched: Vec<usize>,
    /// Keys that come to life or die.
    pub(super) moved: Vec<Moved>,
    /// Hints that come, change or go.
    pub(super) hinted: Vec<HintMove>,
    /// What the trees are told once it is appended.
    pub(super) changes: Vec<TreeChange<'k>>,
    /// Keys that have siblings now, or had them before.
    pub(super) siblings: Vec<(&'k [u8], Siblings)>,
}

impl<'k> PassWriter<'_, 'k> {
    #[inline]
    pub(super) fn decide(
        &mut self,
        key: &'k [u8],
        (place, stripe): (u32, usize),
        stored: Option<&[u8]>,
        decide: &mut Decide<'_>,
    ) {
        let hint = parse_hint(key);
        let stored_bytes = stored.map(<[u8]>::len);
        let before = stored.map(EncodedRecord::parse);
        let left = stored.and_then(|stored| self.replica.alive(stored));
        let mut alive = left.as_deref();
        if matches!(before, Some(Err(_))) && hint.is_none() {
            alive = self.replica.damaged_record(key, alive);
        }
        let verdict = self.batch.put_with(key, |out| decide(place as usize, alive, out));
        if verdict != Verdict::Write {
            self.batch.pop();
        }
        match verdict {
            Verdict::Keep => return,
            Verdict::Remove => self.batch.delete(key),
            Verdict::Write => {}
        }
        self.places.push(place);
        self.touched.push(stripe);
        if let Some((target, _)) = hint {
            let record = self.batch.value(self.batch.len() - 1);
            if let Some(latest) = record.and_then(|record| kv_quorum::latest_of(record).ok()) {
                self.replica.latest.note(latest);
            }
            let bytes = |record: usize| key.len() + record;
            let now = record.map(|record| (bytes(record.len()), span_of(record)));
            self.hinted.push(HintMove { target, was: stored_bytes.map(bytes), now });
            return;
        }
        // Each is checked once, for the count and for the tree.
        let parse = |bytes| EncodedRecord::parse(bytes).ok();
        let before = before.and_then(Result::ok);
        let after = self.batch.value(self.batch.len() - 1).and_then(parse);
        self.changes.extend(self.replica.trees.change(key, before, after));
        let several = |record: EncodedRecord<'_>| record.live_len() > 1;
        if before.is_some_and(several) || after.is_some_and(several) {
            self.siblings.push((key, Siblings::of(after)));
        }
        // Of what a flush left less of, that less is what counts.
        let was = match &left {
            Some(Cow::Owned(left)) => is_live(left),
            left => left.is_some() && before.is_some_and(has_value),
        };
        // Before the append: a walk that finds the record finds its slot noted.
        if let Some(after) = after {
            self.replica.latest.note(after.latest());
            self.replica.garbage.note(key, after);
        }
        let now = after.is_some_and(has_value);
        if was != now
            && let Some(key) = KeyRef::parse(key)
        {
            let (slot, token) = (key.slot.index(), key.token.value());
            self.moved.push(Moved { slot, token, lives: now });
        }
    }

    /// What this pass left of a place's row, if it changed it; nothing within if it removed it.
    #[expect(clippy::option_option, reason = "not changed, removed, written")]
    fn left_by(&self, place: u32) -> Option<Option<Vec<u8>>> {
        let row = self.places.iter().rposition(|at| *at == place)?;
        Some(self.batch.value(row).map(<[u8]>::to_vec))
    }
}

/// Whether a record's winner is a value: it is then counted as a key.
pub(super) fn is_live(record: &[u8]) -> bool {
    EncodedRecord::parse(record).is_ok_and(has_value)
}

fn has_value(record: EncodedRecord<'_>) -> bool {
    record.peek().is_some_and(|peek| peek.kind != kv_quorum::Kind::Tombstone)
}

/// The stripes of a batch, ascending and each once, and where each key's is.
struct LockOrder {
    stripes: Vec<usize>,
    of_key: Vec<u32>,
    /// Whether two keys share a stripe: only then may one stand twice.
    shared: bool,
}

impl LockOrder {
    fn of(keys: &[&[u8]]) -> Self {
        let of_key: Vec<usize> = keys.iter().map(|key| stripe_of(key)).collect();
        let mut stripes = of_key.clone();
        stripes.sort_unstable();
        stripes.dedup();
        let shared = stripes.len() < keys.len();
        let of_key = of_key
            .into_iter()
            .map(|stripe| stripes.binary_search(&stripe).unwrap_or(0) as u32)
            .collect();
        Self { stripes, of_key, shared }
    }

    #[inline]
    fn guard_of(&self, at: usize) -> usize {
        self.of_key.get(at).copied().unwrap_or(0) as usize
    }

    /// The places before `at` with the same key, the last first.
    #[inline]
    fn twins_before<'o, 'k>(
        &self,
        at: usize,
        keys: &'o [&'k [u8]],
    ) -> impl Iterator<Item = usize> + use<'o, 'k> {
        let before = if self.shared { keys.split_at_checked(at) } else { None };
        let pair = before.and_then(|(earlier, rest)| Some((earlier, *rest.first()?)));
        pair.into_iter().flat_map(|(earlier, key)| {
            let twins = earlier.iter().enumerate().rev();
            twins.filter(move |(_, other)| **other == key).map(|(place, _)| place)
        })
    }
}

/// A hint shares its key's lock.
#[inline]
fn stripe_of(row: &[u8]) -> usize {
    let key = match parse_hint(row) {
        Some(_) => row.get(HINT_PREFIX_BYTES..).unwrap_or_default(),
        None => row,
    };
    match key {
        // The token's low bits: uniform, and other bits than those that choose a slot's rows.
        [_, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] => {
            usize::from(u16::from_be_bytes([*high, *low])) % STRIPES
        }
        _ => 0,
    }
}
