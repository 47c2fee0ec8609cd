//! Dotted version vectors, causal contexts, N/R/W plans and quorum trackers: the pure heart of a
//! Dynamo-style store.
//!
//! **What it is.** A [`Record`] is what a replica keeps for one key: the live versions, each under
//! a [`Dot`], and what is covered. Records are joined, minted into with a [`Context`] (which says
//! what the writer was shown) or blindly, and carried in a fixed, versioned form on which the hot
//! paths work directly ([`EncodedRecord`], [`peek`], [`blind_overwrite`], [`join_encoded`]). A
//! [`Plan`] names the nodes of every live layout; a [`WriteTracker`] or [`ReadTracker`] turns
//! answers into the next step.
//!
//! **What it is not.** It has no clock, no network, no storage, no randomness, no threads: times
//! and answers come in, steps go out. It does not seal contexts and hashes nothing
//! ([`Record::fingerprint`] feeds a hash of yours).
//!
//! # Example: two concurrent writes, read together and resolved
//!
//! ```
//! use kv_quorum::{Actor, Context, Dot, Draft, HybridTime, Limits, Record};
//! # fn main() -> Result<(), kv_quorum::Error> {
//! let (limits, unseen) = (Limits::default(), Context::new());
//! let dot = |node, ms| Dot::new(Actor::new(node, 7), HybridTime::new(ms, 0));
//! let (mut here, mut there) = (Record::new(), Record::new());
//! here.mint(dot(1, 100), &unseen, Draft::string(&b"tea"[..]), &limits)?;
//! there.mint(dot(2, 101), &unseen, Draft::string(&b"milk"[..]), &limits)?;
//! here.join(&there);
//! assert_eq!(here.siblings(200).len(), 2); // both are kept, and shown
//! let shown = here.context().clone();
//! here.mint(dot(1, 201), &shown, Draft::string(&b"tea and milk"[..]), &limits)?;
//! assert_eq!(here.shown(300), Some(&&b"tea and milk"[..])); // what was shown is replaced
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! [`Actor`], [`HybridTime`], [`Dot`] name a write; [`VersionVector`] and [`Context`] say what is
//! covered; [`Version`], [`Kind`], [`Expiry`] are what is live; [`Limits`] bound new mints;
//! [`Mark`] covers by time, so that tombstones can go. [`Level`] and [`Quorums`] are N, R and W,
//! [`Copies`] says whose; [`Resolver`] makes one value of siblings.
//!
//! # Features
//!
//! `std` is reserved and does nothing yet; the crate is `no_std` with `alloc`, and needs no other
//! crate.

#![no_std]

extern crate alloc;

mod answer;
mod climb;
mod codec;
mod context;
mod copies;
mod dot;
mod error;
mod expiry;
mod limits;
mod mark;
mod params;
mod plan;
mod read;
mod record;
mod resolver;
#[cfg(feature = "__planted")]
#[doc(hidden)]
pub mod teeth;
#[cfg(not(feature = "__planted"))]
mod teeth;
mod vector;
mod version;
mod write;

pub use climb::Climb;
pub use codec::{
    Brief, EncodedJoin, EncodedRecord, JoinOutcome, MarkedJoin, MarkedOutcome, Peek,
    blind_overwrite, covered_until, fingerprint_of, join_encoded, join_encoded_under, latest_of,
    peek, same_versions,
};
pub use context::Context;
pub use copies::Copies;
pub use dot::{Actor, Dot, HybridTime};
pub use error::Error;
pub use expiry::Expiry;
pub use limits::{Limits, Room};
pub use mark::Mark;
pub use params::{Level, Quorums};
pub use plan::{PLAN_NODES_MAX, Plan, WriteSet};
pub use read::{ReadBody, ReadOutcome, ReadReply, ReadStep, ReadTracker};
pub use record::{Joined, Record, Sibling};
pub use resolver::{LatestValueWins, LatestWins, Resolver};
pub use vector::VersionVector;
pub use version::{Draft, Kind, Version};
pub use write::{WriteFinal, WriteOutcome, WriteReply, WriteStep, WriteTracker};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
