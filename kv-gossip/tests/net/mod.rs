//! A virtual network: members, packets in flight, faults as one options struct, time that jumps
//! from one thing to the next. A seed reproduces a run; the trace hash proves it.
//!
//! It carries an hour of a thousand members, tens of millions of packets: packets lie in a ring of
//! milliseconds, members in a list, and nothing is looked for by address that stands where it
//! always stood.

mod machines;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use kv_gossip::{
    Address, Config, Error, Event, Millis, Output, Rng, SplitMix64, State, Swim, Target,
};
use machines::Machines;

pub(crate) type Machine = Swim<u64, SplitMix64>;

#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) loss_per_mille: u64,
    pub(crate) duplicate_per_mille: u64,
    pub(crate) delay_ms_min: u64,
    pub(crate) delay_ms_max: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self { loss_per_mille: 0, duplicate_per_mille: 0, delay_ms_min: 1, delay_ms_max: 5 }
    }
}

pub(crate) struct Net {
    pub(crate) now: Millis,
    pub(crate) machines: Machines,
    pub(crate) faults: Faults,
    /// (from, to) that hear nothing of each other in this direction.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// Who loses how much of what it is sent, in a thousand, beside `faults`.
    pub(crate) deaf: BTreeMap<u64, u64>,
    pub(crate) events: Vec<(Millis, u64, Event<u64>)>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// What each member has sent, by number.
    pub(crate) sent_bytes: Vec<u64>,
    pub(crate) packet_bytes_max: usize,
    pub(crate) trace: u64,
    /// Sees each packet: (now, from, bytes).
    pub(crate) tap: Option<Tap>,
    config: Config,
    /// Who listens at an address that is not the usual one of its number.
    places: BTreeMap<Vec<u8>, u64>,
    /// The usual address of each member, by number.
    homes: Vec<Address>,
    in_flight: InFlight,
    /// When each member wants to be polled, by number, and the same in order of time; what stands
    /// there and not here is overtaken.
    wakes: Vec<Millis>,
    wake_order: BinaryHeap<Reverse<(Millis, u64)>>,
    rng: SplitMix64,
}

type Tap = Box<dyn FnMut(Millis, u64, &[u8])>;

struct Flight {
    from: u64,
    to: u64,
    bytes: Vec<u8>,
}

/// Packets by the millisecond of their arrival, in the order in which they were sent.
#[derive(Default)]
struct InFlight {
    /// The millisecond of the first of `slots`.
    begins: u64,
    slots: VecDeque<VecDeque<Flight>>,
    count: usize,
}

impl InFlight {
    fn push(&mut self, now: Millis, at: Millis, flight: Flight) {
        self.pass(now);
        let slot = usize::try_from(at.get() - self.begins).unwrap();
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, VecDeque::new);
        }
        self.slots[slot].push_back(flight);
        self.count += 1;
    }

    /// When the next one arrives.
    fn next(&self) -> Millis {
        self.first().map_or(Millis::NEVER, |slot| Millis::new(self.begins + slot as u64))
    }

    fn pop(&mut self) -> Option<Flight> {
        let slot = self.first()?;
        self.count -= 1;
        self.slots[slot].pop_front()
    }

    fn first(&self) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        self.slots.iter().position(|slot| !slot.is_empty())
    }

    /// Milliseconds before `now` are over, and their places are used again.
    fn pass(&mut self, now: Millis) {
        if self.count == 0 {
            self.begins = now.get();
        }
        while self.begins < now.get() && self.slots.front().is_some_and(VecDeque::is_empty) {
            self.slots.rotate_left(1);
            self.begins += 1;
        }
    }
}

pub(crate) fn address(id: u64) -> Address {
    Address::new(format!("node-{id}:7000").as_bytes()).unwrap()
}

impl Net {
    pub(crate) fn new(seed: u64, config: Config) -> Self {
        Self {
            now: Millis::ZERO,
            machines: Machines::default(),
            faults: Faults::default(),
            cut: BTreeSet::new(),
            deaf: BTreeMap::new(),
            events: Vec::new(),
            packets: 0,
            bytes: 0,
            sent_bytes: Vec::new(),
            packet_bytes_max: 0,
            trace: seed,
            tap: None,
            config,
            places: BTreeMap::new(),
            homes: Vec::new(),
            in_flight: InFlight::default(),
            wakes: Vec::new(),
            wake_order: BinaryHeap::new(),
            rng: SplitMix64::new(seed),
        }
    }

    /// `count` members that know the first as their seed, all started now.
    pub(crate) fn with_members(seed: u64, config: Config, count: u64) -> Self {
        let mut net = Self::new(seed, config);
        for id in 1..=count {
            net.start(id, address(id), 0, &[1]);
        }
        net
    }

    /// `count` members that know each other from before.
    pub(crate) fn with_acquaintances(seed: u64, config: Config, count: u64) -> Self {
        let mut net = Self::new(seed, config);
        for id in 1..=count {
            let mut machine = net.machine(id, address(id), 0);
            let others = (1..=count).filter(|other| *other != id);
            machine.remember(net.now, others.map(|other| (other, address(other), 0)));
            net.machines.insert(id, machine);
            net.drain(id);
        }
        net
    }

    pub(crate) fn start(&mut self, id: u64, at: Address, incarnation: u64, seeds: &[u64]) {
        let mut machine = self.machine(id, at, incarnation);
        machine.join(self.now, seeds.iter().map(|seed| address(*seed)));
        self.machines.insert(id, machine);
        self.drain(id);
    }

    fn machine(&mut self, id: u64, at: Address, incarnation: u64) -> Machine {
        let rng = SplitMix64::new(self.rng.next_u64());
        while self.homes.len() <= id as usize {
            self.homes.push(address(self.homes.len() as u64));
            self.wakes.push(Millis::NEVER);
            self.sent_bytes.push(0);
        }
        if at != self.homes[id as usize] {
            self.places.insert(at.as_bytes().to_vec(), id);
        }
        Swim::new(self.config.clone(), id, at, incarnation, rng, self.now).unwrap()
    }

    pub(crate) fn kill(&mut self, id: u64) {
        drop(self.pause(id));
    }

    /// Takes a member's process off the processor: it keeps its state and does nothing.
    pub(crate) fn pause(&mut self, id: u64) -> Machine {
        self.wakes[id as usize] = Millis::NEVER;
        self.machines.remove(id).unwrap()
    }

    pub(crate) fn resume(&mut self, id: u64, machine: Machine) {
        self.machines.insert(id, machine);
        self.poll(id);
    }

    pub(crate) fn isolate(&mut self, id: u64, cut: bool) {
        let others: Vec<u64> = self.machines.keys().filter(|other| *other != id).collect();
        for other in others {
            for pair in [(id, other), (other, id)] {
                if cut {
                    self.cut.insert(pair);
                } else {
                    self.cut.remove(&pair);
                }
            }
        }
    }

    pub(crate) fn with<T>(&mut self, id: u64, act: impl FnOnce(&mut Machine, Millis) -> T) -> T {
        let now = self.now;
        let result = act(self.machines.get_mut(id).unwrap(), now);
        self.drain(id);
        result
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, at most `ms`. The time that it took.
    pub(crate) fn run_until(
        &mut self,
        ms: u64,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Option<u64> {
        let start = self.now;
        let end = start.plus(ms);
        while !done(self) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.now.since(start))
    }

    pub(crate) fn all_see(&self, id: u64, state: State) -> bool {
        self.machines
            .iter()
            .filter(|(viewer, _)| *viewer != id)
            .all(|(_, machine)| machine.member(id).is_some_and(|member| member.state == state))
    }

    pub(crate) fn all_see_all_up(&self) -> bool {
        self.machines.values().all(|machine| machine.live_members() == self.machines.len())
            && self.machines.keys().all(|id| self.all_see(id, State::Up))
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Event<u64>) -> bool) -> usize {
        self.events.iter().filter(|(_, _, event)| wanted(event)).count()
    }

    fn step(&mut self, end: Millis) -> bool {
        let arrival = self.in_flight.next();
        let (wake, waker) = self.next_wake();
        let next = arrival.min(wake).max(self.now);
        if next > end {
            return false;
        }
        self.now = next;
        if arrival <= next {
            let flight = self.in_flight.pop().unwrap();
            self.deliver(&flight);
        } else {
            self.poll(waker);
        }
        true
    }

    fn next_wake(&mut self) -> (Millis, u64) {
        while let Some(Reverse((at, id))) = self.wake_order.peek().copied() {
            if self.wakes[id as usize] == at {
                return (at, id);
            }
            self.wake_order.pop();
        }
        (Millis::NEVER, 0)
    }

    fn deliver(&mut self, flight: &Flight) {
        let (now, from, to) = (self.now, flight.from, flight.to);
        let Some(machine) = self.machines.get_mut(to) else { return };
        match machine.handle_message(now, from, &flight.bytes) {
            Ok(()) | Err(Error::WrongTarget | Error::FromSelf | Error::Refused) => {}
            Err(error) => panic!("{from} sent {to} a bad packet: {error}"),
        }
        self.poll(to);
    }

    fn poll(&mut self, id: u64) {
        let now = self.now;
        self.machines.get_mut(id).unwrap().poll(now);
        self.drain(id);
    }

    fn drain(&mut self, id: u64) {
        while let Some(output) = self.machines.get_mut(id).unwrap().poll_output() {
            match output {
                Output::Event(event) => self.events.push((self.now, id, event)),
                Output::Transmit { to, bytes } => self.send(id, &to, bytes),
            }
        }
        let wake = self.machines[&id].next_wake();
        if self.wakes[id as usize] != wake {
            self.wakes[id as usize] = wake;
            self.wake_order.push(Reverse((wake, id)));
        }
    }

    fn send(&mut self, from: u64, to: &Target<u64>, bytes: Vec<u8>) {
        self.packets += 1;
        self.bytes += bytes.len() as u64;
        self.sent_bytes[from as usize] += bytes.len() as u64;
        self.packet_bytes_max = self.packet_bytes_max.max(bytes.len());
        self.hash(&bytes, from);
        if let Some(tap) = &mut self.tap {
            tap(self.now, from, &bytes);
        }
        let Some(to) = self.listener(from, to) else { return };
        if (!self.cut.is_empty() && self.cut.contains(&(from, to)))
            || self.chance(self.faults.loss_per_mille)
            || self.chance(self.deaf.get(&to).copied().unwrap_or(0))
        {
            return;
        }
        if self.chance(self.faults.duplicate_per_mille) {
            self.fly(from, to, bytes.clone());
        }
        self.fly(from, to, bytes);
    }

    /// Who listens there.
    fn listener(&self, from: u64, to: &Target<u64>) -> Option<u64> {
        let address = match to {
            Target::Node(node) => {
                let address = self.machines[&from].address(*node).expect("a known member");
                if self.homes.get(*node as usize) == Some(address) {
                    return Some(*node);
                }
                address
            }
            Target::Address(address) => address,
        };
        let home = || self.homes.iter().position(|home| home == address).map(|id| id as u64);
        self.places.get(address.as_bytes()).copied().or_else(home)
    }

    fn fly(&mut self, from: u64, to: u64, bytes: Vec<u8>) {
        let spread = self.faults.delay_ms_max - self.faults.delay_ms_min + 1;
        let delay_ms = self.faults.delay_ms_min + self.rng.next_u64() % spread;
        self.in_flight.push(self.now, self.now.plus(delay_ms), Flight { from, to, bytes });
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.next_u64() % 1_000 < per_mille
    }

    fn hash(&mut self, bytes: &[u8], from: u64) {
        let mut hash = self.trace ^ self.now.get() ^ (from << 40);
        let (words, rest) = bytes.as_chunks::<8>();
        let rest = rest.iter().fold(1, |word, byte| word << 8 | u64::from(*byte));
        for word in words.iter().map(|word| u64::from_le_bytes(*word)).chain([rest]) {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
        }
        self.trace = hash;
    }
}
