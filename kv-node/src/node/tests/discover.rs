//! A node looks for the others where a source says that fails at first.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::*;
use crate::plug::discovery::Discovery;
use crate::plug::transport::PeerAddress;

/// Fails twice, then names one node.
#[derive(Default)]
struct Late(AtomicU64);

#[async_trait]
impl Discovery for Late {
    async fn seeds(&self) -> io::Result<Vec<PeerAddress>> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(io::Error::other("no resolver yet")),
            _ => Ok(vec!["n1".into()]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_seeds_finds_the_others_when_their_names_resolve() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let new = world.add(0).await;
    let late = Arc::new(Late::default());
    let began = tokio::time::Instant::now();
    world.node(new).discover(Arc::clone(&late) as _);
    let knows_all = |world: &World| world.node(new).view().now().members.len() == 4;
    world.until("it hears of all", knows_all).await;
    let took = began.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(6)).contains(&took), "{took:?}");
    assert_eq!(late.0.load(Ordering::Relaxed), 3, "after pauses of 1 s and 2 s");
    let told = world.node(new).workers();
    assert!(told.contains(&("discovery", "1 seeds".into())), "{told:?}");
}
