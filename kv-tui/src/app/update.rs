//! What a message does to the model, and what is to be done about it.

use crossterm::event::KeyCode;

use super::draft::Sent;
use super::keymap::action;
use super::message::{Effect, Message, Pressed, Wheel, Written};
use super::palette::{self, Does};
use super::prompt::{Prompt, PromptKind, Typed};
use super::{App, Overlay, Series, Tab, UNDO_MAX, act, change, local, pages, writing};
use crate::model::{EventKind, Rule, Snapshot, Weight, moved, noted};
use crate::text;
use crate::view::{self, Hit};

/// Milliseconds that a notice is shown.
const NOTICE_MS: u64 = 8_000;
/// Two answers that are so far apart and have no request between them tell that there was none.
const QUIET_MS: u64 = 500;

/// Takes a message. Any message may come at any time.
pub fn update(app: &mut App, message: Message) -> Vec<Effect> {
    match message {
        Message::Tick { now_ms, unix_ms } => {
            app.now_ms = now_ms;
            app.unix_ms = unix_ms;
            let old = |(_, said_ms): &(String, u64)| now_ms.saturating_sub(*said_ms) > NOTICE_MS;
            if app.notice.as_ref().is_some_and(old) {
                app.notice = None;
            }
        }
        Message::Key(pressed) => return key(app, pressed),
        Message::Mouse(wheel) => return mouse(app, wheel),
        Message::Paste(pasted) => {
            if let Overlay::Prompt(prompt) = &mut app.overlay {
                prompt.paste(&pasted);
            }
        }
        Message::Resize(columns, rows) => app.size = (columns, rows),
        Message::Heard(snapshot) => {
            heard(app, snapshot);
            return act::selected_wants(app);
        }
        Message::Silent { why, retry_ms } => {
            if app.problem.is_none() {
                let text = format!("no answer: {}", text::shown(why.as_bytes(), 200));
                app.log(Weight::Warn, EventKind::Link, text);
            }
            app.problem = Some((why, app.now_ms.saturating_add(retry_ms)));
        }
        Message::Listed { from, out } => pages::listed(app, from, out),
        Message::Looked(look) => act::looked(app, *look),
        Message::Written { id, out } => return written(app, id, out),
        Message::Repaired(out) => {
            let (weight, text) = match out {
                Ok(text) => (Weight::Info, text),
                Err(text) => (Weight::Warn, format!("the repair did not end: {text}")),
            };
            app.say(text.clone());
            app.log(weight, EventKind::Aae, text);
        }
        Message::Planned { joins, leaves, out } => change::planned(app, joins, leaves, out),
        Message::Changed { kind, out } => {
            let (weight, text) = match out {
                Ok(text) => (Weight::Info, text),
                Err(text) => (Weight::Warn, text),
            };
            let text = text::shown(text.as_bytes(), 300);
            app.say(text.clone());
            app.log(weight, kind, text);
            return vec![Effect::Ask];
        }
        Message::Acted { verb, node, out } => {
            local::acted(app, verb, node, out);
            return vec![Effect::Ask];
        }
        Message::Continued => return vec![Effect::Redraw, Effect::Ask],
    }
    Vec::new()
}

fn key(app: &mut App, pressed: Pressed) -> Vec<Effect> {
    match &mut app.overlay {
        Overlay::None => {}
        Overlay::Prompt(prompt) => {
            return match prompt.press(pressed) {
                Typed::More => Vec::new(),
                Typed::Left => {
                    app.overlay = Overlay::None;
                    Vec::new()
                }
                Typed::Done => {
                    let prompt = prompt.clone();
                    app.overlay = Overlay::None;
                    typed(app, &prompt)
                }
            };
        }
        Overlay::Help(scroll) => {
            match pressed.code {
                KeyCode::Down | KeyCode::Char('j') => *scroll = (*scroll + 1).min(200),
                KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
                KeyCode::PageDown | KeyCode::Char(' ') => *scroll = (*scroll + 10).min(200),
                KeyCode::PageUp => *scroll = scroll.saturating_sub(10),
                _ => {
                    app.overlay = Overlay::None;
                    // Whoever leaves with a tab's number or ctrl-c means it.
                    if pressed.code != KeyCode::Char('q') && pressed.code != KeyCode::Char('?') {
                        return without_help(app, pressed);
                    }
                }
            }
            return Vec::new();
        }
    }
    action(app.tab, pressed).map_or_else(Vec::new, |action| act::act(app, action))
}

fn without_help(app: &mut App, pressed: Pressed) -> Vec<Effect> {
    if pressed.code == KeyCode::Esc {
        return Vec::new();
    }
    action(app.tab, pressed).map_or_else(Vec::new, |action| act::act(app, action))
}

fn mouse(app: &mut App, wheel: Wheel) -> Vec<Effect> {
    if let Overlay::Help(scroll) = &mut app.overlay {
        match wheel {
            Wheel::Down => *scroll = (*scroll + 1).min(200),
            Wheel::Up => *scroll = scroll.saturating_sub(1),
            Wheel::Click(..) => app.overlay = Overlay::None,
        }
        return Vec::new();
    }
    match wheel {
        Wheel::Down => act::move_by(app, 1),
        Wheel::Up => act::move_by(app, -1),
        Wheel::Click(column, row) => match view::hit(app, column, row) {
            Some(Hit::Tab(tab)) => app.tab = tab,
            Some(Hit::Row(at)) => act::select(app, at),
            None => {}
        },
    }
    act::selected_wants(app)
}

/// What a finished line comes to.
fn typed(app: &mut App, prompt: &Prompt) -> Vec<Effect> {
    let text = prompt.text();
    match prompt.kind {
        PromptKind::Key => act::find(app, &text),
        PromptKind::Filter => {
            if app.tab == Tab::Events {
                app.selected.event_filter = text;
                app.selected.event = 0;
            } else {
                app.selected.node_filter = text;
                app.selected.node = 0;
            }
            Vec::new()
        }
        PromptKind::Command => command(app, &text),
        PromptKind::Mode => change::mode(app, &text),
        PromptKind::Abort(epoch) => change::aborted(app, epoch, &text),
        PromptKind::Node(asked) => local::confirmed(app, asked, &text),
        PromptKind::Value => {
            writing::edited(app, text.into());
            Vec::new()
        }
    }
}

fn command(app: &mut App, typed: &str) -> Vec<Effect> {
    let Some((does, rest)) = palette::parse(typed) else {
        if !typed.trim().is_empty() {
            app.say(format!("there is no command {typed:?}; ? shows the keys"));
        }
        return Vec::new();
    };
    let number = rest.trim().parse::<u16>().ok();
    match does {
        Does::Open(tab) => app.tab = tab,
        Does::Look => {
            if app.tab != Tab::Ring {
                app.tab = Tab::Keys;
            }
            return act::find(app, rest);
        }
        Does::Partition | Does::RepairPartition if number.is_none() => {
            app.say("a partition's number is wanted");
        }
        Does::Partition => {
            app.tab = Tab::Ring;
            act::select_partition(app, usize::from(number.unwrap_or_default()));
        }
        Does::RepairPartition => {
            return act::repair(app, number.unwrap_or_default(), None);
        }
        Does::RepairKey => return act::repair_key(app, rest),
        Does::Rule => {
            let pick = rest.trim().parse::<usize>().ok().and_then(|at| at.checked_sub(1));
            match Rule::named(rest.trim()).or_else(|| pick.map(Rule::Pick)) {
                Some(rule) => writing::draft(app, rule),
                None => app.say("latest, union, max, merge, delete, or a sibling's number"),
            }
        }
        Does::Join => return change::typed(app, rest, true),
        Does::Leave => return change::typed(app, rest, false),
        Does::Local(verb) => return local::command(app, verb, rest),
        Does::Undo => return writing::undo(app),
        Does::Help => app.overlay = Overlay::Help(0),
        Does::Quit => return vec![Effect::Quit],
    }
    Vec::new()
}

fn heard(app: &mut App, mut snapshot: Box<Snapshot>) {
    app.names.learn(&snapshot);
    for event in std::mem::take(&mut snapshot.events) {
        let event = noted(&event, &app.names);
        app.add_event(event);
    }
    if app.problem.take().is_some() {
        let text = format!("{} answers", app.names.label(snapshot.status.node));
        app.log(Weight::Info, EventKind::Link, text);
    }
    if let Some(before) = app.snapshot.take() {
        if let Some(text) = moved(&before, &snapshot, &app.names) {
            app.log(Weight::Warn, EventKind::Link, text);
        }
        measure(app, &before, &snapshot);
    }
    if let Some(waiting) = snapshot.hints_waiting() {
        app.hints.add(waiting);
    }
    app.calls.retain(|(id, _)| snapshot.node(*id).is_some());
    for node in &snapshot.nodes {
        let us = if node.unanswered_ms > 0 { None } else { node.call_us };
        let at = app.calls.iter().position(|(id, _)| *id == node.node);
        let at = at.unwrap_or_else(|| {
            app.calls.push((node.node, Series::default()));
            app.calls.len() - 1
        });
        if let Some((_, series)) = app.calls.get_mut(at) {
            series.add(us.unwrap_or(0));
        }
    }
    if let Some(first) = &snapshot.conflicts {
        app.pages.follow(first);
    }
    app.heard_ms = app.now_ms;
    app.snapshot = Some(snapshot);
}

/// Operations in a second: only between two answers of one life of one node.
fn measure(app: &mut App, before: &Snapshot, after: &Snapshot) {
    let same = before.status.node == after.status.node;
    let elapsed_ms = after.status.uptime_ms.saturating_sub(before.status.uptime_ms);
    if let (true, 1.., Some(was), Some(is)) =
        (same, elapsed_ms, before.operations(), after.operations())
    {
        app.operations.add(is.saturating_sub(was).saturating_mul(1_000) / elapsed_ms);
        // An answer that an event brought soon after another may have no request in between.
        let p99_us = after.p99_us_since(before);
        if p99_us.is_some() || elapsed_ms >= QUIET_MS {
            app.p99_us = p99_us;
        }
        let errors = after.errors().zip(before.errors());
        let more = errors.map_or(0, |(is, was)| is.saturating_sub(was));
        app.errors = app.errors.saturating_add(more);
    } else if elapsed_ms > 0 || !same {
        // Those of another node, or of another life.
        app.p99_us = None;
    }
}

fn written(app: &mut App, id: u64, out: Written) -> Vec<Effect> {
    let Some(mut sent) = app.writing.take_if(|sent| sent.id == id) else { return Vec::new() };
    let key = text::shown(&sent.key, 40);
    match out {
        Written::Done { context } => {
            let undo = if sent.is_undo { "" } else { "; u takes it back" };
            app.say(format!("{key}: stored, {}{undo}", sent.what));
            app.log(Weight::Info, EventKind::Write, format!("{key}: {}", sent.what));
            if app.draft.as_ref().is_some_and(|draft| draft.key == sent.key) {
                app.draft = None;
            }
            let again = sent.key.clone();
            if !sent.is_undo {
                if app.sent.len() >= UNDO_MAX {
                    app.sent.pop_front();
                }
                sent.context = context;
                app.sent.push_back(sent);
            }
            vec![Effect::Look(again)]
        }
        Written::Failed { why, perhaps } => {
            if sent.is_undo && !perhaps {
                // It can be tried again.
                app.sent.push_back(Sent { is_undo: false, ..sent.clone() });
            }
            let perhaps =
                if perhaps { "; it may be stored, look before you try again" } else { "" };
            let text = format!("{key}: not written: {}{perhaps}", text::shown(why.as_bytes(), 200));
            app.say(text.clone());
            app.log(Weight::Warn, EventKind::Write, text);
            vec![Effect::Look(sent.key)]
        }
    }
}
