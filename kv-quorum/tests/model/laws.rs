//! Laws, for arbitrary records: any coverage with exceptions, any live versions under it,
//! registers, dropped bytes, twins.
//!
//! Four actors with six times each make a small universe, in which dots are shared often. The bytes
//! of a version are a function of its dot, as they are in life.

use kv_quorum::{
    Actor, Context, Dot, Draft, EncodedRecord, Error, Expiry, HybridTime, JoinOutcome, Kind,
    Limits, Mark, MarkedOutcome, Record, Version, VersionVector, blind_overwrite, covered_until,
    fingerprint_of, join_encoded, join_encoded_under, latest_of, peek, same_versions,
};
use proptest::prelude::*;

const ACTORS: u64 = 4;
const TIMES: u64 = 6;
const DOTS: usize = (ACTORS * TIMES) as usize;
type Held = Record<Vec<u8>>;

fn dot(actor: u64, time: u64) -> Dot {
    Dot::new(Actor::new(actor, actor * 31), HybridTime::from_bits(time))
}

fn universe() -> impl Iterator<Item = Dot> {
    (0..ACTORS).flat_map(|actor| (1..=TIMES).map(move |time| dot(actor, time)))
}

fn version(dot: Dot, choice: u8) -> Version<Vec<u8>> {
    let tombstone = (dot.time.to_bits() + dot.actor.node).is_multiple_of(5);
    let register = [
        Expiry::NEVER,
        Expiry::at(HybridTime::from_bits(3), 50),
        Expiry::at(HybridTime::from_bits(3), u64::MAX),
        Expiry::persistent(HybridTime::from_bits(4)),
    ];
    let expiry = register[usize::from(choice >> 3 & 3)];
    let dropped = choice >> 5 & 1 == 1 && expiry.may_drop(60, 0);
    let value = (!tombstone && !dropped).then(|| vec![dot.time.to_bits() as u8; 5]);
    let kinds = [Kind::String, Kind::Other(200), Kind::List];
    let kind = kinds[dot.time.to_bits() as usize % 3];
    Version {
        dot,
        kind: if value.is_some() { kind } else { Kind::Tombstone },
        value,
        expiry,
        operation: dot.time.to_bits().is_multiple_of(2).then_some(dot.actor.node % 2),
    }
}

fn record() -> impl Strategy<Value = Held> {
    record_with(true)
}

fn record_with(exceptions: bool) -> impl Strategy<Value = Held> {
    let heights = proptest::array::uniform4(0..=TIMES);
    (heights, proptest::collection::vec(any::<u8>(), DOTS)).prop_map(move |(heights, choices)| {
        let tops = (0..ACTORS).zip(heights).map(|(actor, time)| dot(actor, time));
        let mut coverage = Context::from(tops.collect::<VersionVector>());
        let mut live = Vec::new();
        for (at, choice) in universe().zip(choices) {
            match choice & 7 {
                0 | 1 if coverage.covers(at) => live.push(version(at, choice)),
                2 if exceptions => coverage.except(at),
                _ => {}
            }
        }
        Record::from_parts(coverage, live).expect("sound parts")
    })
}

fn joined(a: &Held, b: &Held) -> Held {
    let mut joined = a.clone();
    joined.join(b);
    joined
}

fn fingerprint(record: &Held) -> Vec<u8> {
    let mut fed = Vec::new();
    record.fingerprint(|bytes| fed.extend_from_slice(bytes));
    fed
}

fn owned(bytes: &[u8]) -> Held {
    Record::decode(bytes).expect("our own bytes").map(<[u8]>::to_vec)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    #[test]
    fn a_join_is_commutative_associative_and_idempotent(
        a in record(), b in record(), c in record(),
    ) {
        prop_assert_eq!(joined(&a, &b).to_bytes(), joined(&b, &a).to_bytes());
        let (ab, bc) = (joined(&a, &b), joined(&b, &c));
        prop_assert_eq!(joined(&ab, &c).to_bytes(), joined(&a, &bc).to_bytes());
        prop_assert_eq!(joined(&a, &a).to_bytes(), a.to_bytes());
        prop_assert_eq!(joined(&joined(&a, &b), &b).to_bytes(), joined(&a, &b).to_bytes());
    }

    #[test]
    fn a_join_keeps_what_no_one_knows_to_be_dead(a in record(), b in record()) {
        let mut after = a.clone();
        let told = after.join(&b);
        for at in universe() {
            let (in_a, in_b) = (a.find(at).is_some(), b.find(at).is_some());
            let dead = a.coverage().covers(at) && !in_a || b.coverage().covers(at) && !in_b;
            prop_assert_eq!(after.find(at).is_some(), (in_a || in_b) && !dead);
            let covered = a.coverage().covers(at) || b.coverage().covers(at);
            prop_assert_eq!(after.coverage().covers(at), covered);
            let uncovered = in_a && !b.coverage().covers(at);
            prop_assert_eq!(told.uncovered.contains(&at), uncovered);
        }
        prop_assert_eq!(told.changed, after != a);
        prop_assert!(told.uncovered.is_sorted_by(|x, y| x > y));
    }

    #[test]
    fn a_join_under_marks_is_the_same_from_both_sides(
        a in record(), b in record(), m in 0..=TIMES, n in 0..=TIMES,
    ) {
        let (m, n) = (Mark::at(HybridTime::from_bits(m)), Mark::at(HybridTime::from_bits(n)));
        let (mut one, mut other) = (a.clone(), b.clone());
        one.join_under(m, &b, n);
        other.join_under(n, &a, m);
        prop_assert_eq!(one.to_bytes(), other.to_bytes());
        for at in universe() {
            let dead = |record: &Held, mark: Mark, others: Mark| {
                let news = record.coverage().vector().latest() > others.time();
                let covered = record.coverage().covers(at) && news || mark.covers(at);
                covered && record.find(at).is_none()
            };
            let known = a.find(at).is_some() || b.find(at).is_some();
            let live = known && !dead(&a, m, n) && !dead(&b, n, m);
            prop_assert_eq!(one.find(at).is_some(), live);
        }
    }

    #[test]
    fn an_encoded_join_under_marks_is_the_plain_one(
        a in record(), b in record(), m in 0..=TIMES, n in 0..=TIMES, stored in any::<bool>(),
    ) {
        let (m, n) = (Mark::at(HybridTime::from_bits(m)), Mark::at(HybridTime::from_bits(n)));
        let ours = if stored { a } else { Record::new() };
        let (bytes, new) = (ours.to_bytes(), b.to_bytes());
        let bytes = stored.then_some(bytes.as_slice());
        let mut out = Vec::new();
        let told = join_encoded_under(bytes, m, &new, n, &mut out).expect("our own bytes");
        let result = match told.outcome {
            MarkedOutcome::Unchanged => bytes.unwrap_or_default(),
            MarkedOutcome::Incoming => &new,
            MarkedOutcome::Merged => &out,
            MarkedOutcome::Empty => &[],
        };
        let left = if result.is_empty() { Record::new() } else { owned(result) };
        prop_assert!(stored || told.outcome != MarkedOutcome::Empty);
        // What is only coverage, and tombstones, may be collected on the way or not.
        let collected = |record: &Held| {
            let mut record = record.clone();
            if m != Mark::NONE {
                record.collect(m, u64::MAX);
            }
            record
        };
        let mut plain = collected(&ours);
        plain.join_under(m, &b, n);
        prop_assert_eq!(collected(&left).to_bytes(), collected(&plain).to_bytes());
        for at in universe() {
            let (held, settled) = (ours.find(at).is_some(), collected(&ours).find(at).is_none());
            let wanted = held && !settled && !b.coverage().covers(at) && plain.find(at).is_some();
            prop_assert_eq!(told.uncovered.contains(&at), wanted);
        }
    }

    #[test]
    fn bytes_are_canonical(a in record(), at in any::<prop::sample::Index>(), flip in 1..=u8::MAX) {
        let bytes = a.to_bytes();
        prop_assert_eq!(bytes.len(), a.encoded_len());
        prop_assert_eq!(&owned(&bytes), &a);
        for cut in 0..bytes.len() {
            prop_assert!(Record::decode(&bytes[..cut]).is_err());
        }
        let mut broken = bytes.clone();
        let at = at.index(bytes.len());
        broken[at] ^= flip;
        if let Ok(record) = Record::decode(&broken) {
            prop_assert_eq!(record.to_bytes(), broken);
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Record::decode(&longer).is_err());
    }

    #[test]
    fn hostile_bytes_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for head in [None, Some([1, 0, 0, 0])] {
            if let (Some(head), Some(first)) = (head, bytes.first_chunk_mut()) {
                *first = head;
            }
            let _ = peek(&bytes);
            let _ = Context::from_bytes(&bytes);
            let _ = join_encoded(Some(&bytes), &bytes, &mut Vec::new());
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.to_bytes(), &bytes[..]);
            }
        }
    }

    #[test]
    fn an_encoded_join_is_the_plain_one(a in record(), b in record(), c in record()) {
        let ab = joined(&a, &b);
        let mut overwritten = ab.clone();
        overwritten.mint_blind(dot(9, 9), Draft::string(vec![1])).expect("new");
        let over = &overwritten;
        let pairs = [(&a, &b), (&ab, &b), (&b, &ab), (&ab, &c), (over, &ab), (&ab, over)];
        for (stored, incoming) in pairs {
            let (bytes, new) = (stored.to_bytes(), incoming.to_bytes());
            let mut plain = stored.clone();
            let told = plain.join(incoming);
            let mut out = Vec::new();
            let fast = join_encoded(Some(&bytes), &new, &mut out).expect("our own bytes");
            prop_assert_eq!(&fast.uncovered, &told.uncovered);
            let result = match fast.outcome {
                JoinOutcome::Unchanged => &bytes,
                JoinOutcome::Incoming => &new,
                JoinOutcome::Merged => &out,
            };
            prop_assert_eq!(result, &plain.to_bytes());
        }
        let first = join_encoded(None, &a.to_bytes(), &mut Vec::new()).expect("our own bytes");
        prop_assert_eq!(first.outcome, JoinOutcome::Incoming);
    }

    #[test]
    fn plain_outcomes_take_the_short_way(a in record_with(false), b in record_with(false)) {
        let ab = joined(&a, &b);
        let mut out = Vec::new();
        let newer = join_encoded(Some(&a.to_bytes()), &ab.to_bytes(), &mut out).expect("our own");
        prop_assert_ne!(newer.outcome, JoinOutcome::Merged);
        let older = join_encoded(Some(&ab.to_bytes()), &a.to_bytes(), &mut out).expect("our own");
        prop_assert_eq!(older.outcome, JoinOutcome::Unchanged);
        prop_assert!(out.is_empty());
    }

    #[test]
    fn an_encoded_overwrite_is_the_plain_one(
        a in record(), actor in 0..ACTORS + 1, time in 0..TIMES + 2, op in any::<Option<u64>>(),
    ) {
        let at = dot(actor, time);
        let expiry = Expiry::at(at.time, 9);
        let draft = || Draft::string(b"new".to_vec()).by_operation(op).expiring(expiry);
        let mut out = b"kept".to_vec();
        let fast = blind_overwrite(Some(&a.to_bytes()), at, draft(), &mut out);
        let mut plain = a.clone();
        let minted = plain.mint_blind(at, draft());
        prop_assert_eq!(&fast, &minted);
        prop_assert_eq!(&out[..4], b"kept");
        match fast {
            Ok(()) => prop_assert_eq!(&out[4..], &plain.to_bytes()),
            Err(error) => prop_assert!(error == Error::DotNotNew && out.len() == 4),
        }
        let mut fresh = Vec::new();
        if blind_overwrite(None, at, draft(), &mut fresh).is_ok() {
            let mut plain = Held::new();
            plain.mint_blind(at, draft()).expect("new");
            prop_assert_eq!(fresh, plain.to_bytes());
        }
    }

    #[test]
    fn what_is_read_in_place_is_what_the_record_says(
        a in record(), b in record(), now in 0..100u64,
    ) {
        let (bytes, other) = (a.to_bytes(), b.to_bytes());
        let found = peek(&bytes).expect("our own bytes");
        prop_assert_eq!(found.is_some(), a.winner().is_some());
        if let (Some(found), Some(winner)) = (found, a.winner()) {
            prop_assert_eq!(found.dot, winner.dot);
            prop_assert_eq!(found.kind, winner.kind);
            prop_assert_eq!(found.expiry, winner.expiry);
            prop_assert_eq!(found.operation, winner.operation);
            prop_assert_eq!(found.live, a.live().len());
            let value = winner.value.as_deref().unwrap_or_default();
            prop_assert_eq!(&bytes[found.value.clone()], value);
            prop_assert_eq!(found.shown(now).map(|at| bytes[at].to_vec()), a.shown(now).cloned());
        }
        let mut fed = Vec::new();
        fingerprint_of(&bytes, |chunk| fed.extend_from_slice(chunk)).expect("our own bytes");
        prop_assert_eq!(&fed, &fingerprint(&a));
        let same = fingerprint(&a) == fingerprint(&b);
        prop_assert_eq!(same_versions(Some(&bytes), Some(&other)), Ok(same));
        prop_assert_eq!(same_versions(Some(&bytes), None), Ok(a.live().is_empty()));
        prop_assert_eq!(latest_of(&bytes), Ok(a.coverage().vector().latest()));
        for actor in (0..=ACTORS).map(|actor| dot(actor, 1).actor) {
            let until = a.coverage().vector().time_of(actor);
            prop_assert_eq!(covered_until(&bytes, actor), Ok(until));
        }
    }

    #[test]
    fn dropping_bytes_makes_no_difference_to_digests(a in record(), now in 0..200u64) {
        let mut dropped = a.clone();
        dropped.drop_expired(now, 20);
        prop_assert_eq!(fingerprint(&dropped), fingerprint(&a));
        prop_assert_eq!(dropped.shown(now), a.shown(now));
        prop_assert_eq!(joined(&dropped, &a).to_bytes(), a.to_bytes());
    }

    #[test]
    fn a_mint_replaces_what_its_context_covers(a in record(), b in record()) {
        let sent = b.coverage();
        let at = dot(9, 9);
        let mut after = a.clone();
        after.mint(at, sent, Draft::string(vec![1]), &Limits::default()).expect("new and small");
        let shown = |v: &Version<Vec<u8>>| {
            sent.covers(v.dot)
                || v.operation.is_some()
                    && a.live().iter().any(|o| o.operation == v.operation && sent.covers(o.dot))
        };
        for old in a.live() {
            prop_assert_eq!(after.find(old.dot).is_none(), shown(old));
        }
        let answer = after.context_after_put(sent, at);
        for old in universe().chain([at]) {
            let covered = after.coverage().covers(old);
            prop_assert_eq!(covered, a.coverage().covers(old) || sent.covers(old) || old == at);
            let unseen = old != at && after.find(old).is_some() && !sent.covers(old);
            prop_assert_eq!(answer.covers(old), covered && !unseen);
        }
        let again = Context::from_bytes(&answer.to_bytes());
        prop_assert_eq!(again, Ok(answer));
    }
}

#[test]
fn limits_refuse_mints_and_never_joins() {
    let limits = Limits { siblings_warn: 2, siblings_max: 3, record_bytes_max: 400 };
    let unseen = Context::new();
    let mut record = Held::new();
    let mut other = Held::new();
    let put = |record: &mut Held, time, len| {
        record.mint(dot(1, time), &unseen, Draft::string(vec![0; len]), &limits)
    };
    assert_eq!(put(&mut record, 1, 9), Ok(kv_quorum::Room::Ample));
    assert_eq!(put(&mut record, 2, 9), Ok(kv_quorum::Room::Scarce { siblings: 2 }));
    let before = record.clone();
    let too_large = Error::RecordTooLarge { record_bytes: 467, record_bytes_max: 400 };
    assert_eq!(put(&mut record, 3, 349), Err(too_large));
    put(&mut record, 3, 9).expect("the third");
    assert_eq!(
        put(&mut record, 4, 9),
        Err(Error::TooManySiblings { siblings: 4, siblings_max: 3 })
    );
    assert_ne!(record, before);
    other.mint(dot(2, 5), &unseen, Draft::string(vec![0; 999]), &limits).expect("alone");
    record.join(&other);
    assert_eq!(record.live().len(), 4);
    let shown = record.context().clone();
    record.mint(dot(1, 9), &shown, Draft::string(vec![1]), &limits).expect("resolves");
    assert_eq!(record.live().len(), 1);
}

#[test]
fn twins_of_one_operation_are_one() {
    let limits = Limits::default();
    let mut record = Held::new();
    let mut elsewhere = Held::new();
    let draft = || Draft::string(b"v".to_vec()).by_operation(Some(7));
    record.mint(dot(1, 1), &Context::new(), draft(), &limits).expect("new");
    let first = record.context_after_put(&Context::new(), dot(1, 1));
    elsewhere.mint(dot(2, 2), &Context::new(), draft(), &limits).expect("new");
    record.join(&elsewhere);
    assert_eq!(record.live().len(), 2);
    assert_eq!(record.siblings(0).len(), 1);
    assert!(record.context_after_put(&Context::new(), dot(2, 2)).covers(dot(1, 1)));
    record.mint(dot(3, 3), &first, Draft::string(b"w".to_vec()), &limits).expect("new");
    assert_eq!(record.live().len(), 1, "the context of one twin replaces both");
}

#[test]
fn expiry_follows_dots_and_never_mints() {
    let mut record = Held::new();
    record.mint_blind(dot(1, 1), Draft::string(b"v".to_vec())).expect("new");
    let at = |record: &Held, end| Expiry::at(record.stamp_above(HybridTime::from_bits(10)), end);
    let end = at(&record, 100);
    assert_eq!(record.expire(&[dot(2, 2)], end, 0), 0, "not a dot of this record");
    assert_eq!(record.expire(&[dot(1, 1)], end, 0), 1);
    assert_eq!((record.shown(99).is_some(), record.shown(100)), (true, None));
    let later = at(&record, 500);
    assert!(later.stamp > end.stamp, "above every stamp that was seen");
    let mut extended = record.clone();
    assert_eq!(extended.expire(&[dot(1, 1)], later, 50), 1);
    assert_eq!(record.expire(&[dot(1, 1)], later, 100), 0, "it has expired");
    assert_eq!(record.drop_expired(159, 60), 0);
    assert_eq!(record.drop_expired(160, 60), 1);
    assert_eq!(record.expire(&[dot(1, 1)], later, 50), 0, "no bytes, no later register");
    record.join(&extended);
    assert_eq!(record.shown(160), Some(&b"v".to_vec()), "bytes win over none");
}

#[test]
fn many_actors_and_siblings_are_no_different() {
    let limits = Limits::default();
    let (mut all, mut evens) = (Held::new(), Held::new());
    for actor in (0..60).rev() {
        for record in [Some(&mut all), (actor % 2 == 0).then_some(&mut evens)] {
            let Some(record) = record else { continue };
            let draft = Draft::string(vec![actor as u8]).by_operation(Some(actor % 7));
            record.mint(dot(actor, 5), &Context::new(), draft, &limits).expect("new");
        }
    }
    let (bytes, some) = (all.to_bytes(), evens.to_bytes());
    for actor in 0..60 {
        let until = |bytes| covered_until(bytes, dot(actor, 1).actor).map(HybridTime::to_bits);
        assert_eq!(until(&bytes), Ok(5));
        assert_eq!(until(&some), Ok(if actor % 2 == 0 { 5 } else { 0 }));
    }
    assert_eq!(all.siblings(0).len(), 7);
    let mut out = Vec::new();
    let told = join_encoded(Some(&some), &bytes, &mut out).expect("our own bytes");
    assert!(told.outcome == JoinOutcome::Merged && told.uncovered.is_empty());
    assert_eq!(out, bytes);
    let mut back = Vec::new();
    let told = join_encoded(Some(&bytes), &some, &mut back).expect("our own bytes");
    assert_eq!((back, told.uncovered.len()), (bytes.clone(), 30));
    all.mint_blind(dot(30, 9), Draft::string(vec![1])).expect("new");
    let told = join_encoded(Some(&all.to_bytes()), &some, &mut out).expect("our own bytes");
    assert_eq!(told.outcome, JoinOutcome::Merged, "too many to be compared in place");
    let mut over = Vec::new();
    blind_overwrite(Some(&bytes), dot(30, 9), Draft::string(vec![1]), &mut over).expect("new");
    assert_eq!(over, all.to_bytes());
}

#[test]
fn the_empty_record_is_one_form() {
    let empty = Held::new().to_bytes();
    assert_eq!(EncodedRecord::EMPTY.as_bytes(), empty);
    assert_eq!(EncodedRecord::EMPTY.to_record(), Record::decode(&empty).expect("our own bytes"));
    assert_eq!(EncodedRecord::EMPTY.peek(), None);
}

#[test]
fn a_forgotten_name_is_refused_and_noticed() {
    let mut record = Held::new();
    record.mint_blind(dot(1, 5), Draft::string(vec![1])).expect("new");
    let again = record.mint_blind(dot(1, 5), Draft::string(vec![2]));
    assert_eq!(again, Err(Error::DotNotNew));
    let forgetful = Held::new();
    assert!(record.coverage().knows_more_of(dot(1, 1).actor, forgetful.coverage()));
    assert!(!record.coverage().knows_more_of(dot(2, 1).actor, forgetful.coverage()));
    let mut ahead = Held::new();
    let minted =
        ahead.mint(dot(1, 4), record.context(), Draft::string(vec![3]), &Limits::default());
    assert_eq!(minted, Err(Error::DotNotNew));
    assert_eq!(
        ahead.mint_over(dot(1, 4), record.context(), Draft::tombstone()),
        Err(Error::DotNotNew)
    );
    assert!(ahead.is_empty());
}
