//! The life of a node: begins when its peers know its directory for the last one, ends when they
//! refuse it.
//!
//! ```text
//! record there ─> ask what was heard from this id ─> old copy: refused, stays out for good
//!                                                 └> confirmed ─> lost something? a newcomer
//!                                                              └> new tenures, lease ─> serves
//! ```
//!
//! Three ways to have lost what was acknowledged are told apart from an orderly restart: an engine
//! that keeps nothing; a log that was not synced and no clean stop (the fact `running` is there
//! while such a node runs, with the name of the system's boot, since what was written outlives the
//! process but not the machine); a position below what peers heard. After each of them the node
//! counts for W and not for R until it is filled (`Standings`), which is stored before it serves.
//! A node that is alone has nobody to be filled from and serves what it has.
//!
//! Invariant: no time and no life is told, and no vote given, before a majority confirmed.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kv_client::NodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Inner;
use crate::cluster::confirm::{Confirmation, Finding, Own};
use crate::cluster::dots::{DotSource, LEASE_MS};
use crate::cluster::heard::{Heard, HeardBook, Noted};
use crate::cluster::meta::MetaStore;
use crate::plug::storage::EngineStatus;
use crate::plug::transport::PeerAddress;
use crate::wire::{Envelope, PeerOp, PeerOut};
use crate::worker::Worker;

/// There while a node runs whose engine has not synced what it acknowledges.
const RUNNING_FACT: &str = "running";
/// A peer that does not answer by then is asked again.
const HEARD_MS_MAX: u32 = 1_000;
/// Rest of the loop that stores what a restart should know.
const KEEP_MS: u64 = 1_000;

/// What this node knows of its own life and of the others'.
#[derive(Debug)]
pub(super) struct Life {
    heard: Arc<HeardBook>,
    /// How far the engine was durable a moment ago.
    position: AtomicU64,
    /// Whether the directory belonged to a cluster before this start.
    resumes: bool,
    /// Whether what an earlier life acknowledged may be missing.
    lost: bool,
    own: Own,
    asked: Mutex<Option<Confirmation>>,
    refused: OnceLock<String>,
    told: Notify,
}

impl Life {
    /// Reads what the directory knows of its earlier lives. Blocks on the disk.
    ///
    /// # Errors
    /// A fact is there and can't be read.
    pub(super) fn open(
        meta: &Arc<MetaStore>,
        engine: &EngineStatus,
        resumes: bool,
    ) -> io::Result<Self> {
        let own = Own { lease: DotSource::stored_lease(meta)?, position: engine.position };
        Ok(Self {
            heard: Arc::new(HeardBook::open(Arc::clone(meta))?),
            position: AtomicU64::new(engine.position),
            resumes,
            lost: resumes && (engine.volatile || tail_is_lost(meta, engine)?),
            own,
            asked: Mutex::default(),
            refused: OnceLock::new(),
            told: Notify::new(),
        })
    }

    /// How far the engine was durable a moment ago.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(super) fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// What was heard from the others.
    pub(super) fn heard_book(&self) -> &Arc<HeardBook> {
        &self.heard
    }

    /// What was heard from a node.
    pub(super) fn heard_from(&self, node: NodeId) -> Heard {
        self.heard.of(node)
    }
}

/// Whether an earlier life ended with a log that was not synced, and the machine with it.
fn tail_is_lost(meta: &MetaStore, engine: &EngineStatus) -> io::Result<bool> {
    let Some(before) = meta.load(RUNNING_FACT)? else { return Ok(false) };
    Ok(engine.boot.as_ref().is_none_or(|boot| boot.as_bytes() != before))
}

/// Notes, before anything is acknowledged, that this life may end with a loss. Blocks.
///
/// # Errors
/// The disk failed: the node must not serve.
pub(super) fn begin_run(meta: &MetaStore, engine: &EngineStatus) -> io::Result<()> {
    if engine.volatile || !engine.unsynced {
        return meta.remove(RUNNING_FACT);
    }
    meta.store(RUNNING_FACT, engine.boot.as_deref().unwrap_or_default().as_bytes())
}

impl Inner {
    /// Whether a majority knows this directory for the last one of its node: until then it neither
    /// serves nor votes.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.serving().is_some() && self.life.refused.get().is_none()
    }

    /// Why the peers refuse this node, if they do.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.life.refused.get().map(String::as_str)
    }

    /// Returns when the peers refuse this node, and says why.
    pub(super) async fn refused(&self) -> String {
        loop {
            let told = self.life.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if let Some(why) = self.life.refused.get() {
                return why.clone();
            }
            told.await;
        }
    }

    /// Takes this node out for good: it answers no one any more.
    pub(super) fn refuse(&self, why: String) {
        tracing::error!("{why}");
        if self.life.refused.set(why).is_ok() {
            self.view.publish(|view| view.refused = true);
            self.life.told.notify_waiters();
        }
    }

    /// Another process runs on a copy of this directory, and began later.
    pub(super) fn superseded(&self, by: NodeId) {
        self.refuse(format!(
            "another process runs with this node's id and began later, {by} has heard from it: \
             this one stops. Two copies of one directory must never run; if this was the right \
             one, replace the other by an empty directory"
        ));
    }

    /// Notes what a peer's envelope tells. Says whether it is of the peer's last life.
    pub(super) fn hear(&self, from: NodeId, envelope: &Envelope) -> Noted {
        let view = self.view.now();
        let own = view.record.as_ref().map(|record| record.id);
        if own.is_none() || envelope.cluster != own || from == view.me {
            return Noted::Current;
        }
        self.note_time(&view, from, envelope);
        let told = Heard { life: envelope.life, time: envelope.time, position: envelope.position };
        self.life.heard.note(from, told, || is_member(&view, from))
    }

    /// A record is there: serves at once what was born just now or is alone, everything else when
    /// a majority has confirmed it. Says whether there is nothing more to do.
    ///
    /// # Errors
    /// The disk failed; call again.
    pub(super) async fn take_up(self: &Arc<Self>) -> io::Result<bool> {
        if self.serving().is_some() || self.refusal().is_some() {
            return Ok(true);
        }
        let members = self.members();
        let me = self.view.now().me;
        if !self.life.resumes || members.iter().all(|node| *node == me) {
            if self.life.lost {
                tracing::warn!("what was not safe at the last stop is lost: nobody else has it");
            }
            self.begin_serving(false).await?;
            return Ok(true);
        }
        self.ask_members(&members).await;
        let finding = self.life.asked.lock().as_ref().map_or(Finding::Wait, Confirmation::finding);
        match finding {
            Finding::Wait => Ok(false),
            Finding::Confirmed { lost } => {
                if lost {
                    tracing::error!(
                        position = self.life.own.position,
                        "this directory lacks what peers heard that it held durably: a copy, or \
                         a disk that lost what it had synced; it is filled from the others"
                    );
                }
                self.begin_serving(lost || self.life.lost).await?;
                Ok(true)
            }
            Finding::Old { by, heard } => {
                let (heard, lease) = (heard >> 16, self.life.own.lease >> 16);
                self.refuse(format!(
                    "this directory is an old copy: {by} has heard from its node at {heard} ms, \
                     and its lease ends at {lease} ms. It would bring back what was deleted and \
                     miss what was acknowledged, so it must not serve: replace the node by one \
                     with an empty directory"
                ));
                Ok(true)
            }
        }
    }

    /// Asks the others what they heard from this node, until that is enough.
    async fn ask_members(&self, members: &[NodeId]) {
        let view = self.view.now();
        let addresses: Vec<(NodeId, PeerAddress)> = members
            .iter()
            .filter(|node| **node != view.me)
            .filter_map(|node| Some((*node, view.members.get(node)?.address.clone())))
            .collect();
        let mut answers: FuturesUnordered<_> =
            addresses
                .iter()
                .map(|(node, at)| async move {
                    (*node, self.ask(at, PeerOp::Heard, HEARD_MS_MAX).await)
                })
                .collect();
        while let Some((from, answer)) = answers.next().await {
            let Ok(PeerOut::Heard(heard)) = answer else { continue };
            let mut asked = self.life.asked.lock();
            let asked =
                asked.get_or_insert_with(|| Confirmation::new(self.life.own, members.len()));
            asked.on_answer(from, heard);
            if asked.finding() != Finding::Wait {
                return;
            }
        }
    }

    fn members(&self) -> Vec<NodeId> {
        let view = self.view.now();
        view.layouts.as_ref().map_or_else(Vec::new, |of| of.newest().members().to_vec())
    }
}

pub(super) fn is_member(view: &crate::cluster::view::View, node: NodeId) -> bool {
    view.layouts.as_ref().is_some_and(|of| of.live().any(|layout| layout.contains(node)))
}

/// Stores what the next start, of this node or of another, should know.
pub(super) struct KeepLoop {
    pub(super) inner: Arc<Inner>,
    /// When what was heard is stored again, in steady milliseconds.
    pub(super) heard_at_ms: AtomicU64,
}

#[async_trait]
impl Worker for KeepLoop {
    fn name(&self) -> &'static str {
        "keep"
    }

    fn status(&self) -> String {
        "stores what this node lost and what it heard".into()
    }

    async fn step(&self) -> Option<Duration> {
        let now_ms = self.inner.clock.steady_ms();
        let heard_due = now_ms >= self.heard_at_ms.load(Ordering::Relaxed);
        let node = Arc::clone(&self.inner);
        let kept = self.inner.blocking(move || node.keep(heard_due)).await;
        match kept {
            Ok(()) if heard_due => self.heard_at_ms.store(now_ms + LEASE_MS, Ordering::Relaxed),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "what a restart should know can't be stored"),
        }
        Some(Duration::from_millis(KEEP_MS))
    }
}

impl Inner {
    /// Notes that everything is synced and nothing more will be acknowledged. Blocks.
    ///
    /// # Errors
    /// The next start will take this for an unclean stop.
    pub(super) fn end_run(&self) -> io::Result<()> {
        self.keep(true)?;
        self.state.meta().remove(RUNNING_FACT)
    }

    /// Stores what is incomplete, and what was heard when that is due. Blocks on the disk.
    fn keep(&self, heard: bool) -> io::Result<()> {
        let Some(serving) = self.serving() else { return Ok(()) };
        serving.replica.standings().store()?;
        let (engine, _) = self.engine.status(None);
        if engine.unsynced && engine.poisoned.is_some() {
            // What a failed sync lost is not there in this boot either.
            self.state.meta().store(RUNNING_FACT, b"")?;
        }
        if heard {
            let view = self.view.now();
            self.life.heard.store(|node| is_member(&view, node))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kv_lsm::fs::MemFs;

    use super::*;

    fn engine(unsynced: bool, boot: Option<&str>) -> EngineStatus {
        EngineStatus { unsynced, boot: boot.map(Arc::from), ..EngineStatus::default() }
    }

    #[test]
    fn an_unclean_stop_is_a_loss_unless_the_machine_went_on() {
        let meta = MetaStore::open(Arc::new(MemFs::new()), Path::new("/meta")).expect("empty");
        let lost = |status: &EngineStatus| tail_is_lost(&meta, status).expect("readable");
        assert!(!lost(&engine(true, None)), "the first start");
        begin_run(&meta, &engine(true, Some("boot 1"))).expect("a sound disk");
        assert!(!lost(&engine(true, Some("boot 1"))), "the process was killed");
        assert!(lost(&engine(true, Some("boot 2"))), "the machine fell");
        assert!(lost(&engine(false, None)), "also when the log is synced from now on");
        begin_run(&meta, &engine(true, None)).expect("a sound disk");
        assert!(lost(&engine(true, Some("boot 1"))), "nobody can tell");
        meta.remove(RUNNING_FACT).expect("a sound disk");
        assert!(!lost(&engine(true, None)), "a clean stop");
        begin_run(&meta, &engine(false, None)).expect("a sound disk");
        assert!(!lost(&engine(false, None)), "synced before it was acknowledged");
    }
}
