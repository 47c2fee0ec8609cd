//! `kv bench`: load on a server that speaks RESP, and what it answers how fast.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{Output, copying};
use crate::args::Connect;
use crate::bench::{
    self, Distribution, Plan, Report, Verdict, Workload, compare, differing, server_name,
};
use crate::error::Exit;
use crate::{Error, text};

const TOLD_EACH: Duration = Duration::from_secs(5);

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Where to: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], several with commas between. A
    /// password may also come from `REDISCLI_AUTH`.
    #[arg(
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "redis://127.0.0.1:7001"
    )]
    target: Vec<String>,
    /// Which of YCSB's workloads.
    #[arg(long, short, value_name = "LETTER", default_value = "a")]
    workload: Workload,
    /// Which keys are popular; workload d reads what came last.
    #[arg(long, value_name = "NAME", default_value = "zipf")]
    distribution: Distribution,
    /// Keys that are loaded first.
    #[arg(long, default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=1 << 28))]
    keys: u64,
    /// The keys are there from an earlier run: load none.
    #[arg(long)]
    no_load: bool,
    /// What the names of its keys begin with.
    #[arg(long, value_name = "TEXT", default_value = "kv-bench:")]
    prefix: String,
    /// Bytes of each value.
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    value_bytes: u32,
    /// Connections.
    #[arg(long, short, default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Threads that the connections are spread over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Requests that a connection sends together.
    #[arg(long, short = 'P', value_name = "REQUESTS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pipeline: u32,
    /// Requests a second: the open loop, in which latency counts from when a request was meant to
    /// begin. Without it the closed loop: each connection waits for its answers.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Seconds that are measured.
    #[arg(long, short, value_name = "S", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Seconds before that which are not.
    #[arg(long, value_name = "S", default_value_t = 3)]
    warm_up_s: u32,
    /// Another seed is another sequence of keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the result to this file, as --json prints it.
    #[arg(long, value_name = "FILE", value_parser = copying::path())]
    save: Option<PathBuf>,
    /// Compare with a result that was saved: the exit code is 3 if this one is worse.
    #[arg(long, value_name = "FILE", value_parser = copying::path())]
    compare: Option<PathBuf>,
    /// A change up to this is none.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    worse_percent: f64,
}

impl Bench {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let plan = self.plan(connect)?;
        // Before the work, so that it is not for nothing.
        let before = self.compare.as_deref().map(|path| saved(path, &plan)).transpose()?;
        let Some(first) = plan.targets.first() else {
            return Err(Error::Input("there is no --target".to_owned()));
        };
        let server = server_name(&plan, first).await?;
        let mut screen = Screen::new();
        if !self.no_load {
            bench::load(&plan, |keys| screen.keys(keys, plan.keys)).await?;
        }
        let report = tokio::select! {
            biased;
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                screen.clear();
                return Err(Error::Stopped("stopped before its end: there is no result".to_owned()));
            }
            report = bench::run(plan, server, |picture| screen.show(picture)) => report?,
        };
        screen.clear();
        if let Some(path) = &self.save {
            let text = format!("{}\n", Value::Object(report.to_json()));
            std::fs::write(path, text).map_err(Error::file(path))?;
        }
        let worse = match &before {
            Some(before) => self.beside(before, &report, output)?,
            None if output.json => {
                output.object(report.to_json())?;
                false
            }
            None => {
                print(&report, output)?;
                false
            }
        };
        let served = report.all().count > 0;
        Ok(match (served, worse || report.failed() > 0) {
            (false, _) => Exit::Error,
            (true, true) => Exit::Degraded,
            (true, false) => Exit::Ok,
        })
    }

    fn plan(&self, connect: &Connect) -> Result<Plan, Error> {
        let targets = self.target.iter().map(|target| copying::target(target));
        Ok(Plan {
            targets: targets.collect::<Result<_, _>>()?,
            workload: self.workload,
            distribution: self.distribution,
            keys: self.keys,
            prefix: self.prefix.clone(),
            value_bytes: self.value_bytes,
            clients: self.clients,
            threads: self.threads.min(self.clients),
            pipeline: self.pipeline,
            rate: self.rate,
            warm_up: Duration::from_secs(self.warm_up_s.into()),
            time: Duration::from_secs(self.seconds.into()),
            seed: self.seed,
            wait: Duration::from_millis(connect.deadline_ms().into()),
        })
    }

    /// Prints two runs beside each other; whether the later one is worse.
    fn beside(
        &self,
        before: &Report,
        after: &Report,
        output: &mut Output<'_>,
    ) -> Result<bool, Error> {
        let changes = compare(before, after, self.worse_percent);
        if output.json {
            let mut object = after.to_json();
            let changes = changes.iter().map(|change| {
                json!({
                    "name": change.name,
                    "before": change.before.mean,
                    "after": change.after.mean,
                    "percent": change.percent,
                    "verdict": word(change.verdict),
                })
            });
            object.insert("changes".into(), changes.collect());
            output.object(object)?;
        } else {
            print(after, output)?;
            let rows: Vec<Vec<String>> = changes
                .iter()
                .map(|change| {
                    let shown = |of: bench::Interval| format!("{:.0} ±{:.0}", of.mean, of.half);
                    let percent = format!("{:+.1} %", change.percent);
                    let (before, after) = (shown(change.before), shown(change.after));
                    let verdict = word(change.verdict).to_owned();
                    vec![change.name.to_owned(), before, after, percent, verdict]
                })
                .collect();
            let head = ["", &before.server, &after.server, "CHANGE", ""];
            output.line("")?;
            output.to.write_all(text::table(&head, &rows).as_bytes())?;
        }
        Ok(changes.iter().any(|change| change.verdict == Verdict::Worse))
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Same => "same",
    }
}

/// A run that was saved, which must be comparable with what is planned.
fn saved(path: &Path, plan: &Plan) -> Result<Report, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
    let value: Option<Value> = serde_json::from_str(&text).ok();
    let report = value.as_ref().and_then(Report::from_json);
    let report =
        report.ok_or_else(|| Error::Input(format!("{} is no saved run", path.display())))?;
    let planned = plan.settings();
    let others = differing(&report.settings, &planned);
    if others.is_empty() {
        return Ok(report);
    }
    let others = others.join(", another ");
    Err(Error::Input(format!("the run in {} had another {others}", path.display())))
}

fn print(report: &Report, output: &mut Output<'_>) -> Result<(), Error> {
    let all = report.all();
    output.line(format!(
        "{}: {:.0} op/s, {} operations in {:.1} s",
        report.server, report.per_second, all.count, report.seconds
    ))?;
    let rows: Vec<Vec<String>> = report
        .latency_us
        .iter()
        .map(|(kind, of)| {
            let mut row = vec![kind.clone(), of.count.to_string()];
            row.push(text::latency(bench::whole(of.mean)));
            row.extend(["p50", "p90", "p99", "p999"].map(|name| text::latency(of.at(name))));
            row.push(text::latency(of.max));
            row
        })
        .collect();
    let head = ["", "COUNT", "MEAN", "P50", "P90", "P99", "P99.9", "MAX"];
    output.to.write_all(text::table(&head, &rows).as_bytes())?;
    if report.missing > 0 {
        output.line(format!("{} found no value", report.missing))?;
    }
    for (told, count) in &report.errors {
        output.line(format!("{count} failed: {}", text::shown(told.as_bytes(), 40)))?;
    }
    if report.unfinished > 0 {
        let rate = "the rate is more than the server can do";
        output.line(format!("{} should have begun and did not: {rate}", report.unfinished))?;
    }
    Ok(())
}

/// What a person sees meanwhile: a picture that is drawn over itself, or a line now and then.
struct Screen {
    terminal: bool,
    drawn: usize,
    last: Instant,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), drawn: 0, last: Instant::now() }
    }

    fn keys(&mut self, keys: u64, of: u64) {
        self.draw(|| vec![format!("{keys} of {of} keys loaded")]);
    }

    fn show(&mut self, picture: &bench::Picture<'_>) {
        if self.terminal {
            self.draw(|| picture.lines());
        } else {
            self.draw(|| vec![picture.line()]);
        }
    }

    fn draw(&mut self, lines: impl FnOnce() -> Vec<String>) {
        if !self.terminal && self.last.elapsed() < TOLD_EACH {
            return;
        }
        self.last = Instant::now();
        self.clear();
        let lines = lines();
        let mut stderr = io::stderr().lock();
        for line in &lines {
            let _unwritable = writeln!(stderr, "{line}");
        }
        if self.terminal {
            self.drawn = lines.len();
        }
    }

    /// Takes back what was drawn.
    fn clear(&mut self) {
        if self.drawn > 0 {
            let _unwritable = write!(io::stderr(), "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }
}
