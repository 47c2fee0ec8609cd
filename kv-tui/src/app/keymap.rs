//! The keys, as data: what they do, where, and how they are described. The command bar and the help
//! are drawn from this table, so that neither can say what a key does not do.

use crossterm::event::{KeyCode, KeyModifiers};

use super::{LocalVerb, Pressed, Tab};

/// Where a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On every tab.
    Everywhere,
    /// On one.
    On(Tab),
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Leave what is open, else the program.
    Back,
    /// Leave the program.
    Quit,
    /// Give the terminal back to the shell.
    Suspend,
    /// Draw all anew.
    Redraw,
    /// Show the keys.
    Help,
    /// Type a command.
    Palette,
    /// Open a tab, counted from 1.
    Open(usize),
    /// The next tab, or the one before.
    Turn(isize),
    /// Move the selection by so many.
    Move(isize),
    /// Move the selection by so many pages' halves.
    Page(isize),
    /// Move the selection to the first.
    First,
    /// Move the selection to the last.
    Last,
    /// Move sideways: partitions on the ring, siblings of a conflict.
    Side(isize),
    /// Stop the screen, or let it go on.
    Pause,
    /// Type a key to look up.
    Find,
    /// Type a filter.
    Filter,
    /// The next colouring of the ring.
    Colour,
    /// The ring as a list, or as a circle.
    Zoom,
    /// The next sorting.
    Sort,
    /// The next form of values.
    Form,
    /// Look the key up again.
    Again,
    /// Repair the selected key or partition.
    Repair,
    /// Make a value by the next rule that decides.
    Rule,
    /// Take the selected sibling.
    Pick,
    /// Write a value.
    Edit,
    /// Delete the key.
    Delete,
    /// Send what is shown.
    Apply,
    /// Put back what the last write replaced.
    Undo,
    /// The next kind of events.
    Kind,
    /// The next node's events.
    Node,
    /// Plan that empty nodes join.
    Plan,
    /// Commit the plan that is shown.
    Commit,
    /// Drop the plan, or call off the change that is under way.
    Abort,
    /// Type the autoscaler's mode.
    Mode,
    /// Do something to the selected node of a local cluster.
    Local(LocalVerb),
    /// Show more of what is selected.
    Enter,
}

/// A key's entry.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The keys, any of which does it.
    pub keys: &'static [(KeyCode, KeyModifiers)],
    /// Where.
    pub scope: Scope,
    /// What it does.
    pub action: Action,
    /// A word or two for the command bar; empty keeps it to the help.
    pub brief: &'static str,
    /// What it does, for the help.
    pub what: &'static str,
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CTRL: KeyModifiers = KeyModifiers::CONTROL;

const fn char(char: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(char), NONE)
}

macro_rules! bind {
    ($scope:expr, [$($key:expr),+], $action:expr, $brief:expr, $what:expr) => {
        Binding { keys: &[$($key),+], scope: $scope, action: $action, brief: $brief, what: $what }
    };
}

use Scope::{Everywhere, On};

/// Every key. The first that fits counts: a tab's own come before those that work everywhere.
pub const BINDINGS: &[Binding] = &[
    bind!(On(Tab::Ring), [char('/')], Action::Find, "locate key", "type a key to look up"),
    bind!(
        On(Tab::Ring),
        [(KeyCode::Left, NONE), char('h')],
        Action::Side(-1),
        "",
        "the partition before"
    ),
    bind!(
        On(Tab::Ring),
        [(KeyCode::Right, NONE), char('l')],
        Action::Side(1),
        "step",
        "the next partition"
    ),
    bind!(On(Tab::Ring), [char('o')], Action::Colour, "colour", "letters by owner, or by state"),
    bind!(On(Tab::Ring), [char('z')], Action::Zoom, "list", "the ring as a list of partitions"),
    bind!(On(Tab::Ring), [(KeyCode::Enter, NONE)], Action::Enter, "key", "open the key's tab"),
    bind!(On(Tab::Nodes), [char('/')], Action::Filter, "filter", "show only lines with a text"),
    bind!(On(Tab::Nodes), [char('s')], Action::Sort, "sort", "sort by state, name, phi, call"),
    bind!(
        On(Tab::Nodes),
        [(KeyCode::Enter, NONE)],
        Action::Enter,
        "its events",
        "show the node's events"
    ),
    bind!(
        On(Tab::Nodes),
        [char('x')],
        Action::Local(LocalVerb::Kill),
        "kill*",
        "kill it (-9), once it is named; *of a local cluster: cargo xtask tui"
    ),
    bind!(
        On(Tab::Nodes),
        [char('P')],
        Action::Local(LocalVerb::Pause),
        "pause*",
        "stop its time, once it is named*"
    ),
    bind!(
        On(Tab::Nodes),
        [char('p')],
        Action::Local(LocalVerb::Resume),
        "go on*",
        "let its time go on*"
    ),
    bind!(
        On(Tab::Nodes),
        [char('r')],
        Action::Local(LocalVerb::Start),
        "start*",
        "start it again on what it left; :restart drains and ends one that runs*"
    ),
    bind!(
        On(Tab::Nodes),
        [char('c')],
        Action::Local(LocalVerb::Cut),
        "cut*",
        "cut its links to the others, once it is named*"
    ),
    bind!(
        On(Tab::Nodes),
        [char('h')],
        Action::Local(LocalVerb::Heal),
        "heal*",
        "make its links whole again; :heal all of them*"
    ),
    bind!(On(Tab::Keys), [char('/')], Action::Find, "open", "type a key to look up"),
    bind!(On(Tab::Keys), [char('r')], Action::Again, "again", "look the key up again"),
    bind!(On(Tab::Keys), [char('m')], Action::Rule, "resolve", "resolve its siblings by a rule"),
    bind!(On(Tab::Keys), [char('e')], Action::Edit, "edit", "write a value over what is shown"),
    bind!(On(Tab::Keys), [char('D')], Action::Delete, "delete", "delete what is shown"),
    bind!(On(Tab::Keys), [char('a')], Action::Apply, "apply", "send the write that is shown"),
    bind!(On(Tab::Keys), [char('R')], Action::Repair, "repair", "compare its replicas, mend them"),
    bind!(On(Tab::Keys), [char('v')], Action::Form, "view", "values as JSON, text, hex"),
    bind!(On(Tab::Keys), [char('u')], Action::Undo, "", "put back what the last write replaced"),
    bind!(
        On(Tab::Conflicts),
        [(KeyCode::Left, NONE), char('h')],
        Action::Side(-1),
        "",
        "the sibling before"
    ),
    bind!(
        On(Tab::Conflicts),
        [(KeyCode::Right, NONE), char('l')],
        Action::Side(1),
        "sibling",
        "the next sibling"
    ),
    bind!(
        On(Tab::Conflicts),
        [(KeyCode::Enter, NONE)],
        Action::Pick,
        "pick",
        "take the selected sibling"
    ),
    bind!(On(Tab::Conflicts), [char('m')], Action::Rule, "rule", "make a value by the next rule"),
    bind!(On(Tab::Conflicts), [char('e')], Action::Edit, "edit", "edit the value to be written"),
    bind!(On(Tab::Conflicts), [char('a')], Action::Apply, "apply", "send the write that is shown"),
    bind!(On(Tab::Conflicts), [char('u')], Action::Undo, "undo", "put the siblings back"),
    bind!(On(Tab::Conflicts), [char('/')], Action::Find, "open", "type a key to look up"),
    bind!(On(Tab::Conflicts), [char('r')], Action::Again, "again", "look the key up again"),
    bind!(On(Tab::Conflicts), [char('v')], Action::Form, "", "values as JSON, text, hex"),
    bind!(
        On(Tab::Repair),
        [char('r')],
        Action::Repair,
        "repair",
        "compare the ring's selected partition now"
    ),
    bind!(On(Tab::Repair), [char('p')], Action::Plan, "plan", "plan that empty nodes join"),
    bind!(On(Tab::Repair), [char('C')], Action::Commit, "commit", "commit the plan that is shown"),
    bind!(On(Tab::Repair), [char('X')], Action::Abort, "discard", "drop it, or call a change off"),
    bind!(On(Tab::Scale), [char('m')], Action::Mode, "mode", "off, advise or auto, once typed"),
    bind!(On(Tab::Scale), [char('a')], Action::Plan, "approve", "plan that empty nodes join"),
    bind!(On(Tab::Events), [char('/')], Action::Filter, "filter", "show only lines with a text"),
    bind!(On(Tab::Events), [char('k')], Action::Kind, "kind", "show one kind only"),
    bind!(On(Tab::Events), [char('n')], Action::Node, "node", "show one node's only"),
    bind!(Everywhere, [(KeyCode::Up, NONE), char('k')], Action::Move(-1), "", "up"),
    bind!(Everywhere, [(KeyCode::Down, NONE), char('j')], Action::Move(1), "", "down"),
    bind!(
        Everywhere,
        [(KeyCode::PageUp, NONE), (KeyCode::Char('u'), CTRL)],
        Action::Page(-1),
        "",
        "half a page up"
    ),
    bind!(
        Everywhere,
        [(KeyCode::PageDown, NONE), (KeyCode::Char('d'), CTRL)],
        Action::Page(1),
        "",
        "half a page down"
    ),
    bind!(Everywhere, [char('g'), (KeyCode::Home, NONE)], Action::First, "", "to the first"),
    bind!(Everywhere, [char('G'), (KeyCode::End, NONE)], Action::Last, "", "to the last"),
    bind!(Everywhere, [(KeyCode::Tab, NONE)], Action::Turn(1), "", "the next tab"),
    bind!(Everywhere, [(KeyCode::BackTab, NONE)], Action::Turn(-1), "", "the tab before"),
    bind!(Everywhere, [char('1')], Action::Open(1), "", "Ring: who owns what"),
    bind!(Everywhere, [char('2')], Action::Open(2), "", "Nodes: who is there"),
    bind!(Everywhere, [char('3')], Action::Open(3), "", "Keys: one key, replica by replica"),
    bind!(Everywhere, [char('4')], Action::Open(4), "", "Conflicts: keys with siblings"),
    bind!(Everywhere, [char('5')], Action::Open(5), "", "Repair: hints and anti-entropy"),
    bind!(Everywhere, [char('6')], Action::Open(6), "", "Events: what happened"),
    bind!(Everywhere, [char('7')], Action::Open(7), "", "Scale: is there enough of everything"),
    bind!(Everywhere, [char(':')], Action::Palette, "", "type a command"),
    bind!(Everywhere, [char(' ')], Action::Pause, "pause", "stop the screen, or let it go on"),
    bind!(Everywhere, [char('?')], Action::Help, "help", "show the keys"),
    bind!(
        Everywhere,
        [char('q'), (KeyCode::Esc, NONE)],
        Action::Back,
        "quit",
        "leave what is open, else the program"
    ),
    bind!(Everywhere, [(KeyCode::Char('c'), CTRL)], Action::Quit, "", "leave the program"),
    bind!(Everywhere, [(KeyCode::Char('l'), CTRL)], Action::Redraw, "", "draw all anew"),
    bind!(Everywhere, [(KeyCode::Char('z'), CTRL)], Action::Suspend, "", "back to the shell"),
];

/// The keys that work on a tab, its own first.
pub fn bindings_for(tab: Tab) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |binding| match binding.scope {
        Everywhere => true,
        On(of) => of == tab,
    })
}

/// What a key does on a tab.
pub(super) fn action(tab: Tab, pressed: Pressed) -> Option<Action> {
    // Shift is in the character already, and some terminals tell it besides.
    let modifiers = match pressed.code {
        KeyCode::Char(_) | KeyCode::BackTab => pressed.modifiers - KeyModifiers::SHIFT,
        _ => pressed.modifiers,
    };
    let pressed = (pressed.code, modifiers);
    bindings_for(tab).find(|binding| binding.keys.contains(&pressed)).map(|binding| binding.action)
}

/// The keys of an entry as people read them.
pub fn keys_text(binding: &Binding) -> String {
    let names: Vec<String> = binding.keys.iter().map(|key| key_text(*key)).collect();
    names.join(" ")
}

fn key_text((code, modifiers): (KeyCode, KeyModifiers)) -> String {
    let name = match code {
        KeyCode::Char(' ') => "space".to_owned(),
        KeyCode::Char(char) => char.to_string(),
        KeyCode::Enter => "⏎".to_owned(),
        KeyCode::Left => "←".to_owned(),
        KeyCode::Right => "→".to_owned(),
        KeyCode::Up => "↑".to_owned(),
        KeyCode::Down => "↓".to_owned(),
        KeyCode::Esc => "esc".to_owned(),
        KeyCode::Tab => "tab".to_owned(),
        KeyCode::BackTab => "shift-tab".to_owned(),
        KeyCode::PageUp => "pgup".to_owned(),
        KeyCode::PageDown => "pgdn".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    if modifiers.contains(CTRL) { format!("ctrl-{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things_on_one_tab_unless_the_tab_says_so() {
        for tab in Tab::ALL {
            let mut seen = Vec::new();
            for binding in bindings_for(tab) {
                for key in binding.keys {
                    let of_tab = binding.scope != Everywhere;
                    let before = seen.iter().find(|(before, _)| before == key);
                    // `k` is up everywhere and kind on Events, where the arrow goes up.
                    assert!(before.is_none_or(|(_, of)| *of && !of_tab), "{tab:?} {key:?}");
                    seen.push((*key, of_tab));
                }
            }
        }
    }

    #[test]
    fn keys_find_their_actions() {
        let ctrl = |char| Pressed { code: KeyCode::Char(char), modifiers: CTRL };
        assert_eq!(action(Tab::Ring, Pressed::char('/')), Some(Action::Find));
        assert_eq!(action(Tab::Nodes, Pressed::char('/')), Some(Action::Filter));
        assert_eq!(action(Tab::Scale, Pressed::char('/')), None);
        assert_eq!(action(Tab::Ring, ctrl('c')), Some(Action::Quit));
        assert_eq!(action(Tab::Ring, Pressed::char('c')), None);
        let shifted = Pressed { code: KeyCode::Char('G'), modifiers: KeyModifiers::SHIFT };
        assert_eq!(action(Tab::Ring, shifted), Some(Action::Last));
        assert_eq!(key_text((KeyCode::Char('d'), CTRL)), "ctrl-d");
    }
}
