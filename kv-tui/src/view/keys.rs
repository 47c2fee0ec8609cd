//! One key, replica by replica: what each holds, where it found it, and whether that is what a read
//! shows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use kv_client::wire::{Explanation, ReplicaAnswer};

use super::layout::Room;
use super::paint::{bad, cut, dim, framed, lines, warn, wrapped};
use super::panel::{brief_dot, dot, draw_draft, place, relation_style};
use super::value::sibling_lines;
use crate::app::{App, ValueForm};
use crate::model::{Look, Seen};
use crate::text;

/// Columns that a replica's box needs.
const BOX_WIDTH_MIN: u16 = 24;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, room: Room) {
    let Some(look) = app.look() else {
        draw_nothing(frame, area, app);
        return;
    };
    let draft = app.draft.as_ref().filter(|draft| draft.key == look.key);
    let below = match (draft, room) {
        (None, Room::Little) => 0,
        (None, _) => (area.height / 4).min(8),
        (Some(_), Room::Little) => area.height.saturating_sub(3),
        (Some(_), _) => (area.height / 3).max(9),
    };
    let [head, middle, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(0), Constraint::Length(below)])
            .areas(area);
    draw_head(frame, head, app, look);
    match &look.explained {
        Ok(explained) => draw_replicas(frame, middle, app, look, explained),
        Err(why) => {
            let inner = framed(frame, middle, "replicas");
            let why = format!("replicas were not heard: {}", text::shown(why.as_bytes(), 300));
            let all = wrapped(&why, usize::from(inner.width));
            lines(frame, inner, all.into_iter().map(|line| Line::styled(line, bad())).collect());
        }
    }
    match draft {
        Some(draft) => draw_draft(frame, foot, app, draft),
        None if below > 2 => draw_notes(frame, foot, app, look),
        None => {}
    }
}

fn draw_nothing(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let inner = framed(frame, area, "no key looked up");
    let first = app.looking.as_ref().map_or_else(
        || "press / and type a key".to_owned(),
        |key| format!("looking up {}", text::shown(key, 60)),
    );
    let texts = [
        first.as_str(),
        "",
        "You see its place, what each replica holds of it, and the values that a read shows.",
        "hex:00ff looks up bytes. Keys are not listed: nodes serve SCAN on the Redis port only.",
    ];
    let width = usize::from(inner.width);
    let all = texts.iter().flat_map(|text| wrapped(text, width)).map(Line::from).collect();
    lines(frame, inner, all);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, app: &App, look: &Look) {
    let again = if app.looking.is_some() { "  looking again" } else { "" };
    let key = text::shown(&look.key, usize::from(area.width / 2));
    let inner = framed(frame, area, &format!("GET {key}{again}"));
    let place = look.explained.as_ref().map_or_else(
        |_| String::new(),
        |explained| {
            let at = &explained.location;
            format!("slot {}  prt {}  token {:016x}  ", at.slot, at.partition, at.token)
        },
    );
    let (what, style) = match &look.seen {
        Err(why) => (format!("read failed: {}", text::shown(why.as_bytes(), 200)), bad()),
        Ok(Seen { siblings, .. }) => match siblings.as_slice() {
            [] => ("read: no value".to_owned(), dim()),
            [only] => {
                let bytes = only.value.as_ref().map_or(0, bytes::Bytes::len) as u64;
                let ends = only.expires_at_ms;
                let ends = ends.map_or_else(|| "-".to_owned(), text::moment);
                let what = format!("read: one version, {}, expires {ends}", text::size(bytes));
                (what, ratatui::style::Style::new())
            }
            many => (format!("read: {} siblings, m resolves them", many.len()), warn()),
        },
    };
    let all =
        Line::from(vec![Span::styled(what, style), Span::raw("  "), Span::styled(place, dim())]);
    lines(frame, inner, vec![all]);
}

fn draw_replicas(
    frame: &mut Frame<'_>,
    area: Rect,
    app: &App,
    look: &Look,
    explained: &Explanation,
) {
    let fit = usize::from(area.width / BOX_WIDTH_MIN).max(1);
    let shown: Vec<&ReplicaAnswer> = explained.replicas.iter().take(fit).collect();
    if shown.is_empty() {
        let inner = framed(frame, area, "replicas");
        lines(frame, inner, vec![Line::from("no replica was asked")]);
        return;
    }
    let widths = vec![Constraint::Fill(1); shown.len()];
    let areas = Layout::horizontal(widths).split(area);
    for ((at, answer), area) in shown.into_iter().enumerate().zip(areas.iter()) {
        let title =
            format!("{} {}  {}", place(at), app.names.label(answer.node), text::latency(answer.us));
        let inner = framed(frame, *area, &title);
        lines(frame, inner, replica(app, look, answer, usize::from(inner.width)));
    }
}

/// What a replica holds: its versions' names, and the bytes of those that the read showed.
fn replica(app: &App, look: &Look, answer: &ReplicaAnswer, width: usize) -> Vec<Line<'static>> {
    let relation = look.relation(answer);
    let words = cut(relation.words(), width);
    let mut all = vec![Line::styled(words, relation_style(relation))];
    let versions = match &answer.versions {
        Ok(versions) => versions,
        Err(why) => {
            let why = wrapped(&text::shown(why.as_bytes(), 300), width);
            all.extend(why.into_iter().map(|line| Line::styled(line, bad())));
            return all;
        }
    };
    if !answer.found_in.is_empty() {
        let from = format!("from {}", text::shown(answer.found_in.as_bytes(), 100));
        all.push(Line::styled(cut(&from, width), dim()));
    }
    let mut values = Vec::new();
    for version in versions {
        let name = if width >= 44 { dot(app, &version.dot) } else { brief_dot(app, &version.dot) };
        values.push(Line::from(cut(&name, width)));
        let what = match (look.sibling(&version.dot), version.bytes) {
            (Some((at, _)), bytes) => {
                let size = bytes.map_or_else(|| "deleted".to_owned(), text::size);
                format!("= sibling {}  {size}", at + 1)
            }
            (None, Some(bytes)) => format!("{}, not in the read", text::size(bytes)),
            (None, None) => "a delete".to_owned(),
        };
        values.push(Line::styled(cut(&what, width), dim()));
        if let Some((_, sibling)) = look.sibling(&version.dot) {
            let shown = sibling_lines(sibling, app.selected.value_form);
            values.extend(shown.into_iter().map(|line| Line::from(cut(&line, width))));
        }
        values.push(Line::default());
    }
    let scroll = app.selected.value_scroll.min(values.len().saturating_sub(1));
    all.extend(values.split_off(scroll.min(values.len())));
    all
}

fn draw_notes(frame: &mut Frame<'_>, area: Rect, app: &App, look: &Look) {
    let inner = framed(frame, area, "notes");
    let width = usize::from(inner.width);
    let mut all = Vec::new();
    if let Ok(explained) = &look.explained {
        for note in &explained.notes {
            let note = text::shown(note.as_bytes(), 300);
            all.extend(wrapped(&note, width).into_iter().map(Line::from));
        }
    }
    if let Ok(seen) = &look.seen {
        let context = text::hex(&seen.context);
        let line = format!("context {context}");
        all.push(Line::styled(cut(&line, width), dim()));
        let usage = "send it back with kv put --context to replace what is shown";
        all.push(Line::styled(cut(usage, width), dim()));
    }
    let form = match app.selected.value_form {
        ValueForm::Json => "JSON",
        ValueForm::Text => "text",
        ValueForm::Hex => "hex",
    };
    let missing = format!("values as {form}; no trace: nodes tell no spans of a read yet");
    all.push(Line::styled(cut(&missing, width), dim()));
    lines(frame, inner, all);
}
