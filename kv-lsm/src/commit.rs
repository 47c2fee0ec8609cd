//! The commit section: batches, and the state that one short lock protects.
//!
//! Invariant: sequence, log and memtable agree: operations enter the group and the memtable in the
//! order of their sequences, under the one lock (Pebble's commit queue is the model; the sync is
//! never under it).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Condvar;

use crate::config::Config;
use crate::error::Error;
use crate::keyspace::{self, Keyspace, Registry, Token};
use crate::memtable::Memtable;
use crate::ticket::Ticket;
use crate::wal::frame::{self, Ops};
use crate::wal::writer::Group;

/// When the engine calls a batch durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// When it is synced: it survives a power cut.
    #[default]
    Sync,
    /// When it is written: it survives the end of the process. It is synced within so many
    /// milliseconds; without threads, by a later step that has nothing to write.
    Periodic {
        /// Longest time until the sync begins, in milliseconds.
        ms: u64,
    },
    /// When it is written: it survives the end of the process. The engine syncs it when a segment
    /// ends or something else must be synced.
    Os,
}

/// Operations that become visible and durable together, in order. Encoded as they are in the log.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    payload: Vec<u8>,
    ops: u32,
    key_bytes: usize,
    value_bytes: usize,
    durability: Durability,
    /// The keyspaces that it writes to, beside the default one.
    keyspaces: Vec<Token>,
    /// The operations on keys of the default keyspace that lie otherwise where keyspaces are known.
    marked: Vec<u32>,
}

impl Batch {
    /// An empty batch with [`Durability::Sync`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets when the engine calls this batch durable.
    pub fn set_durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = durability;
        self
    }

    /// Stores `value` under `key`. Of several operations on one key the last counts.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> &mut Self {
        self.push_default(key, Some(value))
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) -> &mut Self {
        self.push_default(key, None)
    }

    /// As [`Batch::put`], in another keyspace. What a batch does in several it does as one.
    pub fn put_in(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> &mut Self {
        self.push_in(keyspace, key, Some(value))
    }

    /// As [`Batch::delete`], in another keyspace.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: &[u8]) -> &mut Self {
        self.push_in(keyspace, key, None)
    }

    /// Removes all operations, keeping the memory and the durability.
    pub fn clear(&mut self) {
        self.payload.clear();
        self.keyspaces.clear();
        self.marked.clear();
        self.ops = 0;
        self.key_bytes = 0;
        self.value_bytes = 0;
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops as usize
    }

    /// Whether there are no operations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops == 0
    }

    /// Encoded size in bytes: what the batch adds to the log. (In a directory with keyspaces a key
    /// of the default one that begins with 0xFF adds four bytes more.)
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Bytes that it takes in the log, however its keys are stored.
    pub(crate) fn stored_bytes_max(&self) -> usize {
        self.payload.len() + keyspace::PREFIX_BYTES * self.marked.len()
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Checks the batch against the limits.
    pub(crate) fn check(&self, config: &Config) -> Result<(), Error> {
        for (what, bytes, bytes_max) in [
            ("key", self.key_bytes, config.key_bytes_max),
            ("value", self.value_bytes, config.value_bytes_max),
            ("batch", self.payload.len(), config.batch_bytes_max),
        ] {
            if bytes > bytes_max {
                return Err(Error::TooLarge { what, bytes, bytes_max });
            }
        }
        Ok(())
    }

    /// Whether it matters for the batch which keyspaces there are.
    pub(crate) fn looks_at_keyspaces(&self) -> bool {
        !(self.keyspaces.is_empty() && self.marked.is_empty())
    }

    /// Holds the batch against the keyspaces that there are; gives its payload as it must be
    /// stored, if that is not as it is. `marked_wait`: whether that is being settled just now.
    pub(crate) fn admit(
        &self,
        registry: &Registry,
        marked_wait: bool,
        bytes_max: usize,
    ) -> Result<Option<Bytes>, Error> {
        self.keyspaces.iter().try_for_each(|token| token.check(registry))?;
        if self.marked.is_empty() {
            return Ok(None);
        }
        if marked_wait {
            return Err(Error::Busy { what: "keyspaces" });
        }
        if !registry.is_on() {
            return Ok(None);
        }
        let mut stored = Vec::with_capacity(self.stored_bytes_max());
        let mut marked = self.marked.iter().peekable();
        for (op, n) in Ops::new(Bytes::copy_from_slice(&self.payload)).flatten().zip(0_u32..) {
            if marked.next_if_eq(&&n).is_some() {
                let key = registry.default_key(op.key());
                frame::push_op(&mut stored, &key, op.value_slice());
            } else {
                frame::push_op(&mut stored, op.key(), op.value_slice());
            }
        }
        if stored.len() > bytes_max {
            return Err(Error::TooLarge { what: "batch", bytes: stored.len(), bytes_max });
        }
        Ok(Some(Bytes::from(stored)))
    }

    fn push_default(&mut self, key: &[u8], value: Option<&[u8]>) -> &mut Self {
        if keyspace::is_marked(key) {
            self.marked.push(self.ops);
        }
        self.push(&[], key, value)
    }

    fn push_in(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) -> &mut Self {
        let token = keyspace.token();
        let known = |other: &Token| (other.engine, other.id) == (token.engine, token.id);
        if !self.keyspaces.iter().rev().any(known) {
            self.keyspaces.push(token.clone());
        }
        self.push(&keyspace::prefix(token.id), key, value)
    }

    #[inline]
    fn push(&mut self, prefix: &[u8], key: &[u8], value: Option<&[u8]>) -> &mut Self {
        // Lengths that the encoding cannot hold are above every limit: `check` refuses the batch.
        frame::push_op_behind(&mut self.payload, prefix, key, value);
        self.ops += 1;
        self.key_bytes = self.key_bytes.max(key.len());
        self.value_bytes = self.value_bytes.max(value.map_or(0, <[u8]>::len));
        self
    }
}

/// What is protected by the commit lock.
#[derive(Debug)]
pub(crate) struct Commit {
    /// Gathers while the writer is busy with the group before.
    pub(crate) group: Group,
    /// What the gathered batches need.
    pub(crate) need: Need,
    /// The memtable that is inserted into.
    pub(crate) active: Arc<Memtable>,
    /// How the log writer's thread sleeps.
    pub(crate) writer_sleeps: Sleep,
    /// What has gathered is the thread's to write.
    pub(crate) writer_wanted: bool,
    /// So much was written without a sync that the log writer should see to it.
    pub(crate) disk_behind: bool,
    /// When what is written must be synced.
    pub(crate) sync_due: Option<Instant>,
    /// The last operation before the last mark.
    pub(crate) marked_seq: u64,
    /// The log is above its bound: seal at the next append.
    pub(crate) seal_wanted: bool,
    /// Keyspaces are about to be known, and with them keys that begin with their mark lie
    /// otherwise: none comes in meanwhile.
    pub(crate) marked_keys_wait: bool,
    /// No more appends.
    pub(crate) closed: bool,
}

impl Commit {
    pub(crate) fn new(next_seq: u64, active: Arc<Memtable>) -> Self {
        Self {
            group: Group::reuse(Vec::new(), next_seq),
            need: Need::default(),
            active,
            writer_sleeps: Sleep::Not,
            writer_wanted: false,
            disk_behind: false,
            sync_due: None,
            marked_seq: next_seq - 1,
            seal_wanted: false,
            marked_keys_wait: false,
            closed: false,
        }
    }

    /// Gives the operations of `batch` their sequences and enters them into group and memtable.
    /// `payload` is a copy of the batch's; `snapshot` the newest sequence still read at.
    pub(crate) fn append(&mut self, payload: Bytes, batch: &Batch, snapshot: u64) -> Ticket {
        let first_seq = self.last_seq() + 1;
        self.group.frame.extend_from_slice(&payload);
        let inserted = self.active.insert(first_seq, payload, snapshot);
        assert!(inserted == Ok(batch.ops), "a batch that does not parse");
        self.group.ops += batch.ops;
        self.need.add(batch.durability);
        Ticket::from_seq(self.last_seq())
    }

    /// Sequence of the last operation appended.
    pub(crate) fn last_seq(&self) -> u64 {
        self.group.last_seq()
    }

    /// Makes what has gathered the log writer's, and wakes it if it sleeps.
    pub(crate) fn wake_writer(&mut self, log_wake: &Condvar) {
        self.writer_wanted = true;
        self.rouse_writer(log_wake);
    }

    /// Makes the log writer look anew whether there is something to do.
    pub(crate) fn rouse_writer(&mut self, log_wake: &Condvar) {
        if std::mem::replace(&mut self.writer_sleeps, Sleep::Not) != Sleep::Not {
            log_wake.notify_one();
        }
    }

    /// Takes what has gathered; the next group follows it, in the memory of `spare`.
    pub(crate) fn take(&mut self, spare: Vec<u8>) -> (Group, Need) {
        let next = Group::reuse(spare, self.group.last_seq() + 1);
        (std::mem::replace(&mut self.group, next), std::mem::take(&mut self.need))
    }
}

/// How the log writer's thread sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// It does not: it looks before it sleeps again.
    Not,
    /// It looks by itself in a while.
    Lightly,
    /// Until it is woken: nothing was written since the last mark.
    Deeply,
}

/// The strictest of what a group's batches need.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    /// Sync before the tickets are published.
    pub(crate) sync: bool,
    /// Sync within so many milliseconds.
    pub(crate) within_ms: Option<u64>,
}

impl Need {
    pub(crate) fn add(&mut self, durability: Durability) {
        match durability {
            Durability::Sync => self.sync = true,
            Durability::Periodic { ms } => {
                self.within_ms = Some(self.within_ms.map_or(ms, |least| least.min(ms)));
            }
            Durability::Os => {}
        }
    }
}
