//! Inline commands: one line, words in Redis's quoting, as a person types them into telnet.
//!
//! The rules are those of Redis's `sdssplitargs`: words end at white space; `"..."` knows `\xHH`,
//! `\n \r \t \b \a` and `\c` for any other c; `'...'` knows only `\'`; a closing quote must be
//! followed by white space or the end.
//! A NUL is a byte like others (Redis, which reads C strings, waits for ever on such a line).
//!
//! Invariant: a word without quotes is a range of the line itself; only quoted ones are copied.

use super::request::{SIDE, Span};

/// A quote that never closes, or one that closes in the middle of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Splits a line that begins at `offset` of the read buffer. Linear in the line.
pub(super) fn split(
    line: &[u8],
    offset: u32,
    spans: &mut Vec<Span>,
    side: &mut Vec<u8>,
) -> Result<(), Unbalanced> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        let rest = line.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        let plain = rest.iter().position(|byte| ends_plain(*byte)).unwrap_or(rest.len());
        if !matches!(rest.get(plain), Some(b'"' | b'\'')) {
            let start = offset + at as u32;
            spans.push(Span { start, end: start + plain as u32 });
            at += plain;
            continue;
        }
        let start = side.len() as u32;
        at += quoted_word(rest, side)?;
        spans.push(Span { start: start | SIDE, end: side.len() as u32 });
    }
}

/// A word with quotes in it, unescaped into `out`; returns the bytes that it took.
fn quoted_word(word: &[u8], out: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    let mut at = 0;
    while let Some(&byte) = word.get(at) {
        match byte {
            b'"' => at = double_quoted(word, at + 1, out)?,
            b'\'' => at = single_quoted(word, at + 1, out)?,
            b' ' | b'\n' | b'\r' | b'\t' => break,
            other => {
                out.push(other);
                at += 1;
                continue;
            }
        }
        // A closing quote ends the word.
        break;
    }
    Ok(at)
}

/// The inside of `"..."` from `at`; returns the place after the closing quote.
fn double_quoted(word: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match word.get(at..).unwrap_or_default() {
            [b'\\', b'x', high, low, ..] if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                at += 2;
            }
            [b'"', rest @ ..] => return closed(rest, at),
            [byte, ..] => {
                out.push(*byte);
                at += 1;
            }
            [] => return Err(Unbalanced),
        }
    }
}

/// The inside of `'...'` from `at`; returns the place after the closing quote.
fn single_quoted(word: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match word.get(at..).unwrap_or_default() {
            [b'\\', b'\'', ..] => {
                out.push(b'\'');
                at += 2;
            }
            [b'\'', rest @ ..] => return closed(rest, at),
            [byte, ..] => {
                out.push(*byte);
                at += 1;
            }
            [] => return Err(Unbalanced),
        }
    }
}

fn closed(rest: &[u8], at: usize) -> Result<usize, Unbalanced> {
    match rest.first() {
        Some(next) if !is_space(*next) => Err(Unbalanced),
        _ => Ok(at + 1),
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// What ends the plain part of a word. (Vertical tab and form feed separate words but do not end
/// one: so it is in Redis.)
fn ends_plain(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'\'')
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let (mut spans, mut side) = (Vec::new(), Vec::new());
        split(line, 0, &mut spans, &mut side)?;
        let word = |span: &Span| {
            let from = if span.start & SIDE == 0 { line } else { &side[..] };
            from[(span.start & !SIDE) as usize..span.end as usize].to_vec()
        };
        Ok(spans.iter().map(word).collect())
    }

    #[test]
    fn words_are_split_as_redis_splits_them() {
        let table: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b"  \t ", &[]),
            (b"PING", &[b"PING"]),
            (b"  set a  b ", &[b"set", b"a", b"b"]),
            (b"set a \"b c\"", &[b"set", b"a", b"b c"]),
            (b"set a 'b \"c'", &[b"set", b"a", b"b \"c"]),
            (b"\"\" ''", &[b"", b""]),
            (br#""\x41\xfF\n\r\t\b\a\\\"\q""#, &[b"A\xff\n\r\t\x08\x07\\\"q"]),
            (br#""\x4g""#, &[b"x4g"]),
            (br"'\n\''", &[br"\n'"]),
            (b"ab\"c d\" e", &[b"abc d", b"e"]),
            (b"a\x00b c", &[b"a\x00b", b"c"]),
            (b"a\x0bb \x0bc", &[b"a\x0bb", b"c"]),
            ("h\u{e9} \u{1f600}".as_bytes(), &["h\u{e9}".as_bytes(), "\u{1f600}".as_bytes()]),
        ];
        for (line, expected) in table {
            assert_eq!(
                words(line).as_deref(),
                Ok(&expected.iter().map(|w| w.to_vec()).collect::<Vec<_>>()[..]),
                "{line:?}"
            );
        }
        for line in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"a \"", b"\"a\\"] {
            assert_eq!(words(line), Err(Unbalanced), "{line:?}");
        }
    }
}
