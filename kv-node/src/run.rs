//! The node as a process: flags in, exit code out.
//!
//! ```text
//! settings -> logs -> ports of clients and HTTP -> engine -> node -> front doors -> a signal -> stop
//! ```
//! Ports that only this process needs are taken first, so that a second start on the same machine
//! ends before it touches data. What is started in order is stopped in the opposite one; a second
//! signal ends the process at once, as kill -9 would, which the engine survives.
//!
//! Exit codes: 0 stopped as asked, 1 could not stop cleanly, 2 flags or settings, 3 could not
//! start, 130 ended by a second signal.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use kv_lsm::fs::{Fs, OsFs};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Checked, Config, EngineKind, Flags, load};
use crate::coordinator::Timing;
use crate::http::{self, HttpConfig, HttpSource};
use crate::log;
use crate::node::{Node, NodeConfig, NodeParts};
use crate::plug::clock::{Clock, SystemClock};
use crate::plug::discovery::{Discovery, FileSeeds, StaticSeeds};
use crate::plug::exec::{Exec, TokioExec};
use crate::plug::lsm::LsmEngine;
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::rng::{OsRng, Rng};
use crate::plug::storage::StorageEngine;
use crate::resp::server::RespDoor;
use crate::resp;
use crate::rpc::peer::PeersConfig;
use crate::rpc::transport::{TarpcConfig, TarpcTransport};

const EXIT_DIRTY: u8 = 1;
const EXIT_SETTINGS: u8 = 2;
const EXIT_NO_START: u8 = 3;
const EXIT_SECOND_SIGNAL: i32 = 130;

/// How long a stop may take before it is given up.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How far apart the clocks of sound members may be, in milliseconds.
const CLOCK_SKEW_MS_MAX: u64 = 60_000;

/// What a process is made of where it is not the operating system's: for binaries of tests, which
/// skew the clock or break the disk of an otherwise ordinary node.
pub struct MainParts {
    /// The disk.
    pub fs: Arc<dyn Fs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
}

impl Default for MainParts {
    fn default() -> Self {
        Self {
            fs: Arc::new(OsFs::new()),
            clock: Arc::new(SystemClock::new()),
            rng: Arc::new(OsRng),
        }
    }
}

impl fmt::Debug for MainParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MainParts").finish_non_exhaustive()
    }
}

/// Runs a node until it is told to stop. `arguments` are those of a process, its name first;
/// settings also come from the file that they name and from `KV_*` variables.
pub fn main_with(
    arguments: impl IntoIterator<Item = OsString>,
    parts: MainParts,
) -> ExitCode {
    let began = Instant::now();
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(told) => {
            // Help and version come this way too.
            let _unwritable = told.print();
            return if told.use_stderr() { EXIT_SETTINGS.into() } else { ExitCode::SUCCESS };
        }
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let checked = load(&flags, variables).and_then(|config| {
        let checked = config.check(flags.insecure)?;
        Ok((config, checked))
    });
    let (config, checked) = match checked {
        Ok(sound) => sound,
        Err(error) => {
            complain(&error);
            return EXIT_SETTINGS.into();
        }
    };
    if flags.print_config || flags.check_config {
        let text = if flags.print_config { config.to_toml() } else { "the settings are sound\n".into() };
        let written = io::stdout().write_all(text.as_bytes());
        return if written.is_ok() { ExitCode::SUCCESS } else { EXIT_DIRTY.into() };
    }
    if let Err(error) = log::begin(&config.log) {
        complain(&error);
        return EXIT_SETTINGS.into();
    }
    let runtime = match runtime(config.threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("the runtime can't be started: {error}"));
            return EXIT_NO_START.into();
        }
    };
    let code = runtime.block_on(run(config, checked, parts, began));
    // What still blocks (a disk that hangs) must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

fn complain(error: &dyn fmt::Display) {
    let _unwritable = writeln!(io::stderr(), "kv-node: {error}");
}

fn runtime(threads: usize) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().max_blocking_threads(32).thread_name("kv-node").build()
}

async fn run(config: Config, checked: Checked, parts: MainParts, began: Instant) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("signals can't be listened for: {error}"));
            return EXIT_NO_START.into();
        }
    };
    let running = tokio::select! {
        started = Running::start(&config, &checked, parts) => started,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return ExitCode::SUCCESS;
        }
    };
    let running = match running {
        Ok(running) => running,
        Err(error) => {
            tracing::error!("{error}");
            return EXIT_NO_START.into();
        }
    };
    tracing::info!(took_ms = began.elapsed().as_millis() as u64, "started");
    let name = signals.next().await;
    tracing::info!(signal = name, "stopping; a second signal ends the process at once");
    tokio::select! {
        stopped = running.stop() => match stopped {
            Ok(()) => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!("not stopped cleanly: {error}");
                EXIT_DIRTY.into()
            }
        },
        _ = signals.next() => {
            tracing::warn!("ended at once");
            std::process::exit(EXIT_SECOND_SIGNAL);
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// A node with its front doors.
struct Running {
    node: Arc<Node>,
    doors: Vec<tokio::task::JoinHandle<()>>,
    resp: Option<RespDoor>,
}

impl Running {
    async fn start(config: &Config, checked: &Checked, parts: MainParts) -> Result<Self, String> {
        let resp = listen("listen.resp", checked.resp).await?;
        let http = listen("listen.http", checked.http).await?;
        let rpc = free_port(checked.rpc)?;
        let client_address = match (&config.announce.resp, &resp) {
            (Some(announced), _) => announced.clone(),
            (None, Some(listener)) => local(listener)?.to_string(),
            (None, None) => String::new(),
        };
        let address = config.announce.rpc.clone().unwrap_or_else(|| rpc.to_string());
        let seeds = seeds(config, checked).await?;
        let exec: Arc<dyn Exec> = Arc::new(TokioExec);
        let engine = open_engine(config, checked, &parts, &exec).await?;
        let transport = Arc::new(TarpcTransport::new(TarpcConfig {
            advertise: Some(address.clone()),
            bind_source: checked.bind_source,
            secret: checked.secret.clone(),
            ..TarpcConfig::new(rpc)
        }));
        let node = NodeConfig {
            data_dir: config.data_dir.clone(),
            address: address.clone(),
            client_address: client_address.clone(),
            zone: config.cluster.zone.clone(),
            weight: config.cluster.weight,
            seeds,
            bootstrap_expect: checked.bootstrap_expect,
            birth: checked.birth.clone(),
            gossip: checked.gossip.clone(),
            timing: Timing {
                request_ms_max: config.request.deadline_ms,
                hedge_ms: config.request.hedge_ms,
            },
            peers: PeersConfig::default(),
            clock_skew_ms_max: CLOCK_SKEW_MS_MAX,
        };
        let node_parts = NodeParts {
            fs: parts.fs,
            engine,
            transport: Arc::clone(&transport) as _,
            clock: parts.clock,
            rng: parts.rng,
            exec,
        };
        let node = Node::start(node, node_parts).await;
        let node = Arc::new(node.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => {
                taken("listen.rpc", rpc, &error)
            }
            _ => format!("the node can't start: {error}"),
        })?);
        announce(config, &node, &client_address, &address, http.as_ref());
        let mut doors = Vec::new();
        if let Some(listener) = http {
            let source = HttpSource { node: Arc::clone(&node), transport: Some(transport) };
            doors.push(tokio::spawn(http::serve(listener, source, HttpConfig::default())));
        }
        let resp = resp.map(|listener| {
            let (resp, compat) = (config.resp.clone(), config.compat.clone());
            resp::server::serve(listener, Arc::clone(&node), resp, compat)
        });
        Ok(Self { node, doors, resp })
    }

    async fn stop(self) -> Result<(), String> {
        // Doors first: no client begins what the node can't end.
        if let Some(resp) = self.resp {
            resp.stop().await;
        }
        for door in &self.doors {
            door.abort();
        }
        match tokio::time::timeout(STOP_LIMIT, self.node.stop()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it took more than {} s", STOP_LIMIT.as_secs())),
        }
    }
}

/// What people look for when a node has started.
fn announce(config: &Config, node: &Node, resp: &str, rpc: &str, http: Option<&TcpListener>) {
    let http = http.and_then(|listener| listener.local_addr().ok());
    let (engine, _) = node.engine().status(None);
    tracing::info!(id = %node.id(), data_dir = %config.data_dir.display(), "node");
    tracing::info!(
        redis = resp,
        rpc,
        http = http.map_or_else(|| "off".into(), |http| http.to_string()),
        "listening"
    );
    if engine.volatile {
        tracing::warn!(
            memory_bytes_max = config.storage.memory_bytes_max,
            "engine memory: this node forgets its pairs when it stops"
        );
    } else {
        tracing::info!(durability = ?config.storage.durability, "engine {}", engine.name);
    }
    let view = node.view().now();
    match &view.record {
        Some(record) => tracing::info!(
            cluster = record.name,
            id = %record.id,
            partitions = record.partitions,
            "member of a cluster"
        ),
        None => tracing::info!(
            cluster = config.cluster.name,
            expects = config.cluster.bootstrap_expect.unwrap_or(1),
            seeds = config.cluster.seeds.join(","),
            "no cluster yet"
        ),
    }
}

async fn seeds(config: &Config, checked: &Checked) -> Result<Vec<String>, String> {
    let discovery: Box<dyn Discovery> = match &checked.seeds_file {
        Some(path) => Box::new(FileSeeds::new(path.clone(), config.cluster.seeds.clone())),
        None => Box::new(StaticSeeds(config.cluster.seeds.clone())),
    };
    discovery.seeds().await.map_err(|error| format!("cluster.seeds_file: {error}"))
}

async fn open_engine(
    config: &Config,
    checked: &Checked,
    parts: &MainParts,
    exec: &Arc<dyn Exec>,
) -> Result<Arc<dyn StorageEngine>, String> {
    let dir = config.data_dir.clone();
    let unusable = |error: &dyn fmt::Display| format!("data_dir {}: {error}", dir.display());
    parts.fs.create_dir(&config.data_dir).map_err(|error| unusable(&error))?;
    if config.storage.engine == EngineKind::Memory {
        let memory = MemoryConfig { hash_seed: parts.rng.next_u64(), ..checked.memory };
        return Ok(Arc::new(MemoryEngine::new(memory)));
    }
    let (fs, own) = (Arc::clone(&parts.fs), Arc::clone(exec));
    let (lsm, durability) = (checked.lsm.clone(), checked.lsm_durability);
    let path = config.data_dir.join("lsm");
    let opened =
        tokio::task::spawn_blocking(move || LsmEngine::open(fs, &path, lsm, durability, own)).await;
    match opened {
        Ok(Ok(engine)) => Ok(Arc::new(engine)),
        Ok(Err(kv_lsm::Error::Locked { .. })) => {
            Err(unusable(&"another process is using it; each node needs a directory of its own"))
        }
        Ok(Err(error)) => Err(unusable(&error)),
        Err(error) => Err(unusable(&error)),
    }
}

async fn listen(
    setting: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => Err(taken(setting, address, &error)),
    }
}

fn taken(setting: &str, address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{setting}: port {} of {} is in use by another process", address.port(), address.ip())
        }
        _ => format!("{setting}: {address} can't be listened on: {error}"),
    }
}

fn local(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| error.to_string())
}

/// Port 0 made a real one, since peers must be told a port before it is listened on. Another
/// process may take it in between; then the start fails and says so.
fn free_port(address: SocketAddr) -> Result<SocketAddr, String> {
    if address.port() != 0 {
        return Ok(address);
    }
    std::net::TcpListener::bind(address)
        .and_then(|listener| listener.local_addr())
        .map_err(|error| taken("listen.rpc", address, &error))
}
