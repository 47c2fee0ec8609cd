//! Why a verb stopped, and the exit code that says so to a script.
//!
//! The codes are those of the `kv` command: 0 done, 1 error, 2 usage, 3 degraded, 5 unreachable.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every verb.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a verb stopped.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The command line makes no sense; nothing was done. The text says what would.
    Usage(String),
    /// A check found something, or a step failed; the text says what and what to do.
    Failed(String),
    /// A file could not be read or written. What was written before it stays.
    Io { path: PathBuf, source: io::Error },
    /// A program could not be started. Install it, or put it on the PATH.
    Spawn { program: String, source: io::Error },
    /// A program ran and failed; its own words are above this.
    Tool { command: String, code: Option<i32> },
    /// The cluster runs, but not all of it.
    Degraded(String),
    /// No node answers.
    Unreachable(String),
}

impl Error {
    /// The process's exit code.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Degraded(_) => 3,
            Self::Unreachable(_) => 5,
            Self::Failed(_) | Self::Io { .. } | Self::Spawn { .. } | Self::Tool { .. } => 1,
        }
    }

    /// For `map_err` on a call that touches `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text)
            | Self::Failed(text)
            | Self::Degraded(text)
            | Self::Unreachable(text) => f.write_str(text),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Spawn { program, source } => write!(f, "cannot start {program}: {source}"),
            Self::Tool { command, code: Some(code) } => write!(f, "`{command}` failed ({code})"),
            Self::Tool { command, code: None } => write!(f, "`{command}` was killed by a signal"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Spawn { source, .. } => Some(source),
            _ => None,
        }
    }
}
