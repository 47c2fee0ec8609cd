//! Answering messages, and what the caller's own traffic tells.
//!
//! Invariant: one packet causes at most a bounded number of packets (one answer, one relayed probe,
//! one comparison in return), so nobody can make a member amplify what it gets.

use super::Swim;
use crate::Error;
use crate::identity::{Address, NodeCode};
use crate::member::State;
use crate::message::{Account, Message, Packet, Update};
use crate::output::Target;
use crate::rng::Rng;
use crate::time::Millis;

impl<N: NodeCode, R: Rng> Swim<N, R> {
    /// Takes a packet that `from` has sent. O(bytes * log members).
    ///
    /// # Errors
    /// The packet is damaged, of another version, not from `from`, from ourselves, from a refused
    /// member, or a ping for somebody else. Nothing has changed then, but for the last: the sender
    /// and its news are taken in.
    pub fn handle_message(&mut self, now: Millis, from: N, bytes: &[u8]) -> Result<(), Error> {
        self.advance(now);
        self.renew_budget();
        let packet: Packet<'_, N> = Packet::parse(bytes)?;
        if packet.sender.node != from {
            return Err(Error::SenderMismatch);
        }
        if from == self.me {
            return Err(Error::FromSelf);
        }
        if self.refused.contains(&from) {
            return Err(Error::Refused);
        }
        self.apply_account(&packet.sender);
        for update in packet.updates() {
            match update {
                Update::Account(account) => self.apply_account(&account),
                Update::Fact(fact) => self.apply_fact(&fact),
            }
        }
        let answered = self.answer(&packet.sender, &packet.message);
        // It is alive and doesn't know what we think of it: a probe will tell it.
        if packet.sender.state == State::Up && !matches!(packet.message, Message::Ack { .. }) {
            self.reassure(from);
        }
        answered
    }

    /// The caller's own traffic could not reach `node`: the connection was refused or broke.
    /// It is probed at once, directly and through others; if nobody reaches it, it is suspected.
    pub fn note_unreachable(&mut self, now: Millis, node: N) {
        self.advance(now);
        if !self.leaving && node != self.me && self.state(node).is_some_and(State::is_live) {
            self.urge(node, true);
        }
    }

    /// The caller's own traffic has just been answered by `node`. Cheap when it is up: O(log
    /// members). Otherwise it is probed, which tells it what it has to refute.
    pub fn note_alive(&mut self, now: Millis, node: N) {
        self.advance(now);
        if self.state(node) == Some(State::Up) {
            self.probes.answered_elsewhere(node);
        } else {
            self.reassure(node);
        }
    }

    /// Probes a member that is alive and whom we hold for something else, not too often.
    pub(super) fn reassure(&mut self, node: N) {
        if self.leaving || node == self.me {
            return;
        }
        if self.state(node).is_none_or(|state| state == State::Up) {
            return;
        }
        let (now, pause_ms) = (self.now, self.config.probe_timeout_ms);
        if self.urged.get(&node).is_some_and(|at| now.since(*at) < pause_ms) {
            return;
        }
        self.urged.insert(node, now);
        self.urge(node, false);
    }

    fn answer(&mut self, sender: &Account<'_, N>, message: &Message<'_, N>) -> Result<(), Error> {
        let from = sender.node;
        // There may have been no room for a stranger in the table.
        let back = if self.table.contains_key(&from) {
            Target::Node(from)
        } else {
            Target::Address(Address::from_wire(sender.address))
        };
        match *message {
            Message::Ping { seq, target } => {
                if target != self.me {
                    return Err(Error::WrongTarget);
                }
                self.transmit(back, &Message::Ack { seq, target });
            }
            Message::Ack { seq, target } => self.on_ack(seq, target),
            Message::Nack { seq, target } => self.probes.on_nack(seq, target),
            Message::PingReq { seq, target, address } => {
                self.relay(back, seq, target, Address::from_wire(address));
            }
            Message::Gossip => {}
            Message::Pull(pull) => self.on_pull(back, &pull),
            Message::Page { token, next } => self.on_page(from, back, token, next),
        }
        Ok(())
    }
}
