//! Faults of the links between a cluster's nodes: `up --faults`, then `partition`, `slow`, `drop`
//! and `heal`.
//!
//! ```text
//! n1 ── dials from 127.0.0.11 ──> proxy of n2 (base + 302) ──> n2's rpc port (base + 102)
//!                                   knows n1 by its address, and what their link does
//! ```
//! A userspace proxy stands before each node's rpc port, and it is the proxy's address that nodes
//! tell each other; every node dials from a loopback address of its own, so the proxy knows which
//! link a connection is of. It needs no root. Clients and tools reach nodes directly or pass
//! through whole: only what nodes say to each other is touched. Without `--faults` there is no
//! proxy, so that figures never pass through one.
//!
//! Verbs write what links do into a file; the proxy reads it and notes which version it obeys, for
//! which verbs wait. (Toxiproxy and Jepsen's nemeses are the models.)

mod model;
mod pipe;
mod proxy;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::place::Place;
use super::state::State;
use crate::error::{Error, Result};
use crate::process::{self, Identity};
use crate::term;

pub(crate) use model::{Change, Faults};
pub(crate) use proxy::run as run_proxy;

/// The proxy obeys within this time, or is not there.
const OBEY_LIMIT: Duration = Duration::from_secs(5);
/// Names the cluster's directory to the proxy.
pub(super) const PROXY_DIR: &str = "XTASK_PROXY_DIR";

/// The local address that a node dials its peers from.
pub(super) fn source(node: u16) -> Ipv4Addr {
    let [high, low] = node.saturating_add(10).to_be_bytes();
    Ipv4Addr::new(127, 0, high, low)
}

/// Starts the proxy of a cluster, with whole links.
pub(super) fn start_proxy(place: &Place) -> Result<Identity> {
    save(place, &Faults::default())?;
    // What an earlier proxy obeyed says nothing of this one.
    if let Err(error) = fs::remove_file(place.obeyed_file())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Error::io(&place.obeyed_file())(error));
    }
    let program = std::env::current_exe().map_err(Error::io(std::path::Path::new("xtask")))?;
    let mut command = Command::new(program);
    if cfg!(test) {
        command.args(["--exact", "cluster::faults::tests::proxy_process", "--nocapture"]);
    } else {
        command.args(["cluster", "proxy"]);
    }
    command.env(PROXY_DIR, place.dir());
    let proxy = process::start_detached(&mut command, &place.dir().join("proxy.log"))?;
    obeyed(place, Faults::default().generation)?;
    Ok(proxy)
}

/// Changes what links do, and waits until they do it.
pub(super) fn change(place: &Place, change: &Change) -> Result<()> {
    let state = State::load(place)?.filter(|state| state.alive() > 0);
    let option = place.option();
    let state = state.ok_or_else(|| {
        Error::Unreachable(format!("no such cluster runs; `cargo xtask cluster up{option}`"))
    })?;
    if !state.shape.faults {
        return Err(Error::Usage(format!(
            "its nodes speak to each other directly; `cargo xtask cluster down --purge{option}`, \
             then `cargo xtask cluster up --faults{option}`"
        )));
    }
    let mut faults = load(place)?;
    faults.change(change, state.shape.nodes)?;
    save(place, &faults)?;
    obeyed(place, faults.generation)?;
    let lines = faults.lines();
    if lines.is_empty() {
        term::out("all links are whole");
    }
    for line in &lines {
        term::out(line);
    }
    if !lines.is_empty() {
        term::out(format_args!("`cargo xtask cluster heal{option}` makes them whole"));
    }
    Ok(())
}

/// What the links of a cluster do.
pub(super) fn load(place: &Place) -> Result<Faults> {
    let path = place.faults_file();
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let value: Option<Value> = serde_json::from_str(&text).ok();
    value
        .as_ref()
        .and_then(Faults::from_json)
        .ok_or_else(|| Error::Failed(format!("{} is damaged", path.display())))
}

/// Replaces the file as a whole: the proxy never reads half of it.
fn save(place: &Place, faults: &Faults) -> Result<()> {
    let path = place.faults_file();
    let fresh = path.with_extension("json.new");
    fs::write(&fresh, format!("{:#}\n", faults.to_json())).map_err(Error::io(&fresh))?;
    fs::rename(&fresh, &path).map_err(Error::io(&path))
}

/// Waits until the proxy says that it obeys this version.
fn obeyed(place: &Place, generation: u64) -> Result<()> {
    let began = Instant::now();
    let path = place.obeyed_file();
    while fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok())
        != Some(generation)
    {
        if began.elapsed() > OBEY_LIMIT {
            let log = place.dir().join("proxy.log");
            return Err(Error::Unreachable(format!(
                "the proxy does not answer: see {}; `cargo xtask cluster down{option}`, then \
                 `cargo xtask cluster up --faults{option}`, starts it anew",
                log.display(),
                option = place.option()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
