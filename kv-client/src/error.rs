//! What a call of the client may come to instead of its answer, and what that says about the data.

use std::fmt;

use crate::handshake::HandshakeError;
use crate::wire::ServiceError;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call has no ordinary answer. `may_have_happened` tells what that means for a write.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No address could be reached: nothing was sent. Retry later, check the addresses.
    Unreachable {
        /// Each address that was tried, and why it failed.
        tried: Vec<(String, String)>,
    },
    /// A node refused the handshake: nothing was sent. Check the secret, the port, the versions.
    Handshake {
        /// Which address.
        address: String,
        /// Why.
        error: HandshakeError,
    },
    /// The request does not fit the frame limit: nothing was sent. Send less at once.
    TooLarge {
        /// Bytes of a frame at most.
        frame_bytes_max: u32,
    },
    /// The connection was lost after the request may have been sent: a write may have happened.
    /// Read before you write again.
    Lost(String),
    /// No answer within the deadline: a write may have happened. Read before you write again.
    TimedOut,
    /// The node answered with an error, which says itself what happened.
    Service(ServiceError),
    /// The node's answer breaks the protocol: a write may have happened. Report it.
    Protocol(&'static str),
    /// The client was given nothing to work with, such as no address. Nothing was sent.
    Config(&'static str),
}

impl Error {
    /// Whether a write that failed so may nevertheless be stored.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Handshake { .. }
            | Self::TooLarge { .. }
            | Self::Config(_) => false,
            Self::Lost(_) | Self::TimedOut | Self::Protocol(_) => true,
            Self::Service(error) => error.may_have_happened(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { tried } => {
                write!(f, "no node could be reached")?;
                tried.iter().try_for_each(|(address, why)| write!(f, "; {address}: {why}"))
            }
            Self::Handshake { address, error } => write!(f, "{address}: {error}"),
            Self::TooLarge { frame_bytes_max } => {
                write!(f, "the request is over the frame limit of {frame_bytes_max} bytes")
            }
            Self::Lost(why) => write!(f, "connection lost, a write may have happened: {why}"),
            Self::TimedOut => write!(f, "no answer in time, a write may have happened"),
            Self::Service(error) => write!(f, "{error}"),
            Self::Protocol(what) => write!(f, "the answer breaks the protocol: {what}"),
            Self::Config(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Handshake { error, .. } => Some(error),
            Self::Service(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ServiceError> for Error {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}
