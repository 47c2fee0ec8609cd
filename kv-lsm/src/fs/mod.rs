//! The file system as the engine sees it: the one seam through which bytes reach a disk.
//!
//! Positioned reads and writes, explicit syncs of files and directories, and nothing implicit, so
//! that [`MemFs`] can model exactly what a power cut may do (LevelDB's `fault_injection_test` and
//! Pebble's `vfs` are the models). Invariant that every implementation keeps: what `sync_data` or
//! `sync_dir` returned `Ok` for survives a crash.

mod failing;
mod mem;
#[cfg(unix)]
mod os;
mod overlay;

pub use failing::{FailFs, FailKind};
pub use mem::MemFs;
#[cfg(unix)]
pub use os::OsFs;
pub use overlay::OverlayFs;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A file that must not exist yet, to read and write.
    CreateNew,
}

/// A file system. Names live in directories, and a directory's changes are durable only after
/// `sync_dir`.
pub trait Fs: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Renames a file inside its directory, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name in another directory. Where a file has one name only, the second
    /// is that of a copy: nobody changes either of them.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        crate::checkpoint::copy(self, from, to)
    }
    /// Removes a file. Handles that are open stay usable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory with its parents; one that exists is no error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a directory's creations, renames and removals durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on a path, held until the returned guard is dropped. The error kind
    /// is `WouldBlock` when another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Fills `buf` from `offset` if that needs no wait for the disk, and says whether it did: what
    /// the system's page cache has is as good as what ours has. An implementation that can't tell
    /// answers `false`, and the caller reads elsewhere, where it may wait.
    fn read_at_once(&self, offset: u64, buf: &mut [u8]) -> io::Result<bool> {
        let _ = (offset, buf);
        Ok(false)
    }
    /// Writes all of `bytes` at `offset`, extending the file with zeros where needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's bytes and length durable (not its name). After an error nothing is known
    /// about what was not synced before, and a second call proves nothing.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
