//! How many nodes there should be, as operators see it and say it.

use kv_client::wire::{
    AutoscaleChange, AutoscaleView, LoadPoint, NodeLoadView, ScaleMode, ServiceError,
};

use crate::node::Node;
use crate::scale::policy::History;
use crate::scale::scaler::Scaler;
use crate::scale::{Board, Mode};

/// Points of the past that are shown at most.
const POINTS_MAX: usize = 60;

pub(super) fn view(node: &Node) -> Result<AutoscaleView, ServiceError> {
    let no_part = || ServiceError::NotServing("this node takes no part in scaling".into());
    let scaler = node.scaler().ok_or_else(no_part)?;
    let seen = scaler.seen();
    let (look, decision) = (&seen.look, seen.decision.as_ref());
    let mut told = node.scale_told();
    let acts = look.evaluator.and_then(|evaluator| told.remove(&evaluator)).unwrap_or_default();
    let members = look.standing.members;
    let loads = node.loads();
    let loads = look.standing.nodes.iter().map(|load| NodeLoadView {
        node: load.node,
        ops_per_s: load.ops_per_s,
        cpu_per_mille: load.cpu_per_mille,
        disk_bytes: load.disk_bytes,
        wait_us: loads.get(&load.node).map_or(0, |load| load.wait_us),
    });
    let loads = loads.collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(AutoscaleView {
        mode: shown(seen.mode),
        paused_until_ms: look.board.paused_until_ms,
        provisioner: scaler.provisioner().name().to_owned(),
        evaluator: look.evaluator,
        policy: seen.policy.pairs().map(|(name, value)| (name.to_owned(), value)).to_vec(),
        members: count(members),
        desired: count(decision.map_or(members, |decision| decision.desired)),
        verdict: decision.map_or("", |decision| decision.verdict.word()).to_owned(),
        reason: decision.map_or_else(String::new, |decision| decision.reason.clone()),
        doing: acts.doing,
        failure: acts.failure,
        waiting: look.waiting.iter().map(|waiting| waiting.node).collect(),
        loads,
        past: past(&seen.history, look.now_ms),
    })
}

/// Points at even distances, the newest last.
fn past(history: &History, now_ms: u64) -> Vec<LoadPoint> {
    let every = history.iter().len().div_ceil(POINTS_MAX).max(1);
    let mut points: Vec<LoadPoint> = history
        .iter()
        .rev()
        .step_by(every)
        .map(|sample| LoadPoint {
            ago_ms: now_ms.saturating_sub(sample.at_ms),
            ops_per_s: sample.totals.ops_per_s,
            cpu_per_mille: sample.totals.cpu_per_mille,
            disk_bytes: sample.totals.disk_bytes,
        })
        .collect();
    points.reverse();
    points
}

/// Makes the change hold for the whole cluster. It is stored even if the asker goes away.
pub(super) async fn set(node: &Node, change: AutoscaleChange) -> Result<(), ServiceError> {
    let now_ms = node.wall_ms();
    let board = node
        .next_board(|board, scaler| changed(board, scaler, change, now_ms))
        .map_err(ServiceError::Refused)?;
    let stored = tokio::spawn(node.set_board(board)).await;
    let stored = stored.map_err(|error| ServiceError::Failed(error.to_string()))?;
    stored.map_err(ServiceError::Failed)
}

fn changed(
    board: &mut Board,
    scaler: &Scaler,
    change: AutoscaleChange,
    now_ms: u64,
) -> Result<(), String> {
    let AutoscaleChange { mode, policy, pause_ms } = change;
    if let Some(mode) = mode {
        board.mode = Some(taken(mode)?);
    }
    let settings = policy.into_vec();
    if !settings.is_empty() {
        let (_, mut policy) = scaler.in_force(board);
        for (key, value) in settings {
            policy.set(&key, value)?;
        }
        policy.check().map_err(|(key, why)| format!("{key}: {why}"))?;
        scaler.check(&policy)?;
        board.policy = Some(policy);
    }
    match pause_ms {
        None => {}
        Some(0) => board.paused_until_ms = 0,
        Some(pause_ms) => board.paused_until_ms = now_ms.saturating_add(pause_ms),
    }
    Ok(())
}

fn shown(mode: Mode) -> ScaleMode {
    match mode {
        Mode::Off => ScaleMode::Off,
        Mode::Advise => ScaleMode::Advise,
        Mode::Auto => ScaleMode::Auto,
    }
}

fn taken(mode: ScaleMode) -> Result<Mode, String> {
    match mode {
        ScaleMode::Off => Ok(Mode::Off),
        ScaleMode::Advise => Ok(Mode::Advise),
        ScaleMode::Auto => Ok(Mode::Auto),
        _ => Err("this node does not know that mode".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::policy::Sample;

    #[test]
    fn the_past_is_thinned_out_and_ends_with_now() {
        let mut history = History::default();
        assert!(past(&history, 0).is_empty());
        for at_ms in 0..500 {
            history.push(Sample { at_ms, ..Sample::default() });
        }
        let points = past(&history, 499);
        assert!(points.len() <= POINTS_MAX && points.len() > POINTS_MAX / 2, "{}", points.len());
        assert_eq!(points.last().map(|point| point.ago_ms), Some(0));
        assert!(points.windows(2).all(|two| two[0].ago_ms > two[1].ago_ms));
    }
}
