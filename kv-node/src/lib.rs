//! A leaderless, Dynamo-style node: coordinator, replica, peer service and front doors.

mod by_partition;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod detect;
pub mod error;
pub mod events;
pub mod http;
pub mod keys;
mod log;
pub mod metrics;
pub mod mutation;
pub mod node;
pub mod plug;
pub mod replica;
pub mod resp;
pub mod rpc;
mod run;
pub mod scale;
pub mod spread;
#[cfg(feature = "__planted")]
#[doc(hidden)]
pub mod teeth;
#[cfg(not(feature = "__planted"))]
mod teeth;
pub mod wire;
pub mod worker;

pub use error::RequestError;
pub use run::{MainParts, main_with};
