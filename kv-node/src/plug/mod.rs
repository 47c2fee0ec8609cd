//! The seams of the node: what it needs from the world, as traits with at most seven methods.
//!
//! Everything that touches time, randomness, threads, disks or sockets comes in through one of
//! these, so that the same node runs in production, in a test within one process and in the
//! simulation, where a seed replays a run. Each seam has an in-memory implementation and one
//! contract suite that every implementation passes. A seam is crossed once for a batch, never for
//! each key of a batch.

pub mod clock;
pub mod contract;
pub mod discovery;
pub mod exec;
pub mod inproc;
pub mod lsm;
pub mod memory;
pub mod provisioner;
pub mod rng;
pub mod storage;
pub mod transport;
pub mod transport_contract;
