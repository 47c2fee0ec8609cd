//! A file system that fails at one call: the loop over every call of a script (`SQLite`'s) is
//! built on it.
//!
//! Invariant: a failed call had no effect on what is below, save a torn write, which wrote a
//! prefix.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{File, Fs, OpenMode};

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailKind {
    /// That call fails with this kind of error, later ones pass.
    Once(io::ErrorKind),
    /// That call and all later ones fail: the process is as good as dead.
    From(io::ErrorKind),
    /// If that call is a write, half of it is written; it fails, as do all later ones.
    Torn,
}

/// Passes calls on to another file system and fails the `i`-th, counted from 0 over the file
/// system and all its files.
#[derive(Clone, Debug)]
pub struct FailFs {
    inner: Arc<dyn Fs>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    calls: AtomicU64,
    fails_at: u64,
    kind: FailKind,
}

impl FailFs {
    /// Fails call `fails_at` of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Fs>, fails_at: u64, kind: FailKind) -> Self {
        Self { inner, gate: Arc::new(Gate { calls: AtomicU64::new(0), fails_at, kind }) }
    }

    /// Calls made until now.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.gate.calls.load(Ordering::Relaxed)
    }
}

impl Gate {
    /// Counts a call; whether it is exactly the failing one comes with the error.
    fn pass(&self) -> Result<(), (bool, io::Error)> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let (kind, fails) = match self.kind {
            FailKind::Once(kind) => (kind, call == self.fails_at),
            FailKind::From(kind) => (kind, call >= self.fails_at),
            FailKind::Torn => (io::ErrorKind::Other, call >= self.fails_at),
        };
        if fails { Err((call == self.fails_at, kind.into())) } else { Ok(()) }
    }

    fn check(&self) -> io::Result<()> {
        self.pass().map_err(|(_, error)| error)
    }
}

impl Fs for FailFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.gate.check()?;
        let file = self.inner.open(path, mode)?;
        Ok(Arc::new(FailFile { inner: file, gate: Arc::clone(&self.gate) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate.check()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.gate.check()?;
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.gate.check()?;
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.gate.check()?;
        self.inner.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.gate.check()?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.gate.check()?;
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct FailFile {
    inner: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl File for FailFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.gate.check()?;
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.gate.pass() {
            Ok(()) => self.inner.write_at(offset, bytes),
            Err((first, error)) => {
                if first && self.gate.kind == FailKind::Torn {
                    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                    self.inner.write_at(offset, half)?;
                }
                Err(error)
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.check()?;
        self.inner.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.gate.check()?;
        self.inner.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.gate.check()?;
        self.inner.truncate(len)
    }
}
