//! How a message becomes a frame: postcard, behind a 32-bit length, never over a stated limit.
//!
//! tarpc, the peers' in-process transport and fixtures share this one pair of functions, so that
//! what the simulation exercises is what travels. postcard is not self-describing: both ends must
//! agree on the protocol version, which the handshake has settled before the first frame.
//!
//! ```text
//! frame = length (u32, big-endian, bytes that follow) | postcard of one message
//! ```
//!
//! Invariant: a frame over `frame_bytes_max` is neither sent nor buffered, and a decoded message
//! used every byte of its frame.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::LengthDelimitedCodec;

/// Bytes of a frame at most, unless configured otherwise: 16 MiB, room for a key with the most
/// siblings that are allowed at the largest pair limit's usual sizes.
pub const FRAME_BYTES_MAX_DEFAULT: u32 = 16 * 1024 * 1024;

/// Why bytes and messages did not turn into each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The message encodes to more than the limit: it was not sent.
    TooLarge {
        /// Bytes that it needs.
        bytes: usize,
        /// The limit.
        bytes_max: u32,
    },
    /// The bytes are not such a message, or go on after it: the connection ends.
    Malformed(postcard::Error),
    /// Bytes are left over after the message: the connection ends.
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "a message of {bytes} bytes is over the frame limit of {bytes_max}")
            }
            Self::Malformed(error) => write!(f, "malformed message: {error}"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes after the end of a message"),
        }
    }
}

impl std::error::Error for CodecError {}

impl From<CodecError> for io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Encodes a message. Linear in its size.
///
/// # Errors
/// `TooLarge`, or `Malformed` for a type that postcard can't express.
pub fn encode<T: Serialize>(message: &T, frame_bytes_max: u32) -> Result<Bytes, CodecError> {
    const FIRST_BYTES: usize = 1024;
    let bytes = postcard::to_extend(message, Vec::with_capacity(FIRST_BYTES))
        .map_err(CodecError::Malformed)?;
    if bytes.len() > frame_bytes_max as usize {
        return Err(CodecError::TooLarge { bytes: bytes.len(), bytes_max: frame_bytes_max });
    }
    Ok(Bytes::from(bytes))
}

/// Decodes a message that fills its frame.
///
/// # Errors
/// `Malformed` or `Trailing`.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, CodecError> {
    let (message, rest) = postcard::take_from_bytes(frame).map_err(CodecError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(CodecError::Trailing { bytes: rest.len() }) }
}

/// `encode` and `decode` as tarpc's transport wants them.
pub struct PostcardCodec<In, Out> {
    frame_bytes_max: u32,
    messages: PhantomData<fn(In, Out)>,
}

impl<In, Out> fmt::Debug for PostcardCodec<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostcardCodec").field("frame_bytes_max", &self.frame_bytes_max).finish()
    }
}

impl<In, Out: Serialize> tokio_serde::Serializer<Out> for PostcardCodec<In, Out> {
    type Error = io::Error;

    fn serialize(self: Pin<&mut Self>, message: &Out) -> io::Result<Bytes> {
        Ok(encode(message, self.frame_bytes_max)?)
    }
}

impl<In: DeserializeOwned, Out> tokio_serde::Deserializer<In> for PostcardCodec<In, Out> {
    type Error = io::Error;

    fn deserialize(self: Pin<&mut Self>, frame: &BytesMut) -> io::Result<In> {
        Ok(decode(frame)?)
    }
}

/// A tarpc transport over any byte stream, such as a TCP connection after its handshake.
pub type Framed<Io, In, Out> =
    tarpc::serde_transport::Transport<Io, In, Out, PostcardCodec<In, Out>>;

/// Frames a byte stream.
pub fn framed<Io, In, Out>(io: Io, frame_bytes_max: u32) -> Framed<Io, In, Out>
where
    Io: AsyncRead + AsyncWrite,
    In: DeserializeOwned,
    Out: Serialize,
{
    let frames =
        LengthDelimitedCodec::builder().max_frame_length(frame_bytes_max as usize).new_framed(io);
    tarpc::serde_transport::new(frames, PostcardCodec { frame_bytes_max, messages: PhantomData })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_its_frame() {
        let message = (7_u64, Bytes::from_static(b"value"), Some("text".to_owned()));
        let frame = encode(&message, 64).expect("it fits");
        assert_eq!(decode::<(u64, Bytes, Option<String>)>(&frame), Ok(message));
    }

    #[test]
    fn the_limit_is_inclusive() {
        let message = Bytes::from(vec![1; 100]);
        assert_eq!(encode(&message, 101).map(|frame| frame.len()), Ok(101));
        assert_eq!(encode(&message, 100), Err(CodecError::TooLarge { bytes: 101, bytes_max: 100 }));
    }

    #[test]
    fn what_follows_a_message_or_is_missing_from_it_is_an_error() {
        assert_eq!(decode::<u8>(&[1, 2]), Err(CodecError::Trailing { bytes: 1 }));
        assert!(matches!(decode::<Bytes>(&[9, 1]), Err(CodecError::Malformed(_))));
        // A length near u64::MAX must not allocate it.
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(matches!(decode::<Vec<u64>>(&huge), Err(CodecError::Malformed(_))));
    }
}
