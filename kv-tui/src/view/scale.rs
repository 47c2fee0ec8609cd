//! Whether there is enough of everything. Nodes decide nothing about it yet: what is known is
//! shown, and what is missing is said.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use super::layout::Room;
use super::paint::{dim, framed, lines, spark, wrapped};
use crate::app::App;
use crate::model::{Snapshot, balance_hundredths, shares};
use crate::text;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    let below = if room == Room::Little { 4 } else { 7 };
    let [signals, decisions] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(below)]).areas(area);
    draw_signals(frame, signals, app, snapshot);
    let inner = framed(frame, decisions, "recommendations and decisions");
    let missing = "No node computes any yet: there is no policy, no target, no recommendation and \
                   no history of decisions to show. Nothing is added or removed by itself.";
    let all = wrapped(missing, usize::from(inner.width));
    lines(frame, inner, all.into_iter().map(Line::from).collect());
}

fn draw_signals(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let by = app.names.label(snapshot.status.node);
    let inner = framed(frame, area, &format!("signals of {by}, as far as nodes tell them"));
    let width = usize::from(inner.width).saturating_sub(34).min(60);
    let missing = || "--".to_owned();
    let status = &snapshot.status;
    let row = |name: &str, now: String, graph: String| {
        Line::from(format!("{name:<20} {now:>10}  {graph}"))
    };
    let operations = app.operations.now().map_or_else(missing, text::count);
    let balance = snapshot.ring.as_ref().and_then(|ring| balance_hundredths(&shares(ring)));
    let balance = balance.map_or_else(missing, |of| format!("{}.{:02}", of / 100, of % 100));
    let waiting = app.hints.now().map_or_else(missing, text::count);
    let slowest = snapshot.nodes.iter().filter_map(|node| node.read_p95_us).max();
    let figure = |name: &str| snapshot.figure(name).map_or_else(missing, text::count);
    let mut all = vec![
        Line::styled(format!("{:<20} {:>10}  last {width} s", "signal", "now"), dim()),
        row("op/s it coordinates", operations, spark(app.operations.last(width))),
        row("hints anywhere", waiting, spark(app.hints.last(width))),
        row("p95 of reads, worst", slowest.map_or_else(missing, text::latency), String::new()),
        row("memory of rows", text::size(status.memory_bytes), String::new()),
        row("disk", text::size(status.disk_bytes), String::new()),
        row("rows", status.rows.map_or_else(missing, text::count), String::new()),
        row("balance max/mean", balance, String::new()),
        row("writes indeterminate", figure("indeterminate"), "since its start".to_owned()),
        row("reads unavailable", figure("unavailable"), "since its start".to_owned()),
        row("refused as busy", figure("busy"), "since its start".to_owned()),
        Line::default(),
    ];
    let told = "CPU, free memory and disk, p99 and the hottest partition: no node tells them yet.";
    let told = wrapped(told, usize::from(inner.width));
    all.extend(told.into_iter().map(|line| Line::styled(line, dim())));
    lines(frame, inner, all);
}
