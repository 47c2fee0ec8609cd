//! What is known of a cluster between two verbs: a JSON file, replaced whole, under a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::place::{Place, Ports};
use super::{Durability, Engine, Shape, name_of};
use crate::error::{Error, Result};
use crate::process::{Identity, Life};

/// A cluster that `up` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) shape: Shape,
    /// The binary that its nodes run.
    pub(crate) binary: PathBuf,
    /// The last process of each node, node 1 first; none before its first start or after `down`.
    pub(crate) processes: Vec<Option<Identity>>,
    /// The proxy between its nodes, if links have faults and it runs.
    pub(crate) proxy: Option<Identity>,
}

/// The lock of one cluster, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Exclusive(#[expect(dead_code, reason = "held for its lock")] File);

impl State {
    /// The state of a cluster of which nothing runs yet.
    pub(crate) fn new(shape: Shape, binary: PathBuf) -> Self {
        let processes = vec![None; usize::from(shape.nodes)];
        Self { shape, binary, processes, proxy: None }
    }

    /// Reads the state; none when there is no such cluster.
    pub(crate) fn load(place: &Place) -> Result<Option<Self>> {
        let path = place.state_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let value: Option<Value> = serde_json::from_str(&text).ok();
        value.as_ref().and_then(Self::from_json).map(Some).ok_or_else(|| {
            Error::Failed(format!("{} is damaged; its nodes are not known", path.display()))
        })
    }

    /// Replaces the file as a whole.
    pub(crate) fn save(&self, place: &Place) -> Result<()> {
        let path = place.state_file();
        let fresh = path.with_extension("json.new");
        fs::create_dir_all(place.dir()).map_err(Error::io(place.dir()))?;
        fs::write(&fresh, format!("{:#}\n", self.to_json())).map_err(Error::io(&fresh))?;
        fs::rename(&fresh, &path).map_err(Error::io(&path))
    }

    /// Nodes from 1 with their ports and, if they ever ran, their processes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (u16, Ports, Option<Identity>)> {
        let base = self.shape.base_port;
        (1..)
            .zip(&self.processes)
            .map(move |(node, process)| (node, Ports::of(base, node), *process))
    }

    /// The process of a node; an error when there is no such node.
    pub(crate) fn process(&self, node: u16) -> Result<Option<Identity>> {
        let slot = usize::from(node).checked_sub(1).and_then(|index| self.processes.get(index));
        slot.copied().ok_or_else(|| {
            Error::Usage(format!("there is no node {node}; there are {}", self.shape.nodes))
        })
    }

    pub(crate) fn set_process(&mut self, node: u16, process: Option<Identity>) {
        let slot = usize::from(node).checked_sub(1).and_then(|index| self.processes.get_mut(index));
        if let Some(slot) = slot {
            *slot = process;
        }
    }

    /// How many nodes' processes are there, paused ones included.
    pub(crate) fn alive(&self) -> usize {
        let is_alive = |process: &&Identity| process.life() != Life::Gone;
        self.processes.iter().flatten().filter(is_alive).count()
    }

    fn to_json(&self) -> Value {
        let nodes: Vec<Value> = self
            .nodes()
            .map(|(node, ports, process)| {
                json!({
                    "node": node,
                    "resp": ports.resp, "rpc": ports.rpc, "http": ports.http,
                    "pid": process.map(|process| process.pid),
                    "started": process.map(|process| process.started),
                })
            })
            .collect();
        json!({
            "base_port": self.shape.base_port,
            "engine": name_of(Engine::NAMES, self.shape.engine),
            "durability": name_of(Durability::NAMES, self.shape.durability),
            "set": self.shape.set,
            "faults": self.shape.faults,
            "proxy": self.proxy.map(|proxy| json!({ "pid": proxy.pid, "started": proxy.started })),
            "binary": self.binary.to_string_lossy(),
            "nodes": nodes,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let word = |key: &str| value.get(key)?.as_str();
        let nodes = value.get("nodes")?.as_array()?;
        let set = value.get("set")?.as_array()?;
        let shape = Shape {
            nodes: u16::try_from(nodes.len()).ok()?,
            base_port: u16::try_from(value.get("base_port")?.as_u64()?).ok()?,
            engine: by_name(Engine::NAMES, word("engine")?)?,
            durability: by_name(Durability::NAMES, word("durability")?)?,
            set: set.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            faults: value.get("faults").and_then(Value::as_bool).unwrap_or_default(),
        };
        let identity = |of: &Value| {
            let pid = u32::try_from(of.get("pid")?.as_u64()?).ok()?;
            Some(Identity { pid, started: of.get("started")?.as_u64()? })
        };
        let processes = nodes.iter().map(identity).collect();
        let proxy = value.get("proxy").and_then(identity);
        Some(Self { shape, binary: PathBuf::from(word("binary")?), processes, proxy })
    }
}

impl Exclusive {
    pub(super) fn take(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(Error::io(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                Err(Error::Failed("another xtask is at work on this cluster".into()))
            }
            Err(TryLockError::Error(error)) => Err(Error::io(path)(error)),
        }
    }
}

fn by_name<T: Copy>(names: &[(&str, T)], word: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let place = crate::cluster::tests::scratch("state");
        assert_eq!(State::load(&place.0).unwrap(), None);
        let shape = Shape {
            nodes: 2,
            base_port: 9000,
            engine: Engine::Memory,
            durability: Durability::Periodic,
            set: vec!["a.b=\"c\"".into()],
            faults: true,
        };
        let mut state = State::new(shape, PathBuf::from("some/kv-node"));
        state.set_process(2, Some(Identity { pid: 7, started: 99 }));
        state.proxy = Some(Identity { pid: 8, started: 101 });
        state.save(&place.0).unwrap();
        assert_eq!(State::load(&place.0).unwrap(), Some(state));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_absent_cluster() {
        let place = crate::cluster::tests::scratch("damaged");
        fs::create_dir_all(place.0.dir()).unwrap();
        fs::write(place.0.state_file(), "{\"nodes\": 3}").unwrap();
        assert!(State::load(&place.0).is_err());
    }

    #[test]
    fn one_verb_at_a_time() {
        let place = crate::cluster::tests::scratch("lock");
        let held = place.0.lock().unwrap();
        assert!(place.0.lock().is_err());
        drop(held);
        assert!(place.0.lock().is_ok());
    }

    #[test]
    fn nodes_outside_the_cluster_are_refused() {
        let state = State::new(Shape::default(), PathBuf::new());
        assert_eq!(state.process(3).unwrap(), None);
        assert!(state.process(4).is_err());
        assert!(state.process(0).is_err());
    }
}
