//! Arguments of commands as typed values, with Redis's own error texts.
//!
//! Each function takes the whole request (whose arity the table has checked) and borrows from it.
//! Times become absolute milliseconds here, where `now_ms` is passed in: what travels between
//! nodes is never relative to somebody's clock.
//!
//! Invariant: nothing here panics or allocates by what is sent, but for the text of an error.
//!
//! Order of checks and texts follow Redis 7 (`t_string.c`, `expire.c`, `db.c`).

mod clients;
mod kv;
mod session;
mod write;

pub use clients::{
    ClientKill, ClientList, ClientReply, KillFilter, client_kill, client_list, client_reply,
    on_or_off,
};
pub use kv::{KvConflicts, KvDelete, KvGet, KvHotkeys, KvPut, Level, Levels};
pub use session::{Hello, SetInfo, auth, client_name, hello, set_info};
pub use write::{Expire, ExpireForm, ExpiryChange, Set, expire, getex, set, setex};

use super::glob::Glob;
use super::parse::decimal;
use super::request::Request;
use super::table::ListFilter;

/// Why arguments were not understood; nothing was done. Displays the error reply without its `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgError {
    /// Options that don't exist, lack their value, or exclude each other.
    Syntax,
    /// A number that is none, or beyond 64 bits.
    NotInteger,
    /// A floating-point number that is none, or not finite.
    NotFloat,
    /// An expiry of zero or less, or beyond what can be told, of the command that is named.
    InvalidExpire(&'static str),
    /// A number of arguments that the table can't express, of the command that is named.
    Arity(&'static str),
    /// Any other text, with its error code.
    Text(&'static str),
    /// A text that quotes an argument: what comes before it, the argument, what comes after.
    Quoting(&'static str, String, &'static str),
}

impl std::fmt::Display for ArgError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::NotInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::NotFloat => f.write_str("ERR value is not a valid float"),
            Self::InvalidExpire(name) => write!(f, "ERR invalid expire time in '{name}' command"),
            Self::Arity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Self::Text(text) => f.write_str(text),
            Self::Quoting(before, argument, after) => write!(f, "{before}{argument}{after}"),
        }
    }
}

impl std::error::Error for ArgError {}

/// What the functions here answer.
pub type Parsed<T> = Result<T, ArgError>;

impl ArgError {
    fn quoting(before: &'static str, argument: &[u8], after: &'static str) -> Self {
        let shown = argument.get(..128).unwrap_or(argument);
        Self::Quoting(before, String::from_utf8_lossy(shown).into_owned(), after)
    }
}

/// An integer as Redis reads one: canonical decimal of 64 bits.
#[inline]
pub fn integer(arg: &[u8]) -> Parsed<i64> {
    decimal(arg).ok_or(ArgError::NotInteger)
}

/// The argument at `place` as an integer.
pub fn integer_at(request: &Request<'_>, place: usize) -> Parsed<i64> {
    integer(at(request, place)?)
}

/// DECRBY's number, negated: that of i64::MIN does not exist.
pub fn negated(request: &Request<'_>, place: usize) -> Parsed<i64> {
    integer_at(request, place)?.checked_neg().ok_or(ArgError::Text("ERR decrement would overflow"))
}

/// A finite floating-point number: no white space, no hexadecimal, not `nan`.
pub fn float(arg: &[u8]) -> Parsed<f64> {
    let text = std::str::from_utf8(arg).map_err(|_| ArgError::NotFloat)?;
    let number: f64 = text.parse().map_err(|_| ArgError::NotFloat)?;
    if number.is_finite() { Ok(number) } else { Err(ArgError::NotFloat) }
}

/// SCAN's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Where to go on; 0 at the start.
    pub cursor: u64,
    /// MATCH.
    pub pattern: Option<Glob<'a>>,
    /// COUNT: about how many keys to look at, 1 to 10,000; 10 if not given.
    pub count: usize,
    /// Whether TYPE names what we have (strings), or is not given.
    pub wants_strings: bool,
}

/// The most keys that one SCAN looks at.
pub const SCAN_COUNT_MAX: usize = 10_000;

/// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE t]`.
pub fn scan<'a>(request: &Request<'a>) -> Parsed<Scan<'a>> {
    let cursor = std::str::from_utf8(at(request, 1)?).ok().and_then(|text| text.parse().ok());
    let cursor = cursor.ok_or(ArgError::Text("ERR invalid cursor"))?;
    let mut scan = Scan { cursor, pattern: None, count: 10, wants_strings: true };
    let mut place = 2;
    while let Some(option) = request.arg(place) {
        let value = request.arg(place + 1).ok_or(ArgError::Syntax)?;
        if is(option, b"COUNT") {
            let count = usize::try_from(integer(value)?).map_err(|_| ArgError::Syntax)?;
            if count == 0 {
                return Err(ArgError::Syntax);
            }
            scan.count = count.min(SCAN_COUNT_MAX);
        } else if is(option, b"MATCH") {
            scan.pattern = Some(glob(value)?);
        } else if is(option, b"TYPE") {
            scan.wants_strings = is(value, b"string");
        } else {
            return Err(ArgError::Syntax);
        }
        place += 2;
    }
    Ok(scan)
}

/// A glob pattern, refused above its length limit.
pub fn glob(pattern: &[u8]) -> Parsed<Glob<'_>> {
    Glob::new(pattern).ok_or(ArgError::Text("ERR the pattern is over the limit of 1024 bytes"))
}

/// The pairs of MSET and MSETNX (`name`), which must be complete.
pub fn pairs<'a>(
    request: &Request<'a>,
    name: &'static str,
) -> Parsed<impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a>> {
    if request.count().is_multiple_of(2) {
        return Err(ArgError::Arity(name));
    }
    let keys = request.args_from(1).step_by(2);
    Ok(keys.zip(request.args_from(2).step_by(2)))
}

/// Two integers at `place`: GETRANGE's bounds.
pub fn range_at(request: &Request<'_>, place: usize) -> Parsed<(i64, i64)> {
    Ok((integer_at(request, place)?, integer_at(request, place + 1)?))
}

/// The bytes that GETRANGE's bounds mean in a value: negative bounds count from its end.
pub fn slice(value: &[u8], (start, end): (i64, i64)) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let place = |bound: i64| if bound < 0 { bound.saturating_add(length).max(0) } else { bound };
    let (start, end) = (place(start), place(end).min(length - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) => value.get(start..=end).unwrap_or_default(),
        _ => &[],
    }
}

/// SETRANGE's offset, with what is written there not beyond `bytes_max`.
pub fn setrange(request: &Request<'_>, bytes_max: usize) -> Parsed<u32> {
    let offset = integer_at(request, 2)?;
    let offset = u64::try_from(offset).map_err(|_| ArgError::Text("ERR offset is out of range"))?;
    let end = offset.saturating_add(at(request, 3)?.len() as u64);
    u32::try_from(offset)
        .ok()
        .filter(|_| end <= bytes_max as u64)
        .ok_or(ArgError::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"))
}

/// `COPY source destination [DB 0] [REPLACE]`: whether it replaces.
pub fn copy(request: &Request<'_>) -> Parsed<bool> {
    let mut replace = false;
    let mut place = 3;
    while let Some(option) = request.arg(place) {
        if is(option, b"REPLACE") {
            replace = true;
            place += 1;
        } else if let (true, Some(index)) = (is(option, b"DB"), request.arg(place + 1)) {
            database(index)?;
            place += 2;
        } else {
            return Err(ArgError::Syntax);
        }
    }
    Ok(replace)
}

/// SELECT's argument: 0 is all that there is.
pub fn database(index: &[u8]) -> Parsed<()> {
    match integer(index)? {
        0 => Ok(()),
        _ => Err(ArgError::Text("ERR DB index is out of range")),
    }
}

/// FLUSHALL and FLUSHDB take nothing, ASYNC or SYNC, all the same here.
pub fn flush(request: &Request<'_>) -> Parsed<()> {
    match (request.count(), request.arg(1)) {
        (1, _) => Ok(()),
        (2, Some(how)) if is(how, b"ASYNC") || is(how, b"SYNC") => Ok(()),
        _ => Err(ArgError::Syntax),
    }
}

/// `WAIT replicas timeout`: how many, and milliseconds, 0 being no limit.
pub fn wait(request: &Request<'_>) -> Parsed<(u64, u64)> {
    let replicas = integer_at(request, 1)?;
    let timeout = integer_at(request, 2)
        .map_err(|_| ArgError::Text("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| ArgError::Text("ERR timeout is negative"))?;
    Ok((u64::try_from(replicas).unwrap_or(0), timeout))
}

/// `MEMORY USAGE key [SAMPLES n]`: the key.
pub fn memory_usage<'a>(request: &Request<'a>) -> Parsed<&'a [u8]> {
    match (request.count(), request.arg(3)) {
        (3, _) => {}
        (5, Some(option)) if is(option, b"SAMPLES") => {
            if integer_at(request, 4)? < 0 {
                return Err(ArgError::Syntax);
            }
        }
        _ => return Err(ArgError::Syntax),
    }
    at(request, 2)
}

/// CLUSTER COUNTKEYSINSLOT's slot.
pub fn slot(request: &Request<'_>) -> Parsed<u16> {
    let slot = integer_at(request, 2)?;
    let slot = u16::try_from(slot).ok().filter(|slot| *slot < 16_384);
    slot.ok_or(ArgError::Text("ERR Invalid slot"))
}

/// `COMMAND LIST [FILTERBY MODULE m | ACLCAT c | PATTERN p]`.
pub fn command_list<'a>(request: &Request<'a>) -> Parsed<Option<ListFilter<'a>>> {
    match (request.arg(2), request.arg(3), request.arg(4), request.count()) {
        (None, ..) => Ok(None),
        (Some(word), Some(kind), Some(value), 5) if is(word, b"FILTERBY") => {
            if is(kind, b"MODULE") {
                Ok(Some(ListFilter::Module))
            } else if is(kind, b"ACLCAT") {
                Ok(Some(ListFilter::Category(value)))
            } else if is(kind, b"PATTERN") {
                Ok(Some(ListFilter::Pattern(glob(value)?)))
            } else {
                Err(ArgError::Syntax)
            }
        }
        _ => Err(ArgError::Syntax),
    }
}

/// The argument at `place`; the table's arity check makes sure that it is there.
#[inline]
fn at<'a>(request: &Request<'a>, place: usize) -> Parsed<&'a [u8]> {
    request.arg(place).ok_or(ArgError::Syntax)
}

#[inline]
fn is(arg: &[u8], word: &[u8]) -> bool {
    arg.eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests;
