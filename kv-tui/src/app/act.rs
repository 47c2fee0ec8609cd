//! What each action of the keymap does.

use bytes::Bytes;
use kv_client::NodeId;

use super::keymap::Action;
use super::message::Effect;
use super::prompt::{Prompt, PromptKind};
use super::{
    App, LOOKS_MAX, Overlay, RingColour, Sort, Tab, ValueForm, change, local, pages, writing,
};
use crate::model::{EventKind, Look, Rule};
use crate::text;

pub(super) fn act(app: &mut App, action: Action) -> Vec<Effect> {
    let mut effects = carry_out(app, action);
    if effects.is_empty() {
        effects.extend(selected_wants(app));
    }
    effects
}

/// What is to be asked for, for the selected line to be shown, and those that follow it.
pub(super) fn selected_wants(app: &mut App) -> Vec<Effect> {
    look_at_selected(app).into_iter().chain(pages::wanted(app)).collect()
}

/// A selected key with siblings that was not looked up yet is, and one that changed since.
fn look_at_selected(app: &mut App) -> Option<Effect> {
    let row = app.conflict_row().filter(|row| app.tab == Tab::Conflicts && row.look.is_none())?;
    let key = row.key.clone();
    let fresh = |look: &Look| look.key == key && look.newest_ms() >= row.newest_ms;
    if app.looking.is_some() || app.looks.iter().any(fresh) {
        return None;
    }
    app.looking = Some(key.clone());
    Some(Effect::Look(key))
}

fn carry_out(app: &mut App, action: Action) -> Vec<Effect> {
    match action {
        Action::Quit => return vec![Effect::Quit],
        Action::Back => return back(app),
        Action::Suspend => return vec![Effect::Suspend],
        Action::Redraw => return vec![Effect::Redraw],
        Action::Help => app.overlay = Overlay::Help(0),
        Action::Palette => prompt(app, PromptKind::Command, ""),
        Action::Open(digit) => app.tab = Tab::Ring.step(digit as isize - 1),
        Action::Turn(by) => app.tab = app.tab.step(by),
        Action::Move(by) => move_by(app, by),
        Action::Page(by) => {
            let half = usize::from(app.size.1 / 4).max(1);
            move_by(app, by.saturating_mul(half as isize));
        }
        Action::First => select(app, 0),
        Action::Last => select(app, usize::MAX),
        Action::Side(by) => side(app, by),
        Action::Pause => {
            app.frozen = if app.frozen.is_some() { None } else { app.snapshot.clone() };
        }
        Action::Find => prompt(app, PromptKind::Key, ""),
        Action::Filter => {
            let filter = match app.tab {
                Tab::Events => app.selected.event_filter.clone(),
                _ => app.selected.node_filter.clone(),
            };
            prompt(app, PromptKind::Filter, &filter);
        }
        Action::Colour => {
            app.selected.colour = match app.selected.colour {
                RingColour::Owner => RingColour::State,
                RingColour::State => RingColour::Owner,
            };
        }
        Action::Zoom => app.selected.zoom = !app.selected.zoom,
        Action::Sort => {
            app.selected.sort = match app.selected.sort {
                Sort::State => Sort::Name,
                Sort::Name => Sort::Phi,
                Sort::Phi => Sort::Call,
                Sort::Call => Sort::State,
            };
        }
        Action::Form => {
            app.selected.value_form = match app.selected.value_form {
                ValueForm::Json => ValueForm::Text,
                ValueForm::Text => ValueForm::Hex,
                ValueForm::Hex => ValueForm::Json,
            };
        }
        Action::Again => return again(app),
        Action::Repair => return repair_selected(app),
        Action::Rule => writing::next_rule(app),
        Action::Pick => writing::draft(app, Rule::Pick(app.selected.sibling)),
        Action::Edit => writing::edit(app),
        Action::Delete => writing::draft(app, Rule::Delete),
        Action::Apply => return writing::apply(app),
        Action::Undo => return writing::undo(app),
        Action::Kind => app.selected.event_kind = next_kind(app.selected.event_kind),
        Action::Local(verb) => return local::press(app, verb),
        Action::Node => app.selected.event_node = next_node(app),
        Action::Plan => return change::plan_waiting(app),
        Action::Commit => return change::commit(app),
        Action::Abort => change::abort(app),
        Action::Mode => change::ask_mode(app),
        Action::Enter => enter(app),
    }
    Vec::new()
}

fn prompt(app: &mut App, kind: PromptKind, text: &str) {
    app.overlay = Overlay::Prompt(Prompt::new(kind, text));
}

/// One step out: a draft, a filter, a pause, a selection; then the program.
fn back(app: &mut App) -> Vec<Effect> {
    let filter = match app.tab {
        Tab::Nodes => Some(&mut app.selected.node_filter),
        Tab::Events => Some(&mut app.selected.event_filter),
        _ => None,
    };
    if let Some(filter) = filter.filter(|filter| !filter.is_empty()) {
        filter.clear();
    } else if app.tab == Tab::Events && app.selected.event_kind.is_some() {
        app.selected.event_kind = None;
    } else if app.tab == Tab::Events && app.selected.event_node.is_some() {
        app.selected.event_node = None;
    } else if app.tab == Tab::Repair && app.plan.is_some() {
        app.plan = None;
    } else if app.draft.is_some() && matches!(app.tab, Tab::Keys | Tab::Conflicts) {
        app.draft = None;
    } else if app.frozen.is_some() {
        app.frozen = None;
    } else if app.tab == Tab::Ring && (app.selected.partition.is_some() || app.selected.zoom) {
        app.selected.partition = None;
        app.selected.zoom = false;
    } else {
        return vec![Effect::Quit];
    }
    Vec::new()
}

/// How many lines the tab's list has.
fn length(app: &App) -> usize {
    let snapshot = app.shown();
    match app.tab {
        Tab::Ring => partitions(app),
        Tab::Nodes => app.nodes_shown().len(),
        Tab::Keys => 10_000,
        Tab::Conflicts => app.conflicts().len(),
        Tab::Repair => snapshot.and_then(|of| of.aae.as_ref()).map_or(0, |aae| aae.peers.len()),
        Tab::Events => app.events_shown().len(),
        Tab::Scale => 0,
    }
}

fn partitions(app: &App) -> usize {
    let ring = app.shown().and_then(|snapshot| snapshot.ring.as_ref());
    ring.map_or(0, kv_client::wire::RingView::partitions)
}

fn place(app: &App) -> usize {
    match app.tab {
        Tab::Ring => app.partition().unwrap_or(0),
        Tab::Nodes => app.selected.node,
        Tab::Keys => app.selected.value_scroll,
        Tab::Conflicts => app.selected.conflict,
        Tab::Repair => app.selected.repair,
        Tab::Events => app.selected.event,
        Tab::Scale => 0,
    }
}

pub(super) fn move_by(app: &mut App, by: isize) {
    let at = place(app).saturating_add_signed(by);
    select(app, at);
}

pub(super) fn select(app: &mut App, at: usize) {
    let last = length(app).saturating_sub(1);
    let at = at.min(last);
    match app.tab {
        Tab::Ring => select_partition(app, at),
        Tab::Nodes => app.selected.node = at,
        Tab::Keys => app.selected.value_scroll = at,
        Tab::Conflicts => {
            app.selected.conflict = at;
            app.selected.sibling = 0;
            let key = app.conflict_row().map(|row| row.key.clone());
            writing::turn_to(app, key.as_ref());
        }
        Tab::Repair => app.selected.repair = at,
        Tab::Events => app.selected.event = at,
        Tab::Scale => {}
    }
}

pub(super) fn select_partition(app: &mut App, at: usize) {
    app.selected.partition = partitions(app).checked_sub(1).map(|last| at.min(last));
}

fn side(app: &mut App, by: isize) {
    if app.tab == Tab::Conflicts {
        let count = app.conflict().and_then(|look| Some(look.seen.as_ref().ok()?.siblings.len()));
        let last = count.unwrap_or(0).saturating_sub(1);
        app.selected.sibling = app.selected.sibling.saturating_add_signed(by).min(last);
    } else if let Some(count) = partitions(app).checked_sub(1).map(|last| last + 1) {
        let at = app.partition().map_or(0, |at| (at + count).saturating_add_signed(by) % count);
        app.selected.partition = Some(at);
    }
}

fn enter(app: &mut App) {
    match app.tab {
        Tab::Ring => app.tab = Tab::Keys,
        Tab::Nodes => {
            let short = app.nodes_shown().get(app.selected.node).map(|of| app.names.label(of.node));
            if let Some(label) = short {
                app.selected.event_filter = label;
                app.selected.event = 0;
                app.tab = Tab::Events;
            }
        }
        _ => {}
    }
}

fn next_kind(kind: Option<EventKind>) -> Option<EventKind> {
    match kind {
        None => Some(EventKind::Member),
        Some(EventKind::Member) => Some(EventKind::Layout),
        Some(EventKind::Layout) => Some(EventKind::Hint),
        Some(EventKind::Hint) => Some(EventKind::Aae),
        Some(EventKind::Aae) => Some(EventKind::Scale),
        Some(EventKind::Scale) => Some(EventKind::Alert),
        Some(EventKind::Alert) => Some(EventKind::Link),
        Some(EventKind::Link) => Some(EventKind::Write),
        Some(EventKind::Write) => None,
    }
}

/// The node after the one whose events are shown; none after the last.
fn next_node(app: &App) -> Option<NodeId> {
    let nodes = app.shown().map_or(&[][..], |snapshot| &snapshot.nodes);
    let mut ids: Vec<NodeId> = nodes.iter().map(|node| node.node).collect();
    ids.sort_by_key(|id| (app.names.letter(*id), *id));
    let current = app.selected.event_node;
    let at = current.and_then(|current| ids.iter().position(|id| *id == current));
    ids.get(at.map_or(0, |at| at + 1)).copied()
}

/// Looks up the key that was typed: text, or bytes after `hex:`.
pub(super) fn find(app: &mut App, typed: &str) -> Vec<Effect> {
    let Some(key) = key_of(app, typed) else { return Vec::new() };
    writing::turn_to(app, Some(&key));
    app.looking = Some(key.clone());
    vec![Effect::Look(key)]
}

fn key_of(app: &mut App, typed: &str) -> Option<Bytes> {
    let key = match typed.strip_prefix("hex:") {
        Some(digits) => text::unhex("the key", digits).map_err(|error| error.to_string()),
        None if typed.is_empty() => Err("a key is wanted".to_owned()),
        None => Ok(Bytes::copy_from_slice(typed.as_bytes())),
    };
    key.map_err(|why| app.say(why)).ok()
}

fn again(app: &mut App) -> Vec<Effect> {
    let row = app.conflict_row().filter(|_| app.tab == Tab::Conflicts);
    let key = row.map(|row| row.key.clone()).or_else(|| app.look().map(|look| look.key.clone()));
    key.map_or_else(Vec::new, |key| {
        app.looking = Some(key.clone());
        vec![Effect::Look(key)]
    })
}

pub(super) fn looked(app: &mut App, look: Look) {
    if app.looking.as_ref() == Some(&look.key) {
        app.looking = None;
        // The ring goes where the person just looked.
        app.selected.partition = None;
    }
    let selected = app.conflict_row().map(|row| row.key.clone());
    let follow = if look.is_conflict() { Some(look.key.clone()) } else { selected };
    app.looks.retain(|old| old.key != look.key);
    if app.looks.len() >= LOOKS_MAX {
        app.looks.pop_front();
    }
    app.pages.looked(&look);
    app.looks.push_back(look);
    let at = app.conflicts().iter().position(|row| Some(row.key) == follow.as_ref());
    app.selected.conflict = at.unwrap_or(0);
    let siblings = app.conflict().and_then(|look| Some(look.seen.as_ref().ok()?.siblings.len()));
    app.selected.sibling = app.selected.sibling.min(siblings.unwrap_or(1).saturating_sub(1));
}

fn repair_selected(app: &mut App) -> Vec<Effect> {
    let look = app.look().map(|look| (look.key.clone(), look.partition()));
    if app.tab == Tab::Keys {
        if let Some((key, Some(partition))) = look {
            return repair(app, partition as u16, Some(key));
        }
        app.say("look a key up first: /");
        return Vec::new();
    }
    if let Some(partition) = app.partition() {
        repair(app, partition as u16, None)
    } else {
        app.say("select a partition on the Ring tab, or type :repair-partition NUMBER");
        Vec::new()
    }
}

pub(super) fn repair(app: &mut App, partition: u16, key: Option<Bytes>) -> Vec<Effect> {
    if app.readonly() {
        app.say("read-only: start with --readonly=false to repair this cluster");
        return Vec::new();
    }
    app.say(format!("comparing the replicas of partition {partition}"));
    vec![Effect::Repair { partition, key }]
}

pub(super) fn repair_key(app: &mut App, typed: &str) -> Vec<Effect> {
    let Some(key) = key_of(app, typed) else { return Vec::new() };
    let partition = app.looks.iter().find(|look| look.key == key).and_then(Look::partition);
    if let Some(partition) = partition {
        repair(app, partition as u16, Some(key))
    } else {
        app.say("look the key up first, so that its partition is known");
        Vec::new()
    }
}
