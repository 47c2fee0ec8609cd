//! The head of a key: its first sixteen bytes as one number, so that most comparisons of keys are
//! one of two words that lie where the search is, not one of bytes at the end of a pointer
//! (abbreviated keys, as in Graefe, "Modern B-Tree Techniques", 2011).
//!
//! Invariant: heads never contradict the keys: of two keys the lower has no higher head. Keys whose
//! heads are equal say nothing of their order.

/// A key's first bytes, big-endian, filled up with zeros.
pub(crate) type Head = u128;

/// Bytes of a key that its head holds.
const HEAD_BYTES: usize = size_of::<Head>();

/// The head of `key`.
#[inline]
pub(crate) fn head(key: &[u8]) -> Head {
    if let Some(bytes) = key.first_chunk() {
        return Head::from_be_bytes(*bytes);
    }
    let mut bytes = [0; HEAD_BYTES];
    for (to, from) in bytes.iter_mut().zip(key) {
        *to = *from;
    }
    Head::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_key_is_filled_up() {
        assert_eq!(head(b""), 0);
        assert_eq!(head(b"\x01"), 1 << 120);
        assert_eq!(head(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 255]), 258);
    }

    proptest! {
        #[test]
        fn heads_never_contradict_the_keys(
            a in prop::collection::vec(0_u8..3, 0..20),
            b in prop::collection::vec(0_u8..3, 0..20),
        ) {
            prop_assert!(a > b || head(&a) <= head(&b));
        }
    }
}
