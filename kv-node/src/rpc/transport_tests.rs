//! The transport passes the contract, refuses strangers, and both transports agree.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::plug::transport_contract::suite;
use crate::wire::{Envelope, PROTOCOL_VERSION, PeerOp};

fn config(secret: &str) -> TarpcConfig {
    let mut config = TarpcConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.secret = Secret::new(secret);
    config.bind_source = Some(IpAddr::from([127, 0, 0, 1]));
    config.handshake_ms_max = 100;
    config
}

struct Nobody;

#[async_trait]
impl PeerHandler for Nobody {
    async fn handle(&self, request: PeerRequest) -> PeerReply {
        PeerReply { envelope: request.envelope, outs: Ok(Vec::new()) }
    }
}

fn request() -> PeerRequest {
    let envelope = Envelope {
        version: PROTOCOL_VERSION,
        capabilities: 0,
        cluster: None,
        node: kv_client::NodeId(1),
        layouts: Vec::new(),
        time: 0,
        wall_ms: 0,
        life: 0,
        position: 0,
        budget_ms: 1_000,
    };
    PeerRequest { envelope, ops: Vec::new() }
}

fn count(figure: &AtomicU64) -> u64 {
    figure.load(Ordering::Relaxed)
}

#[tokio::test]
async fn passes_the_contract() {
    suite(async || TarpcTransport::new(config("secret"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_contract_with_two_threads() {
    suite(async || TarpcTransport::new(config(""))).await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_counted() {
    let far = TarpcTransport::new(config("right"));
    let to = far.serve(Arc::new(Nobody)).await.expect("a port");
    let near = TarpcTransport::new(config("wrong"));
    let failure = near.call(&to, request()).await.expect_err("refused");
    assert!(failure.without_effect(), "{failure}");
    assert!(failure.to_string().contains("secret"), "{failure}");
    assert_eq!(count(&far.figures().refused_secret), 1);
    assert_eq!(count(&far.figures().accepted), 0);
    assert_eq!(count(&near.figures().dial_failed), 1);
    assert_eq!(count(&near.figures().dial_refused), 1);
    let friend = TarpcTransport::new(config("right"));
    assert!(friend.call(&to, request()).await.is_ok());
    assert_eq!(count(&far.figures().accepted), 1);
}

#[tokio::test]
async fn strangers_get_no_answer_and_no_time() {
    let far = TarpcTransport::new(config("secret"));
    let to = far.serve(Arc::new(Nobody)).await.expect("a port");
    // Another protocol is dropped at once, silence after `handshake_ms_max`.
    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"", &[0xff; 4096]] {
        let mut stranger = TcpStream::connect(&to).await.expect("it listens");
        // The other end may close before all of it is written.
        drop(stranger.write_all(first).await);
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(2), stranger.read_to_end(&mut answer));
        let read = read.await.expect("a stranger is dropped in time");
        assert!(read.is_err() || answer.is_empty(), "{answer:?}");
    }
    assert_eq!(count(&far.figures().refused_other), 4);
    assert_eq!(count(&far.figures().accepted), 0);
}

#[tokio::test]
async fn strangers_beyond_the_bound_are_dropped_at_once() {
    let mut bounds = config("secret");
    bounds.handshakes_max = 2;
    bounds.handshake_ms_max = 5_000;
    let far = TarpcTransport::new(bounds);
    let to = far.serve(Arc::new(Nobody)).await.expect("a port");
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(TcpStream::connect(&to).await.expect("it listens"));
    }
    let mut third = TcpStream::connect(&to).await.expect("the system accepts");
    let end = tokio::time::timeout(Duration::from_secs(2), third.read_u8()).await;
    assert!(end.expect("dropped, not kept waiting").is_err());
    assert_eq!(count(&far.figures().refused_full), 1);
    drop(held);
}

#[tokio::test]
async fn calls_share_one_connection_and_a_restarted_peer_is_dialled_anew() {
    let far = TarpcTransport::new(config("secret"));
    let to = far.serve(Arc::new(Nobody)).await.expect("a port");
    let near = TarpcTransport::new(config("secret"));
    let calls = (0..20).map(|_| near.call(&to, request()));
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(count(&near.figures().dialled), 1);
    far.close().await;
    assert!(near.call(&to, request()).await.is_err());
    let mut again = config("secret");
    again.listen = to.parse().expect("it was made from an address");
    let far = TarpcTransport::new(again);
    far.serve(Arc::new(Nobody)).await.expect("the port is free again");
    // The old connection may be noticed as dead only by this call.
    let first = near.call(&to, request()).await;
    assert!(first.is_ok() || near.call(&to, request()).await.is_ok());
    assert_eq!(count(&near.figures().dialled), 2);
}

#[tokio::test]
async fn a_role_without_a_door_is_refused_and_one_with_a_door_is_attended() {
    struct Greeter;
    #[async_trait]
    impl Door for Greeter {
        async fn attend(&self, mut stream: TcpStream, _: ServeLimits) {
            drop(stream.write_all(b"hello").await);
        }
    }
    let far = TarpcTransport::new(config("secret")).with_door(Role::Admin, Arc::new(Greeter));
    let to = far.serve(Arc::new(Nobody)).await.expect("a port");
    let dialling = |role| DialOptions {
        secret: Secret::new("secret"),
        role,
        bind_source: None,
        dial_ms_max: 1_000,
    };
    assert!(dial(&to, &dialling(Role::Client)).await.is_err());
    let mut admin = dial(&to, &dialling(Role::Admin)).await.expect("there is a door");
    let mut said = Vec::new();
    admin.read_to_end(&mut said).await.expect("and somebody behind it");
    assert_eq!(said, b"hello");
}

#[tokio::test]
async fn more_operations_than_a_call_may_hold_are_not_sent() {
    let far = TarpcTransport::new(config("secret"));
    let to = far.serve(Arc::new(Nobody)).await.expect("a port");
    let near = TarpcTransport::new(config("secret"));
    let mut many = request();
    many.ops = vec![PeerOp::Count; crate::wire::CALL_OPS_MAX + 1];
    let failure = near.call(&to, many).await.expect_err("too many");
    assert!(failure.without_effect(), "{failure}");
}
