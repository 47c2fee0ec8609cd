//! A strict reader of Prometheus's text format, version 0.0.4.
//!
//! Stricter than scrapers are: what they take with a shrug (a figure without help, values of one
//! figure in two places, a counter below zero, a histogram that does not add up) is an error here,
//! since it is our own page that is read.

use std::collections::{BTreeMap, BTreeSet};

/// One figure: its help, its kind, and its values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// What it means.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Its values, as they stand on the page.
    pub samples: Vec<Sample>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The figure's name; a histogram's with `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// What tells it apart.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// Reads a page.
///
/// # Errors
/// What does not hold, with its line.
pub(super) fn parse(page: &str) -> Result<Vec<Family>, String> {
    let mut families: Vec<Family> = Vec::new();
    let mut names = BTreeSet::new();
    if !page.is_empty() && !page.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    for line in page.lines() {
        let wrong = |what: &str| format!("{what}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
            if !is_name(name, ":") || !names.insert(name.to_owned()) {
                return Err(wrong("a bad name, or one that stood before"));
            }
            if families.last().is_some_and(|last| last.kind.is_empty()) {
                return Err(wrong("the figure before has no type"));
            }
            let (name, help) = (name.to_owned(), help.to_owned());
            families.push(Family { name, help, ..Family::default() });
            continue;
        }
        let family = families.last_mut().ok_or_else(|| wrong("a line before any help"))?;
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            let sound = ["counter", "gauge", "histogram"].contains(&kind);
            if name != family.name || !family.kind.is_empty() || !sound {
                return Err(wrong("a type in the wrong place, or none that we use"));
            }
            kind.clone_into(&mut family.kind);
            continue;
        }
        let sample = sample(line).map_err(|what| wrong(&what))?;
        family.take(sample).map_err(|what| wrong(&what))?;
    }
    families.iter().try_for_each(Family::check)?;
    Ok(families)
}

impl Family {
    fn take(&mut self, sample: Sample) -> Result<(), String> {
        let end = sample.name.strip_prefix(&self.name);
        let is_ours = match self.kind.as_str() {
            "histogram" => matches!(end, Some("_bucket" | "_sum" | "_count")),
            "" => return Err("a value before its type".into()),
            _ => end == Some(""),
        };
        if !is_ours {
            return Err(format!("no value of {}", self.name));
        }
        let same = |old: &Sample| old.name == sample.name && old.labels == sample.labels;
        if self.samples.iter().any(same) {
            return Err("the same value twice".into());
        }
        if self.kind == "counter" && !(sample.value >= 0.0 && sample.value.is_finite()) {
            return Err("a counter that counts nothing".into());
        }
        self.samples.push(sample);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.kind.is_empty() {
            return Err(format!("{} has no type", self.name));
        }
        if self.kind != "histogram" {
            return Ok(());
        }
        let (bucket, count) = (format!("{}_bucket", self.name), format!("{}_count", self.name));
        let mut ends: BTreeMap<Vec<(String, String)>, (f64, f64)> = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.name == bucket) {
            let mut labels = sample.labels.clone();
            let le = labels.remove("le").ok_or_else(|| format!("{bucket} without le"))?;
            let le = number(&le).ok_or_else(|| format!("{bucket}: le={le}"))?;
            let labels: Vec<_> = labels.into_iter().collect();
            let last = ends.insert(labels, (le, sample.value));
            if last.is_some_and(|(below, held)| below >= le || held > sample.value) {
                return Err(format!("{bucket} does not rise at {le}"));
            }
        }
        for sample in self.samples.iter().filter(|sample| sample.name == count) {
            let labels: Vec<_> = sample.labels.clone().into_iter().collect();
            if ends.remove(&labels) != Some((f64::INFINITY, sample.value)) {
                return Err(format!("{count} is not its last bucket, of all"));
            }
        }
        if ends.is_empty() {
            Ok(())
        } else {
            Err(format!("buckets of {} have no count", self.name))
        }
    }
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name, ":") {
        return Err("a bad name".into());
    }
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, quoted) = inside.split_once("=\"").ok_or("a label without a value")?;
            let (value, behind) = unquoted(quoted)?;
            if !is_name(label, "") || labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("a bad label, or twice the same: {label}"));
            }
            if let Some(behind) = behind.strip_prefix('}') {
                rest = behind;
                break;
            }
            inside = behind.strip_prefix(',').ok_or("labels without a comma")?;
        }
    }
    let value = rest.strip_prefix(' ').and_then(number).ok_or("no number")?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its quotation mark, and what follows that.
fn unquoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('"') => return Ok((value, chars.as_str())),
            Some('\\') => match chars.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('\\' | '"')) => value.push(c),
                _ => return Err("an escape that is none".into()),
            },
            Some(c) => value.push(c),
            None => return Err("a label that does not end".into()),
        }
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // Rust reads words, too.
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text.parse().ok(),
        _ => None,
    }
}

fn is_name(name: &str, also: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_' || also.contains(c);
    name.chars().all(sound) && name.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_sound_page_is_read() {
        let page = "# HELP kv_a It is.\n# TYPE kv_a counter\nkv_a{x=\"a\\\"},b\\n\"} 3\nkv_a 1e3\n\
                    # HELP kv_h How.\n# TYPE kv_h histogram\nkv_h_bucket{le=\"0.1\"} 1\n\
                    kv_h_bucket{le=\"+Inf\"} 2\nkv_h_sum 3.5\nkv_h_count 2\n\
                    # HELP kv_none Nothing now.\n# TYPE kv_none gauge\n";
        let families = parse(page).unwrap();
        assert_eq!(families.len(), 3);
        assert_eq!(families[0].samples[0].labels["x"], "a\"},b\n");
        assert!((999.0..1_001.0).contains(&families[0].samples[1].value));
        assert_eq!((families[1].samples.len(), families[2].samples.len()), (4, 0));
    }

    #[test]
    fn what_is_not_sound_is_refused() {
        let figure = |rest: &str| format!("# HELP kv_a It.\n# TYPE kv_a counter\n{rest}");
        let histogram = |rest: &str| format!("# HELP kv_h It.\n# TYPE kv_h histogram\n{rest}");
        for page in [
            "kv_a 1\n".into(),
            "# HELP kv_a It.\nkv_a 1\n".into(),
            "# HELP kv_a It.\n# TYPE kv_a some\n".into(),
            "# HELP 1kv It.\n# TYPE 1kv gauge\n".into(),
            "# HELP kv_a It.\n# HELP kv_b It.\n# TYPE kv_b gauge\n".into(),
            figure("kv_a 1"),
            figure("kv_b 1\n"),
            figure("kv_a one\n"),
            figure("kv_a inf\n"),
            figure("kv_a -1\n"),
            figure("kv_a 1\nkv_a 1\n"),
            figure("kv_a{x=\"1\",x=\"1\"} 1\n"),
            figure("kv_a{x=\"\\q\"} 1\n"),
            figure("kv_a{x=1} 1\n"),
            figure("kv_a{x=\"1\" 1\n"),
            figure("kv_a{x:y=\"1\"} 1\n"),
            figure("# HELP kv_b It.\n# TYPE kv_b gauge\nkv_b 1\nkv_a 1\n"),
            figure("kv_a 1\n# HELP kv_a It.\n# TYPE kv_a counter\n"),
            histogram("kv_h 1\n"),
            histogram("kv_h_bucket{le=\"1\"} 1\nkv_h_count 1\n"),
            histogram("kv_h_bucket{le=\"+Inf\"} 1\nkv_h_count 2\n"),
            histogram("kv_h_bucket{le=\"1\"} 3\nkv_h_bucket{le=\"+Inf\"} 2\nkv_h_count 2\n"),
            histogram("kv_h_bucket{le=\"+Inf\"} 2\nkv_h_sum 1\n"),
        ] {
            assert!(parse(&page).is_err(), "{page}");
        }
    }
}
