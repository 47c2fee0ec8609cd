//! Each checker passes a sound history and finds what is planted in it.

use super::*;
use crate::sim::history::{Action, EVERY_KEY, History, Outcome};
use crate::sim::run::AUDITOR;

/// A history in which one operation follows the other.
#[derive(Default)]
struct Told(History);

impl Told {
    fn op(mut self, client: usize, key: &str, action: Action, outcome: Outcome) -> Self {
        let begun = self.0.begin(client, 0, key, action);
        self.0.end(begun, outcome, 0);
        self
    }

    fn set(self, key: &str, value: &str) -> Self {
        self.op(0, key, Action::Set(value.into()), Outcome::Acknowledged)
    }

    fn unanswered(self, key: &str, value: &str) -> Self {
        self.op(0, key, Action::Set(value.into()), Outcome::Unknown("cut".into()))
    }

    fn put(self, value: &str, seen: &[&str]) -> Self {
        let seen = seen.iter().map(|seen| (*seen).to_owned()).collect();
        self.op(0, "m", Action::Put { value: value.into(), seen }, Outcome::Acknowledged)
    }

    fn shows(self, key: &str, value: Option<&str>) -> Self {
        self.op(AUDITOR, key, Action::Get, Outcome::Shown(value.map(Into::into)))
    }

    fn shows_all(self, values: &[&str]) -> Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.op(AUDITOR, "m", Action::Siblings, Outcome::AllShown(values))
    }

    fn found(&self) -> Vec<&'static str> {
        let mut found: Vec<_> =
            check_all(self.0.ops()).into_iter().map(|violation| violation.checker).collect();
        found.dedup();
        found
    }
}

fn told() -> Told {
    Told::default()
}

#[test]
fn a_sound_history_passes() {
    let sound = told()
        .set("d", "1")
        .shows("d", Some("1"))
        .set("s", "2")
        .unanswered("s", "3")
        .op(0, "s", Action::Delete, Outcome::Acknowledged)
        .shows("s", None)
        // What was never answered may take effect late.
        .shows("s", Some("3"))
        .put("a", &[])
        .put("b", &[])
        .shows_all(&["a", "b"])
        .put("c", &["a"])
        .shows_all(&["b", "c"]);
    assert_eq!(check_all(sound.0.ops()), []);
}

#[test]
fn a_missing_write_is_found() {
    assert_eq!(told().set("d", "1").shows("d", None).found(), ["lost", "register"]);
    assert_eq!(told().set("d", "1").found(), ["lost"], "nobody could read it");
}

#[test]
fn a_value_from_nowhere_is_found() {
    assert_eq!(told().unanswered("d", "1").shows("d", Some("2")).found(), ["phantom"]);
    let refused = Outcome::Failed("NOREPLICAS".into());
    let ghost = told().op(0, "d", Action::Set("1".into()), refused).shows("d", Some("1"));
    assert_eq!(ghost.found(), ["phantom"]);
}

#[test]
fn a_counter_that_shows_more_than_was_counted_is_found() {
    let count = |told: Told, outcome| told.op(0, "n", Action::Increment, outcome);
    let two = || {
        let one = count(told(), Outcome::Acknowledged);
        count(one, Outcome::Unknown("cut".into()))
    };
    assert_eq!(two().shows("n", Some("damaged 2")).found(), [] as [&str; 0]);
    assert_eq!(two().shows("n", Some("damaged 1")).found(), [] as [&str; 0], "not exact");
    let refused = count(two(), Outcome::Failed("NOREPLICAS".into()));
    assert_eq!(refused.shows("n", Some("damaged 3")).found(), ["phantom"]);
    assert_eq!(two().shows("n", Some("damaged x")).found(), ["phantom"]);
}

#[test]
fn a_stale_read_is_found() {
    let stale = told().set("s", "1").set("s", "2").shows("s", Some("1"));
    assert_eq!(stale.found(), ["register"]);
    let deleted = told().set("s", "1").op(0, "s", Action::Delete, Outcome::Acknowledged);
    assert_eq!(deleted.shows("s", Some("1")).found(), ["register"]);
}

#[test]
fn a_read_that_goes_back_is_found() {
    let back =
        told().set("s", "1").unanswered("s", "2").shows("s", Some("2")).shows("s", Some("1"));
    assert_eq!(back.found(), ["register"]);
}

#[test]
fn lost_and_risen_siblings_are_found() {
    assert_eq!(told().put("a", &[]).put("b", &[]).shows_all(&["b"]).found(), ["siblings"]);
    assert_eq!(told().put("a", &[]).put("b", &["a"]).shows_all(&["a", "b"]).found(), ["siblings"]);
    let deleted = |seen: &[&str]| {
        let seen = seen.iter().map(|seen| (*seen).to_owned()).collect();
        let delete = Action::DeleteSeen { seen };
        told().put("a", &[]).put("b", &[]).op(0, "m", delete, Outcome::Acknowledged)
    };
    assert_eq!(deleted(&["a"]).shows_all(&["b"]).found(), [] as [&str; 0]);
    assert_eq!(deleted(&["a"]).shows_all(&[]).found(), ["siblings"]);
    assert_eq!(deleted(&["a"]).shows_all(&["a", "b"]).found(), ["siblings"]);
}

#[test]
fn a_contested_key_is_one_register_whoever_writes() {
    let set = |told: Told, client, value: &str, outcome| {
        told.op(client, "c", Action::Set(value.into()), outcome)
    };
    let two = || {
        let one = set(told(), 1, "1", Outcome::Acknowledged);
        set(one, 2, "2", Outcome::Acknowledged)
    };
    assert_eq!(two().shows("c", Some("2")).found(), [] as [&str; 0]);
    assert_eq!(two().shows("c", Some("1")).found(), ["register"], "another client's was newer");
    assert_eq!(two().shows("c", None).found(), ["register"], "nobody deleted it");
    let unanswered = || set(two(), 3, "3", Outcome::Unknown("cut".into()));
    assert_eq!(unanswered().shows("c", Some("2")).shows("c", Some("3")).found(), [] as [&str; 0]);
    let back = unanswered().shows("c", Some("3")).shows("c", Some("2"));
    assert_eq!(back.found(), ["register"], "what was shown is there");
    let gone = unanswered().shows("c", Some("3")).shows("c", None);
    assert_eq!(gone.found(), ["register"], "and nobody deleted it");
    let nothing = two().op(1, "c", Action::Delete, Outcome::Nothing);
    assert_eq!(nothing.shows("c", Some("2")).found(), ["register"], "DEL reads too");
}

#[test]
fn a_flush_takes_what_was_there_and_nothing_later() {
    let flushed = |outcome| told().set("d", "1").op(0, EVERY_KEY, Action::Flush, outcome);
    let done = || flushed(Outcome::Acknowledged);
    assert_eq!(done().shows("d", None).found(), [] as [&str; 0]);
    assert_eq!(done().shows("d", Some("1")).found(), ["lost", "register"][1..]);
    let later = done().shows("d", None).set("e", "2");
    assert_eq!(later.shows("e", None).found(), ["lost", "register"]);
    let unknown = || flushed(Outcome::Unknown("cut".into()));
    assert_eq!(unknown().shows("d", Some("1")).shows("d", None).found(), [] as [&str; 0]);
}

#[test]
fn siblings_above_a_flush_are_judged_and_those_below_are_gone() {
    let found = |told: &Told, above: &[&str]| -> Vec<&str> {
        let above_flush = above.iter().map(|value| (*value).to_owned()).collect();
        let rules = Rules { above_flush, ..Rules::default() };
        check_under(told.0.ops(), &rules).into_iter().map(|found| found.checker).collect()
    };
    let flush = |outcome| told().put("a", &[]).op(0, EVERY_KEY, Action::Flush, outcome);
    let unknown = || flush(Outcome::Unknown("cut".into())).put("b", &[]);
    assert_eq!(found(&unknown().shows_all(&[]), &[]), [""; 0], "it may come late");
    assert_eq!(found(&unknown().shows_all(&[]), &["b"]), ["siblings"], "b lies above it");
    assert_eq!(found(&unknown().shows_all(&["a", "b"]), &["b"]), [""; 0]);
    let done = || flush(Outcome::Acknowledged).put("b", &[]);
    assert_eq!(found(&done().shows_all(&["b"]), &[]), [""; 0]);
    assert_eq!(found(&done().shows_all(&[]), &[]), ["siblings"], "b was put after it");
    assert_eq!(found(&done().shows_all(&["a", "b"]), &[]), ["siblings"], "a was flushed");
}

#[test]
fn a_value_that_ends_too_late_or_too_early_is_found() {
    let rules = Rules { skew_ms: 100, skew_ms_healed: 100, epoch_ms: 1_000, ..Rules::default() };
    let read_at = |changes: &[(Action, Outcome)], at_ms: u64, shown: Option<&str>| {
        found_at(&rules, changes, at_ms, shown)
    };
    assert_eq!(read_at(&[], 1_800, Some("v")), [] as [&str; 0]);
    assert_eq!(read_at(&[], 1_800, None), ["expiry"], "too early");
    assert_eq!(read_at(&[], 2_050, Some("v")), [] as [&str; 0], "clocks differ");
    assert_eq!(read_at(&[], 2_150, Some("v")), ["expiry"], "too late");
    let later = |outcome| [(Action::Expire(Some(3_000)), outcome)];
    assert_eq!(read_at(&later(Outcome::Acknowledged), 2_500, None), ["expiry"]);
    assert_eq!(read_at(&later(Outcome::Acknowledged), 2_500, Some("v")), [] as [&str; 0]);
    let unknown = || later(Outcome::Unknown("cut".into()));
    assert_eq!(read_at(&unknown(), 2_500, None), [] as [&str; 0]);
    assert_eq!(read_at(&unknown(), 2_500, Some("v")), [] as [&str; 0]);
    assert_eq!(read_at(&unknown(), 3_500, Some("v")), ["expiry"]);
    let kept = [(Action::Expire(None), Outcome::Acknowledged)];
    assert_eq!(read_at(&kept, 9_000, None), ["expiry"]);
}

#[test]
fn with_fallbacks_counted_any_end_may_be_in_force_and_clocks_are_right_again() {
    let sloppy = Rules {
        sloppy: true,
        skew_ms: 9_000,
        skew_ms_healed: 100,
        epoch_ms: 1_000,
        ..Rules::default()
    };
    let changed = [(Action::Expire(Some(3_000)), Outcome::Acknowledged)];
    let read_at = |at_ms, shown| found_at(&sloppy, &changed, at_ms, shown);
    assert_eq!(read_at(1_800, None), ["expiry"], "before both");
    assert_eq!(read_at(2_500, None), [] as [&str; 0]);
    assert_eq!(read_at(2_500, Some("v")), [] as [&str; 0]);
    assert_eq!(read_at(3_500, Some("v")), ["expiry"], "after both");
}

/// What is found in a value with an end at 2000, so changed, and then so read by the audit.
fn found_at(
    rules: &Rules,
    changes: &[(Action, Outcome)],
    at_ms: u64,
    shown: Option<&str>,
) -> Vec<&'static str> {
    {
        let mut history = History::default();
        let set = Action::SetUntil { value: "v".into(), until_ms: 2_000 };
        let first = [(set, Outcome::Acknowledged)];
        for (action, outcome) in first.iter().chain(changes) {
            let begun = history.begin_at(0, 0, "e", action.clone(), 0);
            history.end(begun, outcome.clone(), 0);
        }
        let at_us = (at_ms - 1_000) * 1_000;
        let begun = history.begin_at(AUDITOR, 0, "e", Action::Get, at_us);
        history.end(begun, Outcome::Shown(shown.map(Into::into)), at_us);
        check_under(history.ops(), rules).iter().map(|found| found.checker).collect()
    }
}

#[test]
fn what_never_ends_is_found() {
    let hung = told().op(0, "d", Action::Set("1".into()), Outcome::Hung).shows("d", None);
    assert_eq!(hung.found(), ["hang"]);
}

#[test]
fn with_fallbacks_counted_only_the_audit_is_bound() {
    let rules = Rules { sloppy: true, ..Rules::default() };
    let stale = told().set("s", "1").set("s", "2").shows("s", Some("1"));
    assert_eq!(check_under(stale.0.ops(), &rules), []);
    let early = told().set("d", "1").op(3, "d", Action::Get, Outcome::Shown(None));
    assert_eq!(check_under(early.shows("d", Some("1")).0.ops(), &rules), []);
    let found = |told: &Told, rules: &Rules| -> Vec<&str> {
        check_under(told.0.ops(), rules).into_iter().map(|found| found.checker).collect()
    };
    let lost = told().set("d", "1").shows("d", None);
    assert_eq!(found(&lost, &rules), ["lost", "register"]);
    let gone = || told().set("s", "1").set("s", "2").shows("s", None);
    assert_eq!(found(&gone(), &rules), ["register"], "nobody deleted it");
    let deleted = told().op(0, "s", Action::Delete, Outcome::Acknowledged).set("s", "1");
    assert_eq!(found(&deleted.shows("s", None), &rules), ["lost"; 0], "two sides of a cut");
    let apart = || told().set("s", "1").set("s", "2").shows("s", Some("1")).shows("s", Some("2"));
    let settled = Rules { settled: true, ..rules.clone() };
    assert_eq!(found(&apart(), &settled), ["register"], "nothing was written in between");
    assert_eq!(found(&apart(), &rules), ["lost"; 0], "it may have been under way");
}
