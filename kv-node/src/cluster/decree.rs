//! What one epoch decides: a change, the layout that it makes, what that follows, who is dead.
//!
//! A decree is the value that ballots are about. Once decided it travels with who voted for it, so
//! that a node which is behind can see for itself that the decree follows what it knows and that a
//! majority of the members of that layout accepted it. Peers of one cluster trust each other not to
//! lie; this is against our own mistakes, and against directories that were restored.
//!
//! ```text
//! decree:  version, change, (epoch, digest) of the layout before, layout, removed ids
//! decided: version, decree, ballot, voters
//! ```
//!
//! Invariant: a removed id is in no later layout, and every later decree names it again.

use bytes::Bytes;
use kv_client::NodeId;
use kv_ring::{LIVE_LAYOUTS_MAX, Layout};
use serde::{Deserialize, Serialize};

use super::wire::Ballot;
use crate::wire::LayoutName;

/// First byte of an encoded decree, and of a decided one.
const FORMAT_VERSION: u8 = 1;

/// Removed ids that a cluster remembers at most; a replacement beyond that is refused.
pub const REMOVED_IDS_MAX: usize = 4_096;

/// What an epoch changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Change {
    /// The cluster began.
    Birth,
    /// `new` takes the places of `old`, which is dead from then on.
    Replace {
        /// The node that is given up.
        old: NodeId,
        /// An empty node.
        new: NodeId,
    },
    /// Members join or leave, or bring more or less than before, and who holds what is planned
    /// anew.
    Reshape,
    /// The change before is called off: who held what before it holds it again.
    Abort,
    /// Each partition is cut in two, and both halves are held by whoever held the whole.
    Split,
    /// A node that holds nothing in the layout before, and that only older ones name, is dead from
    /// then on: nobody waits for it. Nothing else changes.
    GiveUp {
        /// The node that is given up.
        node: NodeId,
    },
}

impl Change {
    /// Whether it may be decided while a transition runs.
    pub fn may_overtake(self) -> bool {
        match self {
            Self::Birth => false,
            Self::Replace { .. } | Self::Abort | Self::GiveUp { .. } => true,
            Self::Reshape | Self::Split => false,
        }
    }

    /// Layouts that may be live before it. The last place is for what lets the others retire: else
    /// a node that is dead, and that only an older layout names, could block all of them for good.
    pub fn live_before_max(self) -> usize {
        match self {
            Self::GiveUp { .. } => LIVE_LAYOUTS_MAX - 1,
            _ => LIVE_LAYOUTS_MAX - 2,
        }
    }
}

/// The value of one epoch's ballots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decree {
    /// What changes.
    pub change: Change,
    /// The layout before; none at the cluster's birth.
    pub follows: Option<LayoutName>,
    /// The layout from now on.
    pub layout: Layout<NodeId>,
    /// Every id that was ever removed, in order.
    pub removed: Vec<NodeId>,
}

/// Why a decree can't be what follows a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadDecree {
    /// It is not a decree of this version.
    Malformed,
    /// It follows another layout than the newest that is known here.
    FollowsAnother,
    /// Its layout is not what its change makes of the layout before.
    NotTheChange,
    /// Fewer than a majority of the layout before voted for it.
    NoMajority,
}

impl std::fmt::Display for BadDecree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a decree of this version",
            Self::FollowsAnother => "it does not follow the newest layout that is known here",
            Self::NotTheChange => "its layout is not what its change makes of the one before",
            Self::NoMajority => "no majority of the members before voted for it",
        })
    }
}

impl std::error::Error for BadDecree {}

#[derive(Serialize, Deserialize)]
struct DecreeBytes {
    change: Change,
    follows: Option<LayoutName>,
    layout: Bytes,
    removed: Vec<NodeId>,
}

impl Decree {
    /// The first layout of a cluster.
    pub fn birth(layout: Layout<NodeId>) -> Self {
        Self { change: Change::Birth, follows: None, layout, removed: Vec::new() }
    }

    /// `new` in the places of `old`, after `before`.
    ///
    /// # Errors
    /// What kv-ring says of the two.
    pub fn replace(
        before: &Layout<NodeId>,
        removed: &[NodeId],
        old: NodeId,
        new: NodeId,
    ) -> Result<Self, kv_ring::Error> {
        let layout = before.replaced(old, new)?;
        let mut removed = removed.to_vec();
        removed.push(old);
        removed.sort_unstable();
        removed.dedup();
        let change = Change::Replace { old, new };
        Ok(Self { change, follows: Some(name(before)), layout, removed })
    }

    /// Other members after `before`, or the same that bring more or less: a planned layout.
    pub fn reshape(before: &Layout<NodeId>, removed: &[NodeId], planned: Layout<NodeId>) -> Self {
        let follows = Some(name(before));
        Self { change: Change::Reshape, follows, layout: planned, removed: removed.to_vec() }
    }

    /// Twice the partitions of `before`, of the same owners; `None` if there is one for each slot
    /// already.
    ///
    /// # Errors
    /// What kv-ring says of it.
    pub fn split(
        before: &Layout<NodeId>,
        removed: &[NodeId],
    ) -> Result<Option<Self>, kv_ring::Error> {
        let Some(layout) = before.doubled()? else { return Ok(None) };
        let follows = Some(name(before));
        Ok(Some(Self { change: Change::Split, follows, layout, removed: removed.to_vec() }))
    }

    /// Back to who held what in `earlier`, which `undone` was to follow. Those of the nodes that
    /// joined with `undone` who are `gone` are removed: nobody waits for them.
    ///
    /// # Errors
    /// What kv-ring says of the two.
    pub fn abort(
        undone: &Layout<NodeId>,
        removed: &[NodeId],
        earlier: &Layout<NodeId>,
        gone: impl Fn(NodeId) -> bool,
    ) -> Result<Self, kv_ring::Error> {
        let epoch = undone.epoch().checked_add(1).ok_or(kv_ring::Error::EpochExhausted)?;
        let layout = earlier.reissued(epoch)?;
        let joined = undone.members().iter().copied().filter(|node| !earlier.contains(*node));
        let mut removed: Vec<NodeId> =
            removed.iter().copied().chain(joined.filter(|node| gone(*node))).collect();
        removed.sort_unstable();
        Ok(Self { change: Change::Abort, follows: Some(name(undone)), layout, removed })
    }

    /// As in `before`, without waiting for `node`, which is no member of it.
    ///
    /// # Errors
    /// It is a member, and holds what nobody would then; or there are no more epochs.
    pub fn give_up(
        before: &Layout<NodeId>,
        removed: &[NodeId],
        node: NodeId,
    ) -> Result<Self, kv_ring::Error> {
        if before.contains(node) {
            return Err(kv_ring::Error::AlreadyAMember);
        }
        let epoch = before.epoch().checked_add(1).ok_or(kv_ring::Error::EpochExhausted)?;
        let layout = before.reissued(epoch)?;
        let mut removed = removed.to_vec();
        removed.push(node);
        removed.sort_unstable();
        let change = Change::GiveUp { node };
        Ok(Self { change, follows: Some(name(before)), layout, removed })
    }

    /// Whether a planned placement may follow `before`. Which of those that may it is was its
    /// proposer's choice: another version of it might choose otherwise.
    fn may_reshape(&self, before: &Layout<NodeId>, removed: &[NodeId]) -> bool {
        self.may_follow(before) && self.removed == removed
    }

    /// Whether going back may follow `before`: nobody is removed who was not there.
    fn may_abort(&self, before: &Layout<NodeId>, removed: &[NodeId]) -> bool {
        let was = |node: &NodeId| removed.contains(node);
        self.may_follow(before)
            && removed.iter().all(|node| self.removed.contains(node))
            && self.removed.iter().all(|node| was(node) || before.contains(*node))
            && self.layout.members().iter().all(|node| !was(node))
    }

    fn may_follow(&self, before: &Layout<NodeId>) -> bool {
        let layout = &self.layout;
        before.epoch().checked_add(1) == Some(layout.epoch())
            && layout.partitions() == before.partitions()
            && layout.replicas() == before.replicas()
    }

    /// Whether it is what its change makes of `before`, where `removed` were removed already.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, before: &Layout<NodeId>, removed: &[NodeId]) -> Result<(), BadDecree> {
        if self.follows != Some(name(before)) {
            return Err(BadDecree::FollowsAnother);
        }
        let fits = match self.change {
            Change::Birth => false,
            Change::Reshape => self.may_reshape(before, removed),
            Change::Abort => self.may_abort(before, removed),
            Change::Split => {
                Self::split(before, removed).is_ok_and(|made| made.as_ref() == Some(self))
            }
            Change::GiveUp { node } if removed.binary_search(&node).is_ok() => false,
            Change::GiveUp { node } => {
                Self::give_up(before, removed, node).is_ok_and(|made| made == *self)
            }
            Change::Replace { new, .. } if removed.binary_search(&new).is_ok() => false,
            Change::Replace { old, new } => {
                Self::replace(before, removed, old, new).is_ok_and(|made| made == *self)
            }
        };
        if fits && self.removed.len() <= REMOVED_IDS_MAX {
            Ok(())
        } else {
            Err(BadDecree::NotTheChange)
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        encode(&DecreeBytes {
            change: self.change,
            follows: self.follows,
            layout: self.layout.encode().into(),
            removed: self.removed.clone(),
        })
    }

    /// Reads one back; `None` for anything that isn't one in this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let DecreeBytes { change, follows, layout, removed } = decode(bytes)?;
        let layout = Layout::decode(&layout).ok()?;
        let ordered = removed.is_sorted_by(|one, other| one < other);
        let sound = ordered
            && removed.len() <= REMOVED_IDS_MAX
            && !removed.iter().any(|node| layout.contains(*node));
        sound.then_some(Self { change, follows, layout, removed })
    }
}

/// A decree with what shows that it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The encoded decree.
    pub decree: Bytes,
    /// The ballot by which it was decided.
    pub ballot: Ballot,
    /// Who accepted it: a majority of the members before; nobody at birth, which all accepted.
    pub voters: Vec<NodeId>,
}

impl Decided {
    /// The first layout of a cluster.
    pub fn birth(layout: Layout<NodeId>) -> Self {
        let decree = Decree::birth(layout).encode();
        Self { decree, ballot: Ballot::default(), voters: Vec::new() }
    }

    /// The decree, if it follows `before` and was decided by its members.
    ///
    /// # Errors
    /// Why it can't be believed.
    pub fn proven(&self, before: &Layout<NodeId>, removed: &[NodeId]) -> Result<Decree, BadDecree> {
        let decree = Decree::decode(&self.decree).ok_or(BadDecree::Malformed)?;
        decree.check(before, removed)?;
        let mut voters = self.voters.clone();
        voters.retain(|node| before.contains(*node));
        voters.sort_unstable();
        voters.dedup();
        let majority = before.members().len() / 2 + 1;
        if voters.len() < majority { Err(BadDecree::NoMajority) } else { Ok(decree) }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads one back; `None` for anything that isn't one in this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }
}

/// A layout as peers name it.
pub fn name(layout: &Layout<NodeId>) -> LayoutName {
    LayoutName { epoch: layout.epoch(), digest: layout.digest() }
}

fn encode(value: &impl Serialize) -> Bytes {
    postcard::to_extend(value, vec![FORMAT_VERSION])
        .expect("serialising to memory doesn't fail")
        .into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (version, body) = bytes.split_first()?;
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    (*version == FORMAT_VERSION && rest.is_empty()).then_some(value)
}

#[cfg(test)]
pub(crate) mod tests {
    use kv_ring::{AutoClaim, NodeSpec, PartitionCount, Topology, Zone};

    use super::*;

    /// A layout of nodes 1 to `nodes`, three copies.
    pub(crate) fn first(nodes: u64) -> Layout<NodeId> {
        let spec = NodeSpec::new(1, Zone::named(""));
        let topology: Topology<NodeId> = (1..=nodes).map(|id| (NodeId(id), spec)).collect();
        let partitions = PartitionCount::new(16).expect("a power of two");
        Layout::first(&topology, partitions, 3, &AutoClaim).expect("enough nodes")
    }

    fn decided(decree: &Decree, voters: impl IntoIterator<Item = u64>) -> Decided {
        let voters = voters.into_iter().map(NodeId).collect();
        Decided { decree: decree.encode(), ballot: Ballot::default(), voters }
    }

    #[test]
    fn bytes_come_back_and_others_do_not() {
        let before = first(5);
        let decree = Decree::replace(&before, &[NodeId(99)], NodeId(2), NodeId(6));
        let decree = decree.expect("node 2 is a member, node 6 is none");
        let bytes = decree.encode();
        assert_eq!(Decree::decode(&bytes).as_ref(), Some(&decree));
        for end in 0..bytes.len() {
            assert_eq!(Decree::decode(&bytes[..end]), None, "cut at {end}");
        }
        let back = Decree { removed: vec![NodeId(6)], ..decree };
        assert_eq!(Decree::decode(&back.encode()), None, "a removed id in the layout");
    }

    #[test]
    fn only_what_a_majority_decided_after_the_newest_is_believed() {
        let before = first(5);
        let next = Decree::replace(&before, &[], NodeId(2), NodeId(6)).expect("a replacement");
        assert_eq!(decided(&next, [1, 2, 3]).proven(&before, &[]), Ok(next.clone()));
        let few = decided(&next, [1, 3, 3, 6]).proven(&before, &[]);
        assert_eq!(few, Err(BadDecree::NoMajority), "one voter twice, and one who has no vote");
        let later = Decree::replace(&next.layout, &next.removed, NodeId(3), NodeId(7));
        let later = decided(&later.expect("a replacement"), 1..=6).proven(&before, &[]);
        assert_eq!(later, Err(BadDecree::FollowsAnother));
        let again = Decree::replace(&before, &[], NodeId(3), NodeId(9)).expect("a replacement");
        let again = decided(&again, 1..=5).proven(&before, &[NodeId(9)]);
        assert_eq!(again, Err(BadDecree::NotTheChange), "a removed id does not come back");
        let stretched = Decree { layout: next.layout.reissued(3).expect("later"), ..next };
        let stretched = decided(&stretched, 1..=5).proven(&before, &[]);
        assert_eq!(stretched, Err(BadDecree::NotTheChange));
    }

    #[test]
    fn a_planned_layout_is_believed_if_it_may_follow() {
        let before = first(3);
        let mut topology = before.topology();
        topology.insert(NodeId(4), NodeSpec::new(1, Zone::named("")));
        let planned = Layout::next(&before, &topology, 3, &AutoClaim).expect("four nodes");
        let next = Decree::reshape(&before, &[NodeId(9)], planned);
        assert_eq!(Decree::decode(&next.encode()).as_ref(), Some(&next));
        let believed = |decree: &Decree| decided(decree, [1, 2]).proven(&before, &[NodeId(9)]);
        assert_eq!(believed(&next), Ok(next.clone()));
        assert!(next.layout.contains(NodeId(4)) && !next.change.may_overtake());
        let jump = Decree { layout: next.layout.reissued(5).expect("later"), ..next.clone() };
        assert_eq!(believed(&jump), Err(BadDecree::NotTheChange));
        let pardon = Decree { removed: Vec::new(), ..next };
        assert_eq!(believed(&pardon), Err(BadDecree::NotTheChange));
    }

    #[test]
    fn a_split_is_believed_if_it_is_the_layout_before_cut_in_two() {
        let before = first(3);
        let made = Decree::split(&before, &[NodeId(9)]).expect("a later epoch");
        let next = made.expect("more slots than partitions");
        assert_eq!(Decree::decode(&next.encode()).as_ref(), Some(&next));
        assert_eq!(next.layout.partitions().count(), before.partitions().count() * 2);
        assert!(!next.change.may_overtake());
        let believed = |decree: &Decree| decided(decree, [1, 2]).proven(&before, &[NodeId(9)]);
        assert_eq!(believed(&next), Ok(next.clone()));
        let pardon = Decree { removed: Vec::new(), ..next.clone() };
        assert_eq!(believed(&pardon), Err(BadDecree::NotTheChange));
        let twice = next.layout.doubled().expect("a later epoch").expect("more slots");
        let twice = Decree { layout: twice, ..next.clone() };
        assert_eq!(believed(&twice), Err(BadDecree::NotTheChange));
        let planned = Decree::reshape(&before, &[NodeId(9)], next.layout);
        assert_eq!(believed(&planned), Err(BadDecree::NotTheChange), "by no other change");
    }

    #[test]
    fn the_bytes_of_a_split_are_pinned() {
        let made = Decree::split(&first(3), &[]).expect("a later epoch");
        let bytes = made.expect("more slots than partitions").encode();
        // Version, change, the layout before (epoch 1), then the layout's own length and format.
        assert_eq!(bytes[..4], [1, 4, 1, 1]);
        let layout = Layout::<NodeId>::decode(&bytes[bytes.len() - 279..bytes.len() - 1]);
        assert!(layout.is_ok_and(|layout| layout.partitions().count() == 32));
    }

    #[test]
    fn giving_up_changes_nothing_but_who_is_waited_for() {
        let before = first(3);
        let removed = [NodeId(9)];
        let next = Decree::give_up(&before, &removed, NodeId(4)).expect("node 4 is no member");
        assert_eq!(Decree::decode(&next.encode()).as_ref(), Some(&next));
        assert_eq!(next.removed, [NodeId(4), NodeId(9)]);
        assert_eq!((next.layout.epoch(), next.layout.topology()), (2, before.topology()));
        assert!(next.change.may_overtake());
        let believed = |decree: &Decree| decided(decree, [1, 2]).proven(&before, &removed);
        assert_eq!(believed(&next), Ok(next.clone()));
        let member = Decree::give_up(&before, &removed, NodeId(3));
        assert_eq!(member, Err(kv_ring::Error::AlreadyAMember), "what it holds is to go on");
        let change = Change::GiveUp { node: NodeId(3) };
        let member = Decree { change, ..next.clone() };
        assert_eq!(believed(&member), Err(BadDecree::NotTheChange));
        let more = Decree { removed: vec![NodeId(4), NodeId(5), NodeId(9)], ..next.clone() };
        assert_eq!(believed(&more), Err(BadDecree::NotTheChange));
        let twice = decided(&next, [1, 2]).proven(&before, &next.removed);
        assert_eq!(twice, Err(BadDecree::NotTheChange), "it was given up before");
    }

    #[test]
    fn calling_off_gives_back_what_was_held() {
        let before = first(3);
        let mut topology = before.topology();
        topology.insert(NodeId(4), NodeSpec::new(1, Zone::named("")));
        topology.insert(NodeId(5), NodeSpec::new(1, Zone::named("")));
        let undone = Layout::next(&before, &topology, 3, &AutoClaim).expect("five nodes");
        let removed = [NodeId(9)];
        let back = Decree::abort(&undone, &removed, &before, |node| node == NodeId(4));
        let back = back.expect("a later epoch");
        assert_eq!(back.removed, [NodeId(4), NodeId(9)], "it is down, and nobody waits for it");
        assert_eq!((back.layout.epoch(), back.layout.topology()), (3, before.topology()));
        assert!(back.change.may_overtake());
        let believed = |decree: &Decree| decided(decree, [1, 2, 3]).proven(&undone, &removed);
        assert_eq!(believed(&back), Ok(back.clone()));
        let stranger = Decree { removed: vec![NodeId(4), NodeId(8), NodeId(9)], ..back.clone() };
        assert_eq!(believed(&stranger), Err(BadDecree::NotTheChange));
        let pardon = Decree { removed: vec![NodeId(4)], ..back };
        assert_eq!(believed(&pardon), Err(BadDecree::NotTheChange));
    }
}
