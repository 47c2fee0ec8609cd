//! A leaderless, Dynamo-style node: coordinator, replica, peer service and front doors.

pub mod cluster;
pub mod error;
pub mod keys;
pub mod mutation;
pub mod plug;
pub mod wire;

pub use error::RequestError;
