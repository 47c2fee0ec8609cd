//! Writes: made as a draft that is shown, sent when the person says so, taken back if they regret
//! it.
//!
//! Invariant: `apply` sends what is on the screen and nothing else. A draft is of one key; the tabs
//! draw it while that key is the one they show, and only then is it sent.

use bytes::Bytes;

use super::draft::{Draft, Sent};
use super::message::{Effect, Op};
use super::prompt::{CHARS_MAX, Prompt, PromptKind};
use super::{App, Overlay, Tab};
use crate::model::{Look, Rule, resolve, suggested};
use crate::text;

/// The look that a write would be about.
fn subject(app: &App) -> Option<Look> {
    if app.tab == Tab::Conflicts { app.conflict().cloned() } else { app.look().cloned() }
}

/// Makes a draft, shown and not sent.
pub(super) fn draft(app: &mut App, rule: Rule) {
    match subject(app) {
        Some(look) => draft_over(app, &look, rule),
        None => app.say("look a key up first: /"),
    }
}

/// Makes a draft of an edited value.
pub(super) fn edited(app: &mut App, value: Bytes) {
    if let Some(look) = app.editing.take() {
        draft_over(app, &look, Rule::Edit(value));
    }
}

fn draft_over(app: &mut App, look: &Look, rule: Rule) {
    match Draft::new(look, rule) {
        Ok(draft) => {
            if let Err(why) = &draft.verdict {
                app.say(format!("{}: {why}", draft.rule));
            }
            app.draft = Some(draft);
            if !matches!(app.tab, Tab::Keys | Tab::Conflicts) {
                app.tab = Tab::Keys;
            }
        }
        Err(why) => app.say(why),
    }
}

/// The next rule that decides for the selected key; first the suggested one.
pub(super) fn next_rule(app: &mut App) {
    let Some(look) = subject(app) else {
        return app.say("look a key up first: /");
    };
    let Some(seen) = look.seen.as_ref().ok().filter(|seen| seen.is_conflict()) else {
        return app.say("it has one version or none: there is nothing to resolve");
    };
    app.tab = Tab::Conflicts;
    let conflicts = app.conflicts();
    app.selected.conflict =
        conflicts.iter().position(|conflict| *conflict.key == look.key).unwrap_or(0);
    let current = app.draft.as_ref().filter(|draft| draft.key == look.key).map(|draft| &draft.rule);
    let at = current.and_then(|rule| Rule::MERGING.iter().position(|of| of == rule));
    let following = at.map_or(0, |at| at + 1);
    let turn = Rule::MERGING.iter().cycle().skip(following).take(Rule::MERGING.len());
    let next = turn.clone().find(|rule| resolve(rule, &seen.siblings).is_ok()).cloned();
    let rule = if at.is_none() { suggested(&seen.siblings) } else { next.unwrap_or(Rule::Latest) };
    draft(app, rule);
}

/// Opens the value that would be written, or the newest, to be edited. What was seen then is what
/// the edited value replaces, whatever is heard or selected until it is done.
pub(super) fn edit(app: &mut App) {
    let Some(look) = subject(app) else {
        return app.say("look a key up first: /");
    };
    let of_draft = app.draft.as_ref().filter(|draft| draft.key == look.key);
    let drafted = of_draft.and_then(|draft| draft.verdict.as_ref().ok()?.value.clone());
    let newest = || look.seen.as_ref().ok()?.siblings.iter().find_map(|of| of.value.clone());
    let value = drafted.or_else(newest).unwrap_or_default();
    match str::from_utf8(&value) {
        Ok(text) if text.len() <= CHARS_MAX => {
            let prompt = Prompt::new(PromptKind::Value, text);
            app.overlay = Overlay::Prompt(prompt);
            app.editing = Some(Box::new(look));
        }
        Ok(_) => app.say("the value is too long to be edited here: kv put KEY - --context"),
        Err(_) => app.say("the value is no text: kv put --hex writes bytes"),
    }
}

/// Drops a draft of another key than the one that the person turns to.
pub(super) fn turn_to(app: &mut App, key: Option<&Bytes>) {
    app.draft.take_if(|draft| Some(&draft.key) != key);
}

/// Sends the draft, if it is the one on the screen.
pub(super) fn apply(app: &mut App) -> Vec<Effect> {
    let Some(draft) = app.draft.clone() else {
        app.say("there is nothing to send: m, e or D make a write, and show it");
        return Vec::new();
    };
    // What is selected may have changed by itself, too: an answer came, or the list did.
    if subject(app).is_none_or(|look| look.key != draft.key) {
        let key = text::shown(&draft.key, 40);
        app.say(format!("the write that waits is for {key}: go back to it, or esc drops it"));
        return Vec::new();
    }
    let Some(ops) = draft.ops() else {
        app.say("the rule does not decide here: choose another");
        return Vec::new();
    };
    if !may_write(app) {
        return Vec::new();
    }
    let sent = Sent {
        id: 0,
        what: draft.words(),
        key: draft.key,
        replaced: draft.replaced.siblings,
        context: Bytes::new(),
        is_undo: false,
    };
    send(app, sent, ops)
}

/// Takes the last write back.
pub(super) fn undo(app: &mut App) -> Vec<Effect> {
    if !may_write(app) {
        return Vec::new();
    }
    let Some(sent) = app.sent.pop_back() else {
        app.say("nothing was written from here that could be taken back");
        return Vec::new();
    };
    let what = match sent.replaced.len() {
        0 => "taken back, deleted again".to_owned(),
        1 => "taken back, the version before is there again".to_owned(),
        count => format!("taken back, {count} siblings are there again"),
    };
    let ops = sent.undo();
    send(app, Sent { what, is_undo: true, ..sent }, ops)
}

fn may_write(app: &mut App) -> bool {
    if app.readonly() {
        app.say("read-only: start with --readonly=false to write to this cluster");
    } else if app.writing.is_some() {
        app.say("a write is on its way: wait for its answer");
    } else {
        return true;
    }
    false
}

fn send(app: &mut App, sent: Sent, ops: Vec<Op>) -> Vec<Effect> {
    let (id, key) = (app.next_write, sent.key.clone());
    app.next_write += 1;
    app.writing = Some(Sent { id, ..sent });
    vec![Effect::Write { id, key, ops }]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{control, enter, notice, press};
    use super::*;
    use crate::app::{Message, Wheel, update};
    use crate::fixture::{self, Standing, app};

    #[test]
    fn only_the_write_that_is_on_the_screen_is_sent() {
        let delete = |app: &mut App| {
            press(app, "3D");
            let draft = app.draft.as_ref().expect("it is shown");
            assert_eq!(draft.key, "cart:9001");
        };
        let user = || Message::Looked(Box::new(fixture::user()));
        // The person looks another key up: the draft of the first is gone.
        let mut one = app(Standing::Degraded);
        delete(&mut one);
        press(&mut one, "/user:42");
        assert_eq!(enter(&mut one), [Effect::Look("user:42".into())]);
        assert!(one.draft.is_none());
        assert_eq!(press(&mut one, "a"), [], "not while it is looked up");
        update(&mut one, user());
        assert_eq!(press(&mut one, "a"), []);
        assert!(notice(&one).contains("nothing to send"), "{}", notice(&one));
        // Another answer takes its place on the tab: the draft waits, unseen, and is not sent.
        let mut two = app(Standing::Degraded);
        delete(&mut two);
        update(&mut two, user());
        assert_eq!(press(&mut two, "a"), []);
        assert!(notice(&two).contains("the write that waits is for cart:9001"), "{}", notice(&two));
        update(&mut two, Message::Looked(Box::new(fixture::cart())));
        assert!(matches!(&press(&mut two, "a")[..], [Effect::Write { .. }]), "it is shown again");
        // The selection goes on, by a key, by the wheel or by another tab's.
        let mut three = app(Standing::Degraded);
        press(&mut three, "4mj");
        assert!(three.draft.is_none());
        press(&mut three, "km");
        update(&mut three, Message::Mouse(Wheel::Down));
        assert!(three.draft.is_none());
        update(&mut three, user());
        press(&mut three, "3D4");
        assert_eq!(three.draft.as_ref().map(|draft| draft.key.clone()), Some("user:42".into()));
        assert!(press(&mut three, "a").is_empty());
        assert!(
            notice(&three).contains("the write that waits is for user:42"),
            "{}",
            notice(&three)
        );
        // The same key again keeps what was made of it.
        let mut four = app(Standing::Degraded);
        delete(&mut four);
        press(&mut four, "/cart:9001");
        enter(&mut four);
        assert!(four.draft.is_some());
    }

    #[test]
    fn an_edited_value_replaces_what_was_seen_when_its_editing_began() {
        let mut app = app(Standing::Degraded);
        press(&mut app, "3e");
        update(&mut app, Message::Looked(Box::new(fixture::user())));
        control(&mut app, 's');
        let draft = app.draft.as_ref().expect("it is made");
        assert_eq!(draft.key, "cart:9001", "not the key that came meanwhile");
        assert_eq!(draft.replaced, fixture::cart().seen.expect("it was read"));
        assert_eq!(press(&mut app, "a"), [], "it is not on the screen");
    }
}
