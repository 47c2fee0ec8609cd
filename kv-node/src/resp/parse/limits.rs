//! How much a connection may send, and what is said when bytes are no request.
//!
//! Invariant: every bound holds before the bytes are there, so that no declared length can make a
//! node reserve memory.

/// Redis's own limit of one argument (`proto-max-bulk-len`): above it the connection is closed.
pub(super) const PROTO_BULK_BYTES_MAX: u32 = 512 * 1024 * 1024;
/// Arguments of one request at most: Redis's limit before 7.0.
pub(super) const PROTO_ARGS_MAX: u32 = 1024 * 1024;

/// What a connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(super) args_max: u32,
    pub(super) bulk_bytes_max: u32,
    pub(super) query_bytes_max: u32,
    pub(super) line_bytes_max: u32,
    pub(super) batch_requests_max: u32,
    pub(super) authenticated: bool,
}

impl Limits {
    /// Before AUTH, where a password is set: 10 arguments of 16 KiB, over which the connection is
    /// closed, and one request at a time, so that what follows an AUTH is parsed after it.
    pub const BEFORE_AUTH: Self = Self {
        args_max: 10,
        bulk_bytes_max: 16 * 1024,
        query_bytes_max: 256 * 1024,
        line_bytes_max: 64 * 1024,
        batch_requests_max: 1,
        authenticated: false,
    };

    /// Afterwards: 1,048,576 arguments, each up to `bulk_bytes_max` (at most 512 MiB), all of a
    /// request up to `query_bytes_max` bytes on the wire (at most 1 GiB, at least what one
    /// argument of the largest size needs), 1,024 requests in a batch.
    pub fn after_auth(bulk_bytes_max: u32, query_bytes_max: u32) -> Self {
        let bulk_bytes_max = bulk_bytes_max.min(PROTO_BULK_BYTES_MAX);
        Self {
            args_max: PROTO_ARGS_MAX,
            bulk_bytes_max,
            query_bytes_max: query_bytes_max.clamp(bulk_bytes_max + 64 * 1024, 1 << 30),
            line_bytes_max: 64 * 1024,
            batch_requests_max: 1024,
            authenticated: true,
        }
    }

    /// The most bytes that can remain in a read buffer after the parser has consumed what it can.
    pub fn buffered_bytes_max(&self) -> usize {
        self.query_bytes_max as usize + self.line_bytes_max as usize + 2
    }
}

/// Bytes that are no request. The reply is `-ERR Protocol error: ...`, then the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number after `*` is none, or over the limit of arguments.
    MultibulkLength,
    /// The number after `$` is none, negative, or over 512 MiB.
    BulkLength,
    /// Something else where an argument must begin.
    ExpectedDollar(u8),
    /// No CRLF where a declared argument ends.
    MissingCrlf,
    /// 64 KiB after `*` without a line's end.
    MultibulkLine,
    /// 64 KiB after `$` without a line's end.
    BulkLine,
    /// An inline line over 64 KiB.
    InlineLine,
    /// An inline line whose quotes don't match.
    Unbalanced,
    /// More than 10 arguments before AUTH.
    UnauthenticatedMultibulk,
    /// An argument of more than 16 KiB before AUTH.
    UnauthenticatedBulk,
}

impl std::fmt::Display for ProtocolError {
    /// Redis's text, without the leading `-`. A byte that is not printable is escaped.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        match self {
            Self::MultibulkLength => f.write_str("invalid multibulk length"),
            Self::BulkLength => f.write_str("invalid bulk length"),
            Self::ExpectedDollar(byte) => {
                write!(f, "expected '$', got '{}'", byte.escape_ascii())
            }
            Self::MissingCrlf => f.write_str("expected CRLF after a bulk string"),
            Self::MultibulkLine => f.write_str("too big mbulk count string"),
            Self::BulkLine => f.write_str("too big bulk count string"),
            Self::InlineLine => f.write_str("too big inline request"),
            Self::Unbalanced => f.write_str("unbalanced quotes in request"),
            Self::UnauthenticatedMultibulk => f.write_str("unauthenticated multibulk length"),
            Self::UnauthenticatedBulk => f.write_str("unauthenticated bulk length"),
        }
    }
}

impl std::error::Error for ProtocolError {}
