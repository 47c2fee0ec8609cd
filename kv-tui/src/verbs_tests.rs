//! Verbs from the command line to the bytes that they print, against a node in memory.

use kv_client::{MemoryNode, Secret};
use serde_json::Value;

use super::*;

struct Shell {
    node: MemoryNode,
}

impl Shell {
    async fn new() -> Self {
        Self { node: MemoryNode::start(Secret::default()).await.expect("a port") }
    }

    async fn run(&self, line: &[&str]) -> Result<(Exit, String), Error> {
        Self::run_at(self.node.address(), line).await
    }

    async fn run_at(address: &str, line: &[&str]) -> Result<(Exit, String), Error> {
        let connect = ["kv", "--connect", address];
        let kv = Kv::try_parse_from(connect.iter().chain(line)).expect("a command line");
        let mut printed = Vec::new();
        let output = Output { json: kv.json, terminal: false, to: &mut printed };
        let exit = kv.run(output).await?;
        Ok((exit, String::from_utf8_lossy(&printed).into_owned()))
    }

    async fn prints(&self, line: &[&str]) -> String {
        self.run(line).await.expect("it succeeds").1
    }

    async fn json(&self, line: &[&str]) -> Value {
        let text = self.prints(&[line, &["--json"]].concat()).await;
        serde_json::from_str(&text).expect("one object")
    }
}

#[tokio::test]
async fn a_value_is_printed_as_it_is_and_its_absence_is_an_exit_code() {
    let shell = Shell::new().await;
    assert_eq!(shell.run(&["get", "a"]).await.expect("asked"), (Exit::Error, "no value\n".into()));
    assert!(shell.prints(&["put", "a", "-1"]).await.starts_with("OK "));
    assert_eq!(shell.run(&["get", "a"]).await.expect("asked"), (Exit::Ok, "-1\n".into()));
    shell.prints(&["put", "a", "two"]).await;
    assert_eq!(shell.prints(&["get", "a"]).await, "two\n");
    assert!(shell.prints(&["del", "a"]).await.starts_with("OK "));
    assert_eq!(shell.run(&["get", "a"]).await.expect("asked").0, Exit::Error);
}

#[tokio::test]
async fn siblings_are_shown_with_dots_and_resolved_with_their_context() {
    let shell = Shell::new().await;
    shell.prints(&["put", "a", "one"]).await;
    shell.prints(&["put", "a", "two", "--sibling"]).await;
    let text = shell.prints(&["get", "a", "--context"]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "2 siblings, left by concurrent writes");
    assert!(lines[2].starts_with("two    0.2@0000000000000001/"), "{text}");
    assert!(lines[3].starts_with("one    0.1@"), "{text}");
    let context = lines[4].strip_prefix("context ").expect("the context");
    let seen = shell.json(&["get", "a"]).await;
    assert_eq!(seen["siblings"][0]["value"], "two");
    assert_eq!(seen["siblings"][1]["dot"]["counter"], 1);
    assert_eq!(seen["context"], context);
    shell.prints(&["put", "a", "both", "--context", context]).await;
    assert_eq!(shell.prints(&["get", "a"]).await, "both\n");
    // The old context covers what it showed, not what came since.
    shell.prints(&["del", "a", "--context", context]).await;
    assert_eq!(shell.prints(&["get", "a"]).await, "both\n");
    let error = shell.run(&["put", "b", "x", "--context", context]).await.expect_err("foreign");
    assert_eq!(error.exit(), Exit::Error);
    let error = shell.run(&["put", "b", "x", "--context", "xyz"]).await.expect_err("not hex");
    assert_eq!(error.exit(), Exit::Usage);
}

#[tokio::test]
async fn binary_keys_and_values_go_through_as_hex() {
    let shell = Shell::new().await;
    shell.prints(&["put", "--hex", "00ff", "fe0a"]).await;
    assert_eq!(shell.prints(&["get", "--hex", "00ff"]).await, "fe0a\n");
    let seen = shell.json(&["get", "--hex", "00ff"]).await;
    assert_eq!(
        (&seen["key_hex"], &seen["siblings"][0]["value_hex"]),
        (&"00ff".into(), &"fe0a".into())
    );
    shell.prints(&["put", "--hex", "61", "fe"]).await;
    let seen = shell.json(&["get", "a"]).await;
    assert_eq!((&seen["key"], &seen["siblings"][0]["value_hex"]), (&"a".into(), &"fe".into()));
}

#[tokio::test]
async fn operators_verbs_answer_in_both_forms() {
    let shell = Shell::new().await;
    shell.prints(&["put", "foo", "bar"]).await;
    let (exit, text) = shell.run(&["status"]).await.expect("asked");
    assert_eq!((exit, text.lines().next()), (Exit::Ok, Some("healthy")));
    let status = shell.json(&["status"]).await;
    assert_eq!((&status["health"], &status["partitions"]["full"]), (&"healthy".into(), &16.into()));
    let nodes = shell.json(&["nodes"]).await;
    assert_eq!(nodes["nodes"][0]["state"], "up");
    assert!(shell.prints(&["nodes"]).await.contains("16 (16 first)"));
    assert_eq!(shell.json(&["ring"]).await["partitions"].as_array().map(Vec::len), Some(16));
    assert_eq!(shell.prints(&["ring", "--partitions"]).await.lines().count(), 18);
    assert!(shell.prints(&["aae"]).await.contains("0 trees built, 0 to build"));
    assert_eq!(shell.json(&["aae"]).await["peers"].as_array().map(Vec::len), Some(0));
    assert_eq!(shell.json(&["repair"]).await["partitions"], 16);
    assert_eq!(shell.json(&["repair", "--key", "foo"]).await["partitions"], 1);
    assert!(shell.prints(&["repair", "3"]).await.contains("1 partition compared"));
    let (exit, text) = shell.run(&["repair", "99"]).await.expect("asked");
    assert!(exit == Exit::Error && text.contains("there is no partition 99"), "{text}");
    assert_eq!(shell.prints(&["hints"]).await, "no hints, at most 512.0 MiB on a node\n");
    assert_eq!(shell.json(&["hints"]).await["hints"].as_array().map(Vec::len), Some(0));
    let why = shell.json(&["explain", "foo"]).await;
    assert_eq!(
        (&why["slot"], &why["answers"][0]["versions"][0]["bytes"]),
        (&12_182.into(), &3.into())
    );
    assert!(
        shell.prints(&["explain", "foo"]).await.starts_with("slot 12182, partition 11, token ")
    );
}

#[tokio::test]
async fn what_happened_is_told_or_that_nothing_did() {
    let shell = Shell::new().await;
    assert_eq!(shell.run(&["events"]).await.expect("asked"), (Exit::Ok, String::new()));
    let told = shell.json(&["events", "--warn", "--code", "member"]).await;
    assert_eq!(told["events"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_conflict_is_resolved_by_rule_pick_or_value() {
    let shell = Shell::new().await;
    let two = async || {
        shell.prints(&["put", "n", "7"]).await;
        shell.prints(&["put", "n", "12", "--sibling"]).await;
    };
    assert_eq!(shell.prints(&["conflicts"]).await, "no key has siblings\n");
    two().await;
    let listed = shell.prints(&["conflicts"]).await;
    assert!(listed.starts_with("1 key has siblings\nKEY "), "{listed}");
    let page = shell.json(&["conflicts", "--count", "1"]).await;
    assert_eq!((&page["total"], &page["next"]), (&1.into(), &0.into()));
    let row = &page["conflicts"][0];
    assert_eq!((&row["key"], &row["siblings"]), (&"n".into(), &2.into()));
    let shown = shell.prints(&["conflicts", "resolve", "n", "--dry-run"]).await;
    assert_eq!(shown, "2 siblings by rule max; not written\n12\n");
    let shown = shell.json(&["conflicts", "resolve", "n", "--dry-run", "--rule", "delete"]).await;
    assert_eq!((&shown["value"], &shown["siblings"]), (&Value::Null, &2.into()));
    assert!(shell.prints(&["get", "n"]).await.starts_with("2 siblings"), "nothing was written");
    let error = shell.run(&["conflicts", "resolve", "n", "--rule", "merge"]).await;
    let error = error.expect_err("numbers are no objects");
    assert!(error.exit() == Exit::Error && error.to_string().contains("does not decide"));
    assert!(shell.prints(&["conflicts", "resolve", "n"]).await.starts_with("OK "));
    assert_eq!(shell.prints(&["get", "n"]).await, "12\n");
    let again = shell.run(&["conflicts", "resolve", "n"]).await.expect("asked");
    assert_eq!(again, (Exit::Ok, "no siblings, nothing written\n".into()));
    assert_eq!(shell.json(&["conflicts", "resolve", "n"]).await["dot"], Value::Null);
    two().await;
    shell.prints(&["conflicts", "resolve", "n", "--pick", "2"]).await;
    assert_eq!(shell.prints(&["get", "n"]).await, "7\n", "the second that get shows");
    two().await;
    let error = shell.run(&["conflicts", "resolve", "n", "--pick", "3"]).await;
    assert_eq!(error.expect_err("there are two").exit(), Exit::Usage);
    shell.prints(&["conflicts", "resolve", "n", "--value", "-1"]).await;
    assert_eq!(shell.prints(&["get", "n"]).await, "-1\n");
    two().await;
    shell.prints(&["conflicts", "resolve", "n", "--rule", "delete"]).await;
    assert_eq!(shell.run(&["get", "n"]).await.expect("asked").0, Exit::Error);
}

#[tokio::test]
async fn a_key_is_located_and_a_cluster_examined() {
    let shell = Shell::new().await;
    let text = shell.prints(&["locate", "foo"]).await;
    assert!(text.starts_with("slot 12182, partition 11, token "), "{text}");
    assert!(text.contains("1      0000000000000001  up "), "{text}");
    let place = shell.json(&["locate", "foo"]).await;
    assert_eq!((&place["partition"], &place["replicas"][0]["state"]), (&11.into(), &"up".into()));
    let (exit, text) = shell.run(&["doctor"]).await.expect("asked");
    // One copy of everything: its only node must not be stopped.
    assert_eq!(exit, Exit::Degraded, "{text}");
    assert!(text.contains("do not stop 0000000000000001"), "{text}");
    let lints = shell.json(&["doctor"]).await;
    assert_eq!(lints["lints"][0]["name"], "served");
}

#[tokio::test]
async fn papers_are_made_of_the_help() {
    let shell = Shell::new().await;
    for name in ["bash", "zsh", "fish"] {
        let script = shell.prints(&["completions", name]).await;
        assert!(script.contains("doctor"), "{name}");
        let script = shell.prints(&["completions", name, "--of", "kv-tui"]).await;
        assert!(script.contains("readonly"), "{name}");
    }
    let page = shell.prints(&["man"]).await;
    assert!(page.contains(".TH kv 1") && page.contains("Exit codes"), "{page}");
    assert!(shell.prints(&["man", "--of", "kv-tui"]).await.contains(".TH kv-tui 1"));
}

#[tokio::test]
async fn nobody_there_and_a_wrong_secret_are_told_apart() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let nobody = free.local_addr().expect("bound").to_string();
    drop(free);
    let error = Shell::run_at(&nobody, &["status"]).await.expect_err("nobody there");
    assert_eq!(error.exit(), Exit::Unreachable);
    let guarded = MemoryNode::start(Secret::new("s")).await.expect("a port");
    let error = Shell::run_at(guarded.address(), &["nodes"]).await.expect_err("guarded");
    assert_eq!(error.exit(), Exit::Error);
}

#[test]
fn every_verb_that_prints_an_object_has_its_shape_in_the_help() {
    use clap::CommandFactory as _;
    fn leaves(command: &clap::Command, of: &str, into: &mut Vec<String>) {
        for verb in command.get_subcommands() {
            let name = format!("{of} {}", verb.get_name()).trim_start().to_owned();
            if verb.get_subcommands().next().is_none() {
                into.push(name);
            } else {
                // `kv conflicts` is a verb and has one.
                into.extend((!verb.is_subcommand_required_set()).then(|| name.clone()));
                leaves(verb, &name, into);
            }
        }
    }
    let mut verbs = Vec::new();
    leaves(&Kv::command(), "", &mut verbs);
    let said: Vec<&str> = SHAPES
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_once("  ").or_else(|| line.split_once(" {")))
        .flat_map(|(names, _)| names.split(", "))
        .collect();
    let without = ["tui", "completions", "man"];
    verbs.retain(|verb| !without.contains(&verb.as_str()));
    assert!(verbs.len() > 30, "{verbs:?}");
    for verb in &verbs {
        assert!(said.contains(&verb.as_str()), "{verb} is not among {said:?}");
    }
}

#[tokio::test]
async fn the_terminal_and_resolve_are_verbs_too() {
    let line = ["kv", "tui", "--connect", "h:1", "--once", "ring", "--size", "9x9"];
    let kv = Kv::try_parse_from(line).expect("a command line");
    let Verb::Tui(tui) = &kv.verb else { panic!("{kv:?}") };
    let wanted = ["kv-tui", "--connect", "h:1", "--deadline-ms", "2000", "--once", "ring"];
    assert_eq!(tui.arguments(&kv.connect)[..7], wanted);
    // What stands behind its own options is among them.
    let line = ["kv", "tui", "--once", "ring", "--connect=h:2"];
    let kv = Kv::try_parse_from(line).expect("a command line");
    let Verb::Tui(tui) = &kv.verb else { panic!("{kv:?}") };
    let wanted = ["kv-tui", "--deadline-ms", "2000", "--once", "ring", "--connect=h:2"];
    assert_eq!(tui.arguments(&kv.connect), wanted);
    let shell = Shell::new().await;
    shell.prints(&["put", "n", "7"]).await;
    shell.prints(&["put", "n", "12", "--sibling"]).await;
    assert!(shell.prints(&["resolve", "n", "--rule", "max"]).await.starts_with("OK "));
    assert_eq!(shell.prints(&["get", "n"]).await, "12\n");
}

#[test]
fn command_lines_that_make_no_sense_are_refused() {
    use clap::CommandFactory as _;
    Kv::command().debug_assert();
    for line in [
        &["kv"][..],
        &["kv", "get"],
        &["kv", "put", "a"],
        &["kv", "get", "a", "--r", "0"],
        &["kv", "put", "a", "b", "--context", "00", "--sibling"],
        &["kv", "conflicts", "resolve", "a", "--pick", "1", "--rule", "max"],
        &["kv", "conflicts", "resolve", "a", "--rule", "sometimes"],
    ] {
        assert!(Kv::try_parse_from(line).is_err(), "{line:?}");
    }
}
