//! Who is in the cluster, who is up, and what each member says of itself: SWIM membership with
//! Lifeguard's refinements and small versioned facts, as one machine without sockets or a clock.
//!
//! ```text
//!            handle_message(now, from, bytes)   note_unreachable / note_alive
//!                          |                                |
//!  join, publish_fact -> Swim <- poll(now), not before next_wake()
//!                          |
//!                     poll_output() -> Transmit { to, bytes } | Event(Up, Suspect, Down, ...)
//! ```
//!
//! * **It is** the protocol of SWIM (Das, Gupta, Motivala, 2002): a direct probe, indirect probes
//!   through others, suspicion, refutation by a higher incarnation, news that rides on probes; with
//!   Lifeguard (Dadgar, Phillips, Currey, 2018): suspicions that confirmations shorten, doubt in
//!   oneself, the suspect told first; with a periodic comparison of the whole state, so that
//!   nothing stays lost; with facts that only their owner edits, under a byte budget.
//! * **It is not** a transport, an authentication (whoever can call [`Swim::handle_message`] is
//!   believed), a consensus on who is a member, or a detector for the request path; for the last
//!   see [`detector`].
//!
//! The same inputs at the same times with the same seed give the same outputs.
//!
//! ```
//! use kv_gossip::{Address, Config, Event, Millis, Output, SplitMix64, Swim};
//!
//! # fn main() -> Result<(), kv_gossip::Error> {
//! let start = |id: u64| -> Result<_, kv_gossip::Error> {
//!     let address = Address::new(id.to_string().as_bytes())?;
//!     Swim::new(Config::local(), id, address, 0, SplitMix64::new(id), Millis::ZERO)
//! };
//! let (mut a, mut b) = (start(1)?, start(2)?);
//! b.publish_fact(7, b"zone=x")?;
//! b.join(Millis::ZERO, [Address::new(b"1")?]);
//! b.poll(Millis::ZERO);
//! while let Some(Output::Transmit { bytes, .. }) = b.poll_output() {
//!     a.handle_message(Millis::new(1), 2, &bytes)?;
//! }
//! assert_eq!(a.poll_output(), Some(Output::Event(Event::Up(2))));
//! # Ok(())
//! # }
//! ```
//!
//! Features: none. `no_std` with `alloc`, no dependencies.
#![no_std]

extern crate alloc;

mod codec;
mod config;
pub mod detector;
mod dissemination;
mod error;
mod facts;
mod identity;
mod member;
mod message;
mod output;
mod rng;
mod suspicion;
mod swim;
mod time;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use codec::{PACKET_BYTES_LIMIT, PACKET_BYTES_MIN};
pub use config::Config;
pub use error::Error;
pub use facts::Fact;
pub use identity::{ADDRESS_BYTES_MAX, Address, NodeCode};
pub use member::{ACCUSERS_MAX, Member, State};
pub use message::{WIRE_VERSION, sender};
pub use output::{Event, Output, Target};
pub use rng::{Rng, SplitMix64};
pub use swim::{SEEDS_MAX, Stats, Swim};
pub use time::Millis;
