//! What can go wrong, what that did to the data, and what to do next.
//!
//! Errors are cheap to clone: one failed sync is told to every writer that waited for it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that this crate can answer instead of a result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused a call. From a read: nothing changed, try again or read another
    /// replica. From the log, a flush or the manifest: the engine is poisoned as well, and what was
    /// not yet durable may be lost.
    Io {
        /// What was being done, as a verb: `read`, `sync`, `rename`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// Bytes that had been written and synced are not what was written. Nothing is served from
    /// them. Restore the file from a copy, or drop the directory and repair it from its peers.
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where the damaged unit (frame, block, record) begins, in bytes.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// The file was written by a version of this crate that this one cannot read. Nothing changed.
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The version found in it.
        version: u32,
    },
    /// The file was written by a build that had a part which this one was made without. Nothing
    /// changed and nothing is lost: open it with a build that has the feature.
    NeedsFeature {
        /// The file.
        path: PathBuf,
        /// The feature of this crate.
        feature: &'static str,
    },
    /// An earlier failure made the engine unfit to write: it answers reads only. What was durable
    /// is kept; what was not may be lost. Find the cause, then open the directory anew.
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
    /// Something is not as it should be with a keyspace of this name. Nothing was written.
    Keyspace {
        /// Its name.
        name: Arc<str>,
        /// What is the matter with it.
        what: &'static str,
    },
    /// Something is above its limit. Nothing was written.
    TooLarge {
        /// What is too large: `key`, `value`, `batch`.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// Flush or sync did not keep up, and the write waited for `stall_ms_max`. Nothing was
    /// written. Try again later, and more slowly. When `level 0` stays full, see
    /// [`Stats::compaction_stopped`](crate::Stats::compaction_stopped).
    Busy {
        /// What was full: `log buffer`, `sealed memtables`, `level 0`; or `keyspaces`, which are
        /// being changed: the first one is made and a key begins with 0xFF, or a look at a
        /// directory that is open elsewhere met changes only.
        what: &'static str,
    },
    /// The disk has no room. Nothing was written, reads go on, nothing durable is lost. Writes are
    /// taken again by themselves when there is room.
    DiskFull,
    /// Another engine, in this or another process, has the directory open. Nothing changed.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The engine was closed. Nothing was written.
    Closed,
    /// A setting contradicts another or the format. Nothing was opened.
    Config {
        /// Which setting, and the rule that it breaks.
        what: &'static str,
    },
}

impl Error {
    /// An [`Error::Io`] for `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// Whether there was no room for something that can be written again from the start. A sync
    /// that fails is never such a thing, nor is what comes after the manifest knows of it.
    pub(crate) fn is_full(&self) -> bool {
        let Self::Io { action, source, .. } = self else { return false };
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(*action, "create" | "write") && full.contains(&source.kind())
    }

    /// An [`Error::Corrupt`] at `offset` of `path`.
    pub(crate) fn corrupt(path: &Path, offset: u64, what: &'static str) -> Self {
        Self::Corrupt { path: path.to_path_buf(), offset, what }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, source } => {
                write!(f, "cannot {action} {}: {source}", path.display())
            }
            Self::Corrupt { path, offset, what } => {
                write!(f, "damage in {} at byte {offset}: {what}", path.display())
            }
            Self::UnknownFormat { path, version } => {
                write!(f, "{} has the unknown format version {version}", path.display())
            }
            Self::NeedsFeature { path, feature } => {
                write!(f, "{} needs a build with the feature `{feature}`", path.display())
            }
            Self::Poisoned { cause } => write!(f, "writes have stopped after a failure: {cause}"),
            Self::Keyspace { name, what } => write!(f, "keyspace {name:?}: {what}"),
            Self::TooLarge { what, bytes, bytes_max } => {
                write!(f, "a {what} of {bytes} bytes is above the limit of {bytes_max}")
            }
            Self::Busy { what } => write!(f, "{what} full: storage does not keep up"),
            Self::DiskFull => f.write_str("the disk is full"),
            Self::Locked { path } => {
                write!(f, "{} is held by another engine", path.display())
            }
            Self::Closed => f.write_str("the engine is closed"),
            Self::Config { what } => write!(f, "bad configuration: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
