//! What the engines of all nodes hold, read past the nodes, for the checker of convergence.

use std::time::Duration;

use bytes::Bytes;
use kv_node::keys::KeyRef;
use kv_node::plug::storage::PageRequest;
use kv_quorum::HybridTime;

use super::checkers::Violation;
use super::checkers::converged::{Replicas, Rows};
use super::world::World;

/// Between two looks.
const LOOK_MS: u64 = 1_000;
/// Rows of one page.
const PAGE_ROWS_MAX: usize = 4_096;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Waits until all replicas are equal, `ms_max` at most; what differs then.
///
/// # Errors
/// An engine can't be read.
pub async fn converge(world: &World, ms_max: u64) -> Result<Vec<Violation>, String> {
    let until_us = world.now_us() + ms_max * 1_000;
    loop {
        let differences = differences(world).await?;
        if differences.is_empty() || world.now_us() >= until_us {
            return Ok(differences);
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

async fn differences(world: &World) -> Result<Vec<Violation>, String> {
    let mut nodes = Vec::with_capacity(world.nodes());
    for place in 0..world.nodes() {
        nodes.push(rows(world, place).await?);
    }
    let ids: Vec<_> =
        (0..world.nodes()).map(|place| world.with_node(place, kv_node::node::Node::id)).collect();
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
    let flushed = (0..world.nodes())
        .filter_map(|place| world.with_node(place, kv_node::node::Node::coordinator)?)
        .map(|coordinator| coordinator.parts().replica.flushed())
        .max()
        .unwrap_or(HybridTime::ZERO);
    let now_ms = world.true_ms();
    Ok(Replicas { nodes: &nodes, owners: &owners, flushed, now_ms }.differences())
}

/// All rows of a node's engine.
async fn rows(world: &World, place: usize) -> Result<Rows, String> {
    let engine = world
        .with_node(place, |node| std::sync::Arc::clone(node.engine()))
        .ok_or_else(|| format!("node {place} does not run"))?;
    let mut rows = Rows::new();
    let mut from = Bytes::new();
    loop {
        let request = PageRequest {
            from,
            to: Bytes::new(),
            rows_max: PAGE_ROWS_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        let page = engine.scan(request).await.map_err(|error| format!("node {place}: {error}"))?;
        rows.extend(page.rows.iter().map(|(key, record)| (key.to_vec(), record.to_vec())));
        match page.rows.last() {
            Some((last, _)) if !page.end => from = Bytes::from([&last[..], &[0]].concat()),
            _ => return Ok(rows),
        }
    }
}
