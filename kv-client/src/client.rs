//! Reads and writes with causal context carried in the type.
//!
//! Dynamo (DeCandia et al. 2007, section 4.4) hands an opaque context with every read and wants it
//! back with the write. Here the type system carries it: `put` takes the [`Versioned`] that a read
//! or an earlier write gave, so "replace what I saw" is the easy call and "replace whatever is
//! there" has another name.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::net::TcpStream;

use crate::codec::{FRAME_BYTES_MAX_DEFAULT, framed};
use crate::error::{Error, Result};
use crate::handshake::{Role, Secret};
use crate::pool::{Kind, Pool, Stub};
use crate::service::ClientServiceClient;
use crate::wire::{
    BatchOp, BatchOut, Bounded, Coverage, Expiry, Explanation, Level, ReadOptions, ReadOut,
    Sibling, WriteOptions, WriteOut,
};

/// How a client connects and waits.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's secret.
    pub secret: Secret,
    /// Milliseconds for one call, attempts elsewhere included. 2000 unless set.
    pub deadline_ms: u32,
    /// Milliseconds for connecting to one address, handshake included. 1000 unless set.
    pub dial_ms_max: u32,
    /// Bytes of a frame at most; not above the nodes' own. 16 MiB unless set.
    pub frame_bytes_max: u32,
    /// The local address to dial from; the system's choice if `None`.
    pub bind_source: Option<IpAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            secret: Secret::default(),
            deadline_ms: 2_000,
            dial_ms_max: 1_000,
            frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
            bind_source: None,
        }
    }
}

/// What a reader saw of a key: the siblings, and the context that covers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    key: Bytes,
    siblings: Vec<Sibling>,
    context: Bytes,
}

impl Versioned {
    /// What a reader saw earlier, from the context that it kept: in a form's hidden field, in a
    /// shell's variable. Shows no siblings.
    pub fn resume(key: impl Into<Bytes>, context: impl Into<Bytes>) -> Self {
        Self { key: key.into(), siblings: Vec::new(), context: context.into() }
    }

    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// Every live version, the newest first, deletes that were not seen by others included.
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// The values, the newest first.
    pub fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.siblings.iter().filter_map(|sibling| sibling.value.as_ref())
    }

    /// The value, if there is exactly one.
    pub fn only(&self) -> Option<&Bytes> {
        let mut values = self.values();
        values.next().filter(|_| values.next().is_none())
    }

    /// Whether concurrent writes left more than one version. The next `put` resolves them.
    pub fn is_conflict(&self) -> bool {
        self.siblings.len() > 1
    }

    /// The sealed context: for this key in this cluster only.
    pub fn context(&self) -> &Bytes {
        &self.context
    }
}

/// A client of any node of a cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool<ClientServiceClient>>,
    keyspace: u32,
    read: Level,
    write: Level,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("keyspace", &self.keyspace)
            .field("read", &self.read)
            .field("write", &self.write)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the first of the addresses (`host:port` of a node's tarpc port) that answers;
    /// calls move on to the others when it stops to.
    ///
    /// # Errors
    /// `Unreachable`, `Handshake`, `Config`: nothing was sent.
    pub async fn connect<A: AsRef<str>>(addresses: &[A], config: Config) -> Result<Self> {
        let pool = Arc::new(Pool::connect(addresses, config).await?);
        Ok(Self { pool, keyspace: 0, read: Level::Keyspace, write: Level::Keyspace })
    }

    /// The same client with other levels for reads and writes.
    #[must_use]
    pub fn at_levels(&self, read: Level, write: Level) -> Self {
        Self { read, write, ..self.clone() }
    }

    /// The same client for another keyspace.
    #[must_use]
    pub fn in_keyspace(&self, keyspace: u32) -> Self {
        Self { keyspace, ..self.clone() }
    }

    /// Reads a key. Tries other addresses while the deadline lasts.
    ///
    /// # Errors
    /// Nothing is known of the key.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Versioned> {
        let key = key.into();
        let read = self
            .pool
            .call(Kind::Read, |stub, context, budget_ms| {
                let (key, options) = (key.clone(), self.reading(budget_ms));
                async move { stub.get(context, key, options).await }
            })
            .await?;
        let ReadOut { siblings, context } = read;
        Ok(Versioned { key, siblings, context })
    }

    /// Replaces what `seen` showed. What concurrent writers stored since stays, as siblings.
    /// Answers what this writer has now seen: fit for its next write, not for reading others'.
    ///
    /// # Errors
    /// `Error::may_have_happened` tells whether the write may be stored.
    pub async fn put(&self, seen: &Versioned, value: impl Into<Bytes>) -> Result<Versioned> {
        self.put_expiring(seen, value, Expiry::Never).await
    }

    /// `put` with an expiry.
    ///
    /// # Errors
    /// As `put`.
    pub async fn put_expiring(
        &self,
        seen: &Versioned,
        value: impl Into<Bytes>,
        expiry: Expiry,
    ) -> Result<Versioned> {
        let coverage = Coverage::Seen(seen.context.clone());
        self.write(seen.key.clone(), Some(value.into()), coverage, expiry).await
    }

    /// Replaces whatever the deciding node knows of, unseen, like Redis's SET.
    ///
    /// # Errors
    /// As `put`. A retry may overwrite a newer write of somebody else.
    pub async fn blind_put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Versioned> {
        self.write(key.into(), Some(value.into()), Coverage::Blind, Expiry::Never).await
    }

    /// Adds a version beside whatever is there, replacing nothing: for data that is merged when it
    /// is read.
    ///
    /// # Errors
    /// As `put`. A retry may leave two siblings.
    pub async fn add_sibling(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Versioned> {
        self.write(key.into(), Some(value.into()), Coverage::Nothing, Expiry::Never).await
    }

    /// Deletes what `seen` showed. What concurrent writers stored since stays.
    ///
    /// # Errors
    /// As `put`.
    pub async fn delete(&self, seen: &Versioned) -> Result<Versioned> {
        let coverage = Coverage::Seen(seen.context.clone());
        self.write(seen.key.clone(), None, coverage, Expiry::Never).await
    }

    /// Deletes whatever R replicas hold, unseen, like Redis's DEL.
    ///
    /// # Errors
    /// As `put`.
    pub async fn blind_delete(&self, key: impl Into<Bytes>) -> Result<Versioned> {
        self.write(key.into(), None, Coverage::Blind, Expiry::Never).await
    }

    /// Several operations in one call, each with its own answer, in order; no atomicity. Never
    /// tried twice, since it may hold writes.
    ///
    /// # Errors
    /// The call as a whole failed: `Config` for more than `BATCH_OPS_MAX` operations.
    pub async fn batch(&self, ops: Vec<BatchOp>) -> Result<Vec<BatchOut>> {
        let count = ops.len();
        let ops = Bounded::new(ops)
            .map_err(|_| Error::Config("more operations than one batch may hold"))?;
        let outs = self
            .pool
            .call(Kind::Write, |stub, context, _| {
                let ops = ops.clone();
                async move { stub.batch(context, ops).await.map(Ok) }
            })
            .await?;
        if outs.len() == count {
            Ok(outs)
        } else {
            Err(Error::Protocol("a batch has as many answers as operations"))
        }
    }

    /// Why a key reads as it does.
    ///
    /// # Errors
    /// Nothing is known of the key.
    pub async fn explain(&self, key: impl Into<Bytes>) -> Result<Explanation> {
        let key = key.into();
        self.pool
            .call(Kind::Read, |stub, context, _| {
                let key = key.clone();
                async move { stub.explain(context, key).await }
            })
            .await
    }

    async fn write(
        &self,
        key: Bytes,
        value: Option<Bytes>,
        coverage: Coverage,
        expiry: Expiry,
    ) -> Result<Versioned> {
        let WriteOut { dot, context } = self
            .pool
            .call(Kind::Write, |stub, context, budget_ms| {
                let (key, value, coverage) = (key.clone(), value.clone(), coverage.clone());
                let (keyspace, level) = (self.keyspace, self.write);
                let options = WriteOptions { keyspace, level, budget_ms, expiry };
                async move {
                    match value {
                        Some(value) => stub.put(context, key, value, coverage, options).await,
                        None => stub.delete(context, key, coverage, options).await,
                    }
                }
            })
            .await?;
        let expires_at_ms = match expiry {
            Expiry::Never => None,
            Expiry::AtMs(at) => Some(at),
        };
        let siblings =
            dot.into_iter().map(|dot| Sibling { dot, value: value.clone(), expires_at_ms });
        Ok(Versioned { siblings: siblings.collect(), key, context })
    }

    fn reading(&self, budget_ms: u32) -> ReadOptions {
        ReadOptions { keyspace: self.keyspace, level: self.read, budget_ms }
    }
}

impl Stub for ClientServiceClient {
    const ROLE: Role = Role::Client;

    fn over(
        stream: TcpStream,
        frame_bytes_max: u32,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let new = Self::new(tarpc::client::Config::default(), framed(stream, frame_bytes_max));
        (new.client, new.dispatch.map(drop))
    }
}
