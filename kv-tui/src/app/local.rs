//! What a person does to the nodes of a local cluster, so as to see what comes of it: they are
//! killed, paused, cut off and brought back by the program that runs them.
//!
//! Invariant: nothing is asked of that program unless every member is on this machine, writes are
//! allowed, and, for what a node's clients could notice, the person typed which node is meant.

use kv_client::wire::NodeInfo;

use super::message::Effect;
use super::prompt::{Prompt, PromptKind};
use super::{App, Overlay};
use crate::model::{EventKind, Weight};
use crate::text;

/// Nodes of a local cluster at most: their ports come in blocks of a hundred.
const NODES_MAX: u16 = 99;

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalVerb {
    /// It ends as in a crash.
    Kill,
    /// It is started on what it left.
    Start,
    /// It is drained, ended and started.
    Restart,
    /// Its time stops.
    Pause,
    /// Its time goes on.
    Resume,
    /// Nothing passes between it and the others.
    Cut,
    /// Its links are whole again; without a node, all are.
    Heal,
}

impl LocalVerb {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cut => "cut",
            Self::Heal => "heal",
        }
    }

    /// The words that the program is given.
    pub(crate) fn words(self, node: Option<u16>) -> Vec<String> {
        let verb = if self == Self::Cut { "partition" } else { self.word() };
        let crash = (self == Self::Kill).then_some("-9".to_owned());
        let node = node.map(|node| node.to_string());
        [Some(verb.to_owned()), node, crash].into_iter().flatten().collect()
    }

    /// Whether the node's clients or the others could notice it.
    fn hurts(self) -> bool {
        matches!(self, Self::Kill | Self::Restart | Self::Pause | Self::Cut)
    }

    /// What it comes to, for the one who decides.
    pub(crate) fn means(self) -> &'static str {
        match self {
            Self::Kill => "it ends at once (-9), as in a crash; r starts it again",
            Self::Start => "it is started on what it left",
            Self::Restart => "it is drained, ended, and started again",
            Self::Pause => "it is there and does nothing; p lets it go on",
            Self::Resume => "it goes on",
            Self::Cut => "nothing passes between it and the others; h heals its links",
            Self::Heal => "the links are whole again",
        }
    }

    fn done(self, node: Option<u16>) -> String {
        let who = name(node);
        match self {
            Self::Kill => format!("{who} is killed (-9); r starts it again"),
            Self::Start => format!("{who} is started and ready"),
            Self::Restart => format!("{who} was drained, ended and started, and is ready"),
            Self::Pause => format!("{who} is paused; p lets it go on"),
            Self::Resume => format!("{who} goes on"),
            Self::Cut => format!("{who} is cut off from the others; h heals its links"),
            Self::Heal => format!("the links of {who} are whole"),
        }
    }
}

/// What waits for a node's name to be typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is to be done.
    pub verb: LocalVerb,
    /// To which node, by its number.
    pub node: u16,
    /// Its letter, if it has one.
    pub letter: Option<char>,
}

fn name(node: Option<u16>) -> String {
    node.map_or_else(|| "all nodes".to_owned(), |node| format!("n{node}"))
}

/// The number of a node of the local cluster, by the port that Redis clients are told.
pub(crate) fn number(app: &App, node: &NodeInfo) -> Option<u16> {
    let (_, port) = node.endpoints.resp.rsplit_once(':')?;
    let number = port.parse::<u16>().ok()?.checked_sub(app.options.local_base_port?)?;
    (1..=NODES_MAX).contains(&number).then_some(number)
}

/// Begins with the selected node, or asks whether it is meant.
pub(super) fn press(app: &mut App, verb: LocalVerb) -> Vec<Effect> {
    if !allowed(app) {
        return Vec::new();
    }
    let node = app.nodes_shown().get(app.selected.node).copied();
    let Some(number) = node.and_then(|node| number(app, node)) else {
        app.say("no node of the local cluster is selected");
        return Vec::new();
    };
    if !verb.hurts() {
        return begin(app, verb, Some(number));
    }
    let letter = letter(app, number);
    let asked = Asked { verb, node: number, letter };
    app.overlay = Overlay::Prompt(Prompt::new(PromptKind::Node(asked), ""));
    Vec::new()
}

/// Goes on if what was typed names the node that was asked about.
pub(super) fn confirmed(app: &mut App, asked: Asked, typed: &str) -> Vec<Effect> {
    if named(app, typed) != Some(asked.node) {
        let (verb, node) = (asked.verb.word(), asked.node);
        let typed = text::shown(typed.as_bytes(), 20);
        app.say(format!("{verb} n{node}: nothing was done, {typed:?} is not its number or letter"));
        return Vec::new();
    }
    // Also now: the members may be others than when it was asked.
    if allowed(app) { begin(app, asked.verb, Some(asked.node)) } else { Vec::new() }
}

/// Goes on with the node that was typed after a command's word.
pub(super) fn command(app: &mut App, verb: LocalVerb, typed: &str) -> Vec<Effect> {
    if !allowed(app) {
        return Vec::new();
    }
    let node = named(app, typed);
    if node.is_none() && (verb != LocalVerb::Heal || !typed.trim().is_empty()) {
        app.say(format!("which node? by its number or letter: :{} n2", verb.word()));
        return Vec::new();
    }
    begin(app, verb, node)
}

/// What came of it.
pub(super) fn acted(app: &mut App, verb: LocalVerb, node: Option<u16>, out: Result<(), String>) {
    let (weight, text) = match out {
        Ok(()) => (Weight::Info, verb.done(node)),
        Err(why) => {
            let why = text::shown(why.as_bytes(), 300);
            (Weight::Warn, format!("{} {}: {why}", verb.word(), name(node)))
        }
    };
    app.say(text.clone());
    app.log(weight, EventKind::Member, text);
}

fn begin(app: &mut App, verb: LocalVerb, node: Option<u16>) -> Vec<Effect> {
    app.say(format!("{} {}: under way", verb.word(), name(node)));
    vec![Effect::Local { verb, node }]
}

fn allowed(app: &mut App) -> bool {
    if app.options.local_base_port.is_none() {
        app.say("only where it was started by cargo xtask tui or demo, or with --local");
    } else if !app.is_local() {
        app.say("not every member is known to be on this machine");
    } else if app.readonly() {
        app.say("read-only: start with --readonly=false to do that");
    } else {
        return true;
    }
    false
}

fn letter(app: &App, of: u16) -> Option<char> {
    let nodes = app.snapshot.as_deref().map_or(&[][..], |snapshot| &snapshot.nodes);
    let node = nodes.iter().find(|node| number(app, node) == Some(of))?;
    // Those beyond the alphabet share a sign.
    Some(app.names.letter(node.node)).filter(char::is_ascii_alphabetic)
}

/// The number of the node that a text names: `2`, `n2`, or its letter.
fn named(app: &App, typed: &str) -> Option<u16> {
    let typed = typed.trim();
    let digits = typed.strip_prefix('n').unwrap_or(typed);
    if let Ok(number) = digits.parse() {
        return Some(number).filter(|number| (1..=NODES_MAX).contains(number));
    }
    let mut chars = typed.chars();
    let only = chars.next().filter(|_| chars.next().is_none())?;
    (1..=NODES_MAX).find(|of| letter(app, *of) == Some(only))
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyCode;

    use super::*;
    use crate::app::{Message, Pressed, update};
    use crate::fixture::{self, Standing, app};

    /// Five nodes, n3 of which is down, at the ports of a cluster that begins at 7000.
    fn local() -> App {
        let mut app = app(Standing::Degraded);
        app.options.local_base_port = Some(7_000);
        press(&mut app, "2s");
        app
    }

    fn press(app: &mut App, keys: &str) -> Vec<Effect> {
        let press = |key| {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            update(app, Message::Key(Pressed::plain(code)))
        };
        keys.chars().flat_map(press).collect()
    }

    fn notice(app: &App) -> &str {
        app.notice.as_ref().map_or("", |(text, _)| text)
    }

    fn local_effect(verb: LocalVerb, node: u16) -> [Effect; 1] {
        [Effect::Local { verb, node: Some(node) }]
    }

    #[test]
    fn a_node_is_killed_once_it_is_named() {
        let mut app = local();
        assert_eq!(press(&mut app, "jx"), [], "the second of the list is asked about");
        assert!(matches!(&app.overlay, Overlay::Prompt(_)));
        assert_eq!(press(&mut app, "2\n"), local_effect(LocalVerb::Kill, 2));
        assert_eq!(press(&mut app, "xB\n"), local_effect(LocalVerb::Kill, 2), "by its letter");
        assert_eq!(press(&mut app, "xn2\n"), local_effect(LocalVerb::Kill, 2));
        for other in ["\n", "3\n", "C\n", "b\n", "2 3\n", "y\n"] {
            assert_eq!(press(&mut app, &format!("x{other}")), [], "{other:?}");
            assert!(notice(&app).starts_with("kill n2: nothing was done"), "{}", notice(&app));
        }
        // Another is selected by the time that the name is typed: what was asked about is meant.
        press(&mut app, "x");
        app.selected.node = 0;
        assert_eq!(press(&mut app, "1\n"), []);
        assert_eq!(press(&mut app, "P1\n"), local_effect(LocalVerb::Pause, 1));
        assert_eq!(press(&mut app, "c1\n"), local_effect(LocalVerb::Cut, 1));
        // What mends asks nobody.
        assert_eq!(press(&mut app, "r"), local_effect(LocalVerb::Start, 1));
        assert_eq!(press(&mut app, "p"), local_effect(LocalVerb::Resume, 1));
        assert_eq!(press(&mut app, "h"), local_effect(LocalVerb::Heal, 1));
    }

    #[test]
    fn a_command_names_its_node() {
        let mut app = local();
        assert_eq!(press(&mut app, ":kill n2\n"), local_effect(LocalVerb::Kill, 2));
        assert_eq!(press(&mut app, ":restart C\n"), local_effect(LocalVerb::Restart, 3));
        assert_eq!(press(&mut app, ":start 7\n"), local_effect(LocalVerb::Start, 7));
        let all = Effect::Local { verb: LocalVerb::Heal, node: None };
        assert_eq!(press(&mut app, ":heal\n"), [all]);
        for wrong in [":kill\n", ":heal x\n", ":kill n0\n", ":kill 100\n", ":kill a66\n"] {
            assert_eq!(press(&mut app, wrong), [], "{wrong}");
            assert!(notice(&app).starts_with("which node?"), "{}", notice(&app));
        }
    }

    #[test]
    fn nothing_is_done_to_nodes_elsewhere_or_when_reading_only() {
        let keys = ["x", "P", "r", "c", "p", "h", ":kill n2\n", ":heal\n"];
        let refused = |mut app: App, why: &str| {
            for key in keys {
                assert_eq!(press(&mut app, key), [], "{key}");
                assert_eq!(app.overlay, Overlay::None);
                assert!(notice(&app).contains(why), "{key} {}", notice(&app));
            }
        };
        let mut without = local();
        without.options.local_base_port = None;
        refused(without, "cargo xtask tui");
        let mut readonly = local();
        readonly.options.readonly = Some(true);
        refused(readonly, "read-only");
        // Also where somebody said that it may be written to.
        let mut elsewhere = local();
        elsewhere.options.readonly = Some(false);
        if let Some(snapshot) = &mut elsewhere.snapshot {
            snapshot.nodes[1].endpoints.rpc = "10.0.0.2:7101".into();
        }
        refused(elsewhere, "on this machine");
        // One of the members turned out to be elsewhere while the name was typed.
        let mut late = local();
        press(&mut late, "x1");
        late.options.readonly = Some(true);
        assert_eq!(press(&mut late, "\n"), []);
        // A node with other ports is none of that cluster's.
        let mut stranger = local();
        stranger.options.local_base_port = Some(9_000);
        assert_eq!(press(&mut stranger, "x"), []);
        assert!(notice(&stranger).contains("no node of the local cluster"));
    }

    #[test]
    fn what_came_of_it_is_on_the_screen_and_among_the_events() {
        let mut app = local();
        let out = Err("n2 is not running\x1b (exit status: 1)".to_owned());
        let acted = Message::Acted { verb: LocalVerb::Kill, node: Some(2), out };
        assert_eq!(update(&mut app, acted), [Effect::Ask]);
        assert!(notice(&app).starts_with("kill n2: n2 is not running"), "{}", notice(&app));
        let last = app.events.back().expect("it is noted");
        assert_eq!((last.weight, last.text.as_str()), (Weight::Warn, notice(&app)));
        assert!(!last.text.contains('\x1b'));
        let done = Message::Acted { verb: LocalVerb::Kill, node: Some(2), out: Ok(()) };
        update(&mut app, done);
        assert_eq!(notice(&app), "n2 is killed (-9); r starts it again");
    }

    #[test]
    fn numbers_follow_ports() {
        let app = local();
        let of = |at: usize, resp: &str| {
            let mut node = fixture::ill().nodes[at].clone();
            node.endpoints.resp = resp.into();
            number(&app, &node)
        };
        assert_eq!(of(0, "127.0.0.1:7099"), Some(99));
        for none in ["127.0.0.1:7100", "127.0.0.1:7000", "127.0.0.1:6999", "127.0.0.1:x", ""] {
            assert_eq!(of(0, none), None, "{none}");
        }
    }
}
