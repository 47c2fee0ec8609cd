//! What all lanes to one peer know together: where it is, whether it answers, when to dial again.
//!
//! A peer counts as down for requests when it refuses connections, or when a call has been
//! unanswered for `link_down_ms` with nothing heard since; it counts as up again as soon as it
//! answers anything. Only answers count: what a peer calls by itself shows that it lives, not that
//! calls reach it. Membership is not asked here, and is told of refusals only.
//!
//! The time without an answer counts only calls that wait for the peer alone (data and control): a
//! forwarded write may rightly wait for a third node, so it has the peer probed. A call that ended
//! without an answer goes on to count: it is an answer that ends the silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_client::NodeId;
use parking_lot::Mutex;

use super::PeerFailure;
use super::peer::{LinkStatus, PeersConfig};
use crate::detect::{Gauge, Learnt};
use crate::plug::transport::PeerAddress;
use crate::wire::CallFailure;

pub(super) struct Link {
    pub(super) node: NodeId,
    state: Mutex<State>,
    /// `state.is_down()`, to be read without the lock.
    down: AtomicBool,
}

struct State {
    address: PeerAddress,
    /// How fast it answers.
    learnt: Learnt,
    calls_in_flight: usize,
    /// Those that the time without an answer counts.
    prompt_in_flight: usize,
    /// Since when such a call is in flight with nothing heard since.
    waiting_since_us: Option<u64>,
    /// Since when a call that may wait for others too is in flight with nothing heard since.
    working_since_us: Option<u64>,
    /// When anything was heard last.
    heard_us: u64,
    backoff_ms: u64,
    not_before_us: u64,
    timeouts_in_row: u32,
    calls: u64,
    ops: u64,
    call_us: Option<u64>,
    last_failure: Option<CallFailure>,
    /// It refused a connection, and has answered nothing since.
    refused: bool,
    /// The failure by which it was seen that its process is gone.
    gone: Option<CallFailure>,
    /// It was silent for `link_down_ms`, and has answered nothing since.
    silent: bool,
    /// A probe is on its way.
    probing: bool,
    /// Something happened after which a probe would tell more, at once.
    probe_due: bool,
}

/// What a call asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its answer waits for the peer alone.
    pub(super) prompt: bool,
    /// Reads are in it.
    pub(super) reads: bool,
    /// How many operations.
    pub(super) ops: usize,
}

/// What a failed call comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fallout {
    /// The connection is to be dropped.
    pub(super) redial: bool,
    /// It counts as down from now on.
    pub(super) went_down: bool,
    /// A probe is due.
    pub(super) probe: bool,
}

/// What passing time comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watched {
    /// It counts as down from now on, and operations on their way are to be told.
    pub(super) went_silent: bool,
    /// It did not count as down before.
    pub(super) went_down: bool,
    /// A probe is to be sent; `probe_ended` is to be called when it is over.
    pub(super) probe: bool,
}

impl Link {
    pub(super) fn new(node: NodeId, address: PeerAddress, gauge: Arc<Gauge>) -> Self {
        let state = Mutex::new(State::new(address, Learnt::new(gauge)));
        Self { node, state, down: AtomicBool::new(false) }
    }

    /// Whether requests should not count on it.
    #[inline]
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Whether it has answered so lately, and does not count as down.
    pub(super) fn answers(&self, now_us: u64, within_ms: u64) -> bool {
        let heard_us = self.state.lock().heard_us;
        heard_us > 0 && now_us < heard_us.saturating_add(within_ms * 1_000) && !self.is_down()
    }

    /// Makes `down` follow the state; whether it changed.
    fn follow(&self, state: &State) -> bool {
        let down = state.refused || state.silent;
        self.down.swap(down, Ordering::AcqRel) != down
    }

    pub(super) fn address(&self) -> PeerAddress {
        self.state.lock().address.clone()
    }

    /// Answers the old address if this is another.
    pub(super) fn set_address(&self, address: PeerAddress) -> Option<PeerAddress> {
        let mut state = self.state.lock();
        if state.address == address {
            return None;
        }
        state.clear_backoff();
        state.probe_due = true;
        Some(std::mem::replace(&mut state.address, address))
    }

    /// The peer called by itself: it is there, so it may be dialled. Answers whether a probe is
    /// due.
    pub(super) fn called(&self) -> bool {
        if !self.is_down() {
            return false;
        }
        let mut state = self.state.lock();
        state.clear_backoff();
        state.probe_due = true;
        true
    }

    /// Why nothing may be sent to it now, if it is being backed off from.
    pub(super) fn refuses(&self, now_us: u64) -> Option<PeerFailure> {
        let state = self.state.lock();
        let gone = || state.gone.clone().map_or(PeerFailure::NotConnected, PeerFailure::Call);
        (state.not_before_us > now_us).then(gone)
    }

    pub(super) fn sent(&self, call: Call, now_us: u64) {
        let mut state = self.state.lock();
        state.calls_in_flight += 1;
        if call.prompt {
            if state.prompt_in_flight == 0 {
                state.learnt.asked(now_us);
            }
            state.prompt_in_flight += 1;
            if state.waiting_since_us.is_none() {
                state.wait_since(Some(now_us));
            }
        } else if state.working_since_us.is_none() {
            state.working_since_us = Some(now_us);
        }
    }

    /// Answers whether it counts as up from now on.
    pub(super) fn answered(&self, call: Call, sent_us: u64, now_us: u64) -> bool {
        let mut state = self.state.lock();
        state.ended(call.prompt);
        state.calls += 1;
        state.ops += call.ops as u64;
        let us = now_us.saturating_sub(sent_us);
        if call.reads {
            state.learnt.read(us, now_us);
        }
        if call.prompt {
            state.learnt.heard(now_us);
            // An eighth of each new one, as TCP smooths its round trips.
            state.call_us = Some(state.call_us.map_or(us, |average| (average * 7 + us) / 8));
        }
        state.heard(now_us);
        self.follow(&state)
    }

    /// It answered a call that did not go through its lanes. Answers whether it counts as up from
    /// now on.
    pub(super) fn answered_elsewhere(&self, now_us: u64) -> bool {
        let mut state = self.state.lock();
        state.heard(now_us);
        self.follow(&state)
    }

    /// It refused a connection that was not for its lanes. Answers whether it counts as down from
    /// now on.
    pub(super) fn refused_elsewhere(
        &self,
        failure: &CallFailure,
        config: &PeersConfig,
        now_us: u64,
    ) -> bool {
        let mut state = self.state.lock();
        if state.not_before_us <= now_us {
            state.back_off(config, now_us);
        }
        state.refused_by(failure);
        self.follow(&state)
    }

    /// It left a call unanswered that did not go through its lanes and was sent then.
    pub(super) fn unanswered_elsewhere(&self, sent_us: u64) {
        let mut state = self.state.lock();
        if state.heard_us < sent_us && state.waiting_since_us.is_none_or(|since| since > sent_us) {
            state.wait_since(Some(sent_us));
        }
    }

    pub(super) fn failed(
        &self,
        call: Call,
        failure: &CallFailure,
        config: &PeersConfig,
        now_us: u64,
    ) -> Fallout {
        let mut state = self.state.lock();
        state.ended(call.prompt);
        // What was not answered in time is not answered: the silence goes on.
        let silence = matches!(failure, CallFailure::TimedOut | CallFailure::NotSent(_));
        if state.prompt_in_flight == 0 && !silence {
            state.wait_since(None);
        }
        state.last_failure = Some(failure.clone());
        let mut fallout = Fallout::default();
        match failure {
            CallFailure::Unreachable(_) | CallFailure::Gone(_) => {
                state.back_off(config, now_us);
                state.refused_by(failure);
            }
            CallFailure::NotSent(_) => {}
            // A call that rightly takes long says nothing of the connection.
            CallFailure::TimedOut if call.prompt => {
                state.timeouts_in_row += 1;
                fallout.redial = state.timeouts_in_row >= config.timeouts_to_redial;
                if fallout.redial {
                    state.timeouts_in_row = 0;
                }
            }
            CallFailure::TimedOut => {}
            // The connection is gone; whether the peer is too shows when it is dialled.
            CallFailure::Unknown(_) => {
                state.probe_due = true;
                fallout.probe = true;
            }
        }
        fallout.went_down = self.follow(&state);
        fallout
    }

    /// A connection to this address has ended. Whether the peer is there shows when it is dialled.
    pub(super) fn lost_connection(&self, address: &str) {
        let mut state = self.state.lock();
        state.probe_due |= state.address == address;
    }

    /// This node itself stood still until now: nobody could be heard, so silence begins anew.
    pub(super) fn stood_still(&self, now_us: u64) {
        let mut state = self.state.lock();
        if state.waiting_since_us.is_some() {
            state.wait_since(Some(now_us));
        }
        state.working_since_us = state.working_since_us.map(|_| now_us);
    }

    /// Judges the silence as of now.
    pub(super) fn watch(&self, config: &PeersConfig, now_us: u64) -> Watched {
        let mut state = self.state.lock();
        let since = |at: Option<u64>| at.map_or(0, |since| now_us.saturating_sub(since));
        let waited_us = since(state.waiting_since_us);
        let mut watched = Watched::default();
        if !state.silent && waited_us >= config.link_down_ms * 1_000 {
            state.silent = true;
            watched.went_silent = true;
        }
        watched.went_down = self.follow(&state);
        // Half way to being down it is asked something that no disk can delay: who answers that is
        // only slow. Who is down is asked over and over, or nobody would see it come back.
        let asked = state.probe_due
            || state.refused
            || state.silent
            || waited_us.max(since(state.working_since_us)) >= config.link_down_ms * 1_000 / 2;
        if asked && !state.probing && state.not_before_us <= now_us {
            state.probing = true;
            state.probe_due = false;
            watched.probe = true;
        }
        watched
    }

    pub(super) fn probe_ended(&self) {
        self.state.lock().probing = false;
    }

    pub(super) fn status(&self, now_us: u64) -> LinkStatus {
        let state = self.state.lock();
        let since = |us: u64| now_us.saturating_sub(us) / 1_000;
        LinkStatus {
            address: state.address.clone(),
            queue_ops: 0,
            calls_in_flight: state.calls_in_flight,
            prompt_in_flight: state.prompt_in_flight,
            unanswered_ms: state.waiting_since_us.map_or(0, since),
            backed_off_ms: state.not_before_us.saturating_sub(now_us).div_ceil(1_000),
            down: self.is_down(),
            calls: state.calls,
            ops: state.ops,
            call_us: state.call_us,
            read_p95_us: state.learnt.p95_us(),
            phi_hundredths: state.learnt.phi_hundredths(state.waiting_since_us.is_some(), now_us),
            last_failure: state.last_failure.clone(),
        }
    }
}

impl State {
    fn new(address: PeerAddress, learnt: Learnt) -> Self {
        Self {
            address,
            learnt,
            calls_in_flight: 0,
            prompt_in_flight: 0,
            waiting_since_us: None,
            working_since_us: None,
            heard_us: 0,
            backoff_ms: 0,
            not_before_us: 0,
            timeouts_in_row: 0,
            calls: 0,
            ops: 0,
            call_us: None,
            last_failure: None,
            refused: false,
            gone: None,
            silent: false,
            probing: false,
            probe_due: false,
        }
    }

    fn wait_since(&mut self, since_us: Option<u64>) {
        self.waiting_since_us = since_us;
        self.learnt.waiting_since(since_us);
    }

    fn ended(&mut self, prompt: bool) {
        self.calls_in_flight -= 1;
        if prompt {
            self.prompt_in_flight -= 1;
        }
        if self.calls_in_flight == self.prompt_in_flight {
            self.working_since_us = None;
        }
    }

    fn refused_by(&mut self, failure: &CallFailure) {
        self.refused = true;
        self.gone = Some(failure.clone()).filter(|failure| matches!(failure, CallFailure::Gone(_)));
        self.last_failure = Some(failure.clone());
    }

    fn heard(&mut self, now_us: u64) {
        self.timeouts_in_row = 0;
        self.last_failure = None;
        self.refused = false;
        self.gone = None;
        self.silent = false;
        self.heard_us = now_us;
        self.probe_due = false;
        self.clear_backoff();
        self.wait_since((self.prompt_in_flight > 0).then_some(now_us));
        let working = self.calls_in_flight > self.prompt_in_flight;
        self.working_since_us = working.then_some(now_us);
    }

    fn back_off(&mut self, config: &PeersConfig, now_us: u64) {
        let doubled = self.backoff_ms.saturating_mul(2);
        self.backoff_ms = doubled.clamp(config.backoff_ms_min, config.backoff_ms_max);
        self.not_before_us = now_us + self.backoff_ms * 1_000;
    }

    fn clear_backoff(&mut self) {
        self.backoff_ms = 0;
        self.not_before_us = 0;
    }
}
