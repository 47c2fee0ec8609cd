//! Large clusters over the virtual network of the tests: what a death takes, whether anybody is
//! taken for dead who is not, what it costs, how old facts are. `cargo xtask bench gossip` runs it.
//!
//! ```text
//! scale [--members N] [--minutes M] [--deaths D] [--fact-seconds T] [--loss PER_MILLE] [--seed S]
//! ```
//!
//! Each packet is lost with the given chance, in each direction on its own; delays are 1 to 40 ms.
//! Three phases: nothing happens for M minutes; every member publishes a fact of 64 bytes anew in
//! each second for T seconds; D members die, one after another. Ends with 1 if somebody who lives
//! was declared down, or a death was not known everywhere.
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

use std::process::ExitCode;
use std::time::Instant;

use kv_gossip::{Config, Event, State};
use net::{Faults, Net, address};

const FACT: u16 = 7;
const FACT_BYTES: usize = 64;

struct Options {
    members: u64,
    minutes: u64,
    deaths: u64,
    loss: u64,
    fact_seconds: u64,
    seed: u64,
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { members: 100, minutes: 2, deaths: 5, loss: 50, fact_seconds: 60, seed: 1 };
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
            "--seed" => options.seed = value,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options() {
        Ok(options) => run(&options),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> ExitCode {
    let began = Instant::now();
    let config = Config::lan(usize::try_from(options.members).unwrap_or(1));
    let period_ms = config.probe_interval_ms;
    let mut net = Net::new(options.seed, config);
    net.faults = Faults { loss_per_mille: options.loss, delay_ms_max: 40, ..Faults::default() };
    let found_ms = start(&mut net, options.members);
    println!(
        "{} members, {} of 1000 packets lost: all see all after {} s",
        options.members,
        options.loss,
        in_seconds(found_ms)
    );
    net.run_for(30_000);

    let mut down = 0;
    for (name, seconds, facts) in
        [("nothing happens", options.minutes * 60, false), ("facts", options.fact_seconds, true)]
    {
        let phase = live(&mut net, options.members, seconds, facts);
        down += phase.down;
        println!(
            "{name}, {seconds} s: {} suspected, {} declared down, by {} members; bytes sent in a \
             second: {} a member, {} at most",
            phase.suspicions, phase.down, options.members, phase.bytes_mean, phase.bytes_max
        );
        if facts {
            println!("the facts: {}", phase.ages);
        }
    }

    let (mut periods, mut unknown) = (Vec::new(), 0);
    for death in 0..options.deaths {
        let id = 2 + death * (options.members - 2) / options.deaths.max(1);
        match die(&mut net, id) {
            Some(ms) => periods.push(ms as f64 / period_ms as f64),
            None => unknown += 1,
        }
    }
    let others =
        net.count(|event| matches!(event, Event::Down(id) if net.machines.contains_key(id)));
    periods.sort_by(f64::total_cmp);
    if let (Some(median), Some(most)) = (periods.get(periods.len() / 2), periods.last()) {
        println!(
            "{} deaths, one after another: known everywhere after {median:.1} periods (median), \
             {most:.1} at most; {unknown} not known after 60",
            options.deaths
        );
    }
    println!("took {:.1} s, {} packets", began.elapsed().as_secs_f64(), net.packets);
    ExitCode::from(u8::from(down + others + unknown > 0))
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

/// What was seen in a phase. Suspicions and deaths count once for each member that believes them.
#[derive(Default)]
struct Phase {
    suspicions: usize,
    down: usize,
    bytes_mean: u64,
    bytes_max: u64,
    ages: String,
}

/// Nobody dies; facts change if `facts`.
fn live(net: &mut Net, members: u64, seconds: u64, facts: bool) -> Phase {
    net.events.clear();
    let mut phase = Phase::default();
    let before = net.bytes;
    let mut ages = Vec::new();
    let mut sent = net.sent_bytes.clone();
    let ids: Vec<u64> = net.machines.keys().copied().collect();
    for second in 0..seconds {
        if facts {
            let mut bytes = [0; FACT_BYTES];
            bytes[..8].copy_from_slice(&net.now.get().to_le_bytes());
            for id in &ids {
                net.with(*id, |machine, _| machine.publish_fact(FACT, &bytes)).unwrap();
            }
        }
        net.run_for(1_000);
        phase.suspicions += net.count(|event| matches!(event, Event::Suspect(_)));
        phase.down += net.count(|event| matches!(event, Event::Down(_)));
        net.events.clear();
        for (id, total) in &net.sent_bytes {
            let spent = total - sent.get(id).copied().unwrap_or(0);
            phase.bytes_max = phase.bytes_max.max(spent);
        }
        sent.clone_from(&net.sent_bytes);
        // One owner seen by all, and one viewer of all, each second others.
        if facts && second >= seconds / 2 {
            let at = usize::try_from(second).unwrap_or(0) * 31;
            let (owner, viewer) = (ids[at % ids.len()], ids[(at * 7 + 1) % ids.len()]);
            ages.extend(ids.iter().filter_map(|id| age_ms(net, *id, owner)));
            ages.extend(ids.iter().filter_map(|id| age_ms(net, viewer, *id)));
        }
    }
    phase.bytes_mean = (net.bytes - before) / members / seconds.max(1);
    ages.sort_unstable();
    let at = |per_mille: usize| ages.get(ages.len().saturating_sub(1) * per_mille / 1_000);
    let shown = |per_mille| at(per_mille).map_or_else(|| "-".to_owned(), |ms| in_seconds(*ms));
    phase.ages = format!(
        "known elsewhere {} s old (median), {} s (99 %), {} s (oldest)",
        shown(500),
        shown(990),
        shown(1_000)
    );
    phase
}

fn age_ms(net: &Net, viewer: u64, owner: u64) -> Option<u64> {
    if viewer == owner {
        return None;
    }
    let fact = net.machines[&viewer].fact(owner, FACT)?;
    let published = u64::from_le_bytes(fact.bytes.get(..8)?.try_into().ok()?);
    Some(net.now.get().saturating_sub(published))
}

/// Kills a member; how long it takes until all know.
fn die(net: &mut Net, id: u64) -> Option<u64> {
    net.run_for(3_000 + id * 97 % 1_000);
    net.kill(id);
    let died = net.now;
    for _ in 0..600 {
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
