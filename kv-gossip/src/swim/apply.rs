//! Merging what is heard: accounts of members, facts, and the refutation of what is said of us.
//!
//! Invariant: an entry moves up only in the order (incarnation, state), so every member that hears
//! the same accounts ends with the same table, whatever got lost, doubled or reordered between.

use core::cmp::Ordering;

use super::{Entry, Swim};
use crate::Error;
use crate::codec::COUNTER_MAX;
use crate::dissemination::News;
use crate::facts::Facts;
use crate::identity::{Address, NodeCode};
use crate::member::{Accusers, Member, State};
use crate::message::{Account, FactUpdate};
use crate::output::Event;
use crate::rng::Rng;
use crate::suspicion::Suspicion;

impl<N: NodeCode, R: Rng> Swim<N, R> {
    /// What we say of a member, to be written into a packet.
    pub(super) fn account(&self, node: N) -> Option<Account<'_, N>> {
        let member = self.member(node)?;
        let accusers = self.suspicions.get(&node).map_or_else(Accusers::none, |s| s.accusers);
        Some(Account {
            node,
            state: member.state,
            incarnation: member.incarnation,
            address: member.address.as_bytes(),
            accusers,
            gone_s: if member.state.is_gone() { self.now.since(member.since) / 1_000 } else { 0 },
        })
    }

    pub(super) fn apply_account(&mut self, account: &Account<'_, N>) {
        if account.node == self.me {
            self.refute(account);
            return;
        }
        let gone_ms = account.gone_s.saturating_mul(1_000);
        let stale = account.state.is_gone() && gone_ms >= self.config.gone_keep_ms;
        if stale || self.refused.contains(&account.node) {
            return;
        }
        let Some(known) = self.member(account.node) else {
            self.insert(account);
            return;
        };
        match (account.incarnation, account.state).cmp(&(known.incarnation, known.state)) {
            Ordering::Less => {}
            Ordering::Equal => {
                if account.state == State::Suspect {
                    self.confirm(account.node, &account.accusers);
                }
            }
            Ordering::Greater => self.replace(account),
        }
    }

    /// Our own probe of `node` failed.
    pub(super) fn accuse(&mut self, node: N) {
        let Some(known) = self.table.get(&node).map(|entry| entry.member.clone()) else { return };
        match known.state {
            State::Up => self.apply_account(&Account {
                node,
                state: State::Suspect,
                incarnation: known.incarnation,
                address: known.address.as_bytes(),
                accusers: Accusers::one(self.me),
                gone_s: 0,
            }),
            State::Suspect => self.confirm(node, &Accusers::one(self.me)),
            State::Down | State::Left => {}
        }
    }

    /// The suspicion of `node` was not refuted in time.
    pub(super) fn declare_down(&mut self, node: N) {
        let Some(known) = self.table.get(&node).map(|entry| entry.member.clone()) else { return };
        self.apply_account(&Account {
            node,
            state: State::Down,
            incarnation: known.incarnation,
            address: known.address.as_bytes(),
            accusers: Accusers::none(),
            gone_s: 0,
        });
    }

    pub(super) fn apply_fact(&mut self, fact: &FactUpdate<'_, N>) {
        if fact.node == self.me {
            self.overrule_fact(fact);
            return;
        }
        let facts_max = self.config.facts_per_node_max;
        let bytes_max = self.config.fact_bytes_max;
        let Some(entry) = self.table.get_mut(&fact.node) else { return };
        let fits = fact.bytes.is_none_or(|bytes| bytes.len() <= bytes_max)
            && entry.facts.has_room_for(fact.id, facts_max);
        if !fits || !entry.facts.is_newer(fact.id, fact.version, fact.bytes) {
            return;
        }
        let changed = entry.facts.stored(fact.id).is_none_or(|(_, bytes)| bytes != fact.bytes);
        entry.facts.set(fact.id, fact.version, fact.bytes);
        self.news.push(News::Fact(fact.node, fact.id));
        if changed {
            self.event(Event::FactChanged { node: fact.node, id: fact.id });
        }
    }

    pub(super) fn edit_own_fact(&mut self, id: u16, bytes: Option<&[u8]>) -> Result<(), Error> {
        if self.leaving {
            return Err(Error::HasLeft);
        }
        let facts_max = self.config.facts_per_node_max;
        if !self.own().facts.has_room_for(id, facts_max) {
            return Err(Error::TooManyFacts { facts_max });
        }
        if self.own().facts.stored(id).is_some_and(|(_, known)| known == bytes) {
            return Ok(());
        }
        self.write_own_fact(id, bytes);
        Ok(())
    }

    /// Drops all that is known of `node`.
    pub(super) fn forget(&mut self, node: N) {
        let Some(entry) = self.table.remove(&node) else { return };
        self.live.remove(node);
        self.gone.remove(&node);
        self.urged.remove(&node);
        self.suspicions.remove(&node);
        self.probes.remove_node(node);
        self.news.remove(News::Account(node));
        for id in entry.facts.ids() {
            self.news.remove(News::Fact(node, id));
        }
        self.event(Event::Forgotten(node));
    }

    fn insert(&mut self, account: &Account<'_, N>) {
        if self.table.len() >= self.config.members_max && !self.make_room(account.state) {
            self.members_dropped += 1;
            return;
        }
        let since = self.now.minus(account.gone_s.saturating_mul(1_000));
        let member = Member {
            state: account.state,
            incarnation: account.incarnation,
            address: Address::from_wire(account.address),
            since,
        };
        self.table.insert(account.node, Entry { member, facts: Facts::default() });
        self.entered(account, None);
    }

    fn replace(&mut self, account: &Account<'_, N>) {
        let since = self.now.minus(account.gone_s.saturating_mul(1_000));
        let Some(entry) = self.table.get_mut(&account.node) else { return };
        let member = &mut entry.member;
        let before = member.state;
        // Only the owner gives its address, so it changes with the incarnation only.
        let moved = account.incarnation > member.incarnation
            && member.address.as_bytes() != account.address;
        if moved {
            member.address = Address::from_wire(account.address);
        }
        member.incarnation = account.incarnation;
        if before == account.state {
            self.news.push(News::Account(account.node));
            if before == State::Suspect {
                self.suspect(account);
            }
        } else {
            member.state = account.state;
            member.since = since;
            self.entered(account, Some(before));
        }
        if moved {
            self.event(Event::AddressChanged(account.node));
        }
    }

    /// `account.node` has just entered the state that the account names.
    fn entered(&mut self, account: &Account<'_, N>, before: Option<State>) {
        let node = account.node;
        match (before.is_some_and(State::is_live), account.state.is_live()) {
            (true, false) => self.live.remove(node),
            (false, true) => {
                self.live.insert(node);
                self.probes.enter(node, before, &mut self.rng);
            }
            _ => {}
        }
        if account.state.is_gone() {
            self.gone.insert(node);
        } else {
            self.gone.remove(&node);
        }
        self.news.push(News::Account(node));
        self.suspicions.remove(&node);
        match account.state {
            State::Up => {
                self.urged.remove(&node);
                self.event(Event::Up(node));
            }
            State::Suspect => {
                self.suspect(account);
                self.event(Event::Suspect(node));
            }
            State::Down => self.event(Event::Down(node)),
            State::Left => self.event(Event::Left(node)),
        }
    }

    fn suspect(&mut self, account: &Account<'_, N>) {
        let suspicion = Suspicion::new(self.now, account.accusers, &self.config, self.live.len());
        self.suspicions.insert(account.node, suspicion);
    }

    fn confirm(&mut self, node: N, accusers: &Accusers<N>) {
        let Some(suspicion) = self.suspicions.get_mut(&node) else { return };
        let mut news = false;
        for accuser in accusers.iter() {
            news |= suspicion.confirm(accuser, &self.config, self.live.len());
        }
        if news {
            self.news.push(News::Account(node));
        }
    }

    /// Removes whoever is gone the longest, for a member that is alive.
    fn make_room(&mut self, state: State) -> bool {
        if state.is_gone() {
            return false;
        }
        let gone = self.gone.iter().copied();
        let oldest = gone.min_by_key(|node| self.member(*node).map(|member| member.since));
        if let Some(node) = oldest {
            self.forget(node);
        }
        oldest.is_some()
    }

    /// Somebody says something of us that is not so, or no longer: rise above it.
    fn refute(&mut self, account: &Account<'_, N>) {
        let own = &self.own().member;
        let same = account.state == own.state && account.address == own.address.as_bytes();
        let wrong = match account.incarnation.cmp(&own.incarnation) {
            Ordering::Less => false,
            // An account from before our leave is overtaken by it without a new incarnation.
            Ordering::Equal => !same && !self.leaving,
            Ordering::Greater => true,
        };
        if !wrong {
            return;
        }
        let incarnation = account.incarnation.saturating_add(1).min(COUNTER_MAX);
        self.own_mut().member.incarnation = incarnation;
        if matches!(account.state, State::Suspect | State::Down) {
            self.health.worse(1, &self.config);
        }
        self.news.push(News::Account(self.me));
        self.timers.gossip_at = self.now;
        self.event(Event::Refuted { incarnation });
    }

    /// Somebody holds a fact of an earlier life of ours: edit again, above it.
    fn overrule_fact(&mut self, fact: &FactUpdate<'_, N>) {
        let facts = &self.own().facts;
        if !facts.is_newer(fact.id, fact.version, fact.bytes)
            || !facts.has_room_for(fact.id, self.config.facts_per_node_max)
        {
            return;
        }
        let bytes = facts.get(fact.id).map(|fact| fact.bytes.to_vec());
        self.fact_version = self.fact_version.max(fact.version);
        self.write_own_fact(fact.id, bytes.as_deref());
    }

    fn write_own_fact(&mut self, id: u16, bytes: Option<&[u8]>) {
        self.fact_version = self.fact_version.saturating_add(1).min(COUNTER_MAX);
        let version = self.fact_version;
        self.own_mut().facts.set(id, version, bytes);
        self.news.push(News::Fact(self.me, id));
    }
}
