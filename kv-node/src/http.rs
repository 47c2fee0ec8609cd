//! The HTTP port: `/metrics`, `/health/live`, `/health/ready`. Nothing else, and nothing to change.
//!
//! Each answer is made when it is asked for, so nothing is kept between two scrapes. Every bound
//! is there against a stranger who connects and dawdles: connections, header bytes, time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kv_client::NodeId;
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::cluster::view::View;
use crate::node::Node;
use crate::rpc::transport::TarpcTransport;

/// Bounds of the port.
#[derive(Clone, Copy, Debug)]
pub struct HttpConfig {
    /// Connections at once, at most; further ones are closed.
    pub connections_max: usize,
    /// Bytes of a request's head, at most. At least 8192.
    pub head_bytes_max: usize,
    /// Milliseconds in which a request's head must have come.
    pub head_ms_max: u64,
    /// Milliseconds after which a connection is closed whatever it does.
    pub connection_ms_max: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 64,
            head_bytes_max: 8 * 1_024,
            head_ms_max: 5_000,
            connection_ms_max: 60_000,
        }
    }
}

/// Ranks of hot keys and partitions that have figures.
const HOT_RANKS: usize = 8;

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct HttpSource {
    /// The node.
    pub node: Arc<Node>,
    /// Its transport, for its figures.
    pub transport: Option<Arc<TarpcTransport>>,
}

/// Answers requests until it is dropped.
pub async fn serve(listener: TcpListener, source: HttpSource, config: HttpConfig) {
    let room = Arc::new(Semaphore::new(config.connections_max));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the HTTP port could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let source = source.clone();
        tokio::spawn(async move {
            attend(stream, source, config).await;
            drop(place);
        });
    }
}

async fn attend(stream: TcpStream, source: HttpSource, config: HttpConfig) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&source, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.head_ms_max))
        .max_buf_size(config.head_bytes_max.max(8_192))
        .serve_connection(TokioIo::new(stream), service);
    let limit = Duration::from_millis(config.connection_ms_max);
    if let Ok(Err(error)) = tokio::time::timeout(limit, connection).await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

fn answer(source: &HttpSource, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => {
            let mut page = text(StatusCode::OK, metrics_page(source));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            page.headers_mut().insert(CONTENT_TYPE, kind);
            page
        }
        "/health/live" => text(StatusCode::OK, "alive\n".into()),
        "/health/ready" => match unready(&source.node) {
            None => text(StatusCode::OK, "ready\n".into()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "/metrics, /health/live, /health/ready\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Why the node should get no clients now, if it should not.
pub(crate) fn unready(node: &Node) -> Option<String> {
    let view = node.view().now();
    if view.is_removed(view.me) {
        return Some("this node was replaced, and is removed from its cluster for good".into());
    }
    if !node.is_ready() {
        return Some("no layout yet: the cluster is not born, or this node is not in it".into());
    }
    if let Some(poisoned) = node.engine().status(None).0.poisoned {
        return Some(format!("the storage engine takes no more writes: {poisoned}"));
    }
    let (up, members) = members_up(&view);
    (up * 2 <= members).then(|| format!("{up} of {members} members of the layout are up"))
}

/// How many members of the newest layout are up, and how many there are.
fn members_up(view: &View) -> (usize, usize) {
    let Some(layouts) = &view.layouts else { return (0, 0) };
    let members = layouts.newest().members();
    (members.iter().filter(|node| view.is_up(**node)).count(), members.len())
}

const ABOUT: Metadata<'static> = Metadata::new("kv_node", Level::INFO, None);

/// One page in the making.
struct Page {
    recorder: PrometheusRecorder,
    labels: Vec<Label>,
}

impl Page {
    fn key(&self, name: &str) -> Key {
        Key::from_parts(format!("kv_{name}"), self.labels.clone())
    }

    fn counter(&self, name: &str, about: &'static str, value: u64) {
        let key = self.key(name);
        self.recorder.describe_counter(key.name_shared(), None, about.into());
        self.recorder.register_counter(&key, &ABOUT).absolute(value);
    }

    fn gauge(&self, name: &str, about: &'static str, value: u64) {
        self.gauge_of(&self.key(name), about, value);
    }

    /// A gauge of the way to one peer.
    fn peer_gauge(&self, name: &str, peer: NodeId, about: &'static str, value: u64) {
        let peer = vec![Label::new("peer", peer.to_string())];
        self.gauge_of(&self.key(name).with_extra_labels(peer), about, value);
    }

    fn gauge_of(&self, key: &Key, about: &'static str, value: u64) {
        self.recorder.describe_gauge(key.name_shared(), None, about.into());
        self.recorder.register_gauge(key, &ABOUT).set(value as f64);
    }
}

fn metrics_page(source: &HttpSource) -> String {
    let node = &source.node;
    let view = node.view().now();
    let cluster = view.record.as_ref().map_or(String::new(), |record| record.name.clone());
    let page = Page {
        recorder: PrometheusBuilder::new().build_recorder(),
        labels: vec![Label::new("cluster", cluster), Label::new("node", node.id().to_string())],
    };
    node.figures().each(|name, about, value| page.counter(name, about.trim(), value));
    let (up, members) = members_up(&view);
    page.gauge(
        "ready",
        "Whether the node is ready for clients.",
        u64::from(unready(node).is_none()),
    );
    page.gauge("members", "Members of the newest layout.", members as u64);
    page.gauge("members_up", "Members of the newest layout that are up.", up as u64);
    for member in view.layouts.iter().flat_map(|layouts| layouts.newest().members()) {
        let about = "Whether a member of the newest layout is up: alert when one stays away.";
        let label = vec![Label::new("member", member.to_string())];
        let is_up = u64::from(view.is_up(*member));
        page.gauge_of(&page.key("member_up").with_extra_labels(label), about, is_up);
    }
    page.gauge("layout_epoch", "Epoch of the newest layout.", view.epoch());
    let live = view.layouts.as_ref().map_or(0, |layouts| layouts.live().len());
    page.gauge("layouts_live", "Live layouts: more than one during a transition.", live as u64);
    collection_figures(&page, node);
    engine_figures(&page, node);
    if let Some(transport) = &source.transport {
        transport_figures(&page, transport);
    }
    peer_figures(&page, node);
    exchange_figures(&page, node);
    hint_figures(&page, node);
    conflict_figures(&page, node);
    load_figures(&page, node);
    spread_figures(&page, node);
    if let Some(bytes) = resident_bytes() {
        page.gauge("resident_memory_bytes", "Memory of the process.", bytes);
    }
    page.recorder.handle().render()
}

fn spread_figures(page: &Page, node: &Node) {
    let about = "Microseconds until all replicas held a write of this node, by keyspace.";
    for (quantile, part) in [("0.5", 500), ("0.99", 990)] {
        let Some(us) = node.figures().everywhere.per_mille(part) else { continue };
        let labels = vec![Label::new("keyspace", "default"), Label::new("quantile", quantile)];
        page.gauge_of(&page.key("write_everywhere_us").with_extra_labels(labels), about, us);
    }
}

fn collection_figures(page: &Page, node: &Node) {
    let collection = node.collection();
    for (member, age_ms) in &collection.floors {
        let Some(age_ms) = age_ms else { continue };
        let about = "How far a member's floor lies behind this node's clock, milliseconds.";
        let member = vec![Label::new("member", member.to_string())];
        page.gauge_of(&page.key("floor_age_ms").with_extra_labels(member), about, *age_ms);
    }
    if let Some(age_ms) = collection.mark_age_ms {
        let about = "Age of the lowest mark of the partitions held here, milliseconds.";
        page.gauge("mark_age_ms", about, age_ms);
    }
    let held_back = collection.holding_back.len() as u64;
    page.gauge("floors_late", "Members that hold collection back.", held_back);
}

fn engine_figures(page: &Page, node: &Node) {
    let (status, _) = node.engine().status(None);
    let poisoned = u64::from(status.poisoned.is_some());
    page.gauge("engine_poisoned", "Whether the engine takes no more writes.", poisoned);
    page.gauge("engine_memory_bytes", "Bytes of rows held in memory.", status.memory_bytes);
    page.gauge("engine_disk_bytes", "Bytes on disk.", status.disk_bytes);
    if let Some(rows) = status.rows {
        page.gauge("engine_rows", "Rows, tombstones included.", rows);
    }
    for (name, value) in status.figures {
        page.gauge(&format!("engine_{name}"), "A figure of the storage engine.", value);
    }
}

fn transport_figures(page: &Page, transport: &TarpcTransport) {
    use std::sync::atomic::Ordering::Relaxed;
    let figures = transport.figures();
    for (name, about, figure) in [
        ("rpc_accepted", "Connections that passed the handshake.", &figures.accepted),
        ("rpc_refused_secret", "Connections without the secret.", &figures.refused_secret),
        ("rpc_refused_other", "Connections refused otherwise.", &figures.refused_other),
        ("rpc_refused_full", "Connections over a bound.", &figures.refused_full),
        ("rpc_dialled", "Connections made to peers.", &figures.dialled),
        ("rpc_dial_failed", "Attempts to connect to peers that failed.", &figures.dial_failed),
        ("rpc_dial_refused", "Those that failed in the handshake.", &figures.dial_refused),
    ] {
        page.counter(name, about, figure.load(Relaxed));
    }
}

fn peer_figures(page: &Page, node: &Node) {
    let Some(peers) = node.peers() else { return };
    let statuses = peers.statuses();
    for (peer, link) in &statuses {
        if let Some(us) = link.call_us {
            page.peer_gauge("peer_call_us", *peer, "Recent latency of calls, microseconds.", us);
        }
        if let Some(us) = link.read_p95_us {
            let about = "Microseconds that 95 of 100 recent calls with reads did not exceed.";
            page.peer_gauge("peer_read_p95_us", *peer, about, us);
        }
        let about = "How surprising the peer's silence is, in hundredths of phi.";
        page.peer_gauge("peer_phi_hundredths", *peer, about, u64::from(link.phi_hundredths));
        let about = "1 while requests count the peer as down.";
        page.peer_gauge("peer_down", *peer, about, u64::from(link.down));
        let about = "Milliseconds since a call was sent with nothing heard since.";
        page.peer_gauge("peer_unanswered_ms", *peer, about, link.unanswered_ms);
        let about = "Milliseconds until the peer is dialled again.";
        page.peer_gauge("peer_backed_off_ms", *peer, about, link.backed_off_ms);
    }
    let queued: usize = statuses.values().map(|status| status.queue_ops).sum();
    let flying: usize = statuses.values().map(|status| status.calls_in_flight).sum();
    page.gauge("peer_queue_ops", "Operations queued for peers.", queued as u64);
    page.gauge("peer_calls_in_flight", "Calls to peers in flight.", flying as u64);
    page.counter(
        "peer_calls_sent",
        "Calls made to peers.",
        statuses.values().map(|status| status.calls).sum(),
    );
    page.counter(
        "peer_ops_sent",
        "Operations in them.",
        statuses.values().map(|status| status.ops).sum(),
    );
}

fn exchange_figures(page: &Page, node: &Node) {
    let Some(coordinator) = node.coordinator() else { return };
    let counts = coordinator.parts().replica.trees().counts();
    page.gauge("aae_trees_built", "Hash trees that are whole.", counts.built as u64);
    page.gauge("aae_trees_building", "Hash trees in the making.", counts.building as u64);
    let filling = coordinator.parts().replica.standings().newcomers().len() as u64;
    page.gauge("partitions_filling", "Partitions to be filled after a loss.", filling);
    let now_ms = coordinator.parts().clock.steady_ms();
    for (peer, of) in coordinator.exchanges() {
        if let Some(ended_ms) = of.ended_ms {
            let about = "Seconds since the last exchange with a peer ended.";
            let age_s = now_ms.saturating_sub(ended_ms) / 1_000;
            page.peer_gauge("aae_exchange_age_seconds", peer, about, age_s);
        }
    }
}

fn hint_figures(page: &Page, node: &Node) {
    let Some(coordinator) = node.coordinator() else { return };
    let hints = coordinator.parts().replica.hints();
    page.gauge("hint_bytes", "Bytes of hints kept for other nodes.", hints.bytes());
    page.gauge("hint_bytes_max", "Bytes of hints kept at most.", hints.bytes_max());
    for queue in coordinator.hints_held() {
        let about = "Keys of which hints wait for the peer.";
        page.peer_gauge("hint_queued_keys", queue.target, about, queue.keys);
        let about = "Bytes of hints that wait for the peer.";
        page.peer_gauge("hint_queued_bytes", queue.target, about, queue.bytes);
        let about = "Milliseconds since the write with which the peer's queue of hints began.";
        page.peer_gauge("hint_queued_age_ms", queue.target, about, queue.age_ms);
    }
}

fn conflict_figures(page: &Page, node: &Node) {
    let Some(coordinator) = node.coordinator() else { return };
    let view = node.view().now();
    let counts = coordinator.parts().replica.conflicts().counts(|of| view.holds(of));
    let about = "Keys with siblings in partitions whose first live primary this node is.";
    page.gauge("conflict_keys", about, coordinator.conflicts_counted());
    let about = "Keys with siblings that this node holds.";
    page.gauge("conflict_keys_held", about, counts.keys);
    page.gauge("conflict_index_bytes", "Bytes of the index of keys with siblings.", counts.bytes);
    let about = "Partitions whose keys with siblings are not all known.";
    page.gauge("conflict_partitions_open", about, (counts.unread + counts.short) as u64);
}

/// Keys are not named in labels, where each would stay for good: the rank is, and `kv hot` has the
/// names.
fn load_figures(page: &Page, node: &Node) {
    let Some(coordinator) = node.coordinator() else { return };
    let hot = coordinator.hot_here();
    let ranks = hot.keys.iter().map(|hot| hot.ops_per_s);
    for (rank, ops_per_s) in (1..=HOT_RANKS).zip(ranks) {
        let label = vec![Label::new("rank", rank.to_string())];
        let about = "Operations a second on the key of that rank, as this node coordinates them.";
        page.gauge_of(&page.key("hot_key_ops").with_extra_labels(label), about, ops_per_s);
    }
    let busiest = hot.partitions.iter().map(|(_, rate)| rate.ops_per_s());
    for (rank, ops_per_s) in (1..=HOT_RANKS).zip(busiest) {
        let label = vec![Label::new("rank", rank.to_string())];
        let about = "Operations a second on the partition of that rank, likewise.";
        page.gauge_of(&page.key("hot_partition_ops").with_extra_labels(label), about, ops_per_s);
    }
    if let Some(load) = node.loads().get(&node.id()) {
        let about = "Microseconds that work waited for its turn lately, about.";
        page.gauge("load_wait_us", about, load.wait_us.into());
        if let Some(cpu) = load.cpu_per_mille {
            let about = "CPU of the process, per mille of what its threads can use.";
            page.gauge("load_cpu_per_mille", about, cpu.into());
        }
    }
    if let Some(scaler) = node.scaler() {
        let seen = scaler.seen();
        let members = seen.look.standing.members;
        let desired = seen.decision.map_or(members, |decision| decision.desired);
        let about = "Nodes that there should be next, by the autoscaling policy.";
        page.gauge("desired_nodes", about, desired as u64);
    }
}

/// Memory of this process that is in RAM, where the system says.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}
