//! The proofs of this crate, in one binary: models of records and of quorums, laws as properties,
//! fixtures of the encoded forms, and tables for the trackers.

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod marks;
#[cfg(test)]
mod overwrite;
#[cfg(test)]
mod siblings;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tables;
