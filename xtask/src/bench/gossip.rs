//! Membership at scale: kv-gossip's `scale` example, in release, for several sizes.
//!
//! It simulates, so the figures are the same on every machine for one seed; only the time that it
//! takes is this machine's. The example measures, this verb judges: every size up to a thousand has
//! to hold, of ten thousand it says what does.

use std::fmt::Write as _;
use std::fs;
use std::thread;

use super::machine::memory_available_bytes;
use super::{Figure, Machine, Options, Seen, example};
use crate::cmd;
use crate::error::{Error, Result};
use crate::term;

/// One size.
#[derive(Clone, Copy)]
struct Size {
    members: u64,
    /// Simulated minutes in which nothing happens: an hour where the target is about an hour.
    minutes: u64,
    deaths: u64,
    fact_seconds: u64,
    /// Members that publish a fact anew in each second; all if 0.
    publishers: u64,
    /// Whether its misses are misses of the bench.
    must_hold: bool,
    /// What the tables of all members take.
    memory_bytes: u64,
}

const SIZES: [Size; 4] = [
    Size::held(10),
    Size::held(100),
    Size::held(1_000),
    // All publishers' facts at all members would not fit into this machine.
    Size {
        members: 10_000,
        minutes: 2,
        deaths: 3,
        fact_seconds: 15,
        publishers: 100,
        must_hold: false,
        memory_bytes: 12 << 30,
    },
];

impl Size {
    const fn held(members: u64) -> Self {
        Self {
            members,
            minutes: 60,
            deaths: 11,
            fact_seconds: 120,
            publishers: 0,
            must_hold: true,
            memory_bytes: members * members * 1_024,
        }
    }

    fn arguments(&self, minutes: u64) -> Vec<String> {
        let numbers = [
            ("--members", self.members),
            ("--minutes", minutes),
            ("--deaths", self.deaths),
            ("--fact-seconds", self.fact_seconds),
            ("--publishers", self.publishers),
            ("--acquainted", u64::from(!self.must_hold)),
        ];
        numbers.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]).collect()
    }
}

/// That, or why there is nothing.
type Outcome = std::result::Result<Seen, String>;

/// A row of the table: its words, the figures of a cell, and the target that each is held to.
struct Row {
    what: &'static str,
    names: &'static [&'static str],
    most: Option<Most>,
}

/// What no figure of a row may be above, or only the first ones.
enum Most {
    Number(f64),
    /// Only the first.
    First(f64),
    /// The budget of bytes, for all but the last: one second may hold the ends of two periods.
    Budget,
}

const fn row(what: &'static str, names: &'static [&'static str], most: Option<Most>) -> Row {
    Row { what, names, most }
}

const ROWS: &[Row] = &[
    row("started together: all see all after, s", &["found_s"], None),
    row("nobody dies for, s", &["quiet_s"], None),
    row("members suspected then, who refuted it", &["quiet_refuted"], None),
    row("members declared down then", &["quiet_down"], Some(Most::Number(0.0))),
    row(
        "bytes a member sends in a second: mean / 99 of 100 / most",
        &["quiet_bytes_mean", "quiet_bytes_p99", "quiet_bytes_most"],
        Some(Most::Budget),
    ),
    row("deaths, one after another", &["deaths"], None),
    row(
        "known everywhere after so many periods: median / most",
        &["death_periods_median", "death_periods_most"],
        Some(Most::First(10.0)),
    ),
    row("deaths not known everywhere after 60 s", &["deaths_unknown"], Some(Most::Number(0.0))),
    row("declared down meanwhile, but alive", &["deaths_wrong"], Some(Most::Number(0.0))),
    row("then so many publish a fact of 64 B in each second", &["publishers"], None),
    row("members declared down then", &["facts_down"], Some(Most::Number(0.0))),
    row(
        "bytes a member sends in a second: mean / 99 of 100 / most",
        &["facts_bytes_mean", "facts_bytes_p99", "facts_bytes_most"],
        Some(Most::Budget),
    ),
    row(
        "age of a fact elsewhere, s: median / 99 of 100 / oldest",
        &["facts_age_s_median", "facts_age_s_p99", "facts_age_s_most"],
        None,
    ),
    row("packets", &["packets"], None),
    row("took here, all at once, s", &["took_s"], None),
];

/// Runs every size; with `--members` only that one.
pub(super) fn measure(options: &Options) -> Result<Figure> {
    let target = cmd::root().join("target");
    fs::create_dir_all(&target).map_err(Error::io(&target))?;
    let machine = Machine::look(&target)?;
    let sizes: Vec<Size> = match options.members {
        Some(members) => SIZES.into_iter().filter(|size| size.members == members).collect(),
        None => SIZES.to_vec(),
    };
    let other = options.members.filter(|_| sizes.is_empty()).map(Size::held);
    // All at once: they only simulate, so nothing but the time that they take depends on it.
    let runs: Vec<(Size, Outcome)> = thread::scope(|scope| {
        let begun: Vec<_> = sizes
            .into_iter()
            .chain(other)
            .map(|size| {
                let minutes = options.minutes.unwrap_or(size.minutes);
                term::note(format_args!("{} members, {minutes} simulated minutes", size.members));
                (size, scope.spawn(move || simulate(&size, minutes)))
            })
            .collect();
        let gone = |_| Err("MISSED: it did not end".to_owned());
        begun.into_iter().map(|(size, run)| (size, run.join().unwrap_or_else(gone))).collect()
    });
    let mut missed = runs.iter().filter(|(size, seen)| size.must_hold && seen.is_err()).count();
    let mut markdown = format!("## Membership in a virtual network\n\n{machine}\n\n{INTRODUCTION}");
    table(&mut markdown, &runs, &mut missed);
    for (size, seen) in &runs {
        match seen {
            Ok(seen) => {
                figures(*size, seen);
                if !size.must_hold {
                    verdict(&mut markdown, *size, seen);
                }
            }
            Err(why) => {
                let _infallible = writeln!(markdown, "\n{} members: {why}.", size.members);
            }
        }
    }
    Ok(Figure { markdown, missed })
}

const INTRODUCTION: &str = "\
    `cargo run --release -p kv-gossip --example scale`: 5 % of packets lost each way, delays of 1 \
    to 40 ms, `Config::lan()`, periods of 1 s. Up to 1,000 members join through each other; 10,000 \
    know each other from before.\n\n";

fn simulate(size: &Size, minutes: u64) -> Outcome {
    if memory_available_bytes().is_some_and(|available| available < size.memory_bytes) {
        let wanted = size.memory_bytes >> 30;
        return Err(format!("SKIPPED: less than {wanted} GiB of memory are free"));
    }
    example("kv-gossip", "scale", size.arguments(minutes))
        .map_err(|error| format!("MISSED: {error}"))
}

fn table(markdown: &mut String, runs: &[(Size, Outcome)], missed: &mut usize) {
    let seen: Vec<(&Size, &Seen)> =
        runs.iter().filter_map(|(size, seen)| Some((size, seen.as_ref().ok()?))).collect();
    if seen.is_empty() {
        return;
    }
    markdown.push_str("| members |");
    for (size, _) in &seen {
        let _infallible = write!(markdown, " {} |", size.members);
    }
    markdown.push_str(" asked | |\n|---|");
    markdown.push_str(&"---|".repeat(seen.len() + 2));
    markdown.push('\n');
    for row in ROWS {
        let _infallible = write!(markdown, "| {} |", row.what);
        let mut held = true;
        for (size, seen) in &seen {
            let _infallible = write!(markdown, " {} |", cell(row, seen));
            if size.must_hold && !holds(row, seen) {
                held = false;
                *missed += 1;
            }
        }
        let (asked, met) = match &row.most {
            None => ("-".to_owned(), ""),
            Some(most) => (most.words(), if held { "met" } else { "MISSED" }),
        };
        let _infallible = writeln!(markdown, " {asked} | {met} |");
    }
}

fn cell(row: &Row, seen: &Seen) -> String {
    let figures = row.names.iter().filter_map(|name| seen.get(*name));
    let words: Vec<String> = figures.map(ToString::to_string).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" / ") }
}

fn holds(row: &Row, seen: &Seen) -> bool {
    let (most, counted) = match &row.most {
        None => return true,
        Some(Most::Number(most)) => (*most, row.names.len()),
        Some(Most::First(most)) => (*most, 1),
        Some(Most::Budget) => {
            (seen.get("budget_bytes").copied().unwrap_or(0.0), row.names.len().saturating_sub(1))
        }
    };
    let mut figures = row.names.iter().take(counted);
    figures.all(|name| seen.get(*name).is_some_and(|figure| *figure <= most))
}

impl Most {
    fn words(&self) -> String {
        match self {
            Self::Number(most) => format!("<= {most}"),
            Self::First(most) => format!("median <= {most}"),
            Self::Budget => "99 of 100 <= `bytes_per_period_max`, 65536".to_owned(),
        }
    }
}

/// What the release gate keeps of a size.
fn figures(size: Size, seen: &Seen) {
    let of = |what: &str| {
        let row = ROWS.iter().find(|row| row.names.first() == Some(&what));
        row.map_or_else(String::new, |row| cell(row, seen))
    };
    term::out(format_args!(
        "figure: {} members: {} declared down in {} s; a death known after {} periods; bytes a \
         second {} quiet, {} with facts; age of facts {} s",
        size.members,
        of("quiet_down"),
        of("quiet_s"),
        of("death_periods_median"),
        of("quiet_bytes_mean"),
        of("facts_bytes_mean"),
        of("facts_age_s_median"),
    ));
}

/// Facts of 64 bytes that `fact_bytes_per_period_max` carries.
const FACTS_A_SECOND: u64 = 190;
/// Members in a request for a page of a comparison.
const MEMBERS_A_PAGE: u64 = 50;
/// Requests that `sync_bytes_per_period_max` allows.
const PAGES_A_SECOND: u64 = 22;

/// What holds of the size that need not, and what does not.
fn verdict(markdown: &mut String, size: Size, seen: &Seen) {
    let judged = ROWS.iter().filter(|row| row.most.is_some());
    let (held, not): (Vec<&Row>, Vec<&Row>) = judged.partition(|row| holds(row, seen));
    let words = |rows: &[&Row]| {
        let words: Vec<String> =
            rows.iter().map(|row| format!("{} ({})", row.what, cell(row, seen))).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join("; ") }
    };
    let figure = |name: &str| seen.get(name).copied().unwrap_or_default();
    let members = size.members;
    let _infallible = write!(
        markdown,
        "\nOf {members} members, seen for {} s without a death. Holds: {}. Does not hold: {}. \
         Of the facts of {} members {} s are the median age, {} s the most; the budget carries \
         some {FACTS_A_SECOND} such facts a second, so if all {members} published in each second, \
         nobody would hear of one more often than every {} s. A comparison of whole tables takes \
         {} pages each way, and {} s at least under its budget. A member's table takes {} KiB \
         without facts.\n",
        figure("quiet_s"),
        words(&held),
        words(&not),
        figure("publishers"),
        figure("facts_age_s_median"),
        figure("facts_age_s_most"),
        members / FACTS_A_SECOND,
        members / MEMBERS_A_PAGE,
        members / MEMBERS_A_PAGE / PAGES_A_SECOND,
        members * 64 / 1_024,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(figures: &[(&str, f64)]) -> Seen {
        figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_figure_above_its_target_or_missing_is_a_miss() {
        let row = row("", &["a", "b"], Some(Most::Number(2.0)));
        assert!(holds(&row, &seen(&[("a", 1.0), ("b", 2.0)])));
        assert!(!holds(&row, &seen(&[("a", 1.0), ("b", 3.0)])));
        assert!(!holds(&row, &seen(&[("a", 1.0)])));
        let row = Row { most: Some(Most::Budget), ..row };
        assert!(holds(&row, &seen(&[("a", 1.0), ("b", 9.0), ("budget_bytes", 2.0)])));
        assert!(!holds(&row, &seen(&[("a", 3.0), ("b", 9.0), ("budget_bytes", 2.0)])));
        let row = Row { most: Some(Most::First(1.0)), ..row };
        assert!(holds(&row, &seen(&[("a", 1.0), ("b", 9.0)])));
        assert!(!holds(&row, &seen(&[("a", 1.5), ("b", 9.0)])));
    }

    #[test]
    fn the_largest_size_may_miss_and_the_others_may_not() {
        let of = |members: f64| seen(&[("members", members), ("quiet_down", 1.0)]);
        let runs = [(SIZES[0], Ok(of(10.0))), (SIZES[3], Ok(of(10_000.0)))];
        let (mut markdown, mut missed) = (String::new(), 0);
        table(&mut markdown, &runs, &mut missed);
        let judged = ROWS.iter().filter(|row| row.most.is_some()).count();
        assert_eq!(missed, judged, "of the first one each target is missed or not measured");
        assert!(markdown.contains("| members declared down then | 1 | 1 | <= 0 | MISSED |"));
    }
}
