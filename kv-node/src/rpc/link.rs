//! What all lanes to one peer know together: where it is, whether it answers, when to dial again.
//!
//! The time without an answer counts only calls that wait for the peer alone (data and control): a
//! forwarded write may rightly wait for a third node.

use kv_client::NodeId;
use parking_lot::Mutex;

use super::peer::{LinkStatus, PeersConfig};
use crate::plug::transport::PeerAddress;
use crate::wire::CallFailure;

pub(super) struct Link {
    pub(super) node: NodeId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    address: PeerAddress,
    calls_in_flight: usize,
    /// Those that the time without an answer counts.
    prompt_in_flight: usize,
    /// Since when such a call is in flight with nothing heard since.
    waiting_since_us: Option<u64>,
    backoff_ms: u64,
    not_before_us: u64,
    timeouts_in_row: u32,
    calls: u64,
    ops: u64,
    call_us: Option<u64>,
    last_failure: Option<CallFailure>,
}

impl Link {
    pub(super) fn new(node: NodeId, address: PeerAddress) -> Self {
        Self { node, state: Mutex::new(State { address, ..State::default() }) }
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
        Some(std::mem::replace(&mut state.address, address))
    }

    pub(super) fn end_backoff(&self) {
        self.state.lock().clear_backoff();
    }

    /// Microseconds until it may be dialled again.
    pub(super) fn backed_off_us(&self, now_us: u64) -> u64 {
        self.state.lock().not_before_us.saturating_sub(now_us)
    }

    pub(super) fn sent(&self, prompt: bool, now_us: u64) {
        let mut state = self.state.lock();
        state.calls_in_flight += 1;
        if prompt {
            state.prompt_in_flight += 1;
            state.waiting_since_us.get_or_insert(now_us);
        }
    }

    pub(super) fn answered(&self, prompt: bool, ops: usize, sent_us: u64, now_us: u64) {
        let mut state = self.state.lock();
        state.ended(prompt);
        state.calls += 1;
        state.ops += ops as u64;
        state.timeouts_in_row = 0;
        state.last_failure = None;
        state.clear_backoff();
        state.waiting_since_us = (state.prompt_in_flight > 0).then_some(now_us);
        if prompt {
            let us = now_us.saturating_sub(sent_us);
            // An eighth of each new one, as TCP smooths its round trips.
            state.call_us = Some(state.call_us.map_or(us, |average| (average * 7 + us) / 8));
        }
    }

    /// Answers whether the connection is to be dropped.
    pub(super) fn failed(
        &self,
        prompt: bool,
        failure: &CallFailure,
        config: &PeersConfig,
        now_us: u64,
    ) -> bool {
        let mut state = self.state.lock();
        state.ended(prompt);
        if state.prompt_in_flight == 0 {
            state.waiting_since_us = None;
        }
        state.last_failure = Some(failure.clone());
        match failure {
            CallFailure::NotSent(_) => {
                let doubled = state.backoff_ms.saturating_mul(2);
                state.backoff_ms = doubled.clamp(config.backoff_ms_min, config.backoff_ms_max);
                state.not_before_us = now_us + state.backoff_ms * 1_000;
                false
            }
            // A call that rightly takes long says nothing of the connection.
            CallFailure::TimedOut if prompt => {
                state.timeouts_in_row += 1;
                let redial = state.timeouts_in_row >= config.timeouts_to_redial;
                if redial {
                    state.timeouts_in_row = 0;
                }
                redial
            }
            CallFailure::TimedOut | CallFailure::Unknown(_) => false,
        }
    }

    pub(super) fn status(&self, now_us: u64) -> LinkStatus {
        let state = self.state.lock();
        let since = |us: u64| now_us.saturating_sub(us) / 1_000;
        LinkStatus {
            address: state.address.clone(),
            queue_ops: 0,
            calls_in_flight: state.calls_in_flight,
            unanswered_ms: state.waiting_since_us.map_or(0, since),
            backed_off_ms: state.not_before_us.saturating_sub(now_us).div_ceil(1_000),
            calls: state.calls,
            ops: state.ops,
            call_us: state.call_us,
            last_failure: state.last_failure.clone(),
        }
    }
}

impl State {
    fn ended(&mut self, prompt: bool) {
        self.calls_in_flight -= 1;
        if prompt {
            self.prompt_in_flight -= 1;
        }
    }

    fn clear_backoff(&mut self) {
        self.backoff_ms = 0;
        self.not_before_us = 0;
    }
}
