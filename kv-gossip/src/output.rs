//! What the machine wants done, as values: packets to send and events to know.
//!
//! The caller drains them after each input. Both queues are bounded: a packet beyond the bound is
//! dropped as a network would drop it, an event beyond it is counted, and the state of every member
//! can always be read from [`Swim::members`](crate::Swim::members).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::identity::Address;

/// Whom a packet is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target<N> {
    /// A member; [`Swim::address`](crate::Swim::address) says where it listens.
    Node(N),
    /// Whoever listens there: a seed, or a member that only the asker of a probe knows.
    Address(Address),
}

/// Something that the caller may want to know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Event<N> {
    /// The first comparison with another member is complete: this node knows what that one knew.
    /// A member that is alone never gets this.
    Joined,
    /// The member is up: new, back, or no longer suspected.
    Up(N),
    /// The member did not answer someone. It is still to be treated as up.
    Suspect(N),
    /// The member has not refuted the suspicion.
    Down(N),
    /// The member has said that it leaves.
    Left(N),
    /// The member listens elsewhere.
    AddressChanged(N),
    /// The owner has published, changed or taken back a fact.
    FactChanged {
        /// The owner.
        node: N,
        /// The fact's name.
        id: u16,
    },
    /// Somebody doubted us or remembers an earlier life of ours: our incarnation is now this.
    Refuted {
        /// The new incarnation.
        incarnation: u64,
    },
    /// A member that was gone for `gone_keep_ms`, or had to make room, is no longer remembered.
    Forgotten(N),
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output<N> {
    /// Send these bytes, once, without waiting; they may get lost.
    Transmit {
        /// To whom.
        to: Target<N>,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Something happened.
    Event(Event<N>),
}

#[derive(Clone, Debug)]
pub(crate) struct Outbox<N> {
    queue: VecDeque<Output<N>>,
    transmits: usize,
    transmits_dropped: u64,
    events_dropped: u64,
}

impl<N> Outbox<N> {
    pub(crate) const fn new() -> Self {
        Self { queue: VecDeque::new(), transmits: 0, transmits_dropped: 0, events_dropped: 0 }
    }

    pub(crate) fn transmit(&mut self, to: Target<N>, bytes: Vec<u8>, transmits_max: usize) {
        if self.transmits >= transmits_max {
            self.transmits_dropped += 1;
            return;
        }
        self.transmits += 1;
        self.queue.push_back(Output::Transmit { to, bytes });
    }

    pub(crate) fn event(&mut self, event: Event<N>, events_max: usize) {
        if self.queue.len() - self.transmits >= events_max {
            let oldest = self.queue.iter().position(|output| matches!(output, Output::Event(_)));
            if let Some(oldest) = oldest {
                self.queue.remove(oldest);
            }
            self.events_dropped += 1;
        }
        self.queue.push_back(Output::Event(event));
    }

    pub(crate) fn pop(&mut self) -> Option<Output<N>> {
        let output = self.queue.pop_front()?;
        if matches!(output, Output::Transmit { .. }) {
            self.transmits -= 1;
        }
        Some(output)
    }

    pub(crate) const fn dropped(&self) -> (u64, u64) {
        (self.transmits_dropped, self.events_dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_queues_are_bounded() {
        let mut outbox = Outbox::new();
        for number in 0..5 {
            outbox.transmit(Target::Node(number), Vec::new(), 2);
            outbox.event(Event::Up(number), 3);
        }
        assert_eq!(outbox.dropped(), (3, 2));
        let mut events = Vec::new();
        let mut packets = 0;
        while let Some(output) = outbox.pop() {
            match output {
                Output::Event(event) => events.push(event),
                Output::Transmit { .. } => packets += 1,
            }
        }
        assert_eq!(packets, 2);
        assert_eq!(events, [Event::Up(2), Event::Up(3), Event::Up(4)]);
        outbox.transmit(Target::Node(9), Vec::new(), 2);
        assert!(outbox.pop().is_some());
    }
}
