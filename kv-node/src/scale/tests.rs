//! The loop on a ground of its own: what it does, and what it leaves to others.

use std::sync::Arc;

use async_trait::async_trait;
use kv_client::NodeId;
use parking_lot::Mutex;

use super::ground::{Change, Ground, Look};
use super::policy::{NodeLoad, PartitionRate, Standing};
use super::scaler::Scaler;
use super::*;
use crate::events::Happened;
use crate::plug::provisioner::{
    Gone, MemoryProvisioner, NoProvisioner, ProvisionError, Provisioner,
};

const STEP_MS: u64 = 1_000;

/// A cluster of nodes that carry what they are told.
#[derive(Default)]
struct Cluster {
    look: Look,
    changes: Vec<Change>,
    refusal: Option<String>,
    told: Told,
    noted: Vec<Happened>,
}

#[derive(Clone, Default)]
struct Field(Arc<Mutex<Cluster>>);

#[async_trait]
impl Ground for Field {
    async fn sync(&self) {}

    fn look(&self) -> Option<Look> {
        Some(self.0.lock().look.clone())
    }

    async fn change(&self, change: Change, after: u64) -> Result<u64, String> {
        let mut cluster = self.0.lock();
        assert_eq!(after, cluster.look.epoch, "it names the epoch that it decided after");
        if let Change::Leave(node) = change {
            assert!(cluster.told.left.contains(&node), "it is noted before it is proposed");
        }
        if let Some(why) = &cluster.refusal {
            return Err(why.clone());
        }
        cluster.changes.push(change);
        Ok(after + 1)
    }

    async fn note_left(&self, node: NodeId, _after: u64) -> Result<(), String> {
        let left = &mut self.0.lock().told.left;
        left.retain(|known| *known != node);
        left.push(node);
        Ok(())
    }

    async fn forget_left(&self, node: NodeId) {
        self.0.lock().told.left.retain(|left| *left != node);
    }

    fn say(&self, change: Box<dyn FnOnce(&mut Told) + Send>) {
        change(&mut self.0.lock().told);
    }

    fn note(&self, happened: Happened) {
        self.0.lock().noted.push(happened);
    }
}

/// An empty node that waits to be joined.
fn waits(node: u64) -> Gone {
    Gone { node: NodeId(node), ..Gone::default() }
}

fn settings() -> ScaleSettings {
    let policy = Policy {
        ops_per_node: 100,
        cpu_percent: 0,
        out_after_ms: 3 * STEP_MS,
        in_after_ms: 5 * STEP_MS,
        cool_down_ms: 0,
        ..Policy::default()
    };
    ScaleSettings { mode: Mode::Auto, policy, interval_ms: STEP_MS, add_ms_max: 20 * STEP_MS }
}

struct Run {
    field: Field,
    memory: Arc<MemoryProvisioner>,
    scaler: Scaler,
}

impl Run {
    fn new(settings: ScaleSettings) -> Self {
        let memory = Arc::new(MemoryProvisioner::default());
        Self::with(settings, Arc::clone(&memory) as Arc<dyn Provisioner>, memory)
    }

    fn with(
        settings: ScaleSettings,
        provisioner: Arc<dyn Provisioner>,
        memory: Arc<MemoryProvisioner>,
    ) -> Self {
        let field = Field::default();
        let parts = ScaleParts { settings, provisioner };
        let scaler = Scaler::new(Box::new(field.clone()), parts);
        let run = Self { field, memory, scaler };
        run.carry(3, 50);
        run.field.0.lock().look.epoch = 1;
        run
    }

    /// So many members now, each with so many operations.
    fn carry(&self, members: u64, ops_per_s: u64) {
        let mut cluster = self.field.0.lock();
        let load = |n| NodeLoad {
            node: NodeId(n),
            started_ms: n,
            ops_per_s,
            in_zone: 1,
            ..NodeLoad::default()
        };
        cluster.look.evaluator = Some(NodeId(1));
        cluster.look.standing = Standing {
            me: NodeId(1),
            members: members as usize,
            copies: 3,
            nodes: (1..=members).map(load).collect(),
            ..Standing::default()
        };
    }

    /// A change was made.
    fn settle(&self, members: u64, ops_per_s: u64) {
        self.carry(members, ops_per_s);
        self.field.0.lock().look.epoch += 1;
    }

    async fn steps(&self, count: u64) {
        for _ in 0..count {
            self.field.0.lock().look.now_ms += STEP_MS;
            self.scaler.turn().await;
        }
    }

    fn changes(&self) -> Vec<Change> {
        self.field.0.lock().changes.clone()
    }

    fn codes(&self) -> Vec<&'static str> {
        self.field.0.lock().noted.iter().map(|happened| happened.code).collect()
    }

    fn told(&self) -> Told {
        self.field.0.lock().told.clone()
    }

    fn look(&self, change: impl FnOnce(&mut Look)) {
        change(&mut self.field.0.lock().look);
    }
}

#[tokio::test]
async fn a_node_is_asked_for_once_and_joined_when_it_is_seen() {
    let run = Run::new(settings());
    run.steps(10).await;
    assert!(run.memory.added().is_empty() && run.changes().is_empty());
    run.carry(3, 130);
    run.steps(10).await;
    let added = run.memory.added();
    assert_eq!(added.len(), 1, "{added:?}");
    assert_eq!((&added[0].request[..], added[0].desired), ("add-after-epoch-1", 4));
    assert!(added[0].reason.contains("over the target of 100 op/s"), "{added:?}");
    assert!(run.told().doing.starts_with("waits for the node"), "{:?}", run.told());
    run.look(|look| look.waiting = vec![waits(9)]);
    run.steps(1).await;
    assert_eq!(run.changes(), [Change::Join(NodeId(9))]);
    run.look(|look| look.waiting.clear());
    run.settle(4, 97);
    run.steps(20).await;
    assert_eq!(run.changes().len(), 1, "four are enough");
    let codes = ["scale.keep", "scale.out", "scale.asks", "scale.joins", "scale.keep"];
    assert_eq!(run.codes(), codes);
}

#[tokio::test]
async fn a_node_that_comes_when_it_is_needed_no_more_is_ended_after_a_while() {
    let run = Run::new(settings());
    run.look(|look| look.waiting = vec![waits(8)]);
    run.steps(20).await;
    assert!(run.memory.removed().is_empty(), "nobody asked for it: it is its operator's");
    run.look(|look| look.waiting.clear());
    run.carry(3, 130);
    run.steps(10).await;
    assert_eq!(run.memory.added().len(), 1);
    run.carry(3, 50);
    run.steps(3).await;
    run.look(|look| look.waiting = vec![waits(9)]);
    run.steps(3).await;
    assert!(run.memory.removed().is_empty(), "it may be needed yet");
    run.steps(10).await;
    assert_eq!(run.memory.removed(), [waits(9)]);
    assert!(run.changes().is_empty() && run.codes().contains(&"scale.ended"));
    run.look(|look| look.waiting = vec![waits(10)]);
    run.steps(20).await;
    assert_eq!(run.memory.removed().len(), 1, "one was asked for");
    // And if it is needed again it is another request.
    run.look(|look| look.waiting.clear());
    run.carry(3, 130);
    run.steps(40).await;
    let names: Vec<String> = run.memory.added().into_iter().map(|ask| ask.request).collect();
    assert!(names.len() > 1 && names[1] == "add-after-epoch-1-2", "{names:?}");
}

#[tokio::test]
async fn one_that_leaves_is_ended_only_when_it_holds_nothing_any_more() {
    let run = Run::new(settings());
    run.carry(5, 10);
    run.steps(10).await;
    assert_eq!(run.changes()[..1], [Change::Leave(NodeId(5))]);
    assert_eq!(run.told().left, [NodeId(5)]);
    assert!(run.memory.removed().is_empty(), "it still hands over");
    run.settle(4, 12);
    let moving = Some("the change to epoch 2 is under way".to_owned());
    run.look(|look| look.standing.moving = moving);
    let before = run.changes().len();
    run.steps(10).await;
    assert_eq!(run.changes().len(), before, "one change at a time");
    let gone = Gone { node: NodeId(5), rpc: "five".into(), ..Gone::default() };
    run.look(|look| {
        look.standing.moving = None;
        look.left = vec![gone.clone()];
    });
    run.steps(2).await;
    assert_eq!(run.memory.removed(), [gone]);
    assert!(run.told().left.is_empty());
    run.steps(3).await;
    assert_eq!(run.memory.removed().len(), 1, "once");
    run.look(|look| look.left.clear());
    run.settle(3, 10);
    let before = run.changes().len();
    run.steps(30).await;
    assert_eq!(run.changes().len(), before, "never below three");
}

#[tokio::test]
async fn who_does_not_decide_or_may_not_act_does_nothing() {
    let busy = |run: &Run| run.carry(3, 500);
    let other = Run::new(settings());
    busy(&other);
    other.look(|look| look.evaluator = Some(NodeId(0)));
    let advises = Run::new(ScaleSettings { mode: Mode::Advise, ..settings() });
    busy(&advises);
    let off = Run::new(ScaleSettings { mode: Mode::Off, ..settings() });
    busy(&off);
    let paused = Run::new(settings());
    busy(&paused);
    paused.look(|look| look.board.paused_until_ms = u64::MAX);
    for run in [&other, &advises, &off, &paused] {
        run.steps(20).await;
        assert!(run.memory.added().is_empty() && run.changes().is_empty());
    }
    let decided = |run: &Run| run.scaler.seen().decision.map(|decision| decision.desired);
    assert_eq!(decided(&other), Some(4), "all decide, and can take over");
    assert_eq!(decided(&advises), Some(4));
    assert_eq!(decided(&off), None);
    assert!(other.codes().is_empty() && off.codes().is_empty());
    assert_eq!(advises.codes(), ["scale.keep", "scale.out"]);
    // What operators set beats what is configured.
    off.look(|look| look.board.mode = Some(Mode::Auto));
    paused.look(|look| look.wall_ms = u64::MAX);
    other.look(|look| look.evaluator = Some(NodeId(1)));
    for run in [&other, &off, &paused] {
        run.steps(2).await;
        assert_eq!(run.memory.added().len(), 1);
    }
}

#[tokio::test]
async fn without_a_provisioner_nodes_that_wait_are_joined_and_nobody_is_told_to_leave() {
    let none = Arc::new(NoProvisioner);
    let run = Run::with(settings(), none, Arc::default());
    run.carry(4, 200);
    run.steps(10).await;
    assert!(run.changes().is_empty());
    assert_eq!(run.scaler.seen().decision.map(|decision| decision.desired), Some(5));
    run.look(|look| look.waiting = vec![waits(9)]);
    run.steps(1).await;
    assert_eq!(run.changes(), [Change::Join(NodeId(9))]);
    run.look(|look| look.waiting.clear());
    run.settle(5, 10);
    run.steps(20).await;
    assert_eq!(run.changes().len(), 1);
    assert!(run.told().doing.starts_with("recommends that"), "{:?}", run.told());
}

#[tokio::test]
async fn failures_are_kept_and_shown_and_tried_again_after_a_rest() {
    let run = Run::new(settings());
    run.carry(3, 500);
    let said = "no quota".to_owned();
    run.memory.fail_with(Some(ProvisionError::Failed { code: Some(7), said }));
    run.steps(5).await;
    assert_eq!(run.told().failure, "no node could be had: the program ended with code 7: no quota");
    let failures = |run: &Run| run.codes().iter().filter(|code| **code == "scale.failed").count();
    assert_eq!(failures(&run), 1, "it rests");
    run.steps(12).await;
    assert!((2..=3).contains(&failures(&run)), "{:?}", run.codes());
    run.memory.fail_with(None);
    run.steps(10).await;
    let request = |run: &Run| run.memory.added().last().map(|ask| ask.request.clone());
    assert_eq!(request(&run).as_deref(), Some("add-after-epoch-1"), "the same request");
    assert_eq!(run.told().failure, "");
    // It does not come: after a while it is another request.
    run.steps(25).await;
    assert_eq!(request(&run).as_deref(), Some("add-after-epoch-1-2"));
    run.look(|look| look.waiting = vec![waits(9)]);
    run.field.0.lock().refusal = Some("it does not answer".into());
    run.steps(1).await;
    assert!(run.told().failure.ends_with("can't be joined: it does not answer"));
}

#[tokio::test]
async fn that_load_is_uneven_is_noted_once_whoever_is_the_busiest() {
    let run = Run::new(settings());
    for n in 0..12 {
        run.carry(3, 50);
        run.look(|look| look.standing.nodes[n % 3].ops_per_s = 140);
        run.steps(1).await;
    }
    assert_eq!(run.codes(), ["scale.keep", "scale.even-out"]);
    assert!(run.memory.added().is_empty(), "another node would not help");
}

#[tokio::test]
async fn a_busy_copy_changes_places_once_and_rests() {
    let run = Run::new(settings());
    let spec = kv_ring::NodeSpec::default();
    let members: kv_ring::Topology<NodeId> = (1..=8).map(|n| (NodeId(n), spec)).collect();
    let count = kv_ring::PartitionCount::new(64).expect("a power of two");
    let layout = kv_ring::Layout::first(&members, count, 3, &kv_ring::AutoClaim).expect("eight");
    let first = |(partition, first): (kv_ring::Partition, bool)| first.then_some(partition);
    let hot: Vec<u16> = layout
        .held_by(NodeId(2))
        .filter_map(first)
        .map(kv_ring::Partition::index)
        .take(2)
        .collect();
    let rate =
        |partition: &u16| PartitionRate { at: NodeId(2), partition: *partition, ops_per_s: 60 };
    let rates: Vec<PartitionRate> = hot.iter().map(rate).collect();
    let busy = |run: &Run| {
        run.look(|look| {
            look.standing.nodes[1].ops_per_s = 150;
            look.standing.layout = Some(Arc::new(layout.clone()));
            look.standing.rates = rates.clone();
        });
    };
    run.carry(8, 20);
    busy(&run);
    for _ in 0..8 {
        if run.changes().is_empty() {
            run.steps(1).await;
        }
    }
    let changes = run.changes();
    let [Change::Exchange(made)] = changes[..] else { panic!("{changes:?}") };
    assert!(hot.contains(&made.partition.index()) && made.from == NodeId(2), "{made:?}");
    assert!(run.told().doing.contains("even out: partition"), "{:?}", run.told());
    // As if it had not helped: it rests, and the other one moves.
    run.settle(8, 20);
    busy(&run);
    run.steps(4).await;
    let changes = run.changes();
    let [_, Change::Exchange(other)] = changes[..] else { panic!("{changes:?}") };
    assert!(hot.contains(&other.partition.index()) && other.partition != made.partition);
    assert!(run.codes().contains(&"scale.moves") && run.memory.added().is_empty());
}

#[test]
fn windows_fit_what_is_kept() {
    let policy = settings().policy;
    assert_eq!(check_windows(&policy, 1_000), Ok(()));
    let long = Policy { in_after_ms: 2_000_000, ..policy };
    assert!(check_windows(&long, 1_000).expect_err("2,000 looks").starts_with("in_after_ms"));
}
