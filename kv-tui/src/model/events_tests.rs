//! Events as they are shown.

use super::*;
use crate::model::tests::three;
use kv_client::wire::NodeState::Alive;

fn names() -> Names {
    let mut names = Names::default();
    names.learn(&three([Alive; 3]));
    names
}

fn view(code: &str, on: u64, about: Option<u64>, unix_ms: u64) -> EventView {
    let text = format!("this node: {}", about.map_or(String::new(), |id| NodeId(id).to_string()));
    EventView {
        on: NodeId(on),
        number: unix_ms,
        unix_ms,
        code: code.into(),
        warns: true,
        about: about.map(NodeId),
        text,
    }
}

#[test]
fn what_a_node_noted_is_told_by_short_names() {
    let event = noted(&view("hint.begun", 1, Some(3), 7), &names());
    assert_eq!(event.text, "A 0000000000000001: C 0000000000000003");
    assert_eq!((event.kind, event.weight), (EventKind::Hint, Weight::Warn));
    assert_eq!(event.node, Some(NodeId(1)), "it keeps the hints");
    let table = [
        ("member.down", EventKind::Member, Some(3)),
        ("reach.lost", EventKind::Member, Some(3)),
        ("layout.committed", EventKind::Layout, None),
        ("aae.mended", EventKind::Aae, Some(1)),
        ("data.damaged", EventKind::Aae, Some(1)),
        ("clock.skewed", EventKind::Alert, Some(1)),
        ("something.new", EventKind::Alert, Some(1)),
    ];
    for (code, kind, node) in table {
        let about = (kind == EventKind::Member).then_some(3);
        let event = noted(&view(code, 1, about, 7), &names());
        assert_eq!((event.kind, event.node), (kind, node.map(NodeId)), "{code}");
    }
}

#[test]
fn what_all_nodes_see_is_one_line() {
    let names = names();
    let event = |code, on, about, at| noted(&view(code, on, about, at), &names);
    let down = event("member.down", 1, Some(3), 1_000);
    assert!(down.is_said_by(&event("member.down", 2, Some(3), 9_000)));
    assert!(!down.is_said_by(&event("member.down", 2, Some(3), 30_000)), "once more");
    assert!(!down.is_said_by(&event("member.up", 2, Some(3), 2_000)));
    assert!(!down.is_said_by(&event("member.down", 3, Some(2), 2_000)));
    let kept = event("hint.begun", 1, Some(3), 1_000);
    assert!(!kept.is_said_by(&event("hint.begun", 2, Some(3), 1_000)), "each keeps its own");
}

#[test]
fn the_terminal_says_whom_it_asks() {
    let before = three([Alive; 3]);
    let mut after = before.clone();
    assert_eq!(moved(&before, &after, &names()), None);
    after.status.node = NodeId(2);
    let text = moved(&before, &after, &names()).expect("another");
    assert_eq!(text, "asking B 0000000000000002 now, A 0000000000000001 before");
    after = before.clone();
    after.status.uptime_ms -= 1;
    assert!(moved(&before, &after, &names()).is_some_and(|text| text.ends_with("was restarted")));
}
