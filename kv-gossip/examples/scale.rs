//! Large clusters over the virtual network of the tests: what a death takes, whether anybody is
//! taken for dead who is not, what it costs, how old facts are. `cargo xtask bench gossip` runs it
//! and judges.
//!
//! ```text
//! scale [--members N] [--minutes M] [--deaths D] [--fact-seconds T] [--publishers P]
//!       [--loss PER_MILLE] [--seed S] [--acquainted 1]
//! ```
//!
//! Each packet is lost with the given chance, in each direction on its own; delays are 1 to 40 ms.
//! Three phases: nothing happens for M minutes; D members die, one after another; P members (all if
//! 0) publish a fact of 64 bytes anew in each second for T seconds. Figures come as `name=value`
//! lines. Members join through each other, or, `--acquainted`, know each other from before: tables
//! that are built at once are smaller, and ten thousand of ten thousand fit into 9 GiB.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it is a program that measures, over what the tests use"
)]

#[path = "../tests/net/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod net;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use kv_gossip::{Config, Event, Millis, State};
use net::{Faults, Net, address};

const FACT: u16 = 7;
const FACT_BYTES: usize = 64;
/// A death that nobody knows by then is not known.
const DEATH_MS_MAX: u64 = 60_000;

struct Options {
    members: u64,
    minutes: u64,
    deaths: u64,
    loss: u64,
    fact_seconds: u64,
    publishers: u64,
    seed: u64,
    acquainted: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        members: 100,
        minutes: 2,
        deaths: 5,
        loss: 50,
        fact_seconds: 60,
        publishers: 0,
        seed: 1,
        acquainted: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().and_then(|word| word.parse::<u64>().ok());
        let value = value.ok_or_else(|| format!("{name} needs a number"))?;
        match name.as_str() {
            "--members" => options.members = value.max(4),
            "--minutes" => options.minutes = value,
            "--deaths" => options.deaths = value.min(options.members / 4),
            "--loss" => options.loss = value.min(1_000),
            "--fact-seconds" => options.fact_seconds = value,
            "--publishers" => options.publishers = value,
            "--seed" => options.seed = value,
            "--acquainted" => options.acquainted = value != 0,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options() {
        Ok(options) => {
            run(&options);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) {
    let began = Instant::now();
    let config = Config { members_max: options.members as usize, ..Config::lan() };
    println!("members={}", options.members);
    println!("lost_per_mille={}", options.loss);
    println!("budget_bytes={}", config.bytes_per_period_max);
    let period_ms = config.probe_interval_ms;
    let faults = Faults { loss_per_mille: options.loss, delay_ms_max: 40, ..Faults::default() };
    let mut net = if options.acquainted {
        let mut net = Net::with_acquaintances(options.seed, config, options.members);
        net.faults = faults;
        net
    } else {
        let mut net = Net::new(options.seed, config);
        net.faults = faults;
        let found_ms = start(&mut net, options.members);
        println!("found_s={}", in_seconds(found_ms));
        net
    };
    net.run_for(30_000);
    eprintln!("{} s: all started", since(began));

    live(&mut net, "quiet", options.minutes * 60, &[]);
    deaths(&mut net, options, period_ms, began);

    let wanted = if options.publishers == 0 { options.members } else { options.publishers };
    let step = options.members.div_ceil(wanted.max(1)).max(1);
    let publishers: Vec<u64> = net.machines.keys().step_by(step as usize).collect();
    live(&mut net, "facts", options.fact_seconds, &publishers);
    println!("publishers={}", publishers.len());
    println!("packets={}", net.packets);
    println!("took_s={}", since(began));
}

fn deaths(net: &mut Net, options: &Options, period_ms: u64, began: Instant) {
    net.events.clear();
    let (mut periods, mut unknown) = (Vec::new(), 0);
    for death in 0..options.deaths {
        let id = 2 + death * (options.members - 2) / options.deaths.max(1);
        match die(net, id) {
            Some(ms) => periods.push(ms as f64 / period_ms as f64),
            None => unknown += 1,
        }
        eprintln!("{} s: a death, known after {:?} periods", since(began), periods.last());
    }
    let alive = |id: &u64| net.machines.contains_key(*id);
    println!("deaths={}", options.deaths);
    println!("deaths_unknown={unknown}");
    println!("deaths_wrong={}", net.count(|event| matches!(event, Event::Down(id) if alive(id))));
    periods.sort_by(f64::total_cmp);
    if let (Some(median), Some(most)) = (periods.get(periods.len() / 2), periods.last()) {
        println!("death_periods_median={median:.1}");
        println!("death_periods_most={most:.1}");
    }
}

fn since(began: Instant) -> u64 {
    began.elapsed().as_secs()
}

/// Starts the members in waves, each with a few of the former as seeds; how long it takes until all
/// see all.
fn start(net: &mut Net, members: u64) -> u64 {
    let (mut started, mut wave) = (1, 8);
    net.start(1, address(1), 0, &[]);
    let began = net.now;
    while started < members {
        let end = (started + wave).min(members);
        for id in started + 1..=end {
            let seeds = [1 + id % started, 1 + (id * 7) % started];
            net.start(id, address(id), 0, &seeds);
        }
        started = end;
        wave *= 4;
        net.run_for(2_000);
    }
    for _ in 0..600 {
        if net.all_see_all_up() {
            break;
        }
        net.run_for(500);
    }
    net.now.since(began)
}

/// A phase in which nobody dies; facts change in each second if there are publishers. Prints what
/// was seen in it: wrong beliefs count once for each member that holds them.
fn live(net: &mut Net, name: &str, seconds: u64, publishers: &[u64]) {
    net.events.clear();
    let began = Instant::now();
    let (mut refuted, mut down) = (0, 0);
    let mut spent = Spent::default();
    let mut ages = Vec::new();
    let members = net.machines.len() as u64;
    let before = net.bytes;
    let phase_began = net.now;
    for second in 0..seconds {
        let mut bytes = [0; FACT_BYTES];
        bytes[..8].copy_from_slice(&net.now.get().to_le_bytes());
        for id in publishers {
            net.with(*id, |machine, _| machine.publish_fact(FACT, &bytes)).unwrap();
        }
        spent.begin(net);
        net.run_for(1_000);
        spent.end(net);
        refuted += net.count(|event| matches!(event, Event::Refuted { .. }));
        down += net.count(|event| matches!(event, Event::Down(_)));
        net.events.clear();
        if second >= seconds / 2 {
            look_at_ages(net, publishers, second, phase_began, &mut ages);
        }
        if second % 300 == 299 {
            eprintln!("{name}: {} simulated minutes took {} s", second / 60 + 1, since(began));
        }
    }
    println!("{name}_s={seconds}");
    println!("{name}_refuted={refuted}");
    println!("{name}_down={down}");
    println!("{name}_bytes_mean={}", (net.bytes - before) / members / seconds.max(1));
    println!("{name}_bytes_p99={}", spent.at(990));
    println!("{name}_bytes_most={}", spent.at(1_000));
    ages.sort_unstable();
    for (point, per_mille) in [("median", 500), ("p99", 990), ("most", 1_000)] {
        if let Some(ms) = ages.get(ages.len().saturating_sub(1) * per_mille / 1_000) {
            println!("{name}_age_s_{point}={}", in_seconds(*ms));
        }
    }
}

/// Bytes that single members sent in single seconds: how often how many, in steps of 64.
#[derive(Default)]
struct Spent {
    before: Vec<u64>,
    counts: BTreeMap<u64, u64>,
}

impl Spent {
    fn begin(&mut self, net: &Net) {
        self.before.clone_from(&net.sent_bytes);
    }

    fn end(&mut self, net: &Net) {
        for id in net.machines.keys() {
            let bytes = net.sent_bytes[id as usize] - self.before[id as usize];
            *self.counts.entry(bytes.div_ceil(64) * 64).or_default() += 1;
        }
    }

    fn at(&self, per_mille: u64) -> u64 {
        let all: u64 = self.counts.values().sum();
        let mut left = all.saturating_sub(1) * per_mille / 1_000;
        for (bytes, count) in &self.counts {
            if left < *count {
                return *bytes;
            }
            left -= count;
        }
        0
    }
}

/// One owner seen by all, and one viewer of all, in each second others.
fn look_at_ages(
    net: &Net,
    publishers: &[u64],
    second: u64,
    phase_began: Millis,
    ages: &mut Vec<u64>,
) {
    let ids: Vec<u64> = net.machines.keys().collect();
    let at = second as usize * 31;
    let viewer = ids[(at * 7 + 1) % ids.len()];
    if let Some(owner) = publishers.get(at % publishers.len().max(1)) {
        ages.extend(ids.iter().filter_map(|id| age_ms(net, *id, *owner, phase_began)));
        ages.extend(publishers.iter().filter_map(|id| age_ms(net, viewer, *id, phase_began)));
    }
}

/// How long ago what the viewer has of the owner was published. One who has nothing yet counts as
/// if it had what was published when the phase began.
fn age_ms(net: &Net, viewer: u64, owner: u64, phase_began: Millis) -> Option<u64> {
    if viewer == owner {
        return None;
    }
    let Some(fact) = net.machines[&viewer].fact(owner, FACT) else {
        return Some(net.now.since(phase_began));
    };
    let published = u64::from_le_bytes(fact.bytes.get(..8)?.try_into().ok()?);
    Some(net.now.get().saturating_sub(published))
}

/// Kills a member; how long it takes until all know.
fn die(net: &mut Net, id: u64) -> Option<u64> {
    net.run_for(3_000 + id * 97 % 1_000);
    net.kill(id);
    let died = net.now;
    while net.now.since(died) < DEATH_MS_MAX {
        net.run_for(100);
        if net.all_see(id, State::Down) {
            return Some(net.now.since(died));
        }
    }
    None
}

fn in_seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1_000, ms % 1_000 / 100)
}
