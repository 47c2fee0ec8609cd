//! The cluster as this node knows it: its record, its layouts, its members.

pub mod dots;
pub mod meta;
pub mod record;
pub mod view;
pub mod wire;
