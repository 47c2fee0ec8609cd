//! Crash tests: scripts against a model, with a power cut, a kill or an error at every call of
//! the file system.
//!
//! What is checked after each recovery (RocksDB's "no holes"): the state is that of a prefix of
//! the appended batches, and the prefix contains every batch that was reported durable.

mod crash;
mod damage;
mod flips;
mod full;
mod keyspaces;
mod quarantine;
mod script;
