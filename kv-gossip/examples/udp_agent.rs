//! A membership agent over UDP: the one place in this crate where a socket and a clock are.
//!
//! Without arguments it shows itself: three agents on loopback find each other, one is stopped
//! without a word, the other two find out. With arguments it is one agent:
//!
//! ```text
//! cargo run -p kv-gossip --example udp_agent
//! cargo run -p kv-gossip --example udp_agent -- 1 127.0.0.1:9001
//! cargo run -p kv-gossip --example udp_agent -- 2 127.0.0.1:9002 127.0.0.1:9001
//! ```
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it is a program")]

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kv_gossip::{Address, Config, Event, Millis, Output, SplitMix64, State, Swim, Target};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [id, listen, seeds @ ..] = arguments.as_slice() else { return demo() };
    let seeds: std::result::Result<Vec<SocketAddr>, _> =
        seeds.iter().map(|seed| seed.parse()).collect();
    let socket = UdpSocket::bind(listen)?;
    let stop = AtomicBool::new(false);
    let mut agent = Agent::new(id.parse()?, socket, &seeds?)?;
    let id = agent.swim.me();
    agent.run(&stop, &mut |event| println!("{id}: {event:?}"))
}

struct Agent {
    swim: Swim<u64, SplitMix64>,
    socket: UdpSocket,
    started: Instant,
}

impl Agent {
    fn new(id: u64, socket: UdpSocket, seeds: &[SocketAddr]) -> Result<Self> {
        let address = encode(socket.local_addr()?)?;
        let random = std::time::UNIX_EPOCH.elapsed()?.subsec_nanos();
        let rng = SplitMix64::new(id ^ u64::from(random));
        let config = Config { packet_bytes_max: 1_400, ..Config::local() };
        let mut swim = Swim::new(config, id, address, 0, rng, Millis::ZERO)?;
        swim.publish_fact(1, format!("agent {id}").as_bytes())?;
        let seeds: Result<Vec<Address>> = seeds.iter().map(|seed| encode(*seed)).collect();
        swim.join(Millis::ZERO, seeds?);
        Ok(Self { swim, socket, started: Instant::now() })
    }

    fn now(&self) -> Millis {
        Millis::new(self.started.elapsed().as_millis() as u64)
    }

    /// Receives until the machine has something to do, does it, again.
    fn run(&mut self, stop: &AtomicBool, on_event: &mut dyn FnMut(Event<u64>)) -> Result<()> {
        let mut packet = vec![0; kv_gossip::PACKET_BYTES_LIMIT];
        while !stop.load(Ordering::Relaxed) {
            let wait_ms = self.swim.next_wake().since(self.now()).clamp(1, 50);
            self.socket.set_read_timeout(Some(Duration::from_millis(wait_ms)))?;
            match self.socket.recv(&mut packet) {
                Ok(length) => self.receive(packet.get(..length).unwrap_or_default()),
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error.into()),
            }
            let now = self.now();
            self.swim.poll(now);
            self.drain(on_event);
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &[u8]) {
        let now = self.now();
        // A datagram says itself who sent it. Anyone could: this agent is for trusted networks.
        if let Ok(from) = kv_gossip::sender(bytes)
            && let Err(error) = self.swim.handle_message(now, from, bytes)
        {
            println!("{}: refused a packet: {error}", self.swim.me());
        }
    }

    fn drain(&mut self, on_event: &mut dyn FnMut(Event<u64>)) {
        while let Some(output) = self.swim.poll_output() {
            match output {
                Output::Event(event) => on_event(event),
                Output::Transmit { to, bytes } => {
                    let address = match &to {
                        Target::Node(node) => self.swim.address(*node),
                        Target::Address(address) => Some(address),
                    };
                    let place = address.and_then(Address::as_str).and_then(|at| at.parse().ok());
                    if let Some(place) = place {
                        let place: SocketAddr = place;
                        // What can't be sent is lost, like what gets lost on the way.
                        let _sent = self.socket.send_to(&bytes, place);
                    }
                }
            }
        }
    }
}

/// Nothing came in time, or an earlier packet of ours met a closed port.
fn is_transient(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionRefused
    )
}

fn encode(place: SocketAddr) -> Result<Address> {
    Ok(Address::new(place.to_string().as_bytes())?)
}

fn demo() -> Result<()> {
    let sockets: std::result::Result<Vec<UdpSocket>, _> =
        (0..3).map(|_| UdpSocket::bind("127.0.0.1:0")).collect();
    let sockets = sockets?;
    let seed = sockets.first().ok_or("a first socket")?.local_addr()?;
    let started = Instant::now();
    let mut stops = Vec::new();
    let (to_main, events) = std::sync::mpsc::sync_channel(1_024);
    for (id, socket) in (1..).zip(sockets) {
        let stop = Arc::new(AtomicBool::new(false));
        stops.push(Arc::clone(&stop));
        let to_main = to_main.clone();
        let mut agent = Agent::new(id, socket, &[seed])?;
        std::thread::spawn(move || {
            let ended = agent.run(&stop, &mut |event| {
                let _told = to_main.try_send((id, event));
            });
            let up = agent.swim.members().filter(|(_, member)| member.state == State::Up).count();
            println!("{id}: ended {ended:?}, saw {up} up");
        });
    }
    drop(to_main);
    let stop = |id: usize| {
        if let Some(stop) = stops.get(id - 1) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    while let Ok((id, event)) = events.recv_timeout(Duration::from_secs(10)) {
        println!("{:5} ms  {id}: {event:?}", started.elapsed().as_millis());
        seen.insert((id, event));
        let all_up = (1..=3).all(|viewer| {
            (1..=3).all(|node| node == viewer || seen.contains(&(viewer, Event::Up(node))))
        });
        if all_up && seen.insert((0, Event::Joined)) {
            println!("{:5} ms  all see all; 3 stops", started.elapsed().as_millis());
            stop(3);
        }
        if [1, 2].iter().all(|viewer| seen.contains(&(*viewer, Event::Down(3)))) {
            println!("{:5} ms  1 and 2 see 3 as down", started.elapsed().as_millis());
            stop(1);
            stop(2);
            return Ok(());
        }
    }
    Err("the agents did not find each other, or did not miss the stopped one".into())
}
