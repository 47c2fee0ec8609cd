//! One run: a seed in, what was found and the trace's hash out.

use std::rc::Rc;
use std::time::Duration;

use parking_lot::Mutex;
use twox_hash::XxHash3_64;

use super::alive;
use super::checkers::{self, Rules, Violation};
use super::contexts::with_contexts;
use super::history::{Action, EVERY_KEY, History, Op, Outcome};
use super::nemesis::{self, Faults};
use super::replicas;
use super::sessions;
use super::watch::{Mints, SHARED};
use super::workload::{Client, Mix, all_shown, is_hot, shown};
use super::world::{DEADLINES_MAX, EPOCH_MS, REQUEST_MS_MAX, World, WorldConfig};

/// The client number of the reads that look, after everything is healed, at what there is.
pub const AUDITOR: usize = usize::MAX;
/// Notes of a run that ended early that are shown with its reason, the last ones.
const NOTES_SHOWN: usize = 40;
/// The audit asks so often before it calls a key unreadable.
const AUDIT_TRIES: usize = 5;
/// Replicas may take so long, after everything is healed, until they are equal.
const CONVERGE_MS_MAX: u64 = 120_000;
/// A change of the layout may take so long, after everything is healed, until it is done.
const CHANGE_MS_MAX: u64 = 120_000;
/// After so long nothing is under way any more that was begun before.
const SETTLE_MS: u64 = REQUEST_MS_MAX * DEADLINES_MAX + 1_000;

/// What runs must have met to prove anything about it.
pub const MET: [&str; 6] = [
    "second_mints",
    "read_repairs",
    "forwarded",
    "sloppy_writes",
    "hints_delivered",
    "marks_raised",
];

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
    /// What clients do.
    pub mix: Mix,
    /// A disk forgets what it acknowledged and its node may not know: reads are bound only when
    /// all is mended.
    pub forgets: bool,
    /// Replicas must become equal by themselves.
    pub converges: bool,
}

impl Options {
    /// Whether reads and writes need to have met only after all is healed.
    fn is_sloppy(&self) -> bool {
        self.world.sloppy || self.forgets
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
    /// What was done to the world, and when, in microseconds.
    pub log: Vec<(u64, String)>,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Operations of which nobody knows whether they happened.
    pub unknown: usize,
    /// Counters of the nodes' last lives, by `MET`: what runs must have met to prove anything.
    pub met: [u64; MET.len()],
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
        let played = play(&world, seed, options).await;
        let (history, differences) = played.map_err(|why| with_notes(&world, &why))?;
        if world.panics() > 0 {
            return Err("a node's task panicked".into());
        }
        Ok(report(&world, seed, options, history, differences))
    })
}

/// What went wrong, and what was done to the world shortly before.
fn with_notes(world: &World, why: &str) -> String {
    let notes = world.log();
    let last = notes.get(notes.len().saturating_sub(NOTES_SHOWN)..).unwrap_or_default();
    last.iter().fold(why.to_owned(), |text, (at_us, what)| {
        format!("{text}\n  {:>9.3} s {what}", *at_us as f64 / 1e6)
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
async fn play(
    world: &World,
    seed: u64,
    options: &Options,
) -> Result<(History, Vec<Violation>), String> {
    world.network.set_all(nemesis::calm());
    let history = Rc::new(Mutex::new(History::default()));
    let mix = Rc::new(options.mix.clone());
    let until_us = world.now_us() + options.work_ms * 1_000;
    let clients = (0..options.clients)
        .map(|id| Client::new(seed, id, options.clients, &mix, &history).work(world, until_us));
    let ((), struck) =
        tokio::join!(all(clients), nemesis::strike(world, seed, &options.faults, until_us));
    struck?;
    world.heal().await?;
    tokio::time::sleep(Duration::from_millis(SETTLE_MS)).await;
    let mut differences = Vec::new();
    if let Some(what) = world.one_layout(CHANGE_MS_MAX).await {
        differences.push(Violation { checker: "layouts", key: EVERY_KEY.into(), what });
    }
    if options.converges {
        differences.extend(replicas::converge(world, CONVERGE_MS_MAX).await?);
    }
    let keys = keys_of(history.lock().ops());
    audit(world, &history, &keys, options.is_sloppy()).await;
    differences.extend(alive::refused(world).await);
    Ok((std::mem::take(&mut *history.lock()), differences))
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

/// The keys that operations touched, each once, in order.
#[must_use]
pub fn keys_of(ops: &[Op]) -> Vec<String> {
    let touched = ops.iter().map(|op| op.key.clone()).filter(|key| key != EVERY_KEY);
    let mut keys: Vec<String> = touched.collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Reads keys, those that are written again and again through every node; with `all`, all values
/// of every key whose mints are watched, and not of the shared ones only. What GET shows of a key
/// that is written again and again is asked for in any case.
pub async fn audit(world: &World, history: &Mutex<History>, keys: &[String], all: bool) {
    let nodes = world.nodes();
    for (turn, key) in keys.iter().enumerate() {
        let hot = is_hot(key);
        let through = if hot { 0..nodes } else { turn % nodes..turn % nodes + 1 };
        let all = key.starts_with(SHARED) || all && Mints::watches(key);
        for node in through {
            if all {
                look(world, history, node, key, true).await;
            }
            if hot || !all {
                look(world, history, node, key, false).await;
            }
        }
    }
}

async fn look(world: &World, history: &Mutex<History>, node: usize, key: &str, all: bool) {
    for _ in 0..AUDIT_TRIES {
        let Some(mut door) = world.door(node) else { continue };
        let action = if all { Action::Siblings } else { Action::Get };
        let begun = history.lock().begin_at(AUDITOR, node, key, action, world.now_us());
        let outcome =
            if all { all_shown(&mut door, key).await.1 } else { shown(&mut door, key).await };
        let told = matches!(outcome, Outcome::Shown(_) | Outcome::AllShown(_));
        history.lock().end(begun, outcome, world.now_us());
        if told {
            return;
        }
    }
}

fn report(
    world: &World,
    seed: u64,
    options: &Options,
    mut history: History,
    differences: Vec<Violation>,
) -> Report {
    let traces = [history.trace_hash().to_be_bytes(), world.network.trace_hash().to_be_bytes()];
    let ops = history.take_ops();
    let rules = Rules {
        sloppy: options.is_sloppy(),
        settled: options.converges,
        skew_ms: world.skew_ms_seen(),
        skew_ms_healed: world.skew_ms_healed(),
        epoch_ms: EPOCH_MS,
        above_flush: world.mints.above(replicas::flushed(world)),
    };
    let judged = with_contexts(&world.mints, &ops, rules.sloppy);
    let mut violations = checkers::check_with(&ops, &judged, &rules);
    violations.extend(sessions::backwards(&world.mints, &ops, &rules));
    violations.extend(differences);
    Report {
        seed,
        trace_hash: XxHash3_64::oneshot(traces.as_flattened()),
        acknowledged: ops.iter().filter(|op| op.is_acknowledged()).count(),
        unknown: ops.iter().filter(|op| matches!(op.outcome, Outcome::Unknown(_))).count(),
        ops,
        log: world.log(),
        met: MET.map(|name| world.figure(name)),
        world_ms: world.now_us() / 1_000,
        violations,
    }
}

/// Whether a read belongs to the audit.
#[must_use]
pub fn is_audit(op: &Op) -> bool {
    op.client == AUDITOR
}
