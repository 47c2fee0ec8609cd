//! Randomness as the caller passes it in: which member to probe next, whom to gossip to.
//!
//! Nothing here needs to be unpredictable to an adversary; it needs to be reproducible, so that a
//! run can be replayed from its seed. [`SplitMix64`] (Steele, Lea and Flood, 2014) is enough.

/// A source of pseudo-random numbers.
pub trait Rng {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;
}

/// The generator of "Fast splittable pseudorandom number generators": 8 bytes of state.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator whose whole sequence follows from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Rng for SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

/// SplitMix64's finalizer: a bijection that spreads every input bit over the output.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A number below `bound`, or 0 when `bound` is 0. The bias is below `bound` / 2^64.
pub(crate) fn below<R: Rng>(rng: &mut R, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// Fisher and Yates's shuffle of the first `count` places: they hold a uniform sample.
pub(crate) fn shuffle_prefix<T, R: Rng>(rng: &mut R, items: &mut [T], count: usize) {
    for place in 0..count.min(items.len()) {
        items.swap(place, place + below(rng, items.len() - place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_matches_its_published_vector() {
        let mut rng = SplitMix64::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_sample_is_a_permutation_and_reaches_every_item() {
        let mut rng = SplitMix64::new(7);
        let mut first = [false; 8];
        for _ in 0..400 {
            let mut items = [0_usize, 1, 2, 3, 4, 5, 6, 7];
            shuffle_prefix(&mut rng, &mut items, 3);
            first[items[0]] = true;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
        assert!(first.iter().all(|seen| *seen));
    }
}
