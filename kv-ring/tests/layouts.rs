//! Layouts as values: their bytes, changes by name, preference lists, histories.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: the helpers are not test functions by themselves"
)]

use std::collections::BTreeSet;

use kv_ring::{
    AutoClaim, Claim, ClaimRequest, Error, FastClaim, FlowClaim, History, LIVE_LAYOUTS_MAX, Layout,
    Move, NodeSpec, Partition, PartitionCount, Plan, Slot, Topology, Zone,
};
use proptest::prelude::*;
use twox_hash::XxHash3_64;

fn count(partitions: u32) -> PartitionCount {
    PartitionCount::new(partitions).unwrap()
}

/// Nodes 0.. of weight 1, dealt to so many zones in turn.
fn cluster(nodes: u32, zones: u64, partitions: u32, copies: usize) -> Layout<u32> {
    let spec = |node: u32| NodeSpec::new(1, Zone::new(u64::from(node) % zones));
    let topology = (0..nodes).map(|node| (node, spec(node))).collect();
    Layout::first(&topology, count(partitions), copies, &AutoClaim).unwrap()
}

/// A chooser that answers what it was told to.
struct Fixed(&'static [u16]);

impl Claim for Fixed {
    fn claim(&self, _: &ClaimRequest<'_>) -> Result<Vec<u16>, Error> {
        Ok(self.0.to_vec())
    }
}

fn fixture() -> Layout<u64> {
    let topology: Topology<u64> = [
        (0x0102_0304_0506_0708, NodeSpec::new(1, Zone::new(0))),
        (0x1112_1314_1516_1718, NodeSpec::new(4, Zone::named("north"))),
        (0xf1f2_f3f4_f5f6_f7f8, NodeSpec::new(0, Zone::new(1))),
    ]
    .into_iter()
    .collect();
    Layout::first(&topology, count(4), 2, &Fixed(&[0, 1, 1, 0, 0, 1, 1, 0])).unwrap()
}

const FIXTURE: &str = include_str!("fixtures/layout-v1.hex");

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::chars)
        .filter_map(|c| c.to_digit(16))
        .map(|digit| u8::try_from(digit).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn version_1_of_the_format_is_pinned() {
    let bytes = unhex(FIXTURE);
    assert_eq!(fixture().encode(), bytes);
    assert_eq!(Layout::decode(&bytes), Ok(fixture()));
    assert_eq!(bytes[bytes.len() - 8..], fixture().digest().to_be_bytes());
}

#[test]
fn choosers_answer_the_same_on_every_machine() {
    let specs = (0..7_u32).map(|node| (node, NodeSpec::new(1 + node % 3, Zone::new(3))));
    let topology = specs.collect();
    let digest = |claim: &dyn Claim| {
        let first = Layout::first(&topology, PartitionCount::DEFAULT, 3, claim).unwrap();
        Layout::next(&first, &topology, 2, claim).unwrap().digest()
    };
    assert_eq!((digest(&FlowClaim), digest(&FastClaim)), (FLOW_DIGEST, FAST_DIGEST));
}

const FLOW_DIGEST: u64 = 0xd19c_8d84_e86f_8ef4;
const FAST_DIGEST: u64 = 0xb76a_b0ae_ecf2_fd15;

/// The bytes with the right digest at their end.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 8;
    let digest = XxHash3_64::oneshot(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest.to_be_bytes());
    bytes
}

#[test]
fn damage_is_noticed() {
    let bytes = fixture().encode();
    for end in 0..bytes.len() {
        assert!(Layout::<u64>::decode(&bytes[..end]).is_err(), "cut to {end}");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(Layout::<u64>::decode(&damaged).is_err(), "byte {at}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    let (expected, actual) = (bytes.len(), longer.len());
    assert_eq!(Layout::<u64>::decode(&longer), Err(Error::Length { expected, actual }));
}

#[test]
fn hostile_bytes_with_a_good_digest_are_refused() {
    let bytes = fixture().encode();
    let decode = |at: usize, value: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        Layout::<u64>::decode(&sealed(changed)).map(|layout| layout.epoch())
    };
    let owners = 18 + 3 * 20;
    assert_eq!(decode(0, b"RDB0"), Err(Error::Magic));
    assert_eq!(decode(4, &[2]), Err(Error::Version(2)));
    assert_eq!(decode(5, &[15]), Err(Error::PartitionCount(1 << 15)));
    assert_eq!(decode(5, &[255]), Err(Error::PartitionCount(0)));
    assert_eq!(decode(6, &[0]), Err(Error::Replicas(0)));
    assert_eq!(decode(6, &[17]), Err(Error::Replicas(17)));
    assert_eq!(decode(7, &[1]), Err(Error::Malformed("reserved byte")));
    assert_eq!(decode(8, &[0; 8]), Err(Error::Malformed("epoch")));
    assert!(matches!(decode(16, &[0xff, 0xff]), Err(Error::TooManyNodes { .. })));
    assert!(matches!(decode(16, &[0x10, 0]), Err(Error::Length { .. })));
    assert_eq!(decode(18, &[0x22]), Err(Error::Malformed("members")), "out of order");
    assert_eq!(decode(owners, &[0, 1]), Err(Error::Malformed("owners")), "twice");
    assert_eq!(decode(owners, &[0, 2]), Err(Error::Malformed("owners")), "drained");
    assert_eq!(decode(owners, &[0, 3]), Err(Error::Malformed("owners")), "no member");
    assert_eq!(decode(8, &9_u64.to_be_bytes()), Ok(9), "a good change is taken");
    let narrow = Layout::<u32>::decode(&bytes).map(|layout| layout.epoch());
    assert_eq!(narrow, Err(Error::Malformed("members")), "an identity that does not fit");
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        prop_assert!(Layout::<u64>::decode(&noise).is_err());
        let mut bytes = fixture().encode();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let bytes = sealed(bytes);
        if let Ok(layout) = Layout::<u64>::decode(&bytes) {
            prop_assert_eq!(layout.encode(), bytes, "one layout has one encoding");
        }
    }

    #[test]
    fn preference_lists_name_each_member_once(
        nodes in 1_u32..40,
        zones in 1_u64..6,
        copies in 1_usize..5,
        partition in 0_u16..64,
    ) {
        let layout = cluster(nodes, zones, 64, copies.min(nodes as usize));
        let partition = count(64).nth(partition).unwrap();
        let list = layout.preference(partition);
        prop_assert_eq!(list.primaries(), layout.owners(partition));
        let all: Vec<u32> = list.iter().collect();
        prop_assert_eq!(all.len(), nodes as usize);
        prop_assert_eq!(all.iter().copied().collect::<BTreeSet<_>>().len(), nodes as usize);
        // Every prefix of the list is spread over zones as evenly as their nodes allow.
        let within = |node: u32, zone| u64::from(node) % zones == zone;
        let zone_nodes = |zone| (0..nodes).filter(|&node| within(node, zone)).count();
        for length in copies..=all.len() {
            let prefix = &all[..length];
            let held = |zone| prefix.iter().filter(|&&node| within(node, zone)).count();
            let most = (0..zones).map(held).max().unwrap_or(0);
            for zone in (0..zones).filter(|&zone| held(zone) < zone_nodes(zone)) {
                prop_assert!(held(zone) + 1 >= most, "{:?} of {} zones", prefix, zones);
            }
        }
    }
}

#[test]
fn fallbacks_of_a_dead_node_are_spread_and_drained_nodes_are_last() {
    let mut topology = cluster(8, 1, 1, 3).topology();
    topology.insert(8, NodeSpec::new(0, Zone::default()));
    let layout = Layout::first(&topology, PartitionCount::DEFAULT, 3, &FlowClaim).unwrap();
    let mut stand_ins: Vec<u32> = Vec::new();
    for (partition, _) in layout.held_by(0) {
        let fallbacks: Vec<u32> = layout.preference(partition).fallbacks().collect();
        assert_eq!(fallbacks.last(), Some(&8));
        stand_ins.push(fallbacks[0]);
    }
    for node in 1..8 {
        let times = stand_ins.iter().filter(|&&other| other == node).count();
        let even = stand_ins.len() / 7;
        assert!((even / 2..=even * 2).contains(&times), "{node} stands in {times} times");
    }
}

#[test]
fn lookups_agree() {
    let layout = cluster(5, 1, 1024, 3);
    for slot in Slot::all().step_by(11) {
        let partition = layout.partitions().of(slot);
        assert_eq!(layout.owners_of(slot), layout.owners(partition));
        assert!(layout.owners(partition).iter().all(|&node| layout.owns(node, partition)));
    }
    assert!(layout.owners(Partition::ALL).is_empty(), "its parts have different owners");
    let held: usize = layout.members().iter().map(|&node| layout.held_by(node).count()).sum();
    assert_eq!(held, 3 * 1024);
}

#[test]
fn a_replaced_node_hands_over_everything_and_nothing_else_moves() {
    let old = cluster(5, 1, 64, 3);
    let new = old.replaced(2, 77).unwrap();
    let plan = Plan::between(&old, &new).unwrap();
    assert_eq!(new.epoch(), 2);
    assert!(!new.contains(2) && new.spec(77) == old.spec(2));
    assert_eq!(plan.moves().len(), old.held_by(2).count());
    let takes_over = |step: &Move<u32>| step.newcomer == 77 && step.displaced == Some(2);
    assert!(plan.moves().iter().all(takes_over) && plan.drops().is_empty());
    assert_eq!(Layout::decode(&new.encode()), Ok(new));
    assert_eq!(old.replaced(9, 77), Err(Error::NotAMember));
    assert_eq!(old.replaced(2, 3), Err(Error::AlreadyAMember));
}

#[test]
fn doubling_moves_nothing() {
    let old = cluster(5, 1, 64, 3);
    let new = old.doubled().unwrap().unwrap();
    assert_eq!((new.epoch(), new.partitions().count()), (2, 128));
    assert!(Slot::all().all(|slot| old.owners_of(slot) == new.owners_of(slot)));
    let plan = Plan::between(&old, &new).unwrap();
    assert!(plan.is_empty() && plan.firsts_changed() == 0);
    assert_eq!(Plan::between(&new, &old), Err(Error::Coarser));
    assert_eq!(cluster(3, 1, 16_384, 1).doubled(), Ok(None));

    for partition in count(64).iter() {
        for half in partition.halves().unwrap() {
            assert_eq!(new.owners(half), old.owners(partition));
            assert_eq!(old.owners(half), old.owners(partition), "of the finer in the coarser");
        }
    }
    let mut history = History::new(old);
    history.push(new).unwrap();
    for partition in count(128).iter() {
        assert_eq!(history.write_sets(partition).count(), 1);
    }
}

#[test]
fn calling_a_change_off_is_a_later_epoch_with_the_old_owners() {
    let old = cluster(5, 1, 64, 3);
    let off = old.reissued(3).unwrap();
    assert_eq!(off.epoch(), 3);
    assert_ne!(off.digest(), old.digest());
    assert!(Plan::between(&old, &off).unwrap().is_empty());
    assert_eq!(old.reissued(1), Err(Error::EpochNotNewer { pushed: 1, newest: 1 }));
}

#[test]
fn the_digest_covers_what_members_bring() {
    let layout = fixture();
    let mut topology = layout.topology();
    topology.insert(0xf1f2_f3f4_f5f6_f7f8, NodeSpec::new(0, Zone::new(2)));
    let other = Layout::first(&topology, count(4), 2, &Fixed(&[0, 1, 1, 0, 0, 1, 1, 0])).unwrap();
    assert_ne!(layout.digest(), other.digest());
}

#[test]
fn write_sets_are_one_for_each_live_layout_that_differs() {
    let first = cluster(4, 1, 64, 3);
    let mut topology = first.topology();
    topology.insert(4, NodeSpec::default());
    let second = Layout::next(&first, &topology, 3, &FlowClaim).unwrap();
    let third = first.reissued(3).unwrap();
    let mut history = History::new(first.clone());
    assert!(!history.in_transition());
    history.push(second.clone()).unwrap();
    assert!(history.in_transition());
    let same = |p| {
        let set = |layout: &Layout<u32>| layout.owners(p).iter().copied().collect::<BTreeSet<_>>();
        set(&first) == set(&second)
    };
    let mut differing = 0;
    for partition in count(64).iter() {
        let sets: Vec<&[u32]> = history.write_sets(partition).collect();
        assert_eq!(sets[0], second.owners(partition), "the newest layout's comes first");
        assert_eq!(sets.len(), if same(partition) { 1 } else { 2 });
        differing += usize::from(!same(partition));
    }
    assert_eq!(differing, Plan::between(&first, &second).unwrap().moves().len());

    history.push(third).unwrap();
    let epochs = |history: &History<u32>| -> Vec<u64> {
        history.live().map(|layout| layout.epoch()).collect()
    };
    assert_eq!(epochs(&history), [3, 2, 1]);
    for partition in count(64).iter() {
        let sets = history.write_sets(partition).count();
        assert_eq!(sets, if same(partition) { 1 } else { 2 }, "the first and third are equal");
    }
    assert_eq!(history.retire(2).map(|layout| layout.epoch()), Ok(2));
    assert_eq!(history.retire(2), Err(Error::UnknownEpoch(2)));
    assert_eq!(history.retire(3), Err(Error::RetiresNewest(3)));
    assert_eq!(epochs(&history), [3, 1]);
    assert_eq!(history.layout(1).map(|layout| layout.digest()), Some(first.digest()));
    assert_eq!(history.layout(2), None);
}

#[test]
fn histories_refuse_what_would_break_them() {
    let first = cluster(4, 1, 64, 3);
    let mut history = History::new(first.clone());
    assert_eq!(history.push(first.clone()), Err(Error::EpochNotNewer { pushed: 1, newest: 1 }));
    assert_eq!(
        history.push(cluster(4, 1, 32, 3).reissued(2).unwrap()),
        Err(Error::Coarser),
        "partitions never become fewer"
    );
    for epoch in 2..=LIVE_LAYOUTS_MAX as u64 {
        history.push(first.reissued(epoch).unwrap()).unwrap();
    }
    assert_eq!(history.push(first.reissued(99).unwrap()), Err(Error::TooManyLayouts));
    assert_eq!(history.newest().epoch(), LIVE_LAYOUTS_MAX as u64);
    assert_eq!(history.live().len(), LIVE_LAYOUTS_MAX);
}

#[cfg(feature = "serde")]
#[test]
fn small_types_are_checked_when_they_are_read() {
    use serde::Deserialize;
    use serde::de::IntoDeserializer;
    use serde::de::value::Error as ValueError;

    let slot = |n: u16| Slot::deserialize(IntoDeserializer::<ValueError>::into_deserializer(n));
    assert_eq!(slot(7).ok(), Slot::new(7));
    assert!(slot(16_384).is_err());
    let partitions =
        |n: u32| PartitionCount::deserialize(IntoDeserializer::<ValueError>::into_deserializer(n));
    assert_eq!(partitions(64).ok(), Some(count(64)));
    assert!(partitions(65).is_err());
}
