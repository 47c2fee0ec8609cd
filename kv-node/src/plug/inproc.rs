//! Peers in one process: the same calls and the same bytes, without sockets.
//!
//! For three nodes in one program, for tests and for the simulation. Every call is encoded and
//! decoded by the codec that production uses. Each directed link can be slow, lose messages or be
//! cut; a cut link is silent, as a firewall is, while an address where nobody listens refuses at
//! once, as a host without the process does.
//!
//! All waiting goes through the `Clock`, all chance through one seeded generator, and what is
//! iterated is ordered: under a paused runtime of one thread, a seed replays a run. `trace_hash`
//! tells two runs apart.
//!
//! Invariant: a call that was lost on the way there or back ends `TimedOut`, one whose peer was
//! stopped meanwhile `Unknown`, and one that nobody was there to take `Gone`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{AbortHandle, Abortable};
use kv_client::codec::{FRAME_BYTES_MAX_DEFAULT, decode, encode};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use twox_hash::XxHash3_64;

use super::clock::Clock;
use super::exec::Exec;
use super::rng::{Rng, SeededRng};
use super::transport::{PeerAddress, PeerHandler, Transport};
use crate::rpc::codec::{decode_request, encode_request, fitting};
use crate::wire::{CallFailure, PeerReply, PeerRequest};

/// What one direction between two addresses does to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFaults {
    /// Microseconds that a message travels, at least.
    pub delay_us_min: u64,
    /// Microseconds that a message travels, at most; drawn evenly. Messages may overtake.
    pub delay_us_max: u64,
    /// Messages in a million that are lost.
    pub loss_per_million: u32,
    /// Whether all are lost.
    pub cut: bool,
}

/// A network within the process. Clones are the same network.
#[derive(Clone)]
pub struct InProcNetwork(Arc<Hub>);

/// One address of an in-process network.
pub struct InProcTransport {
    hub: Arc<Hub>,
    me: PeerAddress,
}

struct Hub {
    clock: Arc<dyn Clock>,
    exec: Arc<dyn Exec>,
    rng: SeededRng,
    frame_bytes_max: u32,
    state: Mutex<State>,
    /// Somewhere a connection has ended.
    ended: Notify,
}

#[derive(Default)]
struct State {
    listening: BTreeMap<PeerAddress, Listener>,
    everywhere: LinkFaults,
    links: BTreeMap<(PeerAddress, PeerAddress), LinkFaults>,
    resets: BTreeMap<(PeerAddress, PeerAddress), Arc<Notify>>,
    /// By who called, the peers whose end he has not been told of yet.
    ended: BTreeMap<PeerAddress, BTreeSet<PeerAddress>>,
    calls: u64,
    trace: u64,
}

struct Listener {
    handler: Arc<dyn PeerHandler>,
    /// Calls that the handler is working on, by their number.
    running: BTreeMap<u64, AbortHandle>,
}

enum Delivery {
    Reply(PeerReply),
    Lost,
}

impl std::fmt::Debug for InProcNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("InProcNetwork")
            .field("listening", &state.listening.keys())
            .field("calls", &state.calls)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for InProcTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcTransport").field("me", &self.me).finish_non_exhaustive()
    }
}

impl InProcNetwork {
    /// A network without faults, whose chances are drawn from `seed`.
    pub fn new(clock: Arc<dyn Clock>, exec: Arc<dyn Exec>, seed: u64) -> Self {
        Self(Arc::new(Hub {
            clock,
            exec,
            rng: SeededRng::new(seed),
            frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
            state: Mutex::new(State::default()),
            ended: Notify::new(),
        }))
    }

    /// The transport of the node at `address`.
    pub fn endpoint(&self, address: impl Into<PeerAddress>) -> InProcTransport {
        InProcTransport { hub: Arc::clone(&self.0), me: address.into() }
    }

    /// Sets what every link without faults of its own does.
    pub fn set_all(&self, faults: LinkFaults) {
        self.0.state.lock().everywhere = faults;
    }

    /// Sets what the link from one address to another does, in this direction only.
    pub fn set_link(&self, from: &str, to: &str, faults: LinkFaults) {
        self.0.state.lock().links.insert((from.to_owned(), to.to_owned()), faults);
    }

    /// Cuts or restores both directions between two addresses, leaving delay and loss as they are.
    pub fn set_cut(&self, one: &str, other: &str, cut: bool) {
        let mut state = self.0.state.lock();
        for (from, to) in [(one, other), (other, one)] {
            let mut faults = state.faults(from, to);
            faults.cut = cut;
            state.links.insert((from.to_owned(), to.to_owned()), faults);
        }
    }

    /// Takes every link's own faults away; `set_all` stays.
    pub fn heal(&self) {
        self.0.state.lock().links.clear();
    }

    /// Stops an address as a killed process stops: nobody listens there, what it was working on
    /// goes no further, calls that wait for it end `Unknown`.
    pub fn crash(&self, address: &str) {
        self.0.stop(address);
    }

    /// A digest over every message that was delivered: who, when, what.
    pub fn trace_hash(&self) -> u64 {
        self.0.state.lock().trace
    }
}

impl State {
    fn faults(&self, from: &str, to: &str) -> LinkFaults {
        let link = (from.to_owned(), to.to_owned());
        self.links.get(&link).copied().unwrap_or(self.everywhere)
    }
}

impl Hub {
    /// Microseconds of travel, or `None` for a message that is lost.
    fn depart(&self, from: &str, to: &str) -> Option<u64> {
        let faults = self.state.lock().faults(from, to);
        if faults.cut {
            return None;
        }
        if faults.loss_per_million > 0
            && self.rng.next_u64() % 1_000_000 < u64::from(faults.loss_per_million)
        {
            return None;
        }
        let spread = faults.delay_us_max.saturating_sub(faults.delay_us_min);
        let extra = if spread == 0 { 0 } else { self.rng.next_u64() % (spread + 1) };
        Some(faults.delay_us_min + extra)
    }

    /// Carries a message; `false` if it is lost.
    async fn carry(&self, from: &str, to: &str, frame: &[u8]) -> bool {
        let Some(delay_us) = self.depart(from, to) else { return false };
        if delay_us > 0 {
            self.clock.sleep(Duration::from_micros(delay_us)).await;
        }
        let now_us = self.clock.steady_us();
        let mut state = self.state.lock();
        if state.faults(from, to).cut {
            return false;
        }
        let mut event = Vec::with_capacity(32 + from.len() + to.len());
        for number in [state.trace, now_us, XxHash3_64::oneshot(frame)] {
            event.extend_from_slice(&number.to_be_bytes());
        }
        event.extend_from_slice(from.as_bytes());
        event.push(0);
        event.extend_from_slice(to.as_bytes());
        state.trace = XxHash3_64::oneshot(&event);
        true
    }

    /// Takes a request there, has it handled, and brings the answer back. `None` is a reset.
    async fn deliver(&self, from: &str, to: &str, frame: Bytes) -> Option<Delivery> {
        if !self.carry(from, to, &frame).await {
            return Some(Delivery::Lost);
        }
        let request = decode_request(&frame).ok()?;
        let (handler, number, registration) = {
            let mut state = self.state.lock();
            state.calls += 1;
            let number = state.calls;
            let listener = state.listening.get_mut(to)?;
            let (abort, registration) = AbortHandle::new_pair();
            listener.running.insert(number, abort);
            (Arc::clone(&listener.handler), number, registration)
        };
        let reply = Abortable::new(handler.handle(request), registration).await.ok()?;
        if let Some(listener) = self.state.lock().listening.get_mut(to) {
            listener.running.remove(&number);
        }
        let frame = encode(&fitting(reply, self.frame_bytes_max), self.frame_bytes_max).ok()?;
        if !self.carry(to, from, &frame).await {
            return Some(Delivery::Lost);
        }
        decode::<PeerReply>(&frame).ok().map(Delivery::Reply)
    }

    /// A peer of whose end this caller has not been told.
    fn ended_for(&self, caller: &str) -> Option<PeerAddress> {
        self.state.lock().ended.get_mut(caller)?.pop_first()
    }

    fn reset(&self, from: &str, to: &str) -> Arc<Notify> {
        let link = (from.to_owned(), to.to_owned());
        Arc::clone(self.state.lock().resets.entry(link).or_default())
    }

    fn stop(&self, address: &str) {
        let mut state = self.state.lock();
        if let Some(listener) = state.listening.remove(address) {
            listener.running.values().for_each(AbortHandle::abort);
        }
        let touched = |(from, to): &(PeerAddress, PeerAddress)| from == address || to == address;
        let mut callers = Vec::new();
        for (link, reset) in &state.resets {
            if touched(link) {
                reset.notify_waiters();
            }
            let (from, to) = link;
            // The end of a connection is a message too.
            if to == address && !state.faults(to, from).cut {
                callers.push(from.clone());
            }
        }
        for caller in callers {
            state.ended.entry(caller).or_default().insert(address.to_owned());
        }
        drop(state);
        self.ended.notify_waiters();
    }
}

#[async_trait]
impl Transport for InProcTransport {
    async fn serve(&self, handler: Arc<dyn PeerHandler>) -> std::io::Result<PeerAddress> {
        let mut state = self.hub.state.lock();
        if state.listening.contains_key(&self.me) {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        let running = BTreeMap::new();
        state.listening.insert(self.me.clone(), Listener { handler, running });
        Ok(self.me.clone())
    }

    async fn call(&self, to: &PeerAddress, request: PeerRequest) -> Result<PeerReply, CallFailure> {
        let budget = Duration::from_millis(u64::from(request.envelope.budget_ms));
        let frame = encode_request(&request, self.hub.frame_bytes_max)
            .map_err(|error| CallFailure::NotSent(error.to_string()))?;
        let refused = {
            let state = self.hub.state.lock();
            !state.faults(&self.me, to).cut && !state.listening.contains_key(to)
        };
        if refused {
            return Err(CallFailure::Gone("connection refused".to_owned()));
        }
        let reset = self.hub.reset(&self.me, to);
        let reset = reset.notified();
        tokio::pin!(reset);
        reset.as_mut().enable();

        let (answer, answered) = oneshot::channel();
        let (hub, me, peer) = (Arc::clone(&self.hub), self.me.clone(), to.clone());
        // A task of its own: the peer goes on when its caller stops to wait.
        self.hub.exec.spawn(Box::pin(async move {
            if let Some(delivery) = hub.deliver(&me, &peer, frame).await {
                drop(answer.send(delivery));
            }
        }));
        let outcome = async {
            match answered.await {
                Ok(Delivery::Reply(reply)) => Ok(reply),
                Ok(Delivery::Lost) => std::future::pending().await,
                Err(_) => Err(CallFailure::Unknown("connection reset".to_owned())),
            }
        };
        tokio::select! {
            biased;
            outcome = outcome => outcome,
            () = reset => Err(CallFailure::Unknown("connection reset".to_owned())),
            () = self.hub.clock.sleep(budget) => Err(CallFailure::TimedOut),
        }
    }

    fn disconnect(&self, to: &PeerAddress) {
        self.hub.reset(&self.me, to).notify_waiters();
    }

    async fn lost(&self) -> PeerAddress {
        loop {
            let ended = self.hub.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            match self.hub.ended_for(&self.me) {
                Some(peer) => return peer,
                None => ended.await,
            }
        }
    }

    async fn close(&self) {
        self.hub.stop(&self.me);
    }
}

#[cfg(test)]
mod tests {
    use kv_client::NodeId;

    use super::*;
    use crate::plug::clock::{SystemClock, TokioClock};
    use crate::plug::exec::TokioExec;
    use crate::plug::transport_contract::suite;
    use crate::wire::{Envelope, PROTOCOL_VERSION, PeerOp, PeerOut};

    struct Slow(u64);

    #[async_trait]
    impl PeerHandler for Slow {
        async fn handle(&self, request: PeerRequest) -> PeerReply {
            tokio::time::sleep(Duration::from_millis(self.0)).await;
            PeerReply { envelope: request.envelope, outs: Ok(vec![PeerOut::Done]) }
        }
    }

    fn request(budget_ms: u32) -> PeerRequest {
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            capabilities: 0,
            cluster: None,
            node: NodeId(1),
            layouts: Vec::new(),
            time: 0,
            wall_ms: 0,
            life: 0,
            position: 0,
            budget_ms,
        };
        PeerRequest { envelope, ops: vec![PeerOp::Time] }
    }

    fn network(seed: u64) -> InProcNetwork {
        InProcNetwork::new(Arc::new(TokioClock::new(0)), Arc::new(TokioExec), seed)
    }

    #[tokio::test]
    async fn passes_the_contract() {
        let clock = Arc::new(SystemClock::new());
        let network = InProcNetwork::new(clock, Arc::new(TokioExec), 1);
        let mut made = 0;
        suite(async || {
            made += 1;
            network.endpoint(format!("node {made}"))
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_is_silent_and_may_be_one_way() {
        let network = network(1);
        let (near, far) = (network.endpoint("near"), network.endpoint("far"));
        let there = far.serve(Arc::new(Slow(0))).await.expect("a free name");
        let here = near.serve(Arc::new(Slow(0))).await.expect("a free name");
        network.set_link("near", "far", LinkFaults { cut: true, ..LinkFaults::default() });
        // The request is lost in one direction, the answer in the other.
        for (from, to) in [(&near, &there), (&far, &here)] {
            let started = tokio::time::Instant::now();
            let failure = from.call(to, request(250)).await.expect_err("lost");
            assert_eq!(failure, CallFailure::TimedOut);
            assert_eq!(started.elapsed().as_millis(), 250);
        }
        network.heal();
        assert!(near.call(&there, request(250)).await.is_ok());
        network.set_cut("near", "far", true);
        assert!(far.call(&here, request(250)).await.is_err());
        network.set_cut("near", "far", false);
        assert!(far.call(&here, request(250)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn delay_and_loss_are_as_set() {
        let network = network(7);
        let (near, far) = (network.endpoint("near"), network.endpoint("far"));
        let there = far.serve(Arc::new(Slow(0))).await.expect("a free name");
        let delay =
            LinkFaults { delay_us_min: 3_000, delay_us_max: 9_000, ..LinkFaults::default() };
        network.set_all(delay);
        for _ in 0..50 {
            let started = tokio::time::Instant::now();
            near.call(&there, request(100)).await.expect("nothing is lost");
            // Timers are kept to the millisecond, rounded up, on each of the two ways.
            let took = started.elapsed().as_micros();
            assert!((6_000..=20_000).contains(&took), "{took}");
        }
        network.set_all(LinkFaults { loss_per_million: 100_000, ..LinkFaults::default() });
        let mut lost = 0;
        for _ in 0..1_000 {
            lost += usize::from(near.call(&there, request(5)).await.is_err());
        }
        // One in ten on the way there, one in ten of the rest on the way back: 190 expected.
        assert!((130..250).contains(&lost), "{lost}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_ends_what_it_worked_on_and_refuses_what_comes() {
        let network = network(1);
        let (near, far) = (network.endpoint("near"), network.endpoint("far"));
        let there = far.serve(Arc::new(Slow(500))).await.expect("a free name");
        let call = near.call(&there, request(1_000));
        let crash = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            network.crash("far");
        };
        let (ended, ()) = tokio::join!(call, crash);
        assert!(matches!(ended, Err(CallFailure::Unknown(_))));
        let refused = near.call(&there, request(1_000)).await;
        assert!(matches!(refused, Err(CallFailure::Gone(_))));
        far.serve(Arc::new(Slow(0))).await.expect("the name is free again");
        assert!(near.call(&there, request(1_000)).await.is_ok());
        assert!(far.serve(Arc::new(Slow(0))).await.is_err(), "one listener for each address");
    }
}
