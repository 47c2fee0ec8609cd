//! Nodes that ask to be members are made members by those who admit whoever asks.

use std::sync::Arc;

use kv_client::NodeId;

use super::*;
use crate::node::Reshape;

struct Open {
    world: World,
    nodes: Vec<Arc<Node>>,
}

impl Open {
    /// Three members who admit whoever asks.
    async fn new() -> Self {
        let mut world = World::of(3, Rmw::Refuse).await;
        let nodes: Vec<Arc<Node>> = world.nodes.drain(..).flatten().map(Arc::new).collect();
        nodes.iter().for_each(Node::admit_who_asks);
        Self { world, nodes }
    }

    /// Starts one more node, empty, which asks or does not.
    async fn add(&mut self, asks: bool) -> NodeId {
        let (place, disk) = (self.world.disks.len(), MemFs::new());
        self.world.disks.push(disk.clone());
        let node = Arc::new(self.world.start(place, 3, disk).await);
        node.admit_who_asks();
        if asks {
            node.ask_to_join();
        }
        let id = node.id();
        self.nodes.push(node);
        id
    }

    fn members(&self) -> Vec<NodeId> {
        let views = self.nodes.iter().map(|node| node.view().now());
        let newest = views.max_by_key(|view| view.epoch()).expect("some run");
        newest.layouts.as_ref().expect("a layout").newest().members().to_vec()
    }

    /// Waits until these are the members and nothing moves, at most a minute.
    async fn until_members(&self, mut wanted: Vec<NodeId>) {
        wanted.sort_unstable();
        for _ in 0..1_200 {
            let stable = self.nodes.iter().all(|node| {
                let view = node.view().now();
                view.layouts.as_ref().is_none_or(|layouts| !layouts.in_transition())
            });
            if stable && self.members() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("members are {:?}, not {wanted:?}", self.members());
    }

    fn admits(&self, place: usize) -> String {
        let workers = self.nodes[place].workers();
        let admit = workers.into_iter().find(|(name, _)| *name == "admit");
        admit.expect("it admits").1
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_joined_and_who_does_not_or_has_left_waits() {
    let mut open = Open::new().await;
    let first: Vec<NodeId> = open.members();
    let silent = open.add(false).await;
    let (one, other) = (open.add(true).await, open.add(true).await);
    let all = [first.clone(), vec![one, other]].concat();
    open.until_members(all.clone()).await;
    assert!(!open.members().contains(&silent));
    let leave = Reshape { leaves: vec![one], ..Reshape::default() };
    open.nodes[0].reshape(leave).await.expect("all are up");
    let left: Vec<NodeId> = all.into_iter().filter(|node| *node != one).collect();
    open.until_members(left.clone()).await;
    let gone = open.nodes.iter().find(|node| node.id() == one).expect("it runs");
    gone.ask_to_join();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut left = left;
    left.sort_unstable();
    assert_eq!(open.members(), left, "who left is not brought back");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_admitted_while_a_member_is_down() {
    let mut open = Open::new().await;
    let first: Vec<NodeId> = open.members();
    let decides = open.nodes.iter().position(|node| node.id() == first[0]).expect("a member");
    let ends = (decides + 1) % 3;
    let stopped = open.nodes.remove(ends);
    stopped.stop().await.expect("memory");
    drop(stopped);
    let decides = if ends < decides { decides - 1 } else { decides };
    let asks = open.add(true).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(open.nodes[decides].view().now().epoch(), 1);
    let says = open.admits(decides);
    assert!(says.contains("is down"), "{says}");
    let back = open.world.start(ends, 3, open.world.disks[ends].clone()).await;
    open.nodes.insert(0, Arc::new(back));
    open.nodes[0].admit_who_asks();
    open.until_members([first, vec![asks]].concat()).await;
}
