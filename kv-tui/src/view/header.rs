//! The first two lines: how the cluster is, and the tabs.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::layout::{Parts, Room, tab_labels};
use super::paint::{bad, bold, chosen, cut, dim, framed, good, lines, warn, wrapped};
use crate::app::{App, Link};
use crate::model::{Health, Snapshot, state_word};
use crate::text;

pub(super) fn draw(frame: &mut Frame<'_>, parts: &Parts, app: &App, room: Room) {
    let (word, style) = link(app);
    let word = if app.readonly() && app.snapshot.is_some() {
        format!("READ-ONLY  {word} ")
    } else {
        format!("{word} ")
    };
    let line = parts.header;
    let right = word.chars().count() as u16;
    let left = Rect { width: line.width.saturating_sub(right + 1), ..line };
    let mut spans = vec![Span::styled(" kv  ", bold())];
    if let Some(snapshot) = app.shown() {
        let width = usize::from(left.width).saturating_sub(5);
        spans.extend(summary(app, snapshot, room, width));
    } else {
        let asked = text::shown(app.options.address.as_bytes(), 60);
        spans.push(Span::raw(format!("asking {asked}")));
    }
    frame.render_widget(Line::from(spans), left);
    let at = Rect { x: line.right().saturating_sub(right), width: right, ..line };
    frame.render_widget(Line::styled(word, style), at.intersection(line));
    draw_tabs(frame, parts.tabs, app);
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, app: &App) {
    for (tab, label, start) in tab_labels(app, area.width) {
        let width = label.len() as u16;
        let at = Rect { x: area.x.saturating_add(start), width, ..area }.intersection(area);
        let style = if tab == app.tab { chosen() } else { Style::new() };
        frame.render_widget(Line::styled(label, style), at);
    }
}

/// How the terminal stands to the cluster, in a word.
fn link(app: &App) -> (String, Style) {
    match app.link() {
        Link::Asking => ("ASKING".to_owned(), warn()),
        Link::Live => ("LIVE".to_owned(), good()),
        Link::Paused => ("PAUSED".to_owned(), warn()),
        Link::Stale(ms) => (format!("STALE {}", text::duration(ms)), warn()),
        Link::Reconnect(ms) => {
            let seconds = ms.div_ceil(1_000);
            (format!("RECONNECT {seconds}s"), bad())
        }
    }
}

/// What there is room for: what matters least is left out whole, and what is said stays in order.
fn summary(app: &App, snapshot: &Snapshot, room: Room, width: usize) -> Vec<Span<'static>> {
    let mut parts = summary_parts(app, snapshot, room);
    let used = |parts: &[(u8, String, Style)]| {
        parts.iter().map(|(_, text, _)| text.chars().count() + 2).sum::<usize>()
    };
    while used(&parts) > width && parts.len() > 1 {
        let least = parts.iter().enumerate().max_by_key(|(_, part)| part.0).map(|(at, _)| at);
        parts.remove(least.unwrap_or(0));
    }
    parts.into_iter().map(|(_, text, style)| Span::styled(format!("{text}  "), style)).collect()
}

/// Each with its rank: the lowest is left out last.
fn summary_parts(app: &App, snapshot: &Snapshot, room: Room) -> Vec<(u8, String, Style)> {
    let (up, members) = snapshot.members_up();
    let full = room == Room::Full;
    let nodes = if full {
        format!("{members} nodes: {}", count_states(snapshot))
    } else {
        format!("{up}/{members} up")
    };
    let health = snapshot.health();
    let style = match health {
        Health::Healthy => good(),
        Health::Degraded => warn(),
        Health::NoQuorum => bad(),
    };
    let mut parts = vec![(0, nodes, style)];
    let mut add = |rank: u8, text: String| parts.push((rank, text, Style::new()));
    if health != Health::Healthy {
        add(1, health.word().to_owned());
    }
    if let Some(ring) = &snapshot.ring {
        add(9, format!("N{}", ring.copies));
    }
    if let Some(operations) = app.operations.now() {
        add(7, format!("{} op/s", text::count(operations)));
    }
    match app.p99_us {
        Some(u64::MAX) => add(8, "p99 >8s".to_owned()),
        Some(us) => add(8, format!("p99 <{}", text::latency(us))),
        None => {}
    }
    // That there is none is good to see where there is room for it.
    if full || app.errors > 0 {
        add(3, format!("errors {}", text::count(app.errors)));
    }
    let hints = snapshot.hints_waiting().map_or_else(|| "--".to_owned(), text::count);
    add(4, format!("hints {hints}"));
    let told = snapshot.conflicts.as_ref().map(|conflicts| conflicts.total);
    let conflicts = told.unwrap_or(0).max(app.conflicts().len() as u64);
    if full || conflicts > 0 {
        add(6, format!("conf {}", text::count(conflicts)));
    }
    let alerts = snapshot.alerts().len();
    if alerts > 0 {
        add(5, format!("alerts {alerts}"));
    }
    add(2, format!("via {}", app.names.label(snapshot.status.node)));
    parts
}

/// `4 up 1 suspect`, those that are there.
fn count_states(snapshot: &Snapshot) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for node in snapshot.members() {
        let word = state_word(node.state);
        match counts.iter_mut().find(|(of, _)| *of == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    // As operators say it: first how many are up.
    counts.sort_by_key(|(word, _)| match *word {
        "up" => 0,
        "suspect" => 1,
        _ => 2,
    });
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}

/// Before the first answer.
pub(super) fn nothing_heard(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let inner = framed(frame, area, "no answer yet");
    let width = usize::from(inner.width);
    let address = text::shown(app.options.address.as_bytes(), 200);
    let mut all = vec![Line::from(cut(&format!("asking {address}"), width))];
    if let Some((why, _)) = &app.problem {
        let why = text::shown(why.as_bytes(), 600);
        all.extend(wrapped(&why, width).into_iter().map(|line| Line::styled(line, bad())));
    }
    all.push(Line::default());
    let hints = [
        "--connect HOST:PORT   the address of any node's tarpc port, or several",
        "--secret-file FILE    the cluster's secret",
        "kv status             the same question, once, with an exit code",
    ];
    all.extend(hints.map(|hint| Line::styled(hint, dim())));
    lines(frame, inner, all);
}
