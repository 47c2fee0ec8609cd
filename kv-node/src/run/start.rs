//! From settings to a node with its front doors, and back.
//!
//! An error here is read by a person who has just typed a command: it names the setting to change,
//! the port or the directory.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kv_client::Role;
use kv_client::wire::Endpoints;
use tokio::net::TcpListener;

use super::{MainParts, cpu};
use crate::cluster::dots::CLOCK_SKEW_MS_MAX;
use crate::cluster::floors::FloorTiming;
use crate::cluster::meta::MetaStore;
use crate::config::{Admit, Checked, Config, EngineKind, ProvisionerKind};
use crate::coordinator::Timing;
use crate::coordinator::exchange::AntiEntropyConfig;
use crate::http::{self, HttpConfig, HttpSource};
use crate::node::{DrainFor, Node, NodeConfig, NodeParts};
use crate::plug::discovery::{Discovery, DnsSeeds, FileSeeds, StaticSeeds};
use crate::plug::exec::{Exec, TokioExec};
use crate::plug::lsm::LsmEngine;
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::provisioner::{CommandProvisioner, NoProvisioner, Provisioner};
use crate::plug::storage::StorageEngine;
use crate::replica::{HintConfig, Standings};
use crate::resp::server::{self, RespDoor};
use crate::rpc::doors::{AdminDoor, ClientDoor, Lobby};
use crate::rpc::peer::PeersConfig;
use crate::rpc::transport::{TarpcConfig, TarpcTransport};
use crate::scale::ScaleParts;

/// How long a stop may take before it is given up.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A node with its front doors.
pub(super) struct Running {
    node: Arc<Node>,
    doors: Vec<tokio::task::JoinHandle<()>>,
    resp: Option<RespDoor>,
}

impl Running {
    /// Starts everything.
    ///
    /// # Errors
    /// What to tell the operator; nothing runs.
    pub(super) async fn start(
        config: &Config,
        checked: &Checked,
        parts: MainParts,
    ) -> Result<Self, String> {
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
        let lobby = Arc::new(Lobby::default());
        let transport = TarpcTransport::new(TarpcConfig {
            advertise: Some(address.clone()),
            bind_source: checked.bind_source,
            secret: checked.secret.clone(),
            ..TarpcConfig::new(rpc)
        });
        let transport = transport
            .with_door(Role::Client, Arc::new(ClientDoor(Arc::clone(&lobby))))
            .with_door(Role::Admin, Arc::new(AdminDoor(Arc::clone(&lobby))));
        let transport = Arc::new(transport);
        let node = node_config(config, checked, &address, &client_address, seeds);
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
        if let Some(record) = &node.view().now().record
            && let Err(why) = record.check_durability(config.storage.durability)
        {
            drop(node.stop().await);
            return Err(why);
        }
        take_part(config, checked, &node)?;
        let http_address = http.as_ref().map(local).transpose()?;
        let endpoints = Endpoints {
            resp: client_address.clone(),
            rpc: address.clone(),
            http: http_address.map_or_else(String::new, |at| at.to_string()),
        };
        lobby.open(&node, endpoints);
        announce(config, &node, &client_address, &address, http.as_ref());
        let mut doors = vec![tokio::spawn(cpu::tell(Arc::downgrade(&node), config.threads))];
        if let Some(listener) = http {
            let source = HttpSource { node: Arc::clone(&node), transport: Some(transport) };
            doors.push(tokio::spawn(http::serve(listener, source, HttpConfig::default())));
        }
        let resp = resp.map(|listener| {
            let (resp, compat) = (config.resp.clone(), config.compat.clone());
            server::serve(listener, Arc::clone(&node), resp, compat)
        });
        Ok(Self { node, doors, resp })
    }

    /// Returns when the other members refuse this node for good, and says why.
    pub(super) async fn refused(&self) -> String {
        self.node.refused().await
    }

    /// Makes the node ready to be stopped, with no way back.
    pub(super) fn drain(&self) {
        self.node.drain(DrainFor::Stop);
    }

    /// Returns when the node is drained and its process is to end, as a signal or an operator said.
    pub(super) async fn drained(&self) {
        self.node.drained_to_end().await;
    }

    /// Stops everything.
    ///
    /// # Errors
    /// It was not stopped cleanly.
    pub(super) async fn stop(self) -> Result<(), String> {
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

/// Takes part in scaling, and looks for others where they are not written down once for all.
fn take_part(config: &Config, checked: &Checked, node: &Arc<Node>) -> Result<(), String> {
    let names = &config.cluster.seeds_dns;
    if checked.seeds_file.is_some() || !names.is_empty() {
        node.discover(Arc::new(DnsSeeds::new(names, written_seeds(config, checked))));
    }
    if config.cluster.join {
        node.ask_to_join();
    }
    if config.cluster.admit == Admit::Auto {
        node.admit_who_asks();
    }
    let of = &config.autoscale;
    let provisioner: Arc<dyn Provisioner> = match of.provisioner {
        ProvisionerKind::None => Arc::new(NoProvisioner),
        ProvisionerKind::Command => {
            let (program, exec) = (of.command.clone(), Arc::new(TokioExec));
            Arc::new(CommandProvisioner::new(program, of.command_ms_max, exec))
        }
    };
    node.scale(ScaleParts { settings: checked.scale, provisioner })
        .map_err(|error| format!("data_dir {}: {error}", config.data_dir.display()))
}

fn node_config(
    config: &Config,
    checked: &Checked,
    address: &str,
    client_address: &str,
    seeds: Vec<String>,
) -> NodeConfig {
    NodeConfig {
        data_dir: config.data_dir.clone(),
        address: address.into(),
        client_address: client_address.into(),
        zone: config.cluster.zone.clone(),
        weight: config.cluster.weight,
        seeds,
        bootstrap_expect: checked.bootstrap_expect,
        birth: checked.birth.clone(),
        gossip: checked.gossip.clone(),
        timing: Timing {
            request_ms_max: config.request.deadline_ms,
            hedge_ms: config.request.hedge_ms,
            drain_ms_max: config.request.drain_ms_max,
        },
        peers: PeersConfig { link_down_ms: config.request.link_down_ms, ..PeersConfig::default() },
        antientropy: antientropy(config),
        hints: HintConfig {
            hint_bytes_max: config.handoff.hint_bytes_max,
            replay_bytes_per_s: config.handoff.replay_bytes_per_s,
        },
        clock_skew_ms_max: CLOCK_SKEW_MS_MAX,
        floors: FloorTiming::with_lag(
            config.collection.floor_lag_ms,
            config.collection.floor_alarm_ms,
        ),
    }
}

fn antientropy(config: &Config) -> AntiEntropyConfig {
    AntiEntropyConfig {
        runs: config.aae.runs,
        tree_bytes_max: config.aae.tree_bytes_max,
        bytes_per_second: config.aae.bytes_per_second,
        fill_bytes_per_second: config.aae.fill_bytes_per_second,
        rest_ms: config.aae.rest_ms,
        ..AntiEntropyConfig::default()
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
    if let Some(record) = &view.record {
        let layout = view.layouts.as_ref().map(|layouts| layouts.newest());
        let (cluster, born_with) = (&record.name, usize::from(record.partitions));
        let partitions = layout.map_or(born_with, |layout| layout.partitions().count());
        tracing::info!(cluster, id = %record.id, partitions, "member of a cluster");
    } else {
        let (cluster, seeds) = (&config.cluster.name, config.cluster.seeds.join(","));
        let expects = config.cluster.bootstrap_expect.unwrap_or(1);
        tracing::info!(cluster, expects, seeds, "no cluster yet");
    }
}

/// What is written down and can't be read is a mistake; a resolver may be late.
async fn seeds(config: &Config, checked: &Checked) -> Result<Vec<String>, String> {
    let written = written_seeds(config, checked);
    written.seeds().await.map_err(|error| format!("cluster.seeds_file: {error}"))
}

/// Seeds that somebody wrote down.
fn written_seeds(config: &Config, checked: &Checked) -> Box<dyn Discovery> {
    match &checked.seeds_file {
        Some(path) => Box::new(FileSeeds::new(path.clone(), config.cluster.seeds.clone())),
        None => Box::new(StaticSeeds(config.cluster.seeds.clone())),
    }
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
    let (path, meta) = (config.data_dir.join("lsm"), config.data_dir.join("meta"));
    let accepts = lsm.accept_log_damage;
    let opened = tokio::task::spawn_blocking(move || {
        if accepts {
            // Before the engine forgets what it passed over.
            MetaStore::open(Arc::clone(&fs), &meta)
                .and_then(|meta| Standings::store_all_lost(&meta))
                .map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(LsmEngine::open(fs, &path, lsm, durability, own))
    });
    let opened = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(unusable(&error)),
        Err(error) => return Err(unusable(&error)),
    };
    match opened {
        Ok(engine) => Ok(Arc::new(engine.in_boot(boot()))),
        Err(kv_lsm::Error::Locked { .. }) => {
            Err(unusable(&"another process is using it; each node needs a directory of its own"))
        }
        Err(error @ kv_lsm::Error::Corrupt { .. }) => Err(format!(
            "{}. If it is the log (.log), the other nodes have what it held: start once with \
             --accept-log-damage and this copy is filled from them. Else replace the node by one \
             with an empty directory",
            unusable(&error)
        )),
        Err(error) => Err(unusable(&error)),
    }
}

/// Names the system's present boot, where the system does.
fn boot() -> Option<String> {
    let named = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(named.trim().to_owned()).filter(|name| !name.is_empty())
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
            format!(
                "{setting}: port {} of {} is in use by another process",
                address.port(),
                address.ip()
            )
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
