//! What a node puts on its metrics page. Made when it is asked for; nothing is kept between two.
//!
//! Every item of the registry is named here once, also where there is no value for it now: a
//! scraper and a reader then see that it exists.

use kv_client::NodeId;

use super::process;
use super::registry::{self, ENGINE, Metric, OfEngine};
use super::text::{Page, seconds};
use crate::cluster::view::View;
use crate::node::Node;
use crate::plug::storage::EngineStatus;
use crate::rpc::transport::{TarpcTransport, TransportFigures};

/// Ranks of hot keys and partitions that have figures.
const HOT_RANKS: usize = 8;

/// The page of a node, as of now.
pub(crate) fn render(node: &Node, transport: Option<&TarpcTransport>, is_ready: bool) -> String {
    let view = node.view().now();
    let cluster = view.record.as_ref().map_or("", |record| record.name.as_str());
    let mut page = Page::new(&[("cluster", cluster), ("node", &node.id().to_string())]);
    requests(&mut page, node);
    process(&mut page, node);
    cluster_figures(&mut page, node, &view, is_ready);
    engine(&mut page, &node.engine().status(None).0);
    rpc(&mut page, transport.map(TarpcTransport::figures));
    peers(&mut page, node);
    hints(&mut page, node);
    exchanges(&mut page, node);
    siblings(&mut page, node, &view);
    collection(&mut page, node);
    load(&mut page, node);
    page.end()
}

/// How many members of the newest layout are up, and how many there are.
pub(crate) fn members_up(view: &View) -> (usize, usize) {
    let Some(layouts) = &view.layouts else { return (0, 0) };
    let members = layouts.newest().members();
    (members.iter().filter(|node| view.is_up(**node)).count(), members.len())
}

fn requests(page: &mut Page, node: &Node) {
    let figures = node.figures();
    let steps = figures.steps.each().map(|(class, held)| (class.word(), held));
    page.histograms(&registry::REQUEST_SECONDS, steps);
    page.each(&registry::ERRORS, figures.errors.each().map(|(code, count)| (code, count as f64)));
    let parts = [("0.5", 500), ("0.99", 990)];
    let everywhere = parts.map(|(part, per_mille)| (part, figures.everywhere.per_mille(per_mille)));
    let everywhere = everywhere.into_iter().filter_map(|(part, us)| Some((part, seconds(us?))));
    page.each(&registry::WRITE_EVERYWHERE, everywhere);
    let closed = figures.connections_closed.value();
    page.value(&registry::CLIENTS, figures.connections.value().saturating_sub(closed) as f64);
    for (metric, count) in figures.values() {
        page.value(metric, count as f64);
    }
}

fn process(page: &mut Page, node: &Node) {
    let number = |value: Option<u64>| value.map(|value| value as f64);
    page.each(&registry::BUILD_INFO, [(env!("CARGO_PKG_VERSION"), 1.0)]);
    page.maybe(&registry::PROCESS_CPU_SECONDS, number(process::cpu_ms()).map(|ms| ms / 1e3));
    page.maybe(&registry::PROCESS_RESIDENT_BYTES, number(process::resident_bytes()));
    page.maybe(&registry::PROCESS_OPEN_FDS, number(process::open_files()));
    page.maybe(&registry::PROCESS_MAX_FDS, number(process::open_files_max()));
    page.value(&registry::PROCESS_START_SECONDS, node.started_ms() as f64 / 1e3);
    let load = node.loads().get(&node.id()).cloned();
    let cpu = load.as_ref().and_then(|load| load.cpu_per_mille);
    page.maybe(&registry::LOAD_CPU, cpu.map(|per_mille| f64::from(per_mille) / 1e3));
    page.maybe(&registry::LOAD_WAIT_SECONDS, load.map(|load| seconds(load.wait_us.into())));
}

fn cluster_figures(page: &mut Page, node: &Node, view: &View, is_ready: bool) {
    let (up, members) = members_up(view);
    page.value(&registry::READY, truth(is_ready));
    page.value(&registry::DRAINING, truth(view.is_draining(view.me)));
    page.value(&registry::MEMBERS, members as f64);
    page.value(&registry::MEMBERS_UP, up as f64);
    let newest = view.layouts.iter().flat_map(|layouts| layouts.newest().members());
    page.each(&registry::MEMBER_UP, newest.map(|member| (member, truth(view.is_up(*member)))));
    page.value(&registry::LAYOUT_EPOCH, view.epoch() as f64);
    let live = view.layouts.as_ref().map_or(0, |layouts| layouts.live().len());
    page.value(&registry::LAYOUTS_LIVE, live as f64);
    let skewed = node.coordinator().is_some_and(|coordinator| {
        coordinator.parts().skewed.load(std::sync::atomic::Ordering::Acquire)
    });
    page.value(&registry::CLOCK_SKEWED, truth(skewed));
}

fn engine(page: &mut Page, status: &EngineStatus) {
    page.value(&registry::ENGINE_POISONED, truth(status.poisoned.is_some()));
    page.value(&registry::ENGINE_MEMORY_BYTES, status.memory_bytes as f64);
    page.value(&registry::ENGINE_DISK_BYTES, status.disk_bytes as f64);
    page.maybe(&registry::ENGINE_ROWS, status.rows.map(|rows| rows as f64));
    for OfEngine { raw, metric } in ENGINE {
        let told = status.figures.iter().find(|(name, _)| name == raw);
        let scale = if raw.ends_with("_us") { 1e6 } else { 1.0 };
        page.maybe(metric, told.map(|(_, value)| *value as f64 / scale));
    }
}

fn rpc(page: &mut Page, figures: Option<&TransportFigures>) {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;
    let mut show = |metric: &Metric, of: fn(&TransportFigures) -> &AtomicU64| {
        page.maybe(metric, figures.map(|figures| of(figures).load(Relaxed) as f64));
    };
    show(&registry::RPC_ACCEPTED, |figures| &figures.accepted);
    show(&registry::RPC_REFUSED_SECRET, |figures| &figures.refused_secret);
    show(&registry::RPC_REFUSED_OTHER, |figures| &figures.refused_other);
    show(&registry::RPC_REFUSED_FULL, |figures| &figures.refused_full);
    show(&registry::RPC_DIALLED, |figures| &figures.dialled);
    show(&registry::RPC_DIAL_FAILED, |figures| &figures.dial_failed);
    show(&registry::RPC_DIAL_REFUSED, |figures| &figures.dial_refused);
}

fn peers(page: &mut Page, node: &Node) {
    let links = node.peers().map(|peers| peers.statuses()).unwrap_or_default();
    let known = |us: Option<u64>| us.map(seconds);
    let some = |of: Option<f64>, peer: &NodeId| of.map(|value| (*peer, value));
    let call = links.iter().filter_map(|(peer, link)| some(known(link.call_us), peer));
    page.each(&registry::PEER_CALL_SECONDS, call);
    let p95 = links.iter().filter_map(|(peer, link)| some(known(link.read_p95_us), peer));
    page.each(&registry::PEER_READ_P95_SECONDS, p95);
    let phi = links.iter().map(|(peer, link)| (peer, f64::from(link.phi_hundredths) / 1e2));
    page.each(&registry::PEER_PHI, phi);
    page.each(&registry::PEER_DOWN, links.iter().map(|(peer, link)| (peer, truth(link.down))));
    let since = links.iter().map(|(peer, link)| (peer, link.unanswered_ms as f64 / 1e3));
    page.each(&registry::PEER_UNANSWERED_SECONDS, since);
    let until = links.iter().map(|(peer, link)| (peer, link.backed_off_ms as f64 / 1e3));
    page.each(&registry::PEER_BACKED_OFF_SECONDS, until);
    let queued: usize = links.values().map(|link| link.queue_ops).sum();
    page.value(&registry::PEER_QUEUE_OPS, queued as f64);
    let flying: usize = links.values().map(|link| link.calls_in_flight).sum();
    page.value(&registry::PEER_CALLS_IN_FLIGHT, flying as f64);
    page.value(
        &registry::PEER_CALLS_SENT,
        links.values().map(|link| link.calls).sum::<u64>() as f64,
    );
    page.value(&registry::PEER_OPS_SENT, links.values().map(|link| link.ops).sum::<u64>() as f64);
}

fn hints(page: &mut Page, node: &Node) {
    let coordinator = node.coordinator();
    let log = coordinator.as_ref().map(|coordinator| coordinator.parts().replica.hints());
    page.maybe(&registry::HINT_BYTES, log.map(|log| log.bytes() as f64));
    page.maybe(&registry::HINT_BYTES_MAX, log.map(|log| log.bytes_max() as f64));
    let queues = coordinator.as_ref().map(|coordinator| coordinator.hints_held());
    let queues = queues.unwrap_or_default();
    page.each(&registry::HINT_QUEUED_KEYS, queues.iter().map(|of| (of.target, of.keys as f64)));
    page.each(&registry::HINT_QUEUED_BYTES, queues.iter().map(|of| (of.target, of.bytes as f64)));
    let ages = queues.iter().map(|of| (of.target, of.age_ms as f64 / 1e3));
    page.each(&registry::HINT_QUEUED_AGE_SECONDS, ages);
}

fn exchanges(page: &mut Page, node: &Node) {
    let coordinator = node.coordinator();
    let replica = coordinator.as_ref().map(|coordinator| &coordinator.parts().replica);
    let trees = replica.map(|replica| replica.trees().counts());
    page.maybe(&registry::AAE_TREES_BUILT, trees.as_ref().map(|trees| trees.built as f64));
    page.maybe(&registry::AAE_TREES_BUILDING, trees.as_ref().map(|trees| trees.building as f64));
    let ages: Vec<(NodeId, f64)> = coordinator.as_ref().map_or_else(Vec::new, |coordinator| {
        let now_ms = coordinator.parts().clock.steady_ms();
        let age = |ended_ms: u64| now_ms.saturating_sub(ended_ms) as f64 / 1e3;
        let exchanges = coordinator.exchanges().into_iter();
        exchanges.filter_map(|(peer, of)| Some((peer, age(of.ended_ms?)))).collect()
    });
    page.each(&registry::AAE_EXCHANGE_AGE_SECONDS, ages);
    let filling = replica.map(|replica| replica.standings().newcomers().len() as f64);
    page.maybe(&registry::PARTITIONS_FILLING, filling);
}

fn siblings(page: &mut Page, node: &Node, view: &View) {
    let coordinator = node.coordinator();
    let coordinator = coordinator.as_ref();
    let index = coordinator.map(|coordinator| coordinator.parts().replica.conflicts());
    let counts = index.map(|index| index.counts(|partition| view.holds(partition)));
    let counts = counts.as_ref();
    page.maybe(&registry::CONFLICT_KEYS, coordinator.map(|of| of.conflicts_counted() as f64));
    page.maybe(&registry::CONFLICT_KEYS_HELD, counts.map(|counts| counts.keys as f64));
    page.maybe(&registry::CONFLICT_INDEX_BYTES, counts.map(|counts| counts.bytes as f64));
    let open = counts.map(|counts| (counts.unread + counts.short) as f64);
    page.maybe(&registry::CONFLICT_PARTITIONS_OPEN, open);
}

fn collection(page: &mut Page, node: &Node) {
    let collection = node.collection();
    let ages = collection.floors.iter().filter_map(|(member, age_ms)| Some((member, (*age_ms)?)));
    page.each(
        &registry::FLOOR_AGE_SECONDS,
        ages.map(|(member, age_ms)| (member, age_ms as f64 / 1e3)),
    );
    page.maybe(
        &registry::MARK_AGE_SECONDS,
        collection.mark_age_ms.map(|age_ms| age_ms as f64 / 1e3),
    );
    page.value(&registry::FLOORS_LATE, collection.holding_back.len() as f64);
}

/// Keys are not named in labels, where each would stay for good: the rank is, and `kv hot` has the
/// names.
fn load(page: &mut Page, node: &Node) {
    let hot = node.coordinator().map(|coordinator| coordinator.hot_here());
    let ranked = |rates: Vec<u64>| (1..=HOT_RANKS).zip(rates).map(|(rank, ops)| (rank, ops as f64));
    let keys = hot.iter().flat_map(|hot| hot.keys.iter().map(|key| key.ops_per_s)).collect();
    page.each(&registry::HOT_KEY_OPS, ranked(keys));
    let busiest = hot.iter().flat_map(|hot| hot.partitions.iter());
    page.each(
        &registry::HOT_PARTITION_OPS,
        ranked(busiest.map(|(_, rate)| rate.ops_per_s()).collect()),
    );
    let desired = node.scaler().map(|scaler| {
        let seen = scaler.seen();
        seen.decision.map_or(seen.look.standing.members, |decision| decision.desired)
    });
    page.maybe(&registry::DESIRED_NODES, desired.map(|nodes| nodes as f64));
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::plug::exec::TokioExec;
    use crate::plug::lsm::{LsmDurability, LsmEngine};
    use crate::plug::memory::{MemoryConfig, MemoryEngine};
    use crate::plug::storage::StorageEngine;

    #[tokio::test]
    async fn what_engines_tell_is_what_the_registry_knows() {
        let memory = MemoryEngine::new(MemoryConfig::default());
        let fs = Arc::new(kv_lsm::fs::MemFs::new());
        let config = kv_lsm::Config::default();
        let durability = LsmDurability::Sync;
        let dir = std::path::Path::new("/engine");
        let lsm = LsmEngine::open(fs, dir, config, durability, Arc::new(TokioExec)).unwrap();
        let told = |engine: &dyn StorageEngine| engine.status(None).0.figures;
        let names: BTreeSet<&str> =
            told(&memory).into_iter().chain(told(&lsm)).map(|(name, _)| name).collect();
        let known: BTreeSet<&str> = ENGINE.iter().map(|of| of.raw).collect();
        assert_eq!(names, known);
    }
}
