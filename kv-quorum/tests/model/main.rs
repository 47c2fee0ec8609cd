//! The proofs of this crate, in one binary: models of records and of quorums, laws as properties, fixtures of the encoded forms,
//! and tables for the trackers.

mod fixtures;
mod laws;
mod overwrite;
mod siblings;
mod support;
mod tables;
