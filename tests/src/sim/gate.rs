//! A gate in front of a node's every task: shut, the node stands still as a stopped process does.
//!
//! Its timers run out and messages reach it meanwhile, and nobody looks at them before the gate
//! opens. What peers and clients have a node do runs behind its gate too.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use kv_node::plug::transport::{PeerAddress, PeerHandler, Transport};
use kv_node::wire::{CallFailure, PeerReply, PeerRequest};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Whoever waits for time in which a gate is open looks again after this, at the soonest.
const LOOK: Duration = Duration::from_millis(50);

/// The gate of one life of a node.
#[derive(Debug, Default)]
pub struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    shut: bool,
    /// When it was shut, if it is.
    since: Option<Instant>,
    /// How long it stood shut before.
    stood: Duration,
    /// Who wants to go on, in the order of asking, each once.
    waiting: Vec<Waker>,
}

impl Gate {
    /// Lets nothing through any more.
    pub fn shut(&self) {
        let mut state = self.0.lock();
        state.shut = true;
        state.since.get_or_insert_with(Instant::now);
    }

    /// Lets everything go on.
    pub fn open(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.shut = false;
            let since = state.since.take();
            state.stood += since.map_or(Duration::ZERO, |since| since.elapsed());
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// How long it has stood shut so far, in all.
    #[must_use]
    pub fn stood(&self) -> Duration {
        let state = self.0.lock();
        state.stood + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns when so much time has passed in which the gate was open.
    pub async fn open_for(&self, time: Duration) {
        let (begun, stood) = (Instant::now(), self.stood());
        loop {
            let open = begun.elapsed().saturating_sub(self.stood().saturating_sub(stood));
            let left = time.saturating_sub(open);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.max(LOOK)).await;
        }
    }

    fn passes(&self, context: &Context<'_>) -> bool {
        let mut state = self.0.lock();
        if state.shut && !state.waiting.iter().any(|other| other.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        !state.shut
    }

    /// Runs a future behind the gate.
    pub async fn through<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(
            |context| {
                if self.passes(context) { future.as_mut().poll(context) } else { Poll::Pending }
            },
        )
        .await
    }
}

/// A transport whose node stands behind a gate.
pub struct GatedTransport<T> {
    /// The way to the others.
    pub inner: T,
    /// The node's gate.
    pub gate: Arc<Gate>,
}

struct GatedHandler {
    inner: Arc<dyn PeerHandler>,
    gate: Arc<Gate>,
}

#[async_trait]
impl PeerHandler for GatedHandler {
    async fn handle(&self, request: PeerRequest) -> PeerReply {
        self.gate.through(self.inner.handle(request)).await
    }
}

#[async_trait]
impl<T: Transport> Transport for GatedTransport<T> {
    async fn serve(&self, handler: Arc<dyn PeerHandler>) -> std::io::Result<PeerAddress> {
        let gate = Arc::clone(&self.gate);
        self.inner.serve(Arc::new(GatedHandler { inner: handler, gate })).await
    }

    async fn call(&self, to: &PeerAddress, request: PeerRequest) -> Result<PeerReply, CallFailure> {
        self.inner.call(to, request).await
    }

    fn disconnect(&self, to: &PeerAddress) {
        self.inner.disconnect(to);
    }

    async fn lost(&self) -> PeerAddress {
        self.inner.lost().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

impl<T> std::fmt::Debug for GatedTransport<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatedTransport").field("gate", &self.gate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shut_gate_stops_what_is_behind_it_and_loses_nothing() {
        let gate = Arc::new(Gate::default());
        let begun = Instant::now();
        gate.shut();
        let work = gate.through(tokio::time::sleep(Duration::from_millis(10)));
        let keeper = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            gate.open();
        };
        tokio::join!(work, keeper);
        assert!(begun.elapsed() >= Duration::from_millis(500), "it went through a shut gate");
        assert_eq!(gate.stood(), Duration::from_millis(500));
        gate.through(tokio::time::sleep(Duration::from_millis(10))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_it_stands_shut_does_not_count() {
        let gate = Gate::default();
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let keeper = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            gate.shut();
            tokio::time::sleep(30 * second).await;
            gate.open();
        };
        tokio::join!(gate.open_for(second), keeper);
        let took = begun.elapsed();
        assert!(took >= 31 * second && took < 32 * second, "{took:?}");
    }
}
