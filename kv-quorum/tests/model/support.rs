//! A small seeded generator (SplitMix64, Steele, Lea and Flood 2014), so that a run is its seed.

/// The state is the seed and a counter.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.draw() % 100 < percent
    }
}

/// The seeds of a model: `KV_QUORUM_SEEDS` says how many, for the long runs, or `from..to`, to run
/// a failing one again.
pub(crate) fn seeds(default: u64) -> core::ops::Range<u64> {
    let Ok(wanted) = std::env::var("KV_QUORUM_SEEDS") else { return 0..default };
    let number = |text: &str| text.parse().expect("KV_QUORUM_SEEDS is a count or from..to");
    wanted.split_once("..").map_or_else(|| 0..number(&wanted), |(a, b)| number(a)..number(b))
}
