//! A node is replaced by an empty one with a new identity, under load and with mishaps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_client::NodeId;
use parking_lot::Mutex;

use super::*;
use crate::node::ChangeError;
use crate::plug::inproc::LinkFaults;

/// Writes through some nodes until it is told to stop, each key once.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeMap<String, String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    pub(super) fn on(world: &World, places: &[usize]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let acknowledged = Arc::<Mutex<BTreeMap<String, String>>>::default();
        let tasks = places.iter().map(|place| {
            let coordinator = world.node(*place).coordinator().expect("a layout");
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let place = *place;
            tokio::spawn(async move {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (key, value) = (format!("{place}/{n}"), format!("value {place} {n}"));
                    if coordinator.set(key.as_bytes(), value.as_bytes()).await.is_ok() {
                        acknowledged.lock().insert(key, value);
                    }
                    tokio::time::sleep(Duration::from_millis(7)).await;
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, acknowledged, tasks }
    }

    /// What was acknowledged.
    pub(super) async fn end(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer does not panic");
        }
        std::mem::take(&mut *self.acknowledged.lock())
    }
}

impl World {
    pub(super) fn id(&self, place: usize) -> NodeId {
        self.node(place).id()
    }

    /// Whether every node that runs knows exactly the layout of this epoch.
    pub(super) fn stable_at(&self, epoch: u64) -> bool {
        self.nodes.iter().flatten().all(|node| {
            let view = node.view().now();
            let alone = |layouts: &kv_ring::History<NodeId>| !layouts.in_transition();
            view.epoch() == epoch && view.layouts.as_deref().is_some_and(alone)
        })
    }

    /// Every replica of the newest layout is complete where it holds something.
    pub(super) fn all_filled(&self) -> bool {
        self.nodes.iter().flatten().all(|node| node.inner.unfilled(&node.view().now()) == 0)
    }

    pub(super) async fn expect_all(&self, place: usize, expected: &BTreeMap<String, String>) {
        for (key, value) in expected {
            let shown = self.get(place, key).await;
            assert_eq!(shown.as_ref(), Ok(&Some(value.clone())), "{key} through node {place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_replaced_under_load_and_nothing_is_lost() {
    let mut world = World::of(5, Rmw::Refuse).await;
    // So that operations are under way whenever anything changes.
    let slow = LinkFaults { delay_us_min: 2_000, delay_us_max: 9_000, ..LinkFaults::default() };
    world.network.set_all(slow);
    let load = Load::on(&world, &[0, 1, 2, 3]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let dead = world.id(4);
    world.crash(4).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let new = world.add(5).await;
    world
        .until("the new node is known", |world| world.node(0).view().now().is_up(world.id(new)))
        .await;
    assert!(!world.node(new).is_ready(), "nobody has named it");
    let fresh = world.id(new);
    assert_eq!(world.node(0).replace(dead, fresh).await, Ok(2));
    world.until("the old layout retires", |world| world.stable_at(2)).await;
    assert!(world.all_filled());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let acknowledged = load.end().await;
    assert!(acknowledged.len() > 500, "{}", acknowledged.len());
    let replans: u64 = (0..4).map(|n| world.node(n).figures().replans.value()).sum();
    assert!(replans > 0, "some operation met the change");
    world.expect_all(new, &acknowledged).await;
    // With one more gone, two of three copies must be the newcomer's where it holds one.
    world.crash(3).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for place in [0, new] {
        world.expect_all(place, &acknowledged).await;
    }
    let again = world.start(4, 5, world.disks[4].clone()).await;
    world.nodes[4] = Some(again);
    world.until("the dead one is refused", |world| !world.node(4).is_ready()).await;
    // It is told before a majority could confirm it, so it never serves again.
    assert!(world.node(4).coordinator().is_none());
    assert!(!world.node(0).view().now().members.contains_key(&dead), "nobody hears of it");
    assert_eq!(world.node(1).replace(dead, fresh).await, Ok(2), "asked again, answered again");
    let told = world.node(1).replace(fresh, dead).await;
    assert_eq!(told, Err(ChangeError::WasRemoved(dead)));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_was_cut_off_learns_of_the_change_and_loses_nothing() {
    let mut world = World::of(5, Rmw::Refuse).await;
    let dead = world.id(4);
    world.crash(4).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let new = world.add(5).await;
    world
        .until("the new node is known", |world| world.node(0).view().now().is_up(world.id(new)))
        .await;
    for other in ["n0", "n2", "n3", "n5"] {
        world.network.set_cut("n1", other, true);
    }
    let fresh = world.id(new);
    assert_eq!(world.node(0).replace(dead, fresh).await, Ok(2));
    assert_eq!(world.node(1).view().now().epoch(), 1, "it has not heard of it");
    world.network.heal();
    let mut acknowledged = BTreeMap::new();
    for n in 0..100 {
        let (key, value) = (format!("key{n}"), format!("value{n}"));
        if world.set(1, &key, &value).await.is_ok() {
            acknowledged.insert(key, value);
        }
    }
    assert!(acknowledged.len() > 90, "{} of 100 acknowledged", acknowledged.len());
    assert!(world.node(1).figures().replans.value() > 0, "it met the change in an operation");
    world.until("the old layout retires", |world| world.stable_at(2)).await;
    for place in [0, 1, new] {
        world.expect_all(place, &acknowledged).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_layout_does_not_retire_while_a_member_has_not_heard_of_it() {
    let mut world = World::of(5, Rmw::Refuse).await;
    let dead = world.id(4);
    world.crash(4).await;
    let new = world.add(5).await;
    world
        .until("the new node is known", |world| world.node(0).view().now().is_up(world.id(new)))
        .await;
    world.crash(1).await;
    let fresh = world.id(new);
    assert_eq!(world.node(0).replace(dead, fresh).await, Ok(2));
    tokio::time::sleep(Duration::from_mins(1)).await;
    let live = world.node(0).view().now().layouts.as_ref().map(|layouts| layouts.live().len());
    assert_eq!(live, Some(2), "node 1 may be about to write under epoch 1");
    world.restart(1, 5).await;
    world.until("the old layout retires", |world| world.stable_at(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_crashes_in_the_middle_is_a_newcomer_still() {
    let mut world = World::of(5, Rmw::Refuse).await;
    let mut acknowledged = BTreeMap::new();
    for n in 0..300 {
        let (key, value) = (format!("key{n}"), format!("value{n}"));
        world.set(n % 5, &key, &value).await.expect("all are up");
        acknowledged.insert(key, value);
    }
    let dead = world.id(4);
    world.crash(4).await;
    let new = world.add(5).await;
    world
        .until("the new node is known", |world| world.node(0).view().now().is_up(world.id(new)))
        .await;
    let fresh = world.id(new);
    assert_eq!(world.node(2).replace(dead, fresh).await, Ok(2));
    world.until("the newcomer is named", |world| world.node(new).is_ready()).await;
    assert!(!world.all_filled(), "it holds nothing yet");
    world.crash(new).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.restart(new, 5).await;
    let back = world.node(new);
    assert!(back.inner.unfilled(&back.view().now()) > 0, "a restart does not make it complete");
    world.until("the old layout retires", |world| world.stable_at(2)).await;
    world.crash(3).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for place in [0, new] {
        world.expect_all(place, &acknowledged).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_operators_who_replace_one_node_at_once_one_is_told_no() {
    let mut world = World::of(5, Rmw::Refuse).await;
    let dead = world.id(4);
    world.crash(4).await;
    let (one, two) = (world.add(5).await, world.add(5).await);
    world
        .until("the new nodes are known", |world| {
            let view = |place: usize| world.node(place).view().now();
            [0, 1]
                .iter()
                .all(|place| view(*place).is_up(world.id(one)) && view(*place).is_up(world.id(two)))
        })
        .await;
    let (first, second) = (world.id(one), world.id(two));
    let (here, there) =
        tokio::join!(world.node(0).replace(dead, first), world.node(1).replace(dead, second));
    let told = Err(ChangeError::NotAMember(dead));
    let one_won = (here == Ok(2) && there == told) || (there == Ok(2) && here == told);
    assert!(one_won, "{here:?} {there:?}");
    let (winner, loser) = if here.is_ok() { (one, two) } else { (two, one) };
    world.until("the winner serves", |world| world.node(winner).is_ready()).await;
    assert!(!world.node(loser).is_ready());
    let digests: Vec<_> =
        [0, 1, 2, 3, winner].iter().map(|at| world.node(*at).view().now().layout_names()).collect();
    assert!(digests.windows(2).all(|pair| pair[0].last() == pair[1].last()), "{digests:?}");
    // The loser is still empty, and can take another's places.
    let living = world.id(3);
    assert_eq!(world.node(2).replace(living, world.id(loser)).await, Ok(3));
    world.until("the replaced one is told", |world| !world.node(3).is_ready()).await;
    world.crash(3).await;
    world.until("the old layouts retire", |world| world.stable_at(3)).await;
}
