//! Why a command did not do what was asked, and the exit codes that scripts go by.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kv_client::handshake::HandshakeError;
use kv_client::wire::ServiceError;

/// How a command ended. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Done, and the cluster is well as far as the command asked.
    Ok = 0,
    /// An error that is none of the others; for `get`, there is no value.
    Error = 1,
    /// The command line can't be understood.
    Usage = 2,
    /// The cluster serves, but something is down or needs an operator.
    Degraded = 3,
    /// Too few replicas answered, or too few are up to serve some keys.
    NoQuorum = 4,
    /// No node could be reached.
    Unreachable = 5,
    /// No answer came in time; a write may be stored.
    Timeout = 124,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed. `exit` tells what it means for a script.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The call failed; the client's error says what happened to the data.
    Client(kv_client::Error),
    /// The terminal, a file or a pipe failed. A write that was asked for may be stored.
    Io(io::Error),
    /// A file can't be opened or written.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A word of the command line is not what it should be: nothing was sent. The text says which.
    Input(String),
    /// No Redis server answered there. What was sent last may have been done.
    Peer {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A Redis server refused, or answered something that it should not have.
    Redis {
        /// Which.
        address: String,
        /// What it said.
        told: String,
    },
    /// It was stopped from outside before its end. The text says what is left behind.
    Stopped(String),
    /// A rule does not decide between siblings: nothing was written. The text says why.
    Undecided(String),
    /// What was waited for did not come to be, and it is not known whether it will. The text says
    /// what must not be done now.
    Unsettled(String),
}

impl Error {
    /// Names the file that an error was about.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }

    /// The exit code for it.
    pub fn exit(&self) -> Exit {
        let error = match self {
            Self::Client(error) => error,
            Self::Io(_)
            | Self::File { .. }
            | Self::Undecided(_)
            | Self::Redis { .. }
            | Self::Stopped(_) => return Exit::Error,
            Self::Peer { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                return Exit::Timeout;
            }
            Self::Peer { .. } => return Exit::Unreachable,
            Self::Input(_) => return Exit::Usage,
            Self::Unsettled(_) => return Exit::Degraded,
        };
        match error {
            kv_client::Error::Unreachable { .. }
            | kv_client::Error::Handshake { error: HandshakeError::Io(_), .. } => Exit::Unreachable,
            kv_client::Error::TimedOut => Exit::Timeout,
            kv_client::Error::Service(
                ServiceError::NoReplicas { .. }
                | ServiceError::Indeterminate { .. }
                | ServiceError::Unavailable { .. }
                | ServiceError::NotServing(_),
            ) => Exit::NoQuorum,
            _ => Exit::Error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "{error}"),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Peer { address, source } => write!(f, "{address}: {source}"),
            Self::Redis { address, told } => write!(f, "{address}: {told}"),
            Self::Input(what)
            | Self::Undecided(what)
            | Self::Stopped(what)
            | Self::Unsettled(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(error) => Some(error),
            Self::Io(error)
            | Self::Peer { source: error, .. }
            | Self::File { source: error, .. } => Some(error),
            Self::Input(_)
            | Self::Undecided(_)
            | Self::Redis { .. }
            | Self::Stopped(_)
            | Self::Unsettled(_) => None,
        }
    }
}

impl From<kv_client::Error> for Error {
    fn from(error: kv_client::Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_the_kinds_apart() {
        let service = |error| Error::Client(kv_client::Error::Service(error));
        let none = Vec::new;
        let table = [
            (service(ServiceError::NoReplicas { wanted: 2, down: none() }), 4),
            (service(ServiceError::Indeterminate { reached: 1, wanted: 2, silent: none() }), 4),
            (service(ServiceError::Unavailable { reached: 1, wanted: 2, silent: none() }), 4),
            (service(ServiceError::NotServing("no layout".into())), 4),
            (service(ServiceError::BadContext), 1),
            (Error::Client(kv_client::Error::Unreachable { tried: Vec::new() }), 5),
            (Error::Client(kv_client::Error::TimedOut), 124),
            (Error::Client(kv_client::Error::Lost("reset".into())), 1),
            (Error::Input("not hex".into()), 2),
        ];
        for (error, code) in table {
            assert_eq!(error.exit() as u8, code, "{error}");
        }
        let secret = HandshakeError::Secret;
        let refused = kv_client::Error::Handshake { address: "a:1".into(), error: secret };
        assert_eq!(Error::Client(refused).exit(), Exit::Error);
    }
}
