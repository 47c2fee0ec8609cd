//! The machine: what it holds, and what the caller may ask of it.
//!
//! One struct, a few inputs, one queue of outputs (the shape of foca and quinn-proto). Its parts
//! are by concern: `apply` merges what is heard, `receive` answers messages, `probe` asks who is
//! there,
//! `sync` compares whole states, `send` makes packets, `tick` is what time does.
//!
//! Invariant: the table always holds this node's own entry, and only this node changes it.

mod apply;
mod live;
mod probe;
mod receive;
mod send;
mod sync;
#[cfg(test)]
mod tests;
mod tick;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::codec::COUNTER_MAX;
use crate::config::Config;
use crate::dissemination::{Dissemination, News};
use crate::facts::{Fact, Facts};
use crate::identity::{Address, NodeCode};
use crate::member::{Member, State};
use crate::output::{Event, Outbox, Output};
use crate::rng::Rng;
use crate::suspicion::{Health, Suspicion};
use crate::time::Millis;
use crate::{Error, swim::live::Live, swim::probe::Probes, swim::sync::Seed};

pub use sync::SEEDS_MAX;

/// One member's view of the cluster, and what it does to keep it right.
///
/// Drive it like this: give it what arrives, call [`poll`](Self::poll) at
/// [`next_wake`](Self::next_wake) and after each input, drain
/// [`poll_output`](Self::poll_output) after each call. After a pause give it what has arrived
/// meanwhile first, then poll.
#[derive(Clone, Debug)]
pub struct Swim<N, R> {
    config: Config,
    me: N,
    rng: R,
    now: Millis,
    table: BTreeMap<N, Entry>,
    /// Who is up or suspected, this node included until it leaves: in no order, so that a random
    /// one is found at once.
    live: Live<N>,
    /// Who is down or has left, of those that are remembered.
    gone: BTreeSet<N>,
    /// When those whom we hold for anything but up were last probed for being heard of.
    urged: BTreeMap<N, Millis>,
    refused: BTreeSet<N>,
    suspicions: BTreeMap<N, Suspicion<N>>,
    health: Health,
    news: Dissemination<N>,
    probes: Probes<N>,
    sessions: Vec<sync::Session<N>>,
    seeds: Vec<Seed<N>>,
    out: Outbox<N>,
    timers: tick::Timers,
    budget: tick::Budget,
    counter: u64,
    fact_version: u64,
    joined: bool,
    leaving: bool,
    members_dropped: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    member: Member,
    facts: Facts,
}

// Clusters of thousands hold as many of these on each node.
const _: () = assert!(size_of::<Entry>() <= 56);

/// Counters for metrics. They only rise, except for the first two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Lifeguard's doubt in oneself: 0 is healthy; all our timeouts are stretched by 1 + this.
    pub health_score: u32,
    /// Pieces of news that still have to be told.
    pub news_waiting: usize,
    /// Packets that found no room among those that wait for the caller.
    pub transmits_dropped: u64,
    /// Events that found no room. Above 0, read [`Swim::members`] anew.
    pub events_dropped: u64,
    /// Accounts of members that found no room in the table.
    pub members_dropped: u64,
}

impl<N: NodeCode, R: Rng> Swim<N, R> {
    /// A member `me` that listens at `address` and knows nobody yet.
    ///
    /// `incarnation` may be 0: a member that was known before finds out and rises above it. A value
    /// that is higher at each start, such as the wall clock's milliseconds, spares the others a
    /// round and keeps the numbers of facts rising.
    ///
    /// # Errors
    /// [`Error::Config`] when a setting breaks its rule, [`Error::Malformed`] for an incarnation
    /// above 2^63 - 1.
    pub fn new(
        config: Config,
        me: N,
        address: Address,
        incarnation: u64,
        rng: R,
        now: Millis,
    ) -> Result<Self, Error> {
        config.validate()?;
        if incarnation > COUNTER_MAX {
            return Err(Error::Malformed { field: "incarnation" });
        }
        let member = Member { state: State::Up, incarnation, address, since: now };
        let own = Entry { member, facts: Facts::default() };
        let mut news = Dissemination::new();
        news.push(News::Account(me));
        Ok(Self {
            me,
            rng,
            now,
            table: BTreeMap::from([(me, own)]),
            live: Live::of(me),
            gone: BTreeSet::new(),
            urged: BTreeMap::new(),
            refused: BTreeSet::new(),
            suspicions: BTreeMap::new(),
            health: Health::default(),
            news,
            probes: Probes::new(),
            sessions: Vec::new(),
            seeds: Vec::new(),
            out: Outbox::new(),
            timers: tick::Timers::new(now, &config),
            budget: tick::Budget::new(now, &config),
            counter: 0,
            fact_version: incarnation,
            joined: false,
            leaving: false,
            members_dropped: 0,
            config,
        })
    }

    /// Takes members for up that are known from before, as after a restart from a list that was
    /// kept on disk (Serf's snapshot): whoever isn't there any more is probed and found out like
    /// anybody. Those that are known already stay as they are; of more than `members_max` the rest
    /// is ignored. No events: it is the caller who told us. O(members).
    pub fn remember(&mut self, now: Millis, members: impl IntoIterator<Item = (N, Address, u64)>) {
        self.advance(now);
        let room = self.config.members_max.saturating_sub(self.table.len());
        let strangers = members.into_iter().filter(|(node, _, incarnation)| {
            let known = self.table.contains_key(node) || self.refused.contains(node);
            !known && *incarnation <= COUNTER_MAX
        });
        let remembered: BTreeMap<N, Entry> = strangers
            .take(room)
            .map(|(node, address, incarnation)| {
                let member = Member { state: State::Up, incarnation, address, since: now };
                (node, Entry { member, facts: Facts::default() })
            })
            .collect();
        self.live.extend(remembered.keys().copied());
        // Collected anew, so that its nodes are full.
        self.table = core::mem::take(&mut self.table).into_iter().chain(remembered).collect();
        self.timers.compare_some_time(now, &mut self.rng, &self.config, self.live.len());
    }

    /// The next thing to do, oldest first, until there is none.
    pub fn poll_output(&mut self) -> Option<Output<N>> {
        self.out.pop()
    }

    /// Tells the cluster that this node leaves. Go on polling until [`has_left`](Self::has_left),
    /// or for as long as you can wait; then stop. There is no way back but a new machine.
    pub fn leave(&mut self, now: Millis) {
        self.advance(now);
        if self.leaving {
            return;
        }
        self.leaving = true;
        let own = self.own_mut();
        own.member.state = State::Left;
        own.member.since = now;
        self.live.remove(self.me);
        self.probes.clear();
        self.suspicions.clear();
        self.sessions.clear();
        self.news.push(News::Account(self.me));
        self.timers.gossip_at = now;
        self.poll(now);
    }

    /// Whether the leave was told as often as any news, or there is nobody to tell.
    pub fn has_left(&self) -> bool {
        self.leaving && (self.live.len() == 0 || !self.news.contains(News::Account(self.me)))
    }

    /// Publishes a fact of this node, or a new value of it. It spreads with the next packets.
    /// Nothing happens when the bytes are the same as before.
    ///
    /// # Errors
    /// [`Error::FactTooLong`], [`Error::TooManyFacts`], [`Error::HasLeft`]; nothing was published.
    pub fn publish_fact(&mut self, id: u16, bytes: &[u8]) -> Result<(), Error> {
        let bytes_max = self.config.fact_bytes_max;
        if bytes.len() > bytes_max {
            return Err(Error::FactTooLong { bytes: bytes.len(), bytes_max });
        }
        self.edit_own_fact(id, Some(bytes))
    }

    /// Takes a fact of this node back. The others forget its bytes; its name stays taken.
    ///
    /// # Errors
    /// [`Error::HasLeft`]; nothing was changed.
    pub fn retract_fact(&mut self, id: u16) -> Result<(), Error> {
        if self.own().facts.get(id).is_none() {
            return Ok(());
        }
        self.edit_own_fact(id, None)
    }

    /// A fact that `node` publishes, as far as it is known here.
    pub fn fact(&self, node: N, id: u16) -> Option<Fact<'_>> {
        self.table.get(&node)?.facts.get(id)
    }

    /// All facts that `node` publishes, by name.
    pub fn facts(&self, node: N) -> impl Iterator<Item = (u16, Fact<'_>)> {
        self.table.get(&node).into_iter().flat_map(|entry| entry.facts.live())
    }

    /// All members that are remembered, this one and those that are gone included, in order.
    pub fn members(&self) -> impl Iterator<Item = (N, &Member)> {
        self.table.iter().map(|(node, entry)| (*node, &entry.member))
    }

    /// What is known of one member.
    pub fn member(&self, node: N) -> Option<&Member> {
        self.table.get(&node).map(|entry| &entry.member)
    }

    /// Where a member listens.
    pub fn address(&self, node: N) -> Option<&Address> {
        self.member(node).map(|member| &member.address)
    }

    /// How many members are up or suspected, this one included.
    pub const fn live_members(&self) -> usize {
        self.live.len()
    }

    /// This node's identity.
    pub const fn me(&self) -> N {
        self.me
    }

    /// This node's incarnation.
    pub fn incarnation(&self) -> u64 {
        self.own().member.incarnation
    }

    /// Whether a first comparison with another member is complete.
    pub const fn has_joined(&self) -> bool {
        self.joined
    }

    /// The settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Counters for metrics.
    pub fn stats(&self) -> Stats {
        let (transmits_dropped, events_dropped) = self.out.dropped();
        Stats {
            health_score: self.health.score(),
            news_waiting: self.news.len(),
            transmits_dropped,
            events_dropped,
            members_dropped: self.members_dropped,
        }
    }

    /// Never hears from or of `node` again: it was removed from the cluster for good. Every member
    /// has to be told by the caller. This node itself can't be refused.
    pub fn refuse(&mut self, now: Millis, node: N) {
        self.advance(now);
        if node != self.me && self.refused.insert(node) {
            self.forget(node);
        }
    }

    fn own(&self) -> &Entry {
        self.table.get(&self.me).expect("the table always holds the own entry")
    }

    fn own_mut(&mut self) -> &mut Entry {
        self.table.get_mut(&self.me).expect("the table always holds the own entry")
    }

    fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    /// A number that this machine did not use before, for probes and comparisons.
    fn next_counter(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn event(&mut self, event: Event<N>) {
        self.out.event(event, self.config.events_max);
    }

    fn state(&self, node: N) -> Option<State> {
        self.member(node).map(|member| member.state)
    }
}
