//! One step of a connection's batch: what is executed, where the answers go, how long it took.
//!
//! CLIENT REPLY keeps answers from the client by writing them elsewhere: the executor knows nothing
//! of it, and every request still has exactly one answer.

use std::time::Instant;

use super::exec::{Items, Replies, Session, Shared};
use super::held::KEEP_BYTES;
use super::parse::{Batch, Item};
use super::slow::Who;
use super::table::flag;
use crate::metrics::Class;

/// Lists an open connection for as long as it lives.
pub(super) struct Listed<'s>(&'s Shared, u64);

impl<'s> Listed<'s> {
    pub(super) fn new(shared: &'s Shared, session: &Session) -> Self {
        shared.open.add(&session.card);
        Self(shared, session.card.id)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.open.remove(self.1);
    }
}

/// One step of a batch: what is answered of it, and how long it took.
pub(super) struct Turn {
    first: usize,
    replies: Replies,
    began: Instant,
}

impl Turn {
    pub(super) fn begin(session: &mut Session, first: usize) -> Self {
        let replies = session.replies;
        if replies == Replies::SkipNext {
            session.replies = Replies::Skipping;
        }
        Self { first, replies, began: Instant::now() }
    }

    /// What is executed: if only the next command is not answered, that one alone.
    pub(super) fn items<'b>(&self, batch: &'b Batch<'b>) -> Chosen<'b> {
        Chosen { batch, only: (self.replies == Replies::SkipNext).then_some(self.first) }
    }

    /// Where the answers go.
    pub(super) fn out<'o>(
        &self,
        output: &'o mut Vec<u8>,
        quiet: &'o mut Vec<u8>,
    ) -> &'o mut Vec<u8> {
        if self.replies == Replies::All { output } else { quiet }
    }

    /// CLIENT REPLY takes effect: what is not to be answered is dropped.
    pub(super) fn settle(&self, session: &mut Session, output: &mut Vec<u8>, quiet: &mut Vec<u8>) {
        match (self.replies, session.replies) {
            (Replies::All, _) => return,
            // CLIENT REPLY ON is answered whatever was asked for before.
            (_, Replies::All) => output.append(quiet),
            (_, Replies::Skipping) => session.replies = Replies::All,
            _ => {}
        }
        quiet.clear();
        quiet.shrink_to(KEEP_BYTES);
    }

    /// It ended before `next`: it is counted, and noted if it was slow.
    pub(super) fn took(&self, shared: &Shared, session: &Session, batch: &Batch<'_>, next: usize) {
        let took = self.began.elapsed();
        shared.node.figures().steps.record(class_of(session), took);
        shared.slowness.took(took, || {
            let Some(Item::Request(request)) = batch.item(self.first) else { return None };
            // Passwords are in no log.
            let secret = session.command.is_none_or(|command| {
                command.has(flag::SKIP_SLOWLOG) || command.has(flag::NO_AUTH)
            });
            let peer = session.card.peer.map_or_else(String::new, |peer| peer.to_string());
            let more = next.saturating_sub(self.first + 1);
            (!secret).then(|| Who { request, more, peer, name: session.name.clone() })
        });
    }
}

/// What the command that was executed last does to data.
fn class_of(session: &Session) -> Class {
    match session.command {
        Some(command) if command.has(flag::READONLY) => Class::Read,
        Some(command) if command.has(flag::WRITE) => Class::Write,
        _ => Class::Other,
    }
}

/// All of a batch, or only one of its requests.
pub(super) struct Chosen<'b> {
    batch: &'b Batch<'b>,
    only: Option<usize>,
}

impl Items for Chosen<'_> {
    #[inline]
    fn item(&self, place: usize) -> Option<Item<'_>> {
        if self.only.is_some_and(|only| only != place) {
            return None;
        }
        self.batch.item(place)
    }
}
