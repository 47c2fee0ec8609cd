//! A cluster in one thread: the production nodes with their log-structured engines, over a
//! simulated network, disks that lose what was not synced, and clocks that disagree.
//!
//! ```text
//! seed, scenario -> options -> world (nodes, disks, network, clocks) <- nemesis
//!                              ^ clients -> history -> checkers -> violations
//! ```
//! Time is tokio's, paused: it jumps to the next timer when nothing can run, so a minute of the
//! cluster takes a second of ours. All chance comes from the seed, all work runs on one thread,
//! and what is iterated is ordered; so a seed replays a run, in another process too, which the
//! trace's hash proves. (TigerBeetle's VOPR and FoundationDB's simulation are the models; the
//! checkers follow Jepsen's.)
//!
//! Invariant: nothing here reads the machine's clock or randomness.

pub mod alive;
pub mod checkers;
pub mod contexts;
pub mod cuts;
pub mod disk;
pub mod exec;
pub mod gate;
pub mod history;
pub mod nemesis;
pub mod random;
pub mod replicas;
pub mod run;
pub mod scenario;
pub mod sessions;
#[cfg(feature = "planted")]
pub mod teeth;
pub mod trace;
pub mod watch;
pub mod workload;
pub mod world;

pub use run::{Options, Report, run};
pub use scenario::Scenario;
