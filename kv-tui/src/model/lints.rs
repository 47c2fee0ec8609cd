//! What an experienced operator would look at in a cluster, checked one by one, each with the next
//! step. Pure, over one answer; what the answer lacks is `Unknown`, never `Well`.

use std::collections::BTreeSet;

use kv_client::wire::{NodeInfo, NodeState};

use super::{Health, Snapshot, balance_hundredths, is_up, shares, state_word, told};
use crate::text;

/// Milliseconds after which a pair of replicas should have been compared again.
const AAE_AGE_MS_MAX: u64 = 24 * 3_600_000;
/// Milliseconds that a floor may lie behind: floors move within minutes.
const FLOOR_AGE_MS_MAX: u64 = 3_600_000;
/// The largest share over the mean that is no cause to look, in hundredths.
const BALANCE_MAX: usize = 125;
/// Values of one key that concurrent writes leave now and then; more come of clients that write
/// without the context that they read.
const SIBLINGS_MAX: u32 = 10;

/// How a check went, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// As it should be.
    Well,
    /// The answer does not hold what is needed to know.
    Unknown,
    /// An operator should look at it.
    Warn,
    /// Something is not served.
    Bad,
}

impl Finding {
    /// One lower-case word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Unknown => "unknown",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Its name, stable for scripts.
    pub name: &'static str,
    /// How it went.
    pub finding: Finding,
    /// What was found.
    pub what: String,
    /// What to do about it; empty where it is well.
    pub fix: &'static str,
}

/// All checks, in a fixed order.
pub fn lints(snapshot: &Snapshot) -> Vec<Lint> {
    vec![
        served(snapshot),
        members(snapshot),
        risk(snapshot),
        alerts(snapshot),
        layouts(snapshot),
        hints(snapshot),
        siblings(snapshot),
        aae(snapshot),
        floors(snapshot),
        zones(snapshot),
        balance(snapshot),
    ]
}

fn lint(name: &'static str, finding: Finding, what: String, fix: &'static str) -> Lint {
    let fix = if finding == Finding::Well { "" } else { fix };
    Lint { name, finding, what, fix }
}

fn served(snapshot: &Snapshot) -> Lint {
    let counts = snapshot.partition_counts();
    let (none, total) = (counts.no_quorum, counts.total());
    if snapshot.health() == Health::NoQuorum {
        let what = if none > 0 {
            format!("{none} of {total} partitions have no majority of their replicas up")
        } else {
            "the asked node does not serve".to_owned()
        };
        return lint("served", Finding::Bad, what, "bring nodes back: kv nodes shows which");
    }
    lint("served", Finding::Well, format!("all {total} partitions have a majority up"), "")
}

fn members(snapshot: &Snapshot) -> Lint {
    let ill: Vec<String> = snapshot
        .members()
        .filter(|node| node.state != NodeState::Alive)
        .map(|node| format!("{} is {}", node.node, state_word(node.state)))
        .collect();
    if ill.is_empty() {
        let (up, _) = snapshot.members_up();
        return lint("members", Finding::Well, format!("all {up} members are up"), "");
    }
    let down = |node: &NodeInfo| node.state != NodeState::Alive && !is_drained(node);
    let fix = if snapshot.members().any(down) {
        "restart it, or kv cluster replace OLD NEW if its disk is gone"
    } else {
        "start it again when it was stopped, or kv node drain --undo"
    };
    lint("members", Finding::Warn, ill.join(", "), fix)
}

fn is_drained(node: &NodeInfo) -> bool {
    node.state == NodeState::Draining
}

fn risk(snapshot: &Snapshot) -> Lint {
    let up = |node: &&NodeInfo| node.state == NodeState::Alive;
    let needed: Vec<String> = snapshot
        .members()
        .filter(up)
        .filter(|node| snapshot.lost_without(node.node) > 0)
        .map(|node| node.node.to_string())
        .collect();
    if needed.is_empty() {
        let what = "any one member can be stopped".to_owned();
        return lint("quorum-risk", Finding::Well, what, "");
    }
    let what = format!("do not stop {}", needed.join(", "));
    lint("quorum-risk", Finding::Warn, what, "bring the members that are down back first")
}

fn alerts(snapshot: &Snapshot) -> Lint {
    let mut alerts = snapshot.status.alerts.clone();
    alerts.extend(snapshot.alerted().map(|(node, count)| told(node, count)));
    if !alerts.is_empty() {
        return lint(
            "alerts",
            Finding::Warn,
            alerts.join("; "),
            "as the alert says; docs name each",
        );
    }
    let asked = snapshot.status.node;
    let silent = |node: &&NodeInfo| {
        let told = node.node == asked || node.vitals.is_some_and(|vitals| vitals.alerts.is_some());
        is_up(node.state) && !told
    };
    match snapshot.members().filter(silent).count() {
        0 => lint("alerts", Finding::Well, "no member that is up needs anything".to_owned(), ""),
        count => {
            let what = format!("{count} members that are up have not told how they fare");
            lint("alerts", Finding::Unknown, what, "ask again in a while, or each: kv status")
        }
    }
}

fn layouts(snapshot: &Snapshot) -> Lint {
    let Some(layouts) = &snapshot.layouts else { return unknown("layouts") };
    let waiting: Vec<String> = layouts
        .members
        .iter()
        .filter(|member| !member.waits_for.is_empty())
        .map(|member| format!("{} waits for {}", member.node, member.waits_for))
        .collect();
    match (layouts.live.len(), waiting.is_empty()) {
        (0 | 1, true) => lint("layouts", Finding::Well, "nothing is in change".to_owned(), ""),
        (count, _) => {
            let waiting = waiting.join("; ");
            let what = format!("{count} layouts are live; {waiting}");
            lint("layouts", Finding::Warn, what, "wait, or kv cluster status shows for whom")
        }
    }
}

fn hints(snapshot: &Snapshot) -> Lint {
    let Some(hints) = &snapshot.hints else { return unknown("hints") };
    let holders: BTreeSet<_> = hints.queues.iter().map(|queue| queue.on).collect();
    let bytes = |on| {
        let queues = hints.queues.iter().filter(|queue| queue.on == on);
        queues.fold(0_u64, |sum, queue| sum.saturating_add(queue.bytes))
    };
    let most = holders.into_iter().map(bytes).max().unwrap_or(0);
    // Four fifths, without what a product could overflow.
    if most > hints.hint_bytes_max / 5 * 4 {
        let (most, limit) = (text::size(most), text::size(hints.hint_bytes_max));
        let what = format!("a node keeps {most} of at most {limit}");
        let fix = "bring the target back: a full log refuses, and kv repair must mend";
        return lint("hints", Finding::Warn, what, fix);
    }
    let waiting = snapshot.hints_waiting().unwrap_or(0);
    if !hints.silent.is_empty() {
        let count = hints.silent.len();
        let what = format!("{waiting} wait; not told by all: {count} did not answer");
        return lint("hints", Finding::Unknown, what, "ask again when they are up");
    }
    lint("hints", Finding::Well, format!("{waiting} wait"), "")
}

fn siblings(snapshot: &Snapshot) -> Lint {
    let Some(conflicts) = &snapshot.conflicts else { return unknown("siblings") };
    let total = conflicts.total;
    let worst = conflicts.rows.iter().max_by_key(|row| row.siblings);
    if let Some(worst) = worst.filter(|row| row.siblings > SIBLINGS_MAX) {
        let key = text::shown(&worst.key, 60);
        let what = format!("{key} has {} values; {total} keys have more than one", worst.siblings);
        let fix = "kv conflicts resolve KEY, and clients that write with the context they read";
        return lint("siblings", Finding::Warn, what, fix);
    }
    let quiet = conflicts.partial.len() + conflicts.silent.len();
    if quiet > 0 {
        let what = format!("{total} keys have several values; {quiet} members did not tell all");
        return lint("siblings", Finding::Unknown, what, "ask again in a while: kv conflicts");
    }
    lint("siblings", Finding::Well, format!("{total} keys have several values"), "")
}

fn aae(snapshot: &Snapshot) -> Lint {
    let Some(aae) = &snapshot.aae else { return unknown("anti-entropy") };
    let failed: Vec<String> = aae
        .peers
        .iter()
        .filter(|peer| !peer.failure.is_empty())
        .map(|peer| format!("with {}: {}", peer.node, peer.failure))
        .collect();
    if !failed.is_empty() {
        let what = format!("exchanges did not end {}", failed.join("; "));
        return lint("anti-entropy", Finding::Warn, what, "they are tried again; kv repair now");
    }
    let old = |age_ms: Option<u64>| age_ms.is_some_and(|age_ms| age_ms > AAE_AGE_MS_MAX);
    let count = aae.peers.iter().filter(|peer| old(peer.age_ms)).count();
    if count > 0 {
        let what = format!("{count} peers were not compared with for a day");
        return lint("anti-entropy", Finding::Warn, what, "kv repair");
    }
    lint("anti-entropy", Finding::Well, "exchanges end".to_owned(), "")
}

fn floors(snapshot: &Snapshot) -> Lint {
    let behind: Vec<String> = snapshot
        .members()
        .filter(|node| node.floor_age_ms.is_some_and(|age_ms| age_ms > FLOOR_AGE_MS_MAX))
        .map(|node| node.node.to_string())
        .collect();
    if behind.is_empty() {
        return lint("floors", Finding::Well, "no member holds collection back".to_owned(), "");
    }
    let what = format!("{} hold collection back: deletes are not forgotten", behind.join(", "));
    lint("floors", Finding::Warn, what, "bring them back, or replace them")
}

fn zones(snapshot: &Snapshot) -> Lint {
    let zone = |id| snapshot.node(id).map_or("", |node| node.zone.as_str());
    let all: BTreeSet<&str> = snapshot.members().map(|node| node.zone.as_str()).collect();
    let Some(ring) = snapshot.ring.as_ref().filter(|ring| ring.copies > 1) else {
        return unknown("zones");
    };
    if all.len() < 2 {
        return lint("zones", Finding::Well, "there is one zone".to_owned(), "");
    }
    let alone = |partition: &usize| {
        let zones: BTreeSet<&str> = ring.owners_of(*partition).map(zone).collect();
        zones.len() < 2
    };
    let count = (0..ring.partitions()).filter(alone).count();
    if count == 0 {
        return lint("zones", Finding::Well, "every partition is in several zones".to_owned(), "");
    }
    let what = format!("{count} partitions have all replicas in one zone");
    lint("zones", Finding::Warn, what, "give each zone as much weight as the others")
}

fn balance(snapshot: &Snapshot) -> Lint {
    let shares = snapshot.ring.as_ref().map(shares).unwrap_or_default();
    let Some(hundredths) = balance_hundredths(&shares) else { return unknown("balance") };
    let what = format!("{}.{:02} max over mean", hundredths / 100, hundredths % 100);
    let finding = if hundredths > BALANCE_MAX { Finding::Warn } else { Finding::Well };
    lint("balance", finding, what, "weights differ, or the zones do: kv ring")
}

fn unknown(name: &'static str) -> Lint {
    let what = "the asked node did not tell".to_owned();
    lint(name, Finding::Unknown, what, "ask another: --connect")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use kv_client::wire::NodeState::Down;

    fn finding(snapshot: &Snapshot, name: &str) -> Finding {
        lints(snapshot).iter().find(|lint| lint.name == name).expect("it is checked").finding
    }

    #[test]
    fn a_cluster_that_is_well_passes_every_check() {
        for lint in lints(&fixture::told()) {
            assert_eq!(lint.finding, Finding::Well, "{lint:?}");
            assert!(lint.fix.is_empty());
        }
    }

    #[test]
    fn an_ill_one_is_told_what_to_do() {
        let ill = fixture::ill();
        for name in ["members", "quorum-risk", "alerts", "layouts", "anti-entropy"] {
            assert_eq!(finding(&ill, name), Finding::Warn, "{name}");
        }
        assert_eq!(finding(&ill, "served"), Finding::Well, "a suspect counts as up");
        assert_eq!(finding(&ill, "hints"), Finding::Unknown, "one did not say");
        assert_eq!(finding(&ill, "siblings"), Finding::Unknown, "one did not say");
        let fixes = lints(&ill).into_iter().filter(|lint| lint.finding != Finding::Well);
        assert!(fixes.clone().count() > 4 && fixes.into_iter().all(|lint| !lint.fix.is_empty()));
    }

    #[test]
    fn alerts_of_others_are_known_or_not_known_yet() {
        assert_eq!(finding(&fixture::well(), "alerts"), Finding::Unknown, "one told nothing yet");
        let mut snapshot = fixture::told();
        let vitals = snapshot.nodes[1].vitals.as_mut().expect("it told some");
        vitals.alerts = Some(2);
        let lints = lints(&snapshot);
        let lint = lints.iter().find(|lint| lint.name == "alerts").expect("it is checked");
        assert_eq!(lint.finding, Finding::Warn);
        assert!(
            lint.what.ends_with("has 2 alerts: kv --connect 127.0.0.1:7102 status"),
            "{lint:?}"
        );
    }

    #[test]
    fn each_bound_is_a_bound() {
        let mut snapshot = fixture::well();
        snapshot.nodes[0].floor_age_ms = Some(FLOOR_AGE_MS_MAX + 1);
        snapshot.nodes.iter_mut().take(4).for_each(|node| node.zone = "a".into());
        if let Some(aae) = &mut snapshot.aae {
            aae.peers[0].age_ms = Some(AAE_AGE_MS_MAX + 1);
        }
        if let Some(hints) = &mut snapshot.hints {
            hints.queues = fixture::ill().hints.expect("it has some").queues;
            hints.hint_bytes_max = 35_000;
        }
        if let Some(conflicts) = &mut snapshot.conflicts {
            conflicts.rows = fixture::ill().conflicts.expect("it has some").rows;
            conflicts.rows[1].siblings = SIBLINGS_MAX;
        }
        assert_eq!(finding(&snapshot, "siblings"), Finding::Well, "now and then there are some");
        if let Some(conflicts) = &mut snapshot.conflicts {
            conflicts.rows[1].siblings += 1;
        }
        for name in ["floors", "zones", "anti-entropy", "hints", "siblings"] {
            assert_eq!(finding(&snapshot, name), Finding::Warn, "{name}");
        }
        if let Some(ring) = &mut snapshot.ring {
            ring.owners.iter_mut().for_each(|owner| *owner %= 2);
        }
        assert_eq!(finding(&snapshot, "balance"), Finding::Warn);
        snapshot.nodes.iter_mut().for_each(|node| node.state = Down);
        assert_eq!(finding(&snapshot, "served"), Finding::Bad);
        let told_nothing = Snapshot { hints: None, aae: None, layouts: None, ..fixture::well() };
        let told_nothing = Snapshot { conflicts: None, ..told_nothing };
        for name in ["hints", "anti-entropy", "layouts", "siblings"] {
            assert_eq!(finding(&told_nothing, name), Finding::Unknown, "{name}");
        }
    }
}
