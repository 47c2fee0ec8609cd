//! What lies over the tabs and below them: the command bar, a line being typed, the help.

use ratatui::Frame;
use ratatui::layout::{Margin, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Clear;

use kv_client::wire::NodeInfo;

use super::layout::Parts;
use super::paint::{bad, bold, chosen, cut, dim, framed, lines, warn};
use crate::app::{
    Action, App, Asked, Overlay, Prompt, PromptKind, Scope, bindings_for, keys_text, local_number,
    matching,
};
use crate::text;

/// Commands that are offered at once at most.
const OFFERED_MAX: usize = 8;

pub(super) fn draw(frame: &mut Frame<'_>, parts: &Parts, app: &App) {
    match &app.overlay {
        Overlay::None => draw_bar(frame, parts.bar, app),
        Overlay::Help(scroll) => {
            draw_bar(frame, parts.bar, app);
            draw_help(frame, parts.body, app, *scroll);
        }
        Overlay::Prompt(prompt) if prompt.kind == PromptKind::Value => {
            draw_value(frame, parts, prompt);
        }
        Overlay::Prompt(prompt) => draw_prompt(frame, parts, app, prompt),
    }
}

/// What the person should be told, else the keys of this tab.
fn draw_bar(frame: &mut Frame<'_>, area: Rect, app: &App) {
    if let Some((notice, _)) = &app.notice {
        let notice = cut(&text::shown(notice.as_bytes(), 400), usize::from(area.width));
        frame.render_widget(Line::styled(format!(" {notice}"), warn()), area);
        return;
    }
    let mut spans = vec![Span::raw(" ")];
    let mut used = 1;
    // What leads out of the screen must be seen, however narrow it is.
    let last = "? help  q quit";
    let local = app.options.local_base_port.is_some();
    for binding in bindings_for(app.tab).filter(|binding| !binding.brief.is_empty()) {
        let no_use = !local && matches!(binding.action, Action::Local(_));
        if no_use || matches!(binding.brief, "help" | "quit") {
            continue;
        }
        let first = binding.keys.first().map(|_| keys(app, &keys_text(binding)));
        let key = first.unwrap_or_default();
        let key = key.split(' ').next().unwrap_or_default().to_owned();
        let width = key.chars().count() + binding.brief.len() + 4;
        if used + width + last.len() > usize::from(area.width) {
            break;
        }
        used += width;
        spans.push(Span::styled(key, bold()));
        spans.push(Span::raw(format!(" {}   ", binding.brief)));
    }
    spans.push(Span::raw(last));
    frame.render_widget(Line::from(spans), area);
}

/// Keys as this terminal can show them.
fn keys(app: &App, text: &str) -> String {
    if !app.options.ascii {
        return text.to_owned();
    }
    let names = [("⏎", "enter"), ("←", "left"), ("→", "right"), ("↑", "up"), ("↓", "down")];
    names.iter().fold(text.to_owned(), |text, (glyph, name)| text.replace(glyph, name))
}

fn draw_help(frame: &mut Frame<'_>, body: Rect, app: &App, scroll: usize) {
    let area = body.inner(Margin::new(2, 0)).intersection(frame.area());
    frame.render_widget(Clear, area);
    let tab = app.tab.names().0;
    let inner = framed(frame, area, &format!("keys on {tab}   esc leaves"));
    let mut all = Vec::new();
    let mut everywhere = false;
    for binding in bindings_for(app.tab) {
        if binding.scope == Scope::Everywhere && !everywhere {
            everywhere = true;
            all.push(Line::styled("everywhere", bold()));
        }
        let key = keys(app, &keys_text(binding));
        all.push(Line::from(vec![
            Span::styled(format!("{key:<12} "), bold()),
            Span::raw(binding.what),
        ]));
    }
    all.push(Line::styled("the mouse clicks tabs and lines, its wheel moves", dim()));
    let scroll = scroll.min(all.len().saturating_sub(usize::from(inner.height)));
    lines(frame, inner, all.split_off(scroll));
}

fn draw_prompt(frame: &mut Frame<'_>, parts: &Parts, app: &App, prompt: &Prompt) {
    let (head, tail) = match prompt.kind {
        PromptKind::Command => (":".to_owned(), ""),
        PromptKind::Filter => {
            ("/".to_owned(), "   lines that hold this; enter keeps it, esc leaves")
        }
        PromptKind::Mode => ("mode: ".to_owned(), "   off, advise or auto; esc leaves"),
        PromptKind::Abort(epoch) => (
            format!("call off the change to epoch {epoch}? "),
            if app.size.0 >= 100 {
                "   type its number; who was to join is no member then; esc leaves"
            } else {
                "   type its number; esc leaves"
            },
        ),
        PromptKind::Node(asked) => {
            (format!("{} n{}? ", asked.verb.word(), asked.node), "   esc leaves")
        }
        _ => ("/".to_owned(), "   a key; hex:00ff for bytes; enter looks it up, esc leaves"),
    };
    frame.render_widget(Clear, parts.bar);
    frame.render_widget(typed(&head, prompt, tail, parts.bar.width), parts.bar);
    match prompt.kind {
        PromptKind::Command => draw_commands(frame, parts, app, prompt),
        PromptKind::Node(asked) => draw_asked(frame, parts, app, asked),
        _ => {}
    }
}

/// What is about to be done to a node, before it is.
fn draw_asked(frame: &mut Frame<'_>, parts: &Parts, app: &App, asked: Asked) {
    let area = above_bar(parts, 5);
    frame.render_widget(Clear, area);
    let who = format!("{} n{}", asked.verb.word(), asked.node);
    let inner = framed(frame, area, &who);
    let width = usize::from(inner.width);
    let is_it = |node: &&NodeInfo| local_number(app, node) == Some(asked.node);
    let snapshot = app.snapshot.as_deref();
    let node = snapshot.and_then(|snapshot| snapshot.nodes.iter().find(is_it));
    let lost = snapshot.zip(node).map_or(0, |(snapshot, node)| snapshot.lost_without(node.node));
    let label = node.map_or_else(String::new, |node| app.names.label(node.node));
    let what = format!("{label}  {}", asked.verb.means());
    let risk = match lost {
        0 => Line::styled("every partition keeps a majority", dim()),
        lost => Line::styled(format!("{lost} partitions will have no majority"), bad()),
    };
    let letter = asked.letter.map_or_else(String::new, |letter| format!(" or {letter}"));
    let how = format!("type {}{letter} and press enter", asked.node);
    lines(frame, inner, vec![Line::from(cut(&what, width)), risk, Line::styled(how, bold())]);
}

fn above_bar(parts: &Parts, height: u16) -> Rect {
    Rect { y: parts.body.bottom().saturating_sub(height), height, ..parts.body }
        .intersection(parts.body)
}

fn draw_commands(frame: &mut Frame<'_>, parts: &Parts, app: &App, prompt: &Prompt) {
    let commands = matching(prompt.text().trim_start());
    let count = commands.len().clamp(1, OFFERED_MAX) as u16;
    let area = above_bar(parts, count + 2);
    frame.render_widget(Clear, area);
    let inner = framed(frame, area, "commands");
    let line = |command: &&crate::app::Command| {
        let word = command.words.first().copied().unwrap_or_default();
        let what = format!("{word} {}", command.argument);
        let width = if app.size.0 >= 100 { 48 } else { 30 };
        Line::from(vec![
            Span::styled(format!("{:<width$} ", cut(&what, width)), bold()),
            Span::raw(command.what),
        ])
    };
    let mut offered: Vec<Line<'_>> = commands.iter().take(OFFERED_MAX).map(line).collect();
    if offered.is_empty() {
        offered.push(Line::styled("no command begins so", dim()));
    }
    lines(frame, inner, offered);
}

/// The line with its cursor, the end of it in sight.
fn typed(head: &str, prompt: &Prompt, tail: &str, width: u16) -> Line<'static> {
    let (before, after) = prompt.halves();
    let room = usize::from(width).saturating_sub(head.len() + 2);
    let skip = before.chars().count().saturating_sub(room);
    let before: String = before.chars().skip(skip).collect();
    Line::from(
        [
            vec![Span::styled(format!(" {head}"), bold()), Span::raw(before)],
            at_cursor(&after),
            vec![Span::styled(tail.to_owned(), dim())],
        ]
        .concat(),
    )
}

/// The character under the cursor turned around, and what follows it.
fn at_cursor(after: &str) -> Vec<Span<'static>> {
    let mut rest = after.chars();
    let under = rest.next().filter(|char| !char.is_control()).unwrap_or(' ');
    let following = rest.as_str().to_owned();
    vec![Span::styled(under.to_string(), chosen()), Span::raw(following)]
}

/// A value that is being written: all of the body.
fn draw_value(frame: &mut Frame<'_>, parts: &Parts, prompt: &Prompt) {
    frame.render_widget(Clear, parts.body);
    let inner = framed(frame, parts.body, "the value, not written yet");
    let (before, after) = prompt.halves();
    let at = before.matches('\n').count();
    let mut all: Vec<Line<'_>> = Vec::new();
    let last = before.rsplit('\n').next().unwrap_or_default();
    for line in before.split('\n').take(at) {
        all.push(Line::from(text::shown(line.as_bytes(), usize::MAX)));
    }
    let mut rest = after.split('\n');
    let width = usize::from(inner.width).saturating_sub(1);
    let skip = last.chars().count().saturating_sub(width);
    let shown: String = last.chars().skip(skip).collect();
    let mut spans = vec![Span::raw(text::shown(shown.as_bytes(), usize::MAX))];
    spans.extend(at_cursor(rest.next().unwrap_or_default()));
    all.push(Line::from(spans));
    for line in rest {
        all.push(Line::from(text::shown(line.as_bytes(), usize::MAX)));
    }
    let first = (at + 1).saturating_sub(usize::from(inner.height));
    lines(frame, inner, all.split_off(first.min(all.len())));
    frame.render_widget(Clear, parts.bar);
    let bar = " ctrl-s shows what would be written   esc leaves   ctrl-u ctrl-k ctrl-w cut";
    frame.render_widget(Line::styled(bar, Style::new()), parts.bar);
}
