//! Simulation, real processes and real clients: the proof of the kv store.
//!
//! - [`sim`]: production nodes over a simulated network, disks and clocks; a seed replays a run.
//! - [`cluster`]: real processes on loopback ports, killed for real.
//!
//! It is not a library for others: what it exports is for its own binaries and tests.

pub mod cluster;
pub mod sim;
