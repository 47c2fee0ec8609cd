//! What can go wrong. No error changes a tree, a leaf or the progress of an exchange.

use core::fmt;

/// Why an input was refused. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A tree has 2^1 to 2^16 leaves. Choose another depth.
    Depth {
        /// The depth that was asked for.
        depth: u8,
    },
    /// There is no such leaf in this shape. The caller's mapping of keys to leaves is wrong.
    NoSuchLeaf {
        /// The leaf's index.
        leaf: u32,
    },
    /// The peer's tree has another depth. Rebuild one of the two; comparing them is pointless.
    OtherDepth {
        /// This side's depth.
        ours: u8,
        /// The peer's depth.
        theirs: u8,
    },
    /// The bytes end before what they announce. Drop the message.
    Truncated,
    /// A field holds what no sender of ours writes. Drop the message; the name says which field.
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// The message is of another version of the format: one of the two sides is too old.
    Version {
        /// The version that it names.
        found: u8,
    },
    /// The request's answer would be above [`ANSWER_DIGESTS_MAX`](crate::ANSWER_DIGESTS_MAX).
    AnswerTooLong {
        /// How many digests it would hold.
        digests: usize,
    },
    /// The answer is not one to the request that is under way: late, doubled, or foreign. Drop it
    /// and go on waiting.
    NotAsked,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Depth { depth } => write!(f, "a depth of {depth} is not in 1 to 16"),
            Self::NoSuchLeaf { leaf } => write!(f, "there is no leaf {leaf}"),
            Self::OtherDepth { ours, theirs } => {
                write!(f, "our tree has depth {ours}, the peer's has {theirs}")
            }
            Self::Truncated => f.write_str("the message ends too early"),
            Self::Malformed { field } => write!(f, "the message's {field} can't be"),
            Self::Version { found } => write!(f, "the message has format version {found}"),
            Self::AnswerTooLong { digests } => {
                write!(f, "an answer of {digests} digests is too long")
            }
            Self::NotAsked => f.write_str("the answer does not belong to the request under way"),
        }
    }
}

impl core::error::Error for Error {}
