//! Numbers on the wire, spelled in the one way that Redis's `string2ll` accepts: no sign but `-`,
//! no leading zero, no white space, 64 bits.

/// `<mark><digits>\r\n` in its usual form: up to nine digits, no sign, no leading zero. `None`
/// says only that the slow way must look.
#[inline(always)]
pub(super) fn short_line(buf: &[u8], at: usize, mark: u8) -> Option<(u32, usize)> {
    let rest = buf.get(at..)?;
    if *rest.first()? != mark {
        return None;
    }
    let mut value = 0;
    let mut place = 1;
    while place <= 9 {
        let digit = rest.get(place)?.wrapping_sub(b'0');
        if digit > 9 || (value == 0 && place > 1) {
            break;
        }
        value = value * 10 + u32::from(digit);
        place += 1;
    }
    if place > 1 && rest.get(place..place + 2)? == b"\r\n" {
        return Some((value, at + place + 2));
    }
    None
}

/// Redis's `string2ll`: a canonical decimal i64, with nothing around it.
pub(in crate::resp) fn decimal(text: &[u8]) -> Option<i64> {
    match text {
        [b'0'] => return Some(0),
        [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] if text.len() <= 20 => {}
        _ => return None,
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn decimals_are_canonical() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("00", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1e3", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), value, "{text:?}");
        }
    }
}
