//! A gate in front of a node's every task: shut, the node stands still as a stopped process does.
//!
//! Its timers run out and messages reach it meanwhile, and nobody looks at them before the gate
//! opens. What peers and clients have a node do runs behind its gate too.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use kv_node::plug::transport::{PeerAddress, PeerHandler, Transport};
use kv_node::wire::{CallFailure, PeerReply, PeerRequest};
use parking_lot::Mutex;

/// The gate of one life of a node.
#[derive(Debug, Default)]
pub struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    shut: bool,
    /// Who wants to go on, in the order of asking, each once.
    waiting: Vec<Waker>,
}

impl Gate {
    /// Lets nothing through any more.
    pub fn shut(&self) {
        self.0.lock().shut = true;
    }

    /// Lets everything go on.
    pub fn open(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.shut = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
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
        let begun = tokio::time::Instant::now();
        gate.shut();
        let work = gate.through(tokio::time::sleep(Duration::from_millis(10)));
        let keeper = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            gate.open();
        };
        tokio::join!(work, keeper);
        assert!(begun.elapsed() >= Duration::from_millis(500), "it went through a shut gate");
        gate.through(tokio::time::sleep(Duration::from_millis(10))).await;
    }
}
