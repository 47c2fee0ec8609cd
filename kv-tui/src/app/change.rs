//! Changes of the cluster: a plan that is shown before it is committed, a change that is called
//! off, the autoscaler's mode.
//!
//! Invariant: what is committed is the plan on the screen, after the epoch that it was made for, so
//! that nothing is done where somebody else changed something meanwhile.

use kv_client::NodeId;
use kv_client::wire::{CHANGE_NODES_MAX, MembersPlan, ScaleMode};

use super::message::Effect;
use super::prompt::{Prompt, PromptKind};
use super::{App, Overlay, Tab};
use crate::text;

/// A change of the members that is shown and not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Who would join.
    pub joins: Vec<NodeId>,
    /// Who would leave.
    pub leaves: Vec<NodeId>,
    /// What would move.
    pub plan: Box<MembersPlan>,
}

/// Plans that the empty nodes that wait become members.
pub(super) fn plan_waiting(app: &mut App) -> Vec<Effect> {
    let view = app.snapshot.as_deref().and_then(|snapshot| snapshot.autoscale.as_ref());
    let Some(view) = view else {
        app.say("no node says who waits: type :join NODE or :leave NODE");
        return Vec::new();
    };
    let joins: Vec<NodeId> = view.waiting.iter().take(CHANGE_NODES_MAX).copied().collect();
    if joins.is_empty() {
        app.say("no empty node waits to be joined: start one with seeds in the cluster");
        return Vec::new();
    }
    plan(app, joins, Vec::new())
}

/// Plans a change for the node that was typed: by its letter, or its id's beginning.
pub(super) fn typed(app: &mut App, typed: &str, joins: bool) -> Vec<Effect> {
    let typed = typed.trim();
    let nodes = app.snapshot.as_deref().map_or(&[][..], |snapshot| &snapshot.nodes);
    let is_it = |id: NodeId| {
        let letter = app.names.letter(id);
        let by_letter = letter.is_ascii_alphabetic() && typed == letter.to_string();
        by_letter || typed.len() > 1 && id.to_string().starts_with(typed)
    };
    let named: Vec<NodeId> = nodes.iter().map(|node| node.node).filter(|id| is_it(*id)).collect();
    match named[..] {
        [node] if joins => plan(app, vec![node], Vec::new()),
        [node] => plan(app, Vec::new(), vec![node]),
        [] => {
            app.say("which node? by its letter, or the beginning of its id");
            Vec::new()
        }
        [..] => {
            app.say("several nodes are named so: type more of the id");
            Vec::new()
        }
    }
}

fn plan(app: &mut App, joins: Vec<NodeId>, leaves: Vec<NodeId>) -> Vec<Effect> {
    app.say("planning: nothing is changed yet");
    vec![Effect::Plan { joins, leaves }]
}

/// Shows a plan, where it is committed.
pub(super) fn planned(
    app: &mut App,
    joins: Vec<NodeId>,
    leaves: Vec<NodeId>,
    out: Result<Box<MembersPlan>, String>,
) {
    match out {
        Ok(plan) => {
            app.plan = Some(Planned { joins, leaves, plan });
            app.tab = Tab::Repair;
            app.notice = None;
        }
        Err(why) => app.say(format!("no plan: {}", text::shown(why.as_bytes(), 300))),
    }
}

/// Commits the plan that is shown.
pub(super) fn commit(app: &mut App) -> Vec<Effect> {
    let Some(Planned { joins, leaves, plan }) = app.plan.clone() else {
        app.say("no plan is shown: p, :join NODE or :leave NODE make one");
        return Vec::new();
    };
    if !may_change(app) {
        return Vec::new();
    }
    app.plan = None;
    if plan.steps.is_empty() {
        app.say("it is so already: there is nothing to do");
        return Vec::new();
    }
    app.say("being decided");
    vec![Effect::Change { joins, leaves, after: plan.epoch }]
}

/// Drops the plan; without one, asks whether the change that is under way is to be called off.
pub(super) fn abort(app: &mut App) {
    if app.plan.take().is_some() {
        return app.say("the plan is dropped, nothing was changed");
    }
    match under_way(app) {
        None => app.say("no plan is shown, and no change is under way"),
        Some(epoch) if may_change(app) => {
            app.overlay = Overlay::Prompt(Prompt::new(PromptKind::Abort(epoch), ""));
        }
        Some(_) => {}
    }
}

/// Calls the change off if its epoch was typed.
pub(super) fn aborted(app: &mut App, epoch: u64, typed: &str) -> Vec<Effect> {
    if typed.trim().parse() != Ok(epoch) || under_way(app) != Some(epoch) {
        app.say(format!("nothing was done: that is not {epoch}, or another change is under way"));
        return Vec::new();
    }
    if may_change(app) { vec![Effect::Abort] } else { Vec::new() }
}

/// The newest of several live layouts.
fn under_way(app: &App) -> Option<u64> {
    let live = &app.snapshot.as_deref()?.layouts.as_ref()?.live;
    live.last().filter(|_| live.len() > 1).map(|newest| newest.epoch)
}

/// Asks for the autoscaler's mode.
pub(super) fn ask_mode(app: &mut App) {
    if may_change(app) {
        app.overlay = Overlay::Prompt(Prompt::new(PromptKind::Mode, ""));
    }
}

/// Gives it the mode that was typed.
pub(super) fn mode(app: &mut App, typed: &str) -> Vec<Effect> {
    let mode = match typed.trim() {
        "off" => ScaleMode::Off,
        "advise" => ScaleMode::Advise,
        "auto" => ScaleMode::Auto,
        _ => {
            app.say("nothing was changed: off, advise or auto");
            return Vec::new();
        }
    };
    if may_change(app) { vec![Effect::Mode(mode)] } else { Vec::new() }
}

fn may_change(app: &mut App) -> bool {
    if app.readonly() {
        app.say("read-only: start with --readonly=false to change this cluster");
    }
    !app.readonly()
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyCode;

    use super::*;
    use crate::app::{Message, Pressed, update};
    use crate::fixture::{Standing, app, id, plan};

    fn press(app: &mut App, keys: &str) -> Vec<Effect> {
        let press = |key| {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            update(app, Message::Key(Pressed::plain(code)))
        };
        keys.chars().flat_map(press).collect()
    }

    fn come(app: &mut App, plan: MembersPlan) {
        let (joins, leaves) = (vec![id(6)], Vec::new());
        update(app, Message::Planned { joins, leaves, out: Ok(Box::new(plan)) });
    }

    fn notice(app: &App) -> &str {
        app.notice.as_ref().map_or("", |(text, _)| text)
    }

    #[test]
    fn who_waits_is_planned_shown_and_joined() {
        let mut app = app(Standing::Degraded);
        let planned = Effect::Plan { joins: vec![id(6)], leaves: Vec::new() };
        assert_eq!(press(&mut app, "7a"), [planned]);
        come(&mut app, plan());
        assert_eq!(app.tab, Tab::Repair, "it is shown where it is committed");
        let change = Effect::Change { joins: vec![id(6)], leaves: Vec::new(), after: 17 };
        assert_eq!(press(&mut app, "C"), [change]);
        assert_eq!(press(&mut app, "C"), [], "once");
        come(&mut app, plan());
        assert_eq!(press(&mut app, "X"), []);
        assert_eq!(app.plan, None);
        come(&mut app, MembersPlan { steps: Vec::new(), ..plan() });
        assert_eq!(press(&mut app, "C"), []);
        assert!(notice(&app).contains("it is so already"));
        let out = Err("node is down".into());
        update(&mut app, Message::Planned { joins: vec![id(6)], leaves: Vec::new(), out });
        assert!(app.plan.is_none() && notice(&app).contains("node is down"));
    }

    #[test]
    fn nodes_join_and_leave_by_name() {
        let mut app = app(Standing::Ok);
        let leave = Effect::Plan { joins: Vec::new(), leaves: vec![id(2)] };
        assert_eq!(press(&mut app, ":leave B\n"), [leave]);
        let join = Effect::Plan { joins: vec![id(3)], leaves: Vec::new() };
        assert_eq!(press(&mut app, ":join 3a66\n"), [join]);
        for wrong in [":join\n", ":leave b\n", ":leave 9\n", ":leave 3a67\n"] {
            assert_eq!(press(&mut app, wrong), [], "{wrong}");
            assert!(notice(&app).starts_with("which node?"));
        }
        assert_eq!(press(&mut app, "5p"), [], "nobody waits");
        assert!(notice(&app).contains("no empty node"));
    }

    #[test]
    fn a_change_is_called_off_by_its_epoch() {
        let mut app = app(Standing::Degraded);
        assert_eq!(press(&mut app, "5X17\n"), []);
        assert!(notice(&app).contains("nothing was done"));
        assert_eq!(press(&mut app, "X18\n"), [Effect::Abort]);
        let mut still = crate::fixture::app(Standing::Ok);
        assert_eq!(press(&mut still, "5X"), []);
        assert!(notice(&still).contains("no change is under way"));
    }

    #[test]
    fn the_mode_is_typed() {
        let mut app = app(Standing::Ok);
        assert_eq!(press(&mut app, "7mauto\n"), [Effect::Mode(ScaleMode::Auto)]);
        assert_eq!(press(&mut app, "mon\n"), []);
        assert!(notice(&app).contains("nothing was changed"));
    }

    #[test]
    fn nothing_is_changed_when_reading_only() {
        let mut app = app(Standing::Degraded);
        app.options.readonly = Some(true);
        come(&mut app, plan());
        assert_eq!(press(&mut app, "C"), []);
        assert!(notice(&app).contains("read-only") && app.plan.is_some());
        press(&mut app, "X");
        for keys in ["X", "7m"] {
            assert_eq!(press(&mut app, keys), []);
            assert_eq!(app.overlay, Overlay::None);
            assert!(notice(&app).contains("read-only"));
        }
    }
}
