//! Fixed-shape hash trees, and an exchange that finds exactly the leaves in which two of them
//! differ.
//!
//! ```text
//!             root             one comparison says "the same"
//!           /      \
//!         n0        n1         else: the nodes some levels below, and only under those that
//!        /  \      /  \        differ the ones below them
//!      l0    l1  l2    l3      a leaf: the wrapping sum of its entries' digests
//!      ..    ..  ..    ..      the entries of a contiguous range of positions, kept elsewhere
//! ```
//!
//! * **It is** what replicas compare to find what one of them missed: [`DigestKey`] digests an
//!   entry, [`Leaves`] keeps a sum for each range with O(1) for each write, [`Tree`] builds the
//!   inner nodes when they are needed, [`Exchange`] walks down two trees over any transport.
//!   riak_core's `hashtree.erl` and Dynamo (section 4.7) are the models.
//! * **It is not** a proof for strangers (the digests are keyed, not cryptographic), storage, or
//!   transport; and it knows nothing of what an entry is.
//!
//! ```
//! use kv_merkle::{Digest, DigestKey, Exchange, Leaves, Pace, Shape, Tree, answer};
//!
//! # fn main() -> Result<(), kv_merkle::Error> {
//! let key = DigestKey::new([7; 16]);
//! let (mut ours, mut theirs) = (Leaves::new(Shape::new(10)?), Leaves::new(Shape::new(10)?));
//! let entry = key.framer().bytes(b"user:1").number(42).finish();
//! ours.add(5, entry)?;
//! theirs.add(5, entry)?;
//! ours.add(700, key.framer().bytes(b"user:2").number(43).finish())?;
//!
//! let (ours, theirs) = (Tree::build(&ours), Tree::build(&theirs));
//! let mut exchange = Exchange::new(&ours, Pace::default());
//! while let Some(request) = exchange.request(&ours) {
//!     exchange.on_answer(&ours, &answer(&theirs, &request)?)?;
//! }
//! assert_eq!(exchange.differing(), [700]);
//! # Ok(())
//! # }
//! ```
//!
//! Features: none. `no_std` with `alloc`.
#![no_std]

extern crate alloc;

mod codec;
mod digest;
mod error;
mod exchange;
mod leaves;
mod shape;
mod tree;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use codec::WIRE_VERSION;
pub use digest::{Digest, DigestKey, Framer};
pub use error::Error;
pub use exchange::{ANSWER_DIGESTS_MAX, Answer, Exchange, Pace, Request, answer};
pub use leaves::Leaves;
pub use shape::{DEPTH_MAX, Shape};
pub use tree::Tree;
