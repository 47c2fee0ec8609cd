//! The crate's one error type. Nothing here is partial: an operation that answers an error has
//! changed nothing, so the caller still has what it had before.

use core::fmt;

/// Why an operation was refused. The layout, history or topology it was asked of is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The number is no slot's: not below 16384.
    Slot(u16),
    /// The code is no partition's: 0, or 32768 and above.
    Partition(u16),
    /// A partition count is not a power of two from 1 to 16384. Choose one that is.
    PartitionCount(u32),
    /// N is 0 or above [`REPLICAS_MAX`](crate::REPLICAS_MAX). Ask for another N.
    Replicas(usize),
    /// Fewer nodes with a weight above zero than copies of each partition. Add nodes, or lower N.
    TooFewNodes {
        /// Copies of each partition that were asked for.
        replicas: usize,
        /// Nodes that may hold any.
        nodes: usize,
    },
    /// More members than the chooser or the format takes. Remove some, or use another chooser.
    TooManyNodes {
        /// Members of the topology.
        nodes: usize,
        /// The most that are taken.
        nodes_max: usize,
    },
    /// A chooser answered something that is not a placement: a wrong length, a node that is not
    /// there or has weight zero, or one twice for a partition. The chooser has a defect.
    BadClaim,
    /// The epoch after `u64::MAX` does not exist. Only a corrupted layout can get here.
    EpochExhausted,
    /// The node is not a member of the layout. Check the name.
    NotAMember,
    /// The node is a member of the layout already. Replace by one that is new.
    AlreadyAMember,
    /// The encoded layout is shorter or longer than its header says. Fetch it again.
    Length {
        /// Bytes that the header calls for, or that the header itself needs.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// The bytes are not an encoded layout. Look for what was sent or read in its place.
    Magic,
    /// The layout was encoded by a version of the format that this build does not know. Upgrade.
    Version(u8),
    /// The digest at the end does not match what precedes it: damaged. Fetch it again.
    Digest,
    /// A field holds what no layout can hold; the sender has a defect or is hostile.
    Malformed(&'static str),
    /// The pushed layout is not newer than the newest live one. Drop it, or send the newer back.
    EpochNotNewer {
        /// Epoch of the layout that was pushed.
        pushed: u64,
        /// Newest epoch of the history.
        newest: u64,
    },
    /// [`LIVE_LAYOUTS_MAX`](crate::LIVE_LAYOUTS_MAX) layouts are live. Let a transition end first.
    TooManyLayouts,
    /// No live layout has this epoch: it is retired already, or never was.
    UnknownEpoch(u64),
    /// The newest layout can't retire; only one that a newer has followed can.
    RetiresNewest(u64),
    /// The newer layout has fewer partitions than the older. Partitions are only ever doubled.
    Coarser,
    /// Two copies can't change places: which rule is against it. Choose others.
    Exchange(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(index) => write!(f, "slot {index} is not below 16384"),
            Self::Partition(code) => write!(f, "{code} is no partition's code"),
            Self::PartitionCount(count) => {
                write!(f, "{count} partitions: not a power of two from 1 to 16384")
            }
            Self::Replicas(replicas) => {
                write!(f, "{replicas} copies: not from 1 to {}", crate::REPLICAS_MAX)
            }
            Self::TooFewNodes { replicas, nodes } => {
                write!(f, "{replicas} copies need as many nodes with weight, there are {nodes}")
            }
            Self::TooManyNodes { nodes, nodes_max } => {
                write!(f, "{nodes} nodes, at most {nodes_max} are taken")
            }
            Self::BadClaim => f.write_str("the chooser did not answer a placement"),
            Self::EpochExhausted => f.write_str("there is no later epoch"),
            Self::NotAMember => f.write_str("not a member of the layout"),
            Self::AlreadyAMember => f.write_str("already a member of the layout"),
            Self::Length { expected, actual } => {
                write!(f, "layout of {actual} bytes, expected {expected}")
            }
            Self::Magic => f.write_str("not an encoded layout"),
            Self::Version(version) => write!(f, "layout format {version} is not known here"),
            Self::Digest => f.write_str("layout is damaged: its digest does not match"),
            Self::Malformed(field) => write!(f, "malformed layout: {field}"),
            Self::EpochNotNewer { pushed, newest } => {
                write!(f, "layout of epoch {pushed} is not newer than {newest}")
            }
            Self::TooManyLayouts => {
                write!(f, "{} layouts are live already", crate::LIVE_LAYOUTS_MAX)
            }
            Self::UnknownEpoch(epoch) => write!(f, "no live layout has epoch {epoch}"),
            Self::RetiresNewest(epoch) => write!(f, "layout of epoch {epoch} is the newest"),
            Self::Coarser => f.write_str("the newer layout has fewer partitions than the older"),
            Self::Exchange(why) => write!(f, "copies can't change places: {why}"),
        }
    }
}

impl core::error::Error for Error {}
