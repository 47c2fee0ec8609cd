//! Whether a cluster takes requests again once all is healed: each kind, through every node.
//!
//! Converged replicas that refuse every write would pass all other checkers. Nothing is excused
//! here: no fault is left, so what fails has been left by one.

use super::checkers::Violation;
use super::world::World;
use kv_node::error::RequestError;

/// Keys that are written and read through each node.
const KEYS_EACH: usize = 4;
/// Milliseconds from now to an end that is not reached here.
const END_MS: u64 = 3_600_000;

/// Sets, reads, ends and deletes keys of their own through each node; what was not done.
pub async fn refused(world: &World) -> Vec<Violation> {
    let mut refused = Vec::new();
    for node in 0..world.nodes() {
        for n in 0..KEYS_EACH {
            let key = format!("after:{node}:{n}");
            if let Err(what) = live_through(world, node, key.as_bytes()).await {
                let what = format!("through node {node}: {what}");
                refused.push(Violation { checker: "alive", key, what });
            }
        }
    }
    refused
}

/// A key's whole life through one node.
async fn live_through(world: &World, node: usize, key: &[u8]) -> Result<(), String> {
    let door = world.door(node).ok_or("it does not serve")?;
    let (coordinator, why) = (&door.coordinator, |error: RequestError| error.to_string());
    coordinator.set(key, b"value").await.map_err(why)?;
    let shown = coordinator.get(key).await.map_err(why)?;
    if shown.as_deref() != Some(b"value") {
        return Err(format!("GET shows {shown:?} after SET"));
    }
    let end_ms = Some(world.true_ms() + END_MS);
    coordinator.expire(key, end_ms).await.map_err(why)?;
    coordinator.delete(key).await.map_err(why)?;
    match coordinator.get(key).await.map_err(why)? {
        None => Ok(()),
        shown => Err(format!("GET shows {shown:?} after DEL")),
    }
}
