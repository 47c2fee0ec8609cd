//! Changes that could wait for ever, for who is dead and holds nothing any more, and such as were
//! called off when they were over.

use std::collections::BTreeMap;

use kv_client::NodeId;

use super::replace::Load;
use super::*;
use crate::cluster::decree::Decree;
use crate::cluster::wire::{Ballot, BallotOp, BallotOut};
use crate::node::{ChangeError, Reshape};

impl World {
    async fn joined(&self, node: NodeId) {
        self.until("the new node is known", |world| world.node(0).view().now().is_up(node)).await;
        let join = Reshape { joins: vec![node], ..Reshape::default() };
        assert_eq!(self.node(0).reshape(join).await, Ok(2));
    }

    fn slowed(&self) {
        let slow =
            LinkFaults { delay_us_min: 20_000, delay_us_max: 40_000, ..LinkFaults::default() };
        self.network.set_all(slow);
    }

    fn waits_for(&self, node: NodeId) -> String {
        let progress = self.node(0).progress();
        let of = progress.into_iter().find(|progress| progress.node == node);
        of.map(|progress| progress.waits_for).unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn who_dies_after_its_join_was_called_off_is_given_up() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let load = Load::on(&world, &[0, 1, 2]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (troubled, fresh) = (world.add(3).await, world.add(3).await);
    world.slowed();
    let (dead, fresh) = (world.id(troubled), world.id(fresh));
    world.joined(dead).await;
    assert_eq!(world.node(0).abort().await, Ok(3));
    assert!(!world.node(0).view().now().is_removed(dead), "it was up, and is waited for");
    world.crash(troubled).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let all_alone = |world: &World, epoch| (0..3).all(|place| world.alone(place, epoch));
    assert!(!all_alone(&world, 3), "it may be about to write under epoch 2");
    let told = world.waits_for(dead);
    assert_eq!(told, format!("it is down: start it, or: kv cluster replace {dead}"));
    assert_eq!(world.node(0).replace(dead, fresh).await, Err(ChangeError::HoldsNothing(dead)));
    assert_eq!(world.node(0).abort().await, Err(ChangeError::CalledOff));
    let member = world.id(1);
    assert_eq!(world.node(0).give_up(member).await, Err(ChangeError::IsAMember(member)));
    let stranger = NodeId(77);
    assert_eq!(world.node(0).give_up(stranger).await, Err(ChangeError::NotAMember(stranger)));
    assert_eq!(world.node(2).give_up(dead).await, Ok(4));
    assert_eq!(world.node(2).give_up(dead).await, Ok(4), "asked again, answered again");
    world.until("the layouts before retire", |world| all_alone(world, 4)).await;
    let acknowledged = load.end().await;
    for place in 0..3 {
        world.expect_all(place, &acknowledged).await;
    }
    let changes = world.node(0).changes();
    assert!(changes.last().is_some_and(|change| change.left == [dead]), "{changes:?}");
}

#[tokio::test(start_paused = true)]
async fn who_dies_while_it_leaves_is_given_up_and_what_it_held_is_filled_from_the_others() {
    let mut world = World::of(4, Rmw::Refuse).await;
    let mut acknowledged = BTreeMap::new();
    for n in 0..300 {
        let (key, value) = (format!("key{n}"), format!("value{n}"));
        world.set(n % 4, &key, &value).await.expect("all are up");
        acknowledged.insert(key, value);
    }
    let fresh = world.add(4).await;
    let (leaver, dead, new) = (world.id(3), world.id(1), world.id(fresh));
    world.until("the new node is known", |world| world.node(0).view().now().is_up(new)).await;
    // Until all copies are where they belong.
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.slowed();
    let leave = Reshape { leaves: vec![leaver], ..Reshape::default() };
    assert_eq!(world.node(0).reshape(leave).await, Ok(2));
    world.crash(3).await;
    world.crash(1).await;
    assert_eq!(world.node(0).replace(dead, new).await, Ok(3));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(!world.stable_at(3) && !world.all_filled(), "they need who leaves");
    assert_eq!(world.node(2).abort().await, Err(ChangeError::NotToBeUndone));
    assert_eq!(world.node(2).give_up(leaver).await, Ok(4));
    world.until("the layouts before retire", |world| world.stable_at(4)).await;
    assert!(world.all_filled());
    for place in [0, 2, fresh] {
        world.expect_all(place, &acknowledged).await;
    }
    // It comes back, and is told.
    let again = world.start(3, 4, world.disks[3].clone()).await;
    world.nodes[3] = Some(again);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!world.node(3).is_ready() && world.node(3).coordinator().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_proposer_left_calls_off_no_change_that_is_over() {
    let mut world = World::of(3, Rmw::Refuse).await;
    let new = world.add(3).await;
    let before = world.node(0).view().now();
    let earlier = Arc::clone(before.layouts.as_ref().expect("a layout").newest());
    drop(before);
    world.joined(world.id(new)).await;
    let now = world.node(0).view().now();
    let undone = Arc::clone(now.layouts.as_ref().expect("a layout").newest());
    drop(now);
    let back = Decree::abort(&undone, &[], &earlier, |_| false).expect("an epoch");
    let ballot = Ballot { round: 1, node: NodeId(77) };
    let accept = |epoch| BallotOp::Accept { epoch, ballot, decree: back.encode(), found: false };
    let out = world.node(0).inner.acceptor.answer(accept(3));
    assert!(matches!(out, BallotOut::Accepted), "{out:?}");
    // Then its proposer dies. Whoever holds it sees to it; and the change is not over before.
    for _ in 0..1_200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!(0..4).any(|place| world.alone(place, 2)), "it is over, and yet to be called off");
        if (0..3).all(|place| world.alone(place, 3)) {
            break;
        }
    }
    let view = world.node(1).view().now();
    let newest = view.layouts.as_ref().expect("a layout").newest();
    assert_eq!((newest.epoch(), newest.topology()), (3, earlier.topology()));
    drop(view);
    // Once a change is over, what would call it off is not voted for.
    let other = world.add(3).await;
    let id = world.id(other);
    world.until("the new node is known", |world| world.node(0).view().now().is_up(id)).await;
    let join = Reshape { joins: vec![id], ..Reshape::default() };
    assert_eq!(world.node(0).reshape(join).await, Ok(4));
    world.until("it is over", |world| (0..3).all(|place| world.alone(place, 4))).await;
    let view = world.node(0).view().now();
    let undone = Arc::clone(view.layouts.as_ref().expect("a layout").newest());
    let removed = view.removed.to_vec();
    drop(view);
    let late = Decree::abort(&undone, &removed, &back.layout, |_| false).expect("an epoch");
    let decree = late.encode();
    let accept = BallotOp::Accept { epoch: 5, ballot, decree, found: false };
    let out = world.node(0).inner.acceptor.answer(accept);
    assert!(matches!(out, BallotOut::MayNotVote(_)), "{out:?}");
}

impl World {
    /// Whether the layout of this epoch is the only one that a node knows.
    fn alone(&self, place: usize, epoch: u64) -> bool {
        let view = self.node(place).view().now();
        view.epoch() == epoch
            && view.layouts.as_deref().is_some_and(|layouts| !layouts.in_transition())
    }
}
