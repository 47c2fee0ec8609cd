//! A node in memory: one process, one copy, nothing durable. For tests of programs that use the
//! client, and for this crate's own.
//!
//! It keeps siblings and contexts as a real node shows them (a context covers what its holder was
//! shown), and nothing else: no replicas, no expiry, no levels. Operators are told as much.

mod desk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tarpc::context::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::desk::Desk;
use crate::NodeId;
use crate::codec::{decode, encode};
use crate::handshake::{self, Role, Secret};
use crate::service::{AdminService, ClientService, ServeLimits, serve};
use crate::wire::{
    BATCH_OPS_MAX, BatchOp, BatchOut, Bounded, CONFLICTS_PAGE_KEYS_MAX, Conflict, ConflictsView,
    Coverage, DotName, Endpoints, Expiry, Explanation, ReadOptions, ReadOut, ServiceError, Sibling,
    WriteOptions, WriteOut,
};

/// A node in memory on a loopback port. Dropping it closes the port and every connection.
pub struct MemoryNode {
    address: String,
    accepting: tokio::task::JoinHandle<()>,
}

impl fmt::Debug for MemoryNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNode").field("address", &self.address).finish_non_exhaustive()
    }
}

impl MemoryNode {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// There is no port to have.
    pub async fn start(secret: Secret) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let service = Service::default();
        let accepting = tokio::spawn(async move {
            // Dropped with the task, and the connections with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(attend(stream, secret.clone(), service.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, accepting })
    }

    /// Where it listens, as `Client::connect` wants it.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for MemoryNode {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn attend(mut stream: TcpStream, secret: Secret, service: Service) {
    let Ok(nonce) = handshake::nonce() else { return };
    let serves = |role| matches!(role, Role::Client | Role::Admin);
    let Ok(role) = handshake::accept(&mut stream, &secret, serves, nonce).await else { return };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let limits = ServeLimits::default();
    if role == Role::Admin {
        let endpoints = Endpoints {
            rpc: stream.local_addr().map_or_else(|_| String::new(), |address| address.to_string()),
            ..Endpoints::default()
        };
        serve(stream, limits, AdminService::serve(Desk { service, endpoints })).await;
    } else {
        serve(stream, limits, ClientService::serve(service)).await;
    }
}

/// What a context says: which key, which writes.
#[derive(Serialize, Deserialize)]
struct Seen {
    key: Bytes,
    dots: BTreeSet<DotName>,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    clock: u64,
    rows: BTreeMap<Bytes, Vec<Sibling>>,
}

impl Service {
    fn rows(&self) -> u64 {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.rows.values().filter(|siblings| !siblings.is_empty()).count() as u64
    }

    /// The keys with siblings; a cursor is how many of them lie before.
    fn conflicts(&self, from: u64, count: u32) -> ConflictsView {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let several = rows.rows.iter().filter(|(_, siblings)| siblings.len() > 1);
        let all: Vec<Conflict> = several
            .map(|(key, siblings)| Conflict {
                key: key.clone(),
                siblings: siblings.len() as u32,
                newest_ms: siblings.iter().map(|sibling| sibling.dot.time >> 16).max().unwrap_or(0),
                replicas: 1,
            })
            .collect();
        let total = all.len() as u64;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let count = count.clamp(1, CONFLICTS_PAGE_KEYS_MAX) as usize;
        let next = from.saturating_add(count);
        ConflictsView {
            total,
            rows: all.into_iter().skip(from).take(count).collect(),
            next: if (next as u64) < total { next as u64 } else { 0 },
            ..ConflictsView::default()
        }
    }

    fn read(&self, key: &Bytes) -> ReadOut {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let siblings = rows.rows.get(key).cloned().unwrap_or_default();
        let dots = siblings.iter().map(|sibling| sibling.dot).collect();
        ReadOut { siblings, context: seal(key, dots) }
    }

    fn write(
        &self,
        key: &Bytes,
        value: Option<Bytes>,
        coverage: &Coverage,
        options: WriteOptions,
    ) -> Result<WriteOut, ServiceError> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.clock += 1;
        let dot = DotName { time: rows.clock, node: NodeId(1), tenure: 1 };
        let siblings = rows.rows.entry(key.clone()).or_default();
        let mut covered = match coverage {
            // As a node answers for a key that never was.
            Coverage::Seen(context) if context.is_empty() => BTreeSet::new(),
            Coverage::Seen(context) => open(key, context)?,
            Coverage::Nothing => BTreeSet::new(),
            Coverage::Blind => siblings.iter().map(|sibling| sibling.dot).collect(),
        };
        siblings.retain(|sibling| !covered.contains(&sibling.dot));
        if let Some(value) = value {
            // Kept and shown; nothing ever expires here, there is no clock.
            let expires_at_ms = match options.expiry {
                Expiry::Never => None,
                Expiry::AtMs(at) => Some(at),
            };
            siblings.insert(0, Sibling { dot, value: Some(value), expires_at_ms });
            covered.insert(dot);
        }
        Ok(WriteOut { dot: Some(dot), context: seal(key, covered) })
    }
}

impl ClientService for Service {
    async fn get(self, _: Context, key: Bytes, _: ReadOptions) -> Result<ReadOut, ServiceError> {
        Ok(self.read(&key))
    }

    async fn put(
        self,
        _: Context,
        key: Bytes,
        value: Bytes,
        coverage: Coverage,
        options: WriteOptions,
    ) -> Result<WriteOut, ServiceError> {
        self.write(&key, Some(value), &coverage, options)
    }

    async fn delete(
        self,
        _: Context,
        key: Bytes,
        coverage: Coverage,
        options: WriteOptions,
    ) -> Result<WriteOut, ServiceError> {
        self.write(&key, None, &coverage, options)
    }

    async fn batch(self, _: Context, ops: Bounded<BatchOp, BATCH_OPS_MAX>) -> Vec<BatchOut> {
        let one = |op| match op {
            BatchOp::Get { key, .. } => BatchOut::Read(Ok(self.read(&key))),
            BatchOp::Put { key, value, coverage, options } => {
                BatchOut::Written(self.write(&key, Some(value), &coverage, options))
            }
            BatchOp::Delete { key, coverage, options } => {
                BatchOut::Written(self.write(&key, None, &coverage, options))
            }
        };
        ops.into_vec().into_iter().map(one).collect()
    }

    async fn explain(self, _: Context, key: Bytes) -> Result<Explanation, ServiceError> {
        Ok(desk::explain(&self, key))
    }
}

const CONTEXT_BYTES_MAX: u32 = 64 * 1024;

fn seal(key: &Bytes, dots: BTreeSet<DotName>) -> Bytes {
    // Too many dots to name cover nothing: safe, since a context may always cover less.
    encode(&Seen { key: key.clone(), dots }, CONTEXT_BYTES_MAX).unwrap_or_default()
}

fn open(key: &Bytes, context: &[u8]) -> Result<BTreeSet<DotName>, ServiceError> {
    let seen = decode::<Seen>(context).map_err(|_| ServiceError::BadContext)?;
    if seen.key == key { Ok(seen.dots) } else { Err(ServiceError::BadContext) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Level;
    use crate::{Client, Config, Error};

    async fn client_of(node: &MemoryNode) -> Client {
        Client::connect(&[node.address()], Config::default()).await.expect("it listens")
    }

    fn texts(values: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<String> {
        values.map(|value| String::from_utf8_lossy(value.as_ref()).into_owned()).collect()
    }

    #[tokio::test]
    async fn a_put_replaces_what_it_saw_and_nothing_else() {
        let node = MemoryNode::start(Secret::default()).await.expect("a port");
        let client = client_of(&node).await;
        let empty = client.get("k").await.expect("read");
        assert_eq!(empty.siblings(), []);
        let first = client.put(&empty, "one").await.expect("written");
        // A second writer that saw the same nothing leaves a sibling.
        client.put(&empty, "two").await.expect("written");
        let both = client.get("k").await.expect("read");
        assert!(both.is_conflict());
        assert_eq!(both.only(), None);
        assert_eq!(texts(both.values()), ["two", "one"]);
        // The first writer goes on from what it knows.
        client.put(&first, "three").await.expect("written");
        let both = client.get("k").await.expect("read");
        assert_eq!(texts(both.values()), ["three", "two"]);
        client.put(&both, "resolved").await.expect("written");
        let one = client.get("k").await.expect("read");
        assert_eq!(texts(one.values()), ["resolved"]);
        client.delete(&one).await.expect("deleted");
        assert_eq!(client.get("k").await.expect("read").siblings(), []);
    }

    #[tokio::test]
    async fn blind_writes_replace_all_and_additions_nothing() {
        let node = MemoryNode::start(Secret::default()).await.expect("a port");
        let client = client_of(&node).await.at_levels(Level::Quorum, Level::All);
        client.add_sibling("k", "a").await.expect("written");
        client.add_sibling("k", "b").await.expect("written");
        assert_eq!(texts(client.get("k").await.expect("read").values()), ["b", "a"]);
        client.blind_put("k", "c").await.expect("written");
        assert_eq!(texts(client.get("k").await.expect("read").values()), ["c"]);
    }

    #[tokio::test]
    async fn a_context_of_another_key_is_refused() {
        let node = MemoryNode::start(Secret::default()).await.expect("a port");
        let client = client_of(&node).await;
        let seen = client.get("k").await.expect("read");
        let coverage = Coverage::Seen(seen.context().clone());
        let key = Bytes::from_static(b"other");
        let options = WriteOptions::default();
        let ops = vec![BatchOp::Delete { key, coverage, options }];
        let outs = client.batch(ops).await.expect("an answer");
        assert_eq!(outs, [BatchOut::Written(Err(ServiceError::BadContext))]);
    }

    #[tokio::test]
    async fn reads_move_on_to_the_next_address_and_so_does_a_write_that_was_never_sent() {
        let first = MemoryNode::start(Secret::default()).await.expect("a port");
        let second = MemoryNode::start(Secret::default()).await.expect("a port");
        let addresses = [first.address().to_owned(), second.address().to_owned()];
        let client = Client::connect(&addresses, Config::default()).await.expect("they listen");
        client.blind_put("k", "on the first").await.expect("written");
        drop(first);
        assert_eq!(client.get("k").await.expect("the second answers").siblings(), []);
        client.blind_put("k", "on the second").await.expect("written");
        assert_eq!(texts(client.get("k").await.expect("read").values()), ["on the second"]);
        drop(second);
        // The connection may be found dead before or after the write was handed to it.
        let error = client.blind_put("k", "nowhere").await.expect_err("nobody is there");
        assert!(matches!(error, Error::Lost(_) | Error::Unreachable { .. }), "{error}");
        let error = client.get("k").await.expect_err("nobody is there");
        assert!(matches!(error, Error::Lost(_) | Error::Unreachable { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_secret_is_told_apart_from_nobody_there() {
        let node = MemoryNode::start(Secret::new("right")).await.expect("a port");
        let config = Config { secret: Secret::new("wrong"), ..Config::default() };
        let error = Client::connect(&[node.address()], config).await.expect_err("refused");
        assert!(matches!(error, Error::Handshake { .. }), "{error}");
        assert!(!error.may_have_happened());
    }

    #[tokio::test]
    async fn a_request_over_the_frame_limit_fails_alone() {
        let node = MemoryNode::start(Secret::default()).await.expect("a port");
        let config = Config { frame_bytes_max: 1_000, ..Config::default() };
        let client = Client::connect(&[node.address()], config).await.expect("it listens");
        let error = client.blind_put("k", vec![0; 1_000]).await.expect_err("too large");
        assert!(matches!(error, Error::TooLarge { frame_bytes_max: 1_000 }), "{error}");
        client.blind_put("k", "fits").await.expect("the connection goes on");
    }

    #[tokio::test]
    async fn a_silent_node_costs_a_deadline_and_not_more() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let silent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the client");
            let greeted =
                handshake::accept(&mut stream, &Secret::default(), |_| true, [9; 32]).await;
            assert!(greeted.is_ok());
            std::future::pending::<()>().await;
        });
        let config = Config { deadline_ms: 80, ..Config::default() };
        let client = Client::connect(&[address], config).await.expect("it greets");
        let error = client.blind_put("k", "v").await.expect_err("no answer");
        assert!(matches!(error, Error::TimedOut), "{error}");
        assert!(error.may_have_happened());
        silent.abort();
    }
}
