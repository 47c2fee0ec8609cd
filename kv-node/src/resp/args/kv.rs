//! Arguments of the `KV.` commands, and consistency levels.
//!
//! ```text
//! KV.GET key [R level]                KV.EXPLAIN key
//! KV.PUT key value [CTX c] [W level] [EX s | PX ms | EXAT s | PXAT ms]
//! KV.DEL key [CTX c] [W level]        KV.CONSISTENCY [R level] [W level]
//! KV.CONFLICTS [cursor] [COUNT n]     KV.HOTKEYS [COUNT n]
//! ```
//! A level is ONE, QUORUM, ALL, LOCAL-QUORUM, EACH-QUORUM, or a number from 1. Whether it can be
//! had is for the coordinator to say, who knows N. Each option may be given once.

use super::write::Timed;
use super::{ArgError, Parsed, at, is};
use crate::mutation::ExpiryRule;
use crate::resp::request::Request;

/// How many replicas must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One.
    One,
    /// More than half of N.
    Quorum,
    /// All N.
    All,
    /// So many; at least 1.
    Count(u8),
    /// More than half of those in this node's zone.
    LocalQuorum,
    /// More than half of those in each zone.
    EachQuorum,
}

impl Level {
    /// Reads a level, whatever its case.
    pub fn parse(arg: &[u8]) -> Parsed<Self> {
        if is(arg, b"ONE") {
            return Ok(Self::One);
        }
        if is(arg, b"QUORUM") {
            return Ok(Self::Quorum);
        }
        if is(arg, b"ALL") {
            return Ok(Self::All);
        }
        if is(arg, b"LOCAL-QUORUM") {
            return Ok(Self::LocalQuorum);
        }
        if is(arg, b"EACH-QUORUM") {
            return Ok(Self::EachQuorum);
        }
        let number = super::decimal(arg).and_then(|number| u8::try_from(number).ok());
        let text = "ERR a consistency level is ONE, QUORUM, ALL, LOCAL-QUORUM, EACH-QUORUM or a \
                    number from 1 to N";
        number.filter(|number| *number > 0).map(Self::Count).ok_or(ArgError::Text(text))
    }
}

/// R and W, where they are said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Replicas to read from.
    pub read: Option<Level>,
    /// Copies to write.
    pub write: Option<Level>,
}

impl Levels {
    /// `KV.CONSISTENCY [R level] [W level]`; nothing said shows what holds.
    pub fn parse(request: &Request<'_>) -> Parsed<Self> {
        let mut levels = Self::default();
        let mut place = 1;
        while let Some(option) = request.arg(place) {
            if is(option, b"R") {
                once(&mut levels.read, Level::parse(value(request, place)?)?)?;
            } else if is(option, b"W") {
                once(&mut levels.write, Level::parse(value(request, place)?)?)?;
            } else {
                return Err(ArgError::Syntax);
            }
            place += 2;
        }
        Ok(levels)
    }
}

/// `KV.GET key [R level]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvGet<'a> {
    /// The key.
    pub key: &'a [u8],
    /// R, if not the connection's.
    pub read: Option<Level>,
}

impl<'a> KvGet<'a> {
    /// Reads the arguments.
    pub fn parse(request: &Request<'a>) -> Parsed<Self> {
        let mut read = None;
        let mut place = 2;
        while let Some(option) = request.arg(place) {
            if !is(option, b"R") {
                return Err(ArgError::Syntax);
            }
            once(&mut read, Level::parse(value(request, place)?)?)?;
            place += 2;
        }
        Ok(Self { key: at(request, 1)?, read })
    }
}

/// `KV.PUT key value [CTX c] [W level] [EX s | PX ms | EXAT s | PXAT ms]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvPut<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its new value.
    pub value: &'a [u8],
    /// The sealed context; none replaces nothing.
    pub context: Option<&'a [u8]>,
    /// W, if not the connection's.
    pub write: Option<Level>,
    /// When the value expires.
    pub expiry: ExpiryRule,
}

impl<'a> KvPut<'a> {
    /// Reads the arguments.
    pub fn parse(request: &Request<'a>, now_ms: u64) -> Parsed<Self> {
        let (mut context, mut write, mut time) = (None, None, Timed::default());
        let mut place = 3;
        while let Some(option) = request.arg(place) {
            if is(option, b"CTX") {
                once(&mut context, value(request, place)?)?;
            } else if is(option, b"W") {
                once(&mut write, Level::parse(value(request, place)?)?)?;
            } else {
                place = time.option(request, place, None)?;
                continue;
            }
            place += 2;
        }
        let expiry = time.chosen(now_ms, "kv.put")?.map_or(ExpiryRule::Never, ExpiryRule::At);
        Ok(Self { key: at(request, 1)?, value: at(request, 2)?, context, write, expiry })
    }
}

/// `KV.DEL key [CTX c] [W level]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvDelete<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The sealed context; none deletes what R replicas hold, as DEL does.
    pub context: Option<&'a [u8]>,
    /// W, if not the connection's.
    pub write: Option<Level>,
}

impl<'a> KvDelete<'a> {
    /// Reads the arguments.
    pub fn parse(request: &Request<'a>) -> Parsed<Self> {
        let (mut context, mut write) = (None, None);
        let mut place = 2;
        while let Some(option) = request.arg(place) {
            if is(option, b"CTX") {
                once(&mut context, value(request, place)?)?;
            } else if is(option, b"W") {
                once(&mut write, Level::parse(value(request, place)?)?)?;
            } else {
                return Err(ArgError::Syntax);
            }
            place += 2;
        }
        Ok(Self { key: at(request, 1)?, context, write })
    }
}

/// `KV.CONFLICTS [cursor] [COUNT n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvConflicts {
    /// Where to go on; 0 at the start.
    pub cursor: u64,
    /// Keys at most; 10 if not given.
    pub count: u32,
}

impl KvConflicts {
    /// Reads the arguments.
    pub fn parse(request: &Request<'_>) -> Parsed<Self> {
        let number = |arg: &[u8]| super::decimal(arg).and_then(|it| u64::try_from(it).ok());
        let cursor = request.arg(1).map_or(Some(0), number);
        let cursor = cursor.ok_or(ArgError::Text("ERR invalid cursor"))?;
        Ok(Self { cursor, count: count(request, 2)? })
    }
}

/// `KV.HOTKEYS [COUNT n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHotkeys {
    /// Keys at most; 10 if not given.
    pub count: u32,
}

impl KvHotkeys {
    /// Reads the arguments.
    pub fn parse(request: &Request<'_>) -> Parsed<Self> {
        Ok(Self { count: count(request, 1)? })
    }
}

/// `[COUNT n]` at `place` and behind it.
fn count(request: &Request<'_>, mut place: usize) -> Parsed<u32> {
    let mut count = None;
    while let Some(option) = request.arg(place) {
        if !is(option, b"COUNT") {
            return Err(ArgError::Syntax);
        }
        let given = super::decimal(value(request, place)?).filter(|count| *count > 0);
        once(&mut count, given.ok_or(ArgError::Syntax)?)?;
        place += 2;
    }
    Ok(count.map_or(COUNT_DEFAULT, |count| u32::try_from(count).unwrap_or(u32::MAX)))
}

/// Keys that KV.CONFLICTS and KV.HOTKEYS list if they are not told how many.
const COUNT_DEFAULT: u32 = 10;

/// The value behind the option at `place`.
fn value<'a>(request: &Request<'a>, place: usize) -> Parsed<&'a [u8]> {
    at(request, place + 1)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Parsed<()> {
    if slot.replace(value).is_some() { Err(ArgError::Syntax) } else { Ok(()) }
}
