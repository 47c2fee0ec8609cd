//! What clients do how often: weights that scenarios choose and seeds shift.

use crate::sim::random::Random;

/// Shared keys that see a few puts in a run: a replica that forgot one of them is not shown so by
/// the next request.
const COLD_KEYS: u64 = 200;

/// What a client may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    SetDistinct,
    GetDistinct,
    SetOwn,
    DeleteOwn,
    GetOwn,
    SetContested,
    DeleteContested,
    GetContested,
    /// An end in the far future, or none, for an own or contested key.
    Touch,
    Put,
    SetShared,
    DeleteSeen,
    Look,
    SetUntil,
    ChangeEnd,
    GetExpiring,
    Flush,
    /// Several SETs as one batch.
    SetBatch,
    /// Several GETs as one batch.
    GetBatch,
    /// SET NX, SET GET, GETDEL and INCR, where one node decides.
    SetAbsent,
    Swap,
    TakeOut,
    Count,
}

/// How often clients do what, as weights, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    weights: Vec<(Kind, u64)>,
    /// A client rests so long between two operations, at most, in microseconds.
    pub think_us_max: u64,
    /// A stored value is so long, at most.
    pub value_bytes_max: u64,
    /// A value that ends does so within this, at most, in milliseconds.
    pub ttl_ms_max: u64,
    /// So many more shared keys, which half of what is done to shared keys falls on: few puts each.
    pub cold_keys: u64,
}

impl Mix {
    /// A bit of everything save FLUSHALL.
    #[must_use]
    pub fn usual() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 22),
            (Kind::GetDistinct, 6),
            (Kind::SetOwn, 12),
            (Kind::DeleteOwn, 3),
            (Kind::GetOwn, 10),
            (Kind::SetContested, 10),
            (Kind::DeleteContested, 3),
            (Kind::GetContested, 12),
            (Kind::Touch, 4),
            (Kind::Put, 7),
            (Kind::SetShared, 1),
            (Kind::DeleteSeen, 1),
            (Kind::Look, 9),
            (Kind::SetUntil, 3),
            (Kind::ChangeEnd, 3),
            (Kind::GetExpiring, 4),
        ];
        Self { weights, think_us_max: 60_000, value_bytes_max: 64, ttl_ms_max: 8_000, cold_keys: 0 }
    }

    /// The usual, shifted by chance: everything is some times as frequent as otherwise, and
    /// sometimes left out.
    #[must_use]
    pub fn drawn(random: &Random) -> Self {
        let mut mix = Self::usual();
        for (_, weight) in &mut mix.weights {
            *weight *= random.below(4);
        }
        // A run in which nothing can be lost proves nothing.
        mix.weights.push((Kind::SetDistinct, 5));
        mix.think_us_max = random.between(15_000, 90_000);
        mix.value_bytes_max = if random.percent(30) { 2_000 } else { 64 };
        mix
    }

    /// Adds FLUSHALL, so many times as frequent as a read of a shared key.
    #[must_use]
    pub fn with_flush(mut self, weight: u64) -> Self {
        self.weights.push((Kind::Flush, weight));
        self
    }

    /// Adds batches of SETs and of GETs.
    #[must_use]
    pub fn with_batches(mut self) -> Self {
        self.weights.extend([(Kind::SetBatch, 15), (Kind::GetBatch, 15)]);
        self
    }

    /// Adds commands that promise something of what was there.
    #[must_use]
    pub fn with_promises(mut self) -> Self {
        let promises = [Kind::SetAbsent, Kind::Swap, Kind::TakeOut, Kind::Count];
        self.weights.extend(promises.into_iter().zip([12, 12, 3, 6]));
        self
    }

    /// Whether clients ever do this.
    #[cfg(test)]
    pub(in crate::sim) fn has(&self, kind: &str) -> bool {
        self.weights.iter().any(|(one, weight)| *weight > 0 && format!("{one:?}") == kind)
    }

    /// Only puts and reads of siblings.
    #[must_use]
    pub fn of_siblings() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 10),
            (Kind::Put, 40),
            (Kind::SetShared, 3),
            (Kind::DeleteSeen, 3),
            (Kind::Look, 34),
        ];
        Self { weights, cold_keys: COLD_KEYS, ..Self::usual() }
    }

    /// Puts, deletes and reads of siblings, and deletes of other keys.
    #[must_use]
    pub fn of_deletes() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 10),
            (Kind::SetOwn, 8),
            (Kind::DeleteOwn, 8),
            (Kind::SetContested, 6),
            (Kind::DeleteContested, 6),
            (Kind::Put, 20),
            (Kind::DeleteSeen, 16),
            (Kind::Look, 26),
        ];
        Self { weights, cold_keys: COLD_KEYS / 4, ..Self::usual() }
    }

    /// Keys that are written once and read again and again.
    #[must_use]
    pub fn of_reads() -> Self {
        let weights = vec![(Kind::SetDistinct, 30), (Kind::GetDistinct, 60), (Kind::GetOwn, 10)];
        Self { weights, think_us_max: 20_000, value_bytes_max: 500, ..Self::usual() }
    }

    /// Few keys that all clients overwrite and read, as fast as they can.
    #[must_use]
    pub fn of_registers() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 10),
            (Kind::GetDistinct, 5),
            (Kind::SetOwn, 10),
            (Kind::GetOwn, 15),
            (Kind::SetContested, 20),
            (Kind::DeleteContested, 3),
            (Kind::GetContested, 37),
        ];
        Self { weights, think_us_max: 10_000, ..Self::usual() }
    }

    /// Values that end soon.
    #[must_use]
    pub fn of_ends() -> Self {
        let weights = vec![
            (Kind::SetDistinct, 10),
            (Kind::SetUntil, 25),
            (Kind::ChangeEnd, 30),
            (Kind::GetExpiring, 20),
            (Kind::Touch, 10),
            (Kind::SetOwn, 5),
            (Kind::GetOwn, 5),
        ];
        Self { weights, ttl_ms_max: 3_000, ..Self::usual() }
    }

    pub(super) fn draw(&self, random: &Random) -> Kind {
        let sum = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(sum);
        for (kind, weight) in &self.weights {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        Kind::Look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_weight_is_never_drawn() {
        let random = Random::of(1, "mix");
        let mix = Mix::of_siblings();
        for _ in 0..1_000 {
            let drawn = mix.draw(&random);
            assert!(mix.weights.iter().any(|(kind, _)| *kind == drawn), "{drawn:?}");
        }
    }
}
