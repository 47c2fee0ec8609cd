//! Rules that make one value of several siblings. Pure: the same siblings in any order of arrival
//! give the same value, and what a rule can't decide it refuses in words instead of guessing.
//!
//! A delete that stands beside values has no bytes to merge: `latest` and a pick can choose it, the
//! merging rules keep the values and say that they did.

use std::fmt;

use bytes::Bytes;
use kv_client::wire::{DotName, Sibling};
use serde_json::{Map, Value};

/// How siblings become one value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The sibling at this place, counted from 0 in the order shown.
    Pick(usize),
    /// The one that was written last, by the clock of the node that decided it.
    Latest,
    /// Every element of JSON arrays, or every line of texts, once each, the oldest sibling's first.
    Union,
    /// The largest number.
    Max,
    /// JSON objects field by field: arrays as a union, numbers by their maximum, what else differs
    /// from the latest.
    Merge,
    /// Bytes that a person wrote.
    Edit(Bytes),
    /// No value: the key is deleted.
    Delete,
}

impl Rule {
    /// The rules that need nothing but the siblings, in the order in which they are offered.
    pub const MERGING: [Self; 4] = [Self::Merge, Self::Union, Self::Max, Self::Latest];

    /// Reads a rule's word; `None` for another word.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "latest" => Self::Latest,
            "union" => Self::Union,
            "max" => Self::Max,
            "merge" => Self::Merge,
            "delete" => Self::Delete,
            _ => return None,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pick(at) => write!(f, "pick sibling {}", at + 1),
            Self::Latest => f.write_str("latest"),
            Self::Union => f.write_str("union"),
            Self::Max => f.write_str("max"),
            Self::Merge => f.write_str("JSON merge"),
            Self::Edit(_) => f.write_str("edited"),
            Self::Delete => f.write_str("delete"),
        }
    }
}

/// What a rule came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The bytes to write; `None` deletes the key.
    pub value: Option<Bytes>,
    /// When it expires: as late as any of the versions that it was made of.
    pub expires_at_ms: Option<u64>,
    /// What the rule decided that a person may want to know.
    pub notes: Vec<String>,
}

/// The first rule that can decide, fields and elements kept rather than dropped.
pub fn suggested(siblings: &[Sibling]) -> Rule {
    let decides = |rule: &&Rule| resolve(rule, siblings).is_ok();
    Rule::MERGING.iter().find(decides).cloned().unwrap_or(Rule::Latest)
}

/// Applies a rule.
///
/// # Errors
/// Why the rule can't decide here, in words.
pub fn resolve(rule: &Rule, siblings: &[Sibling]) -> Result<Verdict, String> {
    let mut oldest_first: Vec<&Sibling> = siblings.iter().collect();
    oldest_first.sort_by_key(|sibling| sibling.dot);
    let alone = |sibling: &Sibling| Verdict {
        value: sibling.value.clone(),
        expires_at_ms: sibling.expires_at_ms,
        notes: Vec::new(),
    };
    let (value, mut notes) = match rule {
        Rule::Delete => return Ok(Verdict { value: None, expires_at_ms: None, notes: Vec::new() }),
        Rule::Pick(at) => {
            let picked = siblings.get(*at).ok_or_else(|| "there is no such sibling".to_owned())?;
            return Ok(alone(picked));
        }
        Rule::Latest => {
            let latest = oldest_first.last().ok_or_else(|| "there is no value".to_owned())?;
            return Ok(alone(latest));
        }
        Rule::Edit(bytes) => (bytes.clone(), Vec::new()),
        Rule::Union => (union(&values(&oldest_first)?)?, Vec::new()),
        Rule::Max => (max(&values(&oldest_first)?)?, Vec::new()),
        Rule::Merge => merge(&values(&oldest_first)?)?,
    };
    if siblings.iter().any(|sibling| sibling.value.is_none()) {
        notes.push("a delete stands beside: the values are kept".to_owned());
    }
    Ok(Verdict { value: Some(value), expires_at_ms: expiry(&oldest_first), notes })
}

/// The siblings that have bytes, the oldest first.
fn values<'a>(oldest_first: &[&'a Sibling]) -> Result<Vec<(DotName, &'a Bytes)>, String> {
    let values: Vec<(DotName, &Bytes)> = oldest_first
        .iter()
        .filter_map(|sibling| Some((sibling.dot, sibling.value.as_ref()?)))
        .collect();
    if values.is_empty() { Err("there is no value".to_owned()) } else { Ok(values) }
}

/// A merged value lives as long as the longest-lived of its parts.
fn expiry(siblings: &[&Sibling]) -> Option<u64> {
    let with_bytes = siblings.iter().filter(|sibling| sibling.value.is_some());
    let ends: Option<Vec<u64>> = with_bytes.map(|sibling| sibling.expires_at_ms).collect();
    ends?.into_iter().max()
}

fn texts<'a>(values: &[(DotName, &'a Bytes)], rule: &str) -> Result<Vec<&'a str>, String> {
    let text = |(_, value): &(DotName, &'a Bytes)| str::from_utf8(value).ok();
    let texts: Option<Vec<&str>> = values.iter().map(text).collect();
    texts.ok_or_else(|| format!("{rule} needs text, and a sibling is binary"))
}

fn union(values: &[(DotName, &Bytes)]) -> Result<Bytes, String> {
    let texts = texts(values, "union")?;
    let arrays: Option<Vec<Value>> =
        texts.iter().map(|text| json(text).ok().filter(Value::is_array)).collect();
    if let Some(arrays) = arrays {
        let mut elements = Vec::new();
        for array in arrays {
            elements = join_elements(elements, array);
        }
        return Ok(Value::Array(elements).to_string().into());
    }
    if texts.iter().any(|text| json(text).is_ok_and(|value| value.is_object())) {
        return Err("union needs JSON arrays or lines of text; these are JSON objects".to_owned());
    }
    if !texts.iter().any(|text| text.contains('\n')) {
        return Err("union needs JSON arrays or lines of text".to_owned());
    }
    let mut lines: Vec<&str> = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let end = if texts.iter().all(|text| text.ends_with('\n')) { "\n" } else { "" };
    Ok(format!("{}{end}", lines.join("\n")).into())
}

fn max(values: &[(DotName, &Bytes)]) -> Result<Bytes, String> {
    let texts = texts(values, "max")?;
    // Whole numbers first: what a float can't hold must not be rounded.
    let whole: Option<Vec<i128>> = texts.iter().map(|text| text.trim().parse().ok()).collect();
    if let Some(largest) = whole.and_then(|numbers| numbers.into_iter().max()) {
        return Ok(largest.to_string().into());
    }
    let mut numbers = Vec::new();
    for text in texts {
        match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => numbers.push((number, text)),
            _ => return Err("max needs numbers, and a sibling is none".to_owned()),
        }
    }
    let largest = numbers.into_iter().max_by(|one, other| one.0.total_cmp(&other.0));
    largest
        .map(|(_, text)| Bytes::copy_from_slice(text.trim().as_bytes()))
        .ok_or_else(|| "there is no value".to_owned())
}

fn merge(values: &[(DotName, &Bytes)]) -> Result<(Bytes, Vec<String>), String> {
    let mut merged: Option<Value> = None;
    let mut notes = Vec::new();
    for text in texts(values, "JSON merge")? {
        let value = json(text).map_err(|why| format!("JSON merge: {why}"))?;
        if !value.is_object() {
            return Err("JSON merge needs objects, and a sibling is none".to_owned());
        }
        merged = Some(match merged {
            None => value,
            Some(older) => join(older, value, "", &mut notes),
        });
    }
    let merged = merged.ok_or_else(|| "there is no value".to_owned())?;
    notes.sort_unstable();
    notes.dedup();
    Ok((merged.to_string().into(), notes))
}

fn join(older: Value, newer: Value, path: &str, notes: &mut Vec<String>) -> Value {
    match (older, newer) {
        (Value::Object(older), Value::Object(newer)) => {
            Value::Object(join_fields(older, newer, path, notes))
        }
        (Value::Array(older), newer @ Value::Array(_)) => Value::Array(join_elements(older, newer)),
        (Value::Number(older), Value::Number(newer)) => {
            Value::Number(if is_larger(&older, &newer) { older } else { newer })
        }
        (older, newer) if older == newer => newer,
        (_, newer) => {
            notes.push(format!("{path} differs: the latest is taken"));
            newer
        }
    }
}

fn join_fields(
    mut older: Map<String, Value>,
    newer: Map<String, Value>,
    path: &str,
    notes: &mut Vec<String>,
) -> Map<String, Value> {
    for (name, newer) in newer {
        let joined = match older.remove(&name) {
            Some(older) => join(older, newer, &format!("{path}/{name}"), notes),
            None => newer,
        };
        older.insert(name, joined);
    }
    older
}

fn join_elements(mut older: Vec<Value>, newer: Value) -> Vec<Value> {
    if let Value::Array(newer) = newer {
        for element in newer {
            if !older.contains(&element) {
                older.push(element);
            }
        }
    }
    older
}

fn is_larger(one: &serde_json::Number, other: &serde_json::Number) -> bool {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one > other,
        _ => one.as_f64() > other.as_f64(),
    }
}

/// Reads JSON, and refuses numbers that it could not write back as they were.
fn json(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    if is_exact(&value) { Ok(value) } else { Err("a number is too large to keep exactly".into()) }
}

fn is_exact(value: &Value) -> bool {
    /// From here on a float leaves out whole numbers.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            number.as_f64().is_some_and(|number| number.abs() < WHOLE_MAX)
        }
        Value::Array(elements) => elements.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        _ => true,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
