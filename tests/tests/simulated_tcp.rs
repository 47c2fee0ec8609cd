//! The peers' protocol over simulated TCP: handshake, frames, tarpc's calls and their deadlines, as
//! production stacks them, over a network whose time and faults a seed decides (turmoil).
//!
//! The simulation of whole clusters carries peer calls itself, without tarpc; this is where tarpc
//! meets a network that is cut. What it must show: answers come back to their calls, a deadline
//! ends a call under a cut, and a connection that lived through a cut is not to be trusted, a
//! fresh one is. That last is why a peer whose calls time out is dialled anew.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kv_client::codec::{FRAME_BYTES_MAX_DEFAULT, framed};
use kv_client::service::{ServeLimits, serve};
use kv_client::{ClusterId, NodeId, Role, Secret, handshake};
use kv_node::rpc::codec::Ops;
use kv_node::rpc::service::{PeerService, PeerServiceClient};
use kv_node::wire::{Envelope, PROTOCOL_VERSION, PeerOp, PeerOut, PeerReply};
use tarpc::client::RpcError;
use tarpc::context::Context;
use turmoil::net::{TcpListener, TcpStream};

const PORT: u16 = 7_100;
const CALLS: u32 = 200;
const DEADLINE: Duration = Duration::from_secs(2);
/// A step of the simulation is one millisecond, and a timer fires with the step behind it.
const STEPS_MS: u64 = 3;

/// What happened in a run: milliseconds of the simulation, and what.
type Trace = Rc<RefCell<Vec<(u64, String)>>>;

/// Answers each operation with how many came in its call before it.
#[derive(Clone)]
struct Counting;

impl PeerService for Counting {
    async fn call(self, _: Context, envelope: Envelope, ops: Ops) -> PeerReply {
        let outs = (0..ops.into_vec().len() as u64).map(PeerOut::Count).collect();
        PeerReply { envelope, outs: Ok(outs) }
    }
}

fn envelope(time: u64) -> Envelope {
    Envelope {
        version: PROTOCOL_VERSION,
        capabilities: 0,
        cluster: Some(ClusterId(7)),
        node: NodeId(1),
        layouts: Vec::new(),
        time,
        life: 1,
        wall_ms: 0,
        position: 0,
        budget_ms: 2_000,
    }
}

fn secret(name: &str) -> Secret {
    Secret::new(name.as_bytes())
}

async fn serve_peers() -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let peers_only = |role| role == Role::Peer;
            let nonce = handshake::nonce().expect("random bytes");
            let greeted = handshake::accept(&mut stream, &secret("ours"), peers_only, nonce).await;
            if greeted.is_ok() {
                serve(stream, ServeLimits::default(), Counting.serve()).await;
            }
        });
    }
}

async fn dial(name: &str) -> Result<PeerServiceClient, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(("node", PORT)).await?;
    handshake::dial(&mut stream, &secret(name), Role::Peer, handshake::nonce()?).await?;
    let new = PeerServiceClient::new(
        tarpc::client::Config::default(),
        framed(stream, FRAME_BYTES_MAX_DEFAULT),
    );
    tokio::spawn(new.dispatch);
    Ok(new.client)
}

/// One call with as many operations as `ops`; how many were answered in their order.
async fn call(peer: &PeerServiceClient, turn: u32, ops: usize) -> Result<usize, RpcError> {
    let mut context = tarpc::context::current();
    context.deadline = Instant::now() + DEADLINE;
    let asked = Ops::new((0..ops).map(|_| PeerOp::Count).collect()).expect("few operations");
    let reply = peer.call(context, envelope(u64::from(turn)), asked).await?;
    assert_eq!(reply.envelope.time, u64::from(turn), "the answer to another call");
    let in_order =
        |(at, out): &(usize, PeerOut)| matches!(out, PeerOut::Count(n) if *n == *at as u64);
    let outs = reply.outs.expect("nobody refuses");
    Ok(outs.into_iter().enumerate().filter(in_order).count())
}

async fn client(trace: Trace) -> turmoil::Result {
    let note = |what: String| {
        trace.borrow_mut().push((turmoil::elapsed().as_millis() as u64, what));
    };
    assert!(dial("another").await.is_err(), "another secret is refused");
    let peer = dial("ours").await?;
    for turn in 0..CALLS {
        let ops = 1 + turn as usize % 7;
        assert_eq!(call(&peer, turn, ops).await?, ops);
        note(format!("call {turn}"));
    }

    turmoil::partition("client", "node");
    let before = turmoil::elapsed();
    let under_a_cut = call(&peer, CALLS, 1).await;
    let took_ms = turmoil::elapsed().saturating_sub(before).as_millis() as u64;
    assert!(matches!(under_a_cut, Err(RpcError::DeadlineExceeded)), "{under_a_cut:?}");
    let deadline_ms = DEADLINE.as_millis() as u64;
    assert!((deadline_ms..=deadline_ms + STEPS_MS).contains(&took_ms), "after {took_ms} ms");
    note("ended by its deadline".into());

    turmoil::repair("client", "node");
    let old = call(&peer, CALLS + 1, 1).await;
    note(format!("healed, the old connection answers: {}", old.is_ok()));
    assert_eq!(call(&dial("ours").await?, CALLS + 2, 3).await?, 3);
    note("healed, a fresh one answers".into());
    Ok(())
}

fn run(seed: u64) -> Vec<(u64, String)> {
    let trace = Trace::default();
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .simulation_duration(Duration::from_mins(1))
        .build();
    sim.host("node", serve_peers);
    sim.client("client", client(Rc::clone(&trace)));
    sim.run().expect("every line of the client holds");
    drop(sim);
    trace.take()
}

#[test]
fn tarpc_keeps_its_promises_over_a_network_that_is_cut() {
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(one.len(), CALLS as usize + 3);
    assert_eq!(one, again, "the same seed is the same run");
    assert_ne!(one, other, "another seed is another run");
}
