//! Clients: each does one thing after the other, through any node that lives.
//!
//! ```text
//! d:<client>:<n>   one SET for each key                     nothing acknowledged may be missing
//! s:<client>       SETs and DELs of one client              never seen out of order
//! c:<n>            SETs and DELs of everybody               never shown as older than acknowledged
//! m:<n>            KV.PUT, KV.DEL, some SETs of everybody   siblings as the contexts say
//! e:<client>:<n>   SETs with an end, EXPIRE, PERSIST, GETEX there until the end, not longer
//! ```
//! On `s:` and `c:` clients also set ends that never come, which must change nothing. Values are
//! functions of (seed, client, operation), so that no two are alike and what a read shows tells
//! which write it came from; the stored bytes are the value and a filler that depends on it.

mod ops;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kv_node::RequestError;
use parking_lot::Mutex;

use super::history::{Action, History, Outcome};
use super::random::Random;
use super::watch::SHARED;
use super::world::{DEADLINES_MAX, Door, REQUEST_MS_MAX, World};

/// Keys that all clients put siblings to, again and again.
const SHARED_KEYS: u64 = 3;
/// Shared keys that see a few puts in a run: a replica that forgot one of them is not shown so by
/// the next request.
const COLD_KEYS: u64 = 200;
/// Keys that all clients overwrite.
const CONTESTED_KEYS: u64 = 3;
/// An operation without an answer after so long hangs: every deadline that it may use up, and two
/// seconds for what has none (a lease, a sync). Time in which its node stands still does not count.
const HANG_MS: u64 = REQUEST_MS_MAX * DEADLINES_MAX + 2_000;

/// What a client may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SetDistinct,
    GetDistinct,
    SetOwn,
    DeleteOwn,
    GetOwn,
    SetContested,
    DeleteContested,
    GetContested,
    /// An end in the far future, or none, for an own or contested key.
    Touch,
    Put,
    SetShared,
    DeleteSeen,
    Look,
    SetUntil,
    ChangeEnd,
    GetExpiring,
    Flush,
}

/// How often clients do what, as weights, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    weights: Vec<(Kind, u64)>,
    /// A client rests so long between two operations, at most, in microseconds.
    pub think_us_max: u64,
    /// A stored value is so long, at most.
    pub value_bytes_max: u64,
    /// A value that ends does so within this, at most, in milliseconds.
    pub ttl_ms_max: u64,
    /// So many more shared keys, which half of what is done to shared keys falls on: few puts each.
    pub cold_keys: u64,
}

impl Mix {
    /// A bit of everything save FLUSHALL.
    #[must_use]
    pub fn usual() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 22),
            (Kind::GetDistinct, 6),
            (Kind::SetOwn, 12),
            (Kind::DeleteOwn, 3),
            (Kind::GetOwn, 10),
            (Kind::SetContested, 10),
            (Kind::DeleteContested, 3),
            (Kind::GetContested, 12),
            (Kind::Touch, 4),
            (Kind::Put, 7),
            (Kind::SetShared, 1),
            (Kind::DeleteSeen, 1),
            (Kind::Look, 9),
            (Kind::SetUntil, 3),
            (Kind::ChangeEnd, 3),
            (Kind::GetExpiring, 4),
        ];
        Self { weights, think_us_max: 60_000, value_bytes_max: 64, ttl_ms_max: 8_000, cold_keys: 0 }
    }

    /// The usual, shifted by chance: everything is some times as frequent as otherwise, and
    /// sometimes left out.
    #[must_use]
    pub fn drawn(random: &Random) -> Self {
        let mut mix = Self::usual();
        for (_, weight) in &mut mix.weights {
            *weight *= random.below(4);
        }
        // A run in which nothing can be lost proves nothing.
        mix.weights.push((Kind::SetDistinct, 5));
        mix.think_us_max = random.between(15_000, 90_000);
        mix.value_bytes_max = if random.percent(30) { 2_000 } else { 64 };
        mix
    }

    /// Adds FLUSHALL, so many times as frequent as a read of a shared key.
    #[must_use]
    pub fn with_flush(mut self, weight: u64) -> Self {
        self.weights.push((Kind::Flush, weight));
        self
    }

    /// Only puts and reads of siblings.
    #[must_use]
    pub fn of_siblings() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 10),
            (Kind::Put, 40),
            (Kind::SetShared, 3),
            (Kind::DeleteSeen, 3),
            (Kind::Look, 34),
        ];
        Self { weights, cold_keys: COLD_KEYS, ..Self::usual() }
    }

    /// Puts, deletes and reads of siblings, and deletes of other keys.
    #[must_use]
    pub fn of_deletes() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 10),
            (Kind::SetOwn, 8),
            (Kind::DeleteOwn, 8),
            (Kind::SetContested, 6),
            (Kind::DeleteContested, 6),
            (Kind::Put, 20),
            (Kind::DeleteSeen, 16),
            (Kind::Look, 26),
        ];
        Self { weights, cold_keys: COLD_KEYS / 4, ..Self::usual() }
    }

    /// Keys that are written once and read again and again.
    #[must_use]
    pub fn of_reads() -> Self {
        let weights = vec![(Kind::SetDistinct, 30), (Kind::GetDistinct, 60), (Kind::GetOwn, 10)];
        Self { weights, think_us_max: 20_000, value_bytes_max: 500, ..Self::usual() }
    }

    /// Few keys that all clients overwrite and read, as fast as they can.
    #[must_use]
    pub fn of_registers() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 10),
            (Kind::GetDistinct, 5),
            (Kind::SetOwn, 10),
            (Kind::GetOwn, 15),
            (Kind::SetContested, 20),
            (Kind::DeleteContested, 3),
            (Kind::GetContested, 37),
        ];
        Self { weights, think_us_max: 10_000, ..Self::usual() }
    }

    /// Values that end soon.
    #[must_use]
    pub fn of_ends() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 10),
            (Kind::SetUntil, 25),
            (Kind::ChangeEnd, 30),
            (Kind::GetExpiring, 20),
            (Kind::Touch, 10),
            (Kind::SetOwn, 5),
            (Kind::GetOwn, 5),
        ];
        Self { weights, ttl_ms_max: 3_000, ..Self::usual() }
    }

    fn draw(&self, random: &Random) -> Kind {
        let sum = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(sum);
        for (kind, weight) in &self.weights {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        Kind::Look
    }
}

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

    #[test]
    fn what_has_no_weight_is_never_drawn() {
        let random = Random::of(1, "mix");
        let mix = Mix::of_siblings();
        for _ in 0..1_000 {
            let drawn = mix.draw(&random);
            assert!(mix.weights.iter().any(|(kind, _)| *kind == drawn), "{drawn:?}");
        }
    }
}
