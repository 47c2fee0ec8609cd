//! Commands of strings: reads of one or several values, overwrites, and promises.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Exec, Executed, Failure, arg, not_here, place};
use crate::coordinator::{Coordinator, Levels, SetItem};
use crate::error::RequestError;
use crate::mutation::{Answer, Existence, ExpiryRule, Mutation, MutationOut, Promise};
use crate::resp::args::{self, ExpiryChange, Set};
use crate::resp::request::Request;
use crate::resp::table::{Command, CommandId};

/// Keys that one MGET or MSET hands to the coordinator at once, at most.
const KEYS_AT_ONCE: usize = 1_024;
/// Bytes of their pairs, at most; 16 pairs are always allowed.
const BYTES_AT_ONCE: usize = 16 << 20;

impl Exec<'_> {
    pub(super) async fn strings(
        &mut self,
        node: &Coordinator,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        let key = arg(request, 1)?;
        match command.id {
            CommandId::Mget => self.mget(node, request).await,
            CommandId::Mset => self.mset(node, request).await,
            CommandId::Msetnx => self.msetnx(node, request).await,
            CommandId::Getex => self.getex(node, request).await,
            CommandId::Strlen => {
                let seen = self.look(node, key).await?;
                self.reply().integer(seen.map_or(0, |seen| seen.bytes as i64));
                Ok(())
            }
            CommandId::Getrange | CommandId::Substr => self.getrange(node, request).await,
            CommandId::Getset => {
                let value = arg(request, 2)?;
                let expiry = ExpiryRule::Never;
                let set = Set { key, value, expiry, only: None, answer_old: true };
                self.set_with_options(node, &set).await
            }
            _ => {
                let promise = promise(command, request)?;
                let answer = self.mutate(node, key, Mutation::Promise(promise)).await?;
                if command.id == CommandId::Setnx {
                    self.reply().integer(i64::from(answer == Answer::Ok));
                } else {
                    self.answer(&answer);
                }
                Ok(())
            }
        }
    }

    /// Executes one write and notes what it left, for WAIT.
    pub(super) async fn mutate(
        &mut self,
        node: &Coordinator,
        key: &[u8],
        mutation: Mutation,
    ) -> Result<Answer, RequestError> {
        self.mutate_at(node, key, mutation, self.session.levels).await
    }

    /// `mutate` at other levels than the connection's.
    pub(super) async fn mutate_at(
        &mut self,
        node: &Coordinator,
        key: &[u8],
        mutation: Mutation,
        levels: Levels,
    ) -> Result<Answer, RequestError> {
        let (out, followed) = node.mutate_followed(place(key), mutation, levels).await;
        self.session.ledger.note(followed);
        out.map(answer_of)
    }

    pub(super) fn answer(&mut self, answer: &Answer) {
        let mut reply = self.reply();
        match answer {
            Answer::Ok => reply.ok(),
            Answer::Integer(number) => reply.integer(*number),
            Answer::Value(value) => reply.bulk_or_nil(value.as_deref()),
        }
    }

    /// GET by itself.
    async fn get(&mut self, node: &Coordinator, key: &[u8]) -> Executed {
        let levels = self.session.levels;
        let room = self.shared.read_room.take(1).await?;
        let (mut failed, mut bytes) = (None, 0);
        let mut reply = self.reply();
        node.get_batch(&[place(key)], levels, &mut |_, shown| match shown {
            Ok(value) => {
                bytes = value.map_or(0, <[u8]>::len);
                reply.bulk_or_nil(value);
            }
            Err(error) => failed = Some(error),
        })
        .await;
        room.used(bytes);
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn getrange(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let bounds = args::range_at(request, 2)?;
        let levels = self.session.levels;
        let room = self.shared.read_room.take(1).await?;
        let (mut failed, mut bytes) = (None, 0);
        let mut reply = self.reply();
        let key = place(arg(request, 1)?);
        node.get_batch(&[key], levels, &mut |_, shown| match shown {
            Ok(value) => {
                bytes = value.map_or(0, <[u8]>::len);
                reply.bulk(args::slice(value.unwrap_or_default(), bounds));
            }
            Err(error) => failed = Some(error),
        })
        .await;
        room.used(bytes);
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn getex(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let key = arg(request, 1)?;
        let expires_at_ms = match args::getex(request, node.now_ms())? {
            ExpiryChange::Leave => return self.get(node, key).await,
            ExpiryChange::Persist => None,
            ExpiryChange::At(at_ms) => Some(at_ms),
        };
        let answer = self.mutate(node, key, Mutation::ReadAndExpire { expires_at_ms }).await?;
        self.answer(&answer);
        Ok(())
    }

    /// One answer for all keys, or the first error: an array can't hold half a read.
    async fn mget(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let levels = self.session.levels;
        let at_once = self.keys_at_once();
        self.reply().array(request.count() - 1);
        // Never all at once: a request may name a million.
        let mut names = request.args_from(1);
        let mut keys = Vec::new();
        loop {
            keys.clear();
            keys.extend(names.by_ref().take(at_once).map(place));
            if keys.is_empty() {
                break;
            }
            let room = self.shared.read_room.take(keys.len()).await?;
            let mut failed = None;
            let before = self.out.len();
            let mut reply = self.reply();
            node.get_batch(&keys, levels, &mut |_, shown| match shown {
                Ok(value) => reply.bulk_or_nil(value),
                Err(error) if failed.is_none() => failed = Some(error),
                Err(_) => {}
            })
            .await;
            room.used(self.out.len().saturating_sub(before));
            if let Some(error) = failed {
                return Err(error.into());
            }
            self.check_answer()?;
        }
        Ok(())
    }

    /// OK when every pair is acknowledged. There is no atomicity over keys: on an error the text
    /// says how many of the others are stored.
    async fn mset(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let mut pairs = args::pairs(request, "mset")?;
        let (mut first, mut stored, mut named) = (None, 0, 0);
        let at_once = self.keys_at_once();
        loop {
            // Never all at once: a request may name half a million.
            let items: Vec<SetItem<'_>> = last_of_each(pairs.by_ref().take(at_once))
                .into_iter()
                .map(|(key, value)| SetItem { key: place(key), value, expiry: ExpiryRule::Never })
                .collect();
            if items.is_empty() {
                break;
            }
            named += items.len();
            let (ends, trail) = node.set_batch(&items, self.session.levels).await;
            self.session.ledger.note(trail);
            stored += ends.iter().filter(|end| end.is_ok()).count();
            for error in ends.into_iter().filter_map(Result::err) {
                first = Some(RequestError::worse_of(first, error));
            }
        }
        if let Some(error) = first {
            let others = format!("{stored} of {named} keys are stored");
            return Err(Failure::partly(error, stored as i64, others));
        }
        self.reply().ok();
        Ok(())
    }

    /// Under `rmw = best-effort`: sets what none of which is there when it looks. Each key is
    /// decided by itself. 1 is all and 0 is none; anything between is an error that says how many
    /// are set.
    async fn msetnx(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let pairs = last_of_each(args::pairs(request, "msetnx")?);
        Coordinator::check_rmw(&node.scope()?, "msetnx")?;
        for (key, _) in &pairs {
            if self.look(node, key).await?.is_some() {
                self.reply().integer(0);
                return Ok(());
            }
        }
        let count = pairs.len();
        let mut set = 0;
        for (key, value) in pairs {
            match self.set_if_absent(node, key, Bytes::copy_from_slice(value), None).await {
                Ok(true) => set += 1,
                Ok(false) if set == 0 => {
                    self.reply().integer(0);
                    return Ok(());
                }
                Ok(false) => {
                    let key = String::from_utf8_lossy(key.get(..64).unwrap_or(key));
                    return Err(Failure::Owned(format!(
                        "ERR {set} of {count} keys are set: then '{key}' had a value; keys are \
                         set one by one"
                    )));
                }
                Err(error) => {
                    let others = format!("{set} of {count} keys are set, in their order");
                    return Err(Failure::partly(error, set, others));
                }
            }
        }
        self.reply().integer(1);
        Ok(())
    }

    /// Keys that one command hands to the coordinator at once: as many as keep their values within
    /// a bound.
    pub(super) fn keys_at_once(&mut self) -> usize {
        if self.session.keys_at_once > 0 {
            return self.session.keys_at_once;
        }
        let keys = (BYTES_AT_ONCE / self.shared.pair_bytes_max().max(1)).clamp(16, KEYS_AT_ONCE);
        // The pair limit is decided at the cluster's birth; before that it is not known.
        if self.session.coordinator.is_some() {
            self.session.keys_at_once = keys;
        }
        keys
    }

    /// Whether the value was set: there was none.
    pub(super) async fn set_if_absent(
        &mut self,
        node: &Coordinator,
        key: &[u8],
        value: Bytes,
        expires_at_ms: Option<u64>,
    ) -> Result<bool, RequestError> {
        let promise = Promise::SetIf {
            value,
            expiry: expires_at_ms.map_or(ExpiryRule::Never, ExpiryRule::At),
            only: Some(Existence::Absent),
            answer_old: false,
        };
        Ok(self.mutate(node, key, Mutation::Promise(promise)).await? == Answer::Ok)
    }
}

/// Each key once, with the value that it was given last.
fn last_of_each<'a>(
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<(&'a [u8], &'a [u8])> {
    let mut places: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut each: Vec<(&[u8], &[u8])> = Vec::new();
    for (key, value) in pairs {
        let place = *places.entry(key).or_insert(each.len());
        match each.get_mut(place) {
            Some(pair) => pair.1 = value,
            None => each.push((key, value)),
        }
    }
    each
}

/// What a write answers, whether anything was written or not.
pub(super) fn answer_of(out: MutationOut) -> Answer {
    match out {
        MutationOut::Written { answer, .. } | MutationOut::Nothing(answer) => answer,
    }
}

/// The promise of a command that has a key and at most two arguments.
fn promise(command: &'static Command, request: &Request<'_>) -> Result<Promise, Failure> {
    let bytes = |place| Ok::<_, Failure>(Bytes::copy_from_slice(arg(request, place)?));
    Ok(match command.id {
        CommandId::Setnx => Promise::SetIf {
            value: bytes(2)?,
            expiry: ExpiryRule::Never,
            only: Some(Existence::Absent),
            answer_old: false,
        },
        CommandId::Getdel => Promise::TakeOut,
        CommandId::Incr => Promise::Add(1),
        CommandId::Decr => Promise::Add(-1),
        CommandId::Incrby => Promise::Add(args::integer_at(request, 2)?),
        CommandId::Decrby => Promise::Add(args::negated(request, 2)?),
        CommandId::Incrbyfloat => {
            let by = arg(request, 2)?;
            args::float(by)?;
            Promise::AddFloat(String::from_utf8_lossy(by).into_owned())
        }
        CommandId::Append => Promise::Append(bytes(2)?),
        CommandId::Setrange => {
            Promise::SetRange { offset: args::setrange(request, 512 << 20)?, value: bytes(3)? }
        }
        _ => return Err(not_here(command)),
    })
}
