//! The request parser: what a client's bytes ask for, within bounds and without copying.
//!
//! ```text
//! *3\r\n $3\r\nSET\r\n $1\r\na\r\n $1\r\n1\r\n      an array of bulk strings
//! SET a "1 2"\r\n                                   or one inline line
//! ```
//! A request is flat, so there is no recursion and no depth to limit. The whole read buffer is
//! parsed at once into a [`Batch`]: consecutive commands can then be executed as one call. What is
//! incomplete stays in the buffer, and the parser remembers how far it got, so that a large value
//! arriving in small pieces is never scanned twice. Nothing is allocated for a length that a client
//! declares; only for bytes that arrived (8 bytes for each argument of at least 5).
//!
//! The grammar, the limits and the texts of errors are those of Redis 7 (`networking.c`), with two
//! differences. An argument over `bulk_bytes_max` (the pair limit and some slack), or a request
//! over `query_bytes_max`, is skipped as it arrives and answered in its place, and the connection
//! goes on; Redis would buffer up to 512 MiB. And the CRLF after an argument is checked.
//!
//! Every [`ProtocolError`] closes the connection: the sender's framing can't be trusted any more.
//! An [`Oversize`] does not.
//!
//! **Invariants.** The result does not depend on how the bytes are cut into reads. What is left
//! unconsumed never exceeds `query_bytes_max` and one line of `line_bytes_max`.
//!
//! This module is public for the fuzz target; it is not a stable interface.

mod limits;
mod number;

use super::inline;
pub use super::request::{Batch, Item, Oversize, OwnedRequest, Request};
use super::request::{Entry, Span};
pub use limits::{Limits, ProtocolError};
use limits::{PROTO_ARGS_MAX, PROTO_BULK_BYTES_MAX};
pub(super) use number::decimal;
use number::short_line;

/// Capacity that the range list and the side buffer keep between batches.
const KEEP_SPANS: usize = 4096;
const KEEP_SIDE_BYTES: usize = 64 * 1024;

/// What is known of a request whose end has not arrived. Places count from its first byte in the
/// buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Partial {
    /// The `*n` line was read.
    open: bool,
    args_left: u32,
    /// The next byte to look at.
    at: usize,
    /// Bytes from `at` on that hold no line's end.
    scanned: usize,
    /// The declared length of the argument at `at`.
    bulk: Option<u32>,
    /// Set while the rest of the request is skipped.
    over: Option<Oversize>,
    /// Bytes still to skip of the current argument, its CRLF included.
    skip_bytes: u64,
}

/// How far one step got, as a place in the buffer.
enum Step {
    /// A request ended here.
    Next(usize),
    /// Bytes are missing; up to here they are done with.
    Wait(usize),
}

/// Which length a line holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Multibulk,
    Bulk,
}

/// The parser of one connection.
///
/// Use: read into a buffer, call [`parse`](Self::parse) with all of it, execute the batch, drop
/// `consumed()` bytes from its front, and so on. The buffer must begin with the first byte that
/// was not consumed, and never lose another.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    spans: Vec<Span>,
    entries: Vec<Entry>,
    side: Vec<u8>,
    /// Where the ranges of the request in progress begin in `spans`.
    first: usize,
    partial: Partial,
    failed: Option<ProtocolError>,
}

impl Parser {
    /// A parser at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            spans: Vec::new(),
            entries: Vec::new(),
            side: Vec::new(),
            first: 0,
            partial: Partial::default(),
            failed: None,
        }
    }

    /// Changes the limits, from the next request on: after AUTH, or when a setting changed.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Parses what is in the buffer. Linear in the bytes that are new since the last call. After
    /// an error it consumes nothing and repeats the error.
    pub fn parse<'a>(&'a mut self, buf: &'a [u8]) -> Batch<'a> {
        assert!(buf.len() < 1 << 31, "read buffers are bounded far below 2 GiB");
        self.forget_executed();
        let mut base = 0;
        let mut full = false;
        while self.failed.is_none() && base < buf.len() {
            if self.entries.len() >= self.limits.batch_requests_max as usize {
                full = true;
                break;
            }
            match self.step(buf, base) {
                Ok(Step::Next(end)) => base = end,
                Ok(Step::Wait(end)) => {
                    base = end;
                    break;
                }
                Err(error) => self.failed = Some(error),
            }
        }
        self.rebase(base);
        Batch {
            buf,
            side: &self.side,
            spans: &self.spans,
            entries: &self.entries,
            consumed: base,
            full,
            error: self.failed,
        }
    }

    /// Bytes that it holds of its own, beside the caller's buffer: eight for each argument of a
    /// request in progress.
    pub fn bytes_held(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.side.capacity()
    }

    /// Drops the last batch, keeps the arguments of the request in progress.
    fn forget_executed(&mut self) {
        self.entries.clear();
        self.side.clear();
        if self.side.capacity() > KEEP_SIDE_BYTES {
            self.side.shrink_to(KEEP_SIDE_BYTES);
        }
        if !self.partial.open {
            self.spans.clear();
            if self.spans.capacity() > KEEP_SPANS {
                self.spans.shrink_to(KEEP_SPANS);
            }
        } else if self.first > 0 {
            self.spans.drain(..self.first);
        }
        self.first = 0;
    }

    /// The caller drops `base` bytes: the ranges of the request in progress, which come after those
    /// of the batch, move with them.
    fn rebase(&mut self, base: usize) {
        if !self.partial.open || base == 0 || self.partial.over.is_some() {
            return;
        }
        for span in self.spans.iter_mut().skip(self.first) {
            span.start -= base as u32;
            span.end -= base as u32;
        }
    }

    fn step(&mut self, buf: &[u8], base: usize) -> Result<Step, ProtocolError> {
        if self.partial.open {
            return if self.partial.over.is_some() {
                self.skip(buf, base)
            } else {
                self.bulks(buf, base)
            };
        }
        if buf.get(base) != Some(&b'*') {
            return self.inline(buf, base);
        }
        let (count, at) = match short_line(buf, base, b'*') {
            Some((count, at)) => (i64::from(count), at),
            None => match self.line(buf, base, Line::Multibulk)? {
                Some(line) => line,
                None => return Ok(Step::Wait(base)),
            },
        };
        self.partial.scanned = 0;
        if count <= 0 {
            return Ok(Step::Next(at));
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count > PROTO_ARGS_MAX {
            return Err(ProtocolError::MultibulkLength);
        }
        if count > self.limits.args_max {
            return Err(self.too_many_args());
        }
        self.first = self.spans.len();
        self.partial =
            Partial { open: true, args_left: count, at: at - base, ..Partial::default() };
        self.bulks(buf, base)
    }

    fn too_many_args(&self) -> ProtocolError {
        if self.limits.authenticated {
            ProtocolError::MultibulkLength
        } else {
            ProtocolError::UnauthenticatedMultibulk
        }
    }

    /// The arguments of an array, from where the request was left.
    fn bulks(&mut self, buf: &[u8], base: usize) -> Result<Step, ProtocolError> {
        let mut at = base + self.partial.at;
        let mut left = self.partial.args_left;
        let mut bulk = self.partial.bulk.take();
        while left > 0 {
            let bytes = if let Some(bytes) = bulk.take() {
                bytes
            } else if let Some((bytes, next)) = self.bulk_line(buf, at)? {
                at = next;
                bytes
            } else {
                self.partial.at = at - base;
                self.partial.args_left = left;
                return Ok(Step::Wait(base));
            };
            let end = at + bytes as usize;
            if let Some(over) = self.over(bytes, end + 2 - base) {
                self.spans.truncate(self.first);
                let skip_bytes = u64::from(bytes) + 2;
                self.partial = Partial {
                    open: true,
                    args_left: left,
                    over: Some(over),
                    skip_bytes,
                    ..Partial::default()
                };
                return self.skip(buf, at);
            }
            match buf.get(end..end + 2) {
                Some(b"\r\n") => {
                    self.spans.push(Span { start: at as u32, end: end as u32 });
                    at = end + 2;
                    left -= 1;
                }
                Some(_) => return Err(ProtocolError::MissingCrlf),
                None => {
                    self.partial.at = at - base;
                    self.partial.args_left = left;
                    self.partial.bulk = Some(bytes);
                    return Ok(Step::Wait(base));
                }
            }
        }
        self.partial = Partial::default();
        let count = (self.spans.len() - self.first) as u32;
        self.entries.push(Entry::Args { first: self.first as u32, count });
        Ok(Step::Next(at))
    }

    #[inline]
    fn over(&self, bytes: u32, request_bytes: usize) -> Option<Oversize> {
        let (bulk_max, query_max) = (self.limits.bulk_bytes_max, self.limits.query_bytes_max);
        if bytes > bulk_max {
            let (bytes, bytes_max) = (u64::from(bytes), u64::from(bulk_max));
            return Some(Oversize { bytes, bytes_max, whole: false });
        }
        (request_bytes > query_max as usize).then(|| Oversize {
            bytes: request_bytes as u64,
            bytes_max: u64::from(query_max),
            whole: true,
        })
    }

    /// Lets the rest of a request that is over a limit pass. Everything that is seen is consumed.
    fn skip(&mut self, buf: &[u8], base: usize) -> Result<Step, ProtocolError> {
        let mut at = base;
        self.partial.at = 0;
        loop {
            if self.partial.skip_bytes > 0 {
                let here = self.partial.skip_bytes.min((buf.len() - at) as u64);
                at += here as usize;
                self.partial.skip_bytes -= here;
                if self.partial.skip_bytes > 0 {
                    return Ok(Step::Wait(at));
                }
                self.partial.args_left -= 1;
            }
            if self.partial.args_left == 0 {
                if let Some(over) = self.partial.over {
                    self.entries.push(Entry::Oversize(over));
                }
                self.partial = Partial::default();
                return Ok(Step::Next(at));
            }
            match self.bulk_line(buf, at)? {
                None => return Ok(Step::Wait(at)),
                Some((bytes, next)) => {
                    at = next;
                    self.partial.skip_bytes = u64::from(bytes) + 2;
                    if let Some(over) = self.partial.over.as_mut().filter(|over| over.whole) {
                        over.bytes += u64::from(bytes);
                    }
                }
            }
        }
    }

    /// The `$n` line at `at`: the length and the place after it.
    #[inline]
    fn bulk_line(&mut self, buf: &[u8], at: usize) -> Result<Option<(u32, usize)>, ProtocolError> {
        let (bytes, next) = match short_line(buf, at, b'$') {
            Some(short) => short,
            None => match self.line(buf, at, Line::Bulk)? {
                Some((bytes, next)) => {
                    let bytes = u32::try_from(bytes).map_err(|_| ProtocolError::BulkLength)?;
                    (bytes, next)
                }
                None => return Ok(None),
            },
        };
        self.partial.scanned = 0;
        if bytes > PROTO_BULK_BYTES_MAX {
            return Err(ProtocolError::BulkLength);
        }
        if !self.limits.authenticated && bytes > self.limits.bulk_bytes_max {
            return Err(ProtocolError::UnauthenticatedBulk);
        }
        Ok(Some((bytes, next)))
    }

    /// A line with a length, whatever it looks like: the slow way, also taken where a line is cut.
    #[cold]
    fn line(
        &mut self,
        buf: &[u8],
        at: usize,
        line: Line,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        let (invalid, too_long) = match line {
            Line::Multibulk => (ProtocolError::MultibulkLength, ProtocolError::MultibulkLine),
            Line::Bulk => (ProtocolError::BulkLength, ProtocolError::BulkLine),
        };
        let rest = buf.get(at..).unwrap_or_default();
        match rest.first() {
            Some(byte) if line == Line::Bulk && *byte != b'$' => {
                return Err(ProtocolError::ExpectedDollar(*byte));
            }
            Some(_) => {}
            None => return Ok(None),
        }
        let from = self.partial.scanned.max(1);
        let window = rest.get(..rest.len().min(self.limits.line_bytes_max as usize));
        let window = window.unwrap_or_default();
        let found = window.iter().skip(from).position(|byte| *byte == b'\r');
        let Some(end) = found.map(|place| place + from) else {
            if rest.len() >= self.limits.line_bytes_max as usize {
                return Err(too_long);
            }
            self.partial.scanned = window.len();
            return Ok(None);
        };
        match rest.get(end + 1) {
            None => {
                self.partial.scanned = end;
                return Ok(None);
            }
            Some(b'\n') => {}
            Some(_) => return Err(invalid),
        }
        self.partial.scanned = 0;
        match decimal(rest.get(1..end).unwrap_or_default()) {
            Some(value) => Ok(Some((value, at + end + 2))),
            None => Err(invalid),
        }
    }

    fn inline(&mut self, buf: &[u8], base: usize) -> Result<Step, ProtocolError> {
        let rest = buf.get(base..).unwrap_or_default();
        let line_max = self.limits.line_bytes_max as usize;
        let window = rest.get(..rest.len().min(line_max + 1)).unwrap_or_default();
        let from = self.partial.scanned;
        let found = window.iter().skip(from).position(|byte| *byte == b'\n');
        let Some(end) = found.map(|place| place + from) else {
            if rest.len() > line_max {
                return Err(ProtocolError::InlineLine);
            }
            self.partial.scanned = window.len();
            return Ok(Step::Wait(base));
        };
        self.partial.scanned = 0;
        let line = rest.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let first = self.spans.len();
        inline::split(line, base as u32, &mut self.spans, &mut self.side)
            .map_err(|_| ProtocolError::Unbalanced)?;
        let count = (self.spans.len() - first) as u32;
        if count > self.limits.args_max {
            return Err(self.too_many_args());
        }
        if count > 0 {
            self.entries.push(Entry::Args { first: first as u32, count });
        }
        Ok(Step::Next(base + end + 1))
    }
}

#[cfg(test)]
mod tests;
