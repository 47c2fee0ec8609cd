//! `logs`: what the nodes said, merged by time, each line with its node; with `-f` also what they
//! say from then on.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::place::Place;
use super::state::State;
use crate::error::{Error, Result};
use crate::term;

/// Rest between two looks at what was added.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Bytes of one log that one look takes at most.
const TAKEN_BYTES_MAX: u64 = 1 << 20;

/// Prints the log of one node, or of all; with `follow` it ends when it is ended.
pub(super) fn run(place: &Place, only: Option<u16>, follow: bool) -> Result<()> {
    let Some(state) = State::load(place)? else {
        let option = place.option();
        let text = format!("there is no such cluster; `cargo xtask cluster up{option}` makes one");
        return Err(Error::Unreachable(text));
    };
    if let Some(node) = only {
        state.process(node)?;
    }
    let nodes = state.nodes().map(|(node, _, _)| node);
    let nodes: Vec<u16> = nodes.filter(|node| only.is_none_or(|only| only == *node)).collect();
    let mut read = Vec::new();
    let texts: Vec<(u16, String)> = nodes
        .iter()
        .map(|node| {
            // A torn character at a crash is no reason to show nothing.
            let bytes = fs::read(place.log_file(*node)).unwrap_or_default();
            let whole = whole_lines(&bytes);
            read.push((*node, whole.len() as u64));
            let shown = if follow { whole } else { &bytes };
            (*node, String::from_utf8_lossy(shown).into_owned())
        })
        .collect();
    print(&texts);
    if !follow {
        return Ok(());
    }
    loop {
        thread::sleep(LOOK_EVERY);
        let more: Vec<(u16, String)> =
            read.iter_mut().map(|(node, at)| (*node, more(&place.log_file(*node), at))).collect();
        print(&more);
    }
}

fn print(texts: &[(u16, String)]) {
    for (node, line) in merge(texts) {
        term::out(format_args!("n{node} | {line}"));
    }
}

/// Whole lines behind what was read, which moves on. A log that became shorter is another one, and
/// read from its beginning.
fn more(path: &Path, at: &mut u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        if file.metadata()?.len() < *at {
            *at = 0;
        }
        file.seek(SeekFrom::Start(*at))?;
        file.take(TAKEN_BYTES_MAX).read_to_end(&mut bytes)
    });
    // What can't be read now is read at the next look.
    if read.is_err() {
        return String::new();
    }
    let whole = whole_lines(&bytes);
    *at += whole.len() as u64;
    String::from_utf8_lossy(whole).into_owned()
}

/// All up to the last end of a line, or all of a line that is too long to wait for.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => bytes.get(..=end).unwrap_or_default(),
        None if bytes.len() as u64 >= TAKEN_BYTES_MAX => bytes,
        None => &[],
    }
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
    fn what_is_added_is_read_by_the_line_and_a_new_log_from_its_beginning() {
        let path = std::env::temp_dir().join(format!("kv-x-logs-{}", std::process::id()));
        let mut at = 0;
        assert_eq!(more(&path, &mut at), "", "it is not there yet");
        fs::write(&path, "one\ntw").unwrap();
        assert_eq!((more(&path, &mut at).as_str(), at), ("one\n", 4));
        assert_eq!(more(&path, &mut at), "");
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(more(&path, &mut at), "two\n");
        fs::write(&path, "new\n").unwrap();
        assert_eq!(more(&path, &mut at), "new\n");
        fs::remove_file(path).unwrap();
    }

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
