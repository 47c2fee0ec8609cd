//! A Redis server as one end of a copy: keys by SCAN, values with their times to live, writes by
//! SET.
//!
//! Invariant: a cursor is only good for the process that gave it, since a server draws the seed of
//! its hash table at its start. Who answers after a lost connection must be the same process, or
//! the copy ends and says so. SCAN promises every key that is there from beginning to end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep;

use super::entry::{Entry, Page, Stored, same};
use super::told::{Found, by_bytes, passes, refused, run_id, scan_page};
use crate::clock::unix_ms;
use crate::resp::{Command, Link, Reply, Target};
use crate::{Error, text};

const RETRY_MS: u64 = 200;
/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    target: Target,
    limits: Limits,
    link: Option<Link>,
    process: String,
}

/// How a server is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// One exchange.
    pub(crate) wait: Duration,
    /// How long it may be away before the copy ends.
    pub(crate) patience: Duration,
    /// Keys of a page, about.
    pub(crate) page_keys: u32,
    /// A longer value is refused and never read.
    pub(crate) value_bytes_max: u64,
}

impl Server {
    /// Connects.
    ///
    /// # Errors
    /// It is not there, or does not let us in.
    pub(crate) async fn open(target: Target, limits: Limits) -> Result<Self, Error> {
        let mut server = Self { target, limits, link: None, process: String::new() };
        server.link().await?;
        Ok(server)
    }

    /// The name of the process that answers.
    pub(crate) fn process(&self) -> &str {
        &self.process
    }

    pub(crate) fn name(&self) -> String {
        self.target.to_string()
    }

    /// The keys at a cursor, and the next cursor.
    pub(crate) async fn scan(&mut self, at: &str) -> Result<(Vec<Bytes>, Option<String>), Error> {
        let until = Instant::now() + self.limits.patience;
        loop {
            let scanned = self.scanned(at).await;
            if let Some(scanned) = self.settled(scanned, until).await {
                return scanned;
            }
        }
    }

    /// The page at a cursor.
    pub(crate) async fn page(&mut self, at: &str) -> Result<Page, Error> {
        let (keys, next) = self.scan(at).await?;
        let until = Instant::now() + self.limits.patience;
        loop {
            let page = self.paged(&keys, next.clone()).await;
            if let Some(page) = self.settled(page, until).await {
                return page;
            }
        }
    }

    /// Stores what a GET of each entry would show.
    pub(crate) async fn write(&mut self, entries: &[Entry]) -> Result<Vec<Stored>, Error> {
        let mut stored = Vec::with_capacity(entries.len());
        for some in by_bytes(entries, Entry::bytes) {
            let until = Instant::now() + self.limits.patience;
            loop {
                let written = self.written(some).await;
                if let Some(written) = self.settled(written, until).await {
                    stored.extend(written?);
                    break;
                }
            }
        }
        Ok(stored)
    }

    /// Which of the entries it holds as they are.
    pub(crate) async fn check(&mut self, entries: &[Entry]) -> Result<Vec<bool>, Error> {
        let mut equal = Vec::with_capacity(entries.len());
        for some in by_bytes(entries, Entry::bytes) {
            let keys: Vec<&Bytes> = some.iter().map(|entry| &entry.key).collect();
            let until = Instant::now() + self.limits.patience;
            let found = loop {
                let found = self.values(&keys).await;
                if let Some(found) = self.settled(found, until).await {
                    break found?;
                }
            };
            let now_ms = unix_ms();
            equal.extend(some.iter().zip(&found).map(|(entry, found)| {
                let shown = entry.siblings.get(..1).unwrap_or_default();
                same(shown, found.as_slice(), now_ms)
            }));
        }
        Ok(equal)
    }

    /// What an attempt came to; `None` if it is to be made again, after a while.
    async fn settled<T>(
        &mut self,
        attempt: Result<T, Error>,
        until: Instant,
    ) -> Option<Result<T, Error>> {
        match attempt {
            Err(error) if passes(&error) && Instant::now() < until => {
                self.link = None;
                sleep(Duration::from_millis(RETRY_MS)).await;
                None
            }
            settled => Some(settled),
        }
    }

    /// The connection, made anew where it broke.
    async fn link(&mut self) -> Result<&mut Link, Error> {
        if self.link.is_none() {
            let mut link = Link::open(&self.target, self.limits.wait).await?;
            let process = link.ask(&[b"INFO", b"server"], run_id).await?;
            if !self.process.is_empty() && self.process != process {
                let told = "it was started anew, and its cursors are of no use any more: run the \
                            same command again, it begins anew"
                    .to_owned();
                return Err(link.refusal(told));
            }
            self.process = process;
            self.link = Some(link);
        }
        self.link.as_mut().ok_or_else(|| Error::Input("there is no connection".to_owned()))
    }

    async fn scanned(&mut self, at: &str) -> Result<(Vec<Bytes>, Option<String>), Error> {
        let count = self.limits.page_keys.to_string();
        let words: [&[u8]; 4] = [b"SCAN", at.as_bytes(), b"COUNT", count.as_bytes()];
        let (mut keys, next) = self.link().await?.ask(&words, scan_page).await?;
        // A key may be told twice.
        keys.sort_unstable();
        keys.dedup();
        Ok((keys, (next != "0").then_some(next)))
    }

    async fn paged(&mut self, keys: &[Bytes], next: Option<String>) -> Result<Page, Error> {
        let mut page = Page { next, ..Page::default() };
        let lengths = self.lengths(keys).await?;
        let mut others = Vec::new();
        let mut readable = Vec::new();
        for (key, length) in keys.iter().zip(&lengths) {
            match length {
                Some(bytes) if *bytes > self.limits.value_bytes_max => {
                    let most = self.limits.value_bytes_max;
                    let why = format!("the value of {bytes} bytes is over {most}");
                    page.refused.push(refused(key, "too large", why));
                }
                Some(bytes) => readable.push((key, *bytes as usize)),
                None => others.push(key),
            }
        }
        for (key, kind) in others.iter().zip(self.types(&others).await?) {
            let why = format!("a {kind} is no string");
            page.refused.push(refused(key, &kind, why));
        }
        for some in by_bytes(&readable, |(key, bytes)| key.len() + bytes) {
            let keys: Vec<&Bytes> = some.iter().map(|(key, _)| *key).collect();
            for (key, found) in keys.iter().zip(self.values(&keys).await?) {
                match found {
                    Found::Value(kept) => {
                        let entry = Entry { key: Bytes::clone(key), siblings: vec![kept] };
                        page.entries.push(entry);
                    }
                    Found::Nothing => page.gone += 1,
                    Found::Other => {
                        let why = "it became another type while it was read".to_owned();
                        page.refused.push(refused(key, "changed", why));
                    }
                }
            }
        }
        Ok(page)
    }

    /// The length of each string; `None` for a key of another type.
    async fn lengths(&mut self, keys: &[Bytes]) -> Result<Vec<Option<u64>>, Error> {
        let mut commands = Command::default();
        for key in keys {
            commands.add(&[b"STRLEN", key]);
        }
        self.all(&commands, |reply| match reply {
            Reply::Number(length) => Some(u64::try_from(*length).ok()),
            Reply::Error(told) if told.starts_with(b"WRONGTYPE") => Some(None),
            _ => None,
        })
        .await
    }

    async fn types(&mut self, keys: &[&Bytes]) -> Result<Vec<String>, Error> {
        let mut commands = Command::default();
        for key in keys {
            commands.add(&[b"TYPE", key]);
        }
        self.all(&commands, |reply| match reply {
            Reply::Status(kind) => Some(text::shown(kind, 32)),
            _ => None,
        })
        .await
    }

    /// Values and times to live, those of one key from one moment: MULTI sees to it.
    async fn values(&mut self, keys: &[&Bytes]) -> Result<Vec<Found>, Error> {
        let mut commands = Command::of(&[b"MULTI"]);
        for key in keys {
            commands.add(&[b"GET", key]);
            commands.add(&[b"PTTL", key]);
        }
        commands.add(&[b"EXEC"]);
        // Before they are read, so that a copy never lives longer than its original.
        let now_ms = unix_ms();
        let mut found = Vec::with_capacity(keys.len());
        let mut wrong = None;
        let link = self.link().await?;
        link.exchange(&commands, |_, reply| match reply {
            Reply::Items(items) => {
                found.extend(items.chunks(2).map(|pair| Found::of(pair, now_ms)));
            }
            Reply::Error(_) => wrong = Some(reply.told()),
            _ => {}
        })
        .await?;
        if wrong.is_none() && found.len() != keys.len() {
            wrong = Some("EXEC answered another number of replies".to_owned());
        }
        match wrong {
            Some(told) => Err(link.refusal(told)),
            None => Ok(found),
        }
    }

    async fn written(&mut self, entries: &[Entry]) -> Result<Vec<Stored>, Error> {
        let now_ms = unix_ms();
        let mut commands = Command::default();
        let mut stored = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(shown) = entry.siblings.first() else {
                stored.push(Stored::Gone);
                continue;
            };
            let left_ms = shown.expires_at_ms.map(|at| at.saturating_sub(now_ms));
            stored.push(if left_ms == Some(0) { Stored::Gone } else { Stored::Yes });
            match left_ms {
                Some(0) => {}
                Some(left) => {
                    let left = left.to_string();
                    commands.add(&[b"SET", &entry.key, &shown.value, b"PX", left.as_bytes()]);
                }
                None => commands.add(&[b"SET", &entry.key, &shown.value]),
            }
        }
        let mut told = self
            .all(&commands, |reply| match reply {
                Reply::Status(_) => Some(Stored::Yes),
                // Other words say that it takes nothing at all now.
                Reply::Error(words) if words.starts_with(b"ERR ") => Some(Stored::No(reply.told())),
                _ => None,
            })
            .await?
            .into_iter();
        let sent = stored.iter_mut().filter(|stored| **stored == Stored::Yes);
        sent.zip(&mut told).for_each(|(stored, told)| *stored = told);
        Ok(stored)
    }

    /// The replies to all the commands; `take` answers `None` to one that may not be.
    async fn all<T>(
        &mut self,
        commands: &Command,
        mut take: impl FnMut(&Reply<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut taken = Vec::with_capacity(commands.count());
        let mut wrong = None;
        let link = self.link().await?;
        link.exchange(commands, |_, reply| match take(reply) {
            Some(one) => taken.push(one),
            None => {
                wrong.get_or_insert_with(|| reply.told());
            }
        })
        .await?;
        match wrong {
            Some(told) => Err(link.refusal(told)),
            None => Ok(taken),
        }
    }
}
