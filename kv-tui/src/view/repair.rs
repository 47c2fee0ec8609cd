//! What mends: anti-entropy, hints, layouts in change, compaction.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use kv_client::wire::{AaePeer, AaeView, HintQueue, HintState, HintsView};

use super::layout::Room;
use super::paint::{bad, bar, chosen, cut, dim, framed, lines, warn, wrapped};
use crate::app::App;
use crate::model::Snapshot;
use crate::text;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    let (transfers, compaction) = match room {
        Room::Full => (7, 5),
        Room::Compact => (4, 3),
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
    if transfers > 0 {
        draw_layouts(frame, layouts, app, snapshot);
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
    let mut all = Vec::new();
    match &snapshot.layouts {
        None => all.push(Line::styled("the asked node did not tell of layouts", warn())),
        Some(layouts) => {
            let live: Vec<String> =
                layouts.live.iter().map(|layout| layout.epoch.to_string()).collect();
            let what = match live.len() {
                0 => "no layout is live".to_owned(),
                1 => format!("layout {} is live, every member has finished", live.join("")),
                _ => format!("layouts {} are live", live.join(", ")),
            };
            all.push(Line::from(what));
            let waiting = layouts.members.iter().filter(|member| !member.waits_for.is_empty());
            for member in waiting.take(usize::from(inner.height).saturating_sub(2)) {
                let why = text::shown(member.waits_for.as_bytes(), 200);
                let line = format!("{} waits for {why}", app.names.label(member.node));
                all.push(Line::styled(cut(&line, width), warn()));
            }
        }
    }
    let missing = "Nodes tell neither plans nor transfers yet: what moves can't be shown here.";
    all.extend(wrapped(missing, width).into_iter().map(|line| Line::styled(line, dim())));
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
