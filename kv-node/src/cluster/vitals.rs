//! How a node fares, in a few numbers that it tells with its gossip: what operators ask of all
//! nodes at once is then answered by any of them without asking the others.
//!
//! Numbers that always move are told with two digits, so that a quiet node tells nothing.

use serde::{Deserialize, Serialize};

/// How a node fares, as it said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// When it started, by its own clock.
    pub started_ms: u64,
    /// Keys with siblings in the partitions whose first live primary it is.
    pub conflicts: u64,
    /// Whether its index names all of them.
    pub conflicts_are_all: bool,
    /// Keys of which it keeps hints for others.
    pub hint_keys: u64,
    /// Bytes of these.
    pub hint_bytes: u64,
    /// Operations that it coordinated in a second, about.
    pub ops_per_s: u64,
    /// Bytes of rows in memory, about.
    pub memory_bytes: u64,
    /// Bytes on disk, about.
    pub disk_bytes: u64,
    /// The number of the last thing that it noted in its log of events.
    pub events: u64,
    /// How many things it says need an operator; `None` from a version that does not say.
    pub alerts: Option<u32>,
}

impl Vitals {
    /// As it travels.
    pub fn to_bytes(self) -> Vec<u8> {
        postcard::to_allocvec(&self).unwrap_or_default()
    }

    /// What a node told. Later versions may tell more: that is not read. Earlier ones end before
    /// `alerts`, and an absent one is a 0.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let read = |bytes: &[u8]| postcard::take_from_bytes(bytes).ok().map(|(vitals, _)| vitals);
        read(bytes).or_else(|| read(&[bytes, &[0]].concat()))
    }
}

/// A number with its first two digits, the others 0.
pub fn about(value: u64) -> u64 {
    let digits = value.checked_ilog10().unwrap_or(0);
    let unit = 10_u64.pow(digits.saturating_sub(1));
    value / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_travel_and_later_ones_are_read_as_far_as_they_are_known() {
        let vitals =
            Vitals { conflicts: 3, conflicts_are_all: true, events: 9, ..Vitals::default() };
        let vitals = Vitals { alerts: Some(2), ..vitals };
        let mut bytes = vitals.to_bytes();
        assert_eq!(Vitals::from_bytes(&bytes), Some(vitals));
        bytes.push(7);
        assert_eq!(Vitals::from_bytes(&bytes), Some(vitals));
        assert_eq!(Vitals::from_bytes(&bytes[..3]), None);
        let earlier = Vitals { alerts: None, ..vitals }.to_bytes();
        let (none, before) = earlier.split_last().expect("bytes");
        assert_eq!((*none, Vitals::from_bytes(before).map(|of| of.events)), (0, Some(9)));
        let large = Vitals {
            started_ms: u64::MAX,
            conflicts: u64::MAX,
            conflicts_are_all: true,
            hint_keys: u64::MAX,
            hint_bytes: u64::MAX,
            ops_per_s: u64::MAX,
            memory_bytes: u64::MAX,
            disk_bytes: u64::MAX,
            events: u64::MAX,
            alerts: Some(u32::MAX),
        };
        assert!(large.to_bytes().len() <= kv_gossip::Config::lan().fact_bytes_max);
    }

    #[test]
    fn two_digits_are_told() {
        for (value, told) in [(0, 0), (7, 7), (99, 99), (123, 120), (99_999, 99_000)] {
            assert_eq!(about(value), told);
        }
        assert_eq!(about(u64::MAX), 18_000_000_000_000_000_000);
    }
}
