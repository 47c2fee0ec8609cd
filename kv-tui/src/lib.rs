//! The operators' face of the kv store: `kv`, verbs for people and scripts, and `kv-tui`, the
//! terminal. Both show one model.
//!
//! A verb asks one node over kv-client's services and prints an answer: a table for people, one
//! JSON object for scripts, an exit code that says how things are. The terminal asks the same
//! questions each second, and sends a write only after it was shown.
//!
//! It is not a Redis client (`redis-cli` is one), and computes nothing that a node does not say:
//! what is shown is what the asked node believes, which during a partition may differ from what
//! others believe.
//!
//! ```
//! use kv_client::NodeId;
//! use kv_client::wire::{NodeInfo, NodeState, NodeStatus, RingView};
//! use kv_tui::model::{Health, Snapshot};
//!
//! let node = |id, state| NodeInfo { node: NodeId(id), state, ..NodeInfo::default() };
//! let states = [NodeState::Alive, NodeState::Alive, NodeState::Down];
//! let nodes: Vec<_> = (1..).zip(states).map(|(id, state)| node(id, state)).collect();
//! let members = nodes.iter().map(|node| node.node).collect();
//! let ring = RingView { copies: 3, nodes: members, owners: vec![0, 1, 2], ..RingView::default() };
//! let status = NodeStatus { ready: true, ..NodeStatus::default() };
//! let snapshot = Snapshot { status, nodes, ring: Some(ring), ..Snapshot::default() };
//! assert_eq!(snapshot.health(), Health::Degraded);
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | [`model`] | what was heard of a cluster, and what follows from it; pure |
//! | [`app`] | the terminal's state, what messages do to it, which effects it asks for; pure |
//! | [`view`] | that state drawn as one frame of text cells; pure |
//! | [`kv`] | the `kv` command |
//! | [`kv_tui`] | the `kv-tui` command |

pub mod app;
mod args;
mod bench;
mod clock;
mod copy;
mod error;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fuzz;
mod json;
mod local;
pub mod model;
mod resp;
mod runner;
mod screen;
#[cfg(test)]
mod shots;
mod source;
mod terminal;
mod text;
mod verbs;
pub mod view;

pub use args::kv;
pub use error::{Error, Exit};
pub use screen::kv_tui;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
