//! What a Redis server's replies mean to a copy. Pure.

use bytes::Bytes;

use super::entry::{Kept, Refused};
use crate::Error;
use crate::resp::Reply;

/// Bytes of values that are read, and of commands that are sent, at once: one more value at most.
const BYTES_AT_ONCE_MAX: usize = 1 << 20;
/// Answers that pass: the server, or some replica behind it, is not there yet.
const PASSING: [&str; 7] =
    ["LOADING", "BUSY", "TRYAGAIN", "UNAVAILABLE", "NOREPLICAS", "INDETERMINATE", "MASTERDOWN"];

/// What a server has of a key.
pub(super) enum Found {
    Value(Kept),
    Nothing,
    /// Something that is no string.
    Other,
}

impl Found {
    pub(super) fn of(pair: &[Reply<'_>], now_ms: u64) -> Self {
        match pair {
            [Reply::Bulk(Some(value)), Reply::Number(ttl_ms)] => match u64::try_from(*ttl_ms) {
                Ok(0) => Self::Nothing,
                Ok(ttl_ms) => Self::Value(Kept {
                    value: Bytes::copy_from_slice(value),
                    expires_at_ms: Some(now_ms.saturating_add(ttl_ms)),
                }),
                Err(_) if *ttl_ms == -1 => {
                    Self::Value(Kept { value: Bytes::copy_from_slice(value), expires_at_ms: None })
                }
                Err(_) => Self::Nothing,
            },
            [Reply::Bulk(None), _] => Self::Nothing,
            _ => Self::Other,
        }
    }

    pub(super) fn as_slice(&self) -> &[Kept] {
        match self {
            Self::Value(kept) => std::slice::from_ref(kept),
            _ => &[],
        }
    }
}

pub(super) fn refused(key: &Bytes, kind: &str, why: String) -> Refused {
    Refused { key: key.clone(), kind: kind.to_owned(), why }
}

/// Whether another attempt may do better.
pub(super) fn passes(error: &Error) -> bool {
    match error {
        Error::Peer { .. } => true,
        Error::Redis { told, .. } => PASSING.iter().any(|word| told.starts_with(word)),
        _ => false,
    }
}

/// `run_id` out of an INFO.
pub(super) fn run_id(reply: &Reply<'_>) -> Option<String> {
    let Reply::Bulk(Some(info)) = reply else { return None };
    let info = str::from_utf8(info).ok()?;
    info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim_end().to_owned())
}

/// Keys and next cursor out of a SCAN's reply.
pub(super) fn scan_page(reply: &Reply<'_>) -> Option<(Vec<Bytes>, String)> {
    let Reply::Items(parts) = reply else { return None };
    let [Reply::Bulk(Some(next)), Reply::Items(keys)] = parts.as_slice() else { return None };
    let key = |reply: &Reply<'_>| match reply {
        Reply::Bulk(Some(key)) => Some(Bytes::copy_from_slice(key)),
        _ => None,
    };
    let keys = keys.iter().map(key).collect::<Option<Vec<_>>>()?;
    Some((keys, str::from_utf8(next).ok()?.to_owned()))
}

/// Slices of about the bytes that go at once.
pub(super) fn by_bytes<T>(all: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let full = rest.iter().position(|one| {
            sum += bytes(one);
            sum > BYTES_AT_ONCE_MAX
        });
        let (some, after) = rest.split_at_checked(full.map_or(rest.len(), |at| at.max(1)))?;
        rest = after;
        (!some.is_empty()).then_some(some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_time_left_is_gone() {
        let value = Reply::Bulk(Some(b"v"));
        let of = |ttl_ms| Found::of(&[value.clone(), Reply::Number(ttl_ms)], 1_000);
        let kept = |ttl_ms| of(ttl_ms).as_slice().first().map(|kept| kept.expires_at_ms);
        assert_eq!(
            [kept(-1), kept(5), kept(0), kept(-2)],
            [Some(None), Some(Some(1_005)), None, None]
        );
        let wrong = Found::of(&[Reply::Error(b"WRONGTYPE"), Reply::Number(-1)], 0);
        assert!(matches!(wrong, Found::Other));
        assert!(matches!(Found::of(&[Reply::Bulk(None), Reply::Number(-2)], 0), Found::Nothing));
    }

    #[test]
    fn slices_are_bounded_and_whole() {
        let half = BYTES_AT_ONCE_MAX / 2;
        let all = [half, half, 1, BYTES_AT_ONCE_MAX * 3, 5, 6];
        let slices: Vec<&[usize]> = by_bytes(&all, |bytes| *bytes).collect();
        assert_eq!(slices, [&all[..2], &all[2..3], &all[3..4], &all[4..]]);
        assert_eq!(by_bytes(&[] as &[usize], |bytes| *bytes).count(), 0);
    }

    #[test]
    fn a_server_that_is_coming_up_is_waited_for() {
        let told = |told: &str| Error::Redis { address: "h:1".into(), told: told.into() };
        assert!(passes(&told("LOADING Redis is loading the dataset in memory")));
        assert!(!passes(&told("OOM command not allowed")) && !passes(&told("ERR no")));
        let info = Reply::Bulk(Some(b"# Server\r\nrun_id:abc\r\n"));
        assert_eq!(run_id(&info).as_deref(), Some("abc"));
    }
}
