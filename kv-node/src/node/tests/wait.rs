//! WAIT over three and five nodes: what is counted, what goes on being counted, what ends it.

use super::*;
use crate::coordinator::WriteLedger;
use crate::plug::inproc::LinkFaults;

/// From one node to another so slow that an answer at W=2 comes without it.
const SLOW: LinkFaults =
    LinkFaults { delay_us_min: 300_000, delay_us_max: 300_000, loss_per_million: 0, cut: false };

impl World {
    /// The places of the nodes that hold a key, first place first.
    fn owners(&self, key: &str) -> Vec<usize> {
        let view = self.node(0).view().now();
        let layouts = view.layouts.as_ref().expect("a layout");
        let slot = KeyRef::place(0, key.as_bytes()).slot;
        let owners = layouts.newest().owners(layouts.newest().partitions().of(slot));
        let place = |id| (0..self.nodes.len()).find(|n| self.node(*n).id() == id);
        owners.iter().map(|id| place(*id).expect("a node of this world")).collect()
    }

    /// A key that `node` does not hold, and its owners.
    fn foreign_key(&self, node: usize) -> (String, Vec<usize>) {
        let mut keys = (0..1_000).map(|n| format!("key{n}"));
        let key = keys.find(|key| !self.owners(key).contains(&node)).expect("some key");
        let owners = self.owners(&key);
        (key, owners)
    }

    async fn noted(&self, place: usize, key: &str, what: Mutation, ledger: &mut WriteLedger) {
        let coordinator = self.node(place).coordinator().expect("a layout");
        let key = KeyRef::place(0, key.as_bytes());
        let (done, followed) = coordinator.mutate_followed(key, what, Levels::default()).await;
        done.expect("acknowledged");
        ledger.note(followed);
    }

    async fn set_noted(&self, place: usize, key: &str, ledger: &mut WriteLedger) {
        let coordinator = self.node(place).coordinator().expect("a layout");
        let key = KeyRef::place(0, key.as_bytes());
        let item = SetItem { key, value: b"value", expiry: ExpiryRule::Never };
        let (ends, trail) = coordinator.set_batch(&[item], Levels::default()).await;
        assert_eq!(ends, [Ok(())]);
        ledger.note(trail);
    }

    async fn wait(&self, place: usize, ledger: &mut WriteLedger, wanted: usize, ms: u64) -> usize {
        self.node(place).coordinator().expect("a layout").wait(ledger, wanted, ms).await
    }

    fn slow(&self, from: usize, to: usize, faults: LinkFaults) {
        self.network.set_link(&format!("n{from}"), &format!("n{to}"), faults);
    }
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_set_is_counted_and_goes_on_counting() {
    let world = World::of(5, Rmw::Refuse).await;
    let (key, owners) = world.foreign_key(0);
    world.slow(owners[0], owners[2], SLOW);
    let mut ledger = WriteLedger::default();
    world.set_noted(0, &key, &mut ledger).await;
    assert_eq!(world.wait(0, &mut ledger, 1, 0).await, 1, "W=2 is one other replica");
    world.set_noted(0, &key, &mut ledger).await;
    let began = world.clock.steady_ms();
    assert_eq!(world.wait(0, &mut ledger, 2, 5_000).await, 2, "the third has it a little later");
    assert!((200..2_000).contains(&(world.clock.steady_ms() - began)), "as soon as it has it");

    world.network.set_cut(&format!("n{}", owners[0]), &format!("n{}", owners[2]), true);
    world.set_noted(0, &key, &mut ledger).await;
    assert_eq!(world.wait(0, &mut ledger, 2, 500).await, 1, "the third never gets it");
    assert_eq!(world.wait(0, &mut ledger, 2, 500).await, 1, "nor by asking again");
    world.network.heal();
    assert_eq!(world.wait(0, &mut ledger, 2, 60_000).await, 2, "it has it once it is reached");
    let mut none = WriteLedger::default();
    assert_eq!(world.wait(0, &mut none, 2, 500).await, 2, "no writes: how many are up");
}

#[tokio::test(start_paused = true)]
async fn sets_of_a_keyspace_with_one_decider_are_counted() {
    let world = World::of(3, Rmw::BestEffort).await;
    let owners = world.owners("k");
    for place in [owners[0], owners[1]] {
        world.network.heal();
        world.slow(owners[0], owners[2], LinkFaults { cut: true, ..LinkFaults::default() });
        let mut ledger = WriteLedger::default();
        world.set_noted(place, "k", &mut ledger).await;
        assert_eq!(world.wait(place, &mut ledger, 2, 500).await, 1, "from node {place}");
        world.slow(owners[0], owners[2], SLOW);
        world.set_noted(place, "k", &mut ledger).await;
        assert_eq!(world.wait(place, &mut ledger, 2, 5_000).await, 2, "from node {place}");
    }
}

#[tokio::test(start_paused = true)]
async fn deletes_expiries_and_puts_go_on_counting() {
    let world = World::of(5, Rmw::Refuse).await;
    let (key, owners) = world.foreign_key(0);
    world.set(0, &key, "value").await.expect("a quorum");
    world.slow(owners[0], owners[2], SLOW);
    let at = world.clock.wall_ms() + 500_000;
    let put = Mutation::Put { value: "x".into(), context: None, expiry: ExpiryRule::Never };
    for place in [owners[0], 0] {
        for what in [
            Mutation::Expire { expires_at_ms: Some(at + place as u64), condition: None },
            Mutation::ReadAndExpire { expires_at_ms: Some(at + 10 + place as u64) },
            Mutation::Delete,
            put.clone(),
        ] {
            let mut ledger = WriteLedger::default();
            world.noted(place, &key, what.clone(), &mut ledger).await;
            let held = world.wait(place, &mut ledger, 2, 5_000).await;
            assert_eq!(held, 2, "{what:?} from node {place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_happened_is_held_by_nobody() {
    let mut world = World::with(5, Rmw::Refuse, false, AntiEntropyConfig::default()).await;
    let (key, owners) = world.foreign_key(0);
    for other in &owners[1..] {
        world.slow(owners[0], *other, LinkFaults { cut: true, ..LinkFaults::default() });
    }
    let coordinator = world.node(0).coordinator().expect("a layout");
    let place = KeyRef::place(0, key.as_bytes());
    let item = SetItem { key: place, value: b"value", expiry: ExpiryRule::Never };
    let (ends, trail) = coordinator.set_batch(&[item], Levels::default()).await;
    assert!(matches!(ends[..], [Err(RequestError::Indeterminate { .. })]), "{ends:?}");
    let mut ledger = WriteLedger::default();
    ledger.note(trail);
    assert_eq!(world.wait(0, &mut ledger, 1, 500).await, 0);
    world.nodes.clear();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_less_long_is_answered_by_then() {
    let world = World::of(3, Rmw::Refuse).await;
    for other in ["n1", "n2"] {
        world.network.set_cut("n0", other, true);
    }
    let coordinator = world.node(0).coordinator().expect("a layout");
    let began = world.clock.steady_ms();
    let levels = Levels { until_ms: Some(began + 300), ..Levels::default() };
    let done = coordinator.mutate(KeyRef::place(0, b"k"), Mutation::Delete, levels).await;
    assert!(done.is_err(), "nobody else was reached: {done:?}");
    let item = SetItem { key: KeyRef::place(0, b"k"), value: b"v", expiry: ExpiryRule::Never };
    let (ends, _) = coordinator.set_batch(&[item], levels).await;
    assert!(ends[0].is_err(), "{ends:?}");
    assert!(world.clock.steady_ms() - began < 1_000, "{}", world.clock.steady_ms() - began);
}

/// A record that claims a dot of the node's own tenure which the node does not hold.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_shown_its_own_forgotten_dots_begins_a_new_tenure() {
    use crate::plug::transport::Transport;
    use crate::wire::{Envelope, PROTOCOL_VERSION, PeerOp, PeerOut, PeerRequest};
    use kv_quorum::{Draft, HybridTime, Record};

    let world = World::of(3, Rmw::Refuse).await;
    let node = world.node(0);
    let serving = node.inner.serving().expect("a layout");
    let key = KeyRef::place(0, b"k");
    let partition = serving.replica.standings().of(key.slot);
    let tenure = serving.dots.actor(partition).tenure;
    let dot = serving.dots.mint(partition, world.clock.wall_ms(), HybridTime::ZERO);
    let mut record: Record<Bytes> = Record::new();
    let draft = Draft::string(Bytes::from_static(b"forgotten"));
    record.mint_blind(dot.expect("a lease"), draft).expect("a new dot");
    let view = node.view().now();
    let envelope = Envelope {
        version: PROTOCOL_VERSION,
        capabilities: 0,
        cluster: view.record.as_ref().map(|record| record.id),
        node: world.node(1).id(),
        layouts: view.layout_names(),
        time: 0,
        wall_ms: 0,
        life: 0,
        position: 0,
        budget_ms: 1_000,
    };
    let apply = PeerOp::Apply {
        key: key.to_storage(),
        record: record.to_bytes().into(),
        mark: 0,
        minted: false,
    };
    let peer = world.network.endpoint("tester");
    let reply = peer.call(&"n0".into(), PeerRequest { envelope, ops: vec![apply] }).await;
    let outs = reply.expect("an answer").outs.expect("not refused");
    assert!(matches!(outs[..], [PeerOut::Applied { .. }]), "{outs:?}");
    assert_eq!(node.figures().amnesia_alarms.value(), 1);
    let next = serving.dots.actor(partition).tenure;
    assert!(next != tenure && next != 0, "{tenure:x} {next:x}");

    // Ended and not yet followed by another: a write begins the next one itself.
    serving.dots.end_tenure(partition);
    let none = serving.dots.mint(partition, world.clock.wall_ms(), HybridTime::ZERO);
    assert_eq!(none, Err(crate::cluster::dots::NoDot::TenureOver));
    for what in ["set", "put"] {
        serving.dots.end_tenure(partition);
        match what {
            "set" => world.set(0, "k", "new").await.expect("a quorum"),
            _ => drop(answer(world.mutate(0, "k", Mutation::Delete).await)),
        }
        assert!(![0, tenure, next].contains(&serving.dots.actor(partition).tenure), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_connections_keep_for_wait_is_counted_together_and_given_back() {
    let world = World::of(3, Rmw::Refuse).await;
    let sum = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let held = || sum.load(std::sync::atomic::Ordering::Relaxed);
    let mut one = WriteLedger::counted(Arc::clone(&sum));
    let mut other = WriteLedger::counted(Arc::clone(&sum));
    world.slow(0, 2, SLOW);
    world.set_noted(0, "a", &mut one).await;
    let of_one = held();
    world.set_noted(0, "b", &mut other).await;
    assert!(of_one > 0 && held() > of_one);
    drop(other);
    assert_eq!(held(), of_one);
    // As if others held all that may be held: only who held it is remembered.
    sum.fetch_add(64 << 20, std::sync::atomic::Ordering::Relaxed);
    world.set_noted(0, "c", &mut one).await;
    assert_eq!(held(), 64 << 20);
    assert_eq!(world.wait(0, &mut one, 2, 5_000).await, 1, "a lower bound");
    one.forget();
    assert_eq!(held(), 64 << 20);
}
