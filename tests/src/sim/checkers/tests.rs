//! Each checker passes a sound history and finds what is planted in it.

use super::*;
use crate::sim::history::{Action, History, Outcome};
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
    assert_eq!(told().set("d", "1").shows("d", None).found(), ["lost", "order"]);
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
fn a_stale_read_is_found() {
    let stale = told().set("s", "1").set("s", "2").shows("s", Some("1"));
    assert_eq!(stale.found(), ["order"]);
    let deleted = told().set("s", "1").op(0, "s", Action::Delete, Outcome::Acknowledged);
    assert_eq!(deleted.shows("s", Some("1")).found(), ["order"]);
}

#[test]
fn a_read_that_goes_back_is_found() {
    let back =
        told().set("s", "1").unanswered("s", "2").shows("s", Some("2")).shows("s", Some("1"));
    assert_eq!(back.found(), ["order"]);
}

#[test]
fn lost_and_risen_siblings_are_found() {
    assert_eq!(told().put("a", &[]).put("b", &[]).shows_all(&["b"]).found(), ["siblings"]);
    assert_eq!(told().put("a", &[]).put("b", &["a"]).shows_all(&["a", "b"]).found(), ["siblings"]);
}
