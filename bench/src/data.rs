//! Keys, values and the choice of keys: the same for every engine, from the same seeds.
//!
//! A key is 16 bytes. In order they are the hexadecimal digits of a counter; at random those of a
//! mixed counter, as keys that begin with a hash are. A value is 100 bytes of which half does not
//! compress; its first eight name its key, so that every read is checked.

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;
/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 100;

pub(crate) type Key = [u8; KEY_BYTES];
pub(crate) type Value = [u8; VALUE_BYTES];

/// A bijection of the 64-bit numbers that looks like chance (the finisher of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

/// The `number`-th key in order.
pub(crate) fn key_in_order(number: u64) -> Key {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut key = [0; KEY_BYTES];
    for (at, digit) in key.iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * at) & 15) as usize];
    }
    key
}

/// The `number`-th key at random: no two are the same.
pub(crate) fn key(number: u64) -> Key {
    key_in_order(mix(number))
}

/// A value of `key`; another for each `version`.
pub(crate) fn value(key: &Key, version: u64) -> Value {
    let mut value = [b'x'; VALUE_BYTES];
    value[..8].copy_from_slice(&key[8..]);
    let mut state = version ^ u64::from_le_bytes(key[8..].try_into().expect("eight bytes"));
    for chunk in value[8..50].chunks_mut(8) {
        state = mix(state);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    value
}

/// Whether `value` can be one of `key`.
pub(crate) fn is_value_of(value: &[u8], key: &Key) -> bool {
    value.len() == VALUE_BYTES && value[..8] == key[8..]
}

/// A small generator (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (u128::from(self.next()) * u128::from(end) >> 64) as u64
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Zipf-distributed numbers below `items` (Gray et al., "Quickly generating billion-record
/// synthetic databases", 1994, as YCSB does it). Which keys are hot is scattered by [`key`].
#[derive(Clone)]
pub(crate) struct Zipf {
    items: f64,
    theta: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    pub(crate) fn new(items: u64, theta: f64) -> Self {
        let zeta_of = |n: u64| (1..=n).map(|i| (i as f64).powf(-theta)).sum::<f64>();
        let (zeta, zeta2) = (zeta_of(items), zeta_of(2));
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - theta)) / (1.0 - zeta2 / zeta);
        Self { items: items as f64, theta, zeta, alpha: 1.0 / (1.0 - theta), eta }
    }

    pub(crate) fn next(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.theta) {
            return 1;
        }
        let rank = self.items * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.items as u64 - 1)
    }
}
