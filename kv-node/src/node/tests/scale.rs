//! A cluster that scales by itself: it grows while it is asked for much and shrinks afterwards, and
//! loses nothing by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_client::NodeId;

use super::*;
use crate::plug::provisioner::MemoryProvisioner;
use crate::scale::{Mode, Policy, ScaleParts, ScaleSettings};

struct Scaled {
    world: World,
    nodes: Vec<Arc<Node>>,
    memory: Arc<MemoryProvisioner>,
    policy: Policy,
    /// Nodes that were ended.
    ended: usize,
}

impl Scaled {
    async fn of(count: usize) -> Self {
        let policy = Policy {
            nodes_max: 5,
            ops_per_node: 200,
            cpu_percent: 0,
            out_after_ms: 3_000,
            in_after_ms: 6_000,
            cool_down_ms: 3_000,
            ..Policy::default()
        };
        Self::with(count, policy).await
    }

    async fn with(count: usize, policy: Policy) -> Self {
        let mut world = World::of(count, Rmw::Refuse).await;
        let nodes: Vec<Arc<Node>> = world.nodes.drain(..).flatten().map(Arc::new).collect();
        let scaled = Self { world, nodes, memory: Arc::default(), policy, ended: 0 };
        scaled.nodes.iter().for_each(|node| scaled.take_part(node));
        scaled
    }

    fn take_part(&self, node: &Arc<Node>) {
        let policy = self.policy;
        let settings =
            ScaleSettings { mode: Mode::Auto, policy, interval_ms: 500, add_ms_max: 20_000 };
        let provisioner = Arc::clone(&self.memory) as _;
        node.scale(ScaleParts { settings, provisioner }).expect("memory");
        node.scale(ScaleParts { settings, provisioner: Arc::clone(&self.memory) as _ })
            .expect("a second call does nothing");
    }

    /// Does what the provisioner was asked for.
    async fn provide(&mut self) {
        while self.nodes.len() < 3 + self.memory.added().len() {
            let (place, disk) = (self.world.disks.len(), MemFs::new());
            self.world.disks.push(disk.clone());
            let node = Arc::new(self.world.start(place, 3, disk).await);
            self.take_part(&node);
            self.nodes.push(node);
        }
        for gone in self.memory.removed().into_iter().skip(self.ended) {
            let node = self.nodes.iter().find(|node| node.id() == gone.node).expect("one of ours");
            assert!(!node.view().now().layouts.as_ref().is_some_and(|layouts| {
                layouts.live().any(|layout| layout.contains(gone.node))
            }));
            node.stop().await.expect("memory");
            self.ended += 1;
        }
    }

    fn members(&self) -> Vec<NodeId> {
        let views = self.nodes.iter().map(|node| node.view().now());
        let newest = views.max_by_key(|view| view.epoch()).expect("some run");
        newest.layouts.as_ref().expect("a layout").newest().members().to_vec()
    }

    /// So many reads in a second through every member, until `what` holds.
    async fn under(
        &mut self,
        total_per_s: usize,
        seconds_max: usize,
        what: impl Fn(&Self) -> bool,
    ) -> bool {
        for _ in 0..seconds_max * 10 {
            self.provide().await;
            if what(self) {
                return true;
            }
            let members = self.members();
            let serving = self.nodes.iter().filter(|node| members.contains(&node.id()));
            let coordinators: Vec<_> = serving.filter_map(|node| node.coordinator()).collect();
            for coordinator in &coordinators {
                let count = total_per_s / 10 / coordinators.len();
                let names: Vec<String> = (0..count).map(|n| format!("key{n}")).collect();
                let keys: Vec<KeyRef<'_>> =
                    names.iter().map(|name| KeyRef::place(0, name.as_bytes())).collect();
                let failed = AtomicU64::new(0);
                coordinator
                    .get_batch(&keys, Levels::default(), &mut |_, value| {
                        failed.fetch_add(u64::from(value.is_err()), Ordering::Relaxed);
                    })
                    .await;
                assert_eq!(failed.load(Ordering::Relaxed), 0, "no read fails");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// Codes of what was decided and done, by whoever decided.
    fn noted(&self) -> Vec<String> {
        let pages = self.nodes.iter().map(|node| node.events().page(None, 1_000));
        let mut events: Vec<_> = pages.flat_map(|page| page.events).collect();
        events.sort_by_key(|event| (event.unix_ms, event.number));
        let codes = events.into_iter().filter(|event| event.code.starts_with("scale."));
        codes.map(|event| event.code).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn it_grows_while_it_is_busy_and_shrinks_when_it_is_not() {
    let mut scaled = Scaled::of(3).await;
    for n in 0..100 {
        let coordinator = scaled.nodes[n % 3].coordinator().expect("it serves");
        coordinator.set(format!("key{n}").as_bytes(), b"value").await.expect("all are up");
    }
    let still = scaled.under(450, 20, |scaled| scaled.members().len() != 3).await;
    assert!(!still, "three are enough: {:?}", scaled.noted());
    let grown = scaled.under(950, 300, |scaled| scaled.members().len() == 5).await;
    assert!(grown, "{:?}", scaled.noted());
    let full = scaled.under(2_000, 30, |scaled| scaled.members().len() != 5).await;
    assert!(!full, "there are five at most: {:?}", scaled.noted());
    let shrunk = scaled.under(60, 600, |scaled| scaled.ended == 2).await;
    assert!(shrunk, "{:?}", scaled.noted());
    assert_eq!(scaled.members().len(), 3);
    let fewer = scaled.under(10, 60, |scaled| scaled.members().len() < 3).await;
    assert!(!fewer, "never fewer than three");
    assert_eq!((scaled.memory.added().len(), scaled.memory.removed().len()), (2, 2));
    let noted = scaled.noted();
    for (code, times) in
        [("scale.asks", 2), ("scale.joins", 2), ("scale.leaves", 2), ("scale.ended", 2)]
    {
        let found = noted.iter().filter(|noted| *noted == code).count();
        assert_eq!(found, times, "{code} in {noted:?}");
    }
    assert!(!noted.iter().any(|code| code == "scale.failed"), "{noted:?}");
    for n in 0..100 {
        let members = scaled.members();
        let some = scaled.nodes.iter().find(|node| members.contains(&node.id())).expect("three");
        let coordinator = some.coordinator().expect("it serves");
        let value = coordinator.get(format!("key{n}").as_bytes()).await;
        assert_eq!(value, Ok(Some(Bytes::from_static(b"value"))), "key{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_set_at_one_node_holds_at_all() {
    let scaled = Scaled::of(3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let change = |board: &mut crate::scale::Board, _: &_| {
        board.mode = Some(Mode::Advise);
        board.paused_until_ms = 77;
        Ok(())
    };
    let board = scaled.nodes[2].next_board(change).expect("it takes part");
    scaled.nodes[2].set_board(board).await.expect("memory");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let modes = scaled.nodes.iter().map(|node| node.scaler().map(|of| of.seen().mode));
        if modes.clone().all(|mode| mode == Some(Mode::Advise)) {
            return;
        }
    }
    panic!("not all have heard of it");
}

#[tokio::test(start_paused = true)]
async fn hot_keys_are_found_whoever_is_asked() {
    let scaled = Scaled::of(3).await;
    for n in 0..12_000 {
        let coordinator = scaled.nodes[n % 3].coordinator().expect("it serves");
        let name = if n % 4 == 0 { "hot".to_owned() } else { format!("key{n}") };
        let key = KeyRef::place(0, name.as_bytes());
        coordinator.get_batch(&[key], Levels::default(), &mut |_, _| {}).await;
        if n % 1_000 == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // The window in which that was ends.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let coordinator = scaled.nodes[1].coordinator().expect("it serves");
    let mut view = coordinator.hot_everywhere(5).await.expect("it serves");
    for _ in 0..40 {
        if !view.keys.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        view = coordinator.hot_everywhere(5).await.expect("it serves");
    }
    assert_eq!(&view.keys[0].key[..], b"hot", "{view:?}");
    assert!(view.silent.is_empty());
}

/// The newest layout; no view is held by it, which would keep an older one live.
fn newest_of(scaled: &Scaled) -> Arc<kv_ring::Layout<NodeId>> {
    let view = scaled.nodes[0].view().now();
    Arc::clone(view.layouts.as_ref().expect("a layout").newest())
}

/// Reads for a tenth of a second, as cluster-aware clients do: of the first primary of each
/// partition, of some partitions many.
async fn read_of_first_primaries(scaled: &Scaled, keys: &[(u16, String)], hot: &[u16]) {
    let newest = newest_of(scaled);
    let one = Levels { read: Some(LevelSetting::One), ..Levels::default() };
    for node in &scaled.nodes {
        let firsts = newest.held_by(node.id()).filter(|(_, first)| *first);
        let firsts: Vec<u16> = firsts.map(|(partition, _)| partition.index()).collect();
        let mut batch = Vec::new();
        for (partition, name) in keys.iter().filter(|(of, _)| firsts.contains(of)) {
            let times = if hot.contains(partition) { 100 } else { 7 };
            let key = KeyRef::place(0, name.as_bytes());
            batch.extend(std::iter::repeat_n(key, times));
        }
        let coordinator = node.coordinator().expect("it serves");
        coordinator
            .get_batch(&batch, one, &mut |_, value| assert!(value.is_ok(), "no read fails"))
            .await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn busy_partitions_of_one_node_are_spread_without_another_node() {
    let policy = Policy {
        nodes_max: 9,
        ops_per_node: 2_000,
        cpu_percent: 0,
        out_after_ms: 6_000,
        in_after_ms: 60_000,
        cool_down_ms: 3_000,
        ..Policy::default()
    };
    let scaled = Scaled::with(5, policy).await;
    let newest = newest_of(&scaled);
    let of = |name: &str| newest.partitions().of(KeyRef::place(0, name.as_bytes()).slot).index();
    let mut keys: Vec<(u16, String)> = Vec::new();
    for name in (0..10_000).map(|n| format!("key{n}")) {
        if !keys.iter().any(|(known, _)| *known == of(&name)) {
            keys.push((of(&name), name));
        }
    }
    assert_eq!(keys.len(), 64, "one of each partition");
    let busy = scaled.nodes[3].id();
    let firsts = newest.held_by(busy).filter(|(_, first)| *first);
    let hot: Vec<u16> = firsts.map(|(partition, _)| partition.index()).take(3).collect();
    let spread = |scaled: &Scaled| {
        let view = scaled.nodes[0].view().now();
        let layouts = Arc::clone(view.layouts.as_ref().expect("a layout"));
        let partitions = layouts.newest().partitions().iter();
        let there = partitions.filter(|partition| {
            hot.contains(&partition.index())
                && layouts.newest().owners(*partition).first() == Some(&busy)
        });
        there.count() == 1 && !layouts.in_transition()
    };
    let mut done = false;
    for _ in 0..1_200 {
        read_of_first_primaries(&scaled, &keys, &hot).await;
        done = done || spread(&scaled);
        if done {
            break;
        }
    }
    let noted = scaled.noted();
    assert!(done, "{noted:?}");
    let moves = noted.iter().filter(|code| *code == "scale.moves").count();
    assert_eq!(moves, 2, "two of three went: {noted:?}");
    let epoch = scaled.nodes[0].view().now().epoch();
    for _ in 0..300 {
        read_of_first_primaries(&scaled, &keys, &hot).await;
    }
    assert_eq!(scaled.nodes[0].view().now().epoch(), epoch, "and nothing more: {noted:?}");
    assert!(scaled.memory.added().is_empty() && scaled.members().len() == 5);
}
