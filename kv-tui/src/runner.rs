//! Carries out what `update` asks for, over kv-client, and tells what came of it.
//!
//! One task asks a node for news and tells every answer. Questions never overlap: the next one is
//! asked when the last was answered or given up, and the node answers when there is news, or after
//! a second. It knows the addresses that it was given, and those that members told: when the asked
//! node goes away, the next question goes to another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_client::wire::{
    AutoscaleChange, BatchOp, BatchOut, Bounded, ConflictsView, Expiry, Level, MembersChange,
    MembersPlan, NodeState, ScaleMode, WriteOptions,
};
use kv_client::{Admin, Client, Error, NodeId};
use tokio::sync::{Mutex, Notify, Semaphore, mpsc};

use crate::app::{Effect, Message, Op, Written};
use crate::args::Connect;
use crate::local::LocalProgram;
use crate::model::{EventKind, Look, Seen, Snapshot};
use crate::source::{CONFLICTS, Feed, PATIENT_MS};
use crate::text;
use crate::verbs::autoscale::mode_word;

/// Time between an answer and the next question at least, however much happens.
const REST: Duration = Duration::from_millis(100);
/// Milliseconds until the first question after one that failed; twice as many after each further.
const RETRY_MS_MIN: u64 = 500;
const RETRY_MS_MAX: u64 = 5_000;
/// Milliseconds that one question of the screen may take.
const QUESTION_MS_MAX: u32 = 1_500;
/// Effects that are carried out at the same time at most.
const RUNNING_MAX: usize = 8;
/// Members' addresses that are kept besides the given ones at most.
const LEARNED_MAX: usize = 64;
/// A change is decided by ballots, which may have to be held again.
const CHANGE_MS: u32 = 12_000;
/// A repair of a partition may take so long.
const REPAIR_MS: u32 = 600_000;

/// Messages that wait for the screen at most.
const MESSAGES_MAX: usize = 256;

/// What carries effects out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Runner(Arc<Shared>);

struct Shared {
    connect: Connect,
    local: LocalProgram,
    tell: mpsc::Sender<Message>,
    links: Mutex<Known>,
    ask: Notify,
    running: Arc<Semaphore>,
}

/// The connections, and the addresses that they would be made to anew.
struct Known {
    learned: Vec<String>,
    links: Option<Links>,
}

#[derive(Clone)]
struct Links {
    /// Waits for news.
    patient: Admin,
    admin: Admin,
    client: Client,
}

impl Runner {
    /// One that asks at the addresses of the command line, and where its messages come.
    pub(crate) fn new(connect: Connect, local: LocalProgram) -> (Self, mpsc::Receiver<Message>) {
        let (tell, told) = mpsc::channel(MESSAGES_MAX);
        let shared = Shared {
            connect,
            local,
            tell,
            links: Mutex::new(Known { learned: Vec::new(), links: None }),
            ask: Notify::new(),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
        };
        (Self(Arc::new(shared)), told)
    }

    /// Asks for news, until nobody listens.
    pub(crate) async fn watch(self) {
        let mut feed = Feed::default();
        let mut retry_ms = RETRY_MS_MIN;
        loop {
            let (message, pause) = match self.question(&mut feed).await {
                Ok(snapshot) => {
                    retry_ms = RETRY_MS_MIN;
                    self.learn(&snapshot).await;
                    (Message::Heard(Box::new(snapshot)), REST)
                }
                Err(error) => {
                    self.0.links.lock().await.links = None;
                    let message = Message::Silent { why: error.to_string(), retry_ms };
                    let pause = Duration::from_millis(retry_ms);
                    retry_ms = (retry_ms * 2).min(RETRY_MS_MAX);
                    (message, pause)
                }
            };
            if self.0.tell.send(message).await.is_err() {
                return;
            }
            let _asked = tokio::time::timeout(pause, self.0.ask.notified()).await;
        }
    }

    async fn question(&self, feed: &mut Feed) -> Result<Snapshot, crate::Error> {
        let links = self.links().await?;
        Ok(feed.next(&links.patient, &links.admin).await?)
    }

    /// Begins what is to be done; what came of it is told.
    pub(crate) fn run(&self, effect: Effect) {
        if effect == Effect::Ask {
            self.0.ask.notify_one();
            return;
        }
        let runner = self.clone();
        let permit = Arc::clone(&self.0.running).try_acquire_owned();
        tokio::spawn(async move {
            let message = match permit {
                Ok(_running) => runner.carry_out(effect).await,
                Err(_) => refused(effect),
            };
            if let Some(message) = message {
                let _nobody = runner.0.tell.send(message).await;
            }
        });
    }

    async fn carry_out(&self, effect: Effect) -> Option<Message> {
        match effect {
            Effect::Look(key) => Some(Message::Looked(Box::new(self.look(key).await))),
            Effect::List { from } => Some(Message::Listed { from, out: self.list(from).await }),
            Effect::Write { id, key, ops } => {
                let out = self.write(key, ops).await;
                Some(Message::Written { id, out })
            }
            Effect::Repair { partition, key } => {
                Some(Message::Repaired(self.repair(partition, key).await))
            }
            Effect::Plan { joins, leaves } => {
                let out = self.plan(&joins, &leaves).await;
                Some(Message::Planned { joins, leaves, out })
            }
            Effect::Change { joins, leaves, after } => {
                let out = self.change(&joins, &leaves, after).await;
                Some(Message::Changed { kind: EventKind::Layout, out })
            }
            Effect::Abort => {
                Some(Message::Changed { kind: EventKind::Layout, out: self.abort().await })
            }
            Effect::Mode(mode) => {
                Some(Message::Changed { kind: EventKind::Scale, out: self.mode(mode).await })
            }
            Effect::Local { verb, node } => {
                Some(Message::Acted { verb, node, out: self.0.local.act(verb, node).await })
            }
            // The screen's own.
            Effect::Quit | Effect::Suspend | Effect::Redraw | Effect::Ask => None,
        }
    }

    pub(crate) async fn look(&self, key: Bytes) -> Look {
        let links = match self.links().await {
            Ok(links) => links,
            Err(error) => return failed_look(key, &error.to_string()),
        };
        let (explained, seen) =
            tokio::join!(links.admin.explain(key.clone()), links.client.get(key.clone()));
        let seen = seen.map(|seen| Seen {
            siblings: seen.siblings().to_vec(),
            context: seen.context().clone(),
        });
        Look {
            key,
            explained: explained.map_err(|error| error.to_string()),
            seen: seen.map_err(|error| error.to_string()),
        }
    }

    async fn list(&self, from: u64) -> Result<ConflictsView, String> {
        let links = self.links().await.map_err(|error| error.to_string())?;
        links.admin.conflicts(from, CONFLICTS).await.map_err(|error| error.to_string())
    }

    async fn write(&self, key: Bytes, ops: Vec<Op>) -> Written {
        let links = match self.links().await {
            Ok(links) => links,
            Err(error) => return Written::Failed { why: error.to_string(), perhaps: false },
        };
        let budget_ms = self.0.connect.deadline_ms();
        let ops = ops.into_iter().map(|op| batch_op(key.clone(), op, budget_ms)).collect();
        let outs = match links.client.batch(ops).await {
            Ok(outs) => outs,
            Err(error) => return failed(&error, false),
        };
        let mut first = None;
        for out in outs {
            match out {
                BatchOut::Written(Ok(written)) => {
                    first.get_or_insert(written.context);
                }
                BatchOut::Written(Err(error)) => return failed(&error.into(), first.is_some()),
                _ => return failed(&Error::Protocol("a write is answered as one"), true),
            }
        }
        first.map_or_else(
            || failed(&Error::Protocol("a write has an answer"), true),
            |context| Written::Done { context },
        )
    }

    async fn repair(&self, partition: u16, key: Option<Bytes>) -> Result<String, String> {
        let admin = self.0.connect.patient_admin(REPAIR_MS).await.map_err(|it| it.to_string())?;
        let out = admin.repair(partition, key).await.map_err(|error| error.to_string())?;
        let (found, mended, bytes) = (out.found, out.mended, text::size(out.bytes));
        Ok(format!(
            "partition {partition}: {} replicas compared, {found} keys differed, {mended} mended, \
             {bytes} moved",
            out.replicas
        ))
    }

    async fn plan(&self, joins: &[NodeId], leaves: &[NodeId]) -> Result<Box<MembersPlan>, String> {
        let change = members(joins, leaves, None)?;
        let admin = self.0.connect.patient_admin(CHANGE_MS).await.map_err(|it| it.to_string())?;
        admin.plan(change).await.map(Box::new).map_err(|error| error.to_string())
    }

    async fn change(
        &self,
        joins: &[NodeId],
        leaves: &[NodeId],
        after: u64,
    ) -> Result<String, String> {
        let change = members(joins, leaves, Some(after))?;
        let admin = self.0.connect.patient_admin(CHANGE_MS).await.map_err(|it| it.to_string())?;
        let epoch = admin.change_members(change).await.map_err(|it| unsure(&it))?;
        Ok(format!("epoch {epoch} is decided: data moves; plan again when it is stable"))
    }

    async fn abort(&self) -> Result<String, String> {
        let admin = self.0.connect.patient_admin(CHANGE_MS).await.map_err(|it| it.to_string())?;
        let epoch = admin.abort_change().await.map_err(|it| unsure(&it))?;
        Ok(format!("epoch {epoch}: the change is called off"))
    }

    async fn mode(&self, mode: ScaleMode) -> Result<String, String> {
        let admin = self.0.connect.admin().await.map_err(|it| it.to_string())?;
        let change = AutoscaleChange { mode: Some(mode), ..AutoscaleChange::default() };
        admin.set_autoscale(change).await.map_err(|it| unsure(&it))?;
        let word = mode_word(mode);
        Ok(format!("mode {word}: the other members hear of it within seconds"))
    }

    async fn links(&self) -> Result<Links, crate::Error> {
        let mut known = self.0.links.lock().await;
        if let Some(links) = &known.links {
            return Ok(links.clone());
        }
        let connect = self.0.connect.with_more(&known.learned);
        let links = Links {
            patient: connect.quick_admin(PATIENT_MS).await?,
            admin: connect.quick_admin(QUESTION_MS_MAX).await?,
            client: connect.client(Level::Keyspace, Level::Keyspace).await?,
        };
        known.links = Some(links.clone());
        Ok(links)
    }

    /// Where members listen. Connections are made anew only when there is a new address.
    async fn learn(&self, snapshot: &Snapshot) {
        let told: Vec<&String> = snapshot
            .members()
            .filter(|node| node.state != NodeState::Left)
            .map(|node| &node.endpoints.rpc)
            .filter(|address| !address.is_empty())
            .collect();
        let mut known = self.0.links.lock().await;
        let given = &self.0.connect.addresses;
        let fresh =
            |address: &&&String| !known.learned.contains(address) && !given.contains(address);
        let new: Vec<String> = told.iter().filter(fresh).map(|it| (*it).clone()).collect();
        if new.is_empty() {
            return;
        }
        let gone = known.learned.len() + new.len();
        if gone > LEARNED_MAX {
            known.learned.retain(|address| told.contains(&address));
        }
        known.learned.extend(new);
        known.learned.truncate(LEARNED_MAX);
        known.links = None;
    }
}

fn batch_op(key: Bytes, op: Op, budget_ms: u32) -> BatchOp {
    let expiry = op.expires_at_ms.map_or(Expiry::Never, Expiry::AtMs);
    let options = WriteOptions { budget_ms, expiry, ..WriteOptions::default() };
    match op.value {
        Some(value) => BatchOp::Put { key, value, coverage: op.coverage, options },
        None => BatchOp::Delete { key, coverage: op.coverage, options },
    }
}

fn members(
    joins: &[NodeId],
    leaves: &[NodeId],
    after: Option<u64>,
) -> Result<MembersChange, String> {
    let some = |nodes: &[NodeId]| {
        Bounded::new(nodes.to_vec()).map_err(|_| "too many nodes at once".to_owned())
    };
    let (joins, leaves) = (some(joins)?, some(leaves)?);
    Ok(MembersChange { joins, leaves, after, ..MembersChange::default() })
}

/// A failure of what may have been done nevertheless.
fn unsure(error: &Error) -> String {
    let perhaps =
        if error.may_have_happened() { "; it may be done nevertheless, look at it" } else { "" };
    format!("{error}{perhaps}")
}

fn failed(error: &Error, some_done: bool) -> Written {
    Written::Failed { why: error.to_string(), perhaps: some_done || error.may_have_happened() }
}

fn failed_look(key: Bytes, why: &str) -> Look {
    Look { key, explained: Err(why.to_owned()), seen: Err(why.to_owned()) }
}

/// Too much is under way already: nothing was sent.
fn refused(effect: Effect) -> Option<Message> {
    let why = "too much is under way, nothing was sent";
    Some(match effect {
        Effect::Look(key) => Message::Looked(Box::new(failed_look(key, why))),
        Effect::List { from } => Message::Listed { from, out: Err(why.to_owned()) },
        Effect::Write { id, .. } => {
            let out = Written::Failed { why: why.to_owned(), perhaps: false };
            Message::Written { id, out }
        }
        Effect::Repair { .. } => Message::Repaired(Err(why.to_owned())),
        Effect::Plan { joins, leaves } => {
            Message::Planned { joins, leaves, out: Err(why.to_owned()) }
        }
        Effect::Change { .. } | Effect::Abort => {
            Message::Changed { kind: EventKind::Layout, out: Err(why.to_owned()) }
        }
        Effect::Mode(_) => Message::Changed { kind: EventKind::Scale, out: Err(why.to_owned()) },
        Effect::Local { verb, node } => Message::Acted { verb, node, out: Err(why.to_owned()) },
        _ => return None,
    })
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
