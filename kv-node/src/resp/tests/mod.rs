//! The door as a client sees it: requests in, bytes out, through a stream in memory, on a node of
//! one with the in-memory engine. Parser, executor, encoder and coordinator run together.
//!
//! The tables in `*.txt` are conversations:
//!
//! ```text
//! # a comment; an empty line begins a new connection
//! > SET k "a b"              one request, quoted as redis-cli quotes
//! < +OK                      exactly these bytes, `|` for CRLF
//! ~ -ERR *                   the same as a pattern
//! ```

mod away;
mod bad;
mod slow;
mod tables;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::fs::MemFs;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::exec::{Session, Shared};
use super::server::converse;
use crate::cluster::birth::BirthPlan;
use crate::cluster::record::{KeyspaceSettings, Rmw};
use crate::config::{CompatConfig, RespConfig};
use crate::node::{Node, NodeConfig, NodeParts};
use crate::plug::clock::{Clock, TokioClock};
use crate::plug::exec::{Exec, InlineExec};
use crate::plug::inproc::InProcNetwork;
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::rng::SeededRng;
use crate::rpc::peer::PeersConfig;

/// Nodes in one process, n0 and on.
struct Net {
    network: InProcNetwork,
    clock: Arc<TokioClock>,
}

impl Net {
    fn new() -> Self {
        let clock = Arc::new(TokioClock::new(1_700_000_000_000));
        let exec: Arc<dyn Exec> = Arc::new(InlineExec);
        let network = InProcNetwork::new(Arc::clone(&clock) as Arc<dyn Clock>, exec, 1);
        Self { network, clock }
    }

    async fn start(&self, place: u16, rmw: Rmw, expect: u16) -> Node {
        let address = format!("n{place}");
        let n = expect.min(3) as u8;
        let config = NodeConfig {
            data_dir: PathBuf::from("/data"),
            address: address.clone(),
            client_address: format!("127.0.0.1:{}", 7001 + place),
            zone: String::new(),
            weight: 1,
            seeds: (0..expect).map(|place| format!("n{place}")).collect(),
            bootstrap_expect: expect,
            birth: BirthPlan {
                name: "test".into(),
                partitions: 64,
                keyspace: KeyspaceSettings { n, rmw, ..KeyspaceSettings::default() },
                pair_bytes_max: 10 * 1_024,
            },
            gossip: kv_gossip::Config::local(),
            timing: crate::coordinator::Timing::default(),
            peers: PeersConfig::default(),
            antientropy: crate::coordinator::exchange::AntiEntropyConfig::default(),
            hints: crate::replica::HintConfig::default(),
            clock_skew_ms_max: 60_000,
            floors: crate::cluster::floors::FloorTiming::default(),
        };
        let parts = NodeParts {
            fs: Arc::new(MemFs::new()),
            engine: Arc::new(MemoryEngine::new(MemoryConfig::default())),
            transport: Arc::new(self.network.endpoint(address)),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(SeededRng::new(u64::from(place) + 7)),
            exec: Arc::new(InlineExec),
        };
        Node::start(config, parts).await.expect("a node starts on an empty directory")
    }
}

/// A door without a socket.
struct Door(Arc<Shared>);

impl Door {
    /// The door of a node that waits for `expect` members and is alone.
    async fn of(resp: RespConfig, compat: CompatConfig, rmw: Rmw, expect: u16) -> Self {
        let net = Net::new();
        let node = net.start(0, rmw, expect).await;
        for _ in 0..200 {
            if node.is_ready() || expect > 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self(Arc::new(Shared::new(Arc::new(node), resp, compat, 7001)))
    }

    /// The door of the first of three nodes, which hold every key, and what keeps them together.
    async fn of_three() -> (Self, Net, Vec<Node>) {
        Self::of_three_with(RespConfig::default()).await
    }

    async fn of_three_with(resp: RespConfig) -> (Self, Net, Vec<Node>) {
        let net = Net::new();
        let mut nodes = Vec::new();
        for place in 0..3 {
            nodes.push(net.start(place, Rmw::Refuse, 3).await);
        }
        for _ in 0..200 {
            if nodes.iter().all(Node::sees_all) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let first = Arc::new(nodes.remove(0));
        let compat = CompatConfig::default();
        (Self(Arc::new(Shared::new(first, resp, compat, 7001))), net, nodes)
    }

    async fn plain() -> Self {
        Self::of(RespConfig::default(), CompatConfig::default(), Rmw::Refuse, 1).await
    }

    fn connect(&self) -> Client {
        let (client, server) = tokio::io::duplex(1 << 20);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let session = Session::new(&shared, None, None);
            let (reader, writer) = tokio::io::split(server);
            let _ended = converse(&shared, session, reader, writer).await;
        });
        Client(client)
    }
}

/// The client's end.
struct Client(DuplexStream);

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the door reads");
    }

    /// What is answered until nothing more comes; virtual time makes that quick and sure.
    async fn heard(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let quiet = Duration::from_millis(200);
        while let Ok(Ok(count)) = tokio::time::timeout(quiet, self.0.read_buf(&mut all)).await {
            if count == 0 {
                break;
            }
        }
        all
    }

    async fn ask(&mut self, bytes: &[u8]) -> String {
        self.send(bytes).await;
        shown(&self.heard().await)
    }

    /// Whether the door has closed.
    async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(200), self.0.read(&mut byte)).await;
        matches!(read, Ok(Ok(0)))
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "|")
}

/// A request as clients send it.
fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
