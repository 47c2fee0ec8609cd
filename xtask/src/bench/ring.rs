//! Placement at scale: kv-ring's `placement` example, in release, for several sizes.
//!
//! The example measures, this verb judges: every node within one of the even share up to the size
//! where placement is exact, movement within DESIGN's bound, a plan for a thousand nodes within a
//! second.

use std::fmt::Write as _;
use std::fs;

use super::{Figure, Machine, Seen, example};
use crate::cmd;
use crate::error::{Error, Result};
use crate::term;

/// Nodes and partitions of each column.
const SIZES: [(u32, u32); 6] =
    [(5, 1_024), (100, 1_024), (100, 16_384), (300, 16_384), (1_000, 16_384), (2_000, 16_384)];
/// A plan may take so long, up to so many nodes.
const PLAN_MS_MAX: f64 = 1_000.0;
const PLANNED_NODES: u32 = 1_000;
/// Up to so many nodes no more than a twentieth or one copy may move beyond what must.
const EXACT_NODES: u32 = 100;

const CHANGES: [(&str, &str); 3] =
    [("join", "one joins"), ("leave", "one leaves"), ("tenth", "a tenth joins")];

pub(super) fn measure() -> Result<Figure> {
    let target = cmd::root().join("target");
    fs::create_dir_all(&target).map_err(Error::io(&target))?;
    let machine = Machine::look(&target)?;
    let mut runs = Vec::new();
    for (nodes, partitions) in SIZES {
        term::note(format_args!("{nodes} nodes, {partitions} partitions"));
        runs.push(((nodes, partitions), plan(nodes, partitions)?));
    }
    let mut markdown = format!("## Placement\n\n{machine}\n\n{INTRODUCTION}");
    let mut missed = 0;
    table(&mut markdown, &runs, &mut missed);
    Ok(Figure { markdown, missed })
}

const INTRODUCTION: &str = "\
    `cargo run --release -p kv-ring --example placement`: nodes of weight 1 in three zones, three \
    copies. Copies that must move are those that a new node is to hold, or that a node which is \
    gone held; steps are the layouts that a change takes if no partition gets two newcomers at \
    once.\n\n";

fn plan(nodes: u32, partitions: u32) -> Result<Seen> {
    let sizes = ["--nodes", &nodes.to_string(), "--partitions", &partitions.to_string()];
    example("kv-ring", "placement", sizes)
}

fn table(markdown: &mut String, runs: &[((u32, u32), Seen)], missed: &mut usize) {
    markdown.push_str("| nodes, partitions |");
    for ((nodes, partitions), _) in runs {
        let _infallible = write!(markdown, " {nodes}, {partitions} |");
    }
    markdown.push_str(" asked | |\n|---|");
    markdown.push_str(&"---|".repeat(runs.len() + 2));
    markdown.push('\n');
    let mut row = |what: &str, asked: &str, judged: &dyn Fn(u32, &Seen) -> (String, bool)| {
        let _infallible = write!(markdown, "| {what} |");
        let mut held = true;
        for ((nodes, _), seen) in runs {
            let (words, met) = judged(*nodes, seen);
            let _infallible = write!(markdown, " {words} |");
            held &= met;
        }
        let met = match (asked, held) {
            ("-", _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        *missed += usize::from(met == "MISSED");
        let _infallible = writeln!(markdown, " {asked} | {met} |");
    };
    let figure = |seen: &Seen, name: &str| seen.get(name).copied().unwrap_or(f64::NAN);
    row("first layout, ms", "-", &|_, seen| (format!("{:.0}", figure(seen, "first_ms")), true));
    for (name, what) in CHANGES {
        let of = |seen: &Seen, what: &str| figure(seen, &format!("{name}_{what}"));
        row(&format!("{what}: planned in, ms"), "<= 1000 up to 1,000 nodes", &|nodes, seen| {
            let ms = of(seen, "ms");
            (format!("{ms:.0}"), nodes > PLANNED_NODES || ms <= PLAN_MS_MAX)
        });
        let within = "5 % or one more up to 100 nodes";
        row(&format!("{what}: copies that move / must"), within, &|nodes, seen| {
            let (moves, must) = (of(seen, "moves"), of(seen, "must"));
            let bound = (must * 1.05).max(must + 1.0);
            (format!("{moves:.0} / {must:.0}"), nodes > EXACT_NODES || moves <= bound)
        });
        row(&format!("{what}: least / most of a node"), "-", &|_, seen| {
            (format!("{:.0} / {:.0}", of(seen, "least"), of(seen, "most")), true)
        });
        row(&format!("{what}: steps"), "-", &|_, seen| (format!("{:.0}", of(seen, "steps")), true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ms: f64, moves: f64) -> Seen {
        let names = CHANGES.iter().flat_map(|(name, _)| {
            [("ms", ms), ("moves", moves), ("must", 30.0), ("least", 29.0), ("most", 31.0)]
                .map(|(what, value)| (format!("{name}_{what}"), value))
        });
        names.collect()
    }

    #[test]
    fn what_is_too_slow_or_moves_too_much_is_missed_where_it_is_asked() {
        let judged = |nodes, ms, moves| {
            let (mut markdown, mut missed) = (String::new(), 0);
            table(&mut markdown, &[((nodes, 1_024), seen(ms, moves))], &mut missed);
            missed
        };
        assert_eq!(judged(100, 900.0, 31.0), 0);
        assert_eq!(judged(100, 900.0, 33.0), 3, "each change moves too much");
        assert_eq!(judged(1_000, 900.0, 33.0), 0, "above, a heuristic may");
        assert_eq!(judged(1_000, 1_100.0, 30.0), 3);
        assert_eq!(judged(2_000, 1_100.0, 30.0), 0);
    }
}
