//! `cargo xtask cluster`: a cluster of real nodes on this machine.

use crate::error::{Error, Result};

/// The cluster that verbs mean when no name is given.
pub(crate) const DEFAULT_NAME: &str = "local";

/// What to do with a cluster.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Up(Shape),
    Status { json: bool },
    Kill { node: u16, hard: bool },
    Start { node: u16 },
    Pause { node: u16 },
    Resume { node: u16 },
    Logs { node: Option<u16> },
    Down { purge: bool },
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
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 3,
            base_port: 7000,
            engine: Engine::Lsm,
            durability: Durability::Sync,
            set: Vec::new(),
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

pub(crate) fn run(_name: &str, _verb: Verb) -> Result<()> {
    Err(Error::Failed("there is no node to start yet".into()))
}
