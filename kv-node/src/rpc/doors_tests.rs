//! A node of its own behind both doors, over a real port.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_client::wire::{
    BatchOp, BatchOut, Coverage, Endpoints, Level, NodeState, ReadOptions, ServiceError, Topics,
    WatchCursor, WriteOptions,
};
use kv_client::{Admin, Client, Config, Error, Role, Secret};
use kv_lsm::fs::MemFs;

use super::{AdminDoor, ClientDoor, Lobby};
use crate::cluster::birth::BirthPlan;
use crate::cluster::record::KeyspaceSettings;
use crate::coordinator::Timing;
use crate::events::Happened;
use crate::node::{Node, NodeConfig, NodeParts};
use crate::plug::clock::SystemClock;
use crate::plug::exec::{Exec, Task, TokioExec};
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::rng::SeededRng;
use crate::plug::storage::StorageEngine;
use crate::replica::update_tests::HalfEngine;
use crate::rpc::admin_watch::WATCHERS_MAX;
use crate::rpc::peer::PeersConfig;
use crate::rpc::transport::{TarpcConfig, TarpcTransport};

struct House {
    address: String,
    lobby: Arc<Lobby>,
    node: Arc<Node>,
    transport: Arc<TarpcTransport>,
}

async fn house() -> House {
    house_with(Arc::new(TokioExec)).await
}

/// Begins its tasks late.
struct LateExec;

#[async_trait::async_trait]
impl Exec for LateExec {
    fn spawn(&self, task: Task) {
        drop(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            task.await;
        }));
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        TokioExec.blocking(work).await;
    }
}

async fn house_with(exec: Arc<dyn Exec>) -> House {
    house_of(exec, Arc::new(MemoryEngine::new(MemoryConfig::default())), "").await
}

async fn house_of(exec: Arc<dyn Exec>, engine: Arc<dyn StorageEngine>, secret: &str) -> House {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let listen = free.local_addr().expect("bound");
    drop(free);
    let lobby = Arc::new(Lobby::default());
    let secret = Secret::new(secret);
    let transport = TarpcTransport::new(TarpcConfig { secret, ..TarpcConfig::new(listen) })
        .with_door(Role::Client, Arc::new(ClientDoor(Arc::clone(&lobby))))
        .with_door(Role::Admin, Arc::new(AdminDoor(Arc::clone(&lobby))));
    let transport = Arc::new(transport);
    let address = listen.to_string();
    let config = NodeConfig {
        data_dir: PathBuf::from("/data"),
        address: address.clone(),
        client_address: "c0".into(),
        zone: "z1".into(),
        weight: 2,
        seeds: vec![address.clone()],
        bootstrap_expect: 1,
        birth: BirthPlan {
            name: "test".into(),
            partitions: 64,
            keyspace: KeyspaceSettings { n: 1, ..KeyspaceSettings::default() },
            pair_bytes_max: 1_024,
        },
        gossip: kv_gossip::Config::local(),
        timing: Timing::default(),
        peers: PeersConfig::default(),
        antientropy: crate::coordinator::exchange::AntiEntropyConfig::default(),
        hints: crate::replica::HintConfig::default(),
        clock_skew_ms_max: 60_000,
        floors: crate::cluster::floors::FloorTiming::default(),
    };
    let parts = NodeParts {
        fs: Arc::new(MemFs::new()),
        engine,
        transport: Arc::clone(&transport) as _,
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SeededRng::new(7)),
        exec,
    };
    let node = Arc::new(Node::start(config, parts).await.expect("a node starts"));
    for _ in 0..500 {
        if node.is_ready() {
            return House { address, lobby, node, transport };
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the node was not born: {:?}", node.workers());
}

impl House {
    fn open(&self) {
        let endpoints =
            Endpoints { resp: "c0".into(), rpc: self.address.clone(), http: String::new() };
        self.lobby.open(&self.node, endpoints);
    }

    async fn client(&self) -> Client {
        Client::connect(&[&self.address], Config::default()).await.expect("it listens")
    }

    async fn admin(&self) -> Admin {
        Admin::connect(&[&self.address], Config::default()).await.expect("it listens")
    }
}

fn texts(seen: &kv_client::Versioned) -> Vec<String> {
    seen.values().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

#[tokio::test]
async fn nobody_is_answered_before_the_node_is_known() {
    let house = house().await;
    let error = house.client().await.get("k").await.expect_err("not open yet");
    assert!(matches!(error, Error::Service(ServiceError::NotServing(_))), "{error}");
    house.open();
    let empty = house.client().await.get("k").await.expect("open");
    assert_eq!(empty.siblings(), []);
}

#[tokio::test]
async fn a_program_replaces_what_it_saw_and_only_that() {
    let house = house().await;
    house.open();
    let client = house.client().await;
    let empty = client.get("k").await.expect("read");
    let first = client.put(&empty, "one").await.expect("written");
    client.put(&empty, "two").await.expect("written");
    let both = client.get("k").await.expect("read");
    assert_eq!(texts(&both), ["two", "one"]);
    client.put(&first, "three").await.expect("written");
    let both = client.get("k").await.expect("read");
    assert_eq!(texts(&both), ["three", "two"]);
    let gone = client.delete(&both).await.expect("deleted");
    assert_eq!(texts(&client.get("k").await.expect("read")), [""; 0]);
    // Who deleted knows of the deletion: its next write leaves no sibling beside it.
    client.put(&gone, "four").await.expect("written");
    assert_eq!(client.get("k").await.expect("read").siblings().len(), 1);
    let blind = client.blind_put("k", "five").await.expect("written");
    client.put(&blind, "six").await.expect("written");
    let last = client.get("k").await.expect("read");
    assert_eq!((texts(&last), last.siblings().len()), (vec!["six".to_owned()], 1));
    client.blind_delete("k").await.expect("deleted");
    assert_eq!(client.get("k").await.expect("read").values().count(), 0);
    let nothing = client.blind_delete("never").await.expect("nothing to do");
    assert_eq!(nothing.siblings(), []);
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_gives_up() {
    let house = house_with(Arc::new(LateExec)).await;
    house.open();
    let config = Config { deadline_ms: 50, ..Config::default() };
    let hasty = Client::connect(&[&house.address], config).await.expect("it listens");
    let error = hasty.blind_put("k", "late").await.expect_err("the write has not begun");
    assert!(matches!(error, Error::TimedOut), "{error}");
    let patient = house.client().await;
    assert_eq!(patient.get("k").await.expect("read").siblings(), []);
    for _ in 0..200 {
        if !texts(&patient.get("k").await.expect("read")).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the write ended with its caller");
}

#[tokio::test]
async fn a_node_that_was_stopped_is_gone_with_all_that_it_held() {
    let house = house().await;
    house.open();
    house.client().await.blind_put("k", "v").await.expect("written");
    let engine = Arc::clone(house.node.engine());
    house.node.stop().await.expect("it stops");
    drop(house);
    for _ in 0..300 {
        if Arc::strong_count(&engine) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} others hold the engine", Arc::strong_count(&engine) - 1);
}

#[tokio::test]
async fn a_batch_keeps_the_order_of_a_key_and_errors_stay_with_their_operation() {
    let house = house().await;
    house.open();
    let client = house.client().await;
    let key = bytes::Bytes::from_static(b"k");
    let get =
        |key: &bytes::Bytes| BatchOp::Get { key: key.clone(), options: ReadOptions::default() };
    let put = |value: Vec<u8>, coverage| BatchOp::Put {
        key: key.clone(),
        value: value.into(),
        coverage,
        options: WriteOptions::default(),
    };
    let two = WriteOptions { level: Level::Count(2), ..WriteOptions::default() };
    let ops = vec![
        put(b"a".to_vec(), Coverage::Blind),
        get(&key),
        put(b"b".to_vec(), Coverage::Blind),
        get(&key),
        put(vec![0; 2_000], Coverage::Blind),
        put(b"c".to_vec(), Coverage::Seen(bytes::Bytes::from_static(b"forged"))),
        BatchOp::Delete { key: key.clone(), coverage: Coverage::Blind, options: two },
    ];
    let outs = client.batch(ops).await.expect("an answer");
    let shown = |out: &BatchOut| match out {
        BatchOut::Read(Ok(read)) => read.siblings.first().and_then(|first| first.value.clone()),
        other => panic!("not a read: {other:?}"),
    };
    assert_eq!(shown(&outs[1]).as_deref(), Some(&b"a"[..]));
    assert_eq!(shown(&outs[3]).as_deref(), Some(&b"b"[..]));
    let too_large = ServiceError::TooLarge { bytes: 2_001, bytes_max: 1_024 };
    assert_eq!(outs[4], BatchOut::Written(Err(too_large)));
    assert_eq!(outs[5], BatchOut::Written(Err(ServiceError::BadContext)));
    assert!(
        matches!(&outs[6], BatchOut::Written(Err(ServiceError::Refused(_)))),
        "two copies of one can't be had: {:?}",
        outs[6]
    );
}

#[tokio::test]
async fn an_operator_sees_the_node_its_layout_and_its_keys() {
    let house = house().await;
    house.open();
    house.client().await.blind_put("foo", "bar").await.expect("written");
    let admin = house.admin().await;
    let me = house.node.id();
    let status = admin.status().await.expect("status");
    assert_eq!((status.node, status.ready), (me, true));
    assert_eq!(status.endpoints.resp, "c0");
    assert_eq!(status.alerts, [""; 0]);
    assert!(status.figures.iter().any(|(name, value)| name == "coordinator_sets" && *value > 0));
    let nodes = admin.nodes().await.expect("nodes");
    let [only] = &nodes[..] else { panic!("one member, not {nodes:?}") };
    assert_eq!((only.node, only.state, only.weight), (me, NodeState::Alive, 2));
    assert_eq!((only.partitions, only.first_places, only.zone.as_str()), (64, 64, "z1"));
    let ring = admin.ring().await.expect("ring");
    assert_eq!((ring.partitions(), ring.copies), (64, 1));
    assert!(ring.owners_of(63).eq([me]));
    let place = admin.locate("foo").await.expect("place");
    assert_eq!((place.slot, place.partition), (12_182, 12_182 / 256));
    assert_eq!(place.replicas, [me]);
    let why = admin.explain("foo").await.expect("explained");
    let answer = why.replicas.first().expect("one replica");
    let versions = answer.versions.as_ref().expect("it answers");
    assert_eq!(versions.first().map(|version| version.bytes), Some(Some(3)));
    assert_eq!(why.location, place);
}

#[tokio::test]
async fn blind_puts_of_a_batch_are_minted_together_and_named_one_by_one() {
    let engine = HalfEngine::new();
    let house = house_of(Arc::new(TokioExec), Arc::clone(&engine) as _, "").await;
    house.open();
    let client = house.client().await;
    let put = |key: &str, value: &str, coverage| BatchOp::Put {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        coverage,
        options: WriteOptions::default(),
    };
    let before = engine.appends.load(Ordering::SeqCst);
    let mut ops: Vec<BatchOp> =
        (0..20).map(|n| put(&format!("key{n}"), "one", Coverage::Blind)).collect();
    ops.push(put("beside", "b", Coverage::Nothing));
    let outs = client.batch(ops).await.expect("an answer");
    let appends = engine.appends.load(Ordering::SeqCst) - before;
    assert_eq!(appends, 2, "twenty together, and one that is not blind");
    let mut again = Vec::new();
    for (n, out) in outs.iter().enumerate() {
        let BatchOut::Written(Ok(out)) = out else { panic!("not written: {out:?}") };
        assert!(out.dot.is_some_and(|dot| dot.node == house.node.id()), "{out:?}");
        let key = if n < 20 { format!("key{n}") } else { "beside".into() };
        again.push(put(&key, "two", Coverage::Seen(out.context.clone())));
    }
    client.batch(again).await.expect("an answer");
    for key in ["key0", "key19", "beside"] {
        assert_eq!(texts(&client.get(key).await.expect("read")), ["two"], "{key}: replaced");
    }
}

#[tokio::test]
async fn the_budget_of_a_program_is_the_requests_deadline() {
    let engine = HalfEngine::new();
    let house = house_of(Arc::new(TokioExec), Arc::clone(&engine) as _, "").await;
    house.open();
    let config = Config { deadline_ms: 60_000, dial_ms_max: 20_000, ..Config::default() };
    let client = Client::connect(&[&house.address], config).await.expect("it listens");
    engine.never_synced.store(true, Ordering::SeqCst);
    let options = WriteOptions { budget_ms: 200, ..WriteOptions::default() };
    let put = |key: &str, coverage| BatchOp::Put {
        key: key.to_owned().into(),
        value: bytes::Bytes::from_static(b"v"),
        coverage,
        options,
    };
    let began = std::time::Instant::now();
    let ops = vec![put("a", Coverage::Blind), put("b", Coverage::Nothing)];
    let outs = client.batch(ops).await.expect("an answer");
    for out in &outs {
        let unknown = matches!(out, BatchOut::Written(Err(ServiceError::Indeterminate { .. })));
        assert!(unknown, "minted, and not known to be durable: {out:?}");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "the node's own bound is 5 s: {took:?}");
}

#[tokio::test]
async fn strangers_with_another_secret_are_told_and_cost_nothing() {
    let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
    let house = house_of(Arc::new(TokioExec), engine, "right").await;
    house.open();
    let config = |secret| Config {
        secret: Secret::new(secret),
        deadline_ms: 20_000,
        dial_ms_max: 20_000,
        ..Config::default()
    };
    let friend = Client::connect(&[&house.address], config("right")).await.expect("it listens");
    friend.blind_put("k", "v").await.expect("written");
    for round in 1..=10 {
        let tries = (0..5).map(|_| async {
            let stranger = Client::connect(&[&house.address], config("wrong")).await;
            match stranger {
                Err(error) => error.to_string(),
                Ok(client) => client.get("k").await.expect_err("a stranger").to_string(),
            }
        });
        for told in futures::future::join_all(tries).await {
            assert!(told.contains("secret"), "{told}");
        }
        assert_eq!(texts(&friend.get("k").await.expect("the node is alive")), ["v"]);
        let figures = house.transport.figures();
        assert!(figures.refused_secret.load(Ordering::Relaxed) >= round * 5);
        // A stranger's connection ends with its handshake: only friends have one.
        assert_eq!(figures.accepted.load(Ordering::Relaxed), 1);
    }
}

/// Counts the blocking work that it is given.
#[derive(Default)]
struct CountingExec(AtomicU64);

#[async_trait::async_trait]
impl Exec for CountingExec {
    fn spawn(&self, task: Task) {
        TokioExec.spawn(task);
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        TokioExec.blocking(work).await;
    }
}

#[tokio::test]
async fn marks_and_tenures_are_stored_where_one_may_block() {
    let exec = Arc::new(CountingExec::default());
    let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
    let house = house_of(Arc::clone(&exec) as _, engine, "").await;
    let coordinator = house.node.coordinator().expect("a layout");
    let dots = Arc::clone(&coordinator.parts().dots);
    // The lease's worker blocks too, every 2.5 s: a first round may meet it, not every one.
    let mut seen = Vec::new();
    for _ in 0..5 {
        let before = exec.0.load(Ordering::SeqCst);
        coordinator.set(b"k", b"v").await.expect("written");
        let plain = exec.0.load(Ordering::SeqCst);
        coordinator.flush().await.expect("alone");
        let flushed = exec.0.load(Ordering::SeqCst);
        dots.end_tenure(kv_ring::Partition::ALL);
        coordinator.set(b"k", b"v").await.expect("written in a new tenure");
        let begun = exec.0.load(Ordering::SeqCst);
        seen.push((plain - before, flushed - plain, begun - flushed));
    }
    assert!(seen.contains(&(0, 1, 1)), "{seen:?}");
}

#[tokio::test]
async fn a_screen_waits_for_news_and_is_told_at_once() {
    let house = house().await;
    house.open();
    let admin = Admin::connect(&[&house.address], Config::default()).await.expect("it listens");
    let serves = || {
        let events = house.node.events().page(None, 100).events;
        events.iter().any(|event| event.code == "node.serves")
    };
    while !serves() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = admin.watch(WatchCursor::default(), Topics::ALL, 1_000).await.expect("news");
    assert!(first.status.is_some() && first.ring.is_some() && first.layouts.is_some());
    let codes: Vec<&str> = first.events.iter().map(|event| &event.code[..]).collect();
    assert!(codes.contains(&"node.serves"), "{codes:?}");
    assert_eq!(first.nodes.as_ref().map(Vec::len), Some(1));
    // Only events are wanted: nothing is told before something happens.
    let events = Topics { figures: false, layouts: false, events: true };
    let began = std::time::Instant::now();
    let nothing = admin.watch(first.cursor, events, 300).await.expect("it has waited");
    assert!(began.elapsed() >= Duration::from_millis(290));
    assert!(nothing.events.is_empty() && nothing.status.is_none() && nothing.ring.is_none());
    assert_eq!(nothing.cursor, first.cursor);
    let began = std::time::Instant::now();
    let (told, ()) = tokio::join!(admin.watch(first.cursor, events, 1_500), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let text = "a test".to_owned();
        house.node.events().note(Happened { code: "test.one", warns: true, about: None, text });
    });
    let told = told.expect("news");
    assert!(began.elapsed() < Duration::from_secs(1), "at once");
    assert_eq!(told.events.last().map(|event| &event.text[..]), Some("a test"));
    assert!(told.cursor.event > first.cursor.event);
    // Figures come each second, and no oftener.
    let figures = Topics { figures: true, layouts: true, events: false };
    let one = admin.watch(first.cursor, figures, 1_500).await.expect("figures");
    let began = std::time::Instant::now();
    let two = admin.watch(one.cursor, figures, 1_500).await.expect("figures");
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(two.status.is_some() && two.ring.is_none() && two.layouts.is_none());
    // A cursor of another node, or of another life, knows nothing of this one.
    for stranger in [
        WatchCursor { node: kv_client::NodeId(9), ..first.cursor },
        WatchCursor { started_ms: 1, ..first.cursor },
    ] {
        let whole = admin.watch(stranger, Topics::ALL, 1_000).await.expect("at once");
        assert!(whole.status.is_some() && whole.ring.is_some());
    }
}

#[tokio::test]
async fn so_many_screens_wait_and_no_more() {
    let house = house().await;
    house.open();
    let admin = Admin::connect(&[&house.address], Config::default()).await.expect("it listens");
    let first = admin.watch(WatchCursor::default(), Topics::ALL, 0).await.expect("news");
    let none = Topics { figures: false, layouts: false, events: false };
    let wait = || admin.watch(first.cursor, none, 400);
    let all = futures::future::join_all((0..=WATCHERS_MAX).map(|_| wait())).await;
    let busy =
        |answer: &&Result<_, Error>| matches!(answer, Err(Error::Service(ServiceError::Busy(_))));
    assert_eq!(all.iter().filter(busy).count(), 1);
    assert_eq!(all.iter().filter(|answer| answer.is_ok()).count(), WATCHERS_MAX);
    assert!(wait().await.is_ok(), "there is room again");
}
