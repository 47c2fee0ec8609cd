//! Clients: each does one thing after the other, through any node that lives.
//!
//! ```text
//! d:<client>:<n>   one SET for each key                     nothing acknowledged may be missing
//! s:<client>       SETs and DELs of one client              never seen out of order
//! c:<n>            SETs and DELs of everybody               never shown as older than acknowledged
//! m:<n>            KV.PUT, KV.DEL, some SETs of everybody   siblings as the contexts say
//! e:<client>:<n>   SETs with an end, EXPIRE, PERSIST, GETEX there until the end, not longer
//! n:<n>            INCR, where one node decides             never more than was counted
//! ```
//! On `s:` and `c:` clients also set ends that never come, which must change nothing. Values are
//! functions of (seed, client, operation), so that no two are alike and what a read shows tells
//! which write it came from; the stored bytes are the value and a filler that depends on it.

mod batches;
mod mix;
mod ops;
mod promises;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kv_node::RequestError;
use parking_lot::Mutex;

pub use mix::Mix;

use super::history::{Action, History, Outcome};
use super::random::Random;
use super::watch::SHARED;
use super::world::{DEADLINES_MAX, Door, REQUEST_MS_MAX, World};
use mix::Kind;

/// Keys that all clients put siblings to, again and again.
const SHARED_KEYS: u64 = 3;
/// Keys that all clients overwrite.
const CONTESTED_KEYS: u64 = 3;
/// An operation without an answer after so long hangs: every deadline that it may use up, and two
/// seconds for what has none (a lease, a sync). Time in which its node stands still does not count.
const HANG_MS: u64 = REQUEST_MS_MAX * DEADLINES_MAX + 2_000;

/// One client of a run.
#[derive(Debug)]
pub struct Client {
    id: usize,
    clients: usize,
    seed: u64,
    mix: Rc<Mix>,
    random: Random,
    history: Rc<Mutex<History>>,
    /// Operations so far.
    done: u64,
    /// Distinct keys so far.
    distinct: u64,
    /// Keys with an end so far.
    expiring: u64,
    /// For each shared key the last context and the values that it covers.
    seen: BTreeMap<u64, (Option<Bytes>, Vec<String>)>,
}

impl Client {
    /// Client `id` of `clients`.
    #[must_use]
    pub fn new(
        seed: u64,
        id: usize,
        clients: usize,
        mix: &Rc<Mix>,
        history: &Rc<Mutex<History>>,
    ) -> Self {
        Self {
            id,
            clients,
            seed,
            mix: Rc::clone(mix),
            random: Random::of(seed, &format!("client {id}")),
            history: Rc::clone(history),
            done: 0,
            distinct: 0,
            expiring: 0,
            seen: BTreeMap::new(),
        }
    }

    /// Works until `until_us` of the world's time.
    pub async fn work(mut self, world: &World, until_us: u64) {
        while world.now_us() < until_us {
            let rest = Duration::from_micros(self.random.below(self.mix.think_us_max));
            tokio::time::sleep(rest).await;
            self.done += 1;
            let kind = self.mix.draw(&self.random);
            self.act(world, kind).await;
        }
    }

    /// Writes one key after the other, until it is dropped.
    pub async fn write_for_ever(&mut self, world: &World) {
        loop {
            let rest = Duration::from_micros(self.random.below(3_000));
            tokio::time::sleep(rest).await;
            self.done += 1;
            self.act(world, Kind::SetDistinct).await;
        }
    }

    /// A value that no other operation of any run has.
    fn value(&self) -> String {
        let mixed = Random::of(self.seed, &format!("{} {}", self.id, self.done)).next();
        format!("{}.{}.{mixed:016x}", self.id, self.done)
    }

    /// A node that lives, and its door.
    fn door(&self, world: &World) -> Option<(usize, Door)> {
        let first = self.random.below(world.nodes() as u64) as usize;
        // As clients do, who dial the next address when one refuses.
        (0..world.nodes())
            .map(|step| (first + step) % world.nodes())
            .find_map(|node| Some((node, world.door(node)?)))
    }

    fn begin(&self, world: &World, node: usize, key: &str, action: Action) -> usize {
        self.history.lock().begin_at(self.id, node, key, action, world.now_us())
    }

    fn end(&self, world: &World, begun: usize, outcome: Outcome) {
        self.history.lock().end(begun, outcome, world.now_us());
    }
}

/// The key that only one client writes, again and again.
#[must_use]
pub fn own_key(client: usize) -> String {
    format!("s:{client}")
}

/// A key that is written once.
#[must_use]
pub fn distinct_key(client: usize, n: u64) -> String {
    format!("d:{client}:{n}")
}

/// Whether a key is written again and again.
#[must_use]
pub fn is_hot(key: &str) -> bool {
    let shared = key.strip_prefix(SHARED).and_then(|n| n.parse().ok());
    let is_one = || key.starts_with("s:") || key.starts_with("c:");
    shared.map_or_else(is_one, |n: u64| n < SHARED_KEYS)
}

/// The bytes that are stored for a value: it, and a filler up to about `bytes`.
fn stored(value: &str, bytes: u64) -> Bytes {
    let fill = (bytes as usize).saturating_sub(value.len() + 1);
    let mut out = Vec::with_capacity(value.len() + 1 + fill);
    out.extend_from_slice(value.as_bytes());
    out.push(b'|');
    out.extend(value.bytes().cycle().take(fill));
    Bytes::from(out)
}

/// The value of stored bytes; what nobody wrote, if the filler is not the value's.
#[must_use]
pub fn value_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.split_once('|') {
        Some((value, fill)) if fill.bytes().zip(value.bytes().cycle()).all(|(a, b)| a == b) => {
            value.to_owned()
        }
        _ => format!("damaged {text}"),
    }
}

/// Reads a key through a door, as an outcome.
pub async fn shown(door: &mut Door, key: &str) -> Outcome {
    match ask(door, async |door| door.coordinator.get(key.as_bytes()).await).await {
        Ok(value) => Outcome::Shown(value.as_deref().map(value_of)),
        Err(outcome) => outcome,
    }
}

/// Reads all values of a key through a door: the context that came with them, and the outcome.
pub async fn all_shown(door: &mut Door, key: &str) -> (Option<Bytes>, Outcome) {
    match ask(door, async |door| door.coordinator.siblings(key.as_bytes()).await).await {
        Err(outcome) => (None, outcome),
        Ok((context, siblings)) => {
            let values = siblings.iter().filter_map(|sibling| sibling.value.as_deref());
            let mut values: Vec<String> = values.map(value_of).collect();
            values.sort();
            (context, Outcome::AllShown(values))
        }
    }
}

/// What the node answers, unless it falls before the answer is out; then nobody knows.
async fn ask<T>(
    door: &mut Door,
    ask: impl AsyncFnOnce(&Door) -> Result<T, RequestError>,
) -> Result<T, Outcome> {
    let fell = || Outcome::Unknown("the node fell".into());
    let asked = Door::clone(door);
    let work = asked.gate.through(ask(&asked));
    tokio::select! {
        biased;
        () = door.shut() => Err(fell()),
        told = work => match told {
            _ if door.is_shut() => Err(fell()),
            Ok(told) => Ok(told),
            Err(error) => Err(Outcome::of(&error)),
        },
        () = asked.gate.open_for(Duration::from_millis(HANG_MS)) => Err(Outcome::Hung),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_value_is_known_again_and_a_damaged_one_is_nobodys() {
        for bytes in [0, 10, 300] {
            let stored = stored("1.2.abc", bytes);
            assert_eq!(value_of(&stored), "1.2.abc");
            let mut damaged = stored.to_vec();
            damaged.push(b'!');
            assert!(value_of(&damaged).starts_with("damaged"));
        }
    }
}
