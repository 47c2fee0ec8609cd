//! `cargo xtask cluster`: a cluster of real nodes on 127.0.0.1, started as an operator would.
//!
//! Nodes are release binaries with a TOML file each; they outlive the verb. A state file keeps
//! their pids with start times, so every later verb finds exactly them and nothing else. Whether a
//! node serves is asked from outside, over the ports that a client would use.

mod around;
mod config;
mod control;
mod faults;
mod logs;
mod place;
mod probe;
mod provision;
mod scale;
mod scratch;
mod state;
mod status;
mod up;

pub(crate) use faults::Change;
pub(crate) use scratch::Bench;

use std::ffi::OsString;
use std::time::Duration;

use crate::error::Result;
use place::{Place, Ports};

/// How an operator's program reaches a cluster: its nodes' tarpc addresses, and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) connect: String,
    /// The port before its first node's Redis port; those of the others follow.
    pub(crate) base_port: u16,
    /// Its nodes' Redis ports on 127.0.0.1.
    pub(crate) resp: Vec<u16>,
    pub(crate) secret_file: std::path::PathBuf,
}

/// How the cluster of this name is reached.
pub(crate) fn reach(name: &str) -> Result<Reach> {
    let place = Place::named(name);
    let Some(state) = state::State::load(&place)? else { return Err(status::absent(&place, name)) };
    let addresses: Vec<String> =
        state.nodes().map(|(_, ports, _)| format!("127.0.0.1:{}", ports.rpc)).collect();
    let resp = state.nodes().map(|(_, ports, _)| ports.resp).collect();
    let base_port = state.shape.base_port;
    Ok(Reach { connect: addresses.join(","), base_port, resp, secret_file: place.secret_file() })
}

/// Whether any node of the cluster of this name is there.
pub(crate) fn is_running(name: &str) -> Result<bool> {
    Ok(running(name)? > 0)
}

/// How many nodes of the cluster of this name are there.
pub(crate) fn running(name: &str) -> Result<usize> {
    let state = state::State::load(&Place::named(name))?;
    Ok(state.map_or(0, |state| state.alive()))
}

/// The first of some base ports at which a cluster of the default shape can listen.
pub(crate) fn free_block() -> Result<u16> {
    let mut taken = Ok(());
    for base_port in BASE_PORTS {
        taken = up::check_ports(&Shape { base_port, ..Shape::default() });
        if taken.is_ok() {
            return Ok(base_port);
        }
    }
    taken.map(|()| Shape::default().base_port)
}

/// Tried in turn where nobody chose one.
const BASE_PORTS: [u16; 4] = [7_000, 8_000, 9_000, 21_000];

/// A node that is asked to end gets this long: it is drained first (10 s at most), and then closes
/// (20 s at most).
const STOP_LIMIT: Duration = Duration::from_secs(35);

/// The cluster that verbs mean when no name is given.
pub(crate) const DEFAULT_NAME: &str = "local";

/// What to do with a cluster.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Up(Shape),
    Status {
        json: bool,
    },
    Kill {
        node: u16,
        hard: bool,
    },
    Start {
        node: u16,
    },
    Restart {
        node: Option<u16>,
    },
    Pause {
        node: u16,
        /// Then it goes on by itself; without it until it is resumed.
        lasts: Option<Duration>,
    },
    Resume {
        node: u16,
    },
    Logs {
        node: Option<u16>,
        follow: bool,
    },
    List,
    Env,
    Exec {
        line: Vec<OsString>,
    },
    Scale {
        nodes: u16,
        detach: bool,
    },
    Down {
        purge: bool,
    },
    /// A request of a node's on stdin.
    Provision,
    /// Links between nodes change.
    Faults(Change),
    /// The process that makes links do so, which `up --faults` starts.
    Proxy,
}

/// What kind of cluster `up` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) nodes: u16,
    pub(crate) base_port: u16,
    pub(crate) engine: Engine,
    pub(crate) durability: Durability,
    /// `KEY=VALUE` settings that are handed to every node.
    pub(crate) set: Vec<String>,
    /// Whether a proxy stands between its nodes.
    pub(crate) faults: bool,
}

impl Shape {
    /// The port at which a node's peers are told to reach it.
    pub(crate) fn told_rpc(&self, node: u16) -> u16 {
        let Ports { rpc, proxy, .. } = Ports::of(self.base_port, node);
        if self.faults { proxy } else { rpc }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 3,
            base_port: 7000,
            engine: Engine::Lsm,
            durability: Durability::Sync,
            set: Vec::new(),
            faults: false,
        }
    }
}

/// The storage engine of every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Lsm,
    Memory,
}

impl Engine {
    /// The names by which a person chooses and a configuration says it.
    pub(crate) const NAMES: &[(&str, Self)] = &[("lsm", Self::Lsm), ("memory", Self::Memory)];
}

/// When a write counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Sync,
    Periodic,
    Os,
}

impl Durability {
    /// The names by which a person chooses and a configuration says it.
    pub(crate) const NAMES: &[(&str, Self)] =
        &[("sync", Self::Sync), ("periodic", Self::Periodic), ("os", Self::Os)];
}

/// Does what was asked with the cluster of that name.
pub(crate) fn run(name: &str, verb: Verb) -> Result<()> {
    at(&Place::named(name), name, verb)
}

fn at(place: &Place, name: &str, verb: Verb) -> Result<()> {
    let _lock = match verb {
        // `up` takes it itself: it is the one that may find the cluster running and only look. So
        // does `provision`, which waits for it.
        Verb::Up(_) | Verb::Provision | Verb::Proxy => None,
        // These change nothing, or last.
        Verb::Status { .. } | Verb::Logs { .. } | Verb::List | Verb::Env | Verb::Exec { .. } => {
            None
        }
        Verb::Pause { lasts: Some(_), .. } => None,
        _ => Some(place.lock()?),
    };
    match verb {
        Verb::Up(shape) => up::run(place, name, &shape),
        Verb::Status { json } => status::run(place, name, json),
        Verb::Kill { node, hard } => control::kill(place, node, hard),
        Verb::Start { node } => control::start(place, node),
        Verb::Restart { node } => control::restart(place, node),
        Verb::Pause { node, lasts } => control::pause(place, node, lasts),
        Verb::Resume { node } => control::resume(place, node),
        Verb::Logs { node, follow } => logs::run(place, node, follow),
        Verb::List => {
            around::list(place);
            Ok(())
        }
        Verb::Env => around::env(place, name),
        Verb::Exec { line } => around::exec(place, name, &line),
        Verb::Scale { nodes, detach } => scale::run(place, name, nodes, detach),
        Verb::Down { purge } => control::down(place, name, purge),
        Verb::Provision => provision::run(place, name),
        Verb::Faults(change) => faults::change(place, &change),
        Verb::Proxy => faults::run_proxy(place),
    }
}

/// The name by which a value is chosen.
fn name_of<T: Copy + PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, one)| *one == value).map_or("", |(name, _)| name)
}

#[cfg(test)]
pub(crate) mod tests;
