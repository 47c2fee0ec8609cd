//! The front doors that speak tarpc: what programs and operators are answered by a node.
//!
//! A door must be given to the transport before there is a node, since the node is started on the
//! transport. So both doors share a `Lobby`, which is told of the node when it runs; until then
//! they answer that they don't serve yet.
//!
//! Invariant: the lobby never keeps a node alive. The node holds the transport, and the transport
//! the doors.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use async_trait::async_trait;
use kv_client::service::{AdminService, ClientService, ServeLimits, serve};
use kv_client::wire::{Endpoints, Level, ServiceError};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::admin::AdminServer;
use super::admin_watch::WATCHERS_MAX;
use super::client::ClientServer;
use super::transport::Door;
use crate::cluster::record::LevelSetting;
use crate::error::RequestError;
use crate::keys::KEY_BYTES_MAX;
use crate::node::Node;

/// Writes that programs began and that have not ended, at most, whether or not their callers still
/// wait; further ones get `Busy`.
pub const WRITES_IN_FLIGHT_MAX: usize = 8_192;

/// What the doors know of their node.
#[derive(Debug)]
pub struct Lobby {
    served: OnceLock<Served>,
    pub(super) writes: Arc<Semaphore>,
    /// Places for screens that wait for news.
    pub(super) watchers: Semaphore,
}

impl Default for Lobby {
    fn default() -> Self {
        let writes = Arc::new(Semaphore::new(WRITES_IN_FLIGHT_MAX));
        Self { served: OnceLock::new(), writes, watchers: Semaphore::new(WATCHERS_MAX) }
    }
}

/// A node that runs.
#[derive(Debug)]
pub(super) struct Served {
    node: Weak<Node>,
    pub(super) began: Instant,
    pub(super) endpoints: Endpoints,
}

impl Lobby {
    /// Begins to answer for `node`, which listens at `endpoints`. The first call holds.
    pub fn open(&self, node: &Arc<Node>, endpoints: Endpoints) {
        let served = Served { node: Arc::downgrade(node), began: Instant::now(), endpoints };
        if self.served.set(served).is_err() {
            tracing::debug!("the doors are open already");
        }
    }

    pub(super) fn node(&self) -> Result<(Arc<Node>, &Served), ServiceError> {
        let served = self
            .served
            .get()
            .ok_or_else(|| ServiceError::NotServing("the node is starting".into()))?;
        let node = served.node.upgrade();
        let node = node.ok_or_else(|| ServiceError::NotServing("the node has stopped".into()))?;
        Ok((node, served))
    }
}

/// Serves programs: `Role::Client`.
#[derive(Debug)]
pub struct ClientDoor(pub Arc<Lobby>);

#[async_trait]
impl Door for ClientDoor {
    async fn attend(&self, stream: TcpStream, limits: ServeLimits) {
        serve(stream, limits, ClientServer(Arc::clone(&self.0)).serve()).await;
    }
}

/// Serves operators: `Role::Admin`.
#[derive(Debug)]
pub struct AdminDoor(pub Arc<Lobby>);

#[async_trait]
impl Door for AdminDoor {
    async fn attend(&self, stream: TcpStream, limits: ServeLimits) {
        serve(stream, limits, AdminServer(Arc::clone(&self.0)).serve()).await;
    }
}

impl From<RequestError> for ServiceError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoReplicas { wanted, down } => Self::NoReplicas { wanted, down },
            RequestError::Indeterminate { reached, wanted, silent } => {
                Self::Indeterminate { reached, wanted, silent }
            }
            RequestError::Unavailable { reached, wanted, silent } => {
                Self::Unavailable { reached, wanted, silent }
            }
            RequestError::Busy(what) => Self::Busy(what),
            RequestError::TooManySiblings { siblings } => Self::TooManySiblings { siblings },
            RequestError::BadContext => Self::BadContext,
            RequestError::TooLarge { bytes, bytes_max } => Self::TooLarge { bytes, bytes_max },
            RequestError::RecordTooLarge { bytes, bytes_max } => {
                Self::TooLarge { bytes, bytes_max }
            }
            RequestError::KeyTooLarge { bytes } => {
                Self::TooLarge { bytes, bytes_max: KEY_BYTES_MAX as u64 }
            }
            RequestError::WrongValue(what) | RequestError::Level(what) => Self::Refused(what),
            RequestError::NeedsRmw(command) => Self::Refused(format!(
                "{command} needs one decision maker: keyspace.rmw=best-effort"
            )),
            RequestError::Loading => Self::NotServing("the node has no layout yet".into()),
            RequestError::Stopping => Self::NotServing("the node is stopping".into()),
            RequestError::Removed => {
                Self::NotServing("the node was removed from its cluster for good".into())
            }
            RequestError::ClockSkew => {
                Self::NotServing("the node's clock is too far from its peers'".into())
            }
            RequestError::Full(what) => Self::Full(what),
            RequestError::DiskFull => Self::Full("the node's disk has no room".into()),
            RequestError::Storage(what) | RequestError::Unknown(what) => Self::Failed(what),
        }
    }
}

/// A level as the coordinator takes it; `None` is the keyspace's.
pub(super) fn level(wanted: Level) -> Result<Option<LevelSetting>, ServiceError> {
    Ok(Some(match wanted {
        Level::Keyspace => return Ok(None),
        Level::One => LevelSetting::One,
        Level::Quorum => LevelSetting::Quorum,
        Level::All => LevelSetting::All,
        Level::Count(copies) => LevelSetting::Copies(copies),
        Level::LocalQuorum => LevelSetting::LocalQuorum,
        Level::EachQuorum => LevelSetting::EachQuorum,
        _ => return Err(ServiceError::Refused("this node does not know that level".into())),
    }))
}

#[cfg(test)]
#[path = "doors_tests.rs"]
mod tests;
