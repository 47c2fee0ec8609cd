//! Who counts as down for requests: peers that are silent, slow, or refuse.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_silent_for_long_counts_as_down_until_it_answers_anything() {
    let config = PeersConfig { calls_in_flight_max: 1, ..PeersConfig::default() };
    let bench = Bench::new(config);
    let changes = || bench.heard.reach_changed.load(Ordering::Relaxed);
    bench.submit(apply("in flight"));
    settle().await;
    bench.submit(apply("queued"));
    tokio::time::sleep(Duration::from_millis(990)).await;
    assert_eq!((bench.peers.down(), bench.results.stalls()), (vec![], vec![]), "not yet");
    tokio::time::sleep(Duration::from_millis(140)).await;
    assert_eq!(bench.peers.down(), [PEER]);
    assert!(bench.peers.status(PEER).expect("known").down);
    assert_eq!(bench.results.stalls(), [0], "who waits is told, and may have the answer yet");
    let not_sent = bench.results.failure(1).expect("what was not sent will not be");
    assert!(not_sent.without_effect() && not_sent.means_down(), "{not_sent:?}");
    bench.submit(apply("late"));
    assert_eq!(bench.results.failure(2), Some(not_sent), "and what comes later fails at once");
    assert_eq!((bench.results.count(), changes()), (2, 1));
    // The first call and the probes are let go: the first answer is enough.
    bench.go(1).await;
    assert_eq!((bench.peers.down(), changes()), (vec![], 2));
    bench.go(100).await;
    bench.submit(apply("later"));
    settle().await;
    assert_eq!(bench.results.ok(), 2);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((bench.results.stalls().len(), changes()), (1, 2), "an idle peer is not down");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_counts_whoever_made_it_and_whenever_it_ended() {
    let bench = Bench::new(PeersConfig::default());
    let quiet = || tokio::time::sleep(Duration::from_millis(600));
    quiet().await;
    bench.submit(apply("answered"));
    bench.go(1).await;
    let now_us = || bench.clock.steady_us();
    bench.peers.note(PEER, Sign::Unanswered { sent_us: now_us() - 500_000 });
    quiet().await;
    assert_eq!(bench.call_sizes(), [1], "it has answered since");
    bench.peers.note(PEER, Sign::Unanswered { sent_us: now_us() - 500_000 });
    tokio::time::sleep(Duration::from_millis(130)).await;
    assert_eq!(bench.call_sizes(), [1, 1], "a probe");
    quiet().await;
    assert_eq!(bench.peers.down(), [PEER]);
    bench.go(100).await;
    assert_eq!(bench.peers.down(), []);
    // The deadline of the only call passes long before the peer counts as down.
    bench.script(&[silent]);
    bench.submit(apply("short of time"));
    bench.go(0).await;
    bench.told.go.forget_permits(1_000);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(bench.peers.down(), [PEER]);
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_write_has_the_peer_probed() {
    let bench = Bench::new(PeersConfig::default());
    bench.submit(PeerOp::Forward {
        operation: 1,
        key: Bytes::new(),
        mutation: Mutation::Delete,
        write: LevelSetting::Copies(2),
        read: LevelSetting::Copies(2),
        zone: None,
        above_ms: 0,
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((bench.call_sizes().len(), bench.peers.down()), (2, vec![]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((bench.peers.down(), bench.results.stalls()), (vec![PEER], vec![0]));
}

#[tokio::test(start_paused = true)]
async fn who_stood_still_himself_does_not_blame_the_others() {
    let bench = Bench::new(PeersConfig::default());
    bench.submit(apply("in flight"));
    settle().await;
    // All timers are late at once, as after SIGSTOP.
    tokio::time::advance(Duration::from_secs(30)).await;
    settle().await;
    assert_eq!((bench.peers.down(), bench.results.stalls()), (vec![], vec![]));
    bench.go(100).await;
    assert_eq!(bench.results.ok(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_only_slow_does_not_count_as_down() {
    let network = InProcNetwork::new(Arc::new(TokioClock::new(0)), Arc::new(TokioExec), 3);
    let there = network.endpoint("there");
    there.serve(Arc::new(SlowDisk)).await.expect("a free name");
    let heard = Arc::new(Heard::default());
    let peers = Peers::new(
        PeersConfig::default(),
        Arc::new(network.endpoint("here")),
        Arc::new(TokioClock::new(0)),
        Arc::new(TokioExec),
        Arc::clone(&heard) as Arc<dyn PeerEvents>,
    );
    peers.set_address(PEER, "there".to_owned());
    let results = Arc::new(Results::default());
    let to = Arc::clone(&results) as Arc<dyn Completion>;
    peers.submit(PEER, vec![Pending { op: apply("k"), slot: 0, to, deadline_ms: 5_000 }]);
    tokio::time::sleep(Duration::from_millis(3_900)).await;
    assert_eq!((results.count(), results.stalls().len()), (0, 0), "it answers what needs no disk");
    assert_eq!(heard.reach_changed.load(Ordering::Relaxed), 0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(results.ok(), 1);
}

/// Answers what needs its disk after four seconds, and the rest at once.
struct SlowDisk;

#[async_trait]
impl PeerHandler for SlowDisk {
    async fn handle(&self, request: PeerRequest) -> PeerReply {
        let mut outs = Vec::new();
        for op in &request.ops {
            if matches!(op, PeerOp::Apply { .. }) {
                tokio::time::sleep(Duration::from_secs(4)).await;
                outs.push(applied());
            } else {
                outs.push(PeerOut::Time(0));
            }
        }
        PeerReply { envelope: envelope(PEER, 0), outs: Ok(outs) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_refuses_is_down_at_once_and_up_as_soon_as_it_is_back() {
    let network = InProcNetwork::new(Arc::new(TokioClock::new(0)), Arc::new(TokioExec), 4);
    let there = network.endpoint("there");
    there.serve(Arc::new(SlowDisk)).await.expect("a free name");
    let peers = Peers::new(
        PeersConfig::default(),
        Arc::new(network.endpoint("here")),
        Arc::new(TokioClock::new(0)),
        Arc::new(TokioExec),
        Arc::new(Heard::default()),
    );
    peers.set_address(PEER, "there".to_owned());
    let results = Arc::new(Results::default());
    let to = Arc::clone(&results) as Arc<dyn Completion>;
    peers.submit(PEER, vec![Pending { op: apply("k"), slot: 0, to, deadline_ms: 5_000 }]);
    tokio::time::sleep(Duration::from_millis(10)).await;
    network.crash("there");
    // The call ends with the connection; dialling anew shows that the process is gone.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let lost = results.failure(0).expect("the connection is gone");
    assert!(matches!(lost, PeerFailure::Call(CallFailure::Unknown(_))), "{lost:?}");
    assert_eq!(peers.down(), [PEER]);
    let to = Arc::clone(&results) as Arc<dyn Completion>;
    peers.submit(PEER, vec![Pending { op: PeerOp::Time, slot: 1, to, deadline_ms: 5_000 }]);
    let gone = results.failure(1).expect("it is backed off from");
    assert!(matches!(gone, PeerFailure::Call(CallFailure::Gone(_))), "{gone:?}");
    // Nobody sends it anything, and yet its return is seen: by its own call, or by a probe.
    tokio::time::sleep(Duration::from_secs(20)).await;
    there.serve(Arc::new(SlowDisk)).await.expect("the name is free again");
    assert_eq!(peers.down(), [PEER]);
    peers.note(PEER, Sign::Called);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(peers.down(), []);
    network.crash("there");
    peers.note(PEER, Sign::Refused(CallFailure::Gone("connection refused".to_owned())));
    assert_eq!(peers.down(), [PEER], "another way saw it refuse");
    there.serve(Arc::new(SlowDisk)).await.expect("the name is free again");
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(peers.down(), [], "it is probed again and again");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dies_is_missed_before_anybody_asks_it_for_anything() {
    let network = InProcNetwork::new(Arc::new(TokioClock::new(0)), Arc::new(TokioExec), 5);
    let there = network.endpoint("there");
    there.serve(Arc::new(Yes)).await.expect("a free name");
    let clock = Arc::new(TokioClock::new(0));
    let peers = Peers::new(
        PeersConfig::default(),
        Arc::new(network.endpoint("here")),
        clock,
        Arc::new(TokioExec),
        Arc::new(Heard::default()),
    );
    peers.set_address(PEER, "there".to_owned());
    let results = Arc::new(Results::default());
    let to = Arc::clone(&results) as Arc<dyn Completion>;
    peers.submit(PEER, vec![Pending { op: apply("k"), slot: 0, to, deadline_ms: 5_000 }]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((results.ok(), peers.down()), (1, vec![]));
    network.crash("there");
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(peers.down(), [PEER]);
}
