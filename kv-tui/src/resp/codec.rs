//! Commands to bytes, and bytes to replies that borrow from them.

use std::fmt;

/// Bytes of one bulk string at most: Redis's own `proto-max-bulk-len`.
const BULK_BYTES_MAX: usize = 512 << 20;
/// Items of one array at most.
const ITEMS_MAX: usize = 1 << 20;
/// Arrays within arrays at most.
const DEPTH_MAX: u8 = 8;
/// Bytes of a line (a status, an error, a number) at most.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Status(&'a [u8]),
    /// Without its `-`.
    Error(&'a [u8]),
    Number(i64),
    /// `None` is nil.
    Bulk(Option<&'a [u8]>),
    Items(Vec<Self>),
}

impl Reply<'_> {
    /// An error's words; of any other reply, what it is, for a message.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Status(text) | Self::Error(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Number(number) => format!("the number {number}"),
            Self::Bulk(None) => "nil".to_owned(),
            Self::Bulk(Some(bytes)) => format!("a string of {} bytes", bytes.len()),
            Self::Items(items) => format!("a list of {}", items.len()),
        }
    }
}

/// Bytes that are no reply, or one beyond the bounds. The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what it sent is not the Redis protocol")
    }
}

/// Reads one reply from the beginning of `bytes`, and how many bytes it took; `None` if more must
/// come first.
///
/// # Errors
/// It is none.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Unreadable> {
    let mut rest = bytes;
    Ok(reply(&mut rest, 0)?.map(|reply| (reply, bytes.len() - rest.len())))
}

fn reply<'a>(rest: &mut &'a [u8], depth: u8) -> Result<Option<Reply<'a>>, Unreadable> {
    let Some(line) = line(rest)? else { return Ok(None) };
    let (kind, body) = line.split_first().ok_or(Unreadable)?;
    Ok(Some(match kind {
        b'+' => Reply::Status(body),
        b'-' => Reply::Error(body),
        b':' => Reply::Number(number(body)?),
        b'$' => {
            let Some(length) = length(body, BULK_BYTES_MAX)? else {
                return Ok(Some(Reply::Bulk(None)));
            };
            let Some((bulk, after)) = rest.split_at_checked(length) else { return Ok(None) };
            match after {
                [b'\r', b'\n', after @ ..] => *rest = after,
                [] | [b'\r'] => return Ok(None),
                _ => return Err(Unreadable),
            }
            Reply::Bulk(Some(bulk))
        }
        b'*' if depth < DEPTH_MAX => {
            let Some(count) = length(body, ITEMS_MAX)? else {
                return Ok(Some(Reply::Bulk(None)));
            };
            // Not as many at once as are claimed.
            let mut items = Vec::with_capacity(count.min(64));
            for _ in 0..count {
                match reply(rest, depth + 1)? {
                    Some(item) => items.push(item),
                    None => return Ok(None),
                }
            }
            Reply::Items(items)
        }
        _ => return Err(Unreadable),
    }))
}

/// The bytes before the next line end, which is taken too.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Unreadable> {
    let look = rest.get(..rest.len().min(LINE_BYTES_MAX)).unwrap_or_default();
    let Some(end) = look.iter().position(|byte| *byte == b'\n') else {
        return if rest.len() > LINE_BYTES_MAX { Err(Unreadable) } else { Ok(None) };
    };
    let (line, after) = rest.split_at_checked(end + 1).ok_or(Unreadable)?;
    *rest = after;
    line.strip_suffix(b"\r\n").map(Some).ok_or(Unreadable)
}

fn number(body: &[u8]) -> Result<i64, Unreadable> {
    str::from_utf8(body).ok().and_then(|text| text.parse().ok()).ok_or(Unreadable)
}

/// A length; `None` for the -1 that stands for nil.
fn length(body: &[u8], most: usize) -> Result<Option<usize>, Unreadable> {
    match number(body)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= most => Ok(Some(length)),
            _ => Err(Unreadable),
        },
    }
}

/// Commands, one after the other, as they are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Command {
    bytes: Vec<u8>,
    count: usize,
}

impl Command {
    /// One command.
    pub(crate) fn of(words: &[&[u8]]) -> Self {
        let mut one = Self::default();
        one.add(words);
        one
    }

    /// Adds a command.
    pub(crate) fn add(&mut self, words: &[&[u8]]) {
        self.count += 1;
        self.head(b'*', words.len());
        for word in words {
            self.head(b'$', word.len());
            self.bytes.extend_from_slice(word);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// How many they are, and so how many replies will come.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn head(&mut self, kind: u8, length: usize) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(decimal(length as u64, &mut [0; 20]));
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// A number's digits, written at the end of `room`.
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut from = room.len();
    for place in room.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        from -= 1;
        if number == 0 {
            break;
        }
    }
    room.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Reply<'_> {
        let (reply, length) = read(bytes).expect("a reply").expect("whole");
        assert_eq!(length, bytes.len());
        reply
    }

    #[test]
    fn every_kind_is_read() {
        assert_eq!(whole(b"+OK\r\n"), Reply::Status(b"OK"));
        assert_eq!(whole(b"-ERR no\r\n"), Reply::Error(b"ERR no"));
        assert_eq!(whole(b":-2\r\n"), Reply::Number(-2));
        assert_eq!(whole(b"$-1\r\n"), Reply::Bulk(None));
        assert_eq!(whole(b"$4\r\na\r\nb\r\n"), Reply::Bulk(Some(b"a\r\nb")));
        let page = Reply::Items(vec![
            Reply::Bulk(Some(b"17")),
            Reply::Items(vec![Reply::Bulk(Some(b"k")), Reply::Bulk(None)]),
        ]);
        assert_eq!(whole(b"*2\r\n$2\r\n17\r\n*2\r\n$1\r\nk\r\n$-1\r\n"), page);
    }

    #[test]
    fn what_is_cut_waits_and_what_is_wrong_is_refused() {
        let whole = b"*2\r\n$2\r\n17\r\n*1\r\n:5\r\n";
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Ok(None), "{end}");
        }
        let deep = "*1\r\n".repeat(100_000);
        let long = "+".repeat(LINE_BYTES_MAX + 1);
        let wrong: [&[u8]; 9] = [
            b"HTTP/1.1\r\n",
            b"\r\n",
            b"+OK\n",
            b":x\r\n",
            b"$-2\r\n",
            b"$99999999999\r\n",
            b"$1\r\nabc",
            deep.as_bytes(),
            long.as_bytes(),
        ];
        for bytes in wrong {
            assert_eq!(read(bytes), Err(Unreadable), "{:?}", bytes.get(..12));
        }
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut two = Command::of(&[b"GET", b"\xff"]);
        two.add(&[b"PING"]);
        assert_eq!(two.bytes(), b"*2\r\n$3\r\nGET\r\n$1\r\n\xff\r\n*1\r\n$4\r\nPING\r\n");
        assert_eq!(two.count(), 2);
        for number in [0, 9, 10, 4_096, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, length))) = read(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
