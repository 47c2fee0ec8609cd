//! Tables for plans and trackers: what goes in, and what must come out, as text (after raft-rs's
//! and pebble's data-driven tests).
//!
//! ```text
//! case <name>                      a new one; what follows belongs to it
//! plan a b c need 2 [/ b c d need 2] [telling g] [fallbacks e f] [sloppy]
//! <input> -> <expected>
//! ```
//!
//! Nodes are letters. A record is written by its live dots, node and time: `a5|b7` are siblings,
//! `a5>b7` was overwritten, `-` is nothing.

use kv_quorum::{
    Actor, Context, Dot, Draft, HybridTime, Mark, Plan, ReadBody, ReadOutcome, ReadReply, ReadStep,
    ReadTracker, Record, WriteOutcome, WriteReply, WriteSet, WriteStep, WriteTracker,
};

const PLANS: &[&str] = &[include_str!("../../testdata/plan/plans.txt")];
const WRITES: &[&str] = &[
    include_str!("../../testdata/write/quorum.txt"),
    include_str!("../../testdata/write/blind.txt"),
    include_str!("../../testdata/write/sloppy.txt"),
    include_str!("../../testdata/write/layouts.txt"),
    include_str!("../../testdata/write/zones.txt"),
];
const READS: &[&str] = &[
    include_str!("../../testdata/read/quorum.txt"),
    include_str!("../../testdata/read/repair.txt"),
    include_str!("../../testdata/read/sloppy.txt"),
    include_str!("../../testdata/read/layouts.txt"),
];

/// Runs every case of the files: `act` gets the words of an input, and says what came out.
fn run<S>(files: &[&str], new: impl Fn(&[&str]) -> S, act: impl Fn(&mut S, &[&str]) -> String) {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for text in files {
        let (mut case, mut state) = ("", None);
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.split_first() {
                None => {}
                Some((first, _)) if first.starts_with('#') => {}
                Some((&"case", _)) => case = line,
                Some((&"plan", plan)) => state = Some(new(plan)),
                Some(_) => {
                    let (input, expected) = line.split_once("->").expect("input -> expected");
                    let words: Vec<&str> = input.split_whitespace().collect();
                    let state = state.as_mut().expect("a plan comes first");
                    let found = act(state, &words);
                    checked += 1;
                    if found != expected.trim() {
                        wrong.push(format!("{case}\n  {line}\n  found: {found}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(checked > 5, "the tables are empty");
}

fn node(word: &str) -> char {
    word.chars().next().expect("a letter")
}

fn parse_plan(words: &[&str]) -> Result<Plan<char>, kv_quorum::Error> {
    let sloppy = words.last() == Some(&"sloppy");
    let words = words.strip_suffix(&["sloppy"]).unwrap_or(words);
    let nodes = |words: Option<&[&str]>| -> Vec<char> {
        words.unwrap_or_default().iter().map(|name| node(name)).collect()
    };
    let mut parts = words.split(|word| *word == "fallbacks");
    let mut primaries = parts.next().unwrap_or_default().split(|word| *word == "telling");
    let fallbacks = nodes(parts.next());
    let sets = primaries.next().unwrap_or_default();
    let told = nodes(primaries.next());
    let mut write_sets = Vec::new();
    for set in sets.split(|word| *word == "/") {
        let mut halves = set.split(|word| *word == "need");
        let nodes = halves.next().unwrap_or_default().iter().map(|n| node(n)).collect();
        let required =
            halves.next().and_then(|need| need.first()).map_or(0, |n| n.parse().expect("n"));
        write_sets.push(WriteSet { nodes, required });
    }
    Plan::new(&write_sets, &fallbacks, sloppy)?.telling(&told)
}

fn dot(word: &str) -> Dot {
    let time = word[1..].parse().expect("a time");
    Dot::new(Actor::new(u64::from(node(word)), 1), HybridTime::from_bits(time))
}

/// `a5`, `a5>b7`, `a5|b7`, `a5>b7|c6`, `-`.
fn record(word: &str) -> Option<Record<Vec<u8>>> {
    let mut whole = Record::new();
    for sibling in word.split('|').filter(|_| word != "-") {
        let mut one = Record::new();
        for write in sibling.split('>') {
            one.mint_blind(dot(write), Draft::string(write.as_bytes().to_vec())).expect("new");
        }
        whole.join(&one);
    }
    (word != "-").then_some(whole)
}

fn show(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "-".to_owned() };
    let record = Record::decode(bytes).expect("our own bytes");
    if record.live().is_empty() {
        return "nothing live".to_owned();
    }
    let dots = record.live().iter().map(|version| show_dot(version.dot));
    dots.collect::<Vec<_>>().join("|")
}

fn show_dot(dot: Dot) -> String {
    let node = u32::try_from(dot.actor.node).ok().and_then(char::from_u32).expect("a letter");
    format!("{node}{}", dot.time.to_bits())
}

fn show_context(context: &Context) -> String {
    let dots = context.vector().iter().map(|(actor, time)| show_dot(Dot::new(actor, time)));
    dots.collect::<Vec<_>>().join(",")
}

fn list(nodes: &[char]) -> String {
    if nodes.is_empty() {
        return "nobody".to_owned();
    }
    nodes.iter().map(char::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn plans() {
    let act = |plan: &mut Result<Plan<char>, kv_quorum::Error>, words: &[&str]| match (plan, words)
    {
        (Err(error), ["result"]) => format!("{error:?}"),
        (Ok(_), ["result"]) => "ok".to_owned(),
        (Ok(plan), ["primaries"]) => list(plan.primaries()),
        (Ok(plan), ["fallbacks"]) => list(plan.fallbacks()),
        (Ok(plan), ["sloppy"]) => plan.is_sloppy().to_string(),
        (Ok(plan), ["sets"]) => {
            let sets = plan.sets().map(|set| format!("{} need {}", list(&set.nodes), set.required));
            sets.collect::<Vec<_>>().join(" / ")
        }
        other => panic!("unknown input {other:?}"),
    };
    run(PLANS, parse_plan, act);
}

fn show_write(step: WriteStep<char>) -> String {
    match step {
        WriteStep::Wait => "wait".to_owned(),
        WriteStep::Contact(nodes) => format!("contact {}", list(&nodes)),
        WriteStep::Remint(coverage) => format!("remint over {}", show_context(&coverage)),
        WriteStep::Done(WriteOutcome::Acknowledged { sloppy: false }) => "acknowledged".to_owned(),
        WriteStep::Done(WriteOutcome::Acknowledged { sloppy: true }) => {
            "acknowledged sloppily".to_owned()
        }
        WriteStep::Done(WriteOutcome::NoReplicas { missing }) => {
            format!("no replicas, missing {}", list(&missing))
        }
        WriteStep::Done(WriteOutcome::Indeterminate { acks, required, missing }) => {
            format!("indeterminate {acks} of {required}, missing {}", list(&missing))
        }
    }
}

#[test]
fn writes() {
    let new = |words: &[&str]| {
        let causal = words.strip_prefix(&["causal"]);
        let plan = parse_plan(causal.unwrap_or(words)).expect("a plan");
        if causal.is_some() { WriteTracker::new(plan) } else { WriteTracker::blind(plan) }
    };
    let act = |tracker: &mut WriteTracker<char>, words: &[&str]| match words {
        ["begin"] => show_write(tracker.begin()),
        ["reminted"] => show_write(tracker.reminted()),
        ["deadline"] => show_write(tracker.on_deadline()),
        ["fail", name] => show_write(tracker.on_failure(node(name))),
        ["refuse", name] => show_write(tracker.on_refusal(node(name))),
        ["unserved"] => list(&tracker.unserved()),
        ["hint", name] => tracker.hint_for(node(name)).map_or_else(|| "none".into(), String::from),
        ["ok", name, how @ ..] => {
            let mut reply = WriteReply::plain(tracker.round());
            for how in how {
                match how.split_once('=') {
                    None if *how == "newcomer" => reply.complete = false,
                    None if *how == "late" => reply.round -= 1,
                    Some(("live", dots)) => {
                        let record = record(dots).expect("a record");
                        reply.uncovered = record.live().iter().map(|version| version.dot).collect();
                        reply.coverage = Some(record.coverage().clone());
                    }
                    _ => panic!("unknown answer {how}"),
                }
            }
            show_write(tracker.on_reply(node(name), reply))
        }
        ["final"] => {
            let last = tracker.final_action();
            let hinted = last.hinted.iter().map(|(by, of)| format!("{by} for {of}"));
            let hinted = hinted.collect::<Vec<_>>().join(" ");
            let hinted = if hinted.is_empty() { "nobody".to_owned() } else { hinted };
            format!("hinted {hinted}, lacking {}", list(&last.lacking))
        }
        other => panic!("unknown input {other:?}"),
    };
    run(WRITES, new, act);
}

fn show_read(step: ReadStep<char, Vec<u8>>) -> String {
    match step {
        ReadStep::Wait => "wait".to_owned(),
        ReadStep::Contact(nodes) => format!("contact {}", list(&nodes)),
        ReadStep::Repair { round, nodes, record } => {
            format!("repair {round}: {} with {}", list(&nodes), show(Some(&record)))
        }
        ReadStep::Done(ReadOutcome::Value { record, sloppy }) => {
            let how = if sloppy { "sloppily " } else { "" };
            format!("{how}value {}", show(record.as_deref()))
        }
        ReadStep::Done(ReadOutcome::Unavailable { replies, required, missing }) => {
            format!("unavailable {replies} of {required}, missing {}", list(&missing))
        }
    }
}

#[test]
fn reads() {
    let new =
        |words: &[&str]| ReadTracker::<char, Vec<u8>>::new(parse_plan(words).expect("a plan"));
    let act = |tracker: &mut ReadTracker<char, Vec<u8>>, words: &[&str]| match words {
        ["begin"] => show_read(tracker.begin()),
        ["deadline"] => show_read(tracker.on_deadline()),
        ["hedge"] => tracker.hedge().map_or_else(|| "nobody".to_owned(), String::from),
        ["avoid", name] => {
            tracker.avoid(node(name));
            "avoided".to_owned()
        }
        ["spare", name] => {
            tracker.spare(node(name));
            "spared".to_owned()
        }
        ["fail", name] => show_read(tracker.on_failure(node(name))),
        ["refuse", name] => show_read(tracker.on_refusal(node(name))),
        ["hint", name] => tracker.hint_for(node(name)).map_or_else(|| "none".into(), String::from),
        ["repaired", name, round] => {
            show_read(tracker.on_repaired(node(name), round.parse().expect("a round")))
        }
        ["offer", what] => {
            tracker.offer(record(what).map(|record| record.to_bytes()));
            "offered".to_owned()
        }
        ["has", name, what, how @ ..] => {
            let body = match (*what, record(if *what == "same" { "-" } else { what })) {
                ("same", _) => ReadBody::Same,
                (_, Some(record)) => ReadBody::Record(record.to_bytes()),
                (_, None) => ReadBody::Absent,
            };
            let mut reply = ReadReply::complete(body);
            for how in how {
                match how.split_once('=') {
                    None if *how == "newcomer" => reply.complete = false,
                    None if *how == "broken" => reply.body = ReadBody::Record(vec![1, 2, 3]),
                    Some(("mark", time)) => {
                        let time = HybridTime::from_bits(time.parse().expect("a time"));
                        reply.mark = Mark::at(time);
                    }
                    _ => panic!("unknown answer {how}"),
                }
            }
            show_read(tracker.on_reply(node(name), reply))
        }
        ["final"] => {
            let tail = tracker.final_action();
            let tail =
                tail.iter().map(|(node, record)| format!("{node} with {}", show(Some(record))));
            let tail = tail.collect::<Vec<_>>().join(", ");
            if tail.is_empty() { "nothing".to_owned() } else { tail }
        }
        other => panic!("unknown input {other:?}"),
    };
    run(READS, new, act);
}
