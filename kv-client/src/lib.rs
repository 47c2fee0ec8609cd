//! Wire types, tarpc services and a client with causal context for the kv store.

mod ids;

pub use ids::{ClusterId, NodeId};
