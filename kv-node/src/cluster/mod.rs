//! The cluster as this node knows it: its record, its layouts, its members.

pub mod record;
pub mod view;
pub mod wire;
