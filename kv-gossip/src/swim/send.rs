//! Making packets: the head, the one thing that the receiver must hear, then news while it fits.
//!
//! Lifeguard's buddy system: whoever we hold for anything but up hears that first, so that it can
//! refute it in one round trip. Invariants: no packet is longer than `packet_bytes_max`; facts in
//! one period take at most `fact_bytes_per_period_max` bytes, and beyond `bytes_per_period_max`
//! only bare probes and answers are sent.

use super::Swim;
use crate::codec::Writer;
use crate::dissemination::{Dissemination, News, Offer};
use crate::identity::NodeCode;
use crate::member::State;
use crate::message::{FactUpdate, Message, Update, write_head, write_update};
use crate::output::Target;
use crate::rng::Rng;

/// News that did not fit: after so many the packet is full enough.
const MISFITS_MAX: usize = 8;

impl<N: NodeCode, R: Rng> Swim<N, R> {
    /// Sends `message` with whatever news fits.
    pub(super) fn transmit(&mut self, to: Target<N>, message: &Message<'_, N>) {
        let mut writer = self.head(message);
        self.add_news(&mut writer, &to);
        self.send(to, writer);
    }

    pub(super) fn send(&mut self, to: Target<N>, writer: Writer) {
        self.budget.bytes = self.budget.bytes.saturating_sub(writer.len());
        self.out.transmit(to, writer.finish(), self.config.transmits_max);
    }

    /// A packet with its head in it.
    pub(super) fn head(&self, message: &Message<'_, N>) -> Writer {
        let mut writer = Writer::new(self.config.packet_bytes_max);
        let own = self.account(self.me).expect("the table always holds the own entry");
        write_head(&mut writer, &own, message);
        writer
    }

    /// Sends news to some random live members.
    pub(super) fn gossip(&mut self) {
        let me = self.me;
        let fanout = self.config.gossip_fanout;
        for node in self.live.sample(&mut self.rng, fanout, |node| node != me) {
            if self.budget.bytes < self.config.packet_bytes_max {
                return;
            }
            let to = Target::Node(node);
            let mut writer = self.head(&Message::Gossip);
            if self.add_news(&mut writer, &to) > 0 {
                self.send(to, writer);
            }
        }
    }

    /// A fact of ours or another's, as it is known here.
    pub(super) fn fact_update(&self, node: N, id: u16) -> Option<FactUpdate<'_, N>> {
        let (version, bytes) = self.table.get(&node)?.facts.stored(id)?;
        Some(FactUpdate { node, id, version, bytes })
    }

    /// Adds news until the packet is full. How many pieces were added.
    fn add_news(&mut self, writer: &mut Writer, to: &Target<N>) -> usize {
        let receiver = match to {
            Target::Node(node) => Some(*node),
            Target::Address(_) => None,
        };
        let mut pieces = 0;
        if let Some(doubted) = receiver.filter(|node| self.state(*node) != Some(State::Up))
            && let Some(account) = self.account(doubted)
        {
            let update = Update::Account(account);
            pieces += usize::from(writer.item(usize::MAX, |w| write_update(w, &update)).is_some());
        }
        writer.limit_to(self.budget.bytes.saturating_sub(writer.len()));
        let times_max =
            Dissemination::<N>::times_max(self.config.retransmit_multiplier, self.live.len());
        let mut news = core::mem::replace(&mut self.news, Dissemination::new());
        let mut fact_bytes = self.budget.fact_bytes;
        pieces += news.offer(times_max, MISFITS_MAX, |news| {
            let (update, bytes_max) = match news {
                // Each packet's head has the sender's account already.
                News::Account(node) if node == self.me => return Offer::Told,
                News::Account(node) => (self.account(node).map(Update::Account), usize::MAX),
                News::Fact(node, id) => (self.fact_update(node, id).map(Update::Fact), fact_bytes),
            };
            let Some(update) = update else { return Offer::Void };
            match writer.item(bytes_max, |w| write_update(w, &update)) {
                None => Offer::NoRoom,
                Some(bytes) => {
                    if matches!(update, Update::Fact(_)) {
                        fact_bytes -= bytes;
                    }
                    Offer::Told
                }
            }
        });
        self.budget.fact_bytes = fact_bytes;
        self.news = news;
        pieces
    }
}
