//! What `kv import` and `kv export` share: the options of a copy, where it goes on from, what it
//! shows meanwhile and at its end.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::TypedValueParser as _;
use kv_client::wire::{Level, ReadOptions, WriteOptions};
use serde_json::{Map, Value};

use super::Output;
use crate::args::Connect;
use crate::copy::{Checkpoint, CopyJob, Counts, Limits, Options, Phase, RefusedList, Sink, Source};
use crate::error::Exit;
use crate::resp::Target;
use crate::{Error, text};

/// The least time for one exchange with a server: a page takes longer than a key.
const WAIT_MS_MIN: u32 = 10_000;
const PASSWORD: &str = "REDISCLI_AUTH";
const SHOWN_EACH: Duration = Duration::from_millis(200);
const TOLD_EACH: Duration = Duration::from_secs(10);

/// Options of a copy.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Replicas that must answer when the cluster's values are read: one, quorum, all or a number;
    /// the keyspace's unless given.
    #[arg(long, value_name = "COPIES", value_parser = text::level, default_value = "keyspace")]
    r: Level,
    /// Keys that are asked for at once.
    #[arg(long, value_name = "KEYS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    page_keys: u32,
    /// Keys a second at most.
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..))]
    keys_per_s_max: Option<u32>,
    /// Seconds that either end may be away before the copy ends.
    #[arg(long, value_name = "S", default_value_t = 30)]
    patience_s: u32,
}

/// A copy's checkpoint, and whether there was one.
pub(crate) struct Begun {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) path: PathBuf,
    pub(crate) resumed: bool,
}

/// A parser of paths.
pub(crate) fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    clap::builder::OsStringValueParser::new().map(PathBuf::from)
}

/// A server's address, with the password of the environment where it has none.
pub(crate) fn target(address: &str) -> Result<Target, Error> {
    Target::parse(address, std::env::var(PASSWORD).ok().filter(|password| !password.is_empty()))
}

/// The name of the cluster that is asked, by which a checkpoint knows it again.
pub(crate) async fn cluster_name(connect: &Connect) -> Result<String, Error> {
    let status = connect.admin().await?.status().await?;
    let id = status.cluster.map_or_else(|| "unborn".to_owned(), |id| id.to_string());
    Ok(format!("cluster {id}"))
}

/// Milliseconds for a batch.
pub(crate) fn wait_ms(connect: &Connect) -> u32 {
    connect.deadline_ms().max(WAIT_MS_MIN)
}

impl CopyArgs {
    /// How a server is asked.
    pub(crate) fn limits(&self, connect: &Connect, value_bytes_max: u64) -> Limits {
        Limits {
            wait: Duration::from_millis(wait_ms(connect).into()),
            patience: self.patience(),
            page_keys: self.page_keys,
            value_bytes_max,
        }
    }

    /// How a cluster is asked.
    pub(crate) fn options(&self, connect: &Connect, w: Level) -> Options {
        let budget_ms = wait_ms(connect);
        Options {
            read: ReadOptions { level: self.r, budget_ms, ..ReadOptions::default() },
            write: WriteOptions { level: w, budget_ms, ..WriteOptions::default() },
            patience: self.patience(),
        }
    }

    pub(crate) fn page_keys(&self) -> u32 {
        self.page_keys
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s.into())
    }

    /// Copies, and prints what it came to. Ctrl-C ends it where it can go on.
    pub(crate) async fn run(
        &self,
        begun: Begun,
        source: Source,
        sink: Sink,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let Begun { checkpoint, path, resumed } = begun;
        let (from, to) = (checkpoint.from.clone(), checkpoint.to.clone());
        let refused = RefusedList::open(&path, checkpoint.refused_bytes)?;
        let list = refused.path().display().to_string();
        let began = Instant::now();
        let mut progress = Progress::new(resumed, &checkpoint);
        let copy = CopyJob {
            source,
            sink,
            checkpoint,
            path: path.clone(),
            refused,
            keys_per_s_max: self.keys_per_s_max,
            progress: &mut |phase, counts| progress.tell(phase, counts),
        };
        let counts = tokio::select! {
            biased;
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                Err(Error::Stopped(format!("stopped; {} says how far", path.display())))
            }
            counts = copy.run() => counts,
        };
        progress.end();
        let counts = counts.inspect_err(|_| {
            let _unwritable = writeln!(io::stderr(), "the same command goes on from here");
        })?;
        let ms = began.elapsed().as_millis() as u64;
        if output.json {
            let mut object = object(&counts);
            object.insert("from".into(), from.into());
            object.insert("to".into(), to.into());
            object.insert("resumed".into(), resumed.into());
            let list = if listed(&counts) { list.into() } else { Value::Null };
            object.insert("refused_file".into(), list);
            object.insert("ms".into(), ms.into());
            output.object(object)?;
        } else {
            print(&counts, &list, ms, output)?;
        }
        Ok(if listed(&counts) { Exit::Degraded } else { Exit::Ok })
    }
}

/// Where a copy goes on: at its checkpoint, if that is of the same copy and of the same content.
pub(crate) fn begin(path: PathBuf, from: &str, identity: &str, to: &str) -> Result<Begun, Error> {
    let anew = || Checkpoint::new(from.to_owned(), identity.to_owned(), to.to_owned());
    let Some(found) = Checkpoint::load(&path)? else {
        return Ok(Begun { checkpoint: anew(), path, resumed: false });
    };
    if found.from != from || found.to != to {
        return Err(Error::Input(format!(
            "{} is the checkpoint of a copy from {} to {}: remove it, or name another",
            path.display(),
            found.from,
            found.to
        )));
    }
    if found.identity == identity {
        return Ok(Begun { checkpoint: found, path, resumed: true });
    }
    let _unwritable = writeln!(
        io::stderr(),
        "{from} is another process or content than at the checkpoint: beginning anew"
    );
    Ok(Begun { checkpoint: anew(), path, resumed: false })
}

fn listed(counts: &Counts) -> bool {
    counts.refused_sum() + counts.differing > 0
}

fn object(counts: &Counts) -> Map<String, Value> {
    let refused = counts.refused.iter().map(|(kind, count)| (kind.clone(), (*count).into()));
    let mut object = Map::new();
    object.insert("scanned".into(), counts.scanned.into());
    object.insert("stored".into(), counts.stored.into());
    object.insert("gone".into(), counts.gone.into());
    object.insert("refused".into(), Value::Object(refused.collect()));
    object.insert("verified".into(), counts.verified.into());
    object.insert("mended".into(), counts.mended.into());
    object.insert("differing".into(), counts.differing.into());
    object
}

fn print(counts: &Counts, list: &str, ms: u64, output: &mut Output<'_>) -> Result<(), Error> {
    let Counts { scanned, stored, gone, verified, mended, differing, .. } = counts;
    output.line(format!("{stored} of {scanned} keys stored in {}", text::duration(ms)))?;
    output.line(format!("{verified} verified, {mended} of them copied again"))?;
    if *gone > 0 {
        output.line(format!("{gone} had gone or expired when they were read"))?;
    }
    for (kind, count) in &counts.refused {
        output.line(format!("{count} refused: {}", text::shown(kind.as_bytes(), 64)))?;
    }
    if *differing > 0 {
        output.line(format!("{differing} differ still: somebody writes them"))?;
    }
    if listed(counts) {
        output.line(format!("they are listed in {list}"))?;
    }
    Ok(())
}

/// What a person sees meanwhile: one line that changes, or a line now and then.
struct Progress {
    terminal: bool,
    last: Instant,
    open: bool,
}

impl Progress {
    fn new(resumed: bool, checkpoint: &Checkpoint) -> Self {
        if resumed {
            let stored = checkpoint.counts.stored;
            let verified = checkpoint.counts.verified;
            let _unwritable =
                writeln!(io::stderr(), "going on: {stored} stored, {verified} verified before");
        }
        Self { terminal: io::stderr().is_terminal(), last: Instant::now(), open: false }
    }

    fn tell(&mut self, phase: Phase, counts: &Counts) {
        let each = if self.terminal { SHOWN_EACH } else { TOLD_EACH };
        if self.last.elapsed() < each {
            return;
        }
        self.last = Instant::now();
        let refused = counts.refused_sum();
        let line = match phase {
            Phase::Copy => format!("{} stored, {refused} refused", counts.stored),
            Phase::Verify => format!("{} of {} verified", counts.verified, counts.stored),
        };
        let mut stderr = io::stderr();
        let _unwritable = if self.terminal {
            self.open = true;
            write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }

    fn end(&mut self) {
        if self.open {
            let _unwritable = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
