//! SET, GETEX, EXPIRE and their kin: values, expiries and conditions.
//!
//! Times become absolute milliseconds here, from the `now_ms` that is passed in.
//!
//! Invariant: an expiry is at least 1 ms after 1970; a time that is already past stays past
//! (Redis deletes, here it is an expired value), and none overflows an i64.

use super::{ArgError, Parsed, at, integer, integer_at, is};
use crate::mutation::{Existence, ExpireIf, ExpiryRule};
use crate::resp::request::Request;

/// SET, SETEX, PSETEX, SETNX and GETSET in one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its new value.
    pub value: &'a [u8],
    /// When the value expires.
    pub expiry: ExpiryRule,
    /// NX or XX.
    pub only: Option<Existence>,
    /// Answer the old value.
    pub answer_old: bool,
}

impl Set<'_> {
    /// The name of the promise that it makes, for the refusal; `None` is a blind overwrite.
    pub fn promise(&self) -> Option<&'static str> {
        match (self.only, self.answer_old) {
            (Some(Existence::Absent), _) => Some("set nx"),
            (Some(Existence::Present), _) => Some("set xx"),
            (None, true) => Some("set get"),
            (None, false) => None,
        }
    }
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`.
#[inline]
pub fn set<'a>(request: &Request<'a>, now_ms: u64) -> Parsed<Set<'a>> {
    let mut set = Set {
        key: at(request, 1)?,
        value: at(request, 2)?,
        expiry: ExpiryRule::Never,
        only: None,
        answer_old: false,
    };
    if request.count() > 3 {
        set_options(request, now_ms, &mut set)?;
    }
    Ok(set)
}

fn set_options(request: &Request<'_>, now_ms: u64, set: &mut Set<'_>) -> Parsed<()> {
    let mut time = Timed::default();
    let mut place = 3;
    while let Some(option) = request.arg(place) {
        let only = |wanted| match set.only {
            Some(other) if other != wanted => Err(ArgError::Syntax),
            _ => Ok(Some(wanted)),
        };
        if is(option, b"NX") {
            set.only = only(Existence::Absent)?;
        } else if is(option, b"XX") {
            set.only = only(Existence::Present)?;
        } else if is(option, b"GET") {
            set.answer_old = true;
        } else {
            place = time.option(request, place, Some(b"KEEPTTL"))?;
            continue;
        }
        place += 1;
    }
    set.expiry = match time.chosen(now_ms, "set")? {
        Some(at_ms) => ExpiryRule::At(at_ms),
        None if time.word => ExpiryRule::Keep,
        None => ExpiryRule::Never,
    };
    Ok(())
}

/// `SETEX key seconds value` and, with `unit_ms` 1, PSETEX.
pub fn setex<'a>(request: &Request<'a>, unit_ms: u64, now_ms: u64) -> Parsed<Set<'a>> {
    let name = if unit_ms == 1 { "psetex" } else { "setex" };
    let at_ms = expire_at(integer_at(request, 2)?, unit_ms, Some(now_ms), name)?;
    let expiry = ExpiryRule::At(at_ms);
    Ok(Set { key: at(request, 1)?, value: at(request, 3)?, expiry, only: None, answer_old: false })
}

/// What GETEX does to the expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryChange {
    /// Nothing: it is a GET.
    Leave,
    /// Takes it away.
    Persist,
    /// Sets it to this time in milliseconds since 1970.
    At(u64),
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`.
pub fn getex(request: &Request<'_>, now_ms: u64) -> Parsed<ExpiryChange> {
    let mut time = Timed::default();
    let mut place = 2;
    while place < request.count() {
        place = time.option(request, place, Some(b"PERSIST"))?;
    }
    Ok(match time.chosen(now_ms, "getex")? {
        Some(at_ms) => ExpiryChange::At(at_ms),
        None if time.word => ExpiryChange::Persist,
        None => ExpiryChange::Leave,
    })
}

/// The family of options `EX s | PX ms | EXAT s | PXAT ms | <one word>`, which exclude each other.
#[derive(Default)]
pub(super) struct Timed<'a> {
    /// The option's letters and its number, as sent.
    time: Option<(&'static [u8], &'a [u8])>,
    /// Whether the word (KEEPTTL or PERSIST) was there.
    word: bool,
}

impl<'a> Timed<'a> {
    /// Takes the option at `place`; the place after it, or a syntax error.
    pub(super) fn option(
        &mut self,
        request: &Request<'a>,
        place: usize,
        word: Option<&[u8]>,
    ) -> Parsed<usize> {
        let option = at(request, place)?;
        if self.time.is_none() && word.is_some_and(|word| is(option, word)) {
            self.word = true;
            return Ok(place + 1);
        }
        let names: [&'static [u8]; 4] = [b"EX", b"PX", b"EXAT", b"PXAT"];
        let name = names.into_iter().find(|name| is(option, name)).ok_or(ArgError::Syntax)?;
        let number = request.arg(place + 1).ok_or(ArgError::Syntax)?;
        // The same option twice is the later one, as in Redis.
        if self.word || self.time.is_some_and(|(other, _)| other != name) {
            return Err(ArgError::Syntax);
        }
        self.time = Some((name, number));
        Ok(place + 2)
    }

    pub(super) fn chosen(&self, now_ms: u64, command: &'static str) -> Parsed<Option<u64>> {
        let Some((name, number)) = self.time else { return Ok(None) };
        let unit_ms = if name.first() == Some(&b'E') { 1000 } else { 1 };
        let from = (name.len() == 2).then_some(now_ms);
        expire_at(integer(number)?, unit_ms, from, command).map(Some)
    }
}

/// A time of SET's options: it must be above zero.
fn expire_at(number: i64, unit_ms: u64, from_ms: Option<u64>, name: &'static str) -> Parsed<u64> {
    let number = u64::try_from(number).ok().filter(|number| *number > 0);
    number
        .and_then(|number| number.checked_mul(unit_ms))
        .and_then(|ms| ms.checked_add(from_ms.unwrap_or(0)))
        .filter(|at_ms| i64::try_from(*at_ms).is_ok())
        .ok_or(ArgError::InvalidExpire(name))
}

/// EXPIRE and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expire<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Milliseconds since 1970; at least 1. A past time deletes.
    pub at_ms: u64,
    /// The condition: a promise.
    pub only: Option<ExpireIf>,
}

/// The four commands of EXPIRE's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireForm {
    /// EXPIRE: seconds from now.
    Seconds,
    /// PEXPIRE: milliseconds from now.
    Millis,
    /// EXPIREAT: seconds since 1970.
    SecondsAt,
    /// PEXPIREAT: milliseconds since 1970.
    MillisAt,
}

/// `EXPIRE key time [NX | XX | GT | LT]`. XX with GT is GT, which already needs an expiry; XX with
/// LT has no form here and is refused.
pub fn expire<'a>(request: &Request<'a>, form: ExpireForm, now_ms: u64) -> Parsed<Expire<'a>> {
    let (name, unit_ms, from_ms) = match form {
        ExpireForm::Seconds => ("expire", 1000, now_ms),
        ExpireForm::Millis => ("pexpire", 1, now_ms),
        ExpireForm::SecondsAt => ("expireat", 1000, 0),
        ExpireForm::MillisAt => ("pexpireat", 1, 0),
    };
    let only = expire_condition(request)?;
    let number = integer_at(request, 2)?;
    let from_ms = i64::try_from(from_ms).map_err(|_| ArgError::InvalidExpire(name))?;
    let at_ms = number.checked_mul(unit_ms).and_then(|ms| ms.checked_add(from_ms));
    let at_ms = at_ms.ok_or(ArgError::InvalidExpire(name))?.max(1);
    Ok(Expire { key: at(request, 1)?, at_ms: at_ms.unsigned_abs(), only })
}

fn expire_condition(request: &Request<'_>) -> Parsed<Option<ExpireIf>> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in request.args_from(3) {
        let flag = [(&b"NX"[..], &mut nx), (b"XX", &mut xx), (b"GT", &mut gt), (b"LT", &mut lt)];
        match flag.into_iter().find(|(name, _)| is(option, name)) {
            Some((_, set)) => *set = true,
            None => return Err(ArgError::quoting("ERR Unsupported option ", option, "")),
        }
    }
    match (nx, xx, gt, lt) {
        (true, true, ..) | (true, _, true, _) | (true, _, _, true) => Err(ArgError::Text(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        )),
        (_, _, true, true) => {
            Err(ArgError::Text("ERR GT and LT options at the same time are not compatible"))
        }
        (_, true, _, true) => Ok(Some(ExpireIf::EarlierThanExpiry)),
        (true, ..) => Ok(Some(ExpireIf::NoExpiry)),
        (_, _, true, _) => Ok(Some(ExpireIf::Later)),
        (_, _, _, true) => Ok(Some(ExpireIf::Earlier)),
        (_, true, ..) => Ok(Some(ExpireIf::HasExpiry)),
        _ => Ok(None),
    }
}
