//! A leaderless, Dynamo-style node: coordinator, replica, peer service and front doors.

pub mod cluster;
pub mod coordinator;
pub mod error;
pub mod keys;
pub mod metrics;
pub mod mutation;
pub mod node;
pub mod plug;
pub mod replica;
pub mod rpc;
pub mod wire;
pub mod worker;

pub use error::RequestError;
