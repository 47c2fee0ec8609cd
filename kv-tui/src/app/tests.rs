//! What messages do, and which effects they ask for.

use bytes::Bytes;
use crossterm::event::{KeyCode, KeyModifiers};
use kv_client::wire::Coverage;
use proptest::prelude::*;

use super::*;
use crate::fixture::{self, Standing, app};
use crate::fuzz;
use crate::model::Rule;

pub(super) fn press(app: &mut App, keys: &str) -> Vec<Effect> {
    let press = |key| update(app, Message::Key(Pressed::char(key)));
    let effects = keys.chars().flat_map(press);
    // Pages of the list of conflicts have tests of their own.
    effects.filter(|effect| !matches!(effect, Effect::List { .. })).collect()
}

pub(super) fn enter(app: &mut App) -> Vec<Effect> {
    update(app, Message::Key(Pressed::plain(KeyCode::Enter)))
}

fn escape(app: &mut App) -> Vec<Effect> {
    update(app, Message::Key(Pressed::plain(KeyCode::Esc)))
}

pub(super) fn control(app: &mut App, key: char) -> Vec<Effect> {
    let modifiers = KeyModifiers::CONTROL;
    update(app, Message::Key(Pressed { code: KeyCode::Char(key), modifiers }))
}

pub(super) fn notice(app: &App) -> &str {
    app.notice.as_ref().map_or("", |(text, _)| text)
}

fn done(app: &mut App, id: u64) -> Vec<Effect> {
    let out = Written::Done { context: Bytes::from_static(b"after") };
    update(app, Message::Written { id, out })
}

#[test]
fn a_key_is_typed_and_looked_up() {
    let mut app = app(Standing::Ok);
    assert_eq!(press(&mut app, "/user:7"), []);
    assert_eq!(enter(&mut app), [Effect::Look("user:7".into())]);
    assert_eq!(app.looking, Some("user:7".into()));
    let look = Look { key: "user:7".into(), ..fixture::user() };
    update(&mut app, Message::Looked(Box::new(look)));
    assert_eq!(app.looking, None);
    assert_eq!(app.look().map(|look| look.key.clone()), Some("user:7".into()));
    assert_eq!(app.partition(), Some(50), "the ring points at it");
    press(&mut app, "/hex:00ff");
    assert_eq!(enter(&mut app), [Effect::Look(Bytes::from_static(b"\x00\xff"))]);
    press(&mut app, "/hex:0");
    assert_eq!(enter(&mut app), []);
    assert!(notice(&app).contains("not hexadecimal"));
    press(&mut app, "/");
    assert_eq!(escape(&mut app), []);
    assert_eq!(app.overlay, Overlay::None);
}

#[test]
fn a_conflict_is_resolved_in_three_keys_and_taken_back_in_one() {
    let mut app = app(Standing::Degraded);
    assert!(!app.readonly());
    let effects = press(&mut app, "4ma");
    let value = Bytes::from_static(br#"{"items":["tea","cup","spoon"],"n":2}"#);
    let context = Bytes::from_static(b"\x01\x02\x03\x04context");
    let op = Op { value: Some(value), coverage: Coverage::Seen(context), expires_at_ms: None };
    let key = Bytes::from_static(b"cart:9001");
    assert_eq!(effects, [Effect::Write { id: 0, key: key.clone(), ops: vec![op] }]);
    // Nothing is sent twice, whatever is pressed.
    assert_eq!(press(&mut app, "aau"), []);
    assert!(notice(&app).contains("on its way"));
    assert_eq!(done(&mut app, 0), [Effect::Look(key.clone())]);
    assert!(app.draft.is_none() && notice(&app).contains("stored"));
    let effects = press(&mut app, "u");
    let [Effect::Write { id: 1, key: of, ops }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(of, &key);
    assert_eq!(ops.len(), 2);
    assert_eq!(ops[0].coverage, Coverage::Seen("after".into()));
    assert_eq!(ops[1].coverage, Coverage::Nothing);
    assert_eq!(done(&mut app, 1), [Effect::Look(key)]);
    assert_eq!(press(&mut app, "u"), [], "an undo is not undone");
    assert!(notice(&app).contains("nothing was written"));
}

#[test]
fn keys_that_the_nodes_list_are_looked_up_when_they_are_selected() {
    let mut app = app(Standing::Degraded);
    assert_eq!(app.conflicts().len(), 3, "the one that was looked up is there once");
    assert_eq!(press(&mut app, "4"), [], "it is known");
    let look = |key: &'static str| Effect::Look(Bytes::from_static(key.as_bytes()));
    assert_eq!(press(&mut app, "j"), [look("cart:17")]);
    assert_eq!(press(&mut app, "j"), [], "one at a time");
    let gone = Look { key: "cart:17".into(), ..fixture::user() };
    update(&mut app, Message::Looked(Box::new(gone)));
    assert_eq!(press(&mut app, "k"), [], "its newest value is as new as the list");
    assert_eq!(press(&mut app, "j"), [look("seen:4")]);
    let failed = Look { key: "seen:4".into(), seen: Err("no answer".into()), ..fixture::user() };
    update(&mut app, Message::Looked(Box::new(failed)));
    assert_eq!(app.conflict_row().map(|row| row.key.clone()), Some("seen:4".into()));
    let snapshot = app.snapshot.clone().expect("it has one");
    assert_eq!(update(&mut app, Message::Heard(snapshot)), [look("seen:4")], "it is tried again");
}

#[test]
fn an_undo_that_failed_can_be_tried_again() {
    let mut app = app(Standing::Degraded);
    press(&mut app, "4ma");
    done(&mut app, 0);
    press(&mut app, "u");
    let out = Written::Failed { why: "busy".into(), perhaps: false };
    update(&mut app, Message::Written { id: 1, out });
    assert!(matches!(&press(&mut app, "u")[..], [Effect::Write { id: 2, .. }]));
}

#[test]
fn a_write_that_may_be_stored_says_so_and_is_looked_up() {
    let mut app = app(Standing::Degraded);
    press(&mut app, "4ma");
    let out = Written::Failed { why: "no answer in time".into(), perhaps: true };
    let effects = update(&mut app, Message::Written { id: 0, out });
    assert_eq!(effects, [Effect::Look("cart:9001".into())]);
    assert!(notice(&app).contains("it may be stored"));
    assert!(app.sent.is_empty() && app.draft.is_some());
    assert_eq!(
        update(&mut app, Message::Written { id: 9, out: Written::Done { context: Bytes::new() } }),
        []
    );
}

#[test]
fn rules_are_chosen_picked_and_edited() {
    let mut app = app(Standing::Degraded);
    let rule = |app: &App| app.draft.as_ref().map(|draft| draft.rule.clone());
    press(&mut app, "4m");
    assert_eq!(rule(&app), Some(Rule::Merge));
    press(&mut app, "m");
    assert_eq!(rule(&app), Some(Rule::Latest), "union and max do not decide here");
    press(&mut app, "l");
    enter(&mut app);
    assert_eq!(rule(&app), Some(Rule::Pick(1)));
    press(&mut app, ":resolve max");
    enter(&mut app);
    assert_eq!(rule(&app), Some(Rule::Max));
    assert_eq!(press(&mut app, "a"), []);
    assert!(notice(&app).contains("does not decide"));
    press(&mut app, ":resolve 1");
    enter(&mut app);
    press(&mut app, "e");
    control(&mut app, 'u');
    press(&mut app, "new");
    control(&mut app, 's');
    assert_eq!(rule(&app), Some(Rule::Edit("new".into())));
    assert_eq!(escape(&mut app), [], "the draft is dropped first");
    assert_eq!(rule(&app), None);
}

#[test]
fn a_cluster_elsewhere_is_read_only_unless_it_was_said() {
    let mut app = app(Standing::Degraded);
    if let Some(snapshot) = &mut app.snapshot {
        snapshot.nodes[1].endpoints.rpc = "10.0.0.2:7101".into();
    }
    assert!(app.readonly(), "one member is elsewhere");
    assert_eq!(press(&mut app, "4ma"), []);
    assert!(notice(&app).contains("read-only"));
    assert!(app.draft.is_some(), "what would be sent can be looked at");
    assert_eq!(press(&mut app, "u5r"), []);
    app.options.readonly = Some(false);
    assert!(matches!(&press(&mut app, "4a")[..], [Effect::Write { .. }]));
    app.options = Options { readonly: Some(true), local: true, ..Options::default() };
    assert!(app.readonly());
    for (address, local) in [
        ("127.0.0.1:7101", true),
        ("localhost:7101", true),
        ("[::1]:7101", true),
        ("10.0.0.2:7101", false),
        ("localhost.example.org:1", false),
        ("", false),
    ] {
        assert_eq!(is_loopback(address), local, "{address}");
    }
}

#[test]
fn the_header_says_how_the_terminal_stands() {
    let options = Options::default();
    let mut app = App::new(options, (80, 24));
    let tick = |app: &mut App, now_ms| drop(update(app, Message::Tick { now_ms, unix_ms: 0 }));
    assert_eq!(app.link(), Link::Asking);
    update(&mut app, Message::Heard(Box::new(fixture::well())));
    assert_eq!(app.link(), Link::Live);
    tick(&mut app, 4_000);
    assert_eq!(app.link(), Link::Stale(4_000));
    update(&mut app, Message::Silent { why: "refused".into(), retry_ms: 2_000 });
    assert_eq!(app.link(), Link::Reconnect(2_000));
    tick(&mut app, 5_500);
    assert_eq!(app.link(), Link::Reconnect(500));
    update(&mut app, Message::Silent { why: "refused".into(), retry_ms: 4_000 });
    update(&mut app, Message::Heard(Box::new(fixture::well())));
    assert_eq!(app.link(), Link::Live);
    let texts: Vec<&str> = app.events.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts, ["no answer: refused", "A 1a66 answers"], "said once each");
    press(&mut app, " ");
    assert_eq!(app.link(), Link::Paused);
    update(&mut app, Message::Heard(Box::new(fixture::ill())));
    assert_eq!(app.shown().map(Snapshot::health), Some(crate::model::Health::Healthy));
    press(&mut app, " ");
    assert_eq!(app.shown().map(Snapshot::health), Some(crate::model::Health::Degraded));
}

#[test]
fn figures_are_between_two_answers_of_one_life_of_one_node() {
    let mut app = app(Standing::Degraded);
    assert_eq!(app.operations.now(), Some(18_400));
    assert_eq!((app.p99_us, app.errors), (Some(2_048), 0));
    let mut worse = fixture::ill();
    worse.status.uptime_ms += 1_000;
    for (name, count) in &mut worse.status.figures {
        *count += u64::from(matches!(name.as_str(), "unavailable" | "no_replicas"));
    }
    update(&mut app, Message::Heard(Box::new(worse)));
    assert_eq!((app.p99_us, app.errors), (None, 2), "nobody asked for anything");
    let mut restarted = fixture::ill();
    restarted.status.uptime_ms = 10;
    update(&mut app, Message::Heard(Box::new(restarted)));
    let mut other = fixture::ill();
    other.status.node = fixture::id(2);
    other.status.uptime_ms = u64::MAX;
    update(&mut app, Message::Heard(Box::new(other)));
    assert_eq!(app.operations.last(9).count(), 2, "neither gives a figure");
    assert_eq!(app.errors, 2);
}

#[test]
fn events_are_bounded_and_what_was_dropped_is_counted() {
    let mut app = app(Standing::Ok);
    for at in 0..EVENTS_MAX as u64 {
        let mut ill = fixture::ill();
        // The same again, long after.
        ill.events.iter_mut().for_each(|event| event.unix_ms += at * 60_000);
        update(&mut app, Message::Heard(Box::new(ill)));
    }
    assert_eq!(app.events.len(), EVENTS_MAX);
    assert!(app.events_dropped > 0);
}

#[test]
fn filters_sort_and_escape_lead_back() {
    let mut app = app(Standing::Degraded);
    press(&mut app, "2/down");
    enter(&mut app);
    assert_eq!(app.nodes_shown().len(), 1);
    enter(&mut app);
    assert_eq!((app.tab, app.selected.event_filter.as_str()), (Tab::Events, "C 3a66"));
    assert!(app.events_shown().iter().all(|event| event.text.contains("C 3a66")));
    escape(&mut app);
    assert_eq!(app.selected.event_filter, "");
    press(&mut app, "k");
    assert!(app.events_shown().iter().all(|event| event.kind == EventKind::Member));
    escape(&mut app);
    press(&mut app, "nnn");
    assert_eq!(app.selected.event_node, Some(fixture::id(3)));
    let about = app.events_shown();
    assert!(!about.is_empty());
    assert!(about.iter().all(|event| event.node == Some(fixture::id(3))));
    press(&mut app, "nnn");
    assert_eq!(app.selected.event_node, None, "after the last come all");
    press(&mut app, "n");
    assert_eq!(escape(&mut app), []);
    assert_eq!(app.selected.event_node, None);
    press(&mut app, "2");
    assert_eq!(escape(&mut app), [], "the filter of the nodes goes first");
    let first = |app: &App| app.names.letter(app.nodes_shown()[0].node);
    assert_eq!(first(&app), 'C', "who is down comes first");
    press(&mut app, "s");
    assert_eq!(first(&app), 'A');
    assert_eq!(press(&mut app, "q"), [Effect::Quit]);
}

#[test]
fn the_ring_is_stepped_through_and_around() {
    let mut app = app(Standing::Ok);
    press(&mut app, ":partition 0");
    enter(&mut app);
    assert_eq!(app.partition(), Some(0));
    press(&mut app, "h");
    assert_eq!(app.partition(), Some(255));
    press(&mut app, "l");
    assert_eq!(app.partition(), Some(0));
    escape(&mut app);
    assert_eq!(app.partition(), Some(50), "the key that was looked up");
    press(&mut app, "G");
    assert_eq!(app.partition(), Some(255));
    let effects = press(&mut app, "5r");
    assert_eq!(effects, [Effect::Repair { partition: 255, key: None }]);
}

#[test]
fn the_help_and_the_palette_come_and_go() {
    let mut app = app(Standing::Ok);
    press(&mut app, "?");
    assert_eq!(app.overlay, Overlay::Help(0));
    assert_eq!(press(&mut app, "q"), [], "it closes the help only");
    press(&mut app, "?2");
    assert_eq!((&app.overlay, app.tab), (&Overlay::None, Tab::Nodes));
    press(&mut app, ":q");
    assert_eq!(enter(&mut app), [Effect::Quit]);
    press(&mut app, ":dance");
    assert_eq!(enter(&mut app), []);
    assert!(notice(&app).contains("no command"));
    update(&mut app, Message::Tick { now_ms: 60_000, unix_ms: 0 });
    assert_eq!(notice(&app), "", "notices go");
    assert_eq!(control(&mut app, 'c'), [Effect::Quit]);
    assert_eq!(control(&mut app, 'z'), [Effect::Suspend]);
    assert_eq!(update(&mut app, Message::Continued), [Effect::Redraw, Effect::Ask]);
}

#[test]
fn tabs_turn_around_the_end() {
    assert_eq!(Tab::Scale.step(1), Tab::Ring);
    assert_eq!(Tab::Ring.step(-1), Tab::Scale);
    assert_eq!(Tab::Keys.digit(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order: no panic, and what is kept stays bounded.
    #[test]
    fn any_message_may_come_at_any_time(
        standing in prop::sample::select(Standing::ALL.to_vec()),
        messages in prop::collection::vec(fuzz::message(), 0..200),
    ) {
        let mut app = app(standing);
        let mut writing = None;
        for message in messages {
            let answers = matches!(message, Message::Written { .. });
            for effect in update(&mut app, message) {
                if let Effect::Write { id, ops, .. } = effect {
                    prop_assert!(!ops.is_empty());
                    prop_assert!(writing.is_none_or(|before| before < id), "numbers go up");
                    writing = Some(id);
                }
            }
            prop_assert!(answers || writing.is_none() || app.next_write > 0);
            prop_assert!(app.looks.len() <= LOOKS_MAX && app.events.len() <= EVENTS_MAX);
            prop_assert!(app.sent.len() <= UNDO_MAX);
        }
    }
}
