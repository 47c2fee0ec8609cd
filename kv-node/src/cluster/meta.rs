//! Small facts that a directory must never forget: its id, tenure, lease, promises, record,
//! layouts.
//!
//! Each is a file of its own, replaced by writing a new one beside it, syncing it, renaming it over
//! the old and syncing the directory; a power cut leaves the old or the new, never a mixture. A
//! file that is there and can't be read is an error, not "never written": a node that forgot a
//! promise or its lease could delete acknowledged writes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_lsm::fs::{Fs, OpenMode};
use parking_lot::Mutex;

use crate::teeth::{Bug, planted};

/// "KVMETA" and the format version.
const MAGIC: [u8; 8] = *b"KVMETA\0\x01";

/// Magic, length and checksum.
const HEADER_BYTES: usize = 16;

/// Bytes of one fact at most.
const FACT_BYTES_MAX: usize = 16 << 20;

/// The directory's facts.
#[derive(Debug)]
pub struct MetaStore {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// One writer at a time: two would share a temporary name.
    writing: Mutex<()>,
}

impl MetaStore {
    /// Opens, and makes, the directory.
    ///
    /// # Errors
    /// The directory can't be made or synced.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path) -> io::Result<Self> {
        fs.create_dir(dir)?;
        fs.sync_dir(dir)?;
        Ok(Self { fs, dir: dir.to_owned(), writing: Mutex::new(()) })
    }

    /// A fact, or `None` if it was never stored.
    ///
    /// # Errors
    /// It is there and can't be read, or is damaged.
    pub fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        if !self.fs.list(&self.dir)?.iter().any(|file| file == name) {
            return Ok(None);
        }
        let path = self.dir.join(name);
        let file = self.fs.open(&path, OpenMode::Read)?;
        let bytes = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if bytes > FACT_BYTES_MAX {
            return Err(damaged(&path, "longer than any fact"));
        }
        let mut buffer = vec![0; bytes];
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(filled as u64, rest)? {
                0 => return Err(damaged(&path, "shorter than its length")),
                read => filled += read,
            }
        }
        match unframe(&buffer) {
            Some(fact) => Ok(Some(fact.to_vec())),
            None => Err(damaged(&path, "bad header or checksum")),
        }
    }

    /// Stores a fact; durable on return.
    ///
    /// # Errors
    /// Either the old or the new fact will be found, it is not known which.
    pub fn store(&self, name: &str, fact: &[u8]) -> io::Result<()> {
        let _one = self.writing.lock();
        let temporary = self.dir.join(format!("{name}.new"));
        if self
            .fs
            .list(&self.dir)?
            .iter()
            .any(|file| Path::new(file) == Path::new(&format!("{name}.new")))
        {
            self.fs.remove(&temporary)?;
        }
        let file = self.fs.open(&temporary, OpenMode::CreateNew)?;
        file.write_at(0, &frame(fact))?;
        if !planted(Bug::MetaNotSynced) {
            file.sync_data()?;
        }
        drop(file);
        self.fs.rename(&temporary, &self.dir.join(name))?;
        self.fs.sync_dir(&self.dir)
    }

    /// Forgets a fact, durably; one that was never stored is forgotten already.
    ///
    /// # Errors
    /// The fact or nothing will be found, it is not known which.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let _one = self.writing.lock();
        if self.fs.list(&self.dir)?.iter().any(|file| file == name) {
            self.fs.remove(&self.dir.join(name))?;
            self.fs.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}

fn frame(fact: &[u8]) -> Vec<u8> {
    assert!(fact.len() + HEADER_BYTES <= FACT_BYTES_MAX, "facts are small");
    let mut out = Vec::with_capacity(HEADER_BYTES + fact.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(fact.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(fact).to_le_bytes());
    out.extend_from_slice(fact);
    out
}

fn unframe(bytes: &[u8]) -> Option<&[u8]> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, fact) = rest.split_first_chunk::<4>()?;
    let sound = *magic == MAGIC
        && u32::from_le_bytes(*length) as usize == fact.len()
        && u32::from_le_bytes(*checksum) == crc32fast::hash(fact);
    sound.then_some(fact)
}

fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: {what}; restore it from nothing: replace this node", path.display()),
    )
}
