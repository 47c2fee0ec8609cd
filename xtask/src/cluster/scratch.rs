//! A cluster that lives as long as a measurement: built, started empty, ended and removed with it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::place::{Place, Ports};
use super::state::{Exclusive, State};
use super::{Shape, up};
use crate::error::{Error, Result};
use crate::process::Identity;

const NAME: &str = "bench";

/// A running cluster of its own name; its nodes and their data go with it.
pub(crate) struct Bench {
    place: Place,
    shape: Shape,
    processes: Vec<Identity>,
    _lock: Exclusive,
}

impl Bench {
    /// Builds a release, starts an empty cluster and waits until it serves.
    pub(crate) fn start(shape: Shape) -> Result<Self> {
        let place = Place::named(NAME);
        let lock = place.lock()?;
        let mut bench = Self { place, shape, processes: Vec::new(), _lock: lock };
        // One that was interrupted left its nodes; nobody else uses this name.
        bench.end();
        let dir = bench.place.dir();
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(Error::io(dir))?;
        }
        up::check_ports(&bench.shape)?;
        up::launch(&bench.place, NAME, &bench.shape, up::build()?)?;
        let state = State::load(&bench.place)?;
        bench.processes = state.into_iter().flat_map(|state| state.processes).flatten().collect();
        Ok(bench)
    }

    /// The directory that its data lies in.
    pub(crate) fn dir(&self) -> &Path {
        self.place.dir()
    }

    /// The Redis port of its first node.
    pub(crate) const fn port(&self) -> u16 {
        Ports::of(self.shape.base_port, 1).resp
    }

    /// The Redis ports of all nodes.
    pub(crate) fn ports(&self) -> Vec<u16> {
        (1..=self.shape.nodes).map(|node| Ports::of(self.shape.base_port, node).resp).collect()
    }

    /// All its processes.
    pub(crate) fn processes(&self) -> &[Identity] {
        &self.processes
    }

    /// Ends what runs and drops its data; logs stay until the next start, for a look at a failure.
    fn end(&self) {
        let Ok(Some(state)) = State::load(&self.place) else { return };
        for (node, _, process) in state.nodes() {
            if let Some(process) = process {
                process.stop(Duration::from_secs(5));
            }
            let _ = fs::remove_dir_all(self.place.data_dir(node));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.end();
    }
}
