//! The cluster as this node knows it: its record, its layouts, its members.

pub mod wire;
