//! A run: threads with clients, and samples of what they measured.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Plan;
use super::client::{BenchClient, Shared, lock};
use super::draw::Picture;
use super::keys::Zipf;
use super::load::pool;
use super::report::{Report, Sample};
use super::tally::{Tally, empty};
use super::workload::Source;
use crate::Error;

const DRAWN_EACH: Duration = Duration::from_millis(250);
const DRAWS_A_SAMPLE: u64 = 4;
/// Samples that are kept; a longer run keeps its last ones.
const SAMPLES_MAX: usize = 24 * 3_600;

/// Measures. `show` is given a picture four times a second.
///
/// # Errors
/// A thread or a timer can't be had.
pub(crate) async fn run(
    plan: Plan,
    server: String,
    mut show: impl FnMut(&Picture<'_>),
) -> Result<Report, Error> {
    let zipf = Zipf::new(plan.keys);
    let pool = pool(&plan);
    let shared = Arc::new(Shared::new(plan, pool));
    let tallies: Vec<Arc<Mutex<Tally>>> =
        (0..shared.plan.threads).map(|_| Arc::default()).collect();
    let threads: Vec<_> = tallies
        .iter()
        .zip(0_u32..)
        .map(|(tally, number)| {
            let (shared, tally) = (Arc::clone(&shared), Arc::clone(tally));
            let name = format!("bench-{number}");
            thread::Builder::new().name(name).spawn(move || work(&shared, &tally, number, zipf))
        })
        .collect::<Result<_, _>>()?;
    let mut samples = Vec::new();
    let mut ticks = interval(DRAWN_EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = shared.measure;
    for tick in 1_u64.. {
        ticks.tick().await;
        let now = Instant::now();
        let done = threads.iter().all(thread::JoinHandle::is_finished);
        if (tick % DRAWS_A_SAMPLE == 0 || done) && now > last {
            sample(&tallies, now.duration_since(last), &mut samples);
            last = now;
        }
        if done {
            break;
        }
        show(&Picture {
            plan: &shared.plan,
            sum: &sum(&tallies),
            samples: &samples,
            shared: &shared,
        });
    }
    for thread in threads {
        thread.join().map_err(|_| std::io::Error::other("a thread of the generator ended"))??;
    }
    // What was late at the end ended after it.
    let took = shared.plan.time.max(last.saturating_duration_since(shared.measure));
    Ok(Report::new(&shared, server, took, &sum(&tallies), samples))
}

/// One thread's clients: every so manyth of all.
fn work(
    shared: &Arc<Shared>,
    tally: &Arc<Mutex<Tally>>,
    number: u32,
    zipf: Zipf,
) -> Result<(), Error> {
    let runtime = crate::args::runtime()?;
    runtime.block_on(async {
        let mut clients = JoinSet::new();
        for client in (number..shared.plan.clients).step_by(shared.plan.threads as usize) {
            let source = Source::new(&shared.plan, zipf, client);
            let client = BenchClient::new(Arc::clone(shared), client, source, Arc::clone(tally));
            clients.spawn(client.run());
        }
        while let Some(ended) = clients.join_next().await {
            ended.map_err(std::io::Error::from)??;
        }
        Ok(())
    })
}

fn sample(tallies: &[Arc<Mutex<Tally>>], over: Duration, samples: &mut Vec<Sample>) {
    let mut lately = empty();
    for tally in tallies {
        lock(tally).take_lately(&mut lately);
    }
    // The rest of a second at the end would be a sample of little.
    if over < DRAWN_EACH {
        return;
    }
    if samples.len() == SAMPLES_MAX {
        samples.remove(0);
    }
    samples.push(Sample {
        per_second: lately.len() as f64 / over.as_secs_f64(),
        p50_us: lately.value_at_quantile(0.5),
        p99_us: lately.value_at_quantile(0.99),
    });
}

fn sum(tallies: &[Arc<Mutex<Tally>>]) -> Tally {
    let mut sum = Tally::default();
    for tally in tallies {
        sum.add(&lock(tally));
    }
    sum
}
