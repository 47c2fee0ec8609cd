//! A kv cluster as one end of a copy: siblings whole, each batch answered for by W or R replicas.
//!
//! Writes are blind and may be made twice; whoever copies into a cluster is the only writer of
//! those keys meanwhile. Siblings are written oldest first, the first over whatever is there and
//! the others beside it, so that a write that is made again leaves the same.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_client::Client;
use kv_client::wire::{
    BatchOp, BatchOut, Coverage, Expiry, ReadOptions, ServiceError, Sibling, WriteOptions,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::entry::{Entry, Kept, Page, Stored, same};
use super::server::Server;
use crate::Error;
use crate::clock::unix_ms;

/// Entries of one batch. A batch holds each entry's siblings, of which there are a hundred at most.
const BATCH_ENTRIES_MAX: usize = 128;
/// Operations of one batch after which no further entry is taken.
const BATCH_OPS_FULL: usize = 512;
/// Bytes of one batch after which no further entry is taken.
const BATCH_BYTES_FULL: usize = 1 << 20;
/// Batches under way.
const BATCHES_MAX: usize = 4;
const RETRY_MS_MIN: u64 = 50;
const RETRY_MS_MAX: u64 = 2_000;

/// A cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    client: Client,
    options: Options,
    /// Tells the keys, where they are copied from here.
    keys: Option<Server>,
}

/// How it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// The client's levels, which a batch must name itself.
    pub(crate) read: ReadOptions,
    pub(crate) write: WriteOptions,
    /// How long replicas may be away before the copy ends.
    pub(crate) patience: Duration,
}

impl Cluster {
    pub(crate) fn new(client: Client, options: Options, keys: Option<Server>) -> Self {
        Self { client, options, keys }
    }

    /// The page at a cursor.
    pub(crate) async fn page(&mut self, at: &str) -> Result<Page, Error> {
        let Some(server) = &mut self.keys else {
            return Err(Error::Input("nobody tells the cluster's keys".to_owned()));
        };
        let (keys, next) = server.scan(at).await?;
        let mut page = Page { next, ..Page::default() };
        let found = self.each_batch(keys, Bytes::len, read).await?;
        for (key, siblings) in found {
            if siblings.is_empty() {
                page.gone += 1;
            } else {
                page.entries.push(Entry { key, siblings });
            }
        }
        Ok(page)
    }

    /// Stores the entries, siblings and all.
    pub(crate) async fn write(&mut self, entries: &[Entry]) -> Result<Vec<Stored>, Error> {
        self.each_batch(entries.to_vec(), Entry::bytes, write).await
    }

    /// Which of the entries it holds as they are.
    pub(crate) async fn check(&mut self, entries: &[Entry]) -> Result<Vec<bool>, Error> {
        let keys = entries.iter().map(|entry| entry.key.clone()).collect();
        let found = self.each_batch(keys, Bytes::len, read).await?;
        let now_ms = unix_ms();
        let pairs = entries.iter().zip(&found);
        Ok(pairs.map(|(entry, (_, found))| same(&entry.siblings, found, now_ms)).collect())
    }

    /// Does the same to all, some batches at a time, and answers in order.
    async fn each_batch<T, U, F>(
        &self,
        all: Vec<T>,
        bytes: impl Fn(&T) -> usize,
        act: impl Fn(Client, Options, Vec<T>) -> F,
    ) -> Result<Vec<U>, Error>
    where
        T: Weighed,
        U: Send + 'static,
        F: Future<Output = Result<Vec<U>, Error>> + Send + 'static,
    {
        let mut running = JoinSet::new();
        let mut done: Vec<(usize, Vec<U>)> = Vec::new();
        for (number, batch) in batches(all, bytes).into_iter().enumerate() {
            if running.len() == BATCHES_MAX {
                done.extend(next_of(&mut running).await?);
            }
            let acted = act(self.client.clone(), self.options, batch);
            running.spawn(async move { acted.await.map(|outs| (number, outs)) });
        }
        while !running.is_empty() {
            done.extend(next_of(&mut running).await?);
        }
        done.sort_unstable_by_key(|(number, _)| *number);
        Ok(done.into_iter().flat_map(|(_, outs)| outs).collect())
    }
}

async fn next_of<T: 'static>(running: &mut JoinSet<Result<T, Error>>) -> Result<Option<T>, Error> {
    match running.join_next().await {
        None => Ok(None),
        Some(Ok(done)) => done.map(Some),
        Some(Err(ended)) => Err(Error::Io(ended.into())),
    }
}

/// How many operations it takes.
trait Weighed {
    fn ops(&self) -> usize;
}

impl Weighed for Bytes {
    fn ops(&self) -> usize {
        1
    }
}

impl Weighed for Entry {
    fn ops(&self) -> usize {
        self.siblings.len()
    }
}

fn batches<T: Weighed>(all: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let (mut ops, mut sum) = (0, 0);
    for one in all {
        let (more_ops, more_bytes) = (one.ops(), bytes(&one));
        match batches.last_mut() {
            Some(batch)
                if batch.len() < BATCH_ENTRIES_MAX
                    && ops < BATCH_OPS_FULL
                    && sum < BATCH_BYTES_FULL =>
            {
                batch.push(one);
                (ops, sum) = (ops + more_ops, sum + more_bytes);
            }
            _ => {
                batches.push(vec![one]);
                (ops, sum) = (more_ops, more_bytes);
            }
        }
    }
    batches
}

/// Reads keys until each has an answer.
async fn read(
    client: Client,
    options: Options,
    keys: Vec<Bytes>,
) -> Result<Vec<(Bytes, Vec<Kept>)>, Error> {
    let ops: Vec<BatchOp> =
        keys.iter().map(|key| BatchOp::Get { key: key.clone(), options: options.read }).collect();
    let mut patience = Patience::new(options.patience);
    let mut found: Vec<Option<Vec<Kept>>> = vec![None; keys.len()];
    loop {
        let (places, asked) = open(&found, &ops);
        if asked.is_empty() {
            let found = found.into_iter().map(Option::unwrap_or_default);
            return Ok(keys.into_iter().zip(found).collect());
        }
        match client.batch(asked).await {
            Err(error) if passes(&error) => patience.wait(error).await?,
            Err(error) => return Err(error.into()),
            Ok(outs) => {
                let mut passing = None;
                for (place, out) in places.into_iter().zip(outs) {
                    match out {
                        BatchOut::Read(Ok(seen)) => put(&mut found, place, kept(seen.siblings)),
                        BatchOut::Read(Err(error)) if waits(&error) => passing = Some(error),
                        BatchOut::Read(Err(error)) => return Err(service(error)),
                        _ => return Err(service(ServiceError::Failed("no read".to_owned()))),
                    }
                }
                if let Some(error) = passing {
                    patience.wait(kv_client::Error::Service(error)).await?;
                }
            }
        }
    }
}

/// Writes entries until each is stored or can't be.
async fn write(
    client: Client,
    options: Options,
    entries: Vec<Entry>,
) -> Result<Vec<Stored>, Error> {
    let mut patience = Patience::new(options.patience);
    let mut stored: Vec<Option<Stored>> = vec![None; entries.len()];
    loop {
        let (places, rest) = open(&stored, &entries);
        if rest.is_empty() {
            return Ok(stored.into_iter().flatten().collect());
        }
        let ops: Vec<BatchOp> = rest.iter().flat_map(|entry| puts(entry, options.write)).collect();
        match client.batch(ops).await {
            Err(error) if passes(&error) => patience.wait(error).await?,
            Err(error) => return Err(error.into()),
            Ok(outs) => {
                let mut outs = outs.into_iter();
                let mut passing = None;
                for (place, entry) in places.into_iter().zip(&rest) {
                    let mut refusal = None;
                    let mut again = false;
                    for out in outs.by_ref().take(entry.siblings.len()) {
                        match out {
                            BatchOut::Written(Ok(_)) => {}
                            BatchOut::Written(Err(error)) if waits(&error) => {
                                (again, passing) = (true, Some(error));
                            }
                            BatchOut::Written(Err(error @ ServiceError::Full(_))) => {
                                return Err(service(error));
                            }
                            BatchOut::Written(Err(error)) => refusal = Some(error.to_string()),
                            _ => return Err(service(ServiceError::Failed("no write".to_owned()))),
                        }
                    }
                    match refusal {
                        Some(why) => put(&mut stored, place, Stored::No(why)),
                        None if again => {}
                        None => put(&mut stored, place, Stored::Yes),
                    }
                }
                if let Some(error) = passing {
                    patience.wait(kv_client::Error::Service(error)).await?;
                }
            }
        }
    }
}

/// The places without an answer, and what is there.
fn open<T: Clone, U>(answers: &[Option<U>], all: &[T]) -> (Vec<usize>, Vec<T>) {
    let places = answers.iter().zip(all).enumerate();
    places
        .filter(|(_, (answer, _))| answer.is_none())
        .map(|(place, (_, one))| (place, one.clone()))
        .unzip()
}

fn put<T>(answers: &mut [Option<T>], place: usize, answer: T) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = Some(answer);
    }
}

fn puts(entry: &Entry, options: WriteOptions) -> impl Iterator<Item = BatchOp> + '_ {
    entry.siblings.iter().rev().enumerate().map(move |(place, kept)| BatchOp::Put {
        key: entry.key.clone(),
        value: kept.value.clone(),
        coverage: if place == 0 { Coverage::Blind } else { Coverage::Nothing },
        options: WriteOptions {
            expiry: kept.expires_at_ms.map_or(Expiry::Never, Expiry::AtMs),
            ..options
        },
    })
}

fn kept(siblings: Vec<Sibling>) -> Vec<Kept> {
    let kept = |sibling: Sibling| {
        let expires_at_ms = sibling.expires_at_ms;
        sibling.value.map(|value| Kept { value, expires_at_ms })
    };
    siblings.into_iter().filter_map(kept).collect()
}

fn service(error: ServiceError) -> Error {
    kv_client::Error::Service(error).into()
}

fn passes(error: &kv_client::Error) -> bool {
    use kv_client::Error as E;
    match error {
        E::Lost(_) | E::TimedOut | E::Unreachable { .. } => true,
        E::Service(error) => waits(error),
        _ => false,
    }
}

/// Whether another attempt may do better. A write that may be stored is made again: it is ours.
fn waits(error: &ServiceError) -> bool {
    matches!(
        error,
        ServiceError::NoReplicas { .. }
            | ServiceError::Indeterminate { .. }
            | ServiceError::Unavailable { .. }
            | ServiceError::Busy(_)
            | ServiceError::NotServing(_)
            | ServiceError::Failed(_)
    )
}

/// Pauses between attempts, that double, until there is no time left.
struct Patience {
    until: Instant,
    pause_ms: u64,
}

impl Patience {
    fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, pause_ms: RETRY_MS_MIN }
    }

    /// # Errors
    /// The error that was given: there is no time left.
    async fn wait(&mut self, error: kv_client::Error) -> Result<(), Error> {
        if Instant::now() >= self.until {
            return Err(error.into());
        }
        sleep(Duration::from_millis(self.pause_ms)).await;
        self.pause_ms = (self.pause_ms * 2).min(RETRY_MS_MAX);
        Ok(())
    }
}
