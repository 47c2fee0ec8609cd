//! Senders against a transport that does as it is told, and against a network that loses.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::super::Completion;
use super::*;
use crate::cluster::record::LevelSetting;
use crate::mutation::Mutation;
use crate::plug::clock::TokioClock;
use crate::plug::exec::TokioExec;
use crate::plug::inproc::{InProcNetwork, LinkFaults};
use crate::plug::rng::{Rng, SeededRng};
use crate::plug::transport::PeerHandler;
use crate::wire::{OpFailure, PROTOCOL_VERSION, PeerOp, PeerOut, PeerReply, PeerRequest};

const PEER: NodeId = NodeId(2);

fn envelope(node: NodeId, budget_ms: u32) -> Envelope {
    Envelope {
        version: PROTOCOL_VERSION,
        capabilities: 0,
        cluster: None,
        node,
        layouts: Vec::new(),
        time: 0,
        wall_ms: 0,
        life: 0,
        position: 0,
        budget_ms,
    }
}

fn apply(key: &str) -> PeerOp {
    PeerOp::Apply {
        key: Bytes::copy_from_slice(key.as_bytes()),
        record: Bytes::new(),
        mark: 0,
        minted: false,
    }
}

fn applied() -> PeerOut {
    PeerOut::Applied { complete: true, uncovered: Vec::new(), coverage: Bytes::new() }
}

/// What each call is to come to; an honest answer when nothing is scripted.
type Script = fn(&PeerRequest) -> Result<PeerReply, CallFailure>;

/// Holds every call until it is let go, then answers by the script.
struct Told {
    go: Semaphore,
    script: Mutex<VecDeque<Script>>,
    calls: Mutex<Vec<Vec<PeerOp>>>,
    disconnects: AtomicUsize,
}

#[expect(clippy::unnecessary_wraps, reason = "it is one script among others")]
fn honest(request: &PeerRequest) -> Result<PeerReply, CallFailure> {
    let outs = request.ops.iter().map(|_| applied()).collect();
    Ok(PeerReply { envelope: envelope(PEER, 0), outs: Ok(outs) })
}

fn refused(_: &PeerRequest) -> Result<PeerReply, CallFailure> {
    Err(CallFailure::Unreachable("the handshake failed".to_owned()))
}

fn silent(_: &PeerRequest) -> Result<PeerReply, CallFailure> {
    Err(CallFailure::TimedOut)
}

#[async_trait]
impl Transport for Told {
    async fn serve(&self, _: Arc<dyn PeerHandler>) -> std::io::Result<PeerAddress> {
        Ok("here".to_owned())
    }

    async fn call(&self, _: &PeerAddress, request: PeerRequest) -> Result<PeerReply, CallFailure> {
        self.calls.lock().push(request.ops.clone());
        self.go.acquire().await.expect("never closed").forget();
        let script = self.script.lock().pop_front();
        script.unwrap_or(honest)(&request)
    }

    fn disconnect(&self, _: &PeerAddress) {
        self.disconnects.fetch_add(1, Ordering::Relaxed);
    }

    async fn lost(&self) -> PeerAddress {
        std::future::pending().await
    }

    async fn close(&self) {}
}

#[derive(Default)]
struct Heard {
    displaced: AtomicUsize,
    failed: AtomicUsize,
    answered: AtomicUsize,
    reach_changed: AtomicUsize,
}

impl PeerEvents for Heard {
    fn envelope(&self, budget_ms: u32) -> Envelope {
        envelope(NodeId(1), budget_ms)
    }

    fn answered(&self, _: NodeId, _: &Envelope, _: Option<&Refusal>, _: u64) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    fn failed(&self, _: NodeId, _: &CallFailure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn reach_changed(&self, node: NodeId) {
        assert_eq!(node, PEER);
        self.reach_changed.fetch_add(1, Ordering::Relaxed);
    }

    fn displaced(&self, expected: NodeId, found: NodeId, _: &PeerAddress) {
        assert_ne!(expected, found);
        self.displaced.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps what every operation came to; panics at a second completion.
#[derive(Default)]
struct Results(Mutex<BTreeMap<u32, Result<PeerOut, PeerFailure>>>, Mutex<Vec<u32>>);

impl Completion for Results {
    fn complete(&self, slot: u32, from: NodeId, result: Result<PeerOut, PeerFailure>) {
        assert_eq!(from, PEER);
        let before = self.0.lock().insert(slot, result);
        assert!(before.is_none(), "slot {slot} completed twice, first {before:?}");
    }

    fn stalled(&self, slot: u32, from: NodeId) {
        assert_eq!(from, PEER);
        assert!(!self.0.lock().contains_key(&slot), "slot {slot} was completed before");
        self.1.lock().push(slot);
    }
}

impl Results {
    fn stalls(&self) -> Vec<u32> {
        self.1.lock().clone()
    }

    fn count(&self) -> usize {
        self.0.lock().len()
    }

    fn failure(&self, slot: u32) -> Option<PeerFailure> {
        self.0.lock().get(&slot)?.as_ref().err().cloned()
    }

    fn ok(&self) -> usize {
        self.0.lock().values().filter(|result| result.is_ok()).count()
    }
}

struct Bench {
    told: Arc<Told>,
    heard: Arc<Heard>,
    clock: Arc<TokioClock>,
    peers: Peers,
    results: Arc<Results>,
    slots: AtomicUsize,
}

impl Bench {
    fn new(config: PeersConfig) -> Self {
        let told = Arc::new(Told {
            go: Semaphore::new(0),
            script: Mutex::default(),
            calls: Mutex::default(),
            disconnects: AtomicUsize::new(0),
        });
        let heard = Arc::new(Heard::default());
        let clock = Arc::new(TokioClock::new(0));
        let peers = Peers::new(
            config,
            Arc::clone(&told) as Arc<dyn Transport>,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(TokioExec),
            Arc::clone(&heard) as Arc<dyn PeerEvents>,
        );
        peers.set_address(PEER, "there".to_owned());
        let results = Arc::new(Results::default());
        Self { told, heard, clock, peers, results, slots: AtomicUsize::new(0) }
    }

    fn pending(&self, op: PeerOp, after_ms: u64) -> Pending {
        let slot = self.slots.fetch_add(1, Ordering::Relaxed) as u32;
        let deadline_ms = self.clock.steady_ms() + after_ms;
        Pending { op, slot, to: Arc::clone(&self.results) as Arc<dyn Completion>, deadline_ms }
    }

    fn submit(&self, op: PeerOp) {
        self.peers.submit(PEER, vec![self.pending(op, 10_000)]);
    }

    fn script(&self, answers: &[Script]) {
        self.told.script.lock().extend(answers);
    }

    /// Lets calls go and everything that follows happen.
    async fn go(&self, calls: usize) {
        self.told.go.add_permits(calls);
        settle().await;
    }

    fn call_sizes(&self) -> Vec<usize> {
        self.told.calls.lock().iter().map(Vec::len).collect()
    }
}

async fn settle() {
    // Longer than any zero-time chain of tasks here; time itself is paused.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_gathers_behind_calls_in_flight_goes_as_few_calls_in_order() {
    let bench = Bench::new(PeersConfig::default());
    for first in 0..4 {
        bench.submit(apply(&format!("{first:03}")));
        settle().await;
    }
    assert_eq!(bench.call_sizes(), [1, 1, 1, 1], "nothing waits while calls may go");
    for later in 4..204 {
        bench.submit(apply(&format!("{later:03}")));
    }
    settle().await;
    assert_eq!(bench.call_sizes().len(), 4, "no more than four calls in flight");
    bench.go(100).await;
    assert_eq!(bench.call_sizes(), [1, 1, 1, 1, 64, 64, 64, 8]);
    assert_eq!(bench.results.ok(), 204);
    let sent: Vec<_> = bench.told.calls.lock().concat();
    let keys = sent.iter().map(|op| match op {
        PeerOp::Apply { key, .. } => key.clone(),
        other => panic!("{other:?} was never submitted"),
    });
    assert!(keys.eq((0..204).map(|number| Bytes::from(format!("{number:03}")))));
    let status = bench.peers.status(PEER).expect("a known peer");
    assert_eq!((status.calls, status.ops, status.calls_in_flight), (8, 204, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_full_by_bytes_too_and_a_large_operation_goes_alone() {
    let config = PeersConfig { calls_in_flight_max: 1, ..PeersConfig::default() };
    let bench = Bench::new(config);
    let sized = |bytes| PeerOp::Read { key: Bytes::from(vec![0; bytes]), have: None };
    bench.submit(sized(1));
    settle().await;
    for bytes in [10_000, 10_000, 10_000, 10_000, 100_000, 5] {
        bench.submit(sized(bytes));
    }
    bench.go(10).await;
    assert_eq!(bench.call_sizes(), [1, 3, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn bounds_of_a_queue_refuse_at_once_and_the_rest_goes_on() {
    let config = PeersConfig {
        calls_in_flight_max: 1,
        peer_queue_ops_max: 3,
        peer_queue_bytes_max: 10_000,
        op_bytes_max: 50_000,
        ..PeersConfig::default()
    };
    let bench = Bench::new(config);
    bench.submit(apply("in flight"));
    settle().await;
    for _ in 0..5 {
        bench.submit(apply("queued"));
    }
    assert_eq!(bench.results.count(), 2);
    assert_eq!(bench.results.failure(4), Some(PeerFailure::QueueFull));
    assert!(bench.results.failure(5).is_some_and(|failure| failure.without_effect()));
    bench.go(10).await;
    assert_eq!(bench.results.ok(), 4);
    bench.submit(PeerOp::Gossip(Bytes::from(vec![0; 10_000])));
    assert_eq!(bench.results.failure(6), Some(PeerFailure::QueueFull), "by bytes");
    bench.submit(PeerOp::Gossip(Bytes::from(vec![0; 60_000])));
    assert!(matches!(bench.results.failure(7), Some(PeerFailure::Op(OpFailure::Refused(_)))));
}

#[tokio::test(start_paused = true)]
async fn forwarded_writes_never_stand_before_copies() {
    let bench = Bench::new(PeersConfig::default());
    for operation in 0..1_000 {
        bench.submit(PeerOp::Forward {
            operation,
            key: Bytes::new(),
            mutation: Mutation::Delete,
            write: LevelSetting::Copies(2),
            read: LevelSetting::Copies(2),
            zone: None,
            above_ms: 0,
        });
    }
    settle().await;
    let hanging = bench.call_sizes().len();
    assert_eq!(hanging, PeersConfig::default().work_calls_in_flight_max);
    bench.submit(apply("copy"));
    bench.submit(PeerOp::Gossip(Bytes::new()));
    settle().await;
    let calls = bench.told.calls.lock();
    assert!(calls.iter().any(|ops| matches!(ops.as_slice(), [PeerOp::Apply { .. }])));
    assert!(calls.iter().any(|ops| matches!(ops.as_slice(), [PeerOp::Gossip(_)])));
}

#[tokio::test(start_paused = true)]
async fn one_submission_may_be_for_several_lanes() {
    let bench = Bench::new(PeersConfig::default());
    let ops = vec![apply("a"), PeerOp::Count, apply("b"), PeerOp::Time, apply("c")];
    let ops = ops.into_iter().map(|op| bench.pending(op, 1_000)).collect();
    bench.peers.submit(PEER, ops);
    bench.go(10).await;
    assert_eq!(bench.results.ok(), 5);
    assert_eq!(bench.call_sizes(), [3, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_refuses_is_backed_off_from_and_only_probed_until_it_answers() {
    let bench = Bench::new(PeersConfig::default());
    bench.script(&[refused, refused]);
    bench.submit(apply("tried"));
    bench.go(100).await;
    let not_sent = bench.results.failure(0).expect("refused");
    assert!(matches!(not_sent, PeerFailure::Call(CallFailure::Unreachable(_))));
    bench.submit(apply("not tried"));
    assert_eq!(bench.results.failure(1), Some(PeerFailure::NotConnected), "at once");
    assert_eq!(bench.call_sizes().len(), 1);
    tokio::time::sleep(Duration::from_millis(140)).await;
    let calls = bench.told.calls.lock().clone();
    assert!(matches!(calls.last().map(Vec::as_slice), Some([PeerOp::Time])), "{calls:?}");
    // The second failure in a row doubles the time.
    let status = bench.peers.status(PEER).expect("a known peer");
    assert!((51..=100).contains(&status.backed_off_ms), "{}", status.backed_off_ms);
    assert!(matches!(status.last_failure, Some(CallFailure::Unreachable(_))));
    bench.submit(apply("not tried"));
    assert_eq!(bench.results.failure(2), Some(PeerFailure::NotConnected));
    assert_eq!(calls.len(), bench.call_sizes().len());
    // It calls us itself: it is there again.
    bench.peers.note(PEER, Sign::Called);
    settle().await;
    bench.submit(apply("answered"));
    settle().await;
    assert_eq!(bench.results.ok(), 1);
    assert_eq!(bench.peers.status(PEER).expect("known").last_failure, None);
    assert_eq!(bench.heard.failed.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_fails_what_is_queued_behind_it() {
    let config = PeersConfig { calls_in_flight_max: 1, ..PeersConfig::default() };
    let bench = Bench::new(config);
    bench.script(&[refused]);
    bench.submit(apply("tried"));
    settle().await;
    bench.submit(apply("behind"));
    bench.go(1).await;
    assert_eq!(bench.results.failure(1), Some(PeerFailure::NotConnected));
    assert_eq!(bench.call_sizes(), [1]);
}

#[tokio::test(start_paused = true)]
async fn timeouts_in_a_row_drop_the_connection_and_an_answer_between_forgives() {
    let bench = Bench::new(PeersConfig::default());
    let disconnects = || bench.told.disconnects.load(Ordering::Relaxed);
    for script in [silent, honest, silent] {
        bench.script(&[script]);
        bench.submit(apply("k"));
        bench.go(1).await;
    }
    assert_eq!(disconnects(), 0);
    bench.script(&[silent]);
    bench.submit(apply("k"));
    bench.go(1).await;
    assert_eq!(disconnects(), 1);
    assert_eq!(bench.results.ok(), 1);
    let failure = bench.results.failure(3).expect("timed out");
    assert!(!failure.without_effect(), "it may have been acted on");
}

#[tokio::test(start_paused = true)]
async fn the_time_without_an_answer_counts_from_the_oldest_call_and_ends_with_any_answer() {
    let config = PeersConfig { link_down_ms: 60_000, ..PeersConfig::default() };
    let bench = Bench::new(config);
    let unanswered = || bench.peers.status(PEER).expect("known").unanswered_ms;
    assert_eq!(unanswered(), 0);
    bench.submit(apply("a"));
    settle().await;
    tokio::time::advance(Duration::from_millis(700)).await;
    bench.submit(apply("b"));
    settle().await;
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(unanswered(), 1_200);
    bench.go(1).await;
    assert_eq!(unanswered(), 0, "something was heard");
    tokio::time::advance(Duration::from_millis(40)).await;
    assert_eq!(unanswered(), 40, "the other is still out");
    bench.go(1).await;
    tokio::time::advance(Duration::from_millis(40)).await;
    assert_eq!(unanswered(), 0);
    assert!(bench.peers.status(PEER).expect("known").call_us.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_is_not_sent() {
    let config = PeersConfig { calls_in_flight_max: 1, ..PeersConfig::default() };
    let bench = Bench::new(config);
    bench.submit(apply("in flight"));
    settle().await;
    let ops = vec![bench.pending(apply("late"), 30), bench.pending(apply("in time"), 300)];
    bench.peers.submit(PEER, ops);
    tokio::time::advance(Duration::from_millis(100)).await;
    bench.go(10).await;
    let late = bench.results.failure(1).expect("its deadline passed");
    assert_eq!(late, PeerFailure::Expired);
    assert!(late.without_effect() && !late.means_down(), "an overloaded lane is no dead peer");
    assert_eq!((bench.results.ok(), bench.peers.down()), (2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_match_the_question_are_no_answers() {
    let bench = Bench::new(PeersConfig::default());
    bench.script(&[
        |_| Ok(PeerReply { envelope: envelope(PEER, 0), outs: Ok(vec![applied(), applied()]) }),
        |_| Ok(PeerReply { envelope: envelope(NodeId(9), 0), outs: Ok(vec![applied()]) }),
        |_| Ok(PeerReply { envelope: envelope(PEER, 0), outs: Err(Refusal::Loading) }),
        |_| {
            let failed = PeerOut::Failed(OpFailure::Malformed);
            Ok(PeerReply { envelope: envelope(PEER, 0), outs: Ok(vec![failed]) })
        },
    ]);
    for _ in 0..4 {
        bench.submit(apply("k"));
        bench.go(1).await;
    }
    let expected = [
        PeerFailure::Confused,
        PeerFailure::Confused,
        PeerFailure::Refused(Refusal::Loading),
        PeerFailure::Op(OpFailure::Malformed),
    ];
    for (slot, expected) in expected.into_iter().enumerate() {
        assert_eq!(bench.results.failure(slot as u32), Some(expected));
    }
    assert_eq!(bench.heard.displaced.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn whatever_stops_a_sender_every_operation_is_completed() {
    let config = PeersConfig { calls_in_flight_max: 1, ..PeersConfig::default() };
    let bench = Bench::new(config);
    bench.submit(apply("in flight"));
    settle().await;
    bench.submit(apply("queued"));
    bench.peers.remove(PEER);
    assert_eq!(bench.results.failure(1), Some(PeerFailure::NotConnected));
    bench.submit(apply("unknown peer"));
    assert_eq!(bench.results.failure(2), Some(PeerFailure::NotConnected));
    bench.go(1).await;
    assert_eq!(bench.results.ok(), 1, "what was in flight may still be answered");
    assert_eq!(bench.peers.status(PEER), None);
}

#[test]
fn a_runtime_that_goes_away_completes_what_was_in_flight() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let bench = runtime.block_on(async {
        let bench = Bench::new(PeersConfig::default());
        bench.submit(apply("in flight"));
        settle().await;
        bench
    });
    assert_eq!(bench.results.count(), 0);
    drop(runtime);
    let failure = bench.results.failure(0).expect("completed all the same");
    assert!(!failure.without_effect(), "it may have been acted on");
}

struct Yes;

#[async_trait]
impl PeerHandler for Yes {
    async fn handle(&self, request: PeerRequest) -> PeerReply {
        let outs = request.ops.iter().map(|_| applied()).collect();
        PeerReply { envelope: envelope(PEER, 0), outs: Ok(outs) }
    }
}

/// One sender over a network that delays, loses, cuts and loses the peer; answers how many
/// operations succeeded, and the trace.
async fn storm(seed: u64) -> (usize, u64) {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new(0));
    let network = InProcNetwork::new(Arc::clone(&clock), Arc::new(TokioExec), seed);
    let near = Arc::new(network.endpoint("near"));
    let far = network.endpoint("far");
    far.serve(Arc::new(Yes)).await.expect("a free name");
    network.set_all(LinkFaults {
        delay_us_min: 50,
        delay_us_max: 5_000,
        loss_per_million: 20_000,
        cut: false,
    });
    let peers = Peers::new(
        PeersConfig::default(),
        near,
        Arc::clone(&clock),
        Arc::new(TokioExec),
        Arc::new(Heard::default()),
    );
    peers.set_address(PEER, "far".to_owned());
    let results = Arc::new(Results::default());
    let rng = SeededRng::new(seed);
    let mut slot = 0;
    for round in 0..100 {
        let ops = (0..rng.next_u64() % 40).map(|_| {
            slot += 1;
            let to = Arc::clone(&results) as Arc<dyn Completion>;
            Pending { op: apply("k"), slot, to, deadline_ms: clock.steady_ms() + 80 }
        });
        let ops = ops.collect();
        peers.submit(PEER, ops);
        match round {
            30 => network.set_cut("near", "far", true),
            45 => network.heal(),
            60 => network.crash("far"),
            75 => drop(far.serve(Arc::new(Yes)).await),
            _ => {}
        }
        clock.sleep(Duration::from_micros(rng.next_u64() % 8_000)).await;
    }
    clock.sleep(Duration::from_secs(2)).await;
    assert_eq!(results.count(), slot as usize, "seed {seed}: every operation is completed");
    (results.ok(), network.trace_hash())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_or_doubled_in_a_storm_and_a_seed_replays_it() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (ok, trace) = storm(seed).await;
        assert!(ok > 500, "seed {seed}: only {ok} got through");
        assert_eq!(storm(seed).await, (ok, trace), "seed {seed} replays");
        traces.insert(trace);
    }
    assert_eq!(traces.len(), 20, "seeds differ");
}

#[path = "peer_tests/down.rs"]
mod down;
