//! `logs`: what the nodes said, merged by time, each line with its node.

use std::fs;

use super::place::Place;
use super::state::State;
use crate::error::{Error, Result};
use crate::term;

/// Prints the log of one node, or of all.
pub(super) fn run(place: &Place, only: Option<u16>) -> Result<()> {
    let Some(state) = State::load(place)? else {
        let option = place.option();
        let text = format!("there is no such cluster; `cargo xtask cluster up{option}` makes one");
        return Err(Error::Unreachable(text));
    };
    if let Some(node) = only {
        state.process(node)?;
    }
    let texts: Vec<(u16, String)> = state
        .nodes()
        .map(|(node, _, _)| node)
        .filter(|node| only.is_none_or(|only| only == *node))
        .map(|node| {
            // A torn character at a crash is no reason to show nothing.
            let bytes = fs::read(place.log_file(node)).unwrap_or_default();
            (node, String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect();
    for (node, line) in merge(&texts) {
        term::out(format_args!("n{node} | {line}"));
    }
    Ok(())
}

/// All lines in the order of their times. A line without a time (a panic's, say) follows the line
/// before it; lines of one time keep the order of nodes.
fn merge(texts: &[(u16, String)]) -> Vec<(u16, &str)> {
    let mut lines: Vec<(&str, u16, &str)> = Vec::new();
    for (node, text) in texts {
        let mut time = "";
        for line in text.lines() {
            time = timestamp(line).unwrap_or(time);
            lines.push((time, *node, line));
        }
    }
    lines.sort_by_key(|(time, _, _)| *time);
    lines.into_iter().map(|(_, node, line)| (node, line)).collect()
}

/// The RFC 3339 time that a log line begins with; it sorts as text.
fn timestamp(line: &str) -> Option<&str> {
    let word = line.split_whitespace().next()?;
    let bytes = word.as_bytes();
    let is_time = bytes.len() >= 20
        && bytes.get(4) == Some(&b'-')
        && bytes.get(10) == Some(&b'T')
        && bytes.get(..4).is_some_and(|year| year.iter().all(u8::is_ascii_digit));
    is_time.then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_merged_by_time_and_the_timeless_stay_with_theirs() {
        let one = "2026-01-01T00:00:01.0Z INFO a\n2026-01-01T00:00:03.0Z INFO c\nnote\n";
        let two = "early\n2026-01-01T00:00:02.0Z INFO b\n2026-01-01T00:00:03.0Z INFO d\n";
        let texts = [(1, one.to_owned()), (2, two.to_owned())];
        let merged: Vec<String> = merge(&texts)
            .into_iter()
            .map(|(node, line)| format!("{node}{}", line.rsplit(' ').next().unwrap()))
            .collect();
        assert_eq!(merged, ["2early", "1a", "2b", "1c", "1note", "2d"]);
    }
}
