//! The request parser beside another one, on any bytes: shared by the fuzz target and a test.
//!
//! The oracle is redis-protocol's decoder. It knows more (nesting, other types, no inline lines)
//! and checks less (no limits, lengths in several spellings), so the two are compared where they
//! must agree: on every frame that is an array of bulk strings in its canonical spelling, from
//! the start up to the first thing that is not. Beside that, for any bytes at all: the result does
//! not depend on the chunks, what remains in the buffer is bounded, and what was parsed, encoded
//! again, parses to the same.
//!
//! Every statement is an assertion: whoever calls [`check`] fails by panic.

use redis_protocol::resp2::{decode, encode, types::OwnedFrame};

use super::parse::{Item, Limits, Parser};

/// What the parser made of some bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) requests: Vec<Vec<Vec<u8>>>,
    /// The texts of what went wrong: oversize requests in order, a protocol error last.
    pub(crate) errors: Vec<String>,
    pub(crate) left: usize,
}

/// Parses `bytes` arriving in pieces of the given sizes, over and over.
pub(crate) fn run(bytes: &[u8], limits: Limits, pieces: &[usize]) -> Outcome {
    let mut parser = Parser::new(limits);
    let mut out = Outcome { requests: Vec::new(), errors: Vec::new(), left: 0 };
    let mut buf = Vec::new();
    let mut rest = bytes;
    let mut pieces = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let piece = pieces.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        let (now, later) = rest.split_at(piece);
        buf.extend_from_slice(now);
        rest = later;
        loop {
            let batch = parser.parse(&buf);
            for item in batch.iter() {
                match item {
                    Item::Request(request) => {
                        assert!(request.count() > 0, "an empty request");
                        out.requests.push(request.args_from(0).map(<[u8]>::to_vec).collect());
                    }
                    Item::Oversize(over) => out.errors.push(over.to_string()),
                }
            }
            let (consumed, full, error) = (batch.consumed(), batch.is_full(), batch.error());
            buf.drain(..consumed);
            if let Some(error) = error {
                out.errors.push(error.to_string());
                return out;
            }
            if !full {
                break;
            }
        }
        assert!(buf.len() <= limits.buffered_bytes_max(), "the buffer grows without bound");
    }
    out.left = buf.len();
    out
}

/// A request in its canonical spelling.
pub(crate) fn encoded(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Everything that must be true of the parser on these bytes. At most 16 KiB are looked at, since
/// the oracle recurses.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(16 * 1024)];
    let roomy = Limits::after_auth(1 << 20, 4 << 20);
    let whole = run(bytes, roomy, &[usize::MAX]);
    let seed = bytes.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31) ^ usize::from(*byte));
    let pieces = [1 + seed % 5, 1 + seed / 7 % 41, 1 + seed / 77 % 3];
    for limits in [roomy, Limits::after_auth(24, 0), Limits::BEFORE_AUTH] {
        let once = run(bytes, limits, &[usize::MAX]);
        for pieces in [&pieces[..], &[1]] {
            let cut = run(bytes, limits, pieces);
            assert_eq!(once.requests, cut.requests, "the requests depend on the chunks");
            assert_eq!(once.errors, cut.errors, "the errors depend on the chunks");
        }
    }
    let again: Vec<u8> = whole.requests.iter().flat_map(|args| encoded(args)).collect();
    let again = run(&again, roomy, &pieces);
    assert_eq!(again.requests, whole.requests, "encoded again, it parses differently");
    compare(bytes, &whole);
}

fn compare(bytes: &[u8], ours: &Outcome) {
    let mut rest = bytes;
    let mut next = ours.requests.iter();
    while rest.first() == Some(&b'*') {
        let (frame, taken) = match decode::decode(rest) {
            Ok(Some(found)) => found,
            Ok(None) => {
                assert_eq!(next.next(), None, "a request where the oracle sees an incomplete one");
                return;
            }
            Err(_) => return,
        };
        let (here, later) = rest.split_at(taken);
        if !is_canonical(&frame, here) {
            return;
        }
        let OwnedFrame::Array(frames) = frame else { return };
        let args: Option<Vec<Vec<u8>>> = frames.into_iter().map(bulk).collect();
        let Some(args) = args else {
            assert_eq!(next.next(), None, "a request where the oracle sees other types");
            assert!(!ours.errors.is_empty(), "other types than bulk strings went through");
            return;
        };
        if !args.is_empty() {
            assert_eq!(next.next(), Some(&args), "the oracle sees another request");
        }
        rest = later;
    }
}

fn bulk(frame: OwnedFrame) -> Option<Vec<u8>> {
    match frame {
        OwnedFrame::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

/// Whether these bytes are how the oracle itself would spell the frame.
fn is_canonical(frame: &OwnedFrame, bytes: &[u8]) -> bool {
    let mut spelled = vec![0; bytes.len() + 64];
    match encode::encode(&mut spelled, frame, false) {
        Ok(length) => spelled.get(..length) == Some(bytes),
        Err(_) => false,
    }
}
