//! A value's bytes as lines that do nothing to a terminal.

use bytes::Bytes;
use kv_client::wire::Sibling;

use crate::app::ValueForm;
use crate::text;

/// Lines that are made of one value at most.
const LINES_MAX: usize = 2_000;
/// Bytes of a value that are looked at; a screen shows no more.
const BYTES_MAX: usize = 256 * 1_024;

/// A version's value: its lines, or that it is a delete.
pub(super) fn sibling_lines(sibling: &Sibling, form: ValueForm) -> Vec<String> {
    sibling.value.as_ref().map_or_else(|| vec!["(deleted)".to_owned()], |it| lines_of(it, form))
}

pub(super) fn lines_of(value: &Bytes, form: ValueForm) -> Vec<String> {
    if value.is_empty() {
        return vec!["(empty)".to_owned()];
    }
    let part = value.get(..BYTES_MAX).unwrap_or(value);
    let mut lines = match (form, str::from_utf8(part)) {
        (ValueForm::Json, Ok(text)) => json_lines(text).unwrap_or_else(|| text_lines(text)),
        (ValueForm::Text, Ok(text)) => text_lines(text),
        _ => hex_lines(part),
    };
    if part.len() < value.len() {
        lines.push(format!("… {} of {} shown", text::size(BYTES_MAX as u64), value.len()));
    }
    lines
}

fn json_lines(text: &str) -> Option<Vec<String>> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    // A number or a word is shown as it was written.
    if !value.is_object() && !value.is_array() {
        return None;
    }
    let pretty = serde_json::to_string_pretty(&value).ok()?;
    Some(text_lines(&pretty))
}

fn text_lines(text: &str) -> Vec<String> {
    let line = |line: &str| text::shown(line.replace('\t', "    ").as_bytes(), usize::MAX);
    text.lines().take(LINES_MAX).map(line).collect()
}

fn hex_lines(bytes: &[u8]) -> Vec<String> {
    bytes
        .chunks(8)
        .take(LINES_MAX)
        .map(|chunk| {
            let char = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
            let text: String = chunk.iter().map(char).collect();
            format!("{:<16} {text}", text::hex(chunk))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(value: &'static [u8], form: ValueForm) -> Vec<String> {
        lines_of(&Bytes::from_static(value), form)
    }

    #[test]
    fn values_are_shown_as_what_they_are() {
        assert_eq!(lines(b"{\"n\":1}", ValueForm::Json), ["{", "  \"n\": 1", "}"]);
        assert_eq!(lines(b"{\"n\":1}", ValueForm::Text), ["{\"n\":1}"]);
        assert_eq!(lines(b"1.50", ValueForm::Json), ["1.50"], "not rewritten");
        assert_eq!(lines(b"a\x1b[2J\nb", ValueForm::Text), ["a\\u{1b}[2J", "b"]);
        assert_eq!(lines(b"\xffA", ValueForm::Json), ["ff41             .A"]);
        assert_eq!(lines(b"", ValueForm::Hex), ["(empty)"]);
    }
}
