//! The members, as the asked node sees them, and one of them closer.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use kv_client::NodeId;
use kv_client::wire::{NodeInfo, NodeState};

use super::layout::{Room, list_in, nodes_parts};
use super::paint::{
    bad, chosen, cut, dim, framed, glyph, lines, pair, spark, state_style, warn, wrapped,
};
use crate::app::{App, local_number};
use crate::model::{Snapshot, state_word};
use crate::text;

/// A column: its head, its width, whether it goes right, the least width of the screen for it.
struct Column {
    head: &'static str,
    width: usize,
    right: bool,
    from: u16,
    cell: fn(&App, &Snapshot, &NodeInfo) -> String,
}

const COLUMNS: [Column; 13] = [
    Column {
        head: "node",
        width: 7,
        right: false,
        from: 0,
        cell: |app, _, it| app.names.label(it.node),
    },
    Column {
        head: "zone",
        width: 6,
        right: false,
        from: 100,
        cell: |_, _, it| text::shown(it.zone.as_bytes(), 6),
    },
    Column {
        head: "state",
        width: 7,
        right: false,
        from: 0,
        cell: |_, _, it| state_word(it.state).to_owned(),
    },
    Column { head: "φ", width: 5, right: true, from: 0, cell: |_, _, it| phi(it) },
    Column {
        head: "call",
        width: 10,
        right: true,
        from: 0,
        cell: |_, snapshot, it| call(snapshot, it),
    },
    Column {
        head: "p95",
        width: 7,
        right: true,
        from: 100,
        cell: |_, _, it| it.read_p95_us.map_or_else(|| "--".to_owned(), text::latency),
    },
    Column {
        head: "prt",
        width: 5,
        right: true,
        from: 0,
        cell: |_, _, it| it.partitions.to_string(),
    },
    Column {
        head: "first",
        width: 5,
        right: true,
        from: 100,
        cell: |_, _, it| it.first_places.to_string(),
    },
    Column {
        head: "queue",
        width: 5,
        right: true,
        from: 80,
        cell: |_, _, it| text::count(u64::from(it.queue_ops)),
    },
    Column {
        head: "hints→",
        width: 6,
        right: true,
        from: 60,
        cell: |_, snapshot, it| hints_for(snapshot, it.node),
    },
    Column {
        head: "epoch",
        width: 5,
        right: true,
        from: 78,
        cell: |_, _, it| it.epoch.to_string(),
    },
    Column { head: "op/s", width: 5, right: true, from: 100, cell: |_, _, it| ops(it) },
    Column {
        head: "call 60 s",
        width: 9,
        right: false,
        from: 78,
        cell: |app, _, it| calls(app, it.node, 9),
    },
];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    let (list, detail) = nodes_parts(app, area);
    draw_list(frame, list, app, snapshot);
    if detail.height > 2 {
        draw_detail(frame, detail, app, snapshot, room);
    }
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let nodes = app.nodes_shown();
    let filter = if app.selected.node_filter.is_empty() { "-" } else { &app.selected.node_filter };
    let filter = text::shown(filter.as_bytes(), 30);
    let (count, sort) = (nodes.len(), app.selected.sort.word());
    framed(frame, area, &format!("nodes {count}   sort {sort}   filter {filter}"));
    let list = list_in(area, 1, nodes.len(), app.selected.node);
    let columns: Vec<&Column> = COLUMNS.iter().filter(|it| area.width >= it.from).collect();
    let wide = app.names.short(snapshot.status.node).len() + 2;
    let cell = |column: &Column, text: &str| {
        let width = if column.head == "node" { wide.max(column.width) } else { column.width };
        let text = cut(text, width);
        if column.right { format!("{text:>width$}") } else { format!("{text:<width$}") }
    };
    let head: Vec<String> = columns.iter().map(|column| cell(column, column.head)).collect();
    let head_at = Rect { y: list.rows.y.saturating_sub(1), height: 1, ..list.rows };
    let head = Line::styled(format!("   {}", head.join("  ")), dim());
    frame.render_widget(head, head_at.intersection(area));
    let row = |(at, node): (usize, &&NodeInfo)| {
        let cells = columns.iter().map(|column| cell(column, &(column.cell)(app, snapshot, node)));
        let cells: Vec<String> = cells.collect();
        let style = state_style(node.state);
        let line = Line::from(vec![
            Span::styled(format!(" {} ", glyph(node.state)), style),
            Span::raw(cells.join("  ")),
        ]);
        if at == app.selected.node { line.style(chosen()) } else { line }
    };
    let rows = nodes.iter().enumerate().skip(list.first).take(usize::from(list.rows.height));
    lines(frame, list.rows, rows.map(row).collect());
}

fn phi(node: &NodeInfo) -> String {
    format!("{}.{}", node.phi_hundredths / 100, node.phi_hundredths % 100 / 10)
}

fn call(snapshot: &Snapshot, node: &NodeInfo) -> String {
    match (node.unanswered_ms, node.call_us) {
        _ if node.node == snapshot.status.node => "asked".to_owned(),
        (0, Some(us)) => text::latency(us),
        (0, None) => "--".to_owned(),
        (silent, _) => format!("silent {}", text::duration(u64::from(silent))),
    }
}

fn hints_for(snapshot: &Snapshot, node: NodeId) -> String {
    let Some(hints) = &snapshot.hints else { return "--".to_owned() };
    let of_node = hints.queues.iter().filter(|queue| queue.target == node);
    text::count(of_node.fold(0, |sum, queue| sum.saturating_add(queue.keys)))
}

/// What it coordinates, as it told last.
fn ops(node: &NodeInfo) -> String {
    node.vitals.map_or_else(|| "--".to_owned(), |told| text::count(told.ops_per_s))
}

fn calls(app: &App, node: NodeId, count: usize) -> String {
    let series = app.calls.iter().find(|(id, _)| *id == node);
    series.map_or_else(String::new, |(_, series)| spark(series.last(count)))
}

fn draw_detail(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    let Some(node) = app.nodes_shown().get(app.selected.node).copied() else {
        framed(frame, area, "no node passes the filter");
        return;
    };
    let label = app.names.label(node.node);
    let local = local_number(app, node).map_or_else(String::new, |number| format!("  n{number}"));
    let inner = framed(frame, area, &format!("{label}{local}  {}", state_word(node.state)));
    let width = usize::from(inner.width);
    let mut all = vec![
        pair("id", format!("{}  {}", node.node, shown(&node.endpoints.rpc))),
        pair(
            "redis",
            format!("{}  http {}", shown(&node.endpoints.resp), shown(&node.endpoints.http)),
        ),
        pair("φ", phi_words(app, snapshot, node)),
    ];
    all.extend(meaning(snapshot, node, width));
    all.extend(held_for(app, snapshot, node.node));
    if node.node == snapshot.status.node {
        let status = &snapshot.status;
        let (memory, disk) = (text::size(status.memory_bytes), text::size(status.disk_bytes));
        let up = text::duration(status.uptime_ms);
        all.push(pair("itself", format!("up {up}  memory {memory}  disk {disk}")));
        for alert in &status.alerts {
            let alert = wrapped(&text::shown(alert.as_bytes(), 300), width);
            all.extend(alert.into_iter().map(|line| Line::styled(line, warn())));
        }
    }
    if room == Room::Full {
        all.push(vitals(app, node, width));
    }
    if let Some(floor) = node.floor_age_ms {
        all.push(pair(
            "floor",
            format!("{} behind: deletes older than it can be forgotten", text::duration(floor)),
        ));
    }
    timeline(app, node.node, usize::from(inner.height).saturating_sub(all.len()), width, &mut all);
    lines(frame, inner, all);
}

/// How it fares, as it told everybody last; what it tells has two digits.
fn vitals(app: &App, node: &NodeInfo, width: usize) -> Line<'static> {
    let Some(told) = node.vitals else {
        return Line::styled(cut("it has not told how it fares", width), dim());
    };
    let up = text::duration(app.unix_ms.saturating_sub(told.started_ms));
    let (memory, disk) = (text::size(told.memory_bytes), text::size(told.disk_bytes));
    let (ops, hints) = (text::count(told.ops_per_s), text::count(told.hint_keys));
    let more = if told.conflicts_are_all { "" } else { "+" };
    let what = format!(
        "up {up}  {ops} op/s  memory {memory}  disk {disk}  siblings {}{more}  hints kept {hints}",
        text::count(told.conflicts)
    );
    pair("told", what)
}

fn shown(address: &str) -> String {
    if address.is_empty() { "-".to_owned() } else { text::shown(address.as_bytes(), 60) }
}

fn phi_words(app: &App, snapshot: &Snapshot, node: &NodeInfo) -> String {
    let by = app.names.label(snapshot.status.node);
    if node.node == snapshot.status.node {
        return "this is the node that answers".to_owned();
    }
    let silent = match node.unanswered_ms {
        0 => String::new(),
        ms => format!("  a call unanswered for {}", text::duration(u64::from(ms))),
    };
    format!("{} by {by}{silent}", phi(node))
}

/// What its state means for the cluster, and for stopping it.
fn meaning(snapshot: &Snapshot, node: &NodeInfo, width: usize) -> Vec<Line<'static>> {
    let counts = snapshot.partition_counts();
    let (what, style) = match node.state {
        NodeState::Alive | NodeState::Draining => match snapshot.lost_without(node.node) {
            0 => ("it can be stopped: every partition keeps a majority".to_owned(), dim()),
            lost => (format!("do NOT stop it: {lost} partitions would have no majority"), warn()),
        },
        _ if counts.no_quorum > 0 => {
            let lost = counts.no_quorum;
            (format!("{lost} partitions have no majority up: they are not served at QUORUM"), bad())
        }
        _ => {
            let short = counts.short;
            let words =
                format!("served without it; {short} partitions lack a copy, writes leave hints");
            (words, warn())
        }
    };
    let mut all: Vec<Line<'static>> =
        wrapped(&what, width).into_iter().map(|line| Line::styled(line, style)).collect();
    if node.state == NodeState::Down {
        let id = node.node;
        let step = format!("try: restart it; if its disk is gone: kv cluster replace {id} NEW");
        all.push(Line::styled(cut(&step, width), dim()));
    }
    all
}

fn held_for(app: &App, snapshot: &Snapshot, node: NodeId) -> Vec<Line<'static>> {
    let Some(hints) = &snapshot.hints else { return Vec::new() };
    let queues: Vec<_> = hints.queues.iter().filter(|queue| queue.target == node).collect();
    if queues.is_empty() {
        return Vec::new();
    }
    let each: Vec<String> = queues
        .iter()
        .map(|queue| format!("{} {}", app.names.letter(queue.on), text::count(queue.keys)))
        .collect();
    let oldest = queues.iter().map(|queue| queue.age_ms).max().unwrap_or(0);
    let what = format!("{}   oldest {}", each.join("  "), text::duration(oldest));
    vec![pair("hints for it", what)]
}

/// The node's newest events, as many as there is room for.
fn timeline(app: &App, node: NodeId, room: usize, width: usize, all: &mut Vec<Line<'static>>) {
    let of_node = app.events.iter().rev().filter(|event| event.node == Some(node));
    let events: Vec<_> = of_node.take(room.saturating_sub(2)).collect();
    if events.is_empty() {
        return;
    }
    all.push(Line::default());
    for event in events {
        let text = text::shown(event.text.as_bytes(), 200);
        let line = format!("{}  {text}", text::clock(event.unix_ms));
        all.push(Line::from(cut(&line, width)));
    }
}
