//! Drives kv-gossip: carries its packets over the transport, its beliefs into the view.
//!
//! Gossip travels like all peer traffic, as one operation in a call, so it needs no port or
//! handshake of its own. A packet that can't be delivered is dropped: SWIM lives with that; a
//! refused connection is evidence, and is told to the machine at once.
//!
//! What others say of a member that answers this node is doubted: who was cut off declares all
//! others dead, and tells so when the network heals, just before they refute it. Until this node
//! has had no answer of the member's for a while itself, or membership has changed its mind, it is
//! a suspect.
//!
//! Each node publishes where its clients reach it, the flush mark that it knows, how far it has
//! got with layouts, and its floor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use kv_client::NodeId;
use kv_gossip::{Address, Config, Event, Millis, Output, SplitMix64, State, Swim, Target};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::floors::{Floor, Floors};
use super::transfers::Transfers;
use super::view::{Liveness, Member, SharedView};
use super::vitals::Vitals;
use crate::plug::transport::PeerAddress;
use crate::scale::Told;
use crate::scale::load::Load;

/// What a member tells of itself, by the number that it has in gossip: two can't have the same.
#[derive(Clone, Copy, Debug)]
#[repr(u16)]
enum Fact {
    /// Where clients reach me, my zone, and whether I am about to be stopped.
    Client = 1,
    /// The flush mark that I know.
    Flush = 2,
    /// The newest layout that I know, the newest for which I am finished, the newest that I have
    /// sealed, the oldest that is live for me.
    Layouts = 3,
    /// My floor, and my witness.
    Floor = 4,
    /// How I fare.
    Vitals = 5,
    /// What I carry.
    Load = 6,
    /// What I know of scaling.
    Scale = 7,
    /// How far I have got with what the newest layout gives me.
    Transfers = 8,
    /// I want to be a member.
    Wish = 9,
}

/// How far a member has got with layouts, as it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutsSeen {
    /// The newest epoch that it knows.
    pub seen: u64,
    /// The newest epoch for which it is finished.
    pub finished: u64,
    /// The newest epoch whose change it votes no more to call off.
    pub sealed: u64,
    /// The oldest layout that is live for it: those before have retired, for everybody.
    pub oldest: u64,
}

impl LayoutsSeen {
    fn to_bytes(self) -> Vec<u8> {
        let Self { seen, finished, sealed, oldest } = self;
        [seen, finished, sealed, oldest].map(u64::to_le_bytes).concat()
    }

    /// Reads a fact; `None` for anything that isn't one. A later version may append to it.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok());
        let mut next = || numbers.next().map(u64::from_le_bytes);
        let (seen, finished) = (next()?, next()?);
        Some(Self { seen, finished, sealed: next()?, oldest: next()? })
    }
}

/// A packet to deliver.
#[derive(Debug)]
pub struct Packet {
    /// Where to.
    pub to: PeerAddress,
    /// The member that listens there, if that is known.
    pub node: Option<NodeId>,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// Membership as this node runs it.
pub struct Membership {
    swim: Mutex<Swim<u64, SplitMix64>>,
    view: Arc<SharedView>,
    me: Member,
    wake: Notify,
    /// Whether a member has answered this node lately.
    answers: OnceLock<Box<Answers>>,
    /// A member that is said to be down is shown as a suspect.
    doubts: AtomicBool,
}

type Answers = dyn Fn(NodeId) -> bool + Send + Sync;

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("me", &self.me).finish_non_exhaustive()
    }
}

/// How this node takes part.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    /// This node.
    pub node: NodeId,
    /// Itself, as others shall see it.
    pub me: Member,
    /// Higher at each start: the wall clock's milliseconds.
    pub incarnation: u64,
    /// Seeds the choice of whom to probe.
    pub seed: u64,
    /// Pace.
    pub gossip: Config,
}

impl Membership {
    /// Begins membership and joins through `seeds`.
    ///
    /// # Errors
    /// A setting or an address breaks a rule of kv-gossip's.
    pub fn new(
        config: MembershipConfig,
        seeds: &[PeerAddress],
        view: Arc<SharedView>,
        now_ms: u64,
    ) -> Result<Self, kv_gossip::Error> {
        let now = Millis::new(now_ms);
        let address = Address::new(config.me.address.as_bytes())?;
        let mut swim = Swim::new(
            config.gossip,
            config.node.0,
            address,
            config.incarnation,
            SplitMix64::new(config.seed),
            now,
        )?;
        swim.publish_fact(Fact::Client as u16, client_fact(&config.me, false).as_bytes())?;
        let others = seeds.iter().filter(|seed| **seed != config.me.address);
        let others: Result<Vec<Address>, _> =
            others.map(|seed| Address::new(seed.as_bytes())).collect();
        swim.join(now, others?);
        let membership = Self {
            swim: Mutex::new(swim),
            view,
            me: config.me,
            wake: Notify::new(),
            answers: OnceLock::new(),
            doubts: AtomicBool::new(false),
        };
        membership.publish_view();
        Ok(membership)
    }

    /// Looks for the others at `seeds` from now on, instead of where it did before.
    pub fn look_for(&self, now_ms: u64, seeds: &[PeerAddress]) {
        // What is no address for kv-gossip (too long) is no seed.
        let seeds = seeds.iter().filter_map(|seed| Address::new(seed.as_bytes()).ok());
        self.swim.lock().look_for(Millis::new(now_ms), seeds);
        self.wake.notify_one();
    }

    /// Tells everybody whether this node is about to be stopped. A start tells that it is not.
    pub fn publish_draining(&self, draining: bool) {
        self.publish(Fact::Client, client_fact(&self.me, draining).as_bytes());
        self.publish_view();
        self.wake.notify_one();
    }

    /// Whether the goodbye was told as often as any news.
    pub fn has_left(&self) -> bool {
        self.swim.lock().has_left()
    }

    /// Says who tells whether a member has answered this node lately. Nobody does at first.
    pub fn ask_of_answers(&self, answers: impl Fn(NodeId) -> bool + Send + Sync + 'static) {
        let known = self.answers.set(Box::new(answers));
        debug_assert!(known.is_ok(), "told once");
    }

    /// Takes a packet that a peer delivered.
    pub fn receive(&self, now_ms: u64, from: NodeId, bytes: &[u8]) {
        let received = self.swim.lock().handle_message(Millis::new(now_ms), from.0, bytes);
        if let Err(error) = received {
            tracing::debug!(%from, %error, "a gossip packet was not taken");
        }
        self.wake.notify_one();
    }

    /// A peer refused a connection: evidence that it is down.
    pub fn unreachable(&self, now_ms: u64, node: NodeId) {
        self.swim.lock().note_unreachable(Millis::new(now_ms), node.0);
        self.wake.notify_one();
    }

    /// A peer answered some call: it is alive.
    pub fn alive(&self, now_ms: u64, node: NodeId) {
        self.swim.lock().note_alive(Millis::new(now_ms), node.0);
    }

    /// Tells everybody the flush mark that this node knows.
    pub fn publish_flush(&self, mark: u64) {
        if let Err(error) = self.swim.lock().publish_fact(Fact::Flush as u16, &mark.to_le_bytes()) {
            tracing::warn!(%error, "the flush mark can't be told");
        }
        self.wake.notify_one();
    }

    /// Tells everybody this node's floor.
    pub fn publish_floor(&self, floor: Floor) {
        if let Err(error) = self.swim.lock().publish_fact(Fact::Floor as u16, &floor.to_bytes()) {
            tracing::warn!(%error, "the floor can't be told");
        }
        self.wake.notify_one();
    }

    /// The floors that members told, those that are down included.
    pub fn floors(&self) -> Floors {
        Floors(self.said(Fact::Floor, Floor::from_bytes))
    }

    /// The highest flush mark that any member knows.
    pub fn flush_mark(&self) -> u64 {
        let swim = self.swim.lock();
        let marks = swim.members().filter_map(|(node, _)| {
            let fact = swim.fact(node, Fact::Flush as u16)?;
            fact.bytes.try_into().ok().map(u64::from_le_bytes)
        });
        marks.max().unwrap_or(0)
    }

    /// Tells everybody how far this node has got with layouts.
    pub fn publish_layouts(&self, own: LayoutsSeen) {
        let fact = own.to_bytes();
        let mut swim = self.swim.lock();
        if swim.fact(swim.me(), Fact::Layouts as u16).is_some_and(|told| told.bytes == fact) {
            return;
        }
        if let Err(error) = swim.publish_fact(Fact::Layouts as u16, &fact) {
            tracing::warn!(%error, "the layouts seen can't be told");
        }
        drop(swim);
        self.wake.notify_one();
    }

    /// Tells everybody how this node fares, if that has changed.
    pub fn publish_vitals(&self, vitals: Vitals) {
        self.publish(Fact::Vitals, &vitals.to_bytes());
    }

    /// How every member fares, as it said last.
    pub fn vitals(&self) -> BTreeMap<NodeId, Vitals> {
        self.said(Fact::Vitals, Vitals::from_bytes)
    }

    /// Tells everybody what this node carries, if that has changed.
    pub fn publish_load(&self, load: &Load) {
        self.publish(Fact::Load, &load.to_bytes());
    }

    /// What every member carries, as it said last.
    pub fn loads(&self) -> BTreeMap<NodeId, Load> {
        self.said(Fact::Load, Load::from_bytes)
    }

    /// Tells everybody what this node knows of scaling, if that has changed.
    pub fn publish_scale(&self, told: &Told) {
        self.publish(Fact::Scale, &told.to_bytes());
    }

    /// What every member knows of scaling, those that are down included.
    pub fn scale_told(&self) -> BTreeMap<NodeId, Told> {
        self.said(Fact::Scale, Told::from_bytes)
    }

    fn publish(&self, kind: Fact, fact: &[u8]) {
        let mut swim = self.swim.lock();
        if swim.fact(swim.me(), kind as u16).is_some_and(|told| told.bytes == fact) {
            return;
        }
        if let Err(error) = swim.publish_fact(kind as u16, fact) {
            tracing::warn!(%error, ?kind, "a fact can't be told");
        }
    }

    fn said<T>(&self, kind: Fact, read: impl Fn(&[u8]) -> Option<T>) -> BTreeMap<NodeId, T> {
        let swim = self.swim.lock();
        let said = swim.members().filter_map(|(node, _)| {
            let fact = swim.fact(node, kind as u16)?;
            Some((NodeId(node), read(fact.bytes)?))
        });
        said.collect()
    }

    /// Tells everybody that this node wants to be a member.
    pub fn publish_wish(&self) {
        self.publish(Fact::Wish, &[1]);
    }

    /// Nodes that want to be members, or wanted to before they were.
    pub fn wishes(&self) -> BTreeSet<NodeId> {
        self.said(Fact::Wish, |_| Some(())).into_keys().collect()
    }

    /// Tells everybody how far this node has got with what the newest layout gives it.
    pub fn publish_transfers(&self, own: Transfers) {
        self.publish(Fact::Transfers, &own.to_bytes());
    }

    /// How far every member has got with what a layout gave it, as it said last.
    pub fn transfers(&self) -> BTreeMap<NodeId, Transfers> {
        self.said(Fact::Transfers, Transfers::from_bytes)
    }

    /// How far every member has got with layouts, as far as they have said.
    pub fn layouts_seen(&self) -> BTreeMap<NodeId, LayoutsSeen> {
        self.said(Fact::Layouts, LayoutsSeen::from_bytes)
    }

    /// Never hears from or of a node again.
    pub fn refuse(&self, now_ms: u64, node: NodeId) {
        self.swim.lock().refuse(Millis::new(now_ms), node.0);
        self.publish_view();
    }

    /// Says goodbye; the packets that tell it come out of `poll`.
    pub fn leave(&self, now_ms: u64) {
        self.swim.lock().leave(Millis::new(now_ms));
        self.wake.notify_one();
    }

    /// Lets time pass: packets to deliver, and when to come back at the latest.
    pub fn poll(&self, now_ms: u64) -> (Vec<Packet>, u64) {
        let mut packets = Vec::new();
        let mut changed = false;
        let mut swim = self.swim.lock();
        swim.poll(Millis::new(now_ms));
        while let Some(output) = swim.poll_output() {
            match output {
                Output::Transmit { to, bytes } => {
                    let (address, node) = match to {
                        Target::Node(node) => (swim.address(node).cloned(), Some(NodeId(node))),
                        Target::Address(address) => (Some(address), None),
                    };
                    let text = address.and_then(|address| text_of(&address));
                    packets.extend(text.map(|to| Packet { to, node, bytes }));
                }
                Output::Event(event) => {
                    changed = true;
                    log(event);
                }
            }
        }
        let next = swim.next_wake().get();
        drop(swim);
        if self.doubts.load(Ordering::Acquire) || changed {
            self.publish_view();
        }
        (packets, next)
    }

    /// Returns when something came in that may have brought packets to send.
    pub async fn stirred(&self) {
        self.wake.notified().await;
    }

    fn publish_view(&self) {
        let answers = |node| self.answers.get().is_some_and(|answers| answers(NodeId(node)));
        let mut doubts = false;
        let swim = self.swim.lock();
        let members = swim
            .members()
            .map(|(node, member)| {
                let fact = swim.fact(node, Fact::Client as u16).map(|fact| fact.bytes);
                let text = fact.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("\n");
                let mut lines = text.split('\n');
                let mut line = || lines.next().unwrap_or_default();
                let (client_address, zone, doing) = (line(), line(), line());
                let member = Member {
                    address: text_of(&member.address).unwrap_or_default(),
                    client_address: client_address.into(),
                    zone: zone.into(),
                    liveness: match member.state {
                        State::Up => Liveness::Up,
                        State::Suspect => Liveness::Suspect,
                        State::Down if answers(node) => {
                            doubts = true;
                            Liveness::Suspect
                        }
                        State::Down => Liveness::Down,
                        State::Left => Liveness::Left,
                    },
                    draining: doing == DRAINING,
                };
                (NodeId(node), member)
            })
            .collect();
        drop(swim);
        self.doubts.store(doubts, Ordering::Release);
        self.view.publish(|view| view.members = members);
    }
}

/// The third line of what a node that is about to be stopped tells of itself.
const DRAINING: &str = "draining";

fn client_fact(me: &Member, draining: bool) -> String {
    let doing = if draining { DRAINING } else { "" };
    format!("{}\n{}\n{doing}", me.client_address, me.zone)
}

fn text_of(address: &Address) -> Option<PeerAddress> {
    std::str::from_utf8(address.as_bytes()).ok().map(str::to_owned)
}

fn log(event: Event<u64>) {
    match event {
        Event::Up(node) => tracing::info!(node = %NodeId(node), "up"),
        Event::Suspect(node) => tracing::info!(node = %NodeId(node), "suspected to be down"),
        Event::Down(node) => tracing::warn!(node = %NodeId(node), "down"),
        Event::Left(node) => tracing::info!(node = %NodeId(node), "left"),
        other => tracing::debug!(?other, "membership"),
    }
}
