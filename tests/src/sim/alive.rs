//! Whether a cluster takes requests again once all is healed: each kind, through every node.
//!
//! Converged replicas that refuse every write would pass all other checkers. Nothing is excused
//! here: no fault is left, so what fails has been left by one. Reads and SETs go through another
//! node than the SET before them: with no primary down R + W > N holds in a sloppy keyspace too.

use super::checkers::Violation;
use super::world::World;
use bytes::Bytes;
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
            let other = (node + 1 + n) % world.nodes();
            if let Err(what) = live_through(world, node, other, key.as_bytes()).await {
                let what = format!("through node {node}: {what}");
                refused.push(Violation { checker: "alive", key, what });
            }
        }
    }
    refused
}

/// A key's whole life through one node, as another sees it.
async fn live_through(world: &World, node: usize, other: usize, key: &[u8]) -> Result<(), String> {
    let doors = (world.door(node), world.door(other));
    let (Some(door), Some(other)) = doors else { return Err("it does not serve".into()) };
    let (one, other) = (&door.coordinator, &other.coordinator);
    let why = |error: RequestError| error.to_string();
    one.set(key, b"value").await.map_err(why)?;
    shows(other.get(key).await.map_err(why)?.as_ref(), Some(b"value"), "SET")?;
    other.set(key, b"newer").await.map_err(why)?;
    shows(one.get(key).await.map_err(why)?.as_ref(), Some(b"newer"), "another SET elsewhere")?;
    let end_ms = Some(world.true_ms() + END_MS);
    one.expire(key, end_ms).await.map_err(why)?;
    shows(other.get(key).await.map_err(why)?.as_ref(), Some(b"newer"), "EXPIRE")?;
    one.delete(key).await.map_err(why)?;
    shows(other.get(key).await.map_err(why)?.as_ref(), None, "DEL")
}

/// Compares what GET shows with what it must show after an operation.
fn shows(shown: Option<&Bytes>, wanted: Option<&[u8]>, after: &str) -> Result<(), String> {
    if shown.map(|bytes| &bytes[..]) == wanted {
        Ok(())
    } else {
        Err(format!("GET shows {shown:?} after {after}"))
    }
}
