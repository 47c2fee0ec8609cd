//! The loop: looks, decides, and sees to it where that is for this node to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kv_client::NodeId;
use kv_ring::Exchange;
use parking_lot::Mutex;

use super::board::{self, Board, Mode};
use super::ground::{Change, Ground, Look};
use super::policy::{Decision, History, Policy, Sample, Verdict, decide};
use super::{ScaleParts, ScaleSettings, check_windows};
use crate::events::Happened;
use crate::plug::provisioner::{Ask, Provisioner};
use crate::worker::Worker;

/// Nodes whose removal is remembered until membership has forgotten them.
const REMOVED_MAX: usize = 64;
/// Nodes that were asked for and did not come are waited for in such a number at most.
const DUE_MAX: u32 = 64;
/// After a failure nothing is tried for so many steps.
const STEPS_AFTER_FAILURE: u32 = 6;

/// What was seen and decided last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) look: Look,
    pub(crate) mode: Mode,
    pub(crate) policy: Policy,
    pub(crate) decision: Option<Decision>,
    pub(crate) history: History,
}

#[derive(Default)]
struct State {
    seen: Seen,
    /// The epoch at the last look, and since when nothing has moved.
    epoch: u64,
    settled_ms: u64,
    /// What was noted last, so that it is noted once.
    noted: Option<Verdict>,
    asked: Option<Asked>,
    /// Nodes that were asked for and have not come.
    due: u32,
    /// One that came when it was needed no more, and since when it waits so.
    late: Option<(NodeId, u64)>,
    removed: BTreeSet<NodeId>,
    /// Partitions that changed places, by their indexes, and when.
    moved: BTreeMap<u16, u64>,
    /// Steps to rest after a failure.
    rest: u32,
}

#[derive(Clone, Debug)]
struct Asked {
    epoch: u64,
    at_ms: u64,
    times: u32,
}

/// The loop.
pub(crate) struct Scaler {
    ground: Box<dyn Ground>,
    settings: ScaleSettings,
    provisioner: Arc<dyn Provisioner>,
    state: Mutex<State>,
}

impl Scaler {
    pub(crate) fn new(ground: Box<dyn Ground>, parts: ScaleParts) -> Self {
        let ScaleParts { settings, provisioner } = parts;
        Self { ground, settings, provisioner, state: Mutex::default() }
    }

    pub(crate) fn provisioner(&self) -> &dyn Provisioner {
        &*self.provisioner
    }

    /// What was seen and decided last.
    pub(crate) fn seen(&self) -> Seen {
        self.state.lock().seen.clone()
    }

    /// The settings in force under a board.
    pub(crate) fn in_force(&self, board: &Board) -> (Mode, Policy) {
        let ScaleSettings { mode, policy, .. } = self.settings;
        (board.mode.unwrap_or(mode), board.policy.unwrap_or(policy))
    }

    /// Whether windows fit what is kept of the past.
    ///
    /// # Errors
    /// The setting, and why not.
    pub(crate) fn check(&self, policy: &Policy) -> Result<(), String> {
        check_windows(policy, self.settings.interval_ms)
    }

    /// Looks and decides; acts if that is for this node to do.
    pub(super) async fn turn(&self) {
        self.ground.sync().await;
        let Some(mut look) = self.ground.look() else { return };
        let (mode, policy) = self.in_force(&look.board);
        let decision = self.decide(&mut look, mode, policy);
        let Some(decision) = decision else { return self.doing("") };
        if look.evaluator != Some(look.standing.me) {
            self.state.lock().noted = None;
            self.ground.say(Box::new(|told| told.doing.clear()));
            return;
        }
        self.note_verdict(&look, &decision);
        let paused = look.board.paused_until_ms > look.wall_ms;
        if mode != Mode::Auto || paused {
            let why = if paused { "paused" } else { "decides, and does nothing by itself" };
            self.doing(why);
            return;
        }
        self.act(&look, &decision).await;
    }

    /// Takes what is seen into account, and decides.
    fn decide(&self, look: &mut Look, mode: Mode, policy: Policy) -> Option<Decision> {
        let mut state = self.state.lock();
        if state.epoch != look.epoch || look.standing.moving.is_some() {
            (state.epoch, state.settled_ms) = (look.epoch, look.now_ms);
        }
        look.standing.settled_ms = state.settled_ms;
        // As long as too many nodes have to be too many: a partition goes no way twice meanwhile.
        let rests_ms = policy.in_after_ms.max(policy.cool_down_ms);
        state.moved.retain(|_, at_ms| look.now_ms < at_ms.saturating_add(rests_ms));
        look.standing.moved = state.moved.keys().copied().collect();
        let standing = &look.standing;
        let sample = Sample::of(&policy, look.now_ms, &standing.nodes, standing.members);
        state.seen.history.push(sample);
        let decision = decide(&policy, &state.seen.history, standing);
        let decision = (mode != Mode::Off).then_some(decision);
        (state.seen.mode, state.seen.policy) = (mode, policy);
        (state.seen.look, state.seen.decision) = (look.clone(), decision.clone());
        decision
    }

    fn note_verdict(&self, look: &Look, decision: &Decision) {
        let held = matches!(decision.verdict, Verdict::OutHeld | Verdict::InHeld);
        if held && look.standing.moving.is_some() {
            // What moves is the last decision, and was told.
            return;
        }
        let (code, warns) = match decision.verdict {
            Verdict::Keep => ("scale.keep", false),
            Verdict::Out => ("scale.out", false),
            Verdict::In(_) => ("scale.in", false),
            Verdict::Move(_) => ("scale.move", false),
            Verdict::EvenOut { .. } => ("scale.even-out", true),
            Verdict::OutHeld => ("scale.out-held", true),
            Verdict::InHeld => ("scale.in-held", false),
        };
        let before = self.state.lock().noted.replace(decision.verdict);
        if before.is_some_and(|before| is_told_by(before, decision.verdict)) {
            return;
        }
        let about = match decision.verdict {
            Verdict::In(node)
            | Verdict::Move(Exchange { from: node, .. })
            | Verdict::EvenOut { busiest: node, .. } => Some(node),
            _ => None,
        };
        self.ground.note(Happened { code, warns, about, text: decision.reason.clone() });
    }

    async fn act(&self, look: &Look, decision: &Decision) {
        {
            let mut state = self.state.lock();
            if state.rest > 0 {
                state.rest -= 1;
                return;
            }
        }
        self.end_who_left(look).await;
        if decision.verdict == Verdict::Out {
            self.state.lock().late = None;
        } else {
            self.end_who_came_late(look).await;
        }
        match decision.verdict {
            Verdict::Out => self.grow(look, decision).await,
            Verdict::In(node) => self.shrink(look, decision, node).await,
            Verdict::Move(exchange) => self.even_out(look, decision, exchange).await,
            _ => {
                let moving = look.standing.moving.clone();
                self.doing(moving.as_deref().unwrap_or("looks on"));
            }
        }
    }

    /// One node more: one that waits, or one that is asked for.
    async fn grow(&self, look: &Look, decision: &Decision) {
        if let Some(node) = look.waiting.first().map(|waiting| waiting.node) {
            match self.ground.change(Change::Join(node), look.epoch).await {
                Ok(epoch) => {
                    let mut state = self.state.lock();
                    state.asked = None;
                    state.due = state.due.saturating_sub(1);
                    drop(state);
                    let text = format!("{node} joins, epoch {epoch}: {}", decision.reason);
                    self.succeeded("scale.joins", Some(node), text);
                }
                Err(why) => self.failed(Some(node), format!("{node} can't be joined: {why}")),
            }
            return;
        }
        if !self.provisioner.acts() {
            self.doing("recommends one node more; none waits to be joined");
            return;
        }
        let asked = self.state.lock().asked.clone().filter(|asked| asked.epoch == look.epoch);
        let times = match asked {
            Some(asked) if look.now_ms < asked.at_ms + self.settings.add_ms_max => {
                let since_s = look.now_ms.saturating_sub(asked.at_ms) / 1_000;
                self.doing(&format!("waits for the node that was asked for {since_s} s ago"));
                return;
            }
            Some(asked) => asked.times + 1,
            None => 1,
        };
        let again = if times > 1 { format!("-{times}") } else { String::new() };
        let request = format!("add-after-epoch-{}{again}", look.epoch);
        let ask = ask(request, look, decision);
        self.doing("asks for a node");
        let done = self.provisioner.add(&ask).await;
        match done {
            Ok(()) => {
                let asked = Asked { epoch: look.epoch, at_ms: look.now_ms, times };
                let mut state = self.state.lock();
                // Asked again under one name it is one request.
                state.due = state.due.saturating_add(1).min(DUE_MAX);
                state.asked = Some(asked);
                drop(state);
                let text = format!("a node was asked for: {}", decision.reason);
                self.succeeded("scale.asks", None, text);
            }
            Err(error) => self.failed(None, format!("no node could be had: {error}")),
        }
    }

    /// One node less: it leaves first, and is ended when it holds nothing any more.
    async fn shrink(&self, look: &Look, decision: &Decision, node: NodeId) {
        if !self.provisioner.acts() {
            self.doing(&format!("recommends that {node} leaves"));
            return;
        }
        // Before it is proposed: whoever restarts meanwhile ends it all the same.
        if let Err(why) = self.ground.note_left(node, look.epoch).await {
            self.failed(Some(node), format!("that {node} leaves can't be noted: {why}"));
            return;
        }
        match self.ground.change(Change::Leave(node), look.epoch).await {
            Ok(epoch) => {
                let text = format!("{node} leaves, epoch {epoch}: {}", decision.reason);
                self.succeeded("scale.leaves", Some(node), text);
            }
            Err(why) => self.failed(Some(node), format!("{node} can't leave: {why}")),
        }
    }

    /// A busy copy changes places with an idle one.
    async fn even_out(&self, look: &Look, decision: &Decision, exchange: Exchange<NodeId>) {
        let Exchange { partition, from, against, .. } = exchange;
        match self.ground.change(Change::Exchange(exchange), look.epoch).await {
            Ok(epoch) => {
                let moved = [partition, against].map(|of| (of.index(), look.now_ms));
                self.state.lock().moved.extend(moved);
                let text = format!("epoch {epoch}: {}", decision.reason);
                self.succeeded("scale.moves", Some(from), text);
            }
            Err(why) => {
                let of = partition.index();
                self.failed(Some(from), format!("partition {of} can't move: {why}"));
            }
        }
    }

    async fn end_who_left(&self, look: &Look) {
        if !self.provisioner.acts() {
            return;
        }
        let known = |node: NodeId| self.state.lock().removed.contains(&node);
        let Some(gone) = look.left.iter().find(|gone| !known(gone.node)) else { return };
        let decision = Decision {
            verdict: Verdict::Keep,
            desired: look.standing.members,
            reason: "it has left, and holds nothing any more".into(),
        };
        let node = gone.node;
        let ask = ask(format!("remove-{node}"), look, &decision);
        match self.provisioner.remove(&ask, gone).await {
            Ok(()) => {
                {
                    let mut state = self.state.lock();
                    while state.removed.len() >= REMOVED_MAX {
                        state.removed.pop_first();
                    }
                    state.removed.insert(node);
                }
                self.ground.forget_left(node).await;
                let text = format!("{node} was ended: it had left, and held nothing any more");
                self.succeeded("scale.ended", Some(node), text);
            }
            Err(error) => self.failed(Some(node), format!("{node} could not be ended: {error}")),
        }
    }

    /// Ends a node that was asked for and came when it was needed no more, when that has been so
    /// for as long as too many nodes have to be too many. It is empty, and no member.
    async fn end_who_came_late(&self, look: &Look) {
        if !self.provisioner.acts() {
            return;
        }
        let (policy, late) = {
            let mut state = self.state.lock();
            let waits = |node: NodeId| look.waiting.iter().any(|waiting| waiting.node == node);
            state.late = state.late.filter(|(node, _)| waits(*node));
            if state.late.is_none() && state.due > 0 {
                state.late = look.waiting.first().map(|waiting| (waiting.node, look.now_ms));
            }
            (state.seen.policy, state.late)
        };
        let Some((node, since_ms)) = late else { return };
        let Some(gone) = look.waiting.iter().find(|waiting| waiting.node == node) else { return };
        if look.now_ms < since_ms.saturating_add(policy.in_after_ms) {
            return;
        }
        let decision = Decision {
            verdict: Verdict::Keep,
            desired: look.standing.members,
            reason: "it was asked for, and came when it was needed no more".into(),
        };
        match self.provisioner.remove(&ask(format!("remove-{node}"), look, &decision), gone).await {
            Ok(()) => {
                let mut state = self.state.lock();
                (state.late, state.due) = (None, state.due.saturating_sub(1));
                drop(state);
                let text = format!("{node} was ended: {}", decision.reason);
                self.succeeded("scale.ended", Some(node), text);
            }
            Err(error) => self.failed(Some(node), format!("{node} could not be ended: {error}")),
        }
    }

    fn doing(&self, text: &str) {
        let text = board::words(text);
        self.ground.say(Box::new(move |told| told.doing = text));
    }

    fn succeeded(&self, code: &'static str, about: Option<NodeId>, text: String) {
        self.doing(&text);
        self.ground.say(Box::new(|told| told.failure.clear()));
        self.ground.note(Happened { code, warns: false, about, text });
    }

    fn failed(&self, about: Option<NodeId>, text: String) {
        self.state.lock().rest = STEPS_AFTER_FAILURE;
        let told_text = board::words(&text);
        self.ground.say(Box::new(move |told| told.failure = told_text));
        self.ground.note(Happened { code: "scale.failed", warns: true, about, text });
    }
}

/// Whether who was told the one hears nothing new by the other: which node is the busiest changes
/// all the time.
fn is_told_by(before: Verdict, now: Verdict) -> bool {
    let both = (before, now);
    before == now || matches!(both, (Verdict::EvenOut { .. }, Verdict::EvenOut { .. }))
}

fn ask(request: String, look: &Look, decision: &Decision) -> Ask {
    Ask {
        request,
        cluster: look.cluster.clone(),
        seeds: look.seeds.clone(),
        nodes: look.standing.members,
        desired: decision.desired,
        reason: decision.reason.clone(),
    }
}

/// The loop as a node runs it.
pub(crate) struct ScaleLoop(pub(crate) Arc<Scaler>);

#[async_trait]
impl Worker for ScaleLoop {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn status(&self) -> String {
        let seen = self.0.seen();
        match seen.decision {
            None => seen.mode.word().into(),
            Some(decision) => format!("{}: {}", decision.verdict.word(), decision.reason),
        }
    }

    async fn step(&self) -> Option<Duration> {
        self.0.turn().await;
        Some(Duration::from_millis(self.0.settings.interval_ms))
    }
}
