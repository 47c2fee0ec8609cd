//! The `KV.` commands: siblings with their context, levels, and where a key lives. Contexts are
//! hexadecimal text here: a client that reads replies as text carries one back unharmed.
//!
//! ```text
//! KV.GET k            -> [context, [value, ...]]     nil context: never written
//! KV.PUT k v CTX c    -> [context]
//! KV.DEL k CTX c      -> 1, or 0 where nothing was there
//! KV.CONFLICTS c      -> [next cursor, keys in all, [[key, siblings, newest ms], ...]]
//! KV.HOTKEYS          -> [operations a second, [[key, operations a second, slot], ...]]
//! ```

use std::fmt::Write as _;

use bytes::Bytes;

use super::{Exec, Executed, levels, not_here, place, setting};
use crate::cluster::record::LevelSetting;
use crate::coordinator::{Coordinator, Explained, ReplicaSays};
use crate::mutation::{Answer, Mutation};
use crate::resp::args::{KvConflicts, KvDelete, KvGet, KvHotkeys, KvPut, Levels};
use crate::resp::reply::Reply;
use crate::resp::request::Request;
use crate::resp::table::{Command, CommandId};

impl Exec<'_> {
    pub(super) async fn kv(
        &mut self,
        node: &Coordinator,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        match command.id {
            CommandId::KvGet => self.kv_get(node, request).await,
            CommandId::KvPut => self.kv_put(node, request).await,
            CommandId::KvDel => self.kv_delete(node, request).await,
            CommandId::KvConflicts => self.kv_conflicts(node, request).await,
            CommandId::KvHotkeys => self.kv_hotkeys(node, request).await,
            CommandId::KvExplain => {
                let key = super::arg(request, 1)?;
                let explained = node.explain(place(key)).await?;
                explain(&mut self.reply(), &explained);
                Ok(())
            }
            _ => Err(not_here(command)),
        }
    }

    async fn kv_get(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let get = KvGet::parse(request)?;
        let levels = levels(self.session.levels, get.read, None);
        let (context, values) = node.get_siblings(place(get.key), levels).await?;
        let mut reply = self.reply();
        reply.array(2);
        reply.bulk_or_nil(context.as_deref().map(hex).as_deref().map(str::as_bytes));
        reply.array(values.len());
        for value in &values {
            reply.bulk_or_nil(value.value.as_deref());
        }
        Ok(())
    }

    async fn kv_put(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let put = KvPut::parse(request, node.now_ms())?;
        let levels = levels(self.session.levels, None, put.write);
        let mutation = Mutation::Put {
            value: Bytes::copy_from_slice(put.value),
            context: put.context.map(sealed),
            expiry: put.expiry,
        };
        let context = match self.mutate_at(node, put.key, mutation, levels).await? {
            Answer::Value(context) => context.filter(|context| !context.is_empty()),
            Answer::Ok | Answer::Integer(_) => None,
        };
        let mut reply = self.reply();
        reply.array(1);
        reply.bulk_or_nil(context.as_deref().map(hex).as_deref().map(str::as_bytes));
        Ok(())
    }

    async fn kv_delete(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let delete = KvDelete::parse(request)?;
        let levels = levels(self.session.levels, None, delete.write);
        let mutation = match delete.context {
            Some(context) => Mutation::DeleteSeen { context: sealed(context) },
            None => Mutation::Delete,
        };
        let answer = self.mutate_at(node, delete.key, mutation, levels).await?;
        self.answer(&answer);
        Ok(())
    }

    async fn kv_conflicts(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let page = KvConflicts::parse(request)?;
        let view = node.conflicts_everywhere(page.cursor, page.count).await?;
        let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut reply = self.reply();
        reply.array(3);
        reply.text(&view.next.to_string());
        reply.integer(integer(view.total));
        reply.array(view.rows.len());
        for row in &view.rows {
            reply.array(3);
            reply.bulk(&row.key);
            reply.integer(i64::from(row.siblings));
            reply.integer(integer(row.newest_ms));
        }
        Ok(())
    }

    async fn kv_hotkeys(&mut self, node: &Coordinator, request: &Request<'_>) -> Executed {
        let asked = KvHotkeys::parse(request)?;
        let view = node.hot_everywhere(asked.count).await?;
        let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut reply = self.reply();
        reply.array(2);
        reply.integer(integer(view.reads_per_s.saturating_add(view.writes_per_s)));
        reply.array(view.keys.len());
        for hot in &view.keys {
            reply.array(3);
            reply.bulk(&hot.key);
            reply.integer(integer(hot.ops_per_s));
            reply.integer(i64::from(hot.slot));
        }
        Ok(())
    }

    /// Shows the connection's levels, or sets those that are said. A level that can't be had is
    /// refused here where N is known, and at its use otherwise.
    pub(super) fn consistency(&mut self, request: &Request<'_>) -> Executed {
        let said = Levels::parse(request)?;
        if request.count() == 1 {
            let levels = self.session.levels;
            let mut reply = self.reply();
            reply.map(2);
            for (name, level) in [("R", levels.read), ("W", levels.write)] {
                reply.text(name);
                reply.text(&level_name(level));
            }
            return Ok(());
        }
        if let Ok(scope) = self.coordinator().and_then(|node| node.scope()) {
            for level in [said.read, said.write].into_iter().flatten() {
                scope.copies(setting(level), None)?;
            }
        }
        self.session.levels = levels(self.session.levels, said.read, said.write);
        self.reply().ok();
        Ok(())
    }
}

/// A context as clients carry it: many take a reply for text, and would not carry bytes.
fn hex(context: &[u8]) -> String {
    let mut text = String::with_capacity(2 * context.len());
    for byte in context {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// The context that a client brings back. What is no hexadecimal text stays as it is, and is
/// refused where contexts are.
fn sealed(text: &[u8]) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.chunks(2).map(pair).collect();
    bytes.map_or_else(|| Bytes::copy_from_slice(text), Bytes::from)
}

fn level_name(level: Option<LevelSetting>) -> String {
    match level {
        None => "DEFAULT".into(),
        Some(LevelSetting::One) => "ONE".into(),
        Some(LevelSetting::Quorum) => "QUORUM".into(),
        Some(LevelSetting::All) => "ALL".into(),
        Some(LevelSetting::Copies(copies)) => copies.to_string(),
        Some(LevelSetting::LocalQuorum) => "LOCAL-QUORUM".into(),
        Some(LevelSetting::EachQuorum) => "EACH-QUORUM".into(),
    }
}

fn explain(reply: &mut Reply<'_>, explained: &Explained) {
    let n = explained.n;
    let (r, w) = (explained.read.least(n), explained.write.least(n));
    reply.map(13);
    for (name, number) in [
        ("slot", u64::from(explained.slot)),
        ("partition", u64::from(explained.partition)),
        ("epoch", explained.epoch),
        ("n", u64::from(n)),
        ("r", u64::from(r)),
        ("w", u64::from(w)),
    ] {
        reply.text(name);
        reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
    }
    reply.text("token");
    reply.text(&format!("{:016x}", explained.token));
    reply.text("preference");
    let nodes = explained.primaries.iter().chain(&explained.fallbacks);
    reply.array(explained.primaries.len() + explained.fallbacks.len());
    nodes.for_each(|node| reply.text(&node.to_string()));
    reply.text("replicas");
    reply.array(explained.replicas.len());
    explained.replicas.iter().for_each(|says| replica(reply, says));
    reply.text("promise");
    reply.text(&explained.promise());
    reply.text("everywhere_us");
    match explained.everywhere_us {
        None => reply.array(0),
        Some((half, most)) => {
            reply.array(2);
            for us in [half, most] {
                reply.integer(i64::try_from(us).unwrap_or(i64::MAX));
            }
        }
    }
    reply.text("stand_ins");
    reply.array(explained.stand_ins.len());
    for (fallback, primary) in &explained.stand_ins {
        reply.map(2);
        reply.text("node");
        reply.text(&fallback.to_string());
        reply.text("for");
        reply.text(&primary.to_string());
    }
    reply.text("hints");
    reply.array(explained.hints.len());
    for hint in &explained.hints {
        reply.map(3);
        reply.text("on");
        reply.text(&hint.on.to_string());
        reply.text("for");
        reply.text(&hint.target.to_string());
        reply.text("versions");
        versions(reply, &hint.versions);
    }
}

fn versions(reply: &mut Reply<'_>, versions: &[(kv_client::NodeId, u64)]) {
    reply.array(versions.len());
    for (node, time) in versions {
        reply.array(2);
        reply.text(&node.to_string());
        reply.text(&format!("{time:016x}"));
    }
}

fn replica(reply: &mut Reply<'_>, says: &ReplicaSays) {
    reply.map(4);
    reply.text("node");
    reply.text(&says.node.to_string());
    reply.text("up");
    reply.boolean(says.up);
    reply.text("versions");
    match &says.versions {
        Ok(named) => versions(reply, named),
        Err(why) => reply.text(why),
    }
    reply.text("found");
    reply.text(&says.found);
}
