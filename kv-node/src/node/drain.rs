//! Draining: a node is made ready to be stopped, and its clients hardly notice.
//!
//! ```text
//! telling   the others hear of it: none of them chooses this node to coordinate a write, to read
//!           from first, or to be quicker; readiness and CLUSTER SLOTS leave it out
//! closing   its clients' connections end when what they asked is answered, and no other is
//!           taken; hints go to those of their targets that are up
//! drained   nothing is under way: it is stopped, or goes on as a replica until it is taken back
//! ```
//! It answers its peers all the while, and its copies count for every quorum until it says goodbye:
//! only what others can do as well is left to them. So a node that is drained first can be stopped
//! without an error to anybody, where one that is killed leaves requests behind whose outcome is
//! not known. (Redis clients understand a connection that ends after an answer better than any
//! error: pools dial anew, and what they send again is a request that was not executed.)
//!
//! Invariant: a drain takes no longer than `drain_ms_max`. Clients that are busy then are cut, and
//! hints that are left stay on disk and are handed over after the next start. A start takes back a
//! drain by itself, since nothing of it is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kv_client::NodeId;
use kv_client::wire::{DrainOrder, DrainStage, DrainView};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Inner, Node};
use crate::cluster::view::View;
use crate::events::Happened;

/// Rest between two looks at what is left.
const LOOK_MS: u64 = 10;
/// So many looks in a row must find nothing left.
const QUIET_LOOKS: u32 = 2;
/// Rounds of gossip until a small cluster has heard something; each doubling of it takes one more.
const ROUNDS_MIN: u64 = 3;

/// For what a node is drained. A later one takes the place of an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainFor {
    /// It goes on as a replica.
    #[default]
    Stay,
    /// Its process ends, unless an operator takes that back before.
    End,
    /// Its process was told to end from outside: there is no way back.
    Stop,
}

/// A drain as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DrainState {
    stage: DrainStage,
    purpose: DrainFor,
    /// Which drain since the start.
    turn: u64,
}

impl DrainState {
    /// Whether clients are taken.
    pub(crate) fn takes_clients(self) -> bool {
        self.stage < DrainStage::Closing
    }

    fn is_to_end(self) -> bool {
        self.stage == DrainStage::Drained && self.purpose > DrainFor::Stay
    }
}

/// What a drain is known by, and what it waits for.
pub(super) struct Drain {
    state: watch::Sender<DrainState>,
    /// One at a time tells the others, and what holds then.
    telling: Mutex<()>,
    /// Programs' requests and others' writes that are being worked on.
    work: Arc<AtomicUsize>,
    /// Calls of peers that are being answered.
    calls: Arc<AtomicUsize>,
    gossip_ms: u64,
}

/// Something is being worked on for as long as this lives.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<AtomicUsize>);

impl AtWork {
    fn on(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drain {
    /// Of a node whose gossip goes out so often.
    pub(super) fn new(gossip_ms: u64) -> Self {
        Self {
            state: watch::Sender::new(DrainState::default()),
            telling: Mutex::default(),
            work: Arc::default(),
            calls: Arc::default(),
            gossip_ms,
        }
    }

    /// A request or a write is being worked on.
    pub(super) fn at_work(&self) -> AtWork {
        AtWork::on(&self.work)
    }

    /// A peer's call is being answered.
    pub(super) fn at_call(&self) -> AtWork {
        AtWork::on(&self.calls)
    }

    /// Whether a drain is under way, or done.
    pub(super) fn is_on(&self) -> bool {
        self.state.borrow().stage != DrainStage::Off
    }

    /// Begins, or gives what has begun another purpose. Its turn if it has to be driven.
    fn begin(&self, purpose: DrainFor) -> Option<u64> {
        let mut begun = None;
        self.state.send_modify(|state| {
            if state.stage == DrainStage::Off {
                let turn = state.turn + 1;
                *state = DrainState { stage: DrainStage::Telling, purpose, turn };
                begun = Some(turn);
            }
            if state.purpose < DrainFor::Stop {
                state.purpose = purpose;
            }
        });
        begun
    }

    /// Goes on to a stage, unless this drain was taken back.
    fn advance(&self, turn: u64, stage: DrainStage) -> bool {
        self.state.send_if_modified(|state| {
            let goes_on = state.turn == turn && state.stage != DrainStage::Off;
            if goes_on {
                state.stage = stage;
            }
            goes_on
        })
    }

    fn is_taken_back(&self, turn: u64) -> bool {
        let state = *self.state.borrow();
        state.turn != turn || state.stage == DrainStage::Off
    }

    /// Whether there was one to take back; an error if there is no way back.
    fn take_back(&self) -> Result<bool, String> {
        let mut told = Ok(false);
        self.state.send_modify(|state| {
            told = match state.stage {
                DrainStage::Off => Ok(false),
                _ if state.purpose == DrainFor::Stop || state.is_to_end() => {
                    Err("its process is ending: start it again".to_owned())
                }
                _ => {
                    state.stage = DrainStage::Off;
                    Ok(true)
                }
            };
        });
        told
    }
}

impl Node {
    /// Begins to make this node ready to be stopped; of one that is, or is being made so, only
    /// the purpose changes.
    pub fn drain(&self, purpose: DrainFor) {
        let inner = &self.inner;
        let Some(turn) = inner.drain.begin(purpose) else { return };
        inner.tell_drain();
        inner.note("drain.begun", "no more clients are taken: it is made ready to be stopped");
        let inner = Arc::clone(inner);
        self.inner.exec.spawn(Box::pin(async move { inner.drain_through(turn).await }));
    }

    /// Takes clients again.
    ///
    /// # Errors
    /// There is no way back: the process is ending.
    pub fn undo_drain(&self) -> Result<(), String> {
        if self.inner.drain.take_back()? {
            self.inner.tell_drain();
            self.inner.note("drain.undone", "clients are taken again");
        }
        Ok(())
    }

    /// Returns when the node is drained and its process is to end.
    pub async fn drained_to_end(&self) {
        let mut state = self.inner.drain.state.subscribe();
        // The sender lives as long as this.
        let _state = state.wait_for(|state| state.is_to_end()).await;
    }

    /// How far it is, and what is left.
    pub fn drain_view(&self) -> DrainView {
        self.inner.drain_view()
    }

    /// Tells who asks whenever it goes on.
    pub(crate) fn drain_watch(&self) -> watch::Receiver<DrainState> {
        self.inner.drain.state.subscribe()
    }

    /// Whether clients are taken.
    pub(crate) fn takes_clients(&self) -> bool {
        self.inner.drain.state.borrow().takes_clients()
    }

    /// A program's request is being worked on.
    pub(crate) fn at_work(&self) -> AtWork {
        self.inner.drain.at_work()
    }

    /// Does what an operator asks.
    ///
    /// # Errors
    /// There is no way back.
    pub(crate) fn order_drain(&self, order: DrainOrder) -> Result<DrainView, String> {
        match order {
            DrainOrder::Look => {}
            DrainOrder::Stay => self.drain(DrainFor::Stay),
            DrainOrder::End => self.drain(DrainFor::End),
            DrainOrder::Undo => self.undo_drain()?,
            _ => return Err("this node does not know that order".to_owned()),
        }
        Ok(self.drain_view())
    }
}

impl Inner {
    /// Tells the others what holds now.
    fn tell_drain(&self) {
        let _one = self.drain.telling.lock();
        self.membership.publish_draining(self.drain.is_on());
    }

    fn note(&self, code: &'static str, text: &str) {
        self.events.note(Happened { code, warns: false, about: None, text: text.to_owned() });
    }

    /// Milliseconds until the others have heard a piece of news, mostly; none where nobody is.
    fn hearing_ms(&self) -> u64 {
        let view = self.view.now();
        let others = view.members.keys().filter(|node| **node != view.me && view.is_up(**node));
        let doublings =
            others.count().checked_ilog2().map(|doublings| ROUNDS_MIN + u64::from(doublings));
        doublings.unwrap_or(0) * self.drain.gossip_ms
    }

    async fn drain_through(self: Arc<Self>, turn: u64) {
        let until_ms = self.clock.steady_ms().saturating_add(self.timing.drain_ms_max);
        let hearing_ms = self.hearing_ms().min(self.timing.drain_ms_max);
        self.clock.sleep(Duration::from_millis(hearing_ms)).await;
        if !self.drain.advance(turn, DrainStage::Closing) {
            return;
        }
        let mut quiet = 0;
        while quiet < QUIET_LOOKS && self.clock.steady_ms() < until_ms {
            self.clock.sleep(Duration::from_millis(LOOK_MS)).await;
            if self.drain.is_taken_back(turn) {
                return;
            }
            quiet = if is_quiet(&self.drain_view()) { quiet + 1 } else { 0 };
        }
        let left = self.drain_view();
        if self.drain.advance(turn, DrainStage::Drained) {
            self.note("drain.done", &ended(&left, quiet >= QUIET_LOOKS));
        }
    }

    fn drain_view(&self) -> DrainView {
        let state = *self.drain.state.borrow();
        let (figures, view) = (&self.figures, self.view.now());
        let opened = figures.connections.value();
        let sends = self.peers.get().map_or(0, |peers| {
            let statuses = peers.statuses().into_iter();
            let up = statuses.filter(|(node, status)| !status.down && view.is_up(*node));
            up.map(|(_, status)| status.queue_ops + status.prompt_in_flight).sum::<usize>()
        });
        let (mut hints, mut hints_kept) = (0, 0);
        let queued = self.serving().map(|serving| serving.replica.hints().queued());
        for (target, queued) in queued.into_iter().flatten() {
            let sum = if takes_hints(&view, target) { &mut hints } else { &mut hints_kept };
            *sum += queued.keys;
        }
        DrainView {
            node: view.me,
            stage: state.stage,
            ends: state.purpose > DrainFor::Stay,
            clients: opened.saturating_sub(figures.connections_closed.value()),
            requests: (self.drain.work.load(Ordering::Acquire) + sends) as u64,
            hints,
            hints_kept,
            ms_max: self.timing.drain_ms_max,
        }
    }

    /// After a goodbye: waits until the others have heard it and what they asked is answered, so
    /// that hardly a call breaks. For as long as news takes.
    pub(super) async fn until_let_go(&self) {
        let until_ms = self.clock.steady_ms() + self.hearing_ms();
        let busy = || self.drain.calls.load(Ordering::Acquire) > 0 || !self.membership.has_left();
        while busy() && self.clock.steady_ms() < until_ms {
            self.clock.sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

/// Whether hints for a node are worth waiting for: it is up, and goes on.
fn takes_hints(view: &View, target: NodeId) -> bool {
    view.is_up(target) && !view.is_draining(target)
}

fn is_quiet(left: &DrainView) -> bool {
    left.clients == 0 && left.requests == 0 && left.hints == 0
}

/// What a drain came to.
fn ended(left: &DrainView, quiet: bool) -> String {
    let mut text = if quiet {
        "drained: nothing is under way here".to_owned()
    } else {
        let DrainView { clients, requests, hints, ms_max, .. } = left;
        format!(
            "drained, as {ms_max} ms are over: {clients} clients are still connected, {requests} \
             operations under way, {hints} keys not handed over"
        )
    };
    let kept = left.hints + left.hints_kept;
    if kept > 0 {
        let rest = format!("; hints about {kept} keys stay on its disk until its next start");
        text.push_str(&rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_taken_back_until_its_process_ends() {
        let drain = Drain::new(50);
        assert_eq!(drain.take_back(), Ok(false), "there is none");
        let turn = drain.begin(DrainFor::End).expect("it is to be driven");
        assert_eq!(drain.begin(DrainFor::Stay), None, "it is driven already");
        assert!(drain.advance(turn, DrainStage::Closing));
        assert!(!drain.state.borrow().takes_clients());
        assert_eq!(drain.take_back(), Ok(true));
        assert!(drain.state.borrow().takes_clients());
        assert!(!drain.advance(turn, DrainStage::Drained), "its turn is over");
        let again = drain.begin(DrainFor::Stay).expect("another one");
        assert!(!drain.advance(turn, DrainStage::Drained) && drain.is_taken_back(turn));
        assert!(drain.advance(again, DrainStage::Drained));
        assert!(!drain.state.borrow().is_to_end(), "it goes on as a replica");
        assert_eq!(drain.begin(DrainFor::End), None);
        assert!(drain.state.borrow().is_to_end());
        assert!(drain.take_back().is_err());
    }

    #[test]
    fn what_was_told_to_stop_stops() {
        let drain = Drain::new(50);
        drain.begin(DrainFor::Stop);
        drain.begin(DrainFor::Stay);
        assert_eq!(drain.state.borrow().purpose, DrainFor::Stop);
        assert!(drain.take_back().is_err());
    }

    #[test]
    fn what_is_left_is_told() {
        let view = DrainView { hints_kept: 7, ms_max: 900, ..DrainView::default() };
        assert!(is_quiet(&view), "who is down is not waited for");
        let text = ended(&view, true);
        assert!(text.contains("nothing is under way") && text.contains("about 7 keys"), "{text}");
        let busy = DrainView { clients: 2, requests: 3, hints: 4, ..view };
        assert!(!is_quiet(&busy));
        let text = ended(&busy, false);
        assert!(text.contains("900 ms are over: 2 clients") && text.contains("11 keys"), "{text}");
    }
}
