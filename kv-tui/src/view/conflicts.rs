//! Keys with siblings: the siblings side by side, what differs marked, and what would be written.

use std::collections::BTreeSet;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use kv_client::wire::Sibling;

use super::layout::{Room, conflicts_list, conflicts_parts, conflicts_unlisted};
use super::paint::{bad, bold, chosen, cut, dim, framed, good, lines, wrapped};
use super::panel::{brief_dot, dot, draw_draft};
use super::value::sibling_lines;
use crate::app::{App, Conflicted};
use crate::model::Look;
use crate::text;

/// Columns that a sibling's box needs.
const BOX_WIDTH_MIN: u16 = 26;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, room: Room) {
    let (list, rest) = conflicts_parts(area);
    draw_list(frame, list, app);
    let Some(look) = app.conflict() else {
        match app.conflict_row() {
            Some(row) => draw_unread(frame, rest, row),
            None => draw_nothing(frame, rest, app),
        }
        return;
    };
    let draft = app.draft.as_ref().filter(|draft| draft.key == look.key);
    let below = match (draft, room) {
        (None, _) => 0,
        (Some(_), Room::Little) => rest.height.saturating_sub(4),
        (Some(_), Room::Compact) => 10,
        (Some(_), _) => 14,
    };
    let [siblings, result] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(below)]).areas(rest);
    draw_siblings(frame, siblings, app, look);
    if let Some(draft) = draft {
        draw_draft(frame, result, app, draft);
    }
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let conflicts = app.conflicts();
    let told = app.shown().and_then(|snapshot| snapshot.conflicts.as_ref());
    let all = told.map_or(conflicts.len() as u64, |told| told.total.max(conflicts.len() as u64));
    let more = told.is_none_or(|told| !told.partial.is_empty() || !told.silent.is_empty());
    let title = match (all, more) {
        (1, false) => "1 key".to_owned(),
        (count, false) => format!("{} keys", text::count(count)),
        (count, true) => format!("{} keys or more", text::count(count)),
    };
    framed(frame, area, &title);
    let list = conflicts_list(app, area, conflicts.len());
    let width = usize::from(list.rows.width);
    let selected = app.selected.conflict.min(conflicts.len().saturating_sub(1));
    let row = |(at, of): (usize, &Conflicted<'_>)| {
        let count = of.siblings;
        let mark = if at == selected { "▶" } else { " " };
        let tail = format!(" {count} sib");
        let room = width.saturating_sub(tail.len() + 1);
        let key = cut(&text::shown(of.key, 100), room);
        let line = format!("{mark}{key:<room$}{tail}");
        if at == selected { Line::styled(line, chosen()) } else { Line::from(line) }
    };
    let rows = conflicts.iter().enumerate().skip(list.first).take(usize::from(list.rows.height));
    lines(frame, list.rows, rows.map(row).collect());
    let unlisted = conflicts_unlisted(app, conflicts.len());
    if unlisted > 0 {
        let foot = Rect { y: list.rows.bottom(), height: 1, ..list.rows }.intersection(area);
        let more = cut(&format!(" {unlisted} more"), width);
        lines(frame, foot, vec![Line::styled(more, dim())]);
    }
}

fn draw_nothing(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let listed = app.shown().and_then(|snapshot| snapshot.conflicts.as_ref());
    let inner = framed(frame, area, "no key with siblings");
    let width = usize::from(inner.width);
    let told = |name| app.shown().and_then(|snapshot| snapshot.figure(name));
    let open = |count: usize, what: &str| (count > 0).then(|| format!("{count} members {what}"));
    let mut texts = vec![match listed {
        None => "The nodes were not asked for keys with siblings, or did not answer.".to_owned(),
        Some(_) => "Of the keys that the nodes list, none has siblings.".to_owned(),
    }];
    if let Some(listed) = listed {
        texts.extend(open(listed.partial.len(), "have not listed all of theirs yet."));
        texts.extend(open(listed.silent.len(), "did not answer."));
    }
    texts.push("/ looks a key up; siblings that it has appear on this tab.".to_owned());
    if let Some(shown) = told("sibling_gets") {
        let reads =
            format!("Reads that showed siblings at the asked node since its start: {shown}");
        texts.push(reads);
    }
    let mut all = Vec::new();
    for text in texts {
        all.extend(wrapped(&text, width).into_iter().map(Line::from));
        all.push(Line::default());
    }
    lines(frame, inner, all);
}

/// A key of the list that is being looked up.
fn draw_unread(frame: &mut Frame<'_>, area: Rect, row: Conflicted<'_>) {
    let inner = framed(frame, area, &text::shown(row.key, 60));
    let said = format!("{} siblings; they are being read. r reads them again.", row.siblings);
    let width = usize::from(inner.width);
    lines(frame, inner, wrapped(&said, width).into_iter().map(Line::from).collect());
}

fn draw_siblings(frame: &mut Frame<'_>, area: Rect, app: &App, look: &Look) {
    let siblings = look.seen.as_ref().map_or(&[][..], |seen| &seen.siblings);
    let fit = usize::from(area.width / BOX_WIDTH_MIN).clamp(1, siblings.len().max(1));
    let selected = app.selected.sibling.min(siblings.len().saturating_sub(1));
    let first = (selected + 1).saturating_sub(fit);
    let areas = Layout::horizontal(vec![Constraint::Fill(1); fit]).split(area);
    let shown = siblings.iter().enumerate().skip(first).take(fit);
    for ((at, sibling), area) in shown.zip(areas.iter()) {
        let mark = if at == selected { "▶" } else { "" };
        let more = match siblings.len() {
            2 => String::new(),
            count => format!(" of {count}"),
        };
        let via = app.names.letter(sibling.dot.node);
        let inner = framed(frame, *area, &format!("{mark}sibling {}{more}  via {via}", at + 1));
        let width = usize::from(inner.width);
        let mut all = head(app, sibling, width);
        all.extend(marked(app, siblings, at, width));
        lines(frame, inner, all);
    }
}

fn head(app: &App, sibling: &Sibling, width: usize) -> Vec<Line<'static>> {
    let name = if width >= 40 { dot(app, &sibling.dot) } else { brief_dot(app, &sibling.dot) };
    let mut all = vec![Line::styled(cut(&name, width), bold())];
    if let Some(at) = sibling.expires_at_ms {
        all.push(Line::styled(cut(&format!("expires {}", text::moment(at)), width), dim()));
    }
    all.push(Line::default());
    all
}

/// A sibling's lines; those that another does not have are marked: `-` in the first, `+` in others.
fn marked(app: &App, siblings: &[Sibling], at: usize, width: usize) -> Vec<Line<'static>> {
    let form = app.selected.value_form;
    let Some(sibling) = siblings.get(at) else { return Vec::new() };
    let others: Vec<BTreeSet<String>> = siblings
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != at)
        .map(|(_, other)| sibling_lines(other, form).iter().map(|line| bare(line)).collect())
        .collect();
    let line = |line: String| {
        let text = cut(&line, width.saturating_sub(2));
        if others.iter().all(|other| other.contains(&bare(&line))) {
            Line::from(format!("  {text}"))
        } else if at == 0 {
            Line::styled(format!("- {text}"), bad())
        } else {
            Line::styled(format!("+ {text}"), good())
        }
    };
    sibling_lines(sibling, form).into_iter().map(line).collect()
}

/// A line without what only its neighbours decide: a comma at its end.
fn bare(line: &str) -> String {
    line.trim_end_matches(',').to_owned()
}
