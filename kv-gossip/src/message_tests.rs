//! The codec against itself and against hostile bytes.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::identity::Address;
use crate::output::Output;
use crate::rng::SplitMix64;
use crate::swim::Swim;
use crate::time::Millis;

fn state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Up), Just(State::Suspect), Just(State::Down), Just(State::Left)]
}

#[derive(Clone, Debug)]
enum OwnedUpdate {
    Account { node: u64, state: State, incarnation: u64, address: Vec<u8>, more: Vec<u64> },
    Fact { node: u64, id: u16, version: u64, bytes: Option<Vec<u8>> },
}

impl OwnedUpdate {
    fn borrow(&self) -> Update<'_, u64> {
        match self {
            Self::Account { node, state, incarnation, address, more } => {
                let mut accusers = Accusers::none();
                let mut gone_s = 0;
                if *state == State::Suspect {
                    for accuser in more {
                        accusers.insert(*accuser);
                    }
                }
                if state.is_gone() {
                    gone_s = more.len() as u64 * 1_000;
                }
                let (node, state, incarnation) = (*node, *state, *incarnation);
                Update::Account(Account { node, state, incarnation, address, accusers, gone_s })
            }
            Self::Fact { node, id, version, bytes } => Update::Fact(FactUpdate {
                node: *node,
                id: *id,
                version: *version,
                bytes: bytes.as_deref(),
            }),
        }
    }
}

fn update() -> impl Strategy<Value = OwnedUpdate> {
    let address = proptest::collection::vec(any::<u8>(), 0..40);
    let more = proptest::collection::vec(0..9_u64, 0..6);
    let account = (0..9_u64, state(), any::<u32>(), address, more).prop_map(
        |(node, state, incarnation, address, more)| {
            let incarnation = u64::from(incarnation);
            OwnedUpdate::Account { node, state, incarnation, address, more }
        },
    );
    let bytes = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let fact = (0..9_u64, 0..9_u16, any::<u32>(), bytes).prop_map(|(node, id, version, bytes)| {
        OwnedUpdate::Fact { node, id, version: u64::from(version), bytes }
    });
    prop_oneof![account, fact]
}

fn message() -> impl Strategy<Value = (u8, u64, u64, Vec<u8>, u8)> {
    (1..=7_u8, any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..60), 0..8_u8)
}

fn entries(bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(65_000);
    for byte in bytes {
        let node = u64::from(*byte);
        let entry = Entry { node, incarnation: node, state: State::Up, digest: node << 40 };
        write_entry(&mut writer, &entry);
    }
    writer.finish()
}

fn build<'a>(
    (kind, seq, target, bytes, flags): &'a (u8, u64, u64, Vec<u8>, u8),
    entries: &'a [u8],
) -> Message<'a, u64> {
    let (seq, target) = (*seq, *target);
    let cursor = (flags & 1 != 0).then_some((target, u16::from(*flags)));
    match kind {
        1 => Message::Ping { seq, target },
        2 => Message::Ack { seq, target },
        3 => Message::Nack { seq, target },
        4 => Message::PingReq { seq, target, address: bytes },
        5 => Message::Gossip,
        6 => pull(seq, cursor, flags & 2 != 0, flags & 4 != 0, entries),
        _ => Message::Page { token: seq, next: cursor },
    }
}

fn packet(sender: u64, message: &Message<'_, u64>, updates: &[OwnedUpdate]) -> Vec<u8> {
    let mut writer = Writer::new(PACKET_BYTES_LIMIT);
    let account = Account {
        node: sender,
        state: State::Up,
        incarnation: 3,
        address: b"n:1",
        accusers: Accusers::none(),
        gone_s: 0,
    };
    write_head(&mut writer, &account, message);
    for update in updates {
        write_update(&mut writer, &update.borrow());
    }
    writer.finish()
}

/// A member that knows two others, with a probe, a relay and a comparison under way.
fn machine() -> Swim<u64, SplitMix64> {
    let at = |text: &[u8]| Address::new(text).unwrap();
    let config = Config { members_max: 64, ..Config::local() };
    let mut machine =
        Swim::new(config, 1, at(b"n:0"), 2, SplitMix64::new(1), Millis::ZERO).unwrap();
    machine.publish_fact(1, b"mine").unwrap();
    machine.join(Millis::ZERO, [at(b"n:9")]);
    for sender in [2, 3] {
        let request = Message::PingReq { seq: 1, target: 4, address: b"n:4" };
        machine.handle_message(Millis::ZERO, sender, &packet(sender, &request, &[])).unwrap();
    }
    for step in 0..6 {
        machine.poll(Millis::new(step * 60));
    }
    while machine.poll_output().is_some() {}
    machine
}

/// Whatever arrives: no panic, bounded output, and the machine goes on.
fn survives(machine: &mut Swim<u64, SplitMix64>, from: u64, bytes: &[u8]) {
    let now = Millis::new(400);
    let before: Vec<_> = machine.members().map(|(node, member)| (node, member.clone())).collect();
    let result = machine.handle_message(now, from, bytes);
    if result.is_err_and(|error| error != Error::WrongTarget) {
        let after: Vec<_> =
            machine.members().map(|(node, member)| (node, member.clone())).collect();
        assert_eq!(before, after, "an error changes nothing");
        assert_eq!(machine.poll_output(), None);
    }
    assert!(machine.members().count() <= 64);
    for step in 0..40 {
        machine.poll(now.plus(step * 50));
        let mut packets = 0;
        while let Some(output) = machine.poll_output() {
            if let Output::Transmit { bytes, .. } = output {
                assert!(bytes.len() <= machine.config().packet_bytes_max);
                Packet::<u64>::parse(&bytes).unwrap();
                packets += 1;
            }
        }
        assert!(packets < 200, "{packets} packets at once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        parts in message(),
        updates in proptest::collection::vec(update(), 0..12),
    ) {
        let entries = entries(&parts.3);
        let message = build(&parts, &entries);
        let bytes = packet(7, &message, &updates);
        let read: Packet<'_, u64> = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(read.message, message);
        prop_assert_eq!(read.sender.node, 7);
        prop_assert_eq!(sender::<u64>(&bytes), Ok(7));
        let written: Vec<_> = updates.iter().map(OwnedUpdate::borrow).collect();
        prop_assert_eq!(read.updates().collect::<Vec<_>>(), written);
        if let Message::Pull(pull) = read.message {
            prop_assert_eq!(pull.entries().count(), parts.3.len());
        }
        // A packet cut inside its head is no packet.
        let head = packet(7, &message, &[]).len();
        for cut in 0..head {
            prop_assert!(Packet::<u64>::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn random_bytes_are_survived(
        from in 0..5_u64,
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        valid_head in any::<bool>(),
    ) {
        if valid_head {
            let mut with_head = packet(from, &Message::Gossip, &[]);
            with_head.append(&mut bytes);
            bytes = with_head;
        }
        survives(&mut machine(), from, &bytes);
    }

    #[test]
    fn mutated_packets_are_survived(
        parts in message(),
        updates in proptest::collection::vec(update(), 0..8),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let entries = entries(&parts.3);
        let mut bytes = packet(2, &build(&parts, &entries), &updates);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&mut machine(), 2, &bytes);
    }
}

#[test]
fn the_format_is_pinned() {
    let updates = [
        OwnedUpdate::Account {
            node: 5,
            state: State::Suspect,
            incarnation: 300,
            address: b"h".to_vec(),
            more: Vec::from([7]),
        },
        OwnedUpdate::Fact { node: 5, id: 258, version: 1, bytes: Some(b"xy".to_vec()) },
        OwnedUpdate::Fact { node: 5, id: 2, version: 9, bytes: None },
    ];
    let bytes = packet(2, &Message::Ping { seq: 129, target: 3 }, &updates);
    let expected: &[u8] = &[
        1, 1, // version, Ping
        0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 3, b'n', b':', b'1', // the sender
        0x81, 1, 0, 0, 0, 0, 0, 0, 0, 3, // seq, target
        1, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0xac, 2, 1, b'h', 1, 0, 0, 0, 0, 0, 0, 0, 7, // suspect
        2, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 1, 3, b'x', b'y', // a fact
        2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 2, 9, 0, // a fact taken back
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn other_versions_and_long_packets_are_named() {
    let mut bytes = packet(2, &Message::Gossip, &[]);
    bytes[0] = 2;
    assert_eq!(Packet::<u64>::parse(&bytes), Err(Error::Version { found: 2 }));
    assert_eq!(sender::<u64>(&bytes), Err(Error::Version { found: 2 }));
    let long = alloc::vec![1; PACKET_BYTES_LIMIT + 1];
    let error = Error::PacketTooLong { bytes: PACKET_BYTES_LIMIT + 1 };
    assert_eq!(Packet::<u64>::parse(&long), Err(error));
    // An identity that the caller's type can't hold.
    let foreign = packet(1 << 40, &Message::Gossip, &[]);
    assert_eq!(Packet::<u32>::parse(&foreign), Err(Error::Malformed { field: "node" }));
}
