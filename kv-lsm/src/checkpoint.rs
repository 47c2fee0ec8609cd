//! Copies of a directory and looks into one: checkpoints, opening without writing, sizes.
//!
//! A checkpoint is a directory of its own, made while the engine works: the tables of one moment,
//! as hard links where the file system has them, and a manifest that names them. To restore it is
//! to open it. Nothing of the log is in it, as what was appended before the call is flushed first.
//!
//! Invariant: the manifest of a checkpoint comes last; a directory without it is no checkpoint, and
//! does not open as one.

use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Threads};
use crate::engine::Engine;
use crate::error::Error;
use crate::fs::{Fs, OpenMode, OverlayFs};
use crate::keyspace;
use crate::shared::Shared;
use crate::sstable::table_path;
use crate::step::StepOutcome;
use crate::ticket::Ticket;
use crate::version::Manifest;

/// How often a look at a directory begins again because its keyspaces have changed.
const LOOKS_MAX: usize = 10;

/// How long one who waits for a flush sleeps before he looks whether it can come at all.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Engine {
    /// Opens `dir` as it is, without changing a byte of it and without its lock: what its log holds
    /// is replayed in memory. Appends answer [`Error::Closed`]. Of a directory that another engine
    /// has open it sees some moment, or fails when files go while it opens.
    ///
    /// # Errors
    /// As [`Engine::open`]; also [`Error::Io`] when there is no such directory, [`Error::Busy`]
    /// when the keyspaces are changed again and again.
    #[expect(clippy::needless_pass_by_value, reason = "as `open` has it")]
    pub fn open_read_only(fs: Arc<dyn Fs>, dir: &Path, config: Config) -> Result<Self, Error> {
        Manifest::exists(&*fs, dir)?;
        let config = Config { threads: Threads::Inline, ..config };
        for _ in 0..LOOKS_MAX {
            let look = Arc::new(OverlayFs::new(Arc::clone(&fs)));
            let engine = Self::open(look, dir, config.clone())?;
            // The log was read after the manifest, and may have keys of keyspaces that came
            // between.
            let look: Arc<dyn Fs> = Arc::new(OverlayFs::new(Arc::clone(&fs)));
            look.create_dir(dir).map_err(|e| Error::io("create", dir, e))?;
            let (_, now) = Manifest::open(&look, dir, config.manifest_bytes_max)?;
            if engine.shared().view().spaces.is_of(now.next_keyspace, &now.keyspaces) {
                engine.shared().commit.lock().closed = true;
                return Ok(engine);
            }
        }
        Err(Error::Busy { what: "keyspaces" })
    }

    /// Flushes everything that was appended before the call to tables.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn flush(&self) -> Result<Ticket, Error> {
        self.shared().flush_all().map(Ticket::from_seq)
    }

    /// Makes `to`, a directory that has no files, a copy of the engine's as of now, which can be
    /// opened by itself. Tables are shared by hard links, as they never change. Compactions and
    /// changes of the keyspaces wait until it is done. Gives the ticket up to which it has
    /// everything.
    ///
    /// # Errors
    /// [`Error::Io`], also when `to` has files; then what is in `to` is no checkpoint. As
    /// [`Engine::append`].
    pub fn checkpoint(&self, to: &Path) -> Result<Ticket, Error> {
        let shared = self.shared();
        let fs = &*shared.fs;
        fs.create_dir(to).map_err(|e| Error::io("create", to, e))?;
        let names = fs.list(to).map_err(|e| Error::io("list", to, e))?;
        if !names.is_empty() {
            return Err(Error::io("fill", to, io::ErrorKind::AlreadyExists.into()));
        }
        // Else the copy could know of a drop and lack what came before it.
        let _same_keyspaces = shared.keyspace_changes.lock();
        shared.flush_all()?;
        // Under its lock no table of the newest version is removed.
        let manifest = shared.manifest.lock();
        for (_, table) in shared.view().version.tables() {
            let id = table.meta().file_id;
            let (old, new) = (table_path(&shared.dir, id), table_path(to, id));
            fs.link(&old, &new).map_err(|e| Error::io("link", &new, e))?;
        }
        fs.sync_dir(to).map_err(|e| Error::io("sync", to, e))?;
        let flushed_seq = manifest.copy_to(fs, to)?;
        drop(manifest);
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        fs.sync_dir(parent).map_err(|e| Error::io("sync", parent, e))?;
        Ok(Ticket::from_seq(flushed_seq))
    }

    /// As [`Engine::verify`], but goes on behind damage: gives what is wrong with each table, at
    /// most one error for each.
    #[must_use]
    pub fn verify_all(&self) -> Vec<Error> {
        let view = self.shared().view();
        view.version.tables().filter_map(|(_, table)| table.verify().err()).collect()
    }

    /// About how many bytes of tables the keys of a range take on the disk. Memtables and what is
    /// overwritten above are not told apart. Never touches the disk.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a table whose index turns out to be malformed.
    pub fn approximate_bytes<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<u64, Error> {
        self.shared().view().approximate_bytes(keyspace::DEFAULT, &range)
    }
}

impl Shared {
    /// Flushes the memtables; gives the last sequence that they had.
    pub(crate) fn flush_all(&self) -> Result<u64, Error> {
        let mut commit = self.commit.lock();
        let seq = commit.last_seq();
        if !commit.active.is_empty() {
            self.seal(&mut commit);
        }
        while !self.view().sealed.is_empty() && self.flushed_seq() < seq {
            self.poison.check()?;
            if commit.closed {
                return Err(Error::Closed);
            }
            if self.full.is_set() {
                return Err(Error::DiskFull);
            }
            if self.config.threads == Threads::Inline {
                drop(commit);
                if self.step()? == StepOutcome::Idle {
                    return Err(Error::DiskFull);
                }
                commit = self.commit.lock();
            } else {
                self.room.wait_for(&mut commit, LOOK_AGAIN);
            }
        }
        Ok(seq)
    }
}

/// Copies a file and syncs the copy: what [`Fs::link`] does where there are no hard links.
pub(crate) fn copy(fs: &(impl Fs + ?Sized), from: &Path, to: &Path) -> io::Result<()> {
    const PART_BYTES: usize = 1 << 20;
    let (old, new) = (fs.open(from, OpenMode::Read)?, fs.open(to, OpenMode::CreateNew)?);
    let mut part = vec![0; PART_BYTES];
    let mut offset = 0;
    loop {
        let read = old.read_at(offset, &mut part)?;
        if read == 0 {
            return new.sync_data();
        }
        new.write_at(offset, part.get(..read).unwrap_or_default())?;
        offset += read as u64;
    }
}
