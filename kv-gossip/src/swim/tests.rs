//! One machine against packets made for it: what the clusters of `tests/` show only by chance.

use alloc::vec::Vec;

use super::Swim;
use crate::codec::Writer;
use crate::config::Config;
use crate::identity::Address;
use crate::member::{Accusers, State};
use crate::message::{
    self, Account, Entry, Message, Packet, Update, write_entry, write_head, write_update,
};
use crate::output::{Event, Output};
use crate::rng::SplitMix64;
use crate::time::Millis;
use crate::{Error, Target};

type Machine = Swim<u64, SplitMix64>;

fn account(node: u64, state: State, incarnation: u64, address: &[u8]) -> Account<'_, u64> {
    Account { node, state, incarnation, address, accusers: Accusers::none(), gone_s: 0 }
}

fn packet(sender: u64, message: &Message<'_, u64>, news: &[Account<'_, u64>]) -> Vec<u8> {
    let mut writer = Writer::new(1_400);
    write_head(&mut writer, &account(sender, State::Up, 3, b"n:2"), message);
    for account in news {
        write_update(&mut writer, &Update::Account(*account));
    }
    writer.finish()
}

/// A machine that has heard from member 2, with nothing left to say.
fn machine() -> Machine {
    let address = Address::new(b"n:1").unwrap();
    let rng = SplitMix64::new(1);
    let mut machine = Swim::new(Config::local(), 1, address, 0, rng, Millis::ZERO).unwrap();
    machine.handle_message(Millis::ZERO, 2, &packet(2, &Message::Gossip, &[])).unwrap();
    outputs(&mut machine);
    machine
}

fn outputs(machine: &mut Machine) -> Vec<Output<u64>> {
    core::iter::from_fn(|| machine.poll_output()).collect()
}

fn pulls(outputs: &[Output<u64>]) -> Vec<bool> {
    let packets = outputs.iter().filter_map(|output| match output {
        Output::Transmit { bytes, .. } => Some(Packet::<u64>::parse(bytes).unwrap().message),
        Output::Event(_) => None,
    });
    packets
        .filter_map(|message| match message {
            Message::Pull(pull) => Some(pull.in_return),
            _ => None,
        })
        .collect()
}

#[test]
fn who_asks_and_knows_better_is_asked_in_return_but_only_once() {
    let mut writer = Writer::new(1_000);
    let entry = Entry { node: 9_u64, incarnation: 1, state: State::Up, digest: 5 };
    write_entry(&mut writer, &entry);
    let entries = writer.finish();
    for in_return in [false, true] {
        let mut machine = machine();
        let pull = message::pull(1, None, true, in_return, &entries);
        machine.handle_message(Millis::new(1), 2, &packet(2, &pull, &[])).unwrap();
        let expected: &[bool] = if in_return { &[] } else { &[true] };
        assert_eq!(pulls(&outputs(&mut machine)), expected);
    }
}

#[test]
fn only_a_higher_incarnation_moves_a_member() {
    let mut machine = machine();
    for (incarnation, address) in [(3, b"n:2"), (4, b"n:8")] {
        let moved = account(2, State::Suspect, incarnation, b"n:8");
        machine.handle_message(Millis::new(1), 3, &packet(3, &Message::Gossip, &[moved])).unwrap();
        assert_eq!(machine.member(2).unwrap().state, State::Suspect);
        assert_eq!(machine.address(2).unwrap().as_bytes(), address);
    }
}

#[test]
fn a_death_that_is_long_ago_is_no_news() {
    let mut machine = machine();
    let keep_s = machine.config().gone_keep_ms / 1_000;
    for (node, gone_s) in [(7, keep_s - 1), (8, keep_s)] {
        let gone = Account { gone_s, ..account(node, State::Down, 1, b"n:7") };
        machine.handle_message(Millis::new(1), 2, &packet(2, &Message::Gossip, &[gone])).unwrap();
    }
    assert_eq!(machine.member(7).unwrap().state, State::Down);
    assert_eq!(machine.member(8), None);
}

#[test]
fn a_ping_for_another_is_not_answered() {
    let mut machine = machine();
    let ping = Message::Ping { seq: 1, target: 99 };
    let result = machine.handle_message(Millis::new(1), 2, &packet(2, &ping, &[]));
    assert_eq!(result, Err(Error::WrongTarget));
    assert_eq!(outputs(&mut machine), []);
    let ping = Message::Ping { seq: 1, target: 1 };
    machine.handle_message(Millis::new(1), 2, &packet(2, &ping, &[])).unwrap();
    let answer = outputs(&mut machine);
    assert!(matches!(answer.as_slice(), [Output::Transmit { to: Target::Node(2), .. }]));
}

#[test]
fn traffic_of_the_caller_counts_as_an_answer() {
    for heard in [false, true] {
        let mut machine = machine();
        for step in 0..60 {
            let now = Millis::new(step * 10);
            machine.poll(now);
            if heard {
                machine.note_alive(now, 2);
            }
        }
        let events = outputs(&mut machine);
        let suspected = events.contains(&Output::Event(Event::Suspect(2)));
        assert_eq!(suspected, !heard);
    }
}

#[test]
fn a_ping_that_got_lost_is_repeated_before_anybody_is_accused() {
    for answered in [false, true] {
        let mut machine = machine();
        let mut pings = Vec::new();
        for step in 0..60 {
            machine.poll(Millis::new(step * 10));
            for output in outputs(&mut machine) {
                let Output::Transmit { bytes, .. } = output else { continue };
                if let Message::Ping { seq, .. } = Packet::<u64>::parse(&bytes).unwrap().message {
                    pings.push(seq);
                }
            }
            if answered && pings.len() == 2 {
                let ack = Message::Ack { seq: pings[1], target: 2 };
                machine.handle_message(Millis::new(step * 10), 2, &packet(2, &ack, &[])).unwrap();
            }
        }
        assert_eq!(pings[0], pings[1], "it is the same probe");
        let suspected = machine.member(2).unwrap().state == State::Suspect;
        assert_eq!(suspected, !answered);
    }
}

#[test]
fn an_account_that_is_older_changes_nothing() {
    let mut machine = machine();
    for (state, incarnation) in [(State::Left, 2), (State::Down, 2), (State::Up, 3)] {
        let older = account(2, state, incarnation, b"n:2");
        machine.handle_message(Millis::new(1), 3, &packet(3, &Message::Gossip, &[older])).unwrap();
    }
    assert_eq!(machine.member(2).unwrap().state, State::Up);
    assert!(!outputs(&mut machine).iter().any(|output| {
        matches!(output, Output::Event(Event::Left(2) | Event::Down(2) | Event::Up(2)))
    }));
}

#[test]
fn a_member_that_was_down_is_up_with_a_higher_incarnation_only() {
    let mut machine = machine();
    let down = account(2, State::Down, 3, b"n:2");
    machine.handle_message(Millis::new(1), 3, &packet(3, &Message::Gossip, &[down])).unwrap();
    let same = account(2, State::Up, 3, b"n:2");
    machine.handle_message(Millis::new(2), 3, &packet(3, &Message::Gossip, &[same])).unwrap();
    assert_eq!(machine.member(2).unwrap().state, State::Down);
    let higher = account(2, State::Up, 4, b"n:2");
    machine.handle_message(Millis::new(3), 3, &packet(3, &Message::Gossip, &[higher])).unwrap();
    assert_eq!(machine.member(2).unwrap().state, State::Up);
    assert_eq!(machine.live_members(), 3);
}

#[test]
fn a_member_that_is_doubted_twice_is_asked_about_once() {
    let mut machine = machine();
    for other in [3, 4] {
        machine.handle_message(Millis::ZERO, other, &packet(other, &Message::Gossip, &[])).unwrap();
    }
    outputs(&mut machine);
    machine.note_unreachable(Millis::new(1), 2);
    machine.poll(Millis::new(1));
    let asked: Vec<u64> = outputs(&mut machine)
        .iter()
        .filter_map(|output| match output {
            Output::Transmit { bytes, .. } => match Packet::<u64>::parse(bytes).unwrap().message {
                Message::PingReq { seq, .. } => Some(seq),
                _ => None,
            },
            Output::Event(_) => None,
        })
        .collect();
    let [seq, same] = asked[..] else { panic!("both others are asked: {asked:?}") };
    assert_eq!(seq, same);
    for other in [3, 4] {
        let nack = Message::Nack { seq, target: 2 };
        machine.handle_message(Millis::new(2), other, &packet(other, &nack, &[])).unwrap();
    }
    // With fewer to ask the second time, two have answered a question that went to one.
    let gone = account(4, State::Left, 3, b"n:2");
    machine.handle_message(Millis::new(3), 3, &packet(3, &Message::Gossip, &[gone])).unwrap();
    machine.note_unreachable(Millis::new(4), 2);
    for step in 4..400 {
        machine.poll(Millis::new(step));
    }
    let suspected = outputs(&mut machine).contains(&Output::Event(Event::Suspect(2)));
    assert!(suspected, "and then it is suspected");
}
