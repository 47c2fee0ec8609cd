//! What mends: anti-entropy, hints, layouts in change, compaction.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use kv_client::NodeId;
use kv_client::wire::{
    AaePeer, AaeView, HintQueue, HintState, HintsView, LayoutProgress, NodeShare,
};

use super::layout::Room;
use super::paint::{bad, bar, bold, chosen, cut, dim, framed, lines, warn};
use crate::app::{App, Planned};
use crate::model::{Snapshot, is_up};
use crate::text;
use crate::verbs::transfers;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    let moving = snapshot.layouts.as_ref().map_or(0, |of| {
        let busy = of.members.iter().filter(|member| is_busy(member)).count();
        if of.live.len() > 1 { u16::try_from(busy).unwrap_or(u16::MAX) } else { 0 }
    });
    let (transfers, compaction) = match (room, &app.plan) {
        (Room::Full, Some(_)) => (12, 5),
        (_, Some(_)) => (7, 0),
        (Room::Full, None) => (moving.saturating_add(3).clamp(5, 9), 5),
        (Room::Compact, None) => (moving.saturating_add(3).clamp(4, 6), 3),
        _ => (0, 0),
    };
    let [aae, hints, layouts, engine] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(transfers),
        Constraint::Length(compaction),
    ])
    .areas(area);
    draw_aae(frame, aae, app, snapshot);
    draw_hints(frame, hints, app, snapshot);
    match &app.plan {
        Some(planned) => draw_plan(frame, layouts, app, planned),
        None if transfers > 0 => draw_layouts(frame, layouts, app, snapshot),
        None => {}
    }
    if compaction > 0 {
        draw_engine(frame, engine, app, snapshot, room);
    }
}

fn draw_aae(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let by = app.names.label(snapshot.status.node);
    let inner = framed(frame, area, &format!("anti-entropy of {by}"));
    let width = usize::from(inner.width);
    let Some(aae) = &snapshot.aae else {
        lines(frame, inner, vec![Line::styled("the asked node did not tell", warn())]);
        return;
    };
    let mut all = vec![Line::styled(cut(&trees(aae), width), dim())];
    if aae.peers.is_empty() {
        all.push(Line::from("it shares no partition with another node"));
    }
    for (at, peer) in aae.peers.iter().enumerate() {
        let line = cut(&exchange(app, peer, width), width);
        let style = if peer.failure.is_empty() { ratatui::style::Style::new() } else { bad() };
        let style = if at == app.selected.repair { style.patch(chosen()) } else { style };
        all.push(Line::styled(line, style));
    }
    let first = (app.selected.repair + 2).saturating_sub(usize::from(inner.height)).min(all.len());
    lines(frame, inner, all.split_off(first));
}

fn trees(aae: &AaeView) -> String {
    let (built, building, leaves) = (aae.trees_built, aae.trees_building, aae.leaves);
    let filling = match aae.filling {
        0 => String::new(),
        count => format!("   {count} partitions being filled after a loss"),
    };
    let rate = aae.rate_per_mille / 10;
    format!("trees {built}   to build {building}   leaves {leaves}   rate {rate}%{filling}")
}

fn exchange(app: &App, peer: &AaePeer, width: usize) -> String {
    let label = app.names.label(peer.node);
    let last = peer.age_ms.map_or_else(
        || "never compared".to_owned(),
        |ms| format!("clean {} ago", text::duration(ms)),
    );
    let (count, mended) = (text::count(peer.exchanges), text::count(peer.mended));
    let line = format!("↔ {label}  {last}   exchanges {count}   mended {mended}");
    let line = if width >= 100 {
        let by = if peer.begins { "begun here" } else { "begun there" };
        let (bytes, last) = (text::size(peer.bytes), text::size(peer.last_bytes));
        format!("{line}   {bytes} in all, {last} last   {by}")
    } else {
        line
    };
    if peer.failure.is_empty() {
        line
    } else {
        format!("{line}   FAILED: {}", text::shown(peer.failure.as_bytes(), 200))
    }
}

fn draw_hints(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let Some(hints) = &snapshot.hints else {
        let inner = framed(frame, area, "hinted handoff");
        lines(frame, inner, vec![Line::styled("the asked node did not tell", warn())]);
        return;
    };
    let waiting = snapshot.hints_waiting().unwrap_or(0);
    let inner = framed(frame, area, &format!("hinted handoff   {} waiting", text::count(waiting)));
    let width = usize::from(inner.width);
    let mut all = Vec::new();
    if hints.queues.is_empty() {
        all.push(Line::from("no node keeps a hint"));
    }
    let most = hints.queues.iter().map(|queue| queue.keys).max().unwrap_or(1).max(1);
    let room = usize::from(inner.height).saturating_sub(1 + usize::from(!hints.silent.is_empty()));
    for queue in hints.queues.iter().take(room) {
        all.push(Line::from(cut(&queue_line(app, queue, most, width), width)));
    }
    if !hints.silent.is_empty() {
        let names: Vec<String> = hints.silent.iter().map(|id| app.names.label(*id)).collect();
        let line = format!("did not say what they keep: {}", names.join("  "));
        all.push(Line::styled(cut(&line, width), warn()));
    }
    all.push(Line::styled(cut(&limit(hints), width), dim()));
    lines(frame, inner, all);
}

fn queue_line(app: &App, queue: &HintQueue, most: u64, width: usize) -> String {
    let (on, target) = (app.names.label(queue.on), app.names.label(queue.target));
    let state = match queue.state {
        HintState::Waiting => "waiting for it",
        HintState::Replaying => "being delivered",
        HintState::BackedOff => "refused, tried again",
        _ => "unknown",
    };
    let share = u64::try_from(u128::from(queue.keys) * 1_000 / u128::from(most)).unwrap_or(1_000);
    let bar = bar(share, if width >= 100 { 20 } else { 8 });
    let (keys, age, size) =
        (text::count(queue.keys), text::duration(queue.age_ms), text::size(queue.bytes));
    format!("{on} → {target}  {keys:>6} {bar}  {age} old  {size}  {state}")
}

fn limit(hints: &HintsView) -> String {
    let limit = text::size(hints.hint_bytes_max);
    format!("at most {limit} on a node; past it anti-entropy must mend")
}

fn draw_layouts(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let inner = framed(frame, area, "ownership handoff");
    let width = usize::from(inner.width);
    let Some(layouts) = &snapshot.layouts else {
        let line = Line::styled("the asked node did not tell of layouts", warn());
        return lines(frame, inner, vec![line]);
    };
    let live: Vec<String> = layouts.live.iter().map(|layout| layout.epoch.to_string()).collect();
    let mut all = Vec::new();
    match live.len() {
        0 => all.push(Line::from("no layout is live")),
        1 => {
            let what = format!("layout {} is live, every member has finished", live.join(""));
            all.push(Line::from(what));
            all.push(Line::styled(
                cut(
                    "nothing moves; p plans that empty nodes join, :join and :leave name one",
                    width,
                ),
                dim(),
            ));
        }
        _ => {
            let what =
                format!("layouts {} are live: {}", live.join(", "), transfers::line(layouts));
            all.push(Line::from(cut(&what, width)));
            let room = usize::from(inner.height).saturating_sub(1);
            let busy: Vec<_> = layouts.members.iter().filter(|of| is_busy(of)).collect();
            let shown = if busy.len() > room { room.saturating_sub(1) } else { busy.len() };
            for member in busy.iter().take(shown) {
                let line = cut(&progress(app, member, width), width);
                let up = snapshot.node(member.node).is_some_and(|node| is_up(node.state));
                all.push(if up { Line::from(line) } else { Line::styled(line, warn()) });
            }
            if busy.len() > shown {
                let more = format!("{} more: kv cluster transfers", busy.len() - shown);
                all.push(Line::styled(more, dim()));
            }
        }
    }
    lines(frame, inner, all);
}

/// Whether it is not finished for the newest layout.
fn is_busy(member: &LayoutProgress) -> bool {
    member.left > 0 || !member.waits_for.is_empty()
}

/// What a member fills, how far it is, and whom it waits for.
fn progress(app: &App, member: &LayoutProgress, width: usize) -> String {
    let label = app.names.label(member.node);
    let why = text::shown(member.waits_for.as_bytes(), 200);
    let waits = if why.is_empty() { String::new() } else { format!("   waits for {why}") };
    if member.begun == 0 {
        return format!("{label}{waits}");
    }
    let (begun, left) = (u64::from(member.begun), u64::from(member.left));
    let filled = begun.saturating_sub(left);
    let bar = bar(filled * 1_000 / begun.max(1), if width >= 100 { 20 } else { 8 });
    let moved = text::size(member.bytes);
    let rest = transfers::left_ms(member)
        .map_or_else(String::new, |ms| format!(", about {} left", text::duration(ms)));
    format!("{label}  {bar}  {filled} of {begun} filled  {moved}{rest}{waits}")
}

/// A change of the members before it is made.
fn draw_plan(frame: &mut Frame<'_>, area: Rect, app: &App, planned: &Planned) {
    let inner = framed(frame, area, "plan, not committed");
    let width = usize::from(inner.width);
    let plan = &planned.plan;
    let named = |word: &str, nodes: &[NodeId]| {
        let short: Vec<String> = nodes.iter().map(|node| app.names.short(*node)).collect();
        if short.is_empty() { String::new() } else { format!("{word} {}   ", short.join(" ")) }
    };
    let (joins, leaves) = (named("join", &planned.joins), named("leave", &planned.leaves));
    let (moves, bytes) = (plan.moves, text::size(plan.bytes_about));
    let what = format!("{joins}{leaves}{moves} copies of partitions to make, about {bytes}");
    let how = match plan.steps.as_slice() {
        [] => "it is so already: there is nothing to do".to_owned(),
        [_] => "in one step; every quorum is kept meanwhile".to_owned(),
        steps => {
            let copies: Vec<String> = steps.iter().map(u32::to_string).collect();
            let (count, copies) = (steps.len(), copies.join(", "));
            format!("in {count} steps of {copies} copies, to keep every quorum; C makes the first")
        }
    };
    let readonly = app.readonly();
    let commit = if readonly { "read-only: it can't be committed" } else { "C commit" };
    let foot = Line::from(vec![
        Span::styled(commit, if readonly { warn() } else { bold() }),
        Span::raw(format!(", after epoch {}   X discard", plan.epoch)),
    ]);
    let mut all = vec![Line::from(cut(&what, width)), Line::from(cut(&how, width))];
    let room = usize::from(inner.height).saturating_sub(all.len() + 1);
    let share = |share: &NodeShare| {
        let leaves = if share.weight.is_none() { ", leaves" } else { "" };
        let (name, before, after) = (app.names.short(share.node), share.before, share.after);
        let gains = share.gains;
        Line::from(cut(&format!("  {name}  {before} → {after}, {gains} to fill{leaves}"), width))
    };
    let changes = plan.nodes.iter().filter(|share| share.before != share.after);
    all.extend(changes.take(room).map(share));
    all.push(foot);
    lines(frame, inner, all);
}

fn draw_engine(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    let by = app.names.label(snapshot.status.node);
    let inner = framed(frame, area, &format!("compaction on {by}"));
    let width = usize::from(inner.width);
    let figure = |name: &str| {
        snapshot.figure(&format!("engine_{name}")).map_or_else(|| "--".to_owned(), text::count)
    };
    let line = format!(
        "compactions {}   flushes {}   tables {} ({} in L0)   stalls {}   damaged {}",
        figure("compactions"),
        figure("flushes"),
        figure("tables"),
        figure("level0_tables"),
        figure("stalls"),
        figure("damaged"),
    );
    let mut all = vec![Line::from(cut(&line, width))];
    if room == Room::Full {
        let missing = "Only the asked node's: other nodes tell theirs to who asks them.";
        all.push(Line::styled(missing, dim()));
    }
    lines(frame, inner, all);
}
