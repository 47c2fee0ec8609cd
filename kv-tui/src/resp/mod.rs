//! The Redis protocol from the client's side, for the verbs that speak to any Redis server:
//! `import`, `export` and `bench`.
//!
//! Not for programs: they have clients of their own. RESP2 as of its specification; what a server
//! sends is bounded in size and depth before it is looked at.

mod codec;
#[cfg(test)]
pub(crate) mod fake;
mod link;
mod target;

pub(crate) use codec::{Command, Reply, read};
pub(crate) use link::Link;
pub(crate) use target::Target;
