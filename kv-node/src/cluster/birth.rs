//! How a cluster begins: once, among exactly as many empty nodes as were asked for.
//!
//! Each empty node says hello to its seeds and to whom they see. When exactly `bootstrap_expect`
//! empty nodes see the same set, the lowest id among them makes the record and layout 1, stores its
//! proposal, and asks all others to accept it. An acceptance is fsynced and is for this proposal
//! only, so no node can be promised to two clusters. When all have accepted, the proposer takes the
//! record; the others fetch it from whoever has it, which a node that layout 1 names always may.
//! A node that has a record never begins another cluster; an empty one that meets a cluster which
//! doesn't name it waits to be joined.
//!
//! Invariant: no node serves before every node that layout 1 names has durably accepted it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv_client::{ClusterId, NodeId};
use kv_ring::{AutoClaim, Layout, NodeSpec, PartitionCount, Topology, Zone};
use parking_lot::Mutex;

use super::decree::{Decided, Decree};
use super::record::{ClusterRecord, KeyspaceSettings};
use super::state::{ClusterState, decode_layout, encode_layout};
use super::wire::{BirthOp, BirthOut, Newborn};
use crate::plug::rng::Rng;
use crate::plug::transport::PeerAddress;

const PROPOSAL_FACT: &str = "birth-proposal";
const PENDING_FACT: &str = "birth-pending";

/// Addresses that a newborn says hello to at most.
const ADDRESSES_MAX: usize = 64;

/// What the operator wants of a cluster that is yet to be born.
#[derive(Clone, Debug)]
pub struct BirthPlan {
    /// The cluster's name.
    pub name: String,
    /// Partitions.
    pub partitions: u16,
    /// Keyspace 0.
    pub keyspace: KeyspaceSettings,
    /// Bytes of a pair at most.
    pub pair_bytes_max: u32,
}

impl BirthPlan {
    /// Settings that a cluster was born with otherwise than is wanted here: they keep their values
    /// whatever a node's configuration says.
    pub fn ignored_by(&self, record: &ClusterRecord) -> Vec<&'static str> {
        let wanted = &self.keyspace;
        let Some(has) = record.keyspace(wanted.id) else { return Vec::new() };
        [
            ("cluster.name", self.name == record.name),
            ("cluster.partitions", self.partitions == record.partitions),
            ("keyspace.n", wanted.n == has.n),
            ("keyspace.read", wanted.read == has.read),
            ("keyspace.write", wanted.write == has.write),
            ("keyspace.mode", wanted.mode == has.mode),
            ("keyspace.sloppy", wanted.sloppy == has.sloppy),
            ("keyspace.rmw", wanted.rmw == has.rmw),
            ("keyspace.durability", wanted.durability == has.durability),
            ("keyspace.pair_bytes_max", self.pair_bytes_max == record.pair_bytes_max),
        ]
        .into_iter()
        .filter_map(|(name, same)| (!same).then_some(name))
        .collect()
    }
}

/// What to do next.
#[derive(Debug)]
pub enum BirthStep {
    /// Say hello to these again in a moment.
    Hello(Vec<PeerAddress>),
    /// Ask these to accept the proposal; when all have, call `accepted_by_all`.
    Propose {
        /// Where the others are.
        to: Vec<PeerAddress>,
        /// The request.
        op: BirthOp,
    },
    /// Fetch the record from here.
    Fetch(PeerAddress),
    /// The node belongs to a cluster.
    Born,
}

/// Birth as this node sees it.
pub struct Birth {
    state: Arc<ClusterState>,
    plan: BirthPlan,
    me: Mutex<Newborn>,
    /// Empty nodes, and others, by address, with what they said last.
    seen: Mutex<BTreeMap<PeerAddress, Option<Newborn>>>,
    rng: Arc<dyn Rng>,
    /// Why a record was not accepted has been logged.
    told: AtomicBool,
}

impl std::fmt::Debug for Birth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Birth").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Birth {
    /// Birth of `me`, which knows `seeds`.
    pub fn new(
        state: Arc<ClusterState>,
        plan: BirthPlan,
        me: Newborn,
        seeds: &[PeerAddress],
        rng: Arc<dyn Rng>,
    ) -> Self {
        let seen = seeds
            .iter()
            .filter(|seed| **seed != me.address)
            .take(ADDRESSES_MAX)
            .map(|seed| (seed.clone(), None))
            .collect();
        Self {
            state,
            plan,
            me: Mutex::new(me),
            seen: Mutex::new(seen),
            rng,
            told: AtomicBool::default(),
        }
    }

    /// Says hello at `seeds` from now on: who answered elsewhere is kept, who did not is not.
    pub fn look_for(&self, seeds: &[PeerAddress]) {
        let own = self.me.lock().address.clone();
        let mut seen = self.seen.lock();
        seen.retain(|address, answer| answer.is_some() || seeds.contains(address));
        for seed in seeds.iter().filter(|seed| **seed != own) {
            if seen.len() < ADDRESSES_MAX {
                seen.entry(seed.clone()).or_insert(None);
            }
        }
    }

    /// What the operator wants here.
    pub fn plan(&self) -> &BirthPlan {
        &self.plan
    }

    /// This node, as it says hello.
    pub fn me(&self) -> Newborn {
        let mut me = self.me.lock();
        me.has_record = self.state.has_record();
        me.clone()
    }

    /// Notes what an address answered to hello, or that it did not.
    pub fn heard(&self, address: &PeerAddress, answer: Option<Newborn>) {
        let mut seen = self.seen.lock();
        if let Some(newborn) = &answer
            && newborn.address != *address
            && newborn.address != self.me.lock().address
        {
            // It is better known by its own address than by the one that a seed was given.
            seen.remove(address);
            seen.insert(newborn.address.clone(), answer);
        } else if answer.as_ref().is_some_and(|newborn| newborn.node == self.me.lock().node) {
            seen.remove(address);
        } else {
            seen.insert(address.clone(), answer);
        }
        let mut me = self.me.lock();
        me.sees = seen
            .values()
            .flatten()
            .filter(|newborn| !newborn.has_record)
            .map(|newborn| newborn.node)
            .chain([me.node])
            .collect();
        me.sees.sort_unstable();
        me.sees.dedup();
    }

    /// What to do next. Blocks on the disk when this node is the one to propose.
    ///
    /// # Errors
    /// The proposal can't be stored.
    pub fn step(&self) -> io::Result<BirthStep> {
        if self.state.has_record() {
            return Ok(BirthStep::Born);
        }
        let seen = self.seen.lock().clone();
        let me = self.me();
        if let Some((address, _)) =
            seen.iter().find(|(_, newborn)| newborn.as_ref().is_some_and(|other| other.has_record))
        {
            return Ok(BirthStep::Fetch(address.clone()));
        }
        let others: Vec<&Newborn> = seen.values().flatten().collect();
        let expected = usize::from(me.expect);
        if me.sees.len() > expected && expected > 0 {
            tracing::error!(
                sees = me.sees.len(),
                expected,
                "more empty nodes than bootstrap_expect: no cluster is begun until they are as many"
            );
        }
        let mutual = me.sees.len() == expected
            && others.iter().all(|other| other.sees == me.sees && other.expect == me.expect);
        let lowest = me.sees.first() == Some(&me.node);
        if expected == 0 || !mutual || !lowest {
            return Ok(BirthStep::Hello(seen.into_keys().collect()));
        }
        let (record, layout) = self.proposal(&me, &others)?;
        let op = BirthOp::Accept { record: record.into(), layout: layout.into() };
        let to = others.iter().map(|other| other.address.clone()).collect();
        Ok(BirthStep::Propose { to, op })
    }

    /// All others have accepted: this node takes its own proposal. Blocks on the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn accepted_by_all(&self) -> io::Result<()> {
        let Some(stored) = self.state.meta().load(PROPOSAL_FACT)? else {
            return Err(io::Error::other("accepted what was never proposed"));
        };
        let (record, layout) = split(&stored)?;
        let layout = decode_layout(layout).ok_or_else(not_a_proposal)?;
        self.state.adopt(record, vec![Decided::birth(layout)])
    }

    /// Takes a fetched record, if one of its layouts names this node. Says whether it did. Blocks.
    ///
    /// # Errors
    /// The disk failed, or the bytes are not a record.
    pub fn take(&self, record: &[u8], decided: &[Bytes]) -> io::Result<bool> {
        let me = self.me.lock().node;
        let decided: Vec<Decided> =
            decided.iter().filter_map(|bytes| Decided::decode(bytes)).collect();
        let named = decided
            .iter()
            .filter_map(|decided| Decree::decode(&decided.decree))
            .any(|decree| decree.layout.contains(me));
        if named {
            if let Some(decoded) = ClusterRecord::decode(record) {
                decoded
                    .check_durability(self.plan.keyspace.durability)
                    .map_err(io::Error::other)?;
            }
            self.state.adopt(record, decided)?;
        }
        Ok(named)
    }

    /// Answers a peer's birth step; `flushed` tells the flush mark in force. Blocks on the disk.
    pub fn answer(&self, op: BirthOp, flushed: impl Fn() -> u64) -> BirthOut {
        match op {
            BirthOp::Hello { me: other } => {
                self.heard(&other.address.clone(), Some(other));
                BirthOut::Me(self.me())
            }
            BirthOp::Fetch => match self.state.encoded() {
                // The mark is read after the layouts: a flush that its coordinator ended without
                // knowing these was confirmed by this node before it knew them.
                Some((record, decided)) => BirthOut::State {
                    record: record.into(),
                    decided: decided.iter().map(Decided::encode).collect(),
                    flushed: flushed(),
                },
                None => BirthOut::Empty,
            },
            BirthOp::Accept { record, layout } => match self.accept(&record, &layout) {
                Ok(None) => BirthOut::Accepted,
                Ok(Some(why)) => BirthOut::Refused(why),
                Err(error) => BirthOut::Refused(error.to_string()),
            },
        }
    }

    /// Accepts a proposal for good; `Some` says why not.
    fn accept(&self, record: &[u8], layout: &[u8]) -> io::Result<Option<String>> {
        let (Some(decoded), Some(first)) = (ClusterRecord::decode(record), decode_layout(layout))
        else {
            return Ok(Some("not a record and a layout".into()));
        };
        let me = self.me();
        if me.has_record {
            let own = self.state.encoded().map(|(record, _)| record);
            let same = own.as_deref() == Some(record);
            return Ok((!same).then(|| "this node belongs to another cluster".into()));
        }
        if let Err(why) = decoded.check_durability(self.plan.keyspace.durability) {
            // Asked again and again: said once.
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::error!(why, "this node does not accept the cluster's record");
            }
            return Ok(Some(why));
        }
        if decoded.partitions != self.plan.partitions || !first.contains(me.node) {
            return Ok(Some("the layout does not name this node, or has other partitions".into()));
        }
        let proposal = join(record, layout);
        match self.state.meta().load(PENDING_FACT)? {
            Some(pending) if pending == proposal => Ok(None),
            Some(_) => Ok(Some("this node has accepted another proposal".into())),
            None => {
                self.state.meta().store(PENDING_FACT, &proposal)?;
                Ok(None)
            }
        }
    }

    /// The stored proposal, or a new one that is stored before it is told to anybody.
    fn proposal(&self, me: &Newborn, others: &[&Newborn]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        if let Some(stored) = self.state.meta().load(PROPOSAL_FACT)? {
            let (record, layout) = split(&stored)?;
            return Ok((record.to_vec(), layout.to_vec()));
        }
        let mut keyspace = self.plan.keyspace.clone();
        keyspace.n = keyspace.n.min(me.expect.min(255) as u8).max(1);
        let mut context_key = [0; 32];
        for chunk in context_key.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.rng.next_u64().to_le_bytes());
        }
        let n = usize::from(keyspace.n);
        let record = ClusterRecord {
            id: ClusterId(self.rng.next_u64()),
            name: self.plan.name.clone(),
            partitions: self.plan.partitions,
            keyspaces: vec![keyspace],
            pair_bytes_max: self.plan.pair_bytes_max,
            digest_key: self.rng.next_u64(),
            context_key,
        };
        let mut topology: Topology<NodeId> = Topology::new();
        for node in others.iter().copied().chain([me]) {
            topology.insert(node.node, NodeSpec::new(node.weight.max(1), Zone::named(&node.zone)));
        }
        let partitions = PartitionCount::new(u32::from(self.plan.partitions))
            .map_err(|error| io::Error::other(error.to_string()))?;
        let layout = Layout::first(&topology, partitions, n, &AutoClaim)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let (record, layout) = (record.encode(), encode_layout(&layout));
        self.state.meta().store(PROPOSAL_FACT, &join(&record, &layout))?;
        Ok((record, layout))
    }
}

fn join(record: &[u8], layout: &[u8]) -> Vec<u8> {
    let mut out = (record.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(record);
    out.extend_from_slice(layout);
    out
}

fn split(stored: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let (length, rest) = stored.split_first_chunk::<4>().ok_or_else(not_a_proposal)?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(not_a_proposal)
}

fn not_a_proposal() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the stored proposal is not one")
}
