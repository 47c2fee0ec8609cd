//! A virtual network: members, packets in flight, faults as one options struct, time that jumps
//! from one thing to the next. A seed reproduces a run; the trace hash proves it.

use std::collections::{BTreeMap, BTreeSet};

use kv_gossip::{
    Address, Config, Error, Event, Millis, Output, Rng, SplitMix64, State, Swim, Target,
};

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
    pub(crate) machines: BTreeMap<u64, Machine>,
    pub(crate) faults: Faults,
    /// (from, to) that hear nothing of each other in this direction.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// Who loses how much of what it is sent, in a thousand, beside `faults`.
    pub(crate) deaf: BTreeMap<u64, u64>,
    pub(crate) events: Vec<(Millis, u64, Event<u64>)>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// What each member has sent.
    pub(crate) sent_bytes: BTreeMap<u64, u64>,
    pub(crate) packet_bytes_max: usize,
    pub(crate) trace: u64,
    /// Sees each packet: (now, from, bytes).
    pub(crate) tap: Option<Tap>,
    config: Config,
    places: BTreeMap<Vec<u8>, u64>,
    in_flight: BTreeMap<(Millis, u64), (u64, u64, Vec<u8>)>,
    /// When each member wants to be polled, and the same in order of time.
    wakes: BTreeMap<u64, Millis>,
    wake_order: BTreeSet<(Millis, u64)>,
    order: u64,
    rng: SplitMix64,
}

type Tap = Box<dyn FnMut(Millis, u64, &[u8])>;

pub(crate) fn address(id: u64) -> Address {
    Address::new(format!("node-{id}:7000").as_bytes()).unwrap()
}

impl Net {
    pub(crate) fn new(seed: u64, config: Config) -> Self {
        Self {
            now: Millis::ZERO,
            machines: BTreeMap::new(),
            faults: Faults::default(),
            cut: BTreeSet::new(),
            deaf: BTreeMap::new(),
            events: Vec::new(),
            packets: 0,
            bytes: 0,
            sent_bytes: BTreeMap::new(),
            packet_bytes_max: 0,
            trace: seed,
            tap: None,
            config,
            places: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            wakes: BTreeMap::new(),
            wake_order: BTreeSet::new(),
            order: 0,
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

    pub(crate) fn start(&mut self, id: u64, at: Address, incarnation: u64, seeds: &[u64]) {
        let rng = SplitMix64::new(self.rng.next_u64());
        self.places.insert(at.as_bytes().to_vec(), id);
        let config = self.config.clone();
        let mut machine = Swim::new(config, id, at, incarnation, rng, self.now).unwrap();
        machine.join(self.now, seeds.iter().map(|seed| address(*seed)));
        self.machines.insert(id, machine);
        self.drain(id);
    }

    pub(crate) fn kill(&mut self, id: u64) {
        drop(self.pause(id));
    }

    /// Takes a member's process off the processor: it keeps its state and does nothing.
    pub(crate) fn pause(&mut self, id: u64) -> Machine {
        if let Some(at) = self.wakes.remove(&id) {
            self.wake_order.remove(&(at, id));
        }
        self.machines.remove(&id).unwrap()
    }

    pub(crate) fn resume(&mut self, id: u64, machine: Machine) {
        self.machines.insert(id, machine);
        self.poll(id);
    }

    pub(crate) fn isolate(&mut self, id: u64, cut: bool) {
        let others: Vec<u64> = self.machines.keys().copied().filter(|other| *other != id).collect();
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
        let result = act(self.machines.get_mut(&id).unwrap(), now);
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
            .filter(|(viewer, _)| **viewer != id)
            .all(|(_, machine)| machine.member(id).is_some_and(|member| member.state == state))
    }

    pub(crate) fn all_see_all_up(&self) -> bool {
        self.machines.values().all(|machine| machine.live_members() == self.machines.len())
            && self.machines.keys().all(|id| self.all_see(*id, State::Up))
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Event<u64>) -> bool) -> usize {
        self.events.iter().filter(|(_, _, event)| wanted(event)).count()
    }

    fn step(&mut self, end: Millis) -> bool {
        let arrival = self.in_flight.keys().next().map_or(Millis::NEVER, |(at, _)| *at);
        let wake = self.wake_order.first().copied().unwrap_or((Millis::NEVER, 0));
        let next = arrival.min(wake.0).max(self.now);
        if next > end {
            return false;
        }
        self.now = next;
        if arrival <= next {
            let (_, (from, to, bytes)) = self.in_flight.pop_first().unwrap();
            self.deliver(from, to, &bytes);
        } else {
            self.poll(wake.1);
        }
        true
    }

    fn deliver(&mut self, from: u64, to: u64, bytes: &[u8]) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&to) else { return };
        match machine.handle_message(now, from, bytes) {
            Ok(()) | Err(Error::WrongTarget | Error::FromSelf | Error::Refused) => {}
            Err(error) => panic!("{from} sent {to} a bad packet: {error}"),
        }
        self.poll(to);
    }

    fn poll(&mut self, id: u64) {
        let now = self.now;
        self.machines.get_mut(&id).unwrap().poll(now);
        self.drain(id);
    }

    fn drain(&mut self, id: u64) {
        while let Some(output) = self.machines.get_mut(&id).unwrap().poll_output() {
            match output {
                Output::Event(event) => self.events.push((self.now, id, event)),
                Output::Transmit { to, bytes } => self.send(id, &to, bytes),
            }
        }
        let wake = self.machines[&id].next_wake();
        if let Some(before) = self.wakes.insert(id, wake) {
            self.wake_order.remove(&(before, id));
        }
        self.wake_order.insert((wake, id));
    }

    fn send(&mut self, from: u64, to: &Target<u64>, bytes: Vec<u8>) {
        let address = match to {
            Target::Node(node) => {
                self.machines[&from].address(*node).expect("a known member").clone()
            }
            Target::Address(address) => address.clone(),
        };
        self.packets += 1;
        self.bytes += bytes.len() as u64;
        *self.sent_bytes.entry(from).or_default() += bytes.len() as u64;
        self.packet_bytes_max = self.packet_bytes_max.max(bytes.len());
        self.hash(self.now.get());
        self.hash(from);
        for word in bytes.chunks(8) {
            let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.hash(word);
        }
        if let Some(tap) = &mut self.tap {
            tap(self.now, from, &bytes);
        }
        let Some(to) = self.places.get(address.as_bytes()).copied() else { return };
        let deaf = self.deaf.get(&to).copied().unwrap_or(0);
        if self.cut.contains(&(from, to))
            || self.chance(self.faults.loss_per_mille)
            || self.chance(deaf)
        {
            return;
        }
        if self.chance(self.faults.duplicate_per_mille) {
            self.fly(from, to, bytes.clone());
        }
        self.fly(from, to, bytes);
    }

    fn fly(&mut self, from: u64, to: u64, bytes: Vec<u8>) {
        let spread = self.faults.delay_ms_max - self.faults.delay_ms_min + 1;
        let delay_ms = self.faults.delay_ms_min + self.rng.next_u64() % spread;
        self.order += 1;
        self.in_flight.insert((self.now.plus(delay_ms), self.order), (from, to, bytes));
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.next_u64() % 1_000 < per_mille
    }

    fn hash(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }
}
