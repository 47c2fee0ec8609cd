//! The simulator, as `cargo xtask sim` calls it: seeds of a scenario, a line for each.
//!
//! Seeds run side by side on as many threads as there are cores, each run on one thread of its
//! own. A violation ends the process with exit code 1, its seed, how to repeat it, and a file with
//! everything that was done and said; `--keep-going` runs the others too. A control scenario fails
//! if nothing is found in any of its seeds. A seed that takes five minutes of real time hangs: the
//! process says which and ends.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kv_tests::sim::{Report, Scenario, run, trace};

const USAGE: &str = "usage: sim --seed N | --seeds A..B [--scenario S] [--minutes M] [--jobs J] \
                     [--traces DIR] [--keep-going], or sim --teeth [NAME] in a build with \
                     the feature `planted`";
/// A seed that takes so long, in seconds of real time, hangs.
const HANG_S: u64 = 300;

struct Arguments {
    seeds: std::ops::Range<u64>,
    scenario: Scenario,
    minutes: Option<u64>,
    jobs: usize,
    traces: PathBuf,
    /// One seed, whose trace is wanted whatever comes of it.
    one: bool,
    keep_going: bool,
}

fn parse() -> Option<Arguments> {
    let mut parsed = Arguments {
        seeds: 0..0,
        scenario: Scenario::Swarm,
        minutes: None,
        jobs: cores(),
        traces: PathBuf::from("target/sim"),
        one: false,
        keep_going: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "--seed" => {
                let seed: u64 = arguments.next()?.parse().ok()?;
                parsed.seeds = seed..seed.checked_add(1)?;
                parsed.one = true;
            }
            "--seeds" => {
                let range = arguments.next()?;
                let (first, end) = range.split_once("..")?;
                parsed.seeds = first.parse().ok()?..end.parse().ok()?;
            }
            "--scenario" => parsed.scenario = Scenario::named(&arguments.next()?)?,
            "--minutes" => parsed.minutes = Some(arguments.next()?.parse().ok()?),
            "--jobs" => parsed.jobs = arguments.next()?.parse().ok()?,
            "--traces" => parsed.traces = PathBuf::from(arguments.next()?),
            "--keep-going" => parsed.keep_going = true,
            _ => return None,
        }
    }
    if parsed.minutes.is_some() && parsed.seeds.is_empty() {
        parsed.seeds = 0..u64::MAX;
    }
    (!parsed.seeds.is_empty() && parsed.jobs > 0).then_some(parsed)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> ExitCode {
    #[cfg(feature = "planted")]
    if std::env::args().nth(1).as_deref() == Some("--teeth") {
        return teeth(&std::env::args().nth(2).unwrap_or_default());
    }
    let Some(arguments) = parse() else {
        complain(USAGE);
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let tally = Tally::default();
    let running = Arc::<Running>::default();
    watch(&running, arguments.scenario);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| work(&arguments, &tally, &running, begun));
        }
    });
    let (seeds, failed) = (tally.ended.into_inner(), tally.failed.into_inner());
    let busy_ms = tally.busy_ms.into_inner() / seeds.max(1);
    let each_ms = begun.elapsed().as_millis() / u128::from(seeds.max(1));
    say(&format!(
        "{seeds} seeds, {failed} failed, {busy_ms} ms each on a core, {each_ms} ms on {}",
        arguments.jobs
    ));
    let sound = if arguments.scenario.is_control() { failed > 0 } else { failed == 0 };
    if !sound && arguments.scenario.is_control() {
        complain("this scenario must be seen to lose something, and was not");
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the threads share.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    busy_ms: AtomicU64,
    over: AtomicBool,
}

/// Runs the next seed, and the next.
fn work(arguments: &Arguments, tally: &Tally, running: &Running, begun: Instant) {
    let minutes = arguments.minutes;
    let late = || minutes.is_some_and(|minutes| begun.elapsed().as_secs() >= minutes * 60);
    while !tally.over.load(Ordering::Relaxed) && !late() {
        let seed = arguments.seeds.start + tally.next.fetch_add(1, Ordering::Relaxed);
        if seed >= arguments.seeds.end {
            return;
        }
        running.begins(seed);
        let from = Instant::now();
        let found = one(seed, arguments);
        running.ends(seed);
        tally.busy_ms.fetch_add(from.elapsed().as_millis() as u64, Ordering::Relaxed);
        tally.ended.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = found {
            tally.failed.fetch_add(1, Ordering::Relaxed);
            if arguments.scenario.is_control() {
                continue;
            }
            complain(&format!("{why}\nrepeat with: {}", repeat(seed, arguments.scenario)));
            if !arguments.keep_going {
                tally.over.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Plants the bugs whose name has `part` in it, one after the other, and hunts them.
#[cfg(feature = "planted")]
fn teeth(part: &str) -> ExitCode {
    use kv_tests::sim::teeth::{Catch, SEEDS_MAX, teeth};
    let mut escaped = 0;
    let mut caught = 0;
    for tooth in teeth().iter().filter(|tooth| tooth.name.contains(part)) {
        let (begun, scenario) = (Instant::now(), tooth.scenario().name());
        let told = match tooth.hunt(cores()) {
            Some(Catch { seed, found, found_without: None }) => {
                caught += 1;
                format!("caught by {scenario} seed {seed}: {found}")
            }
            Some(Catch { seed, found_without: Some(found), .. }) => {
                escaped += 1;
                format!("NOTHING PROVED: {scenario} seed {seed} without it too: {found}")
            }
            None => {
                escaped += 1;
                format!("ESCAPED {SEEDS_MAX} seeds of {scenario}")
            }
        };
        say(&format!("{:<41} {:>6} ms  {told}", tooth.name, begun.elapsed().as_millis()));
    }
    say(&format!("{caught} caught, {escaped} escaped"));
    if escaped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn repeat(seed: u64, scenario: Scenario) -> String {
    format!("cargo xtask sim --seed {seed} --scenario {}", scenario.name())
}

/// The seeds that run now, and how many seconds each was seen to: a process that was stopped
/// meanwhile looks at nothing, and nothing hangs for it.
#[derive(Default)]
struct Running(Mutex<BTreeMap<u64, u64>>);

impl Running {
    fn begins(&self, seed: u64) {
        self.seeds().insert(seed, 0);
    }

    fn ends(&self, seed: u64) {
        self.seeds().remove(&seed);
    }

    /// A second has passed: a seed that hangs, if one does.
    fn look(&self) -> Option<u64> {
        let mut seeds = self.seeds();
        seeds.values_mut().for_each(|seconds| *seconds += 1);
        seeds.iter().find(|(_, seconds)| **seconds >= HANG_S).map(|(seed, _)| *seed)
    }

    fn seeds(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the process when one seed runs for five minutes.
fn watch(running: &Arc<Running>, scenario: Scenario) {
    let running = Arc::clone(running);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if let Some(seed) = running.look() {
                complain(&format!("seed {seed} hangs; repeat with: {}", repeat(seed, scenario)));
                std::process::exit(1);
            }
        }
    });
}

/// Runs a seed and says what came of it.
fn one(seed: u64, arguments: &Arguments) -> Result<(), String> {
    let begun = Instant::now();
    let report = run(seed, &arguments.scenario.options(seed))
        .map_err(|why| format!("seed {seed}: {why}"))?;
    say(&format!("{} {} ms", report.line(), begun.elapsed().as_millis()));
    if arguments.one || !report.violations.is_empty() {
        let file = write_trace(&arguments.traces, arguments.scenario, &report)?;
        say(&format!("trace: {}", file.display()));
    }
    if report.violations.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = report.violations.iter().take(20).map(ToString::to_string).collect();
    Err(format!("seed {seed} failed:\n{}", shown.join("\n")))
}

fn write_trace(dir: &Path, scenario: Scenario, report: &Report) -> Result<PathBuf, String> {
    let file = dir.join(format!("{}-{}.txt", scenario.name(), report.seed));
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&file, trace::text(report)))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

fn say(what: &str) {
    let _unwritable = writeln!(std::io::stdout(), "{what}");
}

fn complain(what: &str) {
    let _unwritable = writeln!(std::io::stderr(), "{what}");
}
