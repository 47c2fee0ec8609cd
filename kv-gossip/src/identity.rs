//! Who a member is and where it listens: the two things that the caller brings.
//!
//! The crate is generic over the identity, as foca is, because the leaves of this workspace share
//! no `NodeId` type. An identity is 64 bits on the wire. An address is opaque bytes: the crate
//! compares and carries them, only the caller's transport understands them.

use alloc::boxed::Box;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};

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
#[derive(Clone)]
pub struct Address(Held);

/// Most addresses are an IP and a port. Those lie in the table itself: no allocation for each of
/// thousands of members, nor for each packet that is sent to one.
#[derive(Clone)]
enum Held {
    Inline { length: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Boxed(Box<[u8]>),
}

/// As much as fits beside the box.
const INLINE_BYTES_MAX: usize = 22;

const _: () = assert!(size_of::<Address>() == 24);

impl Address {
    /// Takes `bytes` as an address.
    ///
    /// # Errors
    /// [`Error::AddressTooLong`] above [`ADDRESS_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > ADDRESS_BYTES_MAX {
            return Err(Error::AddressTooLong { bytes: bytes.len() });
        }
        let mut inline = [0; INLINE_BYTES_MAX];
        Ok(Self(match inline.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Held::Inline { length: bytes.len() as u8, bytes: inline }
            }
            None => Held::Boxed(bytes.into()),
        }))
    }

    /// Takes what a packet holds: its length is one byte there, so it is never too long.
    pub(crate) fn from_wire(bytes: &[u8]) -> Self {
        Self::new(bytes).expect("an address on the wire has a one-byte length")
    }

    /// The bytes as they were given.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Held::Inline { length, bytes } => {
                bytes.get(..usize::from(*length)).expect("it is the length of what was put there")
            }
            Held::Boxed(bytes) => bytes,
        }
    }

    /// The address as text, when it is text.
    pub fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.as_bytes()).ok()
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Address {}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl AsRef<[u8]> for Address {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_bytes_wherever_they_lie() {
        for length in [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, ADDRESS_BYTES_MAX] {
            let bytes: alloc::vec::Vec<u8> = (0..length).map(|place| place as u8).collect();
            let address = Address::new(&bytes).unwrap();
            assert_eq!(address.as_bytes(), bytes);
            assert_eq!(address, Address::from_wire(&bytes).clone());
        }
        let (short, long) = (Address::new(b"b").unwrap(), Address::new(&[b'a'; 30]).unwrap());
        assert!(long < short && long != short);
        let bytes = ADDRESS_BYTES_MAX + 1;
        assert_eq!(Address::new(&[0; 256]), Err(Error::AddressTooLong { bytes }));
    }
}
