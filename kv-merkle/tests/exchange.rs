//! The exchange against brute force, through the codec, and the codec against hostile bytes.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kv_merkle::{
    ANSWER_DIGESTS_MAX, Answer, Digest, Error, Exchange, Leaves, Pace, Request, Shape, Tree, answer,
};
use proptest::prelude::*;

/// Runs an exchange through bytes. The leaves that it found, and the most digests in an answer.
fn differing(ours: &Tree, theirs: &Tree, pace: Pace) -> (Vec<u32>, usize) {
    let mut exchange = Exchange::new(ours, pace);
    let mut longest = 0;
    while let Some(request) = exchange.request(ours) {
        let request = Request::decode(&request.encode()).unwrap();
        let answer = answer(theirs, &request).unwrap();
        let answer = Answer::decode(&answer.encode()).unwrap();
        if let Answer::Nodes { digests, .. } = &answer {
            longest = longest.max(digests.len());
        }
        exchange.on_answer(ours, &answer).unwrap();
        assert!(exchange.differing().is_sorted_by(|a, b| a < b));
    }
    assert!(exchange.is_done());
    (exchange.differing().to_vec(), longest)
}

fn filled(depth: u8, changes: &[(u32, u64)]) -> Leaves {
    let mut leaves = Leaves::new(Shape::new(depth).unwrap());
    for leaf in 0..leaves.shape().leaves() {
        leaves.set(leaf, Digest::new(u128::from(leaf) << 90)).unwrap();
    }
    for (leaf, value) in changes {
        let leaf = leaf % leaves.shape().leaves();
        leaves.add(leaf, Digest::new(u128::from(*value))).unwrap();
    }
    leaves
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn exactly_the_differing_leaves_are_found(
        depth in 1..=11_u8,
        ours in proptest::collection::vec((any::<u32>(), 0..4_u64), 0..80),
        theirs in proptest::collection::vec((any::<u32>(), 0..4_u64), 0..80),
        levels in 0..20_u8,
        digests_max in prop_oneof![0..70_usize, Just(ANSWER_DIGESTS_MAX)],
    ) {
        let (ours, theirs) = (filled(depth, &ours), filled(depth, &theirs));
        let expected: Vec<u32> = (0..ours.shape().leaves())
            .filter(|leaf| ours.get(*leaf) != theirs.get(*leaf))
            .collect();
        let (ours, theirs) = (Tree::build(&ours), Tree::build(&theirs));
        let pace = Pace::new(levels, digests_max);
        let (found, longest) = differing(&ours, &theirs, pace);
        prop_assert_eq!(&found, &expected);
        prop_assert!(longest <= digests_max.max(2));
        prop_assert_eq!(differing(&theirs, &ours, pace).0, expected);
    }

    #[test]
    fn hostile_bytes_are_an_error_or_a_message_that_reads_the_same(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 0..7_u8,
        plausible in any::<bool>(),
    ) {
        if plausible && bytes.len() > 7 {
            bytes.splice(..6, [1, kind, 10, 3, 0, 2]);
        }
        let tree = Tree::build(&filled(10, &[]));
        if let Ok(request) = Request::decode(&bytes) {
            prop_assert_eq!(&request.encode(), &bytes);
            if let Ok(Answer::Nodes { digests, .. }) = answer(&tree, &request) {
                prop_assert!(digests.len() <= ANSWER_DIGESTS_MAX);
            }
        }
        if let Ok(answer) = Answer::decode(&bytes) {
            prop_assert_eq!(&answer.encode(), &bytes);
            let mut exchange = Exchange::new(&tree, Pace::default());
            exchange.request(&tree);
            let _outcome = exchange.on_answer(&tree, &answer);
        }
    }

    #[test]
    fn cut_and_changed_messages_are_survived(
        nodes in proptest::collection::btree_set(0..1_024_u32, 1..40),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let tree = Tree::build(&filled(12, &[]));
        let nodes = nodes.into_iter().collect();
        let request = Request::Compare { shape: tree.shape(), depth: 10, levels: 2, nodes };
        let bytes = request.encode();
        prop_assert!(Request::decode(&bytes[..cut.index(bytes.len())]).is_err());
        let mut changed = bytes.clone();
        changed[place.index(bytes.len())] = value;
        if let Ok(changed) = Request::decode(&changed) {
            let _outcome = answer(&tree, &changed);
        }
        let whole = answer(&tree, &request).unwrap().encode();
        prop_assert_eq!(
            Answer::decode(&whole[..cut.index(whole.len())]).err(),
            Some(Error::Truncated)
        );
    }
}

#[test]
fn the_largest_trees_are_compared_in_four_rounds() {
    let ours = Tree::build(&filled(16, &[]));
    let theirs = Tree::build(&filled(16, &[(0, 1), (40_000, 1), (65_535, 1)]));
    let mut exchange = Exchange::new(&ours, Pace::default());
    let mut bytes = 0;
    while let Some(request) = exchange.request(&ours) {
        let answer = answer(&theirs, &request).unwrap();
        bytes += request.encode().len() + answer.encode().len();
        exchange.on_answer(&ours, &answer).unwrap();
    }
    assert_eq!(exchange.differing(), [0, 40_000, 65_535]);
    assert_eq!(exchange.rounds(), 4);
    assert!(bytes < 3_000, "{bytes}");
}

#[test]
fn two_trees_that_differ_everywhere_are_compared_in_bounded_answers() {
    let ours = Tree::build(&filled(16, &[]));
    let theirs = Tree::build(&Leaves::new(Shape::new(16).unwrap()));
    let (found, longest) = differing(&ours, &theirs, Pace::default());
    // The first leaf's sum is zero on both sides.
    assert_eq!(found, (1..65_536).collect::<Vec<u32>>());
    assert!(longest <= 1_024);
}
