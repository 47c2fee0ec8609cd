//! One run: a seed in, what was found and the trace's hash out.

use std::rc::Rc;

use kv_node::cluster::record::LevelSetting;
use parking_lot::Mutex;
use twox_hash::XxHash3_64;

use super::checkers::{self, Violation};
use super::history::{Action, History, Op, Outcome};
use super::nemesis::{self, Faults};
use super::workload::{Client, shown};
use super::world::{World, WorldConfig};

/// The client number of the reads that look, after everything is healed, at what there is.
pub const AUDITOR: usize = usize::MAX;
/// The audit asks so often before it calls a key unreadable.
const AUDIT_TRIES: usize = 5;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes, disks, clocks.
    pub world: WorldConfig,
    /// Clients at work at once.
    pub clients: usize,
    /// How long they work, in milliseconds of the world's time.
    pub work_ms: u64,
    /// What is done to the world meanwhile.
    pub faults: Faults,
}

impl Options {
    /// The options that a seed draws: every fourth run has five nodes, the others three.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let nodes = if seed % 4 == 3 { 5 } else { 3 };
        let world = WorldConfig {
            nodes,
            skew_ms_max: 5_000,
            copies: LevelSetting::Quorum,
            lsm: WorldConfig::engine(),
        };
        Self { world, clients: 6, work_ms: 10_000, faults: Faults::all() }
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Over everything that clients did and were told, and every message between nodes.
    pub trace_hash: u64,
    /// The whole history, the audit's reads too.
    pub ops: Vec<Op>,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Operations of which nobody knows whether they happened.
    pub unknown: usize,
    /// Second mints, read repairs and forwarded writes, of the nodes' last lives: what a run
    /// must have met to prove anything about it.
    pub met: [u64; 3],
    /// Milliseconds of the world's time.
    pub world_ms: u64,
    /// What must not be.
    pub violations: Vec<Violation>,
}

/// Runs a seed on a runtime of its own.
///
/// # Errors
/// The world could not begin or did not heal: that is a failure of the run, with its reason.
pub fn run(seed: u64, options: &Options) -> Result<Report, String> {
    in_paused_time(async {
        let world = World::begin(seed, options.world.clone()).await?;
        let history = play(&world, seed, options).await?;
        if world.panics() > 0 {
            return Err("a node's task panicked".into());
        }
        Ok(report(&world, seed, &history))
    })
}

/// Runs a future on one thread, in time that jumps to the next timer.
///
/// # Errors
/// The future's, or the runtime can't be built.
pub fn in_paused_time<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| format!("no runtime: {error}"))?
        .block_on(future)
}

/// Lets clients work under faults, heals, and audits.
async fn play(world: &World, seed: u64, options: &Options) -> Result<History, String> {
    world.network.set_all(nemesis::calm());
    let history = Rc::new(Mutex::new(History::default()));
    let until_us = world.now_us() + options.work_ms * 1_000;
    let clients = (0..options.clients).map(|id| {
        Client::new(seed, id, options.clients, Rc::clone(&history)).work(world, until_us)
    });
    let ((), cut, ()) = tokio::join!(
        all(clients),
        nemesis::cut_power(world, seed, options.faults, until_us),
        nemesis::disturb(world, seed, options.faults, until_us),
    );
    cut?;
    world.heal().await?;
    audit(world, &history, 0).await;
    Ok(std::mem::take(&mut *history.lock()))
}

/// Runs futures side by side, in the order in which they stand.
pub(super) async fn all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut running: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut running {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *slot = None;
            }
        }
        if running.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// Reads every key that operations from place `from` on touched, own and shared ones through
/// every node.
pub async fn audit(world: &World, history: &Mutex<History>, from: usize) {
    let mut keys: Vec<String> =
        history.lock().ops().iter().skip(from).map(|op| op.key.clone()).collect();
    keys.sort();
    keys.dedup();
    for (turn, key) in keys.iter().enumerate() {
        let nodes: Vec<usize> = if key.starts_with("d:") {
            vec![turn % world.nodes()]
        } else {
            (0..world.nodes()).collect()
        };
        for node in nodes {
            look(world, history, node, key).await;
        }
    }
}

async fn look(world: &World, history: &Mutex<History>, node: usize, key: &str) {
    for _ in 0..AUDIT_TRIES {
        let Some(mut door) = world.door(node) else { continue };
        let shared = key.starts_with("m:");
        let action = if shared { Action::Siblings } else { Action::Get };
        let begun = history.lock().begin(AUDITOR, node, key, action);
        let outcome = if shared {
            match door.coordinator.siblings(key.as_bytes()).await {
                Err(error) => Outcome::of(&error),
                Ok((_, values)) => {
                    let values = values.into_iter().filter_map(|sibling| sibling.value);
                    Outcome::AllShown(
                        values.map(|value| String::from_utf8_lossy(&value).into_owned()).collect(),
                    )
                }
            }
        } else {
            shown(&mut door, key).await
        };
        let told = matches!(outcome, Outcome::Shown(_) | Outcome::AllShown(_));
        history.lock().end(begun, outcome, world.now_us());
        if told {
            return;
        }
    }
}

fn report(world: &World, seed: u64, history: &History) -> Report {
    let ops = history.ops();
    let traces = [history.trace_hash().to_be_bytes(), world.network.trace_hash().to_be_bytes()];
    Report {
        seed,
        trace_hash: XxHash3_64::oneshot(traces.as_flattened()),
        ops: ops.to_vec(),
        acknowledged: ops.iter().filter(|op| op.is_acknowledged()).count(),
        unknown: ops.iter().filter(|op| matches!(op.outcome, Outcome::Unknown(_))).count(),
        met: ["second_mints", "read_repairs", "forwarded"].map(|name| world.figure(name)),
        world_ms: world.now_us() / 1_000,
        violations: checkers::check_all(ops),
    }
}

/// Whether a read belongs to the audit.
#[must_use]
pub fn is_audit(op: &Op) -> bool {
    op.client == AUDITOR
}
