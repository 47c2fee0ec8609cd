//! Who a member is and where it listens: the two things that the caller brings.
//!
//! The crate is generic over the identity, as foca is, because the leaves of this workspace share
//! no `NodeId` type. An identity is 64 bits on the wire. An address is opaque bytes: the crate
//! compares and carries them, only the caller's transport understands them.

use alloc::vec::Vec;
use core::fmt;

use crate::Error;

/// The longest address: it has one byte for its length on the wire, and a DNS name with port fits.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// An identity that travels as 64 bits. Two nodes never share one; a restarted node keeps its own.
pub trait NodeCode: Copy + Ord + fmt::Debug {
    /// The 64 bits that stand for this identity.
    fn code(self) -> u64;

    /// The identity that `code` stands for, or `None` when there is none such.
    /// `from_code(x.code())` is always `Some(x)`.
    fn from_code(code: u64) -> Option<Self>;
}

impl NodeCode for u64 {
    fn code(self) -> u64 {
        self
    }

    fn from_code(code: u64) -> Option<Self> {
        Some(code)
    }
}

impl NodeCode for u32 {
    fn code(self) -> u64 {
        u64::from(self)
    }

    fn from_code(code: u64) -> Option<Self> {
        Self::try_from(code).ok()
    }
}

/// Where a member listens: at most [`ADDRESS_BYTES_MAX`] bytes, understood by the transport alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Vec<u8>);

impl Address {
    /// Takes `bytes` as an address.
    ///
    /// # Errors
    /// [`Error::AddressTooLong`] above [`ADDRESS_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > ADDRESS_BYTES_MAX {
            return Err(Error::AddressTooLong { bytes: bytes.len() });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Takes what a packet holds: its length is one byte there, so it is never too long.
    pub(crate) fn from_wire(bytes: &[u8]) -> Self {
        assert!(bytes.len() <= ADDRESS_BYTES_MAX, "an address on the wire has a one-byte length");
        Self(bytes.to_vec())
    }

    /// The bytes as they were given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The address as text, when it is text.
    pub fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(&self.0).ok()
    }
}

impl AsRef<[u8]> for Address {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}
