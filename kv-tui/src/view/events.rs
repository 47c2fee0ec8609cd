//! What happened, the newest first, and what the selected event means.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::layout::{events_parts, list_in};
use super::paint::{bold, chosen, cut, dim, framed, lines, warn, wrapped};
use crate::app::App;
use crate::model::{Event, Weight, explain};
use crate::text;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let (list, detail) = events_parts(area);
    draw_list(frame, list, app);
    if detail.height > 2 {
        draw_detail(frame, detail, app);
    }
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let events = app.events_shown();
    let filter = &app.selected.event_filter;
    let filter =
        if filter.is_empty() { "-".to_owned() } else { text::shown(filter.as_bytes(), 20) };
    let kind = app.selected.event_kind.map_or("all", crate::model::EventKind::word);
    let dropped = match app.events_dropped {
        0 => String::new(),
        count => format!("   dropped {count}"),
    };
    let node = app.selected.event_node;
    let node = node.map_or_else(|| "all".to_owned(), |node| app.names.label(node));
    let count = events.len();
    let title = format!("events {count}   filter {filter}   kinds {kind}   nodes {node}{dropped}");
    framed(frame, area, &title);
    let list = list_in(area, 0, events.len(), app.selected.event);
    if events.is_empty() {
        let what = if app.events.is_empty() {
            "No node noted anything yet, or none was asked."
        } else {
            "No event passes the filter: esc drops it."
        };
        let all = wrapped(what, usize::from(list.rows.width));
        lines(frame, list.rows, all.into_iter().map(Line::from).collect());
        return;
    }
    let width = usize::from(list.rows.width);
    let selected = app.selected.event.min(events.len() - 1);
    let row = |(at, event): (usize, &&Event)| {
        let line = line(app, event, width);
        if at == selected { line.style(chosen()) } else { line }
    };
    let rows = events.iter().enumerate().skip(list.first).take(usize::from(list.rows.height));
    lines(frame, list.rows, rows.map(row).collect());
}

fn line(app: &App, event: &Event, width: usize) -> Line<'static> {
    let word = event.weight.word();
    let word = if width < 100 { word.get(..1).unwrap_or(word) } else { word };
    let node = event.node.map_or('-', |node| app.names.letter(node));
    let head = format!(" {} ", text::clock(event.unix_ms));
    let middle = format!(" {node} {:<7} ", event.kind.word());
    let used = head.len() + word.len() + middle.len();
    let mut what = text::shown(event.text.as_bytes(), 400);
    if event.said_by > 1 {
        what = format!("{what} ({} nodes say so)", event.said_by);
    }
    let style = if event.weight == Weight::Warn { warn() } else { dim() };
    Line::from(vec![
        Span::raw(head),
        Span::styled(word.to_owned(), style),
        Span::raw(middle),
        Span::raw(cut(&what, width.saturating_sub(used))),
    ])
}

fn draw_detail(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let events = app.events_shown();
    let at = app.selected.event.min(events.len().saturating_sub(1));
    let Some(event) = events.get(at) else {
        framed(frame, area, "explain");
        return;
    };
    let name = if event.code.is_empty() { event.kind.word() } else { &event.code };
    let name = text::shown(name.as_bytes(), 40);
    let title = format!("explain {} {name}", text::moment(event.unix_ms));
    let inner = framed(frame, area, &title);
    let width = usize::from(inner.width);
    let what = text::shown(event.text.as_bytes(), 600);
    let mut all: Vec<Line<'_>> =
        wrapped(&what, width).into_iter().map(|line| Line::styled(line, bold())).collect();
    for text in explain(event.kind) {
        all.extend(wrapped(text, width).into_iter().map(Line::from));
    }
    lines(frame, inner, all);
}
