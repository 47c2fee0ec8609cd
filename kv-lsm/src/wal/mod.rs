//! The commit log: frames in pre-written, recycled segments.
//!
//! An append copies its batch into a group; the writer writes a group as one frame with one call
//! and syncs once for all that wait. Recovery reads the segments in order and cuts the torn tail.

pub(crate) mod frame;
pub(crate) mod reader;
pub(crate) mod recycle;
pub(crate) mod writer;
