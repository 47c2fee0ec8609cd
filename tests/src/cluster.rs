//! A cluster of real processes on loopback ports, that are killed for real.
//!
//! Every node has a directory of its own under the system's scratch directory, logs to a file
//! there, and goes with the `Cluster`, also when a test fails. Ports are asked of the system; in
//! the moment between the asking and the node's start another process may take one, and then the
//! start fails and says so.

mod client;
mod explained;
mod exposition;
mod links;
mod metrics;
mod operator;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use client::{Client, shows};
pub use explained::Explained;
pub use exposition::{Family, Sample};
pub use links::{Links, Network};
pub use metrics::Metrics;
pub use operator::{Operator, joins, leaves, load, loaded, wrong};

/// How long a node may take to serve.
const READY_MS_MAX: u64 = 30_000;
/// A tick of the system's accounts: `USER_HZ` is 100 wherever Linux runs.
const TICK_MS: u64 = 10;
/// So much of a log is shown when a test fails.
const LOG_BYTES_SHOWN: usize = 2_000;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The program that runs a node.
    pub binary: PathBuf,
    /// For each node how far its wall clock is off, in milliseconds.
    pub skews_ms: Vec<i64>,
    /// Further settings, `section.key=value`.
    pub settings: Vec<String>,
    /// Each node has a loopback address of its own, 127.0.0.1 and up, and all have the same ports:
    /// in a network of the test's own ([`Network`]), where links between them can be cut.
    pub spread: bool,
}

/// Nodes that run until they are killed.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    /// How many nodes it was born of.
    born_of: usize,
    dir: PathBuf,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    host: Ipv4Addr,
    resp: u16,
    rpc: u16,
    http: u16,
    process: Option<Child>,
}

impl Cluster {
    /// Starts the nodes and waits until each serves and hears from all others.
    ///
    /// # Errors
    /// A process can't be started, or they don't serve in time.
    pub fn begin(config: ClusterConfig) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("kv-tests-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let nodes: Vec<Node> = if config.spread {
            (1..=config.skews_ms.len() as u8).map(Node::on_own_address).collect()
        } else {
            let ports = free_ports(3 * config.skews_ms.len())?;
            ports.chunks_exact(3).filter_map(Node::on_ports).collect()
        };
        let mut cluster = Self { config, born_of: nodes.len(), dir, nodes };
        for place in 0..cluster.nodes.len() {
            cluster.start(place)?;
        }
        cluster.ready()?;
        Ok(cluster)
    }

    /// Starts one node more, empty: it waits to be joined. Not for clusters that are spread out.
    ///
    /// # Errors
    /// The process can't be started.
    pub fn add(&mut self) -> io::Result<usize> {
        self.nodes.extend(Node::on_ports(&free_ports(3)?));
        let place = self.nodes.len() - 1;
        self.start(place)?;
        Ok(place)
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where Redis clients are served, by node.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::resp).collect()
    }

    /// Where other nodes and operators are served, by node.
    #[must_use]
    pub fn rpc_addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| SocketAddr::from((node.host, node.rpc))).collect()
    }

    /// What a node's metrics page says now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self, place: usize) -> io::Result<Metrics> {
        let node = self.nodes.get(place).ok_or_else(|| io::Error::other("no such node"))?;
        Metrics::of(SocketAddr::from((node.host, node.http)))
    }

    /// Starts a node on what its directory holds.
    ///
    /// # Errors
    /// The process can't be started.
    pub fn start(&mut self, place: usize) -> io::Result<()> {
        let seeds: Vec<String> =
            self.nodes.iter().map(|node| format!("\"{}:{}\"", node.host, node.rpc)).collect();
        let born_of = self.born_of;
        let Some(node) = self.nodes.get_mut(place) else { return Ok(()) };
        let log = File::options().create(true).append(true).open(log_of(&self.dir, place))?;
        let mut command = Command::new(&self.config.binary);
        command.arg("--data-dir").arg(self.dir.join(format!("n{place}")));
        let mut set = |setting: String| {
            command.arg("--set").arg(setting);
        };
        set(format!("listen.resp={}", node.resp()));
        set(format!("listen.rpc={}:{}", node.host, node.rpc));
        set(format!("listen.http={}:{}", node.host, node.http));
        if self.config.spread {
            // What it sends must come from its own address, or a cut link would not cut it.
            set(format!("cluster.bind_source={}", node.host));
        }
        set(format!("cluster.bootstrap_expect={born_of}"));
        set(format!("cluster.seeds=[{}]", seeds.join(",")));
        set("cluster.partitions=64".into());
        self.config.settings.iter().for_each(|setting| set(setting.clone()));
        let skew_ms = self.config.skews_ms.get(place).copied().unwrap_or(0);
        // Settings come from variables too, and those of the tests' own environment are not meant.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KV_") {
                command.env_remove(name);
            }
        }
        command.env("CLOCK_SKEW_MS", skew_ms.to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        node.process = Some(command.spawn()?);
        Ok(())
    }

    /// Kills these nodes with -9, one right after the other, and waits until they are gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self, places: &[usize]) -> io::Result<()> {
        let mut killed = Vec::new();
        for place in places {
            let Some(node) = self.nodes.get_mut(*place) else { continue };
            if let Some(mut process) = node.process.take() {
                process.kill()?;
                killed.push(process);
            }
        }
        for mut process in killed {
            process.wait()?;
        }
        Ok(())
    }

    /// Milliseconds of CPU that the nodes that run have used since they started, together.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn cpu_ms(&self) -> io::Result<u64> {
        let running = self.nodes.iter().filter_map(|node| node.process.as_ref());
        running.map(|process| cpu_ms_of(process.id())).sum()
    }

    /// Asks a node's process to end with SIGTERM, and waits until it has: how it ended.
    ///
    /// # Errors
    /// The node does not run, or is there still after so long.
    pub fn terminate(&mut self, place: usize, within: Duration) -> io::Result<ExitStatus> {
        self.signal(place, "-TERM")?;
        self.ended(place, within)
    }

    /// Waits until a node's process has ended by itself: how it ended.
    ///
    /// # Errors
    /// The node does not run, or is there still after so long.
    pub fn ended(&mut self, place: usize, within: Duration) -> io::Result<ExitStatus> {
        let began = Instant::now();
        let node = self.nodes.get_mut(place).ok_or_else(|| io::Error::other("no such node"))?;
        let gone = || io::Error::other("the node does not run");
        loop {
            let process = node.process.as_mut().ok_or_else(gone)?;
            if let Some(status) = process.try_wait()? {
                node.process = None;
                return Ok(status);
            }
            if began.elapsed() > within {
                return Err(io::Error::other(format!("node {place} is there still")));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops a node's process with SIGSTOP, or lets it go on: meanwhile it holds its connections
    /// and answers nothing.
    ///
    /// # Errors
    /// The node does not run, or the system refuses.
    pub fn pause(&self, place: usize, stopped: bool) -> io::Result<()> {
        self.signal(place, if stopped { "-STOP" } else { "-CONT" })
    }

    fn signal(&self, place: usize, signal: &str) -> io::Result<()> {
        let process = self.nodes.get(place).and_then(|node| node.process.as_ref());
        let process = process.ok_or_else(|| io::Error::other("the node does not run"))?;
        let sent = Command::new("kill").arg(signal).arg(process.id().to_string()).status()?;
        if sent.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("kill {signal}: {sent}")))
        }
    }

    /// Waits until every node serves reads of all copies, which proves that each hears the others.
    ///
    /// # Errors
    /// They don't in half a minute, or one has ended.
    pub fn ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
        for place in 0..self.nodes.len() {
            while let Some(node) = self.nodes.get_mut(place) {
                if let Some(process) = &mut node.process
                    && let Some(status) = process.try_wait()?
                {
                    return Err(io::Error::other(format!("node {place} ended: {status}")));
                }
                if serves(node.resp()) {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(io::Error::other(format!("node {place} does not serve")));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// The end of each node's log.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for place in 0..self.nodes.len() {
            let log = fs::read(log_of(&self.dir, place)).unwrap_or_default();
            let end = log.get(log.len().saturating_sub(LOG_BYTES_SHOWN)..).unwrap_or_default();
            all.push_str("--- ");
            all.push_str(&String::from_utf8_lossy(end));
        }
        all
    }
}

impl Node {
    fn on_ports(ports: &[u16]) -> Option<Self> {
        match *ports {
            [resp, rpc, http] => {
                Some(Self { host: Ipv4Addr::LOCALHOST, resp, rpc, http, process: None })
            }
            _ => None,
        }
    }

    fn on_own_address(number: u8) -> Self {
        let host = Ipv4Addr::new(127, 0, 0, number);
        Self { host, resp: 7001, rpc: links::RPC_PORT, http: 7201, process: None }
    }

    fn resp(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.resp))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let killed = self.kill(&all);
        if thread::panicking() {
            let _unwritable = writeln!(io::stderr(), "{killed:?}\n{}", self.logs());
        }
        // What stays behind is in the scratch directory.
        let _left = fs::remove_dir_all(&self.dir);
    }
}

/// Ends what other threads do also when the test fails meanwhile.
#[derive(Debug)]
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// User and system time of a process, from the 14th and the 15th field of its `stat`.
fn cpu_ms_of(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is its name in parentheses, which may hold anything.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = rest.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok());
    let ticks: Option<u64> = ticks.sum();
    ticks.map(|ticks| ticks * TICK_MS).ok_or_else(|| io::Error::other(format!("stat: {stat}")))
}

fn log_of(dir: &Path, place: usize) -> PathBuf {
    dir.join(format!("n{place}.log"))
}

fn serves(address: SocketAddr) -> bool {
    let Ok(mut connection) = client::connect(address) else { return false };
    redis::cmd("KV.GET")
        .arg("ready")
        .arg("R")
        .arg("ALL")
        .query::<redis::Value>(&mut connection)
        .is_ok()
}

/// Ports that nobody listens on, all different.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
