//! One client: a connection, a schedule, and batches of operations.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Plan;
use super::alarm::Alarm;
use super::tally::{Outcome, Tally};
use super::workload::{Kind, Op, Source};
use crate::Error;
use crate::resp::{Command, Link, Reply};

/// Between two attempts to connect.
const RETRY_MS: u64 = 50;
/// How long what should have begun may be late at the end; what is later is counted as unfinished.
const DRAIN: Duration = Duration::from_secs(10);
/// Values are cut out of so many bytes of chance.
pub(crate) const POOL_BYTES: usize = 64 << 10;

/// What the clients of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    /// Keys that were ever inserted, those of the loading first.
    pub(crate) inserted: AtomicU64,
    /// Bytes that values are cut out of.
    pub(crate) pool: Vec<u8>,
    pub(crate) begin: Instant,
    /// Operations meant to begin before this are not measured.
    pub(crate) measure: Instant,
    pub(crate) end: Instant,
}

/// A client.
pub(crate) struct BenchClient {
    shared: Arc<Shared>,
    number: u32,
    source: Source,
    tally: Arc<Mutex<Tally>>,
    link: Option<Link>,
    /// Which of the targets.
    target: usize,
    /// Where this client's walk over the keys has got to.
    cursor: Vec<u8>,
    /// Operations that the schedule has given out.
    given: u64,
}

/// An operation under way.
struct Begun {
    op: Op,
    meant: Instant,
    /// Latency and outcome, once it has one.
    ended: Option<(u64, Outcome)>,
    /// A scan's keys.
    keys: Vec<Vec<u8>>,
}

impl BenchClient {
    pub(crate) fn new(
        shared: Arc<Shared>,
        number: u32,
        source: Source,
        tally: Arc<Mutex<Tally>>,
    ) -> Self {
        let target = number as usize % shared.plan.targets.len().max(1);
        let cursor = b"0".to_vec();
        Self { shared, number, source, tally, link: None, target, cursor, given: 0 }
    }

    /// Works until the end.
    ///
    /// # Errors
    /// The system has no timer.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let alarm = Alarm::new()?;
        let shared = Arc::clone(&self.shared);
        loop {
            let now = Instant::now();
            let meant = self.next_meant(now);
            if meant >= shared.end {
                return Ok(());
            }
            if now >= shared.end + DRAIN {
                self.give_up(meant);
                return Ok(());
            }
            alarm.at(meant).await?;
            if self.link.is_none() && !self.connect(now).await {
                continue;
            }
            let batch = self.batch(meant);
            let ended = self.carry_out(batch).await;
            self.note(&ended);
        }
    }

    /// When the next operation is meant to begin.
    fn next_meant(&self, now: Instant) -> Instant {
        self.shared.plan.rate.map_or(now, |rate| self.due(self.given, rate))
    }

    /// The moment of this client's operation of that number: clients take turns, so that all
    /// together keep the rate.
    fn due(&self, given: u64, rate: u32) -> Instant {
        let turn = given * u64::from(self.shared.plan.clients) + u64::from(self.number);
        self.shared.begin + Duration::from_secs_f64(turn as f64 / f64::from(rate.max(1)))
    }

    /// What begins now: in the closed loop as many as go together, in the open loop those of them
    /// that are due.
    fn batch(&mut self, meant: Instant) -> Vec<Begun> {
        let now = Instant::now();
        let mut batch = Vec::new();
        for place in 0..self.shared.plan.pipeline.max(1) {
            let meant = match self.shared.plan.rate {
                None => now,
                Some(_) if place == 0 => meant,
                Some(rate) => self.due(self.given, rate),
            };
            if meant > now || (meant >= self.shared.end && place > 0) {
                break;
            }
            self.given += 1;
            let op = self.source.next(&self.shared.inserted);
            batch.push(Begun { op, meant, ended: None, keys: Vec::new() });
        }
        batch
    }

    /// Sends the batch, and what has to follow its answers.
    async fn carry_out(&mut self, mut batch: Vec<Begun>) -> Vec<Begun> {
        let first = self.first(&batch);
        let all: Vec<usize> = (0..batch.len()).collect();
        let mut cursor = None;
        if self.exchange(&mut batch, &all, &first, Some(&mut cursor)).await {
            if let Some(cursor) = cursor {
                self.cursor = cursor;
            }
            let (places, second) = self.second(&batch);
            if !places.is_empty() {
                self.exchange(&mut batch, &places, &second, None).await;
            }
        }
        batch
    }

    /// Whether all answers came. Those at `places` belong to the commands, one each.
    async fn exchange(
        &mut self,
        batch: &mut [Begun],
        places: &[usize],
        commands: &Command,
        mut first: Option<&mut Option<Vec<u8>>>,
    ) -> bool {
        let Some(link) = &mut self.link else { return false };
        let done = link
            .exchange(commands, |number, reply| {
                let Some(place) = places.get(number) else { return };
                let Some(begun) = batch.get_mut(*place) else { return };
                begun.answer(reply, first.as_deref_mut());
            })
            .await;
        if done.is_ok() {
            return true;
        }
        // Nobody knows what became of those without an answer.
        for begun in batch.iter_mut().filter(|begun| begun.ended.is_none()) {
            begun.ended = Some((0, Outcome::Failed("connection".to_owned())));
        }
        self.lose();
        false
    }

    fn first(&mut self, batch: &[Begun]) -> Command {
        let mut commands = Command::default();
        for begun in batch {
            let key = self.shared.plan.key(begun.op.number);
            match begun.op.kind {
                Kind::Read | Kind::ReadModifyWrite => commands.add(&[b"GET", key.as_bytes()]),
                Kind::Update | Kind::Insert => self.set(&key, &mut commands),
                Kind::Scan => {
                    let count = begun.op.number.to_string();
                    commands.add(&[b"SCAN", &self.cursor, b"COUNT", count.as_bytes()]);
                }
            }
        }
        commands
    }

    /// What has to follow: a scan's values, a read key's new value.
    fn second(&mut self, batch: &[Begun]) -> (Vec<usize>, Command) {
        let mut commands = Command::default();
        let mut places = Vec::new();
        for (place, begun) in batch.iter().enumerate() {
            if begun.ended.is_some() {
                continue;
            }
            places.push(place);
            if begun.op.kind == Kind::Scan {
                let words = begun.keys.iter().map(Vec::as_slice);
                let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(words).collect();
                commands.add(&words);
            } else {
                let key = self.shared.plan.key(begun.op.number);
                self.set(&key, &mut commands);
            }
        }
        (places, commands)
    }

    fn set(&mut self, key: &str, commands: &mut Command) {
        let bytes = self.shared.plan.value_bytes as usize;
        let room = (self.shared.pool.len().saturating_sub(bytes)).max(1) as u64;
        let from = self.source.chance.below(room) as usize;
        let value = self.shared.pool.get(from..from + bytes).unwrap_or_default();
        commands.add(&[b"SET", key.as_bytes(), value]);
    }

    async fn connect(&mut self, meant: Instant) -> bool {
        let plan = &self.shared.plan;
        let Some(target) = plan.targets.get(self.target) else { return false };
        if let Ok(link) = Link::open(target, plan.wait).await {
            self.link = Some(link);
            return true;
        }
        // In the open loop what was meant meanwhile is only late; in the closed loop nothing else
        // would show that nobody was there.
        if plan.rate.is_none() && meant >= self.shared.measure {
            let refused = Outcome::Failed("connect".to_owned());
            lock(&self.tally).note(Kind::Read, 0, &refused);
        }
        self.lose();
        sleep(Duration::from_millis(RETRY_MS)).await;
        false
    }

    fn lose(&mut self) {
        self.link = None;
        self.target = (self.target + 1) % self.shared.plan.targets.len().max(1);
    }

    fn note(&self, batch: &[Begun]) {
        let mut tally = lock(&self.tally);
        for begun in batch.iter().filter(|begun| begun.meant >= self.shared.measure) {
            if let Some((us, outcome)) = &begun.ended {
                tally.note(begun.op.kind, *us, outcome);
            }
        }
    }

    /// Counts what was meant to begin before the end and never will.
    fn give_up(&mut self, mut meant: Instant) {
        let mut unfinished = 0;
        while let Some(rate) = self.shared.plan.rate
            && meant < self.shared.end
        {
            unfinished += 1;
            self.given += 1;
            meant = self.due(self.given, rate);
        }
        lock(&self.tally).unfinished += unfinished;
    }
}

impl Begun {
    /// Takes an answer. `first` is where a scan's cursor goes, if this is the first answer.
    fn answer(&mut self, reply: &Reply<'_>, first: Option<&mut Option<Vec<u8>>>) {
        let us = self.meant.elapsed().as_micros() as u64;
        let outcome = match (self.op.kind, reply, first) {
            (_, Reply::Error(told), _) => Outcome::Failed(first_word(told)),
            (Kind::Scan, Reply::Items(parts), Some(cursor)) => {
                let [Reply::Bulk(Some(next)), Reply::Items(keys)] = parts.as_slice() else {
                    self.ended = Some((us, Outcome::Failed("SCAN".to_owned())));
                    return;
                };
                *cursor = Some(next.to_vec());
                self.keys = keys.iter().filter_map(bytes_of).collect();
                if !self.keys.is_empty() {
                    return;
                }
                Outcome::Missing
            }
            (Kind::ReadModifyWrite, _, Some(_)) => return,
            (Kind::Read, Reply::Bulk(None), _) => Outcome::Missing,
            _ => Outcome::Done,
        };
        self.ended = Some((us, outcome));
    }
}

fn bytes_of(reply: &Reply<'_>) -> Option<Vec<u8>> {
    match reply {
        Reply::Bulk(Some(bytes)) => Some(bytes.to_vec()),
        _ => None,
    }
}

fn first_word(told: &[u8]) -> String {
    let word = told.split(|byte| *byte == b' ').next().unwrap_or_default();
    String::from_utf8_lossy(word.get(..word.len().min(32)).unwrap_or_default()).into_owned()
}

pub(crate) fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Sets the times of a run that begins now.
    pub(crate) fn new(plan: Plan, pool: Vec<u8>) -> Self {
        let begin = Instant::now();
        let measure = begin + plan.warm_up;
        let end = measure + plan.time;
        let inserted = AtomicU64::new(plan.keys);
        Self { plan, inserted, pool, begin, measure, end }
    }
}
