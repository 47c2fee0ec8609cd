//! Loads and times, as people read them.

use super::measured::{Signal, Totals};

/// What each of `nodes` carries of a signal.
pub(super) fn of_each(totals: &Totals, signal: Signal, nodes: usize) -> String {
    let total = totals.of(signal);
    shown(signal, total.checked_div(nodes as u64).unwrap_or(total))
}

/// A value of a signal as it is measured.
pub(super) fn shown(signal: Signal, value: u64) -> String {
    match signal {
        Signal::Operations => format!("{value} op/s"),
        Signal::Cpu => format!("{} % CPU", value / 10),
        Signal::Disk if value < 10 << 20 => format!("{} KiB on disk", value >> 10),
        Signal::Disk => format!("{} MiB on disk", value >> 20),
    }
}

/// A time, in the unit in which it says something.
pub(super) fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}
