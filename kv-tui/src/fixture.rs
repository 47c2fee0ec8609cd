//! Fixed models for tests: a cluster of five, well, ill, empty and out of reach.

mod scale;

use bytes::Bytes;
use kv_client::wire::{
    AaePeer, AaeView, Conflict, ConflictsView, DotName, Endpoints, EventView, Explanation,
    HintQueue, HintState, HintsView, LayoutName, LayoutProgress, LayoutsView, Location, NodeInfo,
    NodeState, NodeStatus, NodeVitals, ReplicaAnswer, RingView, Sibling, VersionName,
};
use kv_client::{ClusterId, NodeId};

use crate::app::{App, Message, Options, update};
use crate::model::{Look, Seen, Snapshot};

pub(crate) use scale::plan;
use scale::{autoscale, hold};

/// 2026-07-03 09:41:08 UTC.
pub(crate) const UNIX_MS: u64 = 1_783_071_668_000;

/// The id of the node with this number.
pub(crate) fn id(number: u64) -> NodeId {
    NodeId(number << 60 | 0x0a66_0000_0000_0000 | number)
}

fn dot(ms_ago: u64, node: u64) -> DotName {
    DotName { time: (UNIX_MS - ms_ago) << 16, node: id(node), tenure: node }
}

fn node(number: u64, state: NodeState) -> NodeInfo {
    let down = state != NodeState::Alive;
    NodeInfo {
        node: id(number),
        state,
        endpoints: Endpoints {
            resp: format!("127.0.0.1:700{number}"),
            rpc: format!("127.0.0.1:710{number}"),
            http: format!("127.0.0.1:720{number}"),
        },
        zone: ["a", "a", "b", "b", "c"].get(number as usize - 1).copied().unwrap_or("z").into(),
        weight: 1,
        partitions: 153,
        first_places: 51,
        call_us: (number > 1).then_some(300 + number * 20),
        queue_ops: if down { 12 } else { 0 },
        unanswered_ms: if down { 14_000 } else { 0 },
        floor_age_ms: Some(61_000),
        read_p95_us: (number > 1).then_some(900 + number),
        phi_hundredths: if down { 612 } else { 21 },
        epoch: 17,
        // One of them has told nothing yet.
        vitals: (number != 4).then(|| NodeVitals {
            started_ms: UNIX_MS - 3_600_000 * number,
            conflicts: number,
            conflicts_are_all: number != 5,
            hint_keys: if number == 1 { 100 } else { 0 },
            hint_bytes: 0,
            ops_per_s: 3_900 + 100 * number,
            memory_bytes: 2 << 30,
            disk_bytes: number << 30,
            events: 10 + number,
            alerts: Some(0),
        }),
    }
}

fn status() -> NodeStatus {
    let figures = [
        ("coordinator_gets", 900_000),
        ("coordinator_sets", 100_000),
        ("sibling_gets", 7),
        ("engine_compactions", 12),
        ("engine_flushes", 40),
        ("engine_tables", 9),
        ("engine_level0_tables", 2),
        ("engine_stalls", 0),
        ("engine_damaged", 0),
        ("indeterminate", 1),
        ("unavailable", 0),
        ("no_replicas", 3),
        ("requests_under_1024_us", 900_000),
        ("requests_under_2048_us", 100_000),
        ("requests_slower", 0),
    ];
    NodeStatus {
        node: id(1),
        cluster: Some(ClusterId(0x5eed)),
        version: "0.1.0".into(),
        uptime_ms: 3_600_000,
        ready: true,
        endpoints: node(1, NodeState::Alive).endpoints,
        layouts: vec![LayoutName { epoch: 17, digest: 7 }],
        engine: "lsm".into(),
        memory_bytes: 2 << 30,
        disk_bytes: 41 << 30,
        rows: Some(1_234_567),
        alerts: Vec::new(),
        figures: figures.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    }
}

fn ring() -> RingView {
    let nodes: Vec<NodeId> = (1..=5).map(id).collect();
    let owners = (0..256_u16).flat_map(|at| {
        let first = at / 3 % 5;
        [first, (first + 1 + at % 2) % 5, (first + 3 + at % 2) % 5]
    });
    RingView { epoch: 17, digest: 7, copies: 3, nodes, owners: owners.collect() }
}

/// Five nodes, all well.
pub(crate) fn well() -> Snapshot {
    let progress = (1..=5).map(|of| LayoutProgress {
        node: id(of),
        seen: 17,
        finished: 17,
        ..LayoutProgress::default()
    });
    let peer = |number: u64| AaePeer {
        node: id(number),
        begins: number.is_multiple_of(2),
        exchanges: 100 + number,
        age_ms: Some(180_000),
        found: number,
        mended: number,
        bytes: 1 << 20,
        last_bytes: 4_096,
        failure: String::new(),
    };
    Snapshot {
        status: status(),
        nodes: (1..=5).map(|of| node(of, NodeState::Alive)).collect(),
        ring: Some(ring()),
        hints: Some(HintsView { hint_bytes_max: 512 << 20, ..HintsView::default() }),
        conflicts: Some(ConflictsView::default()),
        events: Vec::new(),
        layouts: Some(LayoutsView {
            live: vec![LayoutName { epoch: 17, digest: 7 }],
            members: progress.collect(),
            removed: Vec::new(),
        }),
        aae: Some(AaeView {
            trees_built: 153,
            leaves: 1_024,
            rate_per_mille: 800,
            peers: (2..=5).map(peer).collect(),
            ..AaeView::default()
        }),
        autoscale: Some(autoscale()),
    }
}

/// The same when all have told how they fare.
pub(crate) fn told() -> Snapshot {
    let mut told = well();
    told.nodes[3].vitals = node(5, NodeState::Alive).vitals;
    told
}

/// The third node is down, another doubted; hints wait, an exchange failed, a layout is in change.
pub(crate) fn ill() -> Snapshot {
    let mut ill = well();
    ill.status.uptime_ms += 1_000;
    for (name, count) in &mut ill.status.figures {
        *count += match name.as_str() {
            "coordinator_gets" => 18_400,
            "requests_under_1024_us" => 18_000,
            "requests_under_2048_us" => 400,
            _ => 0,
        };
    }
    ill.nodes[2] = node(3, NodeState::Down);
    ill.nodes[4] = NodeInfo { phi_hundredths: 580, ..node(5, NodeState::Suspect) };
    ill.status.alerts.push("epoch 18 can't be finished without 3a66: it is down".into());
    let queue = |on: u64, keys, state| HintQueue {
        on: id(on),
        target: id(3),
        keys,
        bytes: keys * 300,
        age_ms: 13_000,
        state,
    };
    ill.hints = Some(HintsView {
        queues: vec![
            queue(1, 104, HintState::Waiting),
            queue(4, 96, HintState::Replaying),
            queue(5, 12, HintState::BackedOff),
        ],
        hint_bytes_max: 512 << 20,
        silent: vec![id(3)],
    });
    let conflict = |key: &'static str, siblings| Conflict {
        key: Bytes::from_static(key.as_bytes()),
        siblings,
        newest_ms: UNIX_MS - 60_000,
        replicas: 3,
    };
    ill.conflicts = Some(ConflictsView {
        total: 1_204,
        rows: vec![conflict("cart:17", 3), conflict("cart:9001", 2), conflict("seen:4", 2)],
        next: 7 << 48,
        partial: vec![id(4)],
        silent: vec![id(3)],
    });
    let event = |at: u64, code: &str, on, about: Option<u64>, text: String| EventView {
        on: id(on),
        number: at,
        unix_ms: UNIX_MS - 10_000 + at,
        code: code.into(),
        warns: code != "hint.begun",
        about: about.map(id),
        text,
    };
    let suspect = format!("{} does not answer; others are being asked", id(5));
    let down = format!("{} is down: others stand in for it, nothing moves", id(3));
    ill.events = vec![
        event(1, "member.down", 1, Some(3), down.clone()),
        event(2, "member.down", 2, Some(3), down.clone()),
        event(3, "member.down", 4, Some(3), down),
        event(4, "member.suspect", 1, Some(5), suspect),
        event(5, "hint.begun", 4, Some(3), format!("this node began to keep writes for {}", id(3))),
        event(6, "aae.failed", 2, Some(3), format!("an exchange with {} did not end", id(3))),
        event(8, "scale.out-held", 1, None, "6400 op/s a node; but not now: it is down".into()),
        event(7, "clock.skewed", 5, None, "this node's clock is too far off".into()),
    ];
    if let Some(layouts) = &mut ill.layouts {
        layouts.live.push(LayoutName { epoch: 18, digest: 8 });
        let fills = |left: u32, waits_for: String| LayoutProgress {
            begun: 60,
            left,
            bytes: 3 << 30,
            ms: 90_000,
            waits_for,
            ..LayoutProgress::default()
        };
        let at = |of: u64, progress| LayoutProgress { node: id(of), seen: 18, ..progress };
        layouts.members[2].waits_for = "12 partitions to be compared".into();
        layouts.members[3] = at(4, fills(15, "15 partitions to fill".into()));
        layouts.members[4] = at(5, LayoutProgress { finished: 18, ..fills(0, String::new()) });
    }
    ill.autoscale.iter_mut().for_each(hold);
    if let Some(aae) = &mut ill.aae {
        aae.peers[1].failure = "no answer in time".into();
        aae.trees_building = 3;
        aae.filling = 2;
    }
    ill
}

/// A key with two siblings, of which one replica lacks one.
pub(crate) fn cart() -> Look {
    let one = r#"{"items":["tea","spoon"],"n":2}"#;
    let other = r#"{"items":["tea","cup"],"n":2}"#;
    let sibling = |ms_ago, node, value: &'static str| Sibling {
        dot: dot(ms_ago, node),
        value: Some(Bytes::from_static(value.as_bytes())),
        expires_at_ms: None,
    };
    let siblings = vec![sibling(9_869, 4, one), sibling(9_880, 2, other)];
    let name = |sibling: &Sibling| VersionName {
        dot: sibling.dot,
        bytes: sibling.value.as_ref().map(|value| value.len() as u64),
    };
    let both: Vec<VersionName> = siblings.iter().map(name).collect();
    let answer = |node, versions, found_in: &str, us| ReplicaAnswer {
        node: id(node),
        versions,
        found_in: found_in.to_owned(),
        us,
    };
    let replicas = vec![
        answer(2, Ok(both.clone()), "memtable", 410),
        answer(4, Ok(both[..1].to_vec()), "table 118", 520),
        answer(3, Err("no answer in time".into()), "", 300_000),
    ];
    let location = Location {
        slot: 3_217,
        partition: 50,
        token: 0x4cf1_a90b_77e2_d05c,
        replicas: vec![id(2), id(4), id(3)],
        fallbacks: vec![id(5), id(1)],
    };
    let key = Bytes::from_static(b"cart:9001");
    let notes = vec!["one replica did not answer: fallbacks were not asked".to_owned()];
    let explained = Explanation { key: key.clone(), location, replicas, notes };
    let context = Bytes::from_static(b"\x01\x02\x03\x04context");
    Look { key, explained: Ok(explained), seen: Ok(Seen { siblings, context }) }
}

/// A key with one value, the same everywhere.
pub(crate) fn user() -> Look {
    let Look { explained, .. } = cart();
    let mut explained = explained.expect("it has one");
    let key = Bytes::from_static(b"user:42");
    let value = Bytes::from_static(b"ann");
    let sibling = Sibling { dot: dot(60_000, 1), value: Some(value), expires_at_ms: None };
    let name = VersionName { dot: sibling.dot, bytes: Some(3) };
    for answer in &mut explained.replicas {
        answer.versions = Ok(vec![name]);
    }
    explained.key = key.clone();
    explained.notes.clear();
    let seen = Seen { siblings: vec![sibling], context: Bytes::from_static(b"\x09") };
    Look { key, explained: Ok(explained), seen: Ok(seen) }
}

/// How the terminal stands when a frame is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ok,
    Degraded,
    Empty,
    Disconnected,
}

impl Standing {
    pub(crate) const ALL: [Self; 4] = [Self::Ok, Self::Degraded, Self::Empty, Self::Disconnected];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Empty => "empty",
            Self::Disconnected => "disconnected",
        }
    }
}

/// A terminal that stands so, without colours.
pub(crate) fn app(standing: Standing) -> App {
    let options = Options {
        address: "127.0.0.1:7101".into(),
        local: true,
        plain: true,
        ..Options::default()
    };
    let mut app = App::new(options, (120, 40));
    let mut take = |message| drop(update(&mut app, message));
    let tick = |now_ms| Message::Tick { now_ms, unix_ms: UNIX_MS - 10_000 + now_ms };
    take(tick(0));
    match standing {
        Standing::Ok => {
            take(Message::Heard(Box::new(well())));
            take(Message::Looked(Box::new(user())));
        }
        Standing::Degraded => {
            take(Message::Heard(Box::new(well())));
            take(tick(1_000));
            take(Message::Heard(Box::new(ill())));
            take(Message::Looked(Box::new(user())));
            take(Message::Looked(Box::new(cart())));
        }
        Standing::Empty => {
            let unborn = Snapshot {
                status: NodeStatus { layouts: Vec::new(), ready: false, ..status() },
                ..Snapshot::default()
            };
            take(Message::Heard(Box::new(unborn)));
        }
        Standing::Disconnected => {
            take(Message::Heard(Box::new(well())));
            take(tick(5_000));
            let why = "no node could be reached; 127.0.0.1:7101: connection refused".to_owned();
            take(Message::Silent { why, retry_ms: 2_000 });
        }
    }
    app
}
