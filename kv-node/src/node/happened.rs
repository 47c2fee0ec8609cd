//! What happened, from what is different: how a node stood a moment ago and how it stands now, put
//! into words.
//!
//! Nothing on the paths of requests notes events. A loop looks a few times in a second at numbers
//! that are kept anyway, and `between` says what their differences mean. What came and went between
//! two looks is not seen; counts show it all the same.
//!
//! Invariant: `between` is pure, and of two equal standings nothing happened.

use std::collections::{BTreeMap, BTreeSet};

use kv_client::NodeId;

use crate::cluster::view::Liveness;
use crate::events::Happened;

/// How a node stands, as far as operators would hear of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The other members that it knows.
    pub(super) members: BTreeMap<NodeId, Liveness>,
    /// Those that do not answer this node, whatever membership believes.
    pub(super) unreachable: BTreeSet<NodeId>,
    pub(super) epoch: u64,
    /// Live layouts.
    pub(super) live: usize,
    pub(super) removed: BTreeSet<NodeId>,
    pub(super) serves: bool,
    /// Whether the others refuse this node's directory.
    pub(super) refused: bool,
    /// Keys of which hints are kept, by target.
    pub(super) hints: BTreeMap<NodeId, u64>,
    /// Keys mended by exchanges with each peer, and why the last exchange did not end.
    pub(super) exchanges: BTreeMap<NodeId, (u64, Option<String>)>,
    /// Ranges that were found damaged.
    pub(super) damaged: u64,
    /// Partitions that lost something and are to be filled.
    pub(super) filling: u64,
    /// Tenures begun because this node was shown writes of its own that it does not hold.
    pub(super) forgot: u64,
    pub(super) poisoned: Option<String>,
    /// Whether its clock is too far from a majority's.
    pub(super) skewed: bool,
    /// The flush mark in force, milliseconds since 1970.
    pub(super) flushed_ms: u64,
    /// Members that hold collection back.
    pub(super) holding_back: BTreeSet<NodeId>,
    /// Keys with siblings that this node answers for.
    pub(super) conflicts: u64,
}

/// What is told, in order.
struct Told(Vec<Happened>);

impl Told {
    fn good(&mut self, code: &'static str, about: Option<NodeId>, text: String) {
        self.0.push(Happened { code, warns: false, about, text });
    }

    fn bad(&mut self, code: &'static str, about: Option<NodeId>, text: String) {
        self.0.push(Happened { code, warns: true, about, text });
    }
}

/// What happened between two looks.
pub(super) fn between(before: &Standing, after: &Standing) -> Vec<Happened> {
    let mut told = Told(Vec::new());
    members(before, after, &mut told);
    layouts(before, after, &mut told);
    hints(before, after, &mut told);
    exchanges(before, after, &mut told);
    data(before, after, &mut told);
    cluster(before, after, &mut told);
    told.0
}

fn members(before: &Standing, after: &Standing, told: &mut Told) {
    for (node, now) in &after.members {
        let was = before.members.get(node);
        if was == Some(now) {
            continue;
        }
        let about = Some(*node);
        match (was, now) {
            (None, Liveness::Up) => {
                told.good("member.new", about, format!("{node} was heard of, and is up"));
            }
            (_, Liveness::Up) => told.good("member.up", about, format!("{node} is up")),
            (_, Liveness::Suspect) => {
                let text = format!("{node} does not answer; others are being asked");
                told.bad("member.suspect", about, text);
            }
            (_, Liveness::Down) => {
                let text = format!("{node} is down: others stand in for it, nothing moves");
                told.bad("member.down", about, text);
            }
            (_, Liveness::Left) => {
                told.bad("member.left", about, format!("{node} was stopped, and said so"));
            }
        }
    }
    for node in before.members.keys().filter(|node| !after.members.contains_key(node)) {
        told.bad("member.forgotten", Some(*node), format!("{node} is known no more"));
    }
    // What membership says as well needs no second line.
    let is_up = |node: &NodeId| after.members.get(node) == Some(&Liveness::Up);
    for node in after.unreachable.difference(&before.unreachable).filter(|node| is_up(node)) {
        let text = format!("{node} does not answer this node, though membership has it up");
        told.bad("reach.lost", Some(*node), text);
    }
    let was_up = |node: &NodeId| before.members.get(node) == Some(&Liveness::Up);
    let back = before.unreachable.difference(&after.unreachable);
    for node in back.filter(|node| was_up(node) && is_up(node)) {
        told.good("reach.back", Some(*node), format!("{node} answers this node again"));
    }
}

fn layouts(before: &Standing, after: &Standing, told: &mut Told) {
    let (was, is) = (before.epoch, after.epoch);
    if is > was {
        let text = match was {
            0 => format!("this node knows the layout, epoch {is}"),
            _ => format!("a layout was committed, epoch {is} after {was}"),
        };
        told.good("layout.committed", None, text);
    }
    if after.live > 1 && before.live <= 1 {
        let text = format!("{} layouts are live: the older wait for members", after.live);
        told.good("layout.moving", None, text);
    } else if after.live == 1 && before.live > 1 {
        let text = "one layout is live: every member has finished".to_owned();
        told.good("layout.settled", None, text);
    }
    for node in after.removed.difference(&before.removed) {
        told.good("member.removed", Some(*node), format!("{node} was replaced, for good"));
    }
}

fn hints(before: &Standing, after: &Standing, told: &mut Told) {
    for (target, keys) in &after.hints {
        if *keys > 0 && before.hints.get(target).is_none_or(|was| *was == 0) {
            let text = format!("this node began to keep writes for {target}");
            told.good("hint.begun", Some(*target), text);
        }
    }
    for (target, was) in before.hints.iter().filter(|(_, keys)| **keys > 0) {
        if after.hints.get(target).is_none_or(|keys| *keys == 0) {
            let text = format!("what was kept for {target} was handed over, the last {was} keys");
            told.good("hint.drained", Some(*target), text);
        }
    }
}

fn exchanges(before: &Standing, after: &Standing, told: &mut Told) {
    for (peer, (mended, failure)) in &after.exchanges {
        let (was, failed) = before.exchanges.get(peer).cloned().unwrap_or_default();
        let more = mended.saturating_sub(was);
        if more > 0 {
            let text = format!("an exchange with {peer} mended {more} keys");
            told.good("aae.mended", Some(*peer), text);
        }
        if let (Some(why), None) = (failure, failed) {
            let text = format!("an exchange with {peer} did not end: {why}");
            told.bad("aae.failed", Some(*peer), text);
        }
    }
}

fn data(before: &Standing, after: &Standing, told: &mut Told) {
    let damaged = after.damaged.saturating_sub(before.damaged);
    if damaged > 0 {
        let text = format!("{damaged} ranges of stored keys are damaged and no longer served");
        told.bad("data.damaged", None, text);
    }
    if after.filling > before.filling {
        let text = format!(
            "{} partitions lack something and are filled from others; until then they do not \
             count for reads",
            after.filling
        );
        told.bad("data.filling", None, text);
    } else if after.filling == 0 && before.filling > 0 {
        told.good("data.filled", None, "every partition here is whole".into());
    }
    if after.forgot > before.forgot {
        let text = "this node was shown writes of its own that it does not hold, and began a new \
                    tenure: look at what became of its directory";
        told.bad("tenure.begun", None, text.into());
    }
    match (&before.poisoned, &after.poisoned) {
        (None, Some(why)) => {
            told.bad("engine.poisoned", None, format!("the storage takes no more writes: {why}"));
        }
        (Some(_), None) => told.good("engine.sound", None, "the storage takes writes".into()),
        _ => {}
    }
    // Before it served, it did not know of the marks that it had.
    if after.flushed_ms > before.flushed_ms && before.serves {
        told.good("data.flushed", None, "all keys were flushed".into());
    }
    match (before.conflicts, after.conflicts) {
        (0, 1..) => {
            let text = format!("{} keys have siblings: concurrent writes", after.conflicts);
            told.good("siblings.some", None, text);
        }
        (1.., 0) => told.good("siblings.none", None, "no key here has siblings".into()),
        _ => {}
    }
}

fn cluster(before: &Standing, after: &Standing, told: &mut Told) {
    if after.serves && !before.serves {
        told.good("node.serves", None, "this node serves requests".into());
    }
    if after.refused && !before.refused {
        let text = "the others refuse this node: its directory is an old copy, or runs twice";
        told.bad("node.refused", None, text.into());
    }
    match (before.skewed, after.skewed) {
        (false, true) => {
            let text = "this node's clock is too far from a majority's: it mints nothing";
            told.bad("clock.skewed", None, text.into());
        }
        (true, false) => {
            told.good("clock.right", None, "this node's clock is near a majority's".into());
        }
        _ => {}
    }
    for node in after.holding_back.difference(&before.holding_back) {
        let text = format!("{node} holds collection back: nothing deleted is forgotten anywhere");
        told.bad("collection.held", Some(*node), text);
    }
    for node in before.holding_back.difference(&after.holding_back) {
        let text = format!("{node} holds collection back no more");
        told.good("collection.freed", Some(*node), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(before: &Standing, after: &Standing) -> Vec<&'static str> {
        between(before, after).into_iter().map(|happened| happened.code).collect()
    }

    #[test]
    fn each_difference_is_told_and_told_back() {
        let node = NodeId(2);
        let well = Standing {
            members: BTreeMap::from([(node, Liveness::Up)]),
            epoch: 3,
            live: 1,
            serves: true,
            exchanges: BTreeMap::from([(node, (4, None))]),
            ..Standing::default()
        };
        type Change = fn(&mut Standing);
        let table: [(&[&str], &[&str], Change); 13] = [
            (&["member.suspect"], &["member.up"], |it| {
                it.members.insert(NodeId(2), Liveness::Suspect);
            }),
            (&["member.down"], &["member.up"], |it| {
                it.members.insert(NodeId(2), Liveness::Down);
                it.unreachable.insert(NodeId(2));
            }),
            (&["member.new"], &["member.forgotten"], |it| {
                it.members.insert(NodeId(7), Liveness::Up);
            }),
            (&["reach.lost"], &["reach.back"], |it| {
                it.unreachable.insert(NodeId(2));
            }),
            (&["layout.committed", "layout.moving"], &["layout.settled"], |it| {
                (it.epoch, it.live) = (4, 2);
            }),
            (&["hint.begun"], &["hint.drained"], |it| {
                it.hints.insert(NodeId(2), 12);
            }),
            (&["aae.mended"], &[], |it| {
                it.exchanges.insert(NodeId(2), (9, None));
            }),
            (&["aae.failed"], &[], |it| {
                it.exchanges.insert(NodeId(2), (4, Some("no answer".into())));
            }),
            (&["data.damaged", "data.filling"], &["data.filled"], |it| {
                (it.damaged, it.filling) = (1, 3);
            }),
            (&["engine.poisoned"], &["engine.sound"], |it| it.poisoned = Some("full".into())),
            (&["siblings.some"], &["siblings.none"], |it| it.conflicts = 5),
            (&["clock.skewed"], &["clock.right"], |it| it.skewed = true),
            (&["collection.held"], &["collection.freed"], |it| {
                it.holding_back.insert(NodeId(2));
            }),
        ];
        for (there, back, change) in table {
            let mut ill = well.clone();
            change(&mut ill);
            assert_eq!(codes(&well, &ill), there);
            assert_eq!(codes(&ill, &ill), [""; 0], "nothing happened");
            assert_eq!(codes(&ill, &well), back, "and back from {there:?}");
        }
    }

    #[test]
    fn a_start_is_told() {
        let born = Standing { epoch: 1, live: 1, serves: true, ..Standing::default() };
        assert_eq!(codes(&Standing::default(), &born), ["layout.committed", "node.serves"]);
        let mut refused = born.clone();
        refused.refused = true;
        refused.forgot = 1;
        refused.flushed_ms = 9;
        refused.removed.insert(NodeId(4));
        let wanted = ["member.removed", "tenure.begun", "data.flushed", "node.refused"];
        assert_eq!(codes(&born, &refused), wanted);
    }
}
