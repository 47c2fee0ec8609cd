//! Clients: each does one thing after the other, through any node that lives.
//!
//! ```text
//! d:<client>:<n>   one SET for each key                  nothing acknowledged may be missing
//! s:<client>       SETs and DELs of one client in turn   never seen out of order
//! m:<n>            KV.PUTs of everybody, with contexts   siblings as the contexts say
//! ```
//! Values are functions of (seed, client, operation), so that no two are alike and what a read
//! shows tells which write it came from.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kv_node::RequestError;
use parking_lot::Mutex;

use super::history::{Action, History, Outcome};
use super::random::Random;
use super::world::{Door, World};

/// Keys that all clients put siblings to.
const SHARED_KEYS: u64 = 4;
/// A client rests so long between two operations, at most, in microseconds.
const THINK_US_MAX: u64 = 30_000;

/// One client of a run.
#[derive(Debug)]
pub struct Client {
    id: usize,
    clients: usize,
    seed: u64,
    random: Random,
    history: Rc<Mutex<History>>,
    /// Operations so far.
    done: u64,
    /// Distinct keys so far.
    distinct: u64,
    /// For each shared key the last context and the values that came with it.
    seen: Vec<(Option<Bytes>, Vec<String>)>,
}

impl Client {
    /// Client `id` of `clients`.
    #[must_use]
    pub fn new(seed: u64, id: usize, clients: usize, history: Rc<Mutex<History>>) -> Self {
        Self {
            id,
            clients,
            seed,
            random: Random::of(seed, &format!("client {id}")),
            history,
            done: 0,
            distinct: 0,
            seen: vec![(None, Vec::new()); SHARED_KEYS as usize],
        }
    }

    /// Works until `until_us` of the world's time.
    pub async fn work(mut self, world: &World, until_us: u64) {
        while world.now_us() < until_us {
            let rest = Duration::from_micros(self.random.below(THINK_US_MAX));
            tokio::time::sleep(rest).await;
            self.done += 1;
            match self.random.below(100) {
                0..40 => self.set_distinct(world).await,
                40..58 => self.set_own(world).await,
                58..62 => self.write(world, &own_key(self.id), Action::Delete).await,
                62..76 => {
                    let other = self.random.below(self.clients as u64) as usize;
                    self.read(world, &own_key(other), Action::Get).await;
                }
                76..84 => {
                    let n = self.random.below(self.distinct.max(1));
                    self.read(world, &distinct_key(self.id, n), Action::Get).await;
                }
                84..93 => self.look(world).await,
                _ => self.put(world).await,
            }
        }
    }

    /// Writes one key after the other, until it is dropped.
    pub async fn write_for_ever(&mut self, world: &World) {
        loop {
            let rest = Duration::from_micros(self.random.below(THINK_US_MAX / 10));
            tokio::time::sleep(rest).await;
            self.done += 1;
            self.set_distinct(world).await;
        }
    }

    async fn set_distinct(&mut self, world: &World) {
        let key = distinct_key(self.id, self.distinct);
        self.distinct += 1;
        let value = self.value();
        self.write(world, &key, Action::Set(value)).await;
    }

    async fn set_own(&mut self, world: &World) {
        let value = self.value();
        self.write(world, &own_key(self.id), Action::Set(value)).await;
    }

    /// KV.GET of a shared key.
    async fn look(&mut self, world: &World) {
        let n = self.random.below(SHARED_KEYS) as usize;
        let Some((node, mut door)) = self.door(world) else { return };
        let key = format!("m:{n}");
        let begun = self.begin(node, &key, Action::Siblings);
        let answer = alive(&mut door, async |door| door.coordinator.siblings(key.as_bytes()).await);
        let outcome = match answer.await {
            Answer::Died => Outcome::Unknown("the node fell".into()),
            Answer::Told(Err(error)) => Outcome::of(&error),
            Answer::Told(Ok((context, values))) => {
                let values = values.iter().filter_map(|sibling| sibling.value.as_ref());
                let mut shown: Vec<String> = values.map(text).collect();
                shown.sort();
                if let Some(seen) = self.seen.get_mut(n) {
                    *seen = (context, shown.clone());
                }
                Outcome::AllShown(shown)
            }
        };
        self.end(world, begun, outcome);
    }

    /// KV.PUT to a shared key, mostly with what was seen last, sometimes with nothing.
    async fn put(&mut self, world: &World) {
        let n = self.random.below(SHARED_KEYS) as usize;
        let blind = self.random.percent(20);
        let (context, seen) = match self.seen.get(n) {
            Some(seen) if !blind => seen.clone(),
            _ => (None, Vec::new()),
        };
        let value = self.value();
        let Some((node, mut door)) = self.door(world) else { return };
        let key = format!("m:{n}");
        let action = Action::Put { value: value.clone(), seen };
        let begun = self.begin(node, &key, action);
        let answer = alive(&mut door, async |door| {
            door.coordinator.put(key.as_bytes(), Bytes::from(value), context).await
        });
        let outcome = written(&answer.await);
        self.end(world, begun, outcome);
    }

    /// SET or DEL.
    async fn write(&self, world: &World, key: &str, action: Action) {
        let Some((node, mut door)) = self.door(world) else { return };
        let begun = self.begin(node, key, action.clone());
        let name = key.as_bytes();
        let answer = alive(&mut door, async |door| match &action {
            Action::Set(value) => door.coordinator.set(name, value.as_bytes()).await,
            _ => door.coordinator.delete(name).await.map(drop),
        });
        let outcome = written(&answer.await);
        self.end(world, begun, outcome);
    }

    async fn read(&self, world: &World, key: &str, action: Action) {
        let Some((node, mut door)) = self.door(world) else { return };
        let begun = self.begin(node, key, action);
        let outcome = shown(&mut door, key).await;
        self.end(world, begun, outcome);
    }

    /// A value that no other operation of any run has.
    fn value(&self) -> String {
        let mixed = Random::of(self.seed, &format!("{} {}", self.id, self.done)).next();
        format!("{}.{}.{mixed:016x}", self.id, self.done)
    }

    fn door(&self, world: &World) -> Option<(usize, Door)> {
        let first = self.random.below(world.nodes() as u64) as usize;
        // As clients do, who dial the next address when one refuses.
        (0..world.nodes())
            .map(|step| (first + step) % world.nodes())
            .find_map(|node| Some((node, world.door(node)?)))
    }

    fn begin(&self, node: usize, key: &str, action: Action) -> usize {
        self.history.lock().begin(self.id, node, key, action)
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

/// Reads a key through a door, as an outcome.
pub async fn shown(door: &mut Door, key: &str) -> Outcome {
    match alive(door, async |door| door.coordinator.get(key.as_bytes()).await).await {
        Answer::Died => Outcome::Unknown("the node fell".into()),
        Answer::Told(Ok(value)) => Outcome::Shown(value.as_ref().map(text)),
        Answer::Told(Err(error)) => Outcome::of(&error),
    }
}

enum Answer<T> {
    Told(Result<T, RequestError>),
    /// The connection broke: nobody knows.
    Died,
}

/// What the node answers, unless it falls before the answer is out.
async fn alive<T>(
    door: &mut Door,
    ask: impl AsyncFnOnce(&Door) -> Result<T, RequestError>,
) -> Answer<T> {
    let asked = Door::clone(door);
    tokio::select! {
        biased;
        () = door.shut() => Answer::Died,
        told = ask(&asked) => if door.is_shut() { Answer::Died } else { Answer::Told(told) },
    }
}

fn written(answer: &Answer<()>) -> Outcome {
    match answer {
        Answer::Died => Outcome::Unknown("the node fell".into()),
        Answer::Told(Ok(())) => Outcome::Acknowledged,
        Answer::Told(Err(error)) => Outcome::of(error),
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
