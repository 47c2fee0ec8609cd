//! Promise commands under `rmw = best-effort`: read R, decide, replace only what was read.
//!
//! One node decides every write of such a keyspace and keeps the key's decision lock from the read
//! to the mint, so two increments never read the same value there. There is no second mint: what
//! was not read is not replaced. Exact while membership is stable; documented as unsafe for locks.

use bytes::Bytes;
use kv_quorum::{Draft, Expiry, Record};

use super::Coordinator;
use super::decide::Act;
use super::write::draft_of;
use crate::error::RequestError;
use crate::mutation::{Answer, Existence, ExpiryRule, MutationOut, Promise};

impl Promise {
    /// Bytes of the value that the command brings.
    pub(crate) fn value_bytes(&self) -> usize {
        match self {
            Self::SetIf { value, .. } | Self::Append(value) => value.len(),
            Self::SetRange { offset, value } => *offset as usize + value.len(),
            Self::TakeOut | Self::Add(_) | Self::AddFloat(_) => 0,
        }
    }

    /// The command's name, for the error that refuses it.
    pub fn command(&self) -> &'static str {
        match self {
            Self::SetIf { only: Some(Existence::Absent), .. } => "set nx",
            Self::SetIf { only: Some(Existence::Present), .. } => "set xx",
            Self::SetIf { .. } => "set get",
            Self::TakeOut => "getdel",
            Self::Add(_) => "incr",
            Self::AddFloat(_) => "incrbyfloat",
            Self::Append(_) => "append",
            Self::SetRange { .. } => "setrange",
        }
    }
}

/// What a promise command decides: the new value if there is one, and the answer.
enum Outcome {
    Write(Bytes, ExpiryRule, Answer),
    Delete(Answer),
    Nothing(Answer),
}

impl Coordinator {
    pub(super) async fn promise_one(
        &self,
        act: &Act<'_>,
        promise: Promise,
    ) -> Result<MutationOut, RequestError> {
        let record = self.read_one(act.key, act.levels).await?;
        let now_ms = self.now_ms();
        let old = record.shown(now_ms).cloned();
        match outcome(&promise, old.as_ref(), kept_expiry(&record, now_ms))? {
            Outcome::Nothing(answer) => Ok(MutationOut::Nothing(answer)),
            Outcome::Delete(answer) => {
                let done = self.delete_over(act, record.context().clone()).await?;
                Ok(with_answer(done, answer))
            }
            Outcome::Write(value, expiry, answer) => {
                Self::check_size(act.scope, act.key.key, value.len())?;
                let draft: Draft<Bytes> = draft_of(value, expiry, self.parts.dots.time(now_ms))
                    .by_operation(act.operation);
                let done = self.mint_with(act, record.context(), &draft).await?;
                Ok(done.out(answer))
            }
        }
    }
}

pub(super) fn with_answer(out: MutationOut, answer: Answer) -> MutationOut {
    match out {
        MutationOut::Written { holders, dot, stamp, context, .. } => {
            MutationOut::Written { holders, dot, stamp, context, answer }
        }
        MutationOut::Nothing(_) => MutationOut::Nothing(answer),
    }
}

/// The expiry that commands which change a value in place leave alone.
fn kept_expiry(record: &Record<Bytes>, now_ms: u64) -> ExpiryRule {
    let live = record.winner().filter(|winner| winner.value_at(now_ms).is_some());
    match live.map(|winner| winner.expiry) {
        Some(Expiry { expires_at_ms: Some(at), .. }) => ExpiryRule::At(at),
        _ => ExpiryRule::Never,
    }
}

fn outcome(
    promise: &Promise,
    old: Option<&Bytes>,
    kept: ExpiryRule,
) -> Result<Outcome, RequestError> {
    Ok(match promise {
        Promise::SetIf { value, expiry, only, answer_old } => {
            let fails = match only {
                Some(Existence::Absent) => old.is_some(),
                Some(Existence::Present) => old.is_none(),
                None => false,
            };
            let shown = Answer::Value(old.cloned());
            match (fails, answer_old) {
                (true, true) => Outcome::Nothing(shown),
                (true, false) => Outcome::Nothing(Answer::Value(None)),
                (false, answer_old) => {
                    let expiry = if *expiry == ExpiryRule::Keep { kept } else { *expiry };
                    let answer = if *answer_old { shown } else { Answer::Ok };
                    Outcome::Write(value.clone(), expiry, answer)
                }
            }
        }
        Promise::TakeOut => match old {
            Some(old) => Outcome::Delete(Answer::Value(Some(old.clone()))),
            None => Outcome::Nothing(Answer::Value(None)),
        },
        Promise::Add(by) => {
            let sum = integer(old)?
                .checked_add(*by)
                .ok_or_else(|| wrong("increment or decrement would overflow"))?;
            Outcome::Write(Bytes::from(sum.to_string()), kept, Answer::Integer(sum))
        }
        Promise::AddFloat(by) => {
            let sum = float(old)? + by.parse::<f64>().map_err(|_| wrong(NOT_A_FLOAT))?;
            if !sum.is_finite() {
                return Err(wrong("increment would produce NaN or Infinity"));
            }
            let text = Bytes::from(decimal_sum(old, by).unwrap_or_else(|| float_text(sum)));
            Outcome::Write(text.clone(), kept, Answer::Value(Some(text)))
        }
        Promise::Append(more) => {
            let mut value = old.map_or_else(Vec::new, |old| old.to_vec());
            value.extend_from_slice(more);
            let length = Answer::Integer(value.len() as i64);
            Outcome::Write(Bytes::from(value), kept, length)
        }
        Promise::SetRange { offset, value } => set_range(old, *offset as usize, value, kept),
    })
}

fn set_range(old: Option<&Bytes>, offset: usize, value: &[u8], kept: ExpiryRule) -> Outcome {
    let mut bytes = old.map_or_else(Vec::new, |old| old.to_vec());
    if value.is_empty() {
        return Outcome::Nothing(Answer::Integer(bytes.len() as i64));
    }
    let end = offset + value.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(range) = bytes.get_mut(offset..end) {
        range.copy_from_slice(value);
    }
    let length = Answer::Integer(bytes.len() as i64);
    Outcome::Write(Bytes::from(bytes), kept, length)
}

const NOT_A_FLOAT: &str = "value is not a valid float";

fn wrong(what: &str) -> RequestError {
    RequestError::WrongValue(what.into())
}

/// An integer as Redis reads one: no sign but a leading minus, no blanks, no leading zeros.
fn integer(old: Option<&Bytes>) -> Result<i64, RequestError> {
    let Some(old) = old else { return Ok(0) };
    let not = || wrong("value is not an integer or out of range");
    let text = std::str::from_utf8(old).map_err(|_| not())?;
    let number: i64 = text.parse().map_err(|_| not())?;
    if number.to_string() == text { Ok(number) } else { Err(not()) }
}

fn float(old: Option<&Bytes>) -> Result<f64, RequestError> {
    let Some(old) = old else { return Ok(0.0) };
    let text = std::str::from_utf8(old).map_err(|_| wrong(NOT_A_FLOAT))?;
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| wrong(NOT_A_FLOAT))
}

/// Digits behind the point that Redis writes.
const FRACTION_DIGITS: usize = 17;

/// The sum of two decimal numbers, exactly: Redis adds with more digits than it shows, so 0.1 and
/// 0.2 are 0.3 there. None for what has an exponent or more digits than fit.
fn decimal_sum(old: Option<&Bytes>, by: &str) -> Option<String> {
    let old = match old {
        None => 0,
        Some(old) => scaled(std::str::from_utf8(old).ok()?)?,
    };
    let sum = old.checked_add(scaled(by)?)?;
    let digits = format!("{:0>width$}", sum.unsigned_abs(), width = FRACTION_DIGITS + 1);
    let (whole, fraction) = digits.split_at_checked(digits.len() - FRACTION_DIGITS)?;
    let fraction = fraction.trim_end_matches('0');
    let sign = if sum < 0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

/// A decimal number times 10^17.
fn scaled(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !plain(whole) || !plain(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > FRACTION_DIGITS || whole.len() > FRACTION_DIGITS {
        return None;
    }
    let all = format!("{whole}{fraction:0<FRACTION_DIGITS$}");
    Some(sign * all.parse::<i128>().ok()?)
}

/// Up to 17 significant digits without an exponent or trailing zeros, as Redis writes a float.
fn float_text(number: f64) -> String {
    let text = format!("{number:.17}");
    let short = format!("{number}");
    if short.contains('e') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(promise: &Promise, old: Option<&str>) -> Result<String, RequestError> {
        let old = old.map(|old| Bytes::copy_from_slice(old.as_bytes()));
        Ok(match outcome(promise, old.as_ref(), ExpiryRule::Never)? {
            Outcome::Write(value, ..) => String::from_utf8_lossy(&value).into_owned(),
            Outcome::Delete(_) => "(deleted)".into(),
            Outcome::Nothing(_) => "(nothing)".into(),
        })
    }

    #[test]
    fn counters_read_integers_as_redis_does() {
        assert_eq!(written(&Promise::Add(5), None).as_deref(), Ok("5"));
        assert_eq!(written(&Promise::Add(-7), Some("2")).as_deref(), Ok("-5"));
        for bad in ["01", "+1", " 1", "1 ", "", "a", "9223372036854775808"] {
            assert!(written(&Promise::Add(1), Some(bad)).is_err(), "{bad:?}");
        }
        assert!(written(&Promise::Add(1), Some("9223372036854775807")).is_err());
    }

    #[test]
    fn decimal_numbers_add_up_as_people_add() {
        for (old, by, sum) in [
            ("0.1", "0.2", "0.3"),
            ("0.7", "0.1", "0.8"),
            ("1.1", "2.2", "3.3"),
            ("-0.3", "0.1", "-0.2"),
            ("-0.1", "0.1", "0"),
            ("5", "+.5", "5.5"),
            ("3.0e3", "200", "3200"),
            ("0.00000000000000001", "0", "0.00000000000000001"),
        ] {
            let added = written(&Promise::AddFloat(by.into()), Some(old));
            assert_eq!(added.as_deref(), Ok(sum), "{old} + {by}");
        }
        assert!(written(&Promise::AddFloat("1".into()), Some(".")).is_err());
    }

    #[test]
    fn floats_are_written_without_noise() {
        assert_eq!(written(&Promise::AddFloat("0.1".into()), Some("10.50")).as_deref(), Ok("10.6"));
        assert_eq!(
            written(&Promise::AddFloat("5e3".into()), Some("5.0e3")).as_deref(),
            Ok("10000")
        );
        assert!(written(&Promise::AddFloat("inf".into()), None).is_err());
    }

    #[test]
    fn conditions_and_ranges() {
        let set = |only| Promise::SetIf {
            value: Bytes::from_static(b"new"),
            expiry: ExpiryRule::Never,
            only,
            answer_old: false,
        };
        assert_eq!(written(&set(Some(Existence::Absent)), Some("old")).as_deref(), Ok("(nothing)"));
        assert_eq!(written(&set(Some(Existence::Absent)), None).as_deref(), Ok("new"));
        assert_eq!(written(&set(Some(Existence::Present)), None).as_deref(), Ok("(nothing)"));
        let range = |offset| Promise::SetRange { offset, value: Bytes::from_static(b"xy") };
        assert_eq!(written(&range(3), Some("a")).as_deref(), Ok("a\0\0xy"));
        assert_eq!(written(&range(0), Some("abc")).as_deref(), Ok("xyc"));
        assert_eq!(written(&Promise::TakeOut, Some("x")).as_deref(), Ok("(deleted)"));
    }
}
