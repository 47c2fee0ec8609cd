//! Members join, leave, and bring more or less, under load: nothing is lost, and nothing of before
//! comes back.

use kv_client::NodeId;
use kv_ring::Partition;

use super::replace::Load;
use super::*;
use crate::node::{ChangeError, Reshape};
use crate::plug::inproc::LinkFaults;

impl World {
    async fn knows(&self, place: usize) {
        let id = self.id(place);
        self.until("the new node is known", |world| world.node(0).view().now().is_up(id)).await;
    }

    /// Whether every node up to `last` knows exactly the layout of this epoch.
    fn stable_at_of(&self, epoch: u64, last: usize) -> bool {
        (0..=last).all(|place| {
            let view = self.node(place).view().now();
            let alone = |layouts: &kv_ring::History<NodeId>| !layouts.in_transition();
            view.epoch() == epoch && view.layouts.as_deref().is_some_and(alone)
        })
    }

    /// The partitions that a node holds in its newest layout, and those that it does not.
    fn held(&self, place: usize) -> (Vec<Partition>, Vec<Partition>) {
        let view = self.node(place).view().now();
        let layouts = view.layouts.as_ref().expect("a layout");
        layouts.newest().partitions().iter().partition(|partition| view.holds(*partition))
    }

    /// Rows of partitions that a node does not hold; they are gone afterwards.
    async fn leftovers(&self, place: usize) -> u64 {
        let serving = self.node(place).inner.serving().expect("it serves");
        let mut rows = 0;
        for partition in self.held(place).1 {
            rows += serving.replica.drop_partition(partition).await.expect("memory");
        }
        rows
    }
}

fn joins(nodes: &[NodeId]) -> Reshape {
    Reshape { joins: nodes.to_vec(), ..Reshape::default() }
}

fn leaves(nodes: &[NodeId]) -> Reshape {
    Reshape { leaves: nodes.to_vec(), ..Reshape::default() }
}

fn weight(node: NodeId, weight: u32) -> Reshape {
    Reshape { weights: vec![(node, weight)], ..Reshape::default() }
}

#[tokio::test(start_paused = true)]
async fn two_join_and_two_leave_under_load_and_nothing_is_lost() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let slow = LinkFaults { delay_us_min: 2_000, delay_us_max: 9_000, ..LinkFaults::default() };
    world.network.set_all(slow);
    let load = Load::on(&world, &[0, 1, 2]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (fourth, fifth) = (world.add(3).await, world.add(3).await);
    world.knows(fourth).await;
    world.knows(fifth).await;
    let both = joins(&[world.id(fourth), world.id(fifth)]);
    let plan = world.node(1).plan(&both).await.expect("two empty nodes");
    let gains: usize = plan.nodes.iter().map(|share| share.gains).sum();
    assert_eq!((plan.epoch, plan.nodes.len(), gains), (1, 5, plan.moves));
    assert_eq!(plan.steps.len(), 2, "one of three owners can be spared at a time");
    assert_eq!(plan.steps.iter().sum::<usize>(), plan.moves);
    assert!(!world.node(fourth).is_ready(), "a plan changes nothing");
    for epoch in [2, 3] {
        assert_eq!(world.node(1).reshape(both.clone()).await, Ok(epoch));
        world.until("the layout before retires", |world| world.stable_at_of(epoch, fifth)).await;
    }
    assert_eq!(world.node(0).reshape(both.clone()).await, Ok(3), "asked again, it is so");
    assert!(world.node(0).plan(&both).await.expect("members").steps.is_empty());
    for share in &plan.nodes {
        let at = (0..5).find(|at| world.id(*at) == share.node).expect("one of ours");
        // The last step is planned anew: who gets the odd one may change.
        assert!(world.held(at).0.len().abs_diff(share.after) <= 1, "what the plan said");
    }
    assert!(world.all_filled());
    let changes = world.node(0).changes();
    let joined: Vec<usize> = changes.iter().map(|change| change.joined.len()).collect();
    assert_eq!(joined, [2, 0], "both are members from the first step: {changes:?}");
    let moved: u32 = changes.iter().map(|change| change.copies).sum();
    assert!((moved as usize).abs_diff(plan.moves) <= 1 + plan.moves / 20, "{moved}");
    for (place, epoch) in [(1, 4), (2, 5)] {
        let one = leaves(&[world.id(place)]);
        assert_eq!(world.node(fourth).reshape(one).await, Ok(epoch));
        world.until("the layout before retires", |world| world.stable_at(epoch)).await;
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    let acknowledged = load.end().await;
    assert!(acknowledged.len() > 1_000, "{}", acknowledged.len());
    for place in 0..5 {
        assert_eq!(world.leftovers(place).await, 0, "node {place} dropped what it holds no more");
    }
    assert!(world.held(1).0.is_empty() && world.held(2).0.is_empty());
    // Who left still forwards, and then is gone.
    world.expect_all(1, &acknowledged).await;
    world.crash(1).await;
    world.crash(2).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for place in [0, fourth, fifth] {
        world.expect_all(place, &acknowledged).await;
    }
    // Each of the three holds all of it: with one more gone it is there still.
    world.crash(0).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.expect_all(fifth, &acknowledged).await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_comes_back_begins_with_nothing_of_before() {
    let mut world = World::of(5, Rmw::Refuse).await;
    for n in 0..300 {
        world.set(n % 5, &format!("key{n}"), "before").await.expect("all are up");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let drained = world.id(4);
    let held_before = world.held(4).0.len();
    assert_eq!(world.node(0).reshape(weight(drained, 0)).await, Ok(2));
    world.until("the first layout retires", |world| world.stable_at(2)).await;
    assert!(world.held(4).0.is_empty());
    for n in 0..300 {
        world.set(n % 5, &format!("key{n}"), "after").await.expect("all are up");
    }
    let dropped = |world: &World| world.node(4).figures().leftovers_dropped.value();
    let before = dropped(&world);
    // What its loop has not dropped by now has to go before it holds anything again.
    assert_eq!(world.node(2).reshape(weight(drained, 1)).await, Ok(3));
    world
        .until("the second layout is taken", |world| world.node(4).view().now().epoch() == 3)
        .await;
    assert!(dropped(&world) > before || before > 100, "{before} rows, {} rows", dropped(&world));
    world.until("the second layout retires", |world| world.stable_at(3)).await;
    assert!(world.held(4).0.len().abs_diff(held_before) <= 1);
    for place in [0, 1] {
        world.crash(place).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut shown = 0;
    for n in 0..300 {
        // Where two of three are gone there is no quorum.
        if let Ok(value) = world.get(4, &format!("key{n}")).await {
            assert_eq!(value.as_deref(), Some("after"), "key{n}");
            shown += 1;
        }
    }
    assert!(shown > 50, "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_crashes_while_it_joins_is_filled_all_the_same() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let load = Load::on(&world, &[0, 1, 2]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let new = world.add(3).await;
    world.knows(new).await;
    assert_eq!(world.node(0).reshape(joins(&[world.id(new)])).await, Ok(2));
    world.until("the newcomer is named", |world| world.node(new).is_ready()).await;
    world.crash(new).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!world.stable_at(2), "nothing retires without it");
    world.restart(new, 3).await;
    world.until("the old layout retires", |world| world.stable_at(2)).await;
    let acknowledged = load.end().await;
    for place in [0, new] {
        world.expect_all(place, &acknowledged).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_can_not_end_is_called_off_and_nothing_is_lost() {
    let mut world = World::of(3, Rmw::Refuse).await;
    assert_eq!(world.node(0).abort().await, Err(ChangeError::NothingUnderWay));
    let load = Load::on(&world, &[0, 1, 2]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let new = world.add(3).await;
    world.knows(new).await;
    assert_eq!(world.node(0).reshape(joins(&[world.id(new)])).await, Ok(2));
    world.until("the newcomer is named", |world| world.node(new).is_ready()).await;
    let dead = world.id(new);
    world.crash(new).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!world.stable_at(2), "nothing retires without it");
    assert_eq!(world.node(1).abort().await, Ok(3));
    let again = world.node(2).abort().await;
    assert!(matches!(again, Ok(3) | Err(ChangeError::NothingUnderWay)), "{again:?}");
    world.until("what was before is alone", |world| world.stable_at(3)).await;
    let view = world.node(0).view().now();
    assert!(view.is_removed(dead), "nobody waits for who did not come");
    let held: Vec<usize> = (0..3).map(|place| world.held(place).0.len()).collect();
    assert!(held.iter().all(|one| *one == held[0]), "all of it, as before: {held:?}");
    let acknowledged = load.end().await;
    for place in 0..3 {
        world.expect_all(place, &acknowledged).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_moves_is_given_back_when_it_is_called_off() {
    let mut world = World::of(4, Rmw::Refuse).await;
    let load = Load::on(&world, &[0, 1, 2, 3]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before: Vec<_> = (0..4).map(|place| world.held(place).0).collect();
    // So slow that it is called off in the middle.
    let slow = LinkFaults { delay_us_min: 20_000, delay_us_max: 40_000, ..LinkFaults::default() };
    world.network.set_all(slow);
    assert_eq!(world.node(0).reshape(weight(world.id(3), 0)).await, Ok(2));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!world.all_filled());
    assert_eq!(world.node(3).abort().await, Ok(3));
    world.until("the layouts before retire", |world| world.stable_at(3)).await;
    let after: Vec<_> = (0..4).map(|place| world.held(place).0).collect();
    assert_eq!(before, after);
    let acknowledged = load.end().await;
    world.until("all is filled", World::all_filled).await;
    world.crash(0).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for place in 1..4 {
        world.expect_all(place, &acknowledged).await;
    }
    assert_eq!(world.node(1).reshape(weight(world.id(3), 0)).await, Ok(4), "and begun anew");
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_at_once_one_is_decided_and_the_other_told() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let new = world.add(3).await;
    world.knows(new).await;
    let (join, drain) = (joins(&[world.id(new)]), weight(world.id(2), 4));
    let (one, other) = futures::join!(world.node(0).reshape(join), world.node(1).reshape(drain));
    let told = |end: &Result<u64, ChangeError>| matches!(end, Ok(2) | Err(ChangeError::UnderWay));
    assert!(told(&one) && told(&other), "{one:?}, {other:?}");
    assert_eq!(u32::from(one.is_ok()) + u32::from(other.is_ok()), 1, "{one:?}, {other:?}");
    world
        .until("it is stable", |world| {
            let digest = |place: usize| {
                let view = world.node(place).view().now();
                view.layouts.as_ref().map(|layouts| layouts.newest().digest())
            };
            (0..3).all(|place| digest(place) == digest(0))
                && world.node(0).view().now().epoch() == 2
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_can_not_be_made_says_why() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let stranger = NodeId(77);
    let node = world.node(0);
    let few = node.reshape(leaves(&[world.id(2)])).await;
    assert!(matches!(few, Err(ChangeError::Placement(_))), "three copies of two nodes: {few:?}");
    let told = node.reshape(leaves(&[stranger])).await;
    assert_eq!(told, Err(ChangeError::NotAMember(stranger)));
    assert_eq!(node.reshape(weight(stranger, 1)).await, Err(ChangeError::NotAMember(stranger)));
    assert_eq!(node.reshape(joins(&[stranger])).await, Err(ChangeError::Unreachable(stranger)));
    let late = Reshape { after: Some(9), ..weight(world.id(1), 3) };
    assert_eq!(node.reshape(late).await, Err(ChangeError::Overtaken { epoch: 1 }));
    let new = world.add(3).await;
    world.knows(new).await;
    world.crash(1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut swap = joins(&[world.id(new)]);
    let down = world.node(0).view().now().layouts.as_ref().and_then(|layouts| {
        let up = [world.id(0), world.id(2)];
        layouts.newest().members().iter().copied().find(|node| !up.contains(node))
    });
    swap.leaves = down.into_iter().collect();
    let told = world.node(0).reshape(swap.clone()).await;
    assert_eq!(told, Err(ChangeError::Down(swap.leaves[0])));
}
