//! Talks to a node of the kv store: wire types, services, and a client that carries causality.
//!
//! A value that is read comes as a [`Versioned`]: every sibling that concurrent writers left, and
//! the context that says which of them the reader has seen. A write takes that `Versioned` back,
//! so it replaces exactly what its writer saw; nothing else can be lost by accident. A write that
//! has seen nothing must say so: [`Client::blind_put`].
//!
//! It is not a Redis client: any Redis client talks to the RESP port. Use this one where siblings
//! matter, and for what operators ask ([`Admin`]).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kv_client::Error> {
//! use kv_client::{Client, Config, MemoryNode, Secret};
//!
//! let secret = Secret::new("a shared secret");
//! let node = MemoryNode::start(secret.clone()).await.expect("a free port"); // or a real node
//! let client = Client::connect(&[node.address()], Config { secret, ..Config::default() }).await?;
//!
//! let seen = client.get("cart").await?; // nothing there yet, and the context says so
//! let seen = client.put(&seen, "milk").await?; // replaces what was seen
//! client.put(&seen, "milk, eggs").await?;
//! let now = client.get("cart").await?;
//! assert_eq!(now.only().map(|value| &value[..]), Some(&b"milk, eggs"[..]));
//! # Ok(()) }
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | [`Client`], [`Versioned`] | reads and writes with causal context |
//! | [`Admin`] | status, nodes, ring, locate, explain |
//! | [`wire`] | what travels, bounded |
//! | [`service`] | the tarpc services, for who serves them |
//! | [`codec`] | postcard in length-delimited frames with an explicit limit |
//! | [`handshake`] | both ends prove the cluster secret before anything else is parsed |
//! | [`dial`] | an address to an authenticated stream |
//! | [`MemoryNode`] | a node in memory for tests of programs that use the client |

mod admin;
mod client;
pub mod codec;
pub mod dial;
mod error;
pub mod handshake;
mod ids;
mod memory;
mod pool;
pub mod service;
pub mod wire;

pub use admin::Admin;
pub use client::{Client, Config, Versioned};
pub use error::{Error, Result};
pub use handshake::{Role, Secret};
pub use ids::{ClusterId, NodeId};
pub use memory::MemoryNode;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
