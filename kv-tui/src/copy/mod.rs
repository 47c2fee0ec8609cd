//! Keys from one place to another: `kv import` and `kv export`.
//!
//! ```text
//! redis server ─┐                        ┌─ cluster
//! export file  ─┼─ page ─ store ─ note ──┼─ redis server    then again: compare
//! cluster      ─┘     checkpoint         └─ export file
//! ```
//!
//! The source is walked twice. The first walk stores; the second reads the source and what was
//! stored, and copies again what differs. After each page the checkpoint says how far that got, so
//! that a copy which was ended in any way goes on from there. What is deleted at the source while
//! it is copied is not deleted from the copy.

mod checkpoint;
mod cluster;
mod entry;
mod file;
mod server;
#[cfg(test)]
mod tests;
mod told;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::sleep;

pub(crate) use checkpoint::{Checkpoint, Counts, Phase, RefusedList};
pub(crate) use cluster::{Cluster, Options};
pub(crate) use file::{Reader, Writer};
pub(crate) use server::{Limits, Server};

use crate::Error;
use crate::clock::unix_ms;
use entry::{Entry, Page, Refused, Stored};

/// Where keys come from.
#[derive(Debug)]
pub(crate) enum Source {
    Server(Server),
    Cluster(Cluster),
    File(Reader, u32),
}

/// Where keys go.
#[derive(Debug)]
pub(crate) enum Sink {
    Server(Server),
    Cluster(Cluster),
    File(Writer),
}

/// A copy.
pub(crate) struct CopyJob<'a> {
    pub(crate) source: Source,
    pub(crate) sink: Sink,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) path: PathBuf,
    pub(crate) refused: RefusedList,
    pub(crate) keys_per_s_max: Option<u32>,
    /// Is told after each page.
    pub(crate) progress: &'a mut dyn FnMut(Phase, &Counts),
}

impl CopyJob<'_> {
    /// Copies and compares, from where the checkpoint says; the checkpoint goes when all is done.
    ///
    /// # Errors
    /// The copy ended before its end. The checkpoint says how far it got.
    pub(crate) async fn run(mut self) -> Result<Counts, Error> {
        // So that a copy which fails on its first page can go on, too.
        self.note(self.checkpoint.position.clone())?;
        if self.checkpoint.phase == Phase::Copy {
            self.walk(Phase::Copy).await?;
        }
        if let Sink::File(writer) = &mut self.sink {
            self.checkpoint.counts.verified = writer.finish()?;
        } else {
            self.walk(Phase::Verify).await?;
        }
        std::fs::remove_file(&self.path)?;
        self.refused.close()?;
        Ok(self.checkpoint.counts)
    }

    /// One walk over the source. The next page is read while this one is stored.
    async fn walk(&mut self, phase: Phase) -> Result<(), Error> {
        let began = Instant::now();
        let mut keys = 0_u64;
        let mut page = self.source.page(&self.checkpoint.position).await?;
        loop {
            drop_expired(&mut page, unix_ms());
            let counts = &mut self.checkpoint.counts;
            let next = page.next.clone();
            let (source, sink) = (&mut self.source, &mut self.sink);
            let following = async {
                match &next {
                    Some(next) => source.page(next).await.map(Some),
                    None => Ok(None),
                }
            };
            let taken = sink.take(phase, &page.entries, counts);
            let (taken, following) = tokio::join!(taken, following);
            let more_refused = taken?;
            if phase == Phase::Copy {
                let told = page.entries.len() + page.refused.len();
                counts.scanned += told as u64 + page.gone;
                counts.gone += page.gone;
                page.refused.extend(more_refused);
                page.refused.iter().for_each(|refused| counts.refuse(&refused.kind));
                self.checkpoint.refused_bytes = self.refused.add(&page.refused)?;
            } else {
                self.checkpoint.refused_bytes = self.refused.add(&more_refused)?;
            }
            keys += page.entries.len() as u64;
            match (next, phase) {
                (Some(next), _) => self.note(next)?,
                // In one write with the last page, which would else be copied and counted again by
                // who goes on from there.
                (None, Phase::Copy) => {
                    self.checkpoint.phase = Phase::Verify;
                    self.note("0".to_owned())?;
                }
                // The checkpoint goes now, and has not counted this page if it stays.
                (None, Phase::Verify) => {}
            }
            (self.progress)(phase, &self.checkpoint.counts);
            page = match following? {
                Some(following) => following,
                None => return Ok(()),
            };
            if let Some(rate) = self.keys_per_s_max {
                let due = Duration::from_secs_f64(keys as f64 / f64::from(rate.max(1)));
                sleep(due.saturating_sub(began.elapsed())).await;
            }
        }
    }

    fn note(&mut self, position: String) -> Result<(), Error> {
        if let Sink::File(writer) = &mut self.sink {
            self.checkpoint.written = Some(writer.settle()?);
        }
        self.checkpoint.position = position;
        self.checkpoint.save(&self.path)
    }
}

impl Source {
    async fn page(&mut self, at: &str) -> Result<Page, Error> {
        match self {
            Self::Server(server) => server.page(at).await,
            Self::Cluster(cluster) => cluster.page(at).await,
            Self::File(reader, page_keys) => reader.page(at, *page_keys),
        }
    }
}

impl Sink {
    /// Does with a page what the pass is for; what is not there as it should be comes back.
    async fn take(
        &mut self,
        phase: Phase,
        entries: &[Entry],
        counts: &mut Counts,
    ) -> Result<Vec<Refused>, Error> {
        match phase {
            Phase::Copy => {
                let stored = self.write(entries).await?;
                let refused = refusals(entries, &stored);
                let gone = stored.iter().filter(|stored| **stored == Stored::Gone).count() as u64;
                counts.gone += gone;
                counts.stored += (entries.len() - refused.len()) as u64 - gone;
                Ok(refused)
            }
            Phase::Verify => {
                let different = self.different(entries).await?;
                let stored = self.write(&different).await?;
                let still = self.different(&different).await?;
                counts.mended += (different.len() - still.len()) as u64;
                counts.verified += (entries.len() - still.len()) as u64;
                // What can't be stored was refused before, and is in the list.
                let refused = refusals(&different, &stored);
                let known = |entry: &&Entry| refused.iter().all(|one| one.key != entry.key);
                let differing: Vec<Refused> = still.iter().filter(known).map(differs).collect();
                counts.differing += differing.len() as u64;
                Ok(differing)
            }
        }
    }

    async fn write(&mut self, entries: &[Entry]) -> Result<Vec<Stored>, Error> {
        match self {
            Self::Server(server) => server.write(entries).await,
            Self::Cluster(cluster) => cluster.write(entries).await,
            Self::File(writer) => {
                writer.write(entries)?;
                Ok(vec![Stored::Yes; entries.len()])
            }
        }
    }

    async fn different(&mut self, entries: &[Entry]) -> Result<Vec<Entry>, Error> {
        let equal = match self {
            Self::Server(server) => server.check(entries).await?,
            Self::Cluster(cluster) => cluster.check(entries).await?,
            // Its own last line proves it.
            Self::File(_) => vec![true; entries.len()],
        };
        let different = entries.iter().zip(equal).filter(|(_, equal)| !equal);
        Ok(different.map(|(entry, _)| entry.clone()).collect())
    }
}

fn refusals(entries: &[Entry], stored: &[Stored]) -> Vec<Refused> {
    let refusal = |(entry, stored): (&Entry, &Stored)| match stored {
        Stored::No(why) => {
            Some(Refused { key: entry.key.clone(), kind: "not taken".to_owned(), why: why.clone() })
        }
        _ => None,
    };
    entries.iter().zip(stored).filter_map(refusal).collect()
}

fn differs(entry: &Entry) -> Refused {
    Refused {
        key: entry.key.clone(),
        kind: "differs".to_owned(),
        why: "it was copied twice and is another: somebody writes it".to_owned(),
    }
}

fn drop_expired(page: &mut Page, now_ms: u64) {
    let before = page.entries.len();
    for entry in &mut page.entries {
        entry.siblings.retain(|kept| kept.expires_at_ms.is_none_or(|at| at > now_ms));
    }
    page.entries.retain(|entry| !entry.siblings.is_empty());
    page.gone += (before - page.entries.len()) as u64;
}
