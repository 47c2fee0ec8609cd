//! The engine: one directory, one log, one tree.
//!
//! Life of a write: [`Engine::append`] takes the commit lock, gives each operation its sequence,
//! copies the batch to the group that gathers for the log, inserts it into the memtable, and
//! returns a ticket. The log writer takes the whole group, writes it with one call, syncs once,
//! and publishes the durable ticket. Life of a read: memtable, sealed memtables, tables, newest
//! first, all of one immutable view.
//!
//! Lock order, everywhere: changes of keyspaces, step, log, manifest, commit, view.

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::commit::Batch;
use crate::config::{Config, Threads};
use crate::error::Error;
use crate::explain::{self, Explanation};
use crate::fs::Fs;
use crate::keyspace;
use crate::metrics::Stats;
use crate::recovery;
use crate::shared::Shared;
use crate::snapshot::{Iter, Snapshot};
use crate::sstable::Damage;
use crate::step::{self, StepOutcome};
use crate::ticket::{OnDurable, Ticket};
use crate::view::{Found, Resident, View};

/// An open directory. Clones share it; the last one to be dropped closes it.
#[derive(Clone, Debug)]
pub struct Engine {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Opens `dir`, creating it when it does not exist, and recovers what its log holds.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Config`], [`Error::Io`], [`Error::UnknownFormat`], and
    /// [`Error::Corrupt`] when the log or the manifest is damaged in what had been synced. A torn
    /// tail is no error, and a damaged table only fails the reads of its keys: see
    /// [`Engine::damage`].
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, config: Config) -> Result<Self, Error> {
        config.check()?;
        let lock = recovery::claim_dir(&*fs, dir)?;
        let state = recovery::recover(&fs, dir, &config)?;
        let shared = Arc::new(Shared::new(fs, dir, config, state, lock));
        let threads = match shared.config.threads {
            Threads::Background => step::spawn(&shared)?,
            Threads::Inline => Vec::new(),
        };
        Ok(Self { owner: Arc::new(Owner { shared, threads: Mutex::new(threads) }) })
    }

    /// Appends a batch: it is visible to reads at once, and durable when the returned ticket is.
    /// Returns without waiting for the disk, unless something is full (see
    /// [`Config::stall_ms_max`]). Costs one copy of the batch and one tree insert an operation.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Busy`], [`Error::Poisoned`], [`Error::Closed`]; after each of
    /// them nothing of the batch was written.
    pub fn append(&self, batch: &Batch) -> Result<Ticket, Error> {
        self.shared().append(batch, false)
    }

    /// Appends a batch and waits until it is durable: what `append` and `wait_durable` do together,
    /// with less waiting, as the caller writes the log itself when nobody else does.
    ///
    /// # Errors
    /// As [`Engine::append`], and as [`Engine::wait_durable`].
    pub fn commit(&self, batch: &Batch) -> Result<Ticket, Error> {
        let shared = self.shared();
        if shared.config.threads == Threads::Inline {
            let ticket = self.append(batch)?;
            return self.wait_durable(ticket).map(|()| ticket);
        }
        let ticket = shared.append(batch, true)?;
        shared.settle(ticket, batch.durability())?;
        Ok(ticket)
    }

    /// Runs `callback` once: with `Ok` when `ticket` is durable (at once, if it is), with an error
    /// when it never will be. Callbacks that wait run in ticket order on the thread that synced;
    /// they must not block, nor call the engine.
    pub fn on_durable(&self, ticket: Ticket, callback: OnDurable) {
        self.shared().tickets.on_durable(ticket, callback);
    }

    /// Blocks until `ticket` is durable. Inline, does the work itself.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`] when it never will be; inline also
    /// [`Error::DiskFull`], when a later step may find room for it.
    pub fn wait_durable(&self, ticket: Ticket) -> Result<(), Error> {
        let shared = self.shared();
        while shared.config.threads == Threads::Inline && ticket > self.durable() {
            // Nobody else works here: what a full disk keeps back would be waited for for ever.
            if shared.step_log()? == StepOutcome::Idle && ticket > self.durable() {
                return Err(Error::DiskFull);
            }
        }
        shared.tickets.wait(ticket)
    }

    /// The highest ticket that is durable.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.shared().tickets.durable()
    }

    /// The value of a key, if that can be told without touching the disk. Never blocks on a sync
    /// or on compaction.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a cached block turns out to be malformed.
    pub fn get_resident(&self, key: &[u8]) -> Result<Resident, Error> {
        self.read_default(key, View::get_resident)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`] when a table cannot be read: never "not found".
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        self.read_default(key, View::get_newest)
    }

    /// A walk over the keys of a range, from either end, as of now.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        self.snapshot().scan(range)
    }

    /// A walk over the keys that begin with `prefix`, from either end, as of now.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Iter {
        self.snapshot().scan_prefix(prefix)
    }

    /// A reader that sees the engine as of now, however long it is held. It keeps memory and table
    /// files alive.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared().snapshot()
    }

    /// Does one unit of work, in the mode without threads: writes and syncs what gathered for the
    /// log, or flushes a memtable, or does one compaction. With threads, does nothing.
    ///
    /// # Errors
    /// What the unit met; then the engine is poisoned.
    pub fn step(&self) -> Result<StepOutcome, Error> {
        match self.shared().config.threads {
            Threads::Inline => self.shared().step(),
            Threads::Background => Ok(StepOutcome::Idle),
        }
    }

    /// Where a read of `key` looks, in order, and where it ends. Never touches the disk.
    ///
    /// # Errors
    /// As [`Engine::get_resident`].
    pub fn explain(&self, key: &[u8]) -> Result<Explanation, Error> {
        let view = self.shared().view();
        explain::explain(&view, &view.spaces.default_key(key))
    }

    /// Reads every table from the disk and compares it with its checksum. Returns the bytes read.
    /// Goes past the cache; takes as long as reading all data.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for the first damaged table, [`Error::Io`].
    pub fn verify(&self) -> Result<u64, Error> {
        let view = self.shared().view();
        view.version.tables().map(|(_, table)| table.verify()).sum()
    }

    /// What of the tables is damaged, as far as reads and compactions have met it. Reads of these
    /// keys fail, and compaction stops before them, until they are given up. A part of level 0 that
    /// may have held keys of several keyspaces is here once for each of them; one that held only
    /// keys of dropped keyspaces is here as if of the default one, with bounds that begin with
    /// 0xFF.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        let shared = self.shared();
        let view = shared.view();
        let found = view.version.damage().into_iter();
        found.flat_map(|damage| view.spaces.told(damage, shared.config.key_bytes_max)).collect()
    }

    /// Takes the rows that `damage` may have held, of whatever keyspace, for lost: see what else
    /// [`Engine::damage`] names of the same table and offset. It reads as empty from now on, so an
    /// older version of a key may come to light, and compaction drops it. Whoever calls this must
    /// have made sure, durably, that nobody takes what is missing for deleted: after a restart
    /// before that compaction the damage is met again.
    pub fn give_up(&self, damage: &Damage) {
        let shared = self.shared();
        let view = shared.view();
        for (_, table) in view.version.tables() {
            if table.meta().file_id == damage.table {
                table.give_up(damage);
            }
        }
        shared.forget_rows();
        shared.work.note_compaction(None);
        shared.work.add();
    }

    /// What the engine has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// Writes and syncs what was appended, with threads also flushes it, so that the next open has
    /// nothing to replay, and stops the threads. Appends through other clones fail
    /// from now on, reads go on.
    ///
    /// # Errors
    /// The failure that poisoned the engine, if any did: then the tail may be lost.
    pub fn close(&self) -> Result<(), Error> {
        self.owner.close()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// Reads the newest of a key of the default keyspace.
    #[inline]
    fn read_default<T>(
        &self,
        key: &[u8],
        read: impl Fn(&View, &[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if keyspace::is_marked(key) {
            return self.read_marked(key, read);
        }
        read(&self.shared().view(), key)
    }

    /// The same for a key that lies otherwise where keyspaces are known.
    #[cold]
    fn read_marked<T>(
        &self,
        key: &[u8],
        read: impl Fn(&View, &[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let view = self.shared().view();
        let found = read(&view, &view.spaces.default_key(key));
        if view.spaces.is_on() {
            return found;
        }
        // If there have come to be keyspaces meanwhile, that may have been a key of theirs.
        let view = self.shared().view();
        if view.spaces.is_on() { read(&view, &view.spaces.default_key(key)) } else { found }
    }
}

impl Owner {
    fn close(&self) -> Result<(), Error> {
        let threads = std::mem::take(&mut *self.threads.lock());
        let own = std::thread::current().id();
        if !threads.is_empty() && threads.iter().all(|thread| thread.thread().id() != own) {
            // What can't be flushed is in the log.
            let _ = self.shared.flush_all();
        }
        self.shared.begin_close();
        if threads.iter().any(|thread| thread.thread().id() == own) {
            // The last clone went away in a callback. The threads write what has gathered, and end.
            return Ok(());
        }
        for thread in threads {
            // A thread that panicked has poisoned the engine: `check` says so.
            drop(thread.join());
        }
        self.shared.finish_close()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Inline, a drop is the end of the process: nothing more is written.
        if self.shared.config.threads == Threads::Background {
            drop(self.close());
        }
    }
}
