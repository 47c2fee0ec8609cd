//! The reply encoder: RESP2 and RESP3 straight into the connection's output buffer.
//!
//! A command's answer has one shape; the protocol that the connection speaks (HELLO) decides how
//! a nil, map, set, double, boolean or push is spelled. In RESP2 a map is a flat array of twice
//! the length, a set and a push are arrays, a double and a verbatim string are bulk strings, a
//! boolean is an integer, nil is a null bulk string or a null array. So executors never ask for
//! the protocol.
//!
//! Aggregates are written as a header; the caller then writes exactly that many elements (pairs
//! for a map). Invariant: what is written as simple string or error holds no CR or LF.

use std::fmt;

use crate::metrics::Errors;

/// The protocol of a connection. RESP2 until HELLO 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Redis's protocol up to 5, and the default of every connection.
    #[default]
    Resp2,
    /// Chosen by HELLO 3.
    Resp3,
}

/// Writes replies into `out`.
#[derive(Debug)]
pub struct Reply<'o> {
    out: &'o mut Vec<u8>,
    protocol: Protocol,
    errors: Option<&'o Errors>,
}

impl<'o> Reply<'o> {
    /// An encoder that appends to `out`.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol, errors: None }
    }

    /// The same, whose errors are counted.
    #[inline]
    #[must_use]
    pub fn counted(self, errors: &'o Errors) -> Self {
        Self { errors: Some(errors), ..self }
    }

    /// The protocol that it writes.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// `+text`; CR and LF become spaces.
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.line(format_args!("{text}"));
    }

    /// `-error`, whose text begins with its code (`ERR ...`); CR and LF become spaces.
    pub fn error(&mut self, error: impl fmt::Display) {
        self.out.push(b'-');
        let start = self.out.len();
        self.line(format_args!("{error}"));
        if let (Some(errors), Some(text)) = (self.errors, self.out.get(start..)) {
            errors.note(text.trim_ascii_end());
        }
    }

    /// `:number`.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        match number {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => {
                self.out.push(b':');
                self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// `$length`, then the bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 24);
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string of text.
    pub fn text(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// A bulk string, or nil.
    #[inline]
    pub fn bulk_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.nil(),
        }
    }

    /// No value.
    #[inline]
    pub fn nil(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The header of an array of `count` elements.
    #[inline]
    pub fn array(&mut self, count: usize) {
        self.header(b'*', count);
    }

    /// The header of a map of `pairs` pairs.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', pairs * 2),
            Protocol::Resp3 => self.header(b'%', pairs),
        }
    }

    /// The header of a set of `count` elements.
    pub fn set(&mut self, count: usize) {
        self.header(if self.protocol == Protocol::Resp2 { b'*' } else { b'~' }, count);
    }

    /// The header of an out-of-band message of `count` elements.
    pub fn push(&mut self, count: usize) {
        self.header(if self.protocol == Protocol::Resp2 { b'*' } else { b'>' }, count);
    }

    /// A floating-point number, in the fewest digits that read back as the same.
    pub fn double(&mut self, number: f64) {
        let text = double_text(number);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.out.push(b',');
                self.line(format_args!("{text}"));
            }
        }
    }

    /// True or false; 1 or 0 in RESP2.
    pub fn boolean(&mut self, truth: bool) {
        match self.protocol {
            Protocol::Resp2 => self.integer(i64::from(truth)),
            Protocol::Resp3 if truth => self.out.extend_from_slice(b"#t\r\n"),
            Protocol::Resp3 => self.out.extend_from_slice(b"#f\r\n"),
        }
    }

    /// Text for people (INFO, CLUSTER NODES), of format `txt`; a bulk string in RESP2.
    pub fn verbatim(&mut self, text: &str) {
        if self.protocol == Protocol::Resp2 {
            return self.bulk(text.as_bytes());
        }
        self.header(b'=', text.len() + 4);
        self.out.extend_from_slice(b"txt:");
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, mark: u8, count: usize) {
        if let Ok(digit @ 0..=9) = u8::try_from(count) {
            self.out.extend_from_slice(&[mark, b'0' + digit, b'\r', b'\n']);
            return;
        }
        self.out.push(mark);
        self.out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        let written = fmt::Write::write_fmt(&mut OneLine(self.out), text);
        assert!(written.is_ok(), "an error's text could not be displayed");
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends text with CR and LF as spaces.
struct OneLine<'o>(&'o mut Vec<u8>);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let clean =
            text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
        self.0.extend(clean);
        Ok(())
    }
}

/// A double as Redis 7.2 spells it: `3.14`, `1e+300`, `inf`, `nan`.
fn double_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let size = number.abs();
    if number == 0.0 || (1e-5..1e17).contains(&size) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(write: impl Fn(&mut Reply<'_>)) -> (String, String) {
        let written = |protocol| {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, protocol));
            String::from_utf8(out).unwrap().replace("\r\n", "|")
        };
        (written(Protocol::Resp2), written(Protocol::Resp3))
    }

    fn check(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
        assert_eq!(both(write), (resp2.to_owned(), resp3.to_owned()));
    }

    #[test]
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general over the encoder's lifetime"
    )]
    fn each_shape_in_both_protocols() {
        check(|r| r.ok(), "+OK|", "+OK|");
        check(|r| r.simple("PONG"), "+PONG|", "+PONG|");
        check(|r| r.error("ERR a\r\nb"), "-ERR a  b|", "-ERR a  b|");
        for (number, text) in
            [(0, ":0|"), (1, ":1|"), (-2, ":-2|"), (i64::MIN, ":-9223372036854775808|")]
        {
            check(|r| r.integer(number), text, text);
        }
        check(|r| r.bulk(b""), "$0||", "$0||");
        check(|r| r.bulk(b"0123456789"), "$10|0123456789|", "$10|0123456789|");
        check(|r| r.bulk_or_nil(None), "$-1|", "_|");
        check(|r| r.bulk_or_nil(Some(b"a")), "$1|a|", "$1|a|");
        check(|r| r.nil(), "$-1|", "_|");
        check(|r| r.array(9), "*9|", "*9|");
        check(|r| r.array(1024), "*1024|", "*1024|");
        check(|r| r.map(7), "*14|", "%7|");
        check(|r| r.set(2), "*2|", "~2|");
        check(|r| r.push(3), "*3|", ">3|");
        check(|r| r.boolean(true), ":1|", "#t|");
        check(|r| r.boolean(false), ":0|", "#f|");
        check(|r| r.verbatim("a\r\nb"), "$4|a|b|", "=8|txt:a|b|");
    }

    #[test]
    fn doubles() {
        for (number, text) in [
            (0.0, "0"),
            (3.0, "3"),
            (-0.5, "-0.5"),
            (0.1, "0.1"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-7"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            let bulk = format!("${}|{text}|", text.len());
            check(|r| r.double(number), &bulk, &format!(",{text}|"));
        }
    }

    /// Another implementation reads what we write.
    #[test]
    fn the_oracle_reads_it() {
        use redis_protocol::resp2::{decode, types::OwnedFrame};
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        reply.array(4);
        reply.integer(-7);
        reply.bulk(&[0, 255, b'\r', b'\n']);
        reply.nil();
        reply.error("ERR no");
        let (frame, taken) = decode::decode(&out).unwrap().unwrap();
        assert_eq!(taken, out.len());
        let expected = OwnedFrame::Array(vec![
            OwnedFrame::Integer(-7),
            OwnedFrame::BulkString(vec![0, 255, b'\r', b'\n']),
            OwnedFrame::Null,
            OwnedFrame::Error("ERR no".to_owned()),
        ]);
        assert_eq!(frame, expected);
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Protocol::Resp3);
        reply.map(1);
        reply.verbatim("text");
        reply.double(1.5);
        let decoded = redis_protocol::resp3::decode::complete::decode(&out).unwrap().unwrap();
        assert_eq!(decoded.1, out.len());
    }
}
