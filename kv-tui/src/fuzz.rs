//! Random messages for property tests.

use bytes::Bytes;
use crossterm::event::{KeyCode, KeyModifiers};
use kv_client::wire::{Conflict, ConflictsView, MembersPlan, NodeState};
use proptest::prelude::*;

use crate::app::{LocalVerb, Message, Pressed, Wheel, Written};
use crate::fixture;
use crate::model::{EventKind, Look, Seen, Snapshot};

fn key() -> impl Strategy<Value = Message> {
    let code = prop_oneof![
        6 => "[a-zA-Z0-9:/? ]".prop_map(|text| KeyCode::Char(text.chars().next().unwrap_or(' '))),
        1 => any::<char>().prop_map(KeyCode::Char),
        4 => prop::sample::select(vec![
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Left,
            KeyCode::Right,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::Backspace,
            KeyCode::Delete,
            KeyCode::F(5),
        ]),
    ];
    let modifiers = prop_oneof![
        5 => Just(KeyModifiers::NONE),
        1 => Just(KeyModifiers::CONTROL),
        1 => Just(KeyModifiers::ALT),
        1 => Just(KeyModifiers::SHIFT),
    ];
    (code, modifiers).prop_map(|(code, modifiers)| Message::Key(Pressed { code, modifiers }))
}

/// Clusters that do not fit together: nodes missing, rings that name strangers, no answers.
fn snapshot() -> impl Strategy<Value = Snapshot> {
    let state = prop::sample::select(vec![
        NodeState::Alive,
        NodeState::Suspect,
        NodeState::Down,
        NodeState::Left,
        NodeState::Draining,
    ]);
    let states = prop::collection::vec(state, 0..5);
    (states, any::<[bool; 5]>(), any::<u64>(), any::<u16>(), any::<u8>()).prop_map(
        |(states, has, figure, owner, copies)| {
            let mut snapshot = if has[0] { fixture::ill() } else { fixture::well() };
            snapshot.nodes.truncate(states.len());
            for (node, state) in snapshot.nodes.iter_mut().zip(states) {
                node.state = state;
                node.call_us = has[1].then_some(figure);
                node.phi_hundredths = owner.into();
            }
            snapshot.status.uptime_ms = figure;
            snapshot.status.figures.iter_mut().for_each(|(_, value)| *value ^= figure);
            if let Some(ring) = &mut snapshot.ring {
                ring.owners.resize(usize::from(owner) % 2_000, owner);
                ring.copies = copies;
            }
            if let Some(hints) = &mut snapshot.hints {
                hints.queues.iter_mut().for_each(|queue| queue.keys = figure);
            }
            if !has[2] {
                snapshot.ring = None;
            }
            if !has[3] {
                snapshot.aae = None;
                snapshot.layouts = None;
            }
            if !has[4] {
                snapshot.hints = None;
            }
            snapshot
        },
    )
}

fn look() -> impl Strategy<Value = Look> {
    let values = prop::collection::vec(
        prop_oneof![
            Just(None),
            "[0-9]{1,30}".prop_map(|text| Some(Bytes::from(text))),
            "\\{\"[a-z]{1,3}\":[0-9]{1,3}\\}".prop_map(|text| Some(Bytes::from(text))),
            prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Some(Bytes::from(bytes))),
        ],
        0..4,
    );
    (values, prop::collection::vec(any::<u8>(), 0..20), any::<[bool; 2]>()).prop_map(
        |(values, key, has)| {
            let mut look = fixture::cart();
            look.key = key.into();
            let old = look.seen.clone().unwrap_or_default().siblings;
            let siblings = values.into_iter().enumerate().map(|(at, value)| {
                let mut sibling = old[at % old.len()].clone();
                sibling.dot.time += at as u64;
                sibling.value = value;
                sibling
            });
            let siblings = siblings.collect();
            look.seen = Ok(Seen { siblings, context: Bytes::from_static(b"c") });
            if !has[0] {
                look.explained = Err("not now".into());
            }
            if !has[1] {
                look.seen = Err("nor now".into());
            }
            look
        },
    )
}

/// Anything that may come, at any time.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        12 => key(),
        2 => (any::<u32>(), any::<u64>()).prop_map(|(now_ms, unix_ms)| Message::Tick {
            now_ms: now_ms.into(),
            unix_ms: unix_ms >> 8,
        }),
        1 => (0_u16..220, 0_u16..80).prop_map(|(x, y)| Message::Mouse(Wheel::Click(x, y))),
        1 => prop::sample::select(vec![Wheel::Up, Wheel::Down]).prop_map(Message::Mouse),
        1 => ".{0,20}".prop_map(Message::Paste),
        1 => (1_u16..=200, 1_u16..=60).prop_map(|(x, y)| Message::Resize(x, y)),
        2 => snapshot().prop_map(|snapshot| Message::Heard(Box::new(snapshot))),
        1 => any::<u64>().prop_map(|retry_ms| Message::Silent { why: "gone".into(), retry_ms }),
        1 => (0_u64..3, 0_u64..3, 0_u32..300).prop_map(|(from, next, rows)| {
            let row = |at: u32| Conflict {
                key: format!("k{at}").into(),
                siblings: 2,
                newest_ms: 1,
                replicas: 3,
            };
            let rows = (0..rows).map(row).collect();
            Message::Listed { from, out: Ok(ConflictsView { rows, next, ..Default::default() }) }
        }),
        3 => look().prop_map(|look| Message::Looked(Box::new(look))),
        1 => (0_u64..4).prop_map(|id| {
            Message::Written { id, out: Written::Done { context: Bytes::from_static(b"d") } }
        }),
        1 => (0_u64..4, any::<bool>()).prop_map(|(id, perhaps)| {
            Message::Written { id, out: Written::Failed { why: "no".into(), perhaps } }
        }),
        1 => Just(Message::Repaired(Err("no".into()))),
        1 => prop::collection::vec(any::<u32>(), 0..4).prop_map(|steps| Message::Planned {
            joins: vec![fixture::id(6)],
            leaves: Vec::new(),
            out: Ok(Box::new(MembersPlan { steps, ..fixture::plan() })),
        }),
        1 => Just(Message::Changed { kind: EventKind::Layout, out: Err("no".into()) }),
        1 => (any::<Option<u16>>(), any::<bool>()).prop_map(|(node, well)| {
            let out = if well { Ok(()) } else { Err("no".into()) };
            Message::Acted { verb: LocalVerb::Cut, node, out }
        }),
        1 => Just(Message::Continued),
    ]
}
