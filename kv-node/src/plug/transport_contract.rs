//! The contract of `Transport`, as one suite that every transport passes.
//!
//! A transport of somebody else's calls `suite` from a test with a way to make endpoints that can
//! reach each other. Each check says in its panic what was broken. Times are real and short.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use kv_client::NodeId;

use super::transport::{PeerAddress, PeerHandler, Transport};
use crate::wire::{
    CallFailure, Envelope, PROTOCOL_VERSION, PeerOp, PeerOut, PeerReply, PeerRequest,
};

/// Runs every check, each between two endpoints that `fresh` makes.
///
/// # Panics
/// When the transport breaks the contract.
pub async fn suite<T: Transport>(mut fresh: impl AsyncFnMut() -> T) {
    answers_in_order(&fresh().await, &fresh().await).await;
    refuses_where_nobody_listens(&fresh().await, &fresh().await).await;
    a_slow_answer_times_out_and_hurts_no_other(&fresh().await, &fresh().await).await;
    disconnecting_ends_calls_and_the_next_dials_anew(&fresh().await, &fresh().await).await;
    closing_ends_calls(&fresh().await, &fresh().await).await;
    the_end_of_a_connection_is_told_once(&fresh().await, &fresh().await).await;
    what_does_not_fit_is_not_sent(&fresh().await, &fresh().await).await;
    an_answer_that_does_not_fit_fails_alone(&fresh().await, &fresh().await).await;
}

/// Answers by the operation: `Count` its place in the call, `Flush` after as many milliseconds as
/// its mark says, `Explain` as many bytes as its key says, the rest `Done`.
struct Echo;

const ECHO: NodeId = NodeId(77);

#[async_trait]
impl PeerHandler for Echo {
    async fn handle(&self, request: PeerRequest) -> PeerReply {
        let mut outs = Vec::new();
        for (place, op) in request.ops.into_iter().enumerate() {
            outs.push(match op {
                PeerOp::Count => PeerOut::Count(place as u64),
                PeerOp::Flush { mark, .. } => {
                    tokio::time::sleep(Duration::from_millis(mark)).await;
                    PeerOut::Done
                }
                PeerOp::Explain { key } => {
                    let length = std::str::from_utf8(&key).ok().and_then(|key| key.parse().ok());
                    PeerOut::Text("x".repeat(length.unwrap_or(0)))
                }
                PeerOp::Read { key, .. } => {
                    PeerOut::Record { complete: true, mark: 7, record: key }
                }
                _ => PeerOut::Done,
            });
        }
        PeerReply { envelope: envelope(ECHO, request.envelope.budget_ms), outs: Ok(outs) }
    }
}

fn envelope(node: NodeId, budget_ms: u32) -> Envelope {
    Envelope {
        version: PROTOCOL_VERSION,
        capabilities: 0,
        cluster: None,
        node,
        layouts: Vec::new(),
        time: 5,
        wall_ms: 5,
        life: 5,
        position: 5,
        budget_ms,
    }
}

fn request(budget_ms: u32, ops: Vec<PeerOp>) -> PeerRequest {
    PeerRequest { envelope: envelope(NodeId(1), budget_ms), ops }
}

async fn listen(transport: &impl Transport) -> PeerAddress {
    transport.serve(Arc::new(Echo)).await.expect("an endpoint can listen")
}

async fn works(from: &impl Transport, to: &PeerAddress) {
    let reply = from.call(to, request(2_000, vec![PeerOp::Count])).await;
    let outs = reply.expect("a listening peer answers").outs.expect("and does not refuse");
    assert!(matches!(outs.as_slice(), [PeerOut::Count(0)]), "one operation, one answer: {outs:?}");
}

async fn answers_in_order(near: &impl Transport, far: &impl Transport) {
    let to = listen(far).await;
    let key = Bytes::from(vec![7; 100_000]);
    let ops = vec![PeerOp::Time, PeerOp::Count, PeerOp::Read { key: key.clone(), have: Some(1) }];
    let reply = near.call(&to, request(2_000, ops)).await.expect("a listening peer answers");
    assert_eq!(reply.envelope, envelope(ECHO, 2_000), "envelopes arrive whole");
    let outs = reply.outs.expect("not refused");
    let [PeerOut::Done, PeerOut::Count(1), PeerOut::Record { record, complete: true, mark: 7 }] =
        outs.as_slice()
    else {
        panic!("answers come in the order of the operations: {outs:?}");
    };
    assert_eq!(*record, key, "bytes arrive whole");
    close_both(near, far).await;
}

async fn refuses_where_nobody_listens(near: &impl Transport, far: &impl Transport) {
    let to = listen(far).await;
    far.close().await;
    let failure = near.call(&to, request(1_000, vec![PeerOp::Count])).await;
    let failure = failure.expect_err("nobody is there");
    assert!(matches!(failure, CallFailure::Gone(_)), "nobody was there to act: {failure}");
    close_both(near, far).await;
}

async fn a_slow_answer_times_out_and_hurts_no_other(near: &impl Transport, far: &impl Transport) {
    let to = listen(far).await;
    works(near, &to).await;
    let started = Instant::now();
    let slow = near.call(&to, request(60, vec![PeerOp::Flush { keyspace: 0, mark: 400 }]));
    let quick = async {
        works(near, &to).await;
        started.elapsed()
    };
    let (slow, quick) = tokio::join!(slow, quick);
    let failure = slow.expect_err("the answer comes after the budget");
    assert_eq!(failure, CallFailure::TimedOut);
    assert!(started.elapsed() < Duration::from_millis(350), "a call ends with its budget");
    assert!(quick < Duration::from_millis(350), "calls do not wait for each other");
    works(near, &to).await;
    close_both(near, far).await;
}

async fn disconnecting_ends_calls_and_the_next_dials_anew(
    near: &impl Transport,
    far: &impl Transport,
) {
    let to = listen(far).await;
    works(near, &to).await;
    let started = Instant::now();
    let slow = near.call(&to, request(3_000, vec![PeerOp::Flush { keyspace: 0, mark: 2_500 }]));
    let cut = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        near.disconnect(&to);
    };
    let (slow, ()) = tokio::join!(slow, cut);
    let failure = slow.expect_err("its connection is gone");
    assert!(!failure.without_effect(), "the peer may have acted: {failure}");
    assert!(started.elapsed() < Duration::from_secs(1), "a dropped connection ends its calls");
    works(near, &to).await;
    close_both(near, far).await;
}

async fn closing_ends_calls(near: &impl Transport, far: &impl Transport) {
    let to = listen(far).await;
    works(near, &to).await;
    let started = Instant::now();
    let slow = near.call(&to, request(3_000, vec![PeerOp::Flush { keyspace: 0, mark: 2_500 }]));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        far.close().await;
    };
    let (slow, ()) = tokio::join!(slow, stop);
    let failure = slow.expect_err("the peer is gone");
    assert!(!failure.without_effect(), "the peer may have acted: {failure}");
    assert!(started.elapsed() < Duration::from_secs(1), "a stopped peer ends its calls");
    // A call may still go out on the connection that is ending, and is unknown then; soon none
    // does.
    let mut failures = Vec::new();
    for _ in 0..20 {
        let failure = near.call(&to, request(1_000, vec![PeerOp::Count])).await;
        failures.push(failure.expect_err("nobody is there"));
        if failures.last().is_some_and(CallFailure::without_effect) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = failures.last().expect("it was called");
    assert!(last.without_effect(), "nobody is there to act: {failures:?}");
    close_both(near, far).await;
}

async fn the_end_of_a_connection_is_told_once(near: &impl Transport, far: &impl Transport) {
    let to = listen(far).await;
    works(near, &to).await;
    let told = |ms| tokio::time::timeout(Duration::from_millis(ms), near.lost());
    // What ended before is told too.
    while told(20).await.is_ok() {}
    far.close().await;
    assert_eq!(told(1_000).await.as_ref(), Ok(&to));
    assert!(told(50).await.is_err(), "once");
    close_both(near, far).await;
}

async fn what_does_not_fit_is_not_sent(near: &impl Transport, far: &impl Transport) {
    let to = listen(far).await;
    works(near, &to).await;
    let key = Bytes::from(vec![0; 17 * 1024 * 1024]);
    let failure = near.call(&to, request(5_000, vec![PeerOp::Read { key, have: None }])).await;
    let failure = failure.expect_err("it is over every default frame limit");
    assert!(failure.without_effect(), "it was not sent: {failure}");
    works(near, &to).await;
    close_both(near, far).await;
}

async fn an_answer_that_does_not_fit_fails_alone(near: &impl Transport, far: &impl Transport) {
    let to = listen(far).await;
    let key = Bytes::from((17 * 1024 * 1024).to_string());
    let reply = near.call(&to, request(5_000, vec![PeerOp::Explain { key }, PeerOp::Time])).await;
    let outs = reply.expect("the connection goes on").outs.expect("not refused");
    let failed = |out: &PeerOut| matches!(out, PeerOut::Failed(_));
    assert!(outs.len() == 2 && outs.iter().all(failed), "each operation is told: {outs:?}");
    works(near, &to).await;
    close_both(near, far).await;
}

async fn close_both(near: &impl Transport, far: &impl Transport) {
    near.close().await;
    far.close().await;
}
