//! Real processes that are stopped as an operator stops them: one after the other is drained, ends,
//! and is started again, under load through all of them, and no client sees an error.
//!
//! Clients are as Redis clients are: each has the addresses of all nodes, dials one that says that
//! it has loaded (as ioredis does), and where a connection ends it dials anew and asks once more.
//!
//! `KV_TEST_LONG=1` goes round three times with more clients; else once. What was seen is printed
//! as `figure: ...`.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_client::NodeId;
use kv_tests::cluster::{Cluster, ClusterConfig, Operator, StopAtEnd, wrong};
use redis::{Connection, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind};

const CONNECT_MS_MAX: u64 = 2_000;
const ANSWER_MS_MAX: u64 = 10_000;
/// After so many requests a client goes back to the node that it likes best, as pools renew
/// their connections.
const REQUESTS_A_CONNECTION: usize = 200;
/// A node is drained, closes and is gone in this time.
const GONE_WITHIN: Duration = Duration::from_secs(35);
const POLL: Duration = Duration::from_millis(50);

fn is_long() -> bool {
    std::env::var_os("KV_TEST_LONG").is_some()
}

fn three() -> Cluster {
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 200, -150],
        settings: vec!["log.level=info".into()],
        spread: false,
    };
    Cluster::begin(config).expect("three nodes serve")
}

/// A Redis client with a few addresses and one connection.
struct Caller {
    addresses: Vec<SocketAddr>,
    /// The one that it likes best.
    home: usize,
    connection: Option<Connection>,
    requests: usize,
    /// How often it asked once more.
    again: usize,
    slowest: Duration,
}

impl Caller {
    fn new(addresses: Vec<SocketAddr>, home: usize) -> Self {
        let (connection, slowest) = (None, Duration::ZERO);
        Self { addresses, home, connection, requests: 0, again: 0, slowest }
    }

    fn dial(&self) -> RedisResult<Connection> {
        let count = self.addresses.len();
        let in_turn = (0..count).filter_map(|turn| self.addresses.get((self.home + turn) % count));
        let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "no address"));
        for address in in_turn {
            match ready(*address) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks, and once more over a new connection where the first has ended.
    fn ask<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> RedisResult<T> {
        self.requests += 1;
        if self.requests.is_multiple_of(REQUESTS_A_CONNECTION) {
            self.connection = None;
        }
        let asked = Instant::now();
        let mut told = self.ask_once(command);
        if told.as_ref().is_err_and(is_of_connection) {
            self.again += 1;
            told = self.ask_once(command);
        }
        self.slowest = self.slowest.max(asked.elapsed());
        told
    }

    fn ask_once<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> RedisResult<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dial()?,
        };
        let told = command.query(&mut connection);
        if !told.as_ref().is_err_and(is_of_connection) {
            self.connection = Some(connection);
        }
        told
    }
}

fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_timeout()
}

/// A connection to a node that says that it has loaded.
fn ready(address: SocketAddr) -> RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://{address}/"))?;
    let timeout = Duration::from_millis(CONNECT_MS_MAX);
    let mut connection = client.get_connection_with_timeout(timeout)?;
    connection.set_read_timeout(Some(Duration::from_millis(ANSWER_MS_MAX)))?;
    let info: String = redis::cmd("INFO").arg("persistence").query(&mut connection)?;
    if info.lines().any(|line| line.trim_end() == "loading:0") {
        return Ok(connection);
    }
    Err(RedisError::from((ErrorKind::Server(ServerErrorKind::BusyLoading), "it loads")))
}

/// What one client saw.
struct Saw {
    acknowledged: Vec<usize>,
    errors: Vec<String>,
    again: usize,
    slowest: Duration,
}

/// Writes a new key and reads an old one, in turn.
fn work(id: usize, addresses: Vec<SocketAddr>, stop: &AtomicBool) -> Saw {
    let home = id % addresses.len();
    let mut caller = Caller::new(addresses, home);
    let (mut acknowledged, mut errors) = (Vec::new(), Vec::new());
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("w:{id}:{n}");
        match caller.ask::<String>(redis::cmd("SET").arg(&key).arg(&key)) {
            Ok(_) => acknowledged.push(n),
            Err(error) => errors.push(format!("SET: {error}")),
        }
        let Some(old) = acknowledged.get(n / 3) else { continue };
        let key = format!("w:{id}:{old}");
        match caller.ask::<Option<String>>(redis::cmd("GET").arg(&key)) {
            Ok(value) => assert_eq!(value.as_ref(), Some(&key), "it was acknowledged"),
            Err(error) => errors.push(format!("GET: {error}")),
        }
    }
    Saw { acknowledged, errors, again: caller.again, slowest: caller.slowest }
}

/// Waits until every node sees all three, and keeps nothing for any.
fn until_whole(cluster: &Cluster) {
    let began = Instant::now();
    let is_whole = |place: usize| {
        cluster.metrics(place).is_ok_and(|page| {
            page.sum("kv_members_up") == 3
                && page.sum("kv_ready") == 1
                && page.sum("kv_hint_queued_keys") == 0
        })
    };
    while !(0..3).all(is_whole) {
        assert!(began.elapsed() < GONE_WITHIN, "they don't see each other\n{}", cluster.logs());
        thread::sleep(POLL);
    }
}

#[test]
fn a_rolling_restart_under_load_shows_no_error_to_any_client() {
    let (rounds, clients) = if is_long() { (3, 12) } else { (1, 6) };
    let mut cluster = three();
    let stop = AtomicBool::new(false);
    let saw = thread::scope(|scope| {
        let _stops = StopAtEnd(&stop);
        let stop = &stop;
        let working: Vec<_> = (0..clients)
            .map(|id| (id, cluster.addresses()))
            .map(|(id, addresses)| scope.spawn(move || work(id, addresses, stop)))
            .collect();
        thread::sleep(Duration::from_secs(1));
        for place in (0..rounds).flat_map(|_| 0..3) {
            let began = Instant::now();
            let status = cluster.terminate(place, GONE_WITHIN).expect("it ends by itself");
            assert!(status.success(), "{status}\n{}", cluster.logs());
            let gone = began.elapsed();
            cluster.start(place).expect("it starts");
            cluster.ready().expect("all serve");
            until_whole(&cluster);
            println!(
                "figure: node {place} was gone after {:.2} s, all whole after {:.2} s",
                gone.as_secs_f64(),
                began.elapsed().as_secs_f64()
            );
            let page = cluster.metrics(place).expect("it serves");
            assert_eq!(page.sum("kv_engine_replayed_ops"), 0, "nothing was left to replay");
            thread::sleep(Duration::from_millis(500));
        }
        stop.store(true, Ordering::Relaxed);
        working.into_iter().map(|one| one.join().expect("a client ends")).collect::<Vec<Saw>>()
    });
    let errors: Vec<&String> = saw.iter().flat_map(|saw| &saw.errors).collect();
    let sum = |of: fn(&Saw) -> usize| saw.iter().map(of).sum::<usize>();
    let (written, again) = (sum(|saw| saw.acknowledged.len()), sum(|saw| saw.again));
    println!(
        "figure: {written} SETs acknowledged, {again} requests asked once more, {} errors, the \
         slowest took {:?}",
        errors.len(),
        saw.iter().map(|saw| saw.slowest).max().unwrap_or_default()
    );
    assert!(errors.is_empty(), "{errors:?}\n{}", cluster.logs());
    assert!(again > 0, "clients were sent elsewhere");
    for (id, saw) in saw.iter().enumerate() {
        let names: Vec<String> = saw.acknowledged.iter().map(|n| format!("w:{id}:{n}")).collect();
        let address = *cluster.addresses().get(id % 3).expect("three nodes");
        assert_eq!(wrong(address, &names, str::to_owned).expect("a quorum"), [""; 0]);
    }
}

/// Runs `kv` against node 0.
fn kv(cluster: &Cluster, arguments: &[&str]) -> Output {
    let address = cluster.rpc_addresses().first().expect("three nodes").to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv-test-cli"));
    command.args(["--connect", &address]).args(arguments);
    command.output().expect("it runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether somebody listens for Redis clients there.
fn takes_clients(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(CONNECT_MS_MAX)).is_ok()
}

#[test]
fn a_node_is_drained_taken_back_and_ended_by_an_operator() {
    let mut cluster = three();
    let operator = Operator::new().expect("there is room");
    let admin = operator.admin(&cluster, 0).expect("it answers");
    let id: NodeId = operator.id(&cluster, &admin, 2).expect("it is known");
    let (name, address) = (id.to_string(), *cluster.addresses().get(2).expect("three nodes"));
    let mut there = ready(address).expect("it takes clients");

    let text = said(&kv(&cluster, &["node", "drain", "--node", &name, "--stay"]));
    assert!(text.contains("is drained, and may be stopped"), "{text}");
    assert!(!takes_clients(address), "nobody listens there");
    assert!(redis::cmd("PING").query::<String>(&mut there).is_err(), "it was sent away");
    let nodes = said(&kv(&cluster, &["nodes"]));
    let line = nodes.lines().find(|line| line.starts_with(&name)).expect("it is a member");
    assert!(line.contains("draining"), "{line}");
    let mut other = ready(*cluster.addresses().first().expect("three nodes")).expect("it serves");
    let mut put = redis::cmd("KV.PUT");
    let put = put.arg("k").arg("v").arg("W").arg("ALL").query::<redis::Value>(&mut other);
    assert!(put.is_ok(), "it goes on as a replica: {put:?}");
    let slots = redis::cmd("CLUSTER").arg("SLOTS").query::<redis::Value>(&mut other);
    let slots = format!("{:?}", slots.expect("a map of the slots"));
    assert!(!slots.contains(&address.port().to_string()), "clients are not sent there: {slots}");

    let text = said(&kv(&cluster, &["node", "drain", "--node", &name, "--undo"]));
    assert_eq!(text, format!("{name} takes clients\n"));
    let began = Instant::now();
    while !takes_clients(address) {
        assert!(began.elapsed() < GONE_WITHIN, "it listens again\n{}", cluster.logs());
        thread::sleep(POLL);
    }
    until_whole(&cluster);

    let text = said(&kv(&cluster, &["--json", "node", "drain", "--node", &name]));
    assert!(text.contains("\"ended\":true") && text.contains("\"stage\":\"drained\""), "{text}");
    let status = cluster.ended(2, GONE_WITHIN).expect("it ends by itself");
    assert!(status.success(), "{status}\n{}", cluster.logs());
    cluster.start(2).expect("it starts");
    cluster.ready().expect("all serve");
    let page = cluster.metrics(2).expect("it serves");
    assert_eq!(page.sum("kv_engine_replayed_ops") + page.sum("kv_draining"), 0);
    let unknown = kv(&cluster, &["node", "drain", "--node", "00000000000000ff"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}
