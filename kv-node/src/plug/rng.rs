//! Randomness as an argument: one generator for each node, seeded by whoever builds the node.
//!
//! Production seeds it from the operating system; a simulation seeds it from (seed, node), so a
//! run replays. SplitMix64 (Steele, Lea, Flood 2014) is enough: nothing here is a secret. Secrets
//! (nonces of the handshake, the cluster's keys) are drawn through the same seam and mixed with a
//! keyed hash where they are used.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random 64-bit numbers.
pub trait Rng: Send + Sync + 'static {
    /// The next number.
    fn next_u64(&self) -> u64;
}

/// SplitMix64 over an atomic counter: deterministic for a seed and a sequence of calls.
#[derive(Debug)]
pub struct SeededRng(AtomicU64);

impl SeededRng {
    /// A generator that always yields the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The operating system's generator.
#[derive(Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    /// # Panics
    /// When the operating system has no randomness to give: nothing safe can go on without it.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        u64::from_le_bytes(bytes)
    }
}
