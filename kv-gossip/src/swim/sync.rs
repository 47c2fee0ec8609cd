//! Seeds, and the comparison of whole states page by page: how a newcomer learns all, and how news
//! that got lost is found.
//!
//! The one who wants to know sends what it has, as digests in the order of identities; the other
//! answers with what is newer, as much as one packet holds, and where to go on. Nothing is kept on
//! the answering side (Scuttlebutt's exchange with a cursor instead of a session). A newcomer joins
//! by doing just that with its seeds: the packet's head introduces it.
//!
//! Invariants: a page always moves the cursor on; at most [`SESSIONS_MAX`] comparisons run; a
//! comparison that we start because of another's never causes a third; both sides together send at
//! most `sync_bytes_per_period_max` bytes in a period, so a larger table takes longer, not more.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Entry, Swim};
use crate::codec::{COUNTER_MAX, Writer};
use crate::facts::digest_bytes;
use crate::identity::{Address, NodeCode};
use crate::member::State;
use crate::message::{self, Cursor, ENTRY_BYTES, FactUpdate, Message, Pull, Update};
use crate::output::{Event, Target};
use crate::rng::Rng;
use crate::time::Millis;

/// How many seeds are kept; more are ignored.
pub const SEEDS_MAX: usize = 64;

/// How many comparisons run at once; the oldest makes room.
const SESSIONS_MAX: usize = 16;

/// How often one page is asked for; each time waits for `probe_timeout_ms`.
const TRIES_MAX: u32 = 4;

/// An address to begin with.
#[derive(Clone, Debug)]
pub(super) struct Seed<N> {
    address: Address,
    answered_by: Option<N>,
}

/// A comparison that we have asked for.
#[derive(Clone, Debug)]
pub(super) struct Session<N> {
    token: u64,
    with: Target<N>,
    cursor: Option<Cursor<N>>,
    in_return: bool,
    tries_left: u32,
    expires: Millis,
}

impl<N: NodeCode, R: Rng> Swim<N, R> {
    /// Adds seeds: addresses of some members, of which one has to answer. They are tried until
    /// they do, and again whenever they are gone. Our own address is skipped; of more than
    /// [`SEEDS_MAX`] the rest is ignored.
    pub fn join(&mut self, now: Millis, seeds: impl IntoIterator<Item = Address>) {
        self.advance(now);
        for address in seeds {
            let known = self.seeds.iter().any(|seed| seed.address == address);
            if !known && self.seeds.len() < SEEDS_MAX && address != self.own().member.address {
                self.seeds.push(Seed { address, answered_by: None });
            }
        }
        self.timers.join_at = now;
        self.timers.join_pause_ms = self.config.join_retry_ms;
    }

    /// Takes these for the seeds instead of those of before, as [`Swim::join`] does: where names
    /// stand for addresses, these change. What is known of a seed that stays is kept, and if none
    /// is new nothing is tried sooner than it would have been.
    pub fn look_for(&mut self, now: Millis, seeds: impl IntoIterator<Item = Address>) {
        let wanted: Vec<Address> = seeds.into_iter().take(SEEDS_MAX).collect();
        self.seeds.retain(|seed| wanted.contains(&seed.address));
        let known = |address: &Address| self.seeds.iter().any(|seed| seed.address == *address);
        let own = &self.own().member.address;
        if !wanted.iter().all(|address| known(address) || address == own) {
            self.join(now, wanted);
        }
    }

    /// Tries the seeds behind which no live member is known.
    pub(super) fn try_seeds(&mut self) {
        let silent: Vec<Address> = self
            .seeds
            .iter()
            .filter(|seed| !self.is_answered(seed))
            .map(|seed| seed.address.clone())
            .collect();
        for address in silent {
            self.start_comparison(Target::Address(address), false);
        }
    }

    /// Compares with a random live member.
    pub(super) fn compare_with_someone(&mut self) {
        let me = self.me;
        let other = self.live.sample(&mut self.rng, 1, |node| node != me).pop();
        if let Some(node) = other {
            self.start_comparison(Target::Node(node), false);
        }
    }

    pub(super) fn expire_sessions(&mut self) {
        let now = self.now;
        let expired = self.sessions.extract_if(.., |session| session.expires <= now);
        for session in expired.collect::<Vec<_>>() {
            // A seed has its own pace.
            let goes_on = match &session.with {
                Target::Node(node) => self.state(*node).is_some_and(State::is_live),
                Target::Address(_) => false,
            };
            if goes_on && session.tries_left > 1 {
                let tries = session.tries_left - 1;
                self.pull(session.with, session.cursor, session.in_return, tries);
            } else if !self.joined && self.live.len() > 1 {
                // The first comparison is not to wait for the next regular one.
                self.timers.sync_at = now;
            }
        }
    }

    pub(super) fn next_expiry(&self) -> Millis {
        self.sessions.iter().map(|session| session.expires).min().unwrap_or(Millis::NEVER)
    }

    /// Answers with what we know better, from the cursor on.
    pub(super) fn on_pull(&mut self, back: Target<N>, pull: &Pull<'_, N>) {
        let theirs: BTreeMap<N, _> = pull
            .entries()
            .map(|entry| (entry.node, ((entry.incarnation, entry.state), entry.digest)))
            .collect();
        let last = theirs.last_key_value().map(|(node, _)| *node);
        let bound = if pull.complete { None } else { last };
        let mut body = self.page_body(pull.token);
        let next = self.write_page(&mut body, &theirs, pull.cursor, bound);
        let body = body.finish();
        let mut writer = self.head(&Message::Page { token: pull.token, next });
        writer.slice(&body);
        let bytes = writer.len();
        if bytes > self.budget.sync_bytes.min(self.budget.bytes) {
            return;
        }
        self.budget.sync_bytes -= bytes;
        self.send(back.clone(), writer);

        let knows_better = theirs.iter().any(|(node, (account, digest))| {
            if *node == self.me || self.refused.contains(node) || account.0 > COUNTER_MAX {
                return false;
            }
            match self.table.get(node) {
                None => account.1.is_live(),
                Some(entry) => *account > rank(entry) || *digest != digest_of(entry),
            }
        });
        if knows_better && !pull.in_return && !self.leaving {
            self.start_comparison(back, true);
        }
    }

    /// The rest of a page was applied with the news; go on where it ends.
    pub(super) fn on_page(
        &mut self,
        from: N,
        back: Target<N>,
        token: u64,
        next: Option<Cursor<N>>,
    ) {
        let Some(place) = self.sessions.iter().position(|session| session.token == token) else {
            return;
        };
        let session = self.sessions.swap_remove(place);
        match &session.with {
            Target::Node(node) if *node != from => return,
            Target::Node(_) => {}
            Target::Address(address) => {
                for seed in self.seeds.iter_mut().filter(|seed| seed.address == *address) {
                    seed.answered_by = Some(from);
                }
            }
        }
        match next {
            Some(cursor) if session.cursor.is_none_or(|before| cursor > before) => {
                self.pull(back, Some(cursor), session.in_return, TRIES_MAX);
            }
            Some(_) => {}
            None if self.joined => {}
            None => {
                self.joined = true;
                // Whoever joined together with us was missing from what we were told.
                self.timers.compare_soon(self.now, &self.config);
                self.event(Event::Joined);
            }
        }
    }

    fn start_comparison(&mut self, with: Target<N>, in_return: bool) {
        if !self.sessions.iter().any(|session| session.with == with) {
            self.pull(with, None, in_return, TRIES_MAX);
        }
    }

    fn pull(
        &mut self,
        with: Target<N>,
        cursor: Option<Cursor<N>>,
        in_return: bool,
        tries_left: u32,
    ) {
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.remove(0);
        }
        let token = self.next_counter();
        let spent = self.budget.sync_bytes < self.config.packet_bytes_max;
        let (tries_left, expires) = if spent {
            // It goes on with the next period's; that is no try.
            (tries_left + 1, self.budget.ends)
        } else {
            (tries_left, self.now.plus(self.config.probe_timeout_ms))
        };
        let session = Session { token, with: with.clone(), cursor, in_return, tries_left, expires };
        self.sessions.push(session);
        if spent {
            return;
        }

        let bare = self.head(&message::pull(token, cursor, true, in_return, &[]));
        let entries_max = bare.room() / ENTRY_BYTES;
        let mut entries = Writer::new(entries_max * ENTRY_BYTES);
        let mut members = match cursor {
            None => self.table.range(..),
            Some((node, _)) => self.table.range(node..),
        };
        let mut written = 0;
        for (node, entry) in members.by_ref().take(entries_max) {
            let (incarnation, state) = rank(entry);
            let digest = digest_of(entry);
            let entry = message::Entry { node: *node, incarnation, state, digest };
            message::write_entry(&mut entries, &entry);
            written += 1;
        }
        let complete = written < entries_max || members.next().is_none();
        let entries = entries.finish();
        let writer = self.head(&message::pull(token, cursor, complete, in_return, &entries));
        self.budget.sync_bytes = self.budget.sync_bytes.saturating_sub(writer.len());
        self.send(with, writer);
    }

    /// The room that a page's head leaves.
    fn page_body(&self, token: u64) -> Writer {
        let head = self.head(&Message::Page { token, next: Some((self.me, 0)) });
        Writer::new(head.room())
    }

    /// Writes what we know better than `theirs` says, up to `bound`. Where to go on.
    fn write_page(
        &self,
        body: &mut Writer,
        theirs: &BTreeMap<N, ((u64, State), u64)>,
        cursor: Option<Cursor<N>>,
        bound: Option<N>,
    ) -> Option<Cursor<N>> {
        let members = match cursor {
            None => self.table.range(..),
            Some((node, _)) => self.table.range(node..),
        };
        for (node, entry) in members {
            if bound.is_some_and(|last| *node > last) {
                return Some((*node, 0));
            }
            let has = theirs.get(node);
            let same_digest = has.is_some_and(|(_, digest)| *digest == digest_of(entry));
            if same_digest && has.is_some_and(|(account, _)| *account >= rank(entry)) {
                continue;
            }
            let first_fact = match cursor {
                Some((at, fact)) if at == *node => fact,
                _ => 0,
            };
            if let Some(account) = self.account(*node).filter(|_| first_fact == 0) {
                let update = Update::Account(account);
                if body.item(usize::MAX, |w| message::write_update(w, &update)).is_none() {
                    return Some((*node, 0));
                }
            }
            if same_digest {
                continue;
            }
            for (id, version, bytes) in entry.facts.from(first_fact) {
                let update = Update::Fact(FactUpdate { node: *node, id, version, bytes });
                if body.item(usize::MAX, |w| message::write_update(w, &update)).is_none() {
                    return Some((*node, id));
                }
            }
        }
        None
    }

    fn is_answered(&self, seed: &Seed<N>) -> bool {
        if let Some(node) = seed.answered_by {
            return self.state(node).is_some_and(State::is_live);
        }
        self.members().any(|(_, member)| member.state.is_live() && member.address == seed.address)
    }
}

const fn rank(entry: &Entry) -> (u64, State) {
    (entry.member.incarnation, entry.member.state)
}

/// Equal for members with the same address and the same facts.
fn digest_of(entry: &Entry) -> u64 {
    digest_bytes(entry.facts.digest(), entry.member.address.as_bytes())
}
