//! The few primitives that every format of this crate is written with: LEB128 variable-length
//! integers (as in Protocol Buffers and LevelDB), little-endian words, length-prefixed bytes.
//!
//! Readers take a `&mut &[u8]` and move it forward. `None` means that the bytes don't hold what
//! they should; the caller knows the file and the offset and turns it into an error. Invariant: no
//! input makes a reader panic or allocate.

/// Longest encoding of a `u64`, bytes.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Appends `value` in LEB128.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `bytes` with their length before them.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes one LEB128 integer; refuses more than 64 bits.
#[inline]
pub(crate) fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = from.split_first()?;
    if first < 0x80 {
        *from = rest;
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    let mut left = rest;
    for shift in (7..7 * VARINT_BYTES_MAX as u32).step_by(7) {
        let (&byte, rest) = left.split_first()?;
        left = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            *from = left;
            return Some(value);
        }
    }
    None
}

/// Takes `len` raw bytes.
#[inline]
pub(crate) fn take<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = from.split_at_checked(len)?;
    *from = tail;
    Some(head)
}

/// Takes length-prefixed bytes.
pub(crate) fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(from)?).ok()?;
    take(from, len)
}

/// Takes one byte.
pub(crate) fn take_u8(from: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = from.split_first()?;
    *from = rest;
    Some(first)
}

/// Takes a little-endian `u32`.
pub(crate) fn take_u32(from: &mut &[u8]) -> Option<u32> {
    let (head, tail) = from.split_first_chunk::<4>()?;
    *from = tail;
    Some(u32::from_le_bytes(*head))
}

/// Takes a little-endian `u64`.
pub(crate) fn take_u64(from: &mut &[u8]) -> Option<u64> {
    let (head, tail) = from.split_first_chunk::<8>()?;
    *from = tail;
    Some(u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_varint_of_more_than_64_bits_is_refused() {
        let mut long = &[0xff_u8; 11][..];
        assert_eq!(take_varint(&mut long), None);
        let mut over = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..];
        assert_eq!(take_varint(&mut over), None);
        let mut cut = &[0x80_u8][..];
        assert_eq!(take_varint(&mut cut), None);
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(value: u64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert!(out.len() <= VARINT_BYTES_MAX);
            put_bytes(&mut out, &bytes);
            let mut left = &out[..];
            prop_assert_eq!(take_varint(&mut left), Some(value));
            prop_assert_eq!(take_bytes(&mut left), Some(&bytes[..]));
            prop_assert!(left.is_empty());
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let mut left = &bytes[..];
            while take_bytes(&mut left).is_some() && !left.is_empty() {}
        }
    }
}
