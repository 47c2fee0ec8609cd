//! Panels that several tabs show: where a key or a partition lies, and a write that is not sent.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use kv_client::NodeId;
use kv_client::wire::{DotName, Explanation};

use super::paint::{
    bad, bold, cut, dim, framed, glyph, good, lines, pair, state_style, warn, wrapped,
};
use super::value::lines_of;
use crate::app::{App, Draft};
use crate::model::{Look, Relation, Snapshot, is_up, owners_at, state_word};
use crate::text;

const PLACES: [&str; 9] = ["①", "②", "③", "④", "⑤", "⑥", "⑦", "⑧", "⑨"];

/// The sign of a place in a preference list, counted from 0.
pub(super) fn place(at: usize) -> &'static str {
    PLACES.get(at).copied().unwrap_or("+")
}

/// A version's name as people read it: when, and by whom.
pub(super) fn dot(app: &App, dot: &DotName) -> String {
    let (ms, counter) = (dot.time >> 16, dot.time & 0xffff);
    let counter = if counter > 0 { format!("+{counter}") } else { String::new() };
    format!("{}{counter} via {}", text::moment(ms), app.names.label(dot.node))
}

/// The same, without the day.
pub(super) fn brief_dot(app: &App, dot: &DotName) -> String {
    let ms = dot.time >> 16;
    format!("{}.{:03} via {}", text::clock(ms), ms % 1_000, app.names.letter(dot.node))
}

/// The key that was looked up, or the partition that is selected.
pub(super) fn draw_place(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    match (app.selected.partition, app.look(), &app.looking) {
        (Some(partition), _, _) => draw_partition(frame, area, app, snapshot, partition),
        (None, _, Some(key)) => {
            let inner = framed(frame, area, "key");
            let key = cut(&text::shown(key, 200), usize::from(inner.width));
            lines(frame, inner, vec![Line::from(format!("looking up {key}"))]);
        }
        (None, Some(look), None) => draw_key(frame, area, app, snapshot, look),
        (None, None, None) => {
            let inner = framed(frame, area, "key");
            let texts = ["press / and type a key", "← → step through partitions"];
            lines(frame, inner, texts.map(Line::from).to_vec());
        }
    }
}

fn draw_partition(
    frame: &mut Frame<'_>,
    area: Rect,
    app: &App,
    snapshot: &Snapshot,
    partition: usize,
) {
    let inner = framed(frame, area, &format!("partition {partition}"));
    let Some(ring) = &snapshot.ring else { return };
    let owners = owners_at(ring, partition);
    let mut all = vec![Line::styled("PREFERENCE LIST", dim())];
    all.extend(owners.iter().enumerate().map(|(at, id)| owner(app, snapshot, at, *id, true)));
    all.extend(quorum(snapshot, &owners, usize::from(inner.width)));
    lines(frame, inner, all);
}

/// A replica: who it is, how it is, and, where there is room, how fast it answers.
fn owner(app: &App, snapshot: &Snapshot, at: usize, id: NodeId, wide: bool) -> Line<'static> {
    let state = snapshot.node(id).map(|node| node.state);
    let word = state.map_or("unknown", state_word);
    let style = state.map_or_else(bad, state_style);
    let answers = snapshot.node(id).filter(|node| wide && node.unanswered_ms == 0);
    let call = answers.and_then(|node| node.call_us);
    let call = call.map_or_else(String::new, |us| format!("  {}", text::latency(us)));
    Line::from(vec![
        Span::raw(format!("{} {}  ", place(at), app.names.label(id))),
        Span::styled(format!("{} {word}", state.map_or("?", glyph)), style),
        Span::styled(call, dim()),
    ])
}

/// What of the replicas is up, and what that means at a majority.
fn quorum(snapshot: &Snapshot, owners: &[NodeId], width: usize) -> Vec<Line<'static>> {
    let up = owners.iter().filter_map(|id| snapshot.node(*id)).filter(|node| is_up(node.state));
    let (up, copies) = (up.count(), owners.len());
    let majority = copies / 2 + 1;
    let (word, style) = if up >= majority { ("OK", good()) } else { ("NOT SERVED", bad()) };
    let mut all = vec![
        Line::default(),
        Line::from(vec![
            Span::raw("at QUORUM  "),
            Span::styled(word, style),
            Span::raw(cut(
                &format!("  {up} of {copies} up"),
                width.saturating_sub(15 + word.len()),
            )),
        ]),
    ];
    match copies.saturating_sub(up) {
        0 => {}
        1 => all.push(Line::from("one copy of a write is a hint")),
        missing => all.push(Line::from(format!("{missing} copies of a write are hints"))),
    }
    all
}

fn draw_key(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, look: &Look) {
    let room = usize::from(area.width).saturating_sub(12);
    let title = format!("key {}", cut(&text::shown(&look.key, 100), room));
    let inner = framed(frame, area, &title);
    let mut all = Vec::new();
    match &look.explained {
        Ok(explained) => {
            all.extend(key_place(app, snapshot, look, explained, usize::from(inner.width)));
        }
        Err(why) => {
            let why = format!("where it lives is not known: {}", text::shown(why.as_bytes(), 200));
            let wrapped = wrapped(&why, usize::from(inner.width));
            all.extend(wrapped.into_iter().map(|line| Line::styled(line, bad())));
        }
    }
    all.push(Line::default());
    match &look.seen {
        Ok(seen) => {
            let count = seen.siblings.len();
            all.push(match count {
                0 => pair("read", "OK, no value"),
                1 => pair("read", "OK, one version"),
                _ => Line::styled(format!("{count} siblings: ⏎ shows them, m resolves"), warn()),
            });
        }
        Err(why) => {
            let why = format!("read failed: {}", text::shown(why.as_bytes(), 200));
            let wrapped = wrapped(&why, usize::from(inner.width));
            all.extend(wrapped.into_iter().map(|line| Line::styled(line, bad())));
        }
    }
    lines(frame, inner, all);
}

fn key_place(
    app: &App,
    snapshot: &Snapshot,
    look: &Look,
    explained: &Explanation,
    width: usize,
) -> Vec<Line<'static>> {
    let wide = width >= 44;
    let at = &explained.location;
    let mut all = vec![
        pair("token", format!("0x{:016x}", at.token)),
        pair("place", format!("slot {}  prt {}", at.slot, at.partition)),
        Line::styled("PREFERENCE LIST", dim()),
    ];
    for (at, id) in at.replicas.iter().enumerate() {
        let mut line = owner(app, snapshot, at, *id, wide);
        let answer = explained.replicas.iter().find(|answer| answer.node == *id);
        if let Some(answer) = answer {
            let relation = look.relation(answer);
            let style = relation_style(relation);
            let words = if wide { relation.words() } else { relation.brief() };
            line.push_span(Span::styled(format!("  {words}"), style));
        }
        all.push(line);
    }
    if !at.fallbacks.is_empty() {
        let names: Vec<String> = at.fallbacks.iter().map(|id| app.names.label(*id)).collect();
        all.push(pair("fallback", names.join("  ")));
    }
    all.extend(quorum(snapshot, &at.replicas, width));
    all
}

pub(super) fn relation_style(relation: Relation) -> Style {
    match relation {
        Relation::Same => good(),
        Relation::Silent => bad(),
        Relation::Unknown => dim(),
        _ => warn(),
    }
}

/// The write that is shown and not sent.
pub(super) fn draw_draft(frame: &mut Frame<'_>, area: Rect, app: &App, draft: &Draft) {
    let on_its_way = app.writing.as_ref().is_some_and(|sent| sent.key == draft.key);
    let title = if on_its_way { "result, being written" } else { "result, not yet written" };
    let inner = framed(frame, area, title);
    let width = usize::from(inner.width);
    let mut foot = Vec::new();
    let mut body = Vec::new();
    match &draft.verdict {
        Ok(verdict) => {
            let form = app.selected.value_form;
            match &verdict.value {
                Some(value) => {
                    let shown = lines_of(value, form).into_iter();
                    body.extend(shown.map(|line| Line::from(cut(&line, width))));
                }
                None => body.push(Line::styled("the key is deleted", warn())),
            }
            for note in &verdict.notes {
                let note = cut(&text::shown(note.as_bytes(), 300), width);
                foot.push(Line::styled(note, warn()));
            }
            if let Some(at) = verdict.expires_at_ms {
                foot.push(pair("expires", text::moment(at)));
            }
            let what = cut(&draft.words(), width.saturating_sub(12));
            foot.push(pair("write", what));
            foot.push(Line::styled(
                cut("what was written since it was shown stays, as a sibling", width),
                dim(),
            ));
            let readonly = app.readonly();
            let apply = if readonly { "read-only: it can't be sent" } else { "a apply" };
            let more = "   m next rule   e edit   esc drop it";
            foot.push(Line::from(vec![
                Span::styled(apply, if readonly { warn() } else { bold() }),
                Span::raw(more),
            ]));
        }
        Err(why) => {
            let wrapped = wrapped(&text::shown(why.as_bytes(), 300), width);
            body.extend(wrapped.into_iter().map(|line| Line::styled(line, bad())));
            foot.push(Line::from("m next rule   e edit   esc drop it"));
        }
    }
    let head = pair("rule", draft.rule.to_string());
    let room = usize::from(inner.height).saturating_sub(foot.len() + 1);
    if body.len() > room {
        body.truncate(room.saturating_sub(1));
        if room > 0 {
            body.push(Line::styled("…", dim()));
        }
    }
    lines(frame, inner, [vec![head], body, foot].concat());
}
