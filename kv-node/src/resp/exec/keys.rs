//! Commands of keys: deletes, existence, moves, and those that speak of the whole keyspace.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::strings::answer_of;
use super::{Exec, Executed, Failure, arg, not_here, place};
use crate::config::WholeKeyspace;
use crate::coordinator::{Coordinator, ScanCursor, Seen};
use crate::error::RequestError;
use crate::keys::PREFIX_BYTES;
use crate::mutation::{Answer, ExpiryRule, Mutation};
use crate::resp::args;
use crate::resp::glob::Glob;
use crate::resp::reply::Reply;
use crate::resp::request::Request;
use crate::resp::table::{Command, CommandId};

/// Deletes of one DEL that are under way at once.
const DELETES_AT_ONCE: usize = 64;
/// Keys that KEYS asks for at a time.
const PAGE_KEYS: usize = 1_000;
/// What a pair takes in memory beside its bytes, about.
const PAIR_OVERHEAD_BYTES: usize = 56;

/// With no eviction nothing needs to know when or how often a key was read.
const NOT_TRACKED: &str = "ERR accesses are not tracked: no maxmemory policy needs them here";

/// Facts about one live value.
pub(super) struct Facts {
    pub(super) bytes: usize,
    pub(super) expires_at_ms: Option<u64>,
    record_bytes: usize,
    encoding: &'static str,
}

/// Steps of matching patterns after which others get their turn: about a millisecond.
const MATCH_STEPS_AT_ONCE: usize = 1 << 20;

/// The keys that match, in order. A pattern full of stars over long keys is the product of both:
/// whoever shares this thread is not kept waiting for all of them.
async fn matching<'k>(pattern: &Glob<'_>, keys: &'k [Bytes]) -> Vec<&'k Bytes> {
    let (mut found, mut steps) = (Vec::new(), 0);
    for key in keys {
        if pattern.matches(key) {
            found.push(key);
        }
        steps += if pattern.is_all() { 1 } else { key.len() * pattern.pattern().len() };
        if steps >= MATCH_STEPS_AT_ONCE {
            tokio::task::yield_now().await;
            steps = 0;
        }
    }
    found
}

impl Exec<'_> {
    pub(super) async fn keys(
        &mut self,
        node: &Coordinator,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        match command.id {
            CommandId::Del | CommandId::Unlink => self.delete(node, request).await,
            CommandId::Exists | CommandId::Touch => self.exists(node, request).await,
            CommandId::Type => {
                let there = self.look(node, arg(request, 1)?).await?.is_some();
                self.reply().simple(if there { "string" } else { "none" });
                Ok(())
            }
            CommandId::ObjectEncoding => {
                let seen = self.look(node, arg(request, 2)?).await?;
                self.reply().bulk_or_nil(seen.map(|seen| seen.encoding.as_bytes()));
                Ok(())
            }
            CommandId::ObjectFreq | CommandId::ObjectIdletime => {
                // Nil where there is no value, as in Redis; a number would be made up.
                if self.look(node, arg(request, 2)?).await?.is_some() {
                    return Err(Failure::Text(NOT_TRACKED));
                }
                self.reply().nil();
                Ok(())
            }
            CommandId::MemoryUsage => {
                let key = args::memory_usage(request)?;
                match self.look(node, key).await? {
                    Some(seen) => {
                        let row = PREFIX_BYTES + key.len() + seen.record_bytes;
                        self.reply().integer((row + PAIR_OVERHEAD_BYTES) as i64);
                    }
                    None => self.reply().nil(),
                }
                Ok(())
            }
            CommandId::Rename | CommandId::Renamenx => self.rename(node, command, request).await,
            CommandId::Copy => self.copy(node, request).await,
            CommandId::Wait => {
                // Reached in EXEC only, where Redis acts as if the time were over.
                args::wait(request)?;
                let held = node.waited(&mut self.session.ledger);
                self.reply().integer(held as i64);
                Ok(())
            }
            _ => self.whole_keyspace(node, command, request).await,
        }
    }

    async fn whole_keyspace(
        &mut self,
        node: &Coordinator,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        let local = self.shared.resp.whole_keyspace == WholeKeyspace::Local;
        match command.id {
            CommandId::Scan => self.scan(node, request, local).await,
            CommandId::Keys => self.all_keys(node, request, local).await,
            CommandId::Dbsize => {
                let count = node.count_keys(local).await?;
                self.reply().integer(i64::try_from(count).unwrap_or(i64::MAX));
                Ok(())
            }
            CommandId::Randomkey => {
                let key = node.random_key(local).await?;
                self.reply().bulk_or_nil(key.as_deref());
                Ok(())
            }
            CommandId::Flushall | CommandId::Flushdb => {
                args::flush(request)?;
                node.flush().await?;
                self.reply().ok();
                Ok(())
            }
            _ => Err(not_here(command)),
        }
    }

    /// Facts about one key, `None` where GET shows nil.
    pub(super) async fn look(
        &mut self,
        node: &Coordinator,
        key: &[u8],
    ) -> Result<Option<Facts>, RequestError> {
        let room = self.shared.read_room.take(1).await?;
        let (mut found, mut bytes) = (Ok(None), 0);
        node.look_batch(&[place(key)], self.session.levels, &mut |_, seen| {
            bytes = seen_bytes(&seen);
            found = seen.map(|seen| {
                seen.map(|seen| Facts {
                    bytes: seen.value.len(),
                    expires_at_ms: seen.expires_at_ms,
                    record_bytes: seen.record_bytes,
                    encoding: encoding(seen.value),
                })
            });
        })
        .await;
        room.used(bytes);
        found
    }

    /// Each key by itself, several at once; a key named twice is deleted once. On an error the text
    /// says how many others are deleted.
    async fn delete(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        if request.count() == 2 {
            let answer = self.mutate(node, arg(request, 1)?, Mutation::Delete).await?;
            self.answer(&answer);
            return Ok(());
        }
        let mut names = request.args_from(1);
        let levels = self.session.levels;
        let (mut deleted, mut failed, mut named) = (0, None, 0);
        loop {
            // What was named and deleted before is not there any more.
            let keys: BTreeSet<&[u8]> = names.by_ref().take(DELETES_AT_ONCE).collect();
            if keys.is_empty() {
                break;
            }
            named += keys.len();
            let mut deletes = Vec::with_capacity(keys.len());
            for key in keys {
                deletes.push(node.mutate_followed(place(key), Mutation::Delete, levels));
            }
            for (out, followed) in futures::future::join_all(deletes).await {
                self.session.ledger.note(followed);
                match out.map(answer_of) {
                    Ok(Answer::Integer(number)) => deleted += number,
                    Ok(_) => {}
                    Err(error) => failed = Some(RequestError::worse_of(failed, error)),
                }
            }
        }
        if let Some(error) = failed {
            let others = format!("{deleted} of {named} keys are deleted");
            return Err(Failure::partly(error, deleted, others));
        }
        self.reply().integer(deleted);
        Ok(())
    }

    async fn exists(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let at_once = self.keys_at_once();
        let mut names = request.args_from(1);
        let (mut count, mut failed, mut keys) = (0, None, Vec::new());
        loop {
            keys.clear();
            keys.extend(names.by_ref().take(at_once).map(place));
            if keys.is_empty() {
                break;
            }
            let room = self.shared.read_room.take(keys.len()).await?;
            let mut bytes = 0;
            node.look_batch(&keys, self.session.levels, &mut |_, seen| {
                bytes += seen_bytes(&seen);
                match seen {
                    Ok(seen) => count += i64::from(seen.is_some()),
                    Err(error) => failed = Some(error),
                }
            })
            .await;
            room.used(bytes);
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.reply().integer(count);
        Ok(())
    }

    async fn scan(&mut self, node: &Coordinator, request: &Request<'_>, local: bool) -> Executed {
        let wanted = args::scan(request)?;
        let page = node.scan(ScanCursor(wanted.cursor), wanted.count, local).await?;
        let mut keys: Vec<&Bytes> = Vec::new();
        if wanted.wants_strings {
            match &wanted.pattern {
                Some(pattern) => keys = matching(pattern, &page.keys).await,
                None => keys.extend(&page.keys),
            }
        }
        let mut reply = self.reply();
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(page.next.0).as_bytes());
        reply.array(keys.len());
        for key in keys {
            reply.bulk(key);
        }
        Ok(())
    }

    async fn all_keys(
        &mut self,
        node: &Coordinator,
        request: &Request<'_>,
        local: bool,
    ) -> Executed {
        let pattern = args::glob(arg(request, 1)?)?;
        // How many there are is known at the end only, and stands before them.
        let (start, mut count) = (self.out.len(), 0);
        let mut cursor = ScanCursor::default();
        loop {
            let page = node.scan(cursor, PAGE_KEYS, local).await?;
            let keys = matching(&pattern, &page.keys).await;
            let mut reply = self.reply();
            for key in keys {
                reply.bulk(key);
                count += 1;
            }
            self.check_answer()?;
            cursor = page.next;
            if cursor == ScanCursor::default() {
                break;
            }
        }
        let mut head = Vec::new();
        Reply::new(&mut head, self.session.protocol).array(count);
        self.out.splice(start..start, head);
        Ok(())
    }

    /// The value with its expiry, as it is now.
    async fn value_of(
        &mut self,
        node: &Coordinator,
        key: &[u8],
    ) -> Result<Option<(Bytes, Option<u64>)>, RequestError> {
        let room = self.shared.read_room.take(1).await?;
        let (mut found, mut bytes) = (Ok(None), 0);
        node.look_batch(&[place(key)], self.session.levels, &mut |_, seen| {
            bytes = seen_bytes(&seen);
            found = seen.map(|seen| {
                seen.map(|seen| (Bytes::copy_from_slice(seen.value), seen.expires_at_ms))
            });
        })
        .await;
        room.used(bytes);
        found
    }

    /// Puts a value under another key: over what is there, or only where nothing is.
    async fn put_at(
        &mut self,
        node: &Coordinator,
        key: &[u8],
        (value, expires_at_ms): (Bytes, Option<u64>),
        over: bool,
    ) -> Result<bool, RequestError> {
        if !over {
            return self.set_if_absent(node, key, value, expires_at_ms).await;
        }
        let expiry = expires_at_ms.map_or(ExpiryRule::Never, ExpiryRule::At);
        self.mutate(node, key, Mutation::Set { value, expiry }).await?;
        Ok(true)
    }

    /// Two writes: the new key first, so that a failure in between leaves two values, not none. The
    /// error says which.
    async fn rename(
        &mut self,
        node: &Coordinator,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        Coordinator::check_rmw(&node.scope()?, command.name)?;
        let (from, to) = (arg(request, 1)?, arg(request, 2)?);
        let moved = self.value_of(node, from).await?;
        let moved = moved.ok_or(Failure::Text("ERR no such key"))?;
        let only_new = command.id == CommandId::Renamenx;
        let done = if from == to {
            !only_new
        } else {
            let put = self.put_at(node, to, moved, !only_new).await;
            let done = put.map_err(|error| {
                Failure::Partly(error, "that is of the new key, the old one is as it was".into())
            })?;
            if done {
                self.mutate(node, from, Mutation::Delete).await.map_err(|error| {
                    let others = "that is of deleting the old key, the new one is stored";
                    Failure::Some(error, others.into())
                })?;
            }
            done
        };
        if only_new {
            self.reply().integer(i64::from(done));
        } else {
            self.reply().ok();
        }
        Ok(())
    }

    async fn copy(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let replace = args::copy(request)?;
        Coordinator::check_rmw(&node.scope()?, "copy")?;
        let (from, to) = (arg(request, 1)?, arg(request, 2)?);
        if from == to {
            return Err(Failure::Text("ERR source and destination objects are the same"));
        }
        let done = match self.value_of(node, from).await? {
            Some(value) => self.put_at(node, to, value, replace).await?,
            None => false,
        };
        self.reply().integer(i64::from(done));
        Ok(())
    }
}

fn seen_bytes(seen: &Result<Option<Seen<'_>>, RequestError>) -> usize {
    seen.as_ref().map_or(0, |seen| seen.as_ref().map_or(0, |seen| seen.record_bytes))
}

/// The name that Redis has for the form in which it would keep the value.
fn encoding(value: &[u8]) -> &'static str {
    /// Longer strings get an allocation of their own in Redis.
    const EMBEDDED_BYTES_MAX: usize = 44;
    if args::integer(value).is_ok() {
        "int"
    } else if value.len() <= EMBEDDED_BYTES_MAX {
        "embstr"
    } else {
        "raw"
    }
}
