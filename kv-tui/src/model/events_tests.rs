//! Events from pairs of answers.

use super::*;
use crate::model::tests::three;
use kv_client::wire::NodeState::{Alive, Down, Suspect};
use kv_client::wire::{AaeView, HintQueue, HintsView, LayoutName, LayoutsView};

fn texts(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut names = Names::default();
    names.learn(before);
    names.learn(after);
    let events = between(before, after, &names, 7);
    assert!(events.iter().all(|event| event.unix_ms == 7));
    events
        .iter()
        .map(|event| format!("{} {} {}", event.weight.word(), event.kind.word(), event.text))
        .map(|text| text.replace("000000000000000", ""))
        .collect()
}

fn hints(keys: &[(u64, u64)], silent: &[u64]) -> HintsView {
    let queue = |(on, keys): &(u64, u64)| HintQueue {
        on: NodeId(*on),
        target: NodeId(3),
        keys: *keys,
        ..HintQueue::default()
    };
    let silent = silent.iter().map(|node| NodeId(*node)).collect();
    HintsView { queues: keys.iter().map(queue).collect(), silent, ..HintsView::default() }
}

#[test]
fn nothing_happened_between_two_answers_that_are_the_same() {
    let snapshot = three([Alive, Suspect, Down]);
    assert_eq!(texts(&snapshot, &snapshot), [""; 0]);
}

#[test]
fn members_come_and_go() {
    let before = three([Alive, Alive, Suspect]);
    let mut after = three([Alive, Suspect, Alive]);
    assert_eq!(
        texts(&before, &after),
        ["WARN member B 2 up -> suspect", "INFO member C 3 suspect -> up"]
    );
    after.nodes.pop();
    assert!(texts(&before, &after).contains(&"WARN member C 3 is known no more".to_owned()));
    assert!(texts(&after, &before).contains(&"WARN member C 3 was first heard of, suspect".into()));
}

#[test]
fn layouts_change_and_retire() {
    let mut before = three([Alive; 3]);
    let mut after = before.clone();
    let live = |count| {
        let live = vec![LayoutName::default(); count];
        Some(LayoutsView { live, ..LayoutsView::default() })
    };
    before.layouts = live(1);
    after.layouts = live(2);
    if let Some(ring) = &mut after.ring {
        ring.epoch = 2;
    }
    let told = texts(&before, &after);
    assert_eq!(told[0], "INFO layout the layout changed, epoch 1 -> 2");
    assert_eq!(told[1], "INFO layout 2 layouts are live: the older ones wait for members");
    assert!(texts(&after, &before)[1].contains("every member has finished"));
    let unborn = Snapshot { ring: None, ..before.clone() };
    assert_eq!(texts(&unborn, &before), ["INFO layout the cluster has its first layout, epoch 1"]);
}

#[test]
fn hints_begin_drain_and_end() {
    let with = |keys: &[(u64, u64)], silent: &[u64]| Snapshot {
        hints: Some(hints(keys, silent)),
        ..three([Alive; 3])
    };
    let (none, many, few) = (with(&[], &[]), with(&[(1, 100)], &[]), with(&[(1, 10)], &[]));
    assert_eq!(texts(&none, &many), ["INFO hint A 1 began to keep hints for C 3: 100 so far"]);
    assert_eq!(texts(&many, &few), ["INFO hint hints on A 1 for C 3 drain: 100 -> 10"]);
    assert_eq!(texts(&few, &none), ["INFO hint all hints on A 1 for C 3 are gone, 10 before"]);
    assert_eq!(texts(&few, &with(&[], &[1])), [""; 0], "who is silent did not say so");
}

#[test]
fn exchanges_fail_and_mend() {
    let peer = |mended, failure: &str| AaePeer {
        node: NodeId(2),
        mended,
        failure: failure.to_owned(),
        ..AaePeer::default()
    };
    let with = |peer| Snapshot {
        aae: Some(AaeView { peers: vec![peer], ..AaeView::default() }),
        ..three([Alive; 3])
    };
    let (well, ill) = (with(peer(3, "")), with(peer(8, "timed out")));
    assert_eq!(
        texts(&well, &ill),
        [
            "WARN aae an exchange with B 2 did not end: timed out",
            "INFO aae exchanges with B 2 mended 5 keys"
        ]
    );
    assert_eq!(texts(&ill, &ill), [""; 0]);
}

#[test]
fn another_node_answers_and_a_node_was_restarted() {
    let before = three([Alive; 3]);
    let mut after = before.clone();
    after.status.uptime_ms = 5;
    assert_eq!(texts(&before, &after), ["WARN member A 1 was restarted"]);
    after.status.node = NodeId(2);
    after.status.alerts.push("its own".into());
    assert_eq!(texts(&before, &after), ["WARN link asking B 2 now, A 1 before"]);
    let mut loud = before.clone();
    loud.status.alerts.push("the disk is full".into());
    assert_eq!(texts(&before, &loud), ["WARN alert the disk is full"]);
}

#[test]
fn every_kind_is_explained() {
    use EventKind::{Aae, Alert, Hint, Layout, Link, Member, Write};
    for kind in [Member, Layout, Hint, Aae, Alert, Link, Write] {
        assert!(explain(kind).iter().all(|line| line.len() > 10), "{kind:?}");
    }
}
