//! How many nodes there should be: what they carry against what they may, what is recommended and
//! why, what was decided and done.
//!
//! The asked node decides as every node does; what the one that acts is doing comes by gossip.

use kv_client::wire::AutoscaleView;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use super::layout::Room;
use super::paint::{bold, cut, dim, framed, lines, pair, spark, warn, wrapped};
use crate::app::App;
use crate::model::{Event, EventKind, Snapshot, Weight, balance_hundredths, shares};
use crate::text;
use crate::verbs::autoscale::{mode_word, pause};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    let heights = if room == Room::Little {
        [Constraint::Min(0), Constraint::Length(5), Constraint::Length(0)]
    } else {
        [Constraint::Length(11), Constraint::Min(8), Constraint::Percentage(25)]
    };
    let [signals, advice, decisions] = Layout::vertical(heights).areas(area);
    draw_signals(frame, signals, app, snapshot);
    draw_advice(frame, advice, app, snapshot);
    if decisions.height > 2 {
        draw_decisions(frame, decisions, app);
    }
}

/// One signal of the table.
struct Signal {
    name: &'static str,
    now: Option<String>,
    target: Option<String>,
    past: String,
}

fn draw_signals(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let by = app.names.label(snapshot.status.node);
    let mode = snapshot.autoscale.as_ref().map_or("unknown", |view| mode_word(view.mode));
    let inner = framed(frame, area, &format!("signals, as {by} hears of them   mode {mode}"));
    let width = usize::from(inner.width).saturating_sub(48).min(60);
    let head = format!("{:<20} {:>11} {:>12}  past", "a node", "now", "target");
    let mut all = vec![Line::styled(head, dim())];
    let missing = || "--".to_owned();
    for Signal { name, now, target, past } in signals(app, snapshot, width) {
        let (now, target) = (now.unwrap_or_else(missing), target.unwrap_or_else(missing));
        all.push(Line::from(format!("{name:<20} {now:>11} {target:>12}  {past}")));
    }
    lines(frame, inner, all);
}

fn signals(app: &App, snapshot: &Snapshot, width: usize) -> Vec<Signal> {
    let view = snapshot.autoscale.as_ref();
    let plain = |name, now| Signal { name, now, target: None, past: String::new() };
    let mut all = view.map_or_else(Vec::new, |view| targets(app, view, width));
    let balance = snapshot.ring.as_ref().and_then(|ring| balance_hundredths(&shares(ring)));
    let balance = balance.map(|of| format!("{}.{:02}", of / 100, of % 100));
    let slowest = snapshot.nodes.iter().filter_map(|node| node.read_p95_us).max();
    let waits = view.and_then(|view| view.loads.iter().map(|load| load.wait_us).max());
    let hints = Signal {
        past: spark(app.hints.last(width)),
        ..plain("hints anywhere", app.hints.now().map(text::count))
    };
    all.push(plain("longest wait", waits.map(|us| text::latency(us.into()))));
    all.push(plain("p95 of reads", slowest.map(text::latency)));
    all.push(plain("balance max/mean", balance));
    all.push(hints);
    all
}

/// What the policy looks at: the mean of all nodes, and the busiest.
fn targets(app: &App, view: &AutoscaleView, width: usize) -> Vec<Signal> {
    let members = u64::from(view.members.max(1));
    let setting = |name: &str| {
        let found = view.policy.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value).filter(|value| *value > 0)
    };
    let most = |text: String| format!("<= {text}");
    let from = view.past.len().saturating_sub(width);
    let past = || view.past.iter().skip(from);
    let last = view.past.last();
    let busiest = view.loads.iter().max_by_key(|load| (load.ops_per_s, load.node));
    let busiest = busiest
        .map(|load| format!("{} {}", app.names.label(load.node), text::count(load.ops_per_s)));
    let cpu = |per_mille: u64| format!("{} %", per_mille / 10);
    let knows_cpu = view.loads.iter().any(|load| load.cpu_per_mille.is_some());
    vec![
        Signal {
            name: "op/s",
            now: last.map(|point| text::count(point.ops_per_s / members)),
            target: setting("ops_per_node").map(|value| most(text::count(value))),
            past: spark(past().map(|point| point.ops_per_s)),
        },
        Signal { name: "op/s of the busiest", now: busiest, target: None, past: String::new() },
        Signal {
            name: "cpu",
            now: last.filter(|_| knows_cpu).map(|point| cpu(point.cpu_per_mille / members)),
            target: setting("cpu_percent").map(|value| most(format!("{value} %"))),
            past: spark(past().map(|point| point.cpu_per_mille)),
        },
        Signal {
            name: "disk",
            now: last.map(|point| text::size(point.disk_bytes / members)),
            target: setting("disk_bytes_per_node").map(|value| most(text::size(value))),
            past: spark(past().map(|point| point.disk_bytes)),
        },
    ]
}

fn draw_advice(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let inner = framed(frame, area, "recommendation");
    let width = usize::from(inner.width);
    let told = |text: &str| wrapped(&text::shown(text.as_bytes(), 600), width);
    let Some(view) = &snapshot.autoscale else {
        let missing = "This node does not say: it takes no part in scaling, or did not answer.";
        return lines(frame, inner, told(missing).into_iter().map(Line::from).collect());
    };
    let named = |text: &str| {
        let mut text = text.to_owned();
        for node in &snapshot.nodes {
            text = text.replace(&node.node.to_string(), &app.names.label(node.node));
        }
        told(&text)
    };
    let (members, desired) = (view.members, view.desired);
    let what = match (view.verdict.as_str(), desired.cmp(&members)) {
        ("", _) => "no decisions are made: kv autoscale set --mode advise".to_owned(),
        (_, std::cmp::Ordering::Greater) => format!("ADD 1 NODE: {desired} instead of {members}"),
        (_, std::cmp::Ordering::Less) => format!("1 NODE LESS: {desired} instead of {members}"),
        (held @ ("out-held" | "in-held"), _) => format!("HELD ({held}): {members} for now"),
        ("move", _) => format!("A PARTITION MOVES: {members} are enough"),
        ("even-out", _) => format!("EVEN OUT: {members} are enough"),
        _ => format!("{members} nodes are right"),
    };
    let mut all = vec![Line::styled(text::shown(what.as_bytes(), 100), bold())];
    all.extend(named(&view.reason).into_iter().map(Line::from));
    if let Some(paused) = pause(view) {
        all.push(Line::styled(paused, warn()));
    }
    if !view.failure.is_empty() {
        let failed = named(&format!("failed: {}", view.failure));
        all.extend(failed.into_iter().map(|line| Line::styled(line, warn())));
    }
    let by = view.evaluator.map_or_else(|| "nobody".to_owned(), |node| app.names.label(node));
    let doing = if view.doing.is_empty() { "decides" } else { &view.doing };
    all.extend(named(&format!("{by}: {doing}")).into_iter().map(|line| Line::styled(line, dim())));
    // One that is no member yet may have no letter.
    let waiting: Vec<String> = view.waiting.iter().map(|node| app.names.short(*node)).collect();
    if !waiting.is_empty() {
        all.push(pair("waiting", format!("{} empty, to be joined", waiting.join(", "))));
    }
    all.push(pair("limits", limits(view)));
    let from = text::shown(view.provisioner.as_bytes(), 20);
    all.push(pair("nodes from", format!("{from}; kv autoscale set, pause, history")));
    lines(frame, inner, all);
}

fn limits(view: &AutoscaleView) -> String {
    let setting = |name: &str| {
        let found = view.policy.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, value)| *value)
    };
    format!(
        "{}..{} nodes; out after {}, in after {} with a margin of {} %, rest {}",
        setting("nodes_min"),
        setting("nodes_max"),
        text::duration(setting("out_after_ms")),
        text::duration(setting("in_after_ms")),
        setting("margin_percent"),
        text::duration(setting("cool_down_ms")),
    )
}

fn draw_decisions(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let inner = framed(frame, area, "decisions, the newest first");
    let width = usize::from(inner.width);
    let decisions = app.events.iter().filter(|event| event.kind == EventKind::Scale);
    let mut newest: Vec<&Event> = decisions.collect();
    newest.sort_by_key(|event| std::cmp::Reverse(event.unix_ms));
    let row = |event: &&Event| {
        let word = text::shown(event.code.trim_start_matches("scale.").as_bytes(), 10);
        let head = format!(" {} {word:<10} ", text::clock(event.unix_ms));
        let what = text::shown(event.text.as_bytes(), 400);
        let line = Line::from(format!("{head}{}", cut(&what, width.saturating_sub(head.len()))));
        if event.weight == Weight::Warn { line.style(warn()) } else { line }
    };
    let rows: Vec<Line<'_>> = newest.iter().take(usize::from(inner.height)).map(row).collect();
    if rows.is_empty() {
        let none = "Nothing was decided since this terminal listens: kv autoscale history";
        return lines(frame, inner, wrapped(none, width).into_iter().map(Line::from).collect());
    }
    lines(frame, inner, rows);
}
