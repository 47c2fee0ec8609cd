//! Runs: consecutive GETs as one read, consecutive SETs as one write.
//!
//! A pipeline of a hundred SETs costs one lock round, one sync and one message to each replica.
//! A run holds only what can fail for its own reasons, not because of what stands before it: plain
//! GETs, and SETs that overwrite blindly with an expiry that needs no read.

use super::{Exec, Failure, Items, place as key_place};
use crate::coordinator::SetItem;
use crate::mutation::{ExpiryRule, Mutation, Promise};
use crate::resp::args::{self, Set};
use crate::resp::reply::Reply;
use crate::resp::request::{Item, Request};
use crate::resp::table::{CommandId, Found, lookup};
use bytes::Bytes;

/// Keys of one run at most; fewer where pairs may be large, so that one run's answers stay small
/// beside the output's bound.
const RUN_KEYS_MAX: usize = 256;

impl Exec<'_> {
    /// GETs from `first` on; answers the place after them.
    pub(super) async fn gets(&mut self, items: &impl Items, first: usize) -> usize {
        let mut keys = Vec::with_capacity(16);
        let mut place = first;
        let most = RUN_KEYS_MAX.min(self.keys_at_once());
        while keys.len() < most
            && let Some(Item::Request(request)) = items.item(place)
            && is(&request, CommandId::Get)
            && let (2, Some(key)) = (request.count(), request.arg(1))
        {
            keys.push(key_place(key));
            place += 1;
        }
        let node = match self.coordinator() {
            Ok(node) => node,
            Err(error) => {
                let mut reply = self.reply();
                for _ in &keys {
                    reply.error(&error);
                }
                return place;
            }
        };
        let room = match self.shared.read_room.take(keys.len()).await {
            Ok(room) => room,
            Err(refused) => {
                let mut reply = self.reply();
                for _ in &keys {
                    reply.error(&refused);
                }
                return place;
            }
        };
        let before = self.out.len();
        let errors = &self.shared.node.figures().errors;
        let mut reply = Reply::new(self.out, self.session.protocol).counted(errors);
        node.get_batch(&keys, self.session.levels, &mut |_, shown| match shown {
            Ok(value) => reply.bulk_or_nil(value),
            Err(error) => reply.error(error),
        })
        .await;
        room.used(self.out.len().saturating_sub(before));
        place
    }

    /// SET, SETEX, PSETEX from `first` on; answers the place after them.
    pub(super) async fn sets(&mut self, items: &impl Items, first: usize) -> usize {
        let node = match self.coordinator() {
            Ok(node) => node,
            Err(error) => {
                self.reply().error(error);
                return first + 1;
            }
        };
        let now_ms = node.now_ms();
        let mut run = Vec::with_capacity(16);
        let mut place = first;
        while run.len() < RUN_KEYS_MAX
            && let Some(Item::Request(request)) = items.item(place)
            && let Some(Ok(set)) = parsed(&request, now_ms)
            && is_blind(&set)
        {
            let key = key_place(set.key);
            // Writes of one key never overlap: the second begins when the first is acknowledged.
            if run.iter().any(|item: &SetItem<'_>| item.key == key) {
                break;
            }
            run.push(SetItem { key, value: set.value, expiry: set.expiry });
            place += 1;
        }
        if run.is_empty() {
            self.set_alone(&node, items, first, now_ms).await;
            return first + 1;
        }
        let (ends, trail) = node.set_batch(&run, self.session.levels).await;
        self.session.ledger.note(trail);
        let mut reply = self.reply();
        for end in ends {
            match end {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(error),
            }
        }
        place
    }

    /// A SET with NX, XX, GET or KEEPTTL, or one whose arguments are wrong.
    async fn set_alone(
        &mut self,
        node: &crate::coordinator::Coordinator,
        items: &impl Items,
        place: usize,
        now_ms: u64,
    ) {
        let set = match items.item(place) {
            Some(Item::Request(request)) => parsed(&request, now_ms),
            _ => None,
        };
        let done = match set {
            Some(Ok(set)) => self.set_with_options(node, &set).await,
            Some(Err(error)) => Err(error.into()),
            None => Err(Failure::Text("ERR syntax error")),
        };
        if let Err(failure) = done {
            self.reply().error(failure);
        }
    }

    /// Executes a SET as a write of its own.
    pub(super) async fn set_with_options(
        &mut self,
        node: &crate::coordinator::Coordinator,
        set: &Set<'_>,
    ) -> Result<(), Failure> {
        let value = Bytes::copy_from_slice(set.value);
        let mutation = match set.promise() {
            None => Mutation::Set { value, expiry: set.expiry },
            Some(_) => Mutation::Promise(Promise::SetIf {
                value,
                expiry: set.expiry,
                only: set.only,
                answer_old: set.answer_old,
            }),
        };
        let answer = self.mutate(node, set.key, mutation).await?;
        self.answer(&answer);
        Ok(())
    }
}

fn is(request: &Request<'_>, id: CommandId) -> bool {
    matches!(lookup(request.name()), Some(Found::Served(command)) if command.id == id)
}

/// The request as a SET, if it is one of the family with the right number of arguments.
fn parsed<'a>(request: &Request<'a>, now_ms: u64) -> Option<args::Parsed<Set<'a>>> {
    let Some(Found::Served(command)) = lookup(request.name()) else { return None };
    if !command.takes(request.count()) {
        return None;
    }
    match command.id {
        CommandId::Set => Some(args::set(request, now_ms)),
        CommandId::Setex => Some(args::setex(request, 1000, now_ms)),
        CommandId::Psetex => Some(args::setex(request, 1, now_ms)),
        _ => None,
    }
}

fn is_blind(set: &Set<'_>) -> bool {
    set.promise().is_none() && set.expiry != ExpiryRule::Keep
}
