//! The runner against a node in memory.

use kv_client::{MemoryNode, Secret};

use super::*;
use crate::app::{App, Options, Tab, update};

fn runner_of(node: &MemoryNode) -> (Runner, mpsc::Receiver<Message>) {
    Runner::new(Connect::to(node.address()), LocalProgram::default())
}

async fn next(told: &mut mpsc::Receiver<Message>) -> Message {
    let wait = tokio::time::timeout(Duration::from_secs(10), told.recv());
    wait.await.expect("in time").expect("it is told")
}

fn values(app: &App) -> Vec<String> {
    let seen = app.look().and_then(|look| look.seen.as_ref().ok()).expect("it was read");
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    seen.siblings.iter().filter_map(|sibling| sibling.value.as_ref().map(text)).collect()
}

/// Gives keys to the model, and what it asks for to the runner, until nothing is under way.
async fn play(app: &mut App, runner: &Runner, told: &mut mpsc::Receiver<Message>, keys: &str) {
    let press = |key| Message::Key(crate::app::Pressed::char(key));
    let mut waiting: Vec<Effect> = keys.chars().flat_map(|key| update(app, press(key))).collect();
    while let Some(effect) = waiting.pop() {
        runner.run(effect);
        waiting.extend(update(app, next(told).await));
    }
}

#[tokio::test]
async fn a_conflict_is_looked_up_resolved_and_taken_back() {
    let node = MemoryNode::start(Secret::default()).await.expect("a port");
    let (runner, mut told) = runner_of(&node);
    let client = runner.links().await.expect("it listens").client;
    client.add_sibling("cart", "[\"tea\"]").await.expect("written");
    client.add_sibling("cart", "[\"cup\"]").await.expect("written");
    let options = Options { readonly: Some(false), ..Options::default() };
    let mut app = App { tab: Tab::Conflicts, ..App::new(options, (120, 40)) };
    update(&mut app, Message::Looked(Box::new(runner.look("cart".into()).await)));
    assert_eq!(values(&app), ["[\"cup\"]", "[\"tea\"]"]);
    play(&mut app, &runner, &mut told, "ma").await;
    assert_eq!(values(&app), ["[\"tea\",\"cup\"]"]);
    assert!(app.conflicts().is_empty());
    // Somebody writes beside it: the undo takes back its own write, and nothing else.
    client.add_sibling("cart", "other").await.expect("written");
    play(&mut app, &runner, &mut told, "u").await;
    assert_eq!(values(&app), ["[\"cup\"]", "[\"tea\"]", "other"]);
}

#[tokio::test]
async fn each_second_a_node_is_asked_and_members_are_learned() {
    let node = MemoryNode::start(Secret::default()).await.expect("a port");
    let (runner, mut told) = runner_of(&node);
    let watching = tokio::spawn(runner.clone().watch());
    let Message::Heard(snapshot) = next(&mut told).await else { panic!("it answers") };
    assert!(snapshot.ring.is_some() && snapshot.hints.is_some() && snapshot.aae.is_some());
    assert!(runner.0.links.lock().await.learned.is_empty(), "the given address is known");
    runner.run(Effect::Ask);
    assert!(matches!(next(&mut told).await, Message::Heard(_)));
    drop(node);
    runner.run(Effect::Ask);
    let Message::Silent { retry_ms, .. } = next(&mut told).await else { panic!("it is gone") };
    assert_eq!(retry_ms, RETRY_MS_MIN);
    watching.abort();
}

#[tokio::test]
async fn repairs_are_told_in_words_and_too_much_at_once_is_refused() {
    let node = MemoryNode::start(Secret::default()).await.expect("a port");
    let (runner, mut told) = runner_of(&node);
    runner.run(Effect::Repair { partition: 3, key: None });
    let Message::Repaired(Ok(text)) = next(&mut told).await else { panic!("it is repaired") };
    assert!(text.starts_with("partition 3: 0 replicas compared"), "{text}");
    runner.run(Effect::Repair { partition: 99, key: None });
    assert!(matches!(next(&mut told).await, Message::Repaired(Err(_))));
    let held = Arc::clone(&runner.0.running).acquire_many_owned(RUNNING_MAX as u32).await;
    let key = Bytes::from_static(b"k");
    let op = Op { value: None, coverage: kv_client::wire::Coverage::Blind, expires_at_ms: None };
    runner.run(Effect::Write { id: 4, key, ops: vec![op] });
    let Message::Written { id: 4, out: Written::Failed { perhaps: false, .. } } =
        next(&mut told).await
    else {
        panic!("it is refused")
    };
    drop(held);
}

#[tokio::test]
async fn what_a_local_program_fails_with_is_told() {
    use crate::app::LocalVerb;
    let node = MemoryNode::start(Secret::default()).await.expect("a port");
    let words = ["sh", "-c", "echo 'n2 is not running' >&2; exit 1"].map(Into::into);
    let (runner, mut told) = Runner::new(Connect::to(node.address()), LocalProgram(words.to_vec()));
    runner.run(Effect::Local { verb: LocalVerb::Kill, node: Some(2) });
    let Message::Acted { verb: LocalVerb::Kill, node: Some(2), out: Err(why) } =
        next(&mut told).await
    else {
        panic!("it is told")
    };
    assert!(why.starts_with("n2 is not running"), "{why}");
}

#[tokio::test]
async fn every_question_about_changes_is_answered_also_when_nobody_is_there() {
    use kv_client::wire::ScaleMode;
    let node = MemoryNode::start(Secret::default()).await.expect("a port");
    let (runner, mut told) = runner_of(&node);
    drop(node);
    let (joins, leaves) = (vec![NodeId(6)], vec![NodeId(7)]);
    runner.run(Effect::Plan { joins: joins.clone(), leaves: leaves.clone() });
    let Message::Planned { joins: of, leaves: others, out: Err(_) } = next(&mut told).await else {
        panic!("it is told")
    };
    assert_eq!((&of, &others), (&joins, &leaves));
    for (effect, about) in [
        (Effect::Change { joins, leaves, after: 1 }, EventKind::Layout),
        (Effect::Abort, EventKind::Layout),
        (Effect::Mode(ScaleMode::Auto), EventKind::Scale),
    ] {
        runner.run(effect);
        let Message::Changed { kind, out: Err(why) } = next(&mut told).await else {
            panic!("it is told")
        };
        assert_eq!(kind, about);
        assert!(!why.contains("nevertheless"), "nothing was sent: {why}");
    }
    runner.run(Effect::List { from: 3 });
    assert!(matches!(next(&mut told).await, Message::Listed { from: 3, out: Err(_) }));
}

#[tokio::test]
async fn nobody_there_is_an_answer_too() {
    let node = MemoryNode::start(Secret::default()).await.expect("a port");
    let (runner, mut told) = runner_of(&node);
    drop(node);
    runner.run(Effect::Look("k".into()));
    let Message::Looked(look) = next(&mut told).await else { panic!("it is told") };
    assert!(look.seen.is_err() && look.explained.is_err());
}
