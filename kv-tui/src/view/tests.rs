//! Frames of every tab at three sizes in four standings, and properties of all frames.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::app::{Action, Message, Overlay, PromptKind, bindings_for, update};
use crate::fixture::{Standing, app};
use crate::fuzz;

const SIZES: [(u16, u16); 3] = [(120, 40), (80, 24), (60, 15)];

/// All three sizes of a tab in one file, so that they are read, and reviewed, side by side.
fn frames(mut app: App) -> String {
    let frame = |(width, height): (u16, u16)| {
        app.size = (width, height);
        format!("{width}x{height}\n{}", print(&app, width, height))
    };
    SIZES.map(frame).join("\n")
}

fn check(name: &str, app: App) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, frames(app));
    });
}

#[test]
fn every_tab_in_every_standing() {
    for tab in Tab::ALL {
        for standing in Standing::ALL {
            let word = tab.names().0.to_lowercase();
            check(&format!("{word}-{}", standing.word()), App { tab, ..app(standing) });
        }
    }
}

/// Presses keys as a person would.
fn pressed(mut app: App, keys: &str) -> App {
    for key in keys.chars() {
        drop(update(&mut app, Message::Key(crate::app::Pressed::char(key))));
    }
    app
}

#[test]
fn a_draft_is_shown_before_it_is_sent() {
    let app = pressed(app(Standing::Degraded), "4m");
    check("conflicts-draft", app.clone());
    let app = pressed(app, "3D");
    check("keys-draft", app);
}

#[test]
fn a_key_of_the_list_is_being_read() {
    let app = pressed(app(Standing::Degraded), "4j");
    assert_eq!(app.looking, Some("cart:17".into()));
    check("conflicts-unread", app);
}

#[test]
fn overlays_are_drawn_over_the_tab() {
    check("help", pressed(app(Standing::Degraded), "5?"));
    check("palette", pressed(app(Standing::Degraded), ":re"));
    check("find", pressed(app(Standing::Ok), "/user"));
    check("edit", pressed(app(Standing::Ok), "3e"));
}

#[test]
fn nodes_of_a_local_cluster_are_killed_after_a_question() {
    let mut app = app(Standing::Degraded);
    app.options.local_base_port = Some(7_000);
    let app = pressed(app, "2jj");
    check("nodes-local", app.clone());
    check("nodes-kill", pressed(app, "xC"));
}

#[test]
fn the_header_tells_how_long_requests_take_and_how_many_fail() {
    let mut app = app(Standing::Degraded);
    app.snapshot = Some(Box::new(crate::fixture::well()));
    let header = |app: &App, width| print(app, width, 40).lines().next().map(str::to_owned);
    let wide = header(&app, 120).unwrap_or_default();
    assert!(wide.contains("18.4k op/s  p99 <2.0ms  errors 0  hints 0"), "{wide}");
    app.p99_us = Some(u64::MAX);
    app.errors = 7;
    let wide = header(&app, 120).unwrap_or_default();
    assert!(wide.contains("p99 >8s  errors 7"), "{wide}");
    let narrow = header(&app, 80).unwrap_or_default();
    assert!(narrow.contains("errors 7"), "{narrow}");
    app.errors = 0;
    assert!(!header(&app, 80).unwrap_or_default().contains("errors"), "room for what matters");
}

#[test]
fn a_plan_is_shown_before_it_is_committed() {
    let mut app = app(Standing::Ok);
    let (joins, leaves) = (vec![crate::fixture::id(6)], Vec::new());
    let out = Ok(Box::new(crate::fixture::plan()));
    drop(update(&mut app, Message::Planned { joins, leaves, out }));
    check("repair-plan", app);
    check("repair-abort", pressed(crate::fixture::app(Standing::Degraded), "5X1"));
}

#[test]
fn the_ring_is_also_a_list_and_shows_states() {
    check("ring-list", pressed(app(Standing::Degraded), "oz"));
    check("ring-partition", pressed(app(Standing::Degraded), "oll"));
}

#[test]
fn ascii_is_all_there_is_when_it_is_asked_for() {
    for tab in Tab::ALL {
        let mut app = App { tab, ..app(Standing::Degraded) };
        app.options.ascii = true;
        for (width, height) in SIZES {
            let frame = print(&app, width, height);
            assert!(frame.is_ascii(), "{tab:?}\n{frame}");
            assert!(!frame.contains('?') || frame.matches('?').count() == 1, "{frame}");
        }
    }
}

#[test]
fn no_colour_is_left_when_none_is_wanted_and_words_say_it_all() {
    use ratatui::style::Color;
    for plain in [true, false] {
        let mut app = App { tab: Tab::Nodes, ..app(Standing::Degraded) };
        app.options.plain = plain;
        let Ok(mut terminal) = Terminal::new(TestBackend::new(120, 40));
        let Ok(_) = terminal.draw(|frame| draw(frame, &app));
        let cells = terminal.backend().buffer().content();
        let coloured = cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(coloured, !plain);
        let frame = print(&app, 120, 40);
        assert!(frame.contains("○") && frame.contains("down") && frame.contains("suspect"));
    }
}

#[test]
fn what_a_node_or_a_key_says_does_not_reach_the_terminal_raw() {
    let mut app = app(Standing::Degraded);
    let evil = "\x1b[2J\x07";
    if let Some(snapshot) = &mut app.snapshot {
        snapshot.status.alerts.push(evil.into());
        for node in &mut snapshot.nodes {
            node.zone = evil.into();
            node.endpoints.rpc = evil.into();
        }
        for peer in snapshot.aae.iter_mut().flat_map(|aae| &mut aae.peers) {
            peer.failure = evil.into();
        }
        for member in snapshot.layouts.iter_mut().flat_map(|of| &mut of.members) {
            member.waits_for = evil.into();
        }
    }
    for look in &mut app.looks {
        look.key = evil.into();
        for sibling in look.seen.iter_mut().flat_map(|seen| &mut seen.siblings) {
            sibling.value = Some(evil.into());
        }
        if let Ok(explained) = &mut look.explained {
            explained.notes.push(evil.into());
            for answer in &mut explained.replicas {
                answer.found_in = evil.into();
            }
        }
    }
    app.notice = Some((evil.to_owned(), 0));
    app.problem = Some((evil.to_owned(), 0));
    app.events.iter_mut().for_each(|event| event.text = evil.into());
    for tab in Tab::ALL {
        let frame = print(&App { tab, ..app.clone() }, 120, 40);
        assert!(frame.chars().all(|char| char == '\n' || !char.is_control()), "{tab:?}\n{frame}");
    }
}

#[test]
fn a_click_finds_what_was_drawn() {
    let app = App { tab: Tab::Nodes, size: (120, 40), ..app(Standing::Degraded) };
    let frame = print(&app, 120, 40);
    let lines: Vec<&str> = frame.lines().collect();
    let nodes = app.nodes_shown();
    for (at, node) in nodes.iter().enumerate() {
        let label = app.names.label(node.node);
        // The first two lines are the header and the tabs.
        let drawn = |line: &&str| line.contains(&format!("{label}  "));
        let row = lines.iter().skip(2).position(drawn).expect("drawn") + 2;
        assert_eq!(hit(&app, 5, row as u16), Some(Hit::Row(at)), "{label}");
    }
    let tabs = lines[1];
    for tab in Tab::ALL {
        let column = tabs.find(tab.names().0).expect("drawn") as u16;
        assert_eq!(hit(&app, column, 1), Some(Hit::Tab(tab)));
    }
    assert_eq!(hit(&app, 0, 39), None);
}

/// A frame must not keep a person waiting, whatever the cluster. Without optimisation it may take
/// longer; the quickest of some frames is looked at, since the machine may do other things.
#[test]
fn a_frame_of_fifty_nodes_and_ten_thousand_conflicts_is_quick() {
    use std::time::{Duration, Instant};
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 25 } else { 5 });
    let mut snapshot = crate::fixture::ill();
    let one = snapshot.nodes[0].clone();
    let id = |number: u64| kv_client::NodeId(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    snapshot.nodes = (1..=50)
        .map(|number| kv_client::wire::NodeInfo { node: id(number), ..one.clone() })
        .collect();
    if let Some(ring) = &mut snapshot.ring {
        ring.nodes = (1..=50).map(id).collect();
        ring.owners = (0..3 * 1_024).map(|at: u16| at * 7 % 50).collect();
    }
    if let Some(conflicts) = &mut snapshot.conflicts {
        let one = conflicts.rows[0].clone();
        let row = |number: u32| kv_client::wire::Conflict {
            key: format!("cart:{number}").into(),
            ..one.clone()
        };
        (conflicts.rows, conflicts.total) = ((0..10_000).map(row).collect(), 10_000);
    }
    let mut app = app(Standing::Degraded);
    app.size = (200, 60);
    drop(update(&mut app, Message::Heard(Box::new(snapshot))));
    for tab in Tab::ALL {
        app.tab = tab;
        let draw = |_| {
            let began = Instant::now();
            let frame = buffer(&app, 200, 60);
            assert_eq!(frame.area.height, 60);
            began.elapsed()
        };
        let quickest = (0..20).map(draw).min().expect("some");
        println!("{tab:?}: {quickest:?}");
        assert!(quickest < limit, "{tab:?} takes {quickest:?}");
    }
}

#[test]
fn a_large_cluster_is_drawn() {
    let mut app = app(Standing::Degraded);
    if let Some(snapshot) = &mut app.snapshot {
        let some = snapshot.nodes[0].clone();
        snapshot.nodes.resize(300, some);
        if let Some(ring) = &mut snapshot.ring {
            ring.owners = [0, 1, 2].repeat(16_384);
        }
    }
    for tab in Tab::ALL {
        let app = App { tab, ..app.clone() };
        assert_eq!(print(&app, 200, 60).lines().count(), 60);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// No size is too small, and no model is one that can't be drawn.
    #[test]
    fn every_frame_is_drawn(
        width in 1_u16..=200,
        height in 1_u16..=60,
        standing in prop::sample::select(Standing::ALL.to_vec()),
        messages in prop::collection::vec(fuzz::message(), 0..40),
    ) {
        let mut app = app(standing);
        app.size = (width, height);
        for message in messages {
            let resized = matches!(message, Message::Resize(..));
            if !resized {
                drop(update(&mut app, message));
            }
            prop_assert_eq!(print(&app, width, height).lines().count(), usize::from(height));
        }
    }
}

#[test]
fn every_size_is_drawn_with_every_overlay() {
    let overlays = [
        Overlay::None,
        Overlay::Help(3),
        Overlay::Prompt(crate::app::Prompt::new(PromptKind::Command, "re")),
        Overlay::Prompt(crate::app::Prompt::new(PromptKind::Value, "a\nb\nc")),
    ];
    // Every seventh size: all of them take too long. Seven and the number of heights have no
    // divisor in common, so each height is among them; tab, standing and overlay change apart from
    // each other.
    let sizes = (1..=200).flat_map(|width| (1..=60).map(move |height| (width, height)));
    let (mut heights, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for (at, (width, height)) in sizes.step_by(7).enumerate() {
        let (tab, standing, overlay) = (at % 7, at / 7 % 4, at / 28 % 4);
        let mut app = app(Standing::ALL[standing]);
        app.tab = Tab::ALL[tab];
        app.overlay = overlays[overlay].clone();
        app.size = (width, height);
        assert_eq!(print(&app, width, height).lines().count(), usize::from(height));
        heights.insert(height);
        shown.insert((tab, standing, overlay));
    }
    assert_eq!((heights.len(), shown.len()), (60, 7 * 4 * 4));
}

#[test]
fn every_action_is_on_the_help() {
    let help = print(&pressed(app(Standing::Ok), "?"), 120, 60);
    for binding in bindings_for(Tab::Ring).filter(|it| it.action != Action::Suspend) {
        assert!(help.contains(binding.what), "{}", binding.what);
    }
}
