//! What the engines of all nodes hold, read past the nodes, for the checker of convergence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_client::NodeId;
use kv_node::coordinator::Coordinator;
use kv_node::keys::{KeyRef, parse_hint};
use kv_node::node::Node;
use kv_node::plug::storage::PageRequest;
use kv_quorum::{HybridTime, Mark};

use super::checkers::Violation;
use super::checkers::converged::{Replicas, Rows};
use super::history::EVERY_KEY;
use super::world::World;

/// Between two looks.
const LOOK_MS: u64 = 500;
/// Rows of one page.
const PAGE_ROWS_MAX: usize = 4_096;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Waits until all replicas are equal and nobody keeps a hint, `ms_max` at most; what differs then.
///
/// # Errors
/// An engine can't be read.
pub async fn converge(world: &World, ms_max: u64) -> Result<Vec<Violation>, String> {
    let begun_us = world.now_us();
    loop {
        let differences = differences(world).await?;
        let took_ms = (world.now_us() - begun_us) / 1_000;
        if differences.is_empty() {
            world.note(format!("all replicas are equal after {took_ms} ms"));
            return Ok(differences);
        }
        if took_ms >= ms_max {
            return Ok(differences);
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

async fn differences(world: &World) -> Result<Vec<Violation>, String> {
    let coordinators: Vec<Arc<Coordinator>> = (0..world.nodes())
        .filter_map(|place| world.with_node(place, Node::coordinator).flatten())
        .collect();
    if coordinators.len() < world.nodes() {
        return Err("a node does not serve".into());
    }
    let mut nodes = Vec::with_capacity(world.nodes());
    let mut hinted = Vec::new();
    for (place, of) in coordinators.iter().enumerate() {
        let (copies, hints) = rows(world, place).await?;
        nodes.push(copies);
        let queued = of.parts().replica.hints().queued();
        let counted: u64 = queued.values().map(|queued| queued.keys).sum();
        if counted > 0 || !hints.is_empty() {
            let what = format!("node {place} counts {counted} hints and keeps {hints:?}");
            hinted.push(Violation { checker: "converged", key: EVERY_KEY.into(), what });
        }
    }
    if !hinted.is_empty() {
        return Ok(hinted);
    }
    let ids: Vec<Option<NodeId>> = (0..world.nodes()).map(|place| world.id(place)).collect();
    let Some(Some(layouts)) = world.with_node(0, |node| node.view().now().layouts.clone()) else {
        return Err("node 0 has no layout".into());
    };
    let owners = |key: &[u8]| {
        let Some(key) = KeyRef::parse(key) else { return Vec::new() };
        let newest = layouts.newest();
        let owners = newest.owners(newest.partitions().of(key.slot));
        (0..ids.len())
            .filter(|place| {
                ids.get(*place).copied().flatten().is_some_and(|id| owners.contains(&id))
            })
            .collect()
    };
    let replica = |place: usize| coordinators.get(place).map(|of| &of.parts().replica);
    let marks = |place: usize, key: &[u8]| {
        replica(place).map_or(Mark::NONE, |replica| replica.mark_for(key))
    };
    let replicas = Replicas {
        nodes: &nodes,
        owners: &owners,
        marks: &marks,
        clock_skew_ms_max: world.clock_skew_ms_max(),
        flushed: flushed(world),
        now_ms: world.true_ms(),
    };
    Ok(replicas.differences())
}

/// The highest mark of a flush that any node has.
#[must_use]
pub fn flushed(world: &World) -> HybridTime {
    let of = |place| world.with_node(place, Node::coordinator).flatten();
    let marks = (0..world.nodes()).filter_map(of).map(|of| of.parts().replica.flushed());
    marks.max().unwrap_or(HybridTime::ZERO)
}

/// All rows of a node's engine that are copies, and what it keeps of which key for whom.
async fn rows(world: &World, place: usize) -> Result<(Rows, Vec<String>), String> {
    let engine = world
        .with_node(place, |node| Arc::clone(node.engine()))
        .ok_or_else(|| format!("node {place} does not run"))?;
    let (mut rows, mut hints) = (Rows::new(), Vec::new());
    let mut from = Bytes::new();
    loop {
        let request = PageRequest {
            from,
            to: Bytes::new(),
            rows_max: PAGE_ROWS_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        let page = engine.scan(request).await.map_err(|error| format!("node {place}: {error}"))?;
        for (key, record) in &page.rows {
            if let Some((target, key)) = parse_hint(key) {
                let name = KeyRef::parse(key).map_or(key, |key| key.key);
                hints.push(format!("{} for {target}", String::from_utf8_lossy(name)));
            } else {
                rows.insert(key.to_vec(), record.to_vec());
            }
        }
        match page.rows.last() {
            Some((last, _)) if !page.end => from = Bytes::from([&last[..], &[0]].concat()),
            _ => return Ok((rows, hints)),
        }
    }
}
