//! What can go wrong, and what it did to the membership: nothing, in every case.
//!
//! Invariant: an error leaves the machine as it was. A packet is checked to its last byte before
//! its first update is applied, so a damaged or hostile one changes nothing.

use core::fmt;

/// Why an input was refused. No variant changes the state of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The packet ended before what it announced. Drop it; count it if it keeps happening.
    Truncated,
    /// A field holds what no sender of ours writes. Drop the packet; the name says which field.
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// The packet is of another version of the format. Drop it: one of the two nodes is too old.
    Version {
        /// The version that the packet names.
        found: u8,
    },
    /// The packet is longer than [`PACKET_BYTES_LIMIT`](crate::PACKET_BYTES_LIMIT). Drop it.
    PacketTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The packet names another sender than the transport does. Drop it and suspect the sender.
    SenderMismatch,
    /// The packet bears our own identity. Either a seed list that names this node, which is
    /// harmless, or a second process with our identity, which an operator has to stop.
    FromSelf,
    /// The sender was refused by [`Swim::refuse`](crate::Swim::refuse). Drop the packet.
    Refused,
    /// A ping that was meant for another node that had our address before. Drop it; the sender
    /// will find out that it is gone.
    WrongTarget,
    /// The address is longer than [`ADDRESS_BYTES_MAX`](crate::ADDRESS_BYTES_MAX).
    AddressTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The fact is longer than `fact_bytes_max`. It was not published; shorten or split it.
    FactTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The node already publishes `facts_per_node_max` facts. Nothing was published.
    TooManyFacts {
        /// The limit.
        facts_max: usize,
    },
    /// The node has left or is leaving, and publishes nothing any more.
    HasLeft,
    /// A setting breaks its rule. Nothing was built; the field's documentation has the rule.
    Config {
        /// The setting.
        field: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated => f.write_str("the packet ends too early"),
            Self::Malformed { field } => write!(f, "the packet's {field} can't be"),
            Self::Version { found } => write!(f, "the packet has format version {found}"),
            Self::PacketTooLong { bytes } => write!(f, "a packet of {bytes} bytes is too long"),
            Self::SenderMismatch => f.write_str("the packet names another sender"),
            Self::FromSelf => f.write_str("the packet bears this node's own identity"),
            Self::Refused => f.write_str("the sender was removed and is refused"),
            Self::WrongTarget => f.write_str("the ping is meant for another node"),
            Self::AddressTooLong { bytes } => {
                write!(f, "an address of {bytes} bytes is too long")
            }
            Self::FactTooLong { bytes, bytes_max } => {
                write!(f, "a fact of {bytes} bytes is above the limit of {bytes_max}")
            }
            Self::TooManyFacts { facts_max } => {
                write!(f, "the node already publishes {facts_max} facts")
            }
            Self::HasLeft => f.write_str("the node has left"),
            Self::Config { field } => write!(f, "the setting {field} breaks its rule"),
        }
    }
}

impl core::error::Error for Error {}
