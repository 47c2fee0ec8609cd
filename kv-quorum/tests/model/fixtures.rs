//! The encoded forms, pinned: what version 1 wrote once, every release reads and writes.
//!
//! `testdata/codec/*.txt` hold one form a line: a name and hexadecimal bytes. A change of these
//! files is a change of format.

use kv_quorum::{
    Actor, Context, Dot, Draft, Error, Expiry, HybridTime, Kind, Limits, Record, VersionVector,
};
use std::collections::BTreeMap;
use std::fmt::Write;

fn dot(node: u64, ms: u64) -> Dot {
    Dot::new(Actor::new(node, 0xabc0 + node), HybridTime::new(ms, 7))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes all");
        hex
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn fixtures(text: &str) -> BTreeMap<&str, Vec<u8>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(name, hex)| (name, unhex(hex))).collect()
}

fn records() -> BTreeMap<&'static str, Record<&'static [u8]>> {
    let (limits, unseen) = (Limits::default(), Context::new());
    let mut all = BTreeMap::new();
    all.insert("empty", Record::new());
    let mut one = Record::new();
    one.mint_blind(dot(1, 1_000), Draft::string(&b"tea"[..])).expect("new");
    all.insert("one", one.clone());
    let mut over = one.clone();
    let expiry = Expiry::at(HybridTime::new(2_000, 0), 9_000);
    let draft = Draft::string(&b"milk"[..]).expiring(expiry).by_operation(Some(77));
    over.mint_blind(dot(2, 2_000), draft).expect("new");
    all.insert("overwritten", over.clone());
    let mut siblings = over;
    let list = Draft::of_kind(Kind::Other(99), &b"?"[..]);
    siblings.mint(dot(3, 1_500), &unseen, list, &limits).expect("new");
    siblings.delete(dot(3, 3_000), &unseen, None, &limits).expect("new");
    all.insert("siblings", siblings);
    let mut persisted = one.clone();
    persisted.expire(&[dot(1, 1_000)], Expiry::persistent(HybridTime::new(5_000, 1)), 0);
    all.insert("persisted", persisted);
    let mut excepted = Record::new();
    let mut context = Context::from([dot(1, 4_000)].into_iter().collect::<VersionVector>());
    context.except(dot(1, 1_000));
    excepted.mint(dot(2, 5_000), &context, Draft::string(&b""[..]), &limits).expect("new");
    all.insert("excepted", excepted);
    all
}

#[test]
fn records_are_written_and_read_as_ever() {
    let pinned = fixtures(include_str!("../../testdata/codec/record-v1.txt"));
    let records = records();
    let names: Vec<_> = records.keys().collect();
    assert_eq!(names, pinned.keys().collect::<Vec<_>>());
    for (name, record) in &records {
        assert_eq!(hex(&record.to_bytes()), hex(&pinned[name]), "{name}");
        assert_eq!(Record::decode(&pinned[name]).as_ref(), Ok(record), "{name}");
    }
}

#[test]
fn contexts_are_written_and_read_as_ever() {
    let pinned = fixtures(include_str!("../../testdata/codec/context-v1.txt"));
    for (name, record) in records() {
        let context = record.context();
        let Some(bytes) = pinned.get(name) else { panic!("no context {name}") };
        assert_eq!(hex(&context.to_bytes()), hex(bytes), "{name}");
        assert_eq!(Context::from_bytes(bytes).as_ref(), Ok(context), "{name}");
    }
}

#[test]
fn other_formats_are_named() {
    let mut bytes = records()["one"].to_bytes();
    bytes[0] = 2;
    assert_eq!(Record::decode(&bytes), Err(Error::UnknownFormat { version: 2 }));
    bytes[0] = 1;
    bytes[1] = 1;
    assert_eq!(Record::decode(&bytes), Err(Error::Malformed));
}

#[test]
fn counts_are_not_believed() {
    for at in [4, 8, 12] {
        let mut bytes = records()["one"].to_bytes();
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Record::decode(&bytes), Err(Error::Truncated));
    }
}
