//! What the parser found in a read buffer: requests as index ranges, and the batch that they form.
//!
//! A request owns nothing. Its arguments are ranges into the connection's read buffer, or into a
//! side buffer where an inline command's escapes had to be resolved, so that a pipeline of a
//! thousand commands costs no allocation. What must outlive the buffer (MULTI's queue) is copied
//! once into an [`OwnedRequest`], which reads like the borrowed one.
//!
//! Invariant: a range lies in its buffer; a foreign one would read as empty, never panic.

use super::parse::ProtocolError;

/// Marks a range of the side buffer; read buffers are far smaller than 2 GiB.
pub(super) const SIDE: u32 = 1 << 31;

/// A half-open range of bytes in the read buffer or, with `SIDE` set in `start`, the side buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What one request of a batch came to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    /// Arguments `first..first + count` of the spans.
    Args { first: u32, count: u32 },
    /// Its bytes were skipped.
    Oversize(Oversize),
}

/// A request whose bytes were skipped, not buffered, because it is over a limit. The connection
/// is in step: answer an error in its place and go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversize {
    /// Bytes of the argument, or of the request so far, that went over.
    pub bytes: u64,
    /// The limit that it went over.
    pub bytes_max: u64,
    /// Whether the whole request was too large rather than one argument.
    pub whole: bool,
}

impl std::fmt::Display for Oversize {
    /// The text of the error reply, without the leading `-`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.whole { "request" } else { "argument" };
        let (bytes, max) = (self.bytes, self.bytes_max);
        write!(f, "ERR {what} of {bytes} bytes is over the limit of {max} bytes")
    }
}

/// One command with its arguments; argument 0 is the command's name.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    buf: &'a [u8],
    side: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Request<'a> {
    /// How many arguments there are, the name included; at least 1.
    #[inline]
    pub fn count(&self) -> usize {
        self.spans.len()
    }

    /// The argument at `place`, 0 being the name.
    #[inline]
    pub fn arg(&self, place: usize) -> Option<&'a [u8]> {
        self.spans.get(place).map(|span| self.resolve(*span))
    }

    /// The name as it was sent.
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        self.arg(0).unwrap_or_default()
    }

    /// All arguments from `place` on.
    pub fn args_from(
        &self,
        place: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let this = *self;
        this.spans.get(place..).unwrap_or_default().iter().map(move |span| this.resolve(*span))
    }

    /// A copy that outlives the read buffer. One allocation for the bytes, one for the ranges.
    pub fn keep(&self) -> OwnedRequest {
        OwnedRequest::new(self.args_from(0))
    }

    #[inline]
    fn resolve(&self, span: Span) -> &'a [u8] {
        let start = (span.start & !SIDE) as usize;
        let bytes = if span.start & SIDE == 0 { self.buf } else { self.side };
        bytes.get(start..span.end as usize).unwrap_or_default()
    }
}

/// A request with bytes of its own: MULTI's queue, and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRequest {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnedRequest {
    /// Copies the arguments, the name first. Those that would begin beyond 2 GiB are left out.
    pub fn new<'b>(args: impl IntoIterator<Item = &'b [u8]>) -> Self {
        let mut owned = Self { bytes: Vec::new(), spans: Vec::new() };
        for arg in args {
            let start = owned.bytes.len();
            let Some(end) = start.checked_add(arg.len()).filter(|end| *end < SIDE as usize) else {
                break;
            };
            owned.bytes.extend_from_slice(arg);
            owned.spans.push(Span { start: start as u32, end: end as u32 });
        }
        owned
    }

    /// The borrowed form.
    pub fn request(&self) -> Request<'_> {
        Request { buf: &self.bytes, side: &[], spans: &self.spans }
    }

    /// Bytes that it holds, for the bound on a queue.
    pub fn bytes_held(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }
}

/// One place of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A whole request.
    Request(Request<'a>),
    /// One that was skipped: it is answered with the error that [`Oversize`] displays.
    Oversize(Oversize),
}

/// Everything that one call of the parser found, in the order in which it was sent.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) buf: &'a [u8],
    pub(super) side: &'a [u8],
    pub(super) spans: &'a [Span],
    pub(super) entries: &'a [Entry],
    pub(super) consumed: usize,
    pub(super) full: bool,
    pub(super) error: Option<ProtocolError>,
}

impl<'a> Batch<'a> {
    /// Requests in the batch.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing to execute.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The request at `place`.
    #[inline]
    pub fn item(&self, place: usize) -> Option<Item<'a>> {
        match *self.entries.get(place)? {
            Entry::Args { first, count } => {
                let (first, count) = (first as usize, count as usize);
                let spans = self.spans.get(first..first + count).unwrap_or_default();
                Some(Item::Request(Request { buf: self.buf, side: self.side, spans }))
            }
            Entry::Oversize(over) => Some(Item::Oversize(over)),
        }
    }

    /// All requests.
    pub fn iter(&self) -> impl Iterator<Item = Item<'a>> + '_ {
        (0..self.len()).filter_map(|place| self.item(place))
    }

    /// Bytes at the buffer's front that the caller must drop once the batch is executed.
    #[inline]
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Whether the batch ended at `batch_requests_max`: parse again before reading more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// What is wrong after the last request: answer those before it, then this, then close.
    #[inline]
    pub fn error(&self) -> Option<ProtocolError> {
        self.error
    }
}

#[cfg(test)]
mod tests {
    use super::OwnedRequest;

    #[test]
    fn an_owned_request_reads_like_the_borrowed_one() {
        let args: [&[u8]; 3] = [b"SET", b"", b"\x00\xff"];
        let owned = OwnedRequest::new(args);
        let request = owned.request();
        assert_eq!((request.count(), request.name()), (3, &b"SET"[..]));
        assert_eq!(request.args_from(0).collect::<Vec<_>>(), args);
        assert_eq!(request.args_from(9).len(), 0);
        assert_eq!(request.arg(3), None);
        assert_eq!(request.keep(), owned);
        assert!(owned.bytes_held() >= 5 + 3 * 8);
    }
}
