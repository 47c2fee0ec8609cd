//! Where a local cluster lives: its directory, its nodes' directories, its ports.
//!
//! Everything is under `target/kv/<name>`, so that nothing outside the checkout is touched:
//!
//! ```text
//! target/kv/local.lock          held while a verb changes the cluster
//! target/kv/local/cluster.json  shape, and each node's pid and start time
//! target/kv/local/faults.json   what links do, with `up --faults`; beside it which version of that
//!                               the proxy obeys
//! target/kv/local/secret        what nodes prove to each other
//! target/kv/local/n1/kv.toml    what node 1 was started with
//! target/kv/local/n1/data       its data
//! target/kv/local/n1/node.log   what it said
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use super::DEFAULT_NAME;
use super::state::Exclusive;
use crate::cmd;
use crate::error::{Error, Result};

/// The directory of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    dir: PathBuf,
}

/// The ports of one node on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) resp: u16,
    pub(crate) rpc: u16,
    pub(crate) http: u16,
    /// Where its peers reach it, if links have faults.
    pub(crate) proxy: u16,
}

impl Ports {
    /// Node i (from 1): base + i, base + 100 + i, base + 200 + i, base + 300 + i.
    pub(crate) const fn of(base: u16, node: u16) -> Self {
        Self {
            resp: base + node,
            rpc: base + 100 + node,
            http: base + 200 + node,
            proxy: base + 300 + node,
        }
    }

    /// All that are listened on.
    pub(crate) fn all(self, faults: bool) -> impl Iterator<Item = u16> {
        [self.resp, self.rpc, self.http].into_iter().chain(faults.then_some(self.proxy))
    }
}

impl Place {
    /// The place of the cluster called `name` in this checkout.
    pub(crate) fn named(name: &str) -> Self {
        Self::at(cmd::root().join("target/kv").join(name))
    }

    pub(crate) const fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What every verb about this cluster has to end with: nothing for the default name.
    pub(crate) fn option(&self) -> String {
        match self.dir.file_name().map(|name| name.to_string_lossy()) {
            Some(name) if name != DEFAULT_NAME => format!(" --name {name}"),
            _ => String::new(),
        }
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    pub(crate) fn faults_file(&self) -> PathBuf {
        self.dir.join("faults.json")
    }

    pub(crate) fn obeyed_file(&self) -> PathBuf {
        self.dir.join("faults.obeyed")
    }

    pub(crate) fn secret_file(&self) -> PathBuf {
        self.dir.join("secret")
    }

    pub(crate) fn node_dir(&self, node: u16) -> PathBuf {
        self.dir.join(format!("n{node}"))
    }

    pub(crate) fn config_file(&self, node: u16) -> PathBuf {
        self.node_dir(node).join("kv.toml")
    }

    pub(crate) fn data_dir(&self, node: u16) -> PathBuf {
        self.node_dir(node).join("data")
    }

    pub(crate) fn log_file(&self, node: u16) -> PathBuf {
        self.node_dir(node).join("node.log")
    }

    /// Takes the cluster's lock; an error when another xtask holds it.
    pub(crate) fn lock(&self) -> Result<Exclusive> {
        if let Some(above) = self.dir.parent() {
            fs::create_dir_all(above).map_err(Error::io(above))?;
        }
        Exclusive::take(&self.dir.with_extension("lock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_a_cluster_that_isnt_the_default() {
        assert_eq!(Place::at("kv/local".into()).option(), "");
        assert_eq!(Place::at("kv/other".into()).option(), " --name other");
    }

    #[test]
    fn ports_are_blocks_of_a_hundred() {
        let ports = Ports::of(7000, 3);
        assert!(ports.all(false).eq([7003, 7103, 7203]));
        assert!(ports.all(true).eq([7003, 7103, 7203, 7303]));
    }
}
