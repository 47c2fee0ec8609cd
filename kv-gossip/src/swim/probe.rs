//! Asking who is there: one member in each period, in shuffled rounds, so that a death is found
//! within a bounded time (SWIM, section 4.3); through others when it does not answer; and for
//! others when they ask.
//!
//! Invariant: a member is accused only after a probe of ours ran its full time without an answer.

use alloc::vec::Vec;

use super::Swim;
use crate::config::Config;
use crate::identity::{Address, NodeCode};
use crate::member::State;
use crate::message::Message;
use crate::output::Target;
use crate::rng::{Rng, below, shuffle_prefix};
use crate::suspicion::Health;
use crate::time::Millis;

/// Probes in flight, and the order of the next ones.
#[derive(Clone, Debug)]
pub(super) struct Probes<N> {
    round: Vec<N>,
    in_flight: Vec<Probe<N>>,
    relays: Vec<Relay<N>>,
}

#[derive(Clone, Copy, Debug)]
struct Probe<N> {
    node: N,
    seq: u64,
    /// When others are asked; `NEVER` once they were.
    indirect_at: Millis,
    deadline: Millis,
    asked: u32,
    nacks: u32,
}

/// A probe that we run for another member.
#[derive(Clone, Debug)]
struct Relay<N> {
    origin: Target<N>,
    origin_seq: u64,
    target: N,
    seq: u64,
    nack_at: Millis,
    deadline: Millis,
}

impl<N: NodeCode> Probes<N> {
    pub(super) const fn new() -> Self {
        Self { round: Vec::new(), in_flight: Vec::new(), relays: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(super) fn remove_node(&mut self, node: N) {
        self.in_flight.retain(|probe| probe.node != node);
        self.relays.retain(|relay| relay.target != node && relay.origin != Target::Node(node));
    }

    /// Regular traffic has shown that `node` is there: its probes need not fail.
    pub(super) fn answered_elsewhere(&mut self, node: N) {
        self.in_flight.retain(|probe| probe.node != node);
    }

    /// A member is live from now on: it gets a random place in what is left of the round. Only one
    /// that was known `before` can have a place there already.
    pub(super) fn enter<R: Rng>(&mut self, node: N, before: Option<State>, rng: &mut R) {
        if before.is_some() && self.round.contains(&node) {
            return;
        }
        let place = below(rng, self.round.len() + 1);
        self.round.push(node);
        let last = self.round.len() - 1;
        self.round.swap(place, last);
    }

    pub(super) fn on_nack(&mut self, seq: u64, target: N) {
        let probe = self.in_flight.iter_mut().find(|p| p.seq == seq && p.node == target);
        if let Some(probe) = probe {
            probe.nacks = (probe.nacks + 1).min(probe.asked);
        }
    }

    /// When the next of them needs something done.
    pub(super) fn next_wake(&self) -> Millis {
        let probes = self.in_flight.iter().map(|probe| probe.indirect_at.min(probe.deadline));
        let relays = self.relays.iter().map(|relay| relay.nack_at.min(relay.deadline));
        probes.chain(relays).min().unwrap_or(Millis::NEVER)
    }

    /// We were not there for `ms`: nobody is to blame for not answering in that time.
    pub(super) fn postpone(&mut self, ms: u64) {
        for probe in &mut self.in_flight {
            probe.indirect_at = probe.indirect_at.plus(ms);
            probe.deadline = probe.deadline.plus(ms);
        }
    }
}

impl<N: NodeCode, R: Rng> Swim<N, R> {
    /// Probes the next member of the round.
    pub(super) fn start_probe(&mut self) {
        let Some(node) = self.next_of_round() else { return };
        let indirect_at = self.now.plus(self.health.stretch(self.config.probe_timeout_ms));
        let deadline = self.now.plus(self.health.stretch(self.config.probe_interval_ms));
        self.ping(node, indirect_at, deadline);
    }

    /// Probes `node` now, beside the round. With `doubted`, others are asked at once too.
    pub(super) fn urge(&mut self, node: N, doubted: bool) {
        let now = self.now;
        if let Some(probe) = self.probes.in_flight.iter_mut().find(|probe| probe.node == node) {
            // Once others were asked their answers are counted against that number; asking fewer
            // of them again would leave more answers than questions.
            if doubted && probe.asked == 0 {
                probe.indirect_at = probe.indirect_at.min(now);
            }
            return;
        }
        if self.probes.in_flight.len() > self.config.extra_probes_max {
            return;
        }
        let timeout_ms = self.health.stretch(self.config.probe_timeout_ms);
        let indirect_at = if doubted { now } else { now.plus(timeout_ms) };
        self.ping(node, indirect_at, now.plus(timeout_ms.saturating_mul(2)));
    }

    /// Probes for another member.
    pub(super) fn relay(
        &mut self,
        origin: Target<N>,
        origin_seq: u64,
        target: N,
        address: Address,
    ) {
        if self.leaving || self.probes.relays.len() >= self.config.extra_probes_max {
            return;
        }
        if target == self.me {
            let ack = Message::Ack { seq: origin_seq, target };
            self.transmit(origin, &ack);
            return;
        }
        let seq = self.next_counter();
        self.probes.relays.push(Relay {
            origin,
            origin_seq,
            target,
            seq,
            nack_at: self.now.plus(self.config.probe_timeout_ms * 4 / 5),
            deadline: self.now.plus(self.config.probe_interval_ms),
        });
        let known = self.table.contains_key(&target);
        let to = if known { Target::Node(target) } else { Target::Address(address) };
        self.transmit(to, &Message::Ping { seq, target });
    }

    pub(super) fn on_ack(&mut self, seq: u64, target: N) {
        let probes = &mut self.probes;
        let probe = probes.in_flight.iter().position(|p| p.seq == seq && p.node == target);
        if let Some(place) = probe {
            probes.in_flight.swap_remove(place);
            self.health.better();
            return;
        }
        let relay = probes.relays.iter().position(|r| r.seq == seq && r.target == target);
        if let Some(place) = relay {
            let relay = probes.relays.swap_remove(place);
            let ack = Message::Ack { seq: relay.origin_seq, target };
            self.transmit(relay.origin, &ack);
        }
    }

    /// Does what is due: asks others, gives up, tells others that we have no answer.
    pub(super) fn tend_probes(&mut self) {
        let now = self.now;
        let mut failed = Vec::new();
        let mut doubted = Vec::new();
        self.probes.in_flight.retain_mut(|probe| {
            if probe.deadline <= now {
                failed.push(*probe);
                return false;
            }
            if probe.indirect_at <= now {
                probe.indirect_at = Millis::NEVER;
                doubted.push((probe.node, probe.seq));
            }
            true
        });
        for (node, seq) in doubted {
            self.ask_again(node, seq);
        }
        for probe in failed {
            self.probe_failed(&probe);
        }
        self.tend_relays();
    }

    fn tend_relays(&mut self) {
        let now = self.now;
        let mut nacks = Vec::new();
        self.probes.relays.retain_mut(|relay| {
            if relay.nack_at <= now {
                relay.nack_at = Millis::NEVER;
                nacks.push((relay.origin.clone(), relay.origin_seq, relay.target));
            }
            relay.deadline > now
        });
        for (origin, seq, target) in nacks {
            self.transmit(origin, &Message::Nack { seq, target });
        }
    }

    fn ping(&mut self, node: N, indirect_at: Millis, deadline: Millis) {
        let seq = self.next_counter();
        let probe = Probe { node, seq, indirect_at, deadline, asked: 0, nacks: 0 };
        self.probes.in_flight.push(probe);
        self.transmit(Target::Node(node), &Message::Ping { seq, target: node });
    }

    /// Asks others, and `node` itself once more: one packet that got lost is the likeliest reason
    /// for silence, and asking again costs one (memberlist's second way, beside the indirect one).
    fn ask_again(&mut self, node: N, seq: u64) {
        if !self.state(node).is_some_and(State::is_live) {
            return;
        }
        self.transmit(Target::Node(node), &Message::Ping { seq, target: node });
        let (me, table) = (self.me, &self.table);
        let up = |other: N| table.get(&other).is_some_and(|at| at.member.state == State::Up);
        let fits = |other: N| other != me && other != node && up(other);
        let others = self.live.sample(&mut self.rng, self.config.indirect_probes, fits);
        let Some(address) = self.address(node).cloned() else { return };
        if let Some(probe) = self.probes.in_flight.iter_mut().find(|probe| probe.seq == seq) {
            probe.asked = others.len() as u32;
        }
        for other in others {
            let request = Message::PingReq { seq, target: node, address: address.as_bytes() };
            self.transmit(Target::Node(other), &request);
        }
    }

    fn probe_failed(&mut self, probe: &Probe<N>) {
        if !self.state(probe.node).is_some_and(State::is_live) {
            return;
        }
        // Relays that say "no answer" speak for us; their silence speaks against us.
        let against_us = if probe.asked == 0 { 1 } else { probe.asked - probe.nacks };
        self.health.worse(against_us, &self.config);
        self.accuse(probe.node);
    }

    /// The next live member of the round; a new round when it is over.
    fn next_of_round(&mut self) -> Option<N> {
        for _ in 0..2 {
            while let Some(node) = self.probes.round.pop() {
                let idle = !self.probes.in_flight.iter().any(|probe| probe.node == node);
                if idle && self.state(node).is_some_and(State::is_live) {
                    return Some(node);
                }
            }
            let mut round: Vec<N> = self.live.iter().filter(|node| *node != self.me).collect();
            let count = round.len();
            shuffle_prefix(&mut self.rng, &mut round, count);
            self.probes.round = round;
        }
        None
    }
}

/// How long a period lasts for a member in this health.
pub(super) const fn period_ms(config: &Config, health: Health) -> u64 {
    health.stretch(config.probe_interval_ms)
}
