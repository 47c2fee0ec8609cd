//! The settings, each with its meaning, its guidance and its rule; presets first.
//!
//! Names end in the unit. The defaults follow memberlist's LAN profile, which Lifeguard (Dadgar,
//! Phillips and Currey, 2018) was measured with; `local` is for nodes on one machine and for tests.

use crate::Error;
use crate::codec::{PACKET_BYTES_LIMIT, PACKET_BYTES_MIN, PACKET_OVERHEAD_BYTES_MAX};
use crate::member::ACCUSERS_MAX;

/// Settings of one member. All members of a cluster should agree on them; they may differ while
/// they are being changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// A member probes one other in each of these periods. Above 0.
    pub probe_interval_ms: u64,
    /// After this time without an answer a probe goes through others. Well above the network's
    /// round trip. Above 0, and below `probe_interval_ms`.
    pub probe_timeout_ms: u64,
    /// How many others are asked to probe on our behalf. 0 turns indirect probes off.
    pub indirect_probes: usize,
    /// A suspicion lasts at least this many probe intervals, times log10 of the cluster's size.
    /// At least 1.
    pub suspicion_multiplier: u64,
    /// But never more than this many probe intervals at least: a refutation has to reach everybody
    /// in that time, and what it takes grows slower than log10 does. At least
    /// `suspicion_multiplier`.
    pub suspicion_periods_max: u64,
    /// So many members beside the first that confirm a suspicion cut it to that. At most 3.
    pub suspicion_confirmations: usize,
    /// A suspicion that nobody confirms lasts this many times longer. At least 1.
    pub suspicion_max_multiplier: u64,
    /// How far a member that doubts itself stretches its own timeouts: up to this + 1 times.
    pub health_max: u32,
    /// How often news is sent to random members beside the probes. Above 0.
    pub gossip_interval_ms: u64,
    /// To how many members at once.
    pub gossip_fanout: usize,
    /// Each piece of news is sent this many times log2 of the cluster's size. At least 1.
    pub retransmit_multiplier: u32,
    /// How often the whole state is compared with a random member's, in a cluster of up to 32.
    /// Comparing costs bytes in proportion to the members, so larger ones compare less often:
    /// 1 + log2(members / 32) times this, as memberlist's push-pull does. Above 0.
    pub sync_interval_ms: u64,
    /// How often a member that is down is tried again: this is what heals a partition. Above 0.
    pub reconnect_interval_ms: u64,
    /// The first pause between two tries to reach a seed; it doubles up to
    /// `reconnect_interval_ms`. Above 0, and not above that.
    pub join_retry_ms: u64,
    /// The longest packet that is sent. Below the path's MTU for UDP; anything up to
    /// [`PACKET_BYTES_LIMIT`] over a stream. At least [`PACKET_BYTES_MIN`].
    pub packet_bytes_max: usize,
    /// The longest fact. At most `packet_bytes_max` - 512.
    pub fact_bytes_max: usize,
    /// How many facts one node may publish.
    pub facts_per_node_max: usize,
    /// How many bytes a member sends in one probe interval, however large the cluster is. When
    /// they are spent, probes and answers go without news, gossip and comparisons wait. At least
    /// the next two together.
    pub bytes_per_period_max: usize,
    /// How many bytes of facts a member adds to its packets in one probe interval. Facts that find
    /// no room wait; a newer version takes the place of the one that waits.
    pub fact_bytes_per_period_max: usize,
    /// How many bytes of comparisons a member sends in one probe interval, asking and answering.
    /// Our own wait for the next; requests above it are not answered and come again. At least
    /// twice `packet_bytes_max`.
    pub sync_bytes_per_period_max: usize,
    /// How many members are remembered, this one included. News of more is dropped. At least 1.
    pub members_max: usize,
    /// How long a member that is down or has left is remembered.
    pub gone_keep_ms: u64,
    /// How many packets wait for the caller. The newest beyond it are dropped, as a network would.
    pub transmits_max: usize,
    /// How many events wait for the caller. The oldest beyond it are dropped, and counted.
    pub events_max: usize,
    /// How many probes run beside the periodic one, and how many we run for others. At least 1.
    pub extra_probes_max: usize,
}

impl Config {
    /// For nodes of one machine: a start is seen in some 200 ms, a death in 1 to 3 s.
    pub const fn local() -> Self {
        Self {
            probe_interval_ms: 250,
            probe_timeout_ms: 100,
            suspicion_max_multiplier: 3,
            gossip_interval_ms: 50,
            sync_interval_ms: 1_000,
            reconnect_interval_ms: 1_000,
            join_retry_ms: 50,
            packet_bytes_max: 8 * 1_024,
            bytes_per_period_max: 256 * 1_024,
            sync_bytes_per_period_max: 128 * 1_024,
            ..Self::lan()
        }
    }

    /// For nodes of one data centre, any number of them: 1 s probes, packets below a common MTU.
    pub const fn lan() -> Self {
        Self {
            probe_interval_ms: 1_000,
            probe_timeout_ms: 500,
            indirect_probes: 3,
            suspicion_multiplier: 4,
            suspicion_periods_max: 6,
            suspicion_confirmations: 2,
            suspicion_max_multiplier: 6,
            health_max: 8,
            gossip_interval_ms: 200,
            gossip_fanout: 3,
            retransmit_multiplier: 2,
            sync_interval_ms: 10_000,
            reconnect_interval_ms: 10_000,
            join_retry_ms: 500,
            packet_bytes_max: 1_400,
            fact_bytes_max: 512,
            facts_per_node_max: 16,
            bytes_per_period_max: 64 * 1_024,
            fact_bytes_per_period_max: 16 * 1_024,
            sync_bytes_per_period_max: 32 * 1_024,
            members_max: 16_384,
            gone_keep_ms: 24 * 60 * 60 * 1_000,
            transmits_max: 1_024,
            events_max: 16 * 1_024,
            extra_probes_max: 16,
        }
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// [`Error::Config`] names the first setting that breaks its rule.
    pub const fn validate(&self) -> Result<(), Error> {
        let broken = if self.probe_interval_ms == 0 {
            "probe_interval_ms"
        } else if self.probe_timeout_ms == 0 || self.probe_timeout_ms >= self.probe_interval_ms {
            "probe_timeout_ms"
        } else if self.suspicion_multiplier == 0 {
            "suspicion_multiplier"
        } else if self.suspicion_periods_max < self.suspicion_multiplier {
            "suspicion_periods_max"
        } else if self.suspicion_confirmations >= ACCUSERS_MAX {
            "suspicion_confirmations"
        } else if self.suspicion_max_multiplier == 0 {
            "suspicion_max_multiplier"
        } else if self.gossip_interval_ms == 0 {
            "gossip_interval_ms"
        } else if self.retransmit_multiplier == 0 {
            "retransmit_multiplier"
        } else if self.sync_interval_ms == 0 {
            "sync_interval_ms"
        } else if self.reconnect_interval_ms == 0 {
            "reconnect_interval_ms"
        } else if self.join_retry_ms == 0 || self.join_retry_ms > self.reconnect_interval_ms {
            "join_retry_ms"
        } else if self.packet_bytes_max < PACKET_BYTES_MIN
            || self.packet_bytes_max > PACKET_BYTES_LIMIT
        {
            "packet_bytes_max"
        } else if self.fact_bytes_max + PACKET_OVERHEAD_BYTES_MAX > self.packet_bytes_max {
            "fact_bytes_max"
        } else if self.sync_bytes_per_period_max / 2 < self.packet_bytes_max {
            "sync_bytes_per_period_max"
        } else if self.bytes_per_period_max.saturating_sub(self.fact_bytes_per_period_max)
            < self.sync_bytes_per_period_max
        {
            "bytes_per_period_max"
        } else if self.members_max == 0 {
            "members_max"
        } else if self.extra_probes_max == 0 {
            "extra_probes_max"
        } else {
            return Ok(());
        };
        Err(Error::Config { field: broken })
    }
}

impl Default for Config {
    /// [`Config::lan`].
    fn default() -> Self {
        Self::lan()
    }
}

const _: () = assert!(Config::local().validate().is_ok());
const _: () = assert!(Config::lan().validate().is_ok());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_rule_is_named() {
        let config = Config { probe_timeout_ms: 250, ..Config::local() };
        assert_eq!(config.validate(), Err(Error::Config { field: "probe_timeout_ms" }));
        let config = Config { packet_bytes_max: 600, ..Config::lan() };
        assert_eq!(config.validate(), Err(Error::Config { field: "packet_bytes_max" }));
        let config = Config { fact_bytes_max: 1_000, ..Config::lan() };
        assert_eq!(config.validate(), Err(Error::Config { field: "fact_bytes_max" }));
    }

    #[test]
    fn the_whole_budget_holds_its_parts() {
        let config = Config { fact_bytes_per_period_max: 33 * 1_024, ..Config::lan() };
        assert_eq!(config.validate(), Err(Error::Config { field: "bytes_per_period_max" }));
        let config = Config { suspicion_periods_max: 3, ..Config::lan() };
        assert_eq!(config.validate(), Err(Error::Config { field: "suspicion_periods_max" }));
    }
}
