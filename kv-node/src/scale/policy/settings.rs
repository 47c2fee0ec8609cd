//! What an operator decides about the number of nodes, and what a load then asks for.

use serde::{Deserialize, Serialize};

use super::measured::{Signal, Totals};

/// What an operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Never fewer nodes.
    pub nodes_min: u16,
    /// Never more.
    pub nodes_max: u16,
    /// Operations a second that one node is to coordinate at most; 0: they don't matter.
    pub ops_per_node: u64,
    /// CPU that one node is to use at most, in percent of what its threads can; 0: it does not
    /// matter.
    pub cpu_percent: u8,
    /// Bytes on disk that one node is to hold at most; 0: they don't matter.
    pub disk_bytes_per_node: u64,
    /// How far below the targets what remains has to be before a node goes, percent.
    pub margin_percent: u8,
    /// Milliseconds for which too few have to be too few.
    pub out_after_ms: u64,
    /// Milliseconds for which too many have to be too many.
    pub in_after_ms: u64,
    /// Milliseconds of rest after a change has settled.
    pub cool_down_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            nodes_min: 3,
            nodes_max: 12,
            ops_per_node: 0,
            cpu_percent: 60,
            disk_bytes_per_node: 0,
            margin_percent: 25,
            out_after_ms: 2 * 60_000,
            in_after_ms: 30 * 60_000,
            cool_down_ms: 10 * 60_000,
        }
    }
}

impl Policy {
    /// Says which rule between the settings does not hold.
    ///
    /// # Errors
    /// The setting, and the rule.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let rules = [
            (self.nodes_min >= 1, "nodes_min", "at least 1"),
            (self.nodes_max >= self.nodes_min, "nodes_max", "at least nodes_min"),
            (self.nodes_max <= 1_000, "nodes_max", "at most 1000"),
            (self.cpu_percent <= 100, "cpu_percent", "at most 100"),
            ((5..=90).contains(&self.margin_percent), "margin_percent", "from 5 to 90"),
            (
                self.targets().iter().any(|(_, target)| *target > 0),
                "ops_per_node",
                "at least one target has to be set",
            ),
        ];
        rules.into_iter().find(|(holds, ..)| !holds).map_or(Ok(()), |(_, key, why)| Err((key, why)))
    }

    /// Every setting with its value, by name.
    pub fn pairs(&self) -> [(&'static str, u64); 9] {
        [
            ("nodes_min", self.nodes_min.into()),
            ("nodes_max", self.nodes_max.into()),
            ("ops_per_node", self.ops_per_node),
            ("cpu_percent", self.cpu_percent.into()),
            ("disk_bytes_per_node", self.disk_bytes_per_node),
            ("margin_percent", self.margin_percent.into()),
            ("out_after_ms", self.out_after_ms),
            ("in_after_ms", self.in_after_ms),
            ("cool_down_ms", self.cool_down_ms),
        ]
    }

    /// Gives a setting another value. What comes of several is for `check` to say.
    ///
    /// # Errors
    /// There is no such setting, or it can't have that value.
    pub fn set(&mut self, key: &str, value: u64) -> Result<(), String> {
        let small = |most: u64| {
            if value <= most { Ok(value) } else { Err(format!("{key}: at most {most}")) }
        };
        match key {
            "nodes_min" => self.nodes_min = small(u16::MAX.into())? as u16,
            "nodes_max" => self.nodes_max = small(u16::MAX.into())? as u16,
            "ops_per_node" => self.ops_per_node = value,
            "cpu_percent" => self.cpu_percent = small(100)? as u8,
            "disk_bytes_per_node" => self.disk_bytes_per_node = value,
            "margin_percent" => self.margin_percent = small(90)? as u8,
            "out_after_ms" => self.out_after_ms = value,
            "in_after_ms" => self.in_after_ms = value,
            "cool_down_ms" => self.cool_down_ms = value,
            _ => {
                let names = self.pairs().map(|(name, _)| name).join(", ");
                return Err(format!("{key} is none of {names}"));
            }
        }
        Ok(())
    }

    /// Each signal with its target for one node, as it is measured; 0 where it does not matter.
    pub(super) fn targets(&self) -> [(Signal, u64); 3] {
        [
            (Signal::Operations, self.ops_per_node),
            (Signal::Cpu, u64::from(self.cpu_percent) * 10),
            (Signal::Disk, self.disk_bytes_per_node),
        ]
    }

    /// How many nodes a load takes, each at `percent` of its targets, and by which signal with
    /// which target.
    pub(super) fn needed(&self, load: &Totals, percent: u64) -> Needed {
        let by = |(signal, target): (Signal, u64)| {
            let room = u128::from(target) * u128::from(percent);
            let nodes = (u128::from(load.of(signal)) * 100).div_ceil(room.max(1));
            Needed { nodes: u64::try_from(nodes).unwrap_or(u64::MAX), signal, target }
        };
        let all = self.targets().into_iter().filter(|(_, target)| *target > 0).map(by);
        all.max_by_key(|needed| needed.nodes).unwrap_or_default()
    }
}

/// How many nodes a load takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) nodes: u64,
    /// The signal that takes most.
    pub(super) signal: Signal,
    /// Its target.
    pub(super) target: u64,
}
