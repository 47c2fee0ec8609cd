//! An operator of a cluster of real processes, who asks single nodes and waits for what they say;
//! and what tests load into a cluster and expect of it.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use kv_client::wire::{Bounded, MembersChange, MembersPlan};
use kv_client::{Admin, Config, NodeId};
use parking_lot::Mutex;

use super::{Client, Cluster};
use crate::sim::history::History;

/// What is waited for takes no longer, or never comes.
const STABLE_WITHIN: Duration = Duration::from_mins(4);
const POLL: Duration = Duration::from_millis(100);
/// An operator's question may take so long.
const ASK_MS_MAX: u32 = 30_000;
/// Keys that are written or read by one command.
const BATCH: usize = 200;
/// On a machine that is busy with other things some of it may take too long.
const TRIES: usize = 5;

/// Asks nodes, one question at a time.
#[derive(Debug)]
pub struct Operator {
    runtime: tokio::runtime::Runtime,
}

impl Operator {
    /// An operator who knows nobody yet.
    ///
    /// # Errors
    /// There is no room for a runtime.
    pub fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime })
    }

    /// The way to one node.
    ///
    /// # Errors
    /// It can't be connected to.
    pub fn admin(&self, cluster: &Cluster, place: usize) -> io::Result<Admin> {
        let config = Config { deadline_ms: ASK_MS_MAX, ..Config::default() };
        let address = cluster.rpc_addresses().get(place).map(ToString::to_string);
        let address = address.ok_or_else(|| io::Error::other("no such node"))?;
        self.ask(Admin::connect(&[address], config))
    }

    /// Waits for an answer.
    ///
    /// # Errors
    /// What the answer says.
    pub fn ask<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> io::Result<T> {
        self.runtime.block_on(answer).map_err(io::Error::other)
    }

    /// The id of the node at a place, once another knows it.
    ///
    /// # Errors
    /// The other does not answer, or never hears of it.
    pub fn id(&self, cluster: &Cluster, through: &Admin, place: usize) -> io::Result<NodeId> {
        let address = cluster.rpc_addresses().get(place).map(ToString::to_string);
        until(cluster, || {
            let nodes = self.ask(through.nodes())?;
            let at = |address: &String| nodes.iter().find(|node| node.endpoints.rpc == *address);
            Ok(address.as_ref().and_then(at).map(|node| node.node))
        })
    }

    /// Waits until nothing moves.
    ///
    /// # Errors
    /// It does not end, or the asked node does not answer.
    pub fn stable(&self, cluster: &Cluster, through: &Admin) -> io::Result<()> {
        until(cluster, || {
            let layouts = self.ask(through.layouts())?;
            Ok((layouts.live.len() == 1).then_some(()))
        })
    }

    /// Changes the members in as many steps as it takes: the plan of all, and how long it took.
    ///
    /// # Errors
    /// It can't be made, somebody else changed something, or it does not end.
    pub fn change(
        &self,
        cluster: &Cluster,
        through: &Admin,
        change: &MembersChange,
    ) -> io::Result<(MembersPlan, Duration)> {
        let began = Instant::now();
        let whole = self.ask(through.plan(change.clone()))?;
        let mut left = whole.steps.len();
        let mut after = whole.epoch;
        while left > 0 {
            let step = MembersChange { after: Some(after), ..change.clone() };
            after = self.ask(through.change_members(step))?;
            self.stable(cluster, through)?;
            left = match left {
                1 => 0,
                _ => self.ask(through.plan(change.clone()))?.steps.len(),
            };
        }
        Ok((whole, began.elapsed()))
    }

    /// Compares all replicas of all partitions: how many keys differed.
    ///
    /// # Errors
    /// Some replica does not answer.
    pub fn differences(&self, admin: &Admin, partitions: u16) -> io::Result<u64> {
        let found = |partition| Ok(self.ask(admin.repair(partition, None))?.found);
        (0..partitions).map(found).sum()
    }
}

/// Looks again and again until it is there.
fn until<T>(cluster: &Cluster, mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if began.elapsed() > STABLE_WITHIN {
            return Err(io::Error::other(format!("it never came\n{}", cluster.logs())));
        }
        thread::sleep(POLL);
    }
}

/// These nodes become members.
///
/// # Panics
/// They are more than one change may name.
#[must_use]
pub fn joins(nodes: &[NodeId]) -> MembersChange {
    let joins = Bounded::new(nodes.to_vec()).expect("few nodes");
    MembersChange { joins, ..MembersChange::default() }
}

/// These nodes are members no more.
///
/// # Panics
/// They are more than one change may name.
#[must_use]
pub fn leaves(nodes: &[NodeId]) -> MembersChange {
    let leaves = Bounded::new(nodes.to_vec()).expect("few nodes");
    MembersChange { leaves, ..MembersChange::default() }
}

/// Writes the keys `k:0`.. through these nodes in turn, with [`loaded`] as their values.
///
/// # Errors
/// Some of it is not acknowledged.
pub fn load(addresses: &[SocketAddr], keys: usize) -> io::Result<()> {
    let history = Mutex::new(History::default());
    let mut client = Client::new(0, addresses.to_vec(), &history);
    let names: Vec<String> = (0..keys).map(|key| format!("k:{key}")).collect();
    for (turn, some) in names.chunks(BATCH).enumerate() {
        let mut command = redis::cmd("MSET");
        for key in some {
            command.arg(key).arg(loaded(key));
        }
        let tries = (0..TRIES).map(|_| client.ask::<String>(turn % addresses.len(), &command));
        let mut failed = None;
        for told in tries {
            failed = told.err();
            if failed.is_none() {
                break;
            }
        }
        failed.map_or(Ok(()), |error| Err(io::Error::other(error)))?;
    }
    Ok(())
}

/// The value of a loaded key.
#[must_use]
pub fn loaded(key: &str) -> String {
    format!("value of {key}")
}

/// Reads keys through one node: those that do not have the value that they should have.
///
/// # Errors
/// The node does not answer.
pub fn wrong(
    address: SocketAddr,
    keys: &[String],
    value: impl Fn(&str) -> String,
) -> io::Result<Vec<String>> {
    let history = Mutex::new(History::default());
    let mut client = Client::new(0, vec![address], &history);
    let mut wrong = Vec::new();
    for some in keys.chunks(BATCH) {
        let mut command = redis::cmd("MGET");
        let values: Vec<Option<String>> =
            client.ask(0, command.arg(some)).map_err(io::Error::other)?;
        let pairs = some.iter().zip(values);
        let differs = pairs.filter(|(key, read)| read.as_deref() != Some(&*value(key)));
        wrong.extend(differs.map(|(key, read)| format!("{key}: {read:?}")));
    }
    Ok(wrong)
}
