//! Reads a segment back and tells a torn tail from damage.
//!
//! A frame that does not check out is the tail, unless something proves that it had been synced:
//! a later frame of the same segment whose synced offset lies above it, or the first sequence in
//! the name of the next segment. Then it is damage: an error with file and offset, never a silent
//! cut. What remains ambiguous is the very last frame of a log on which nothing followed its sync,
//! not even a mark: that is cut.
//!
//! Invariant: the frames handed out are a gapless run of sequences that begins where the segment's
//! name says.

use std::path::Path;

use bytes::Bytes;

use super::frame::{self, FRAME_ALIGN_BYTES};
use super::recycle::Segment;
use crate::error::Error;
use crate::fs::{Fs, OpenMode};

/// The frames of one segment.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Those that have operations.
    pub(crate) frames: Vec<Frame>,
    /// The sequence that the next frame would have had.
    pub(crate) next_seq: u64,
    /// The first damage; only its owner's word lets the log be read on behind it.
    pub(crate) damage: Option<Error>,
}

/// One good frame.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    pub(crate) first_seq: u64,
    pub(crate) ops: u32,
    pub(crate) payload: Bytes,
}

/// Reads `segment`. `end_seq` is the first sequence of the next segment, if there is one: a proof
/// that everything below it had been synced. Goes on behind damage to the next good frame, if there
/// is one: what is missing is then for the caller to judge.
pub(crate) fn scan(fs: &dyn Fs, segment: &Segment, end_seq: Option<u64>) -> Result<Scan, Error> {
    let path = &segment.path;
    let file = fs.open(path, OpenMode::Read).map_err(|e| Error::io("open", path, e))?;
    let len = file.len().map_err(|e| Error::io("stat", path, e))?;
    let mut bytes = vec![0; len as usize];
    let read = file.read_at(0, &mut bytes).map_err(|e| Error::io("read", path, e))?;
    bytes.truncate(read);
    // Frames are slices of it: nothing is copied.
    let bytes = Bytes::from(bytes);

    if let Some(version) = frame::foreign_version(&bytes) {
        return Err(Error::UnknownFormat { path: path.clone(), version });
    }
    let mut scan = Scan { frames: Vec::new(), next_seq: segment.first_seq, damage: None };
    let mut offset = 0;
    // Whether a good frame ends at `offset`, which a short one may follow.
    let mut follows = false;
    loop {
        let place =
            |offset, follows, next_seq| Place { offset, number: segment.number, next_seq, follows };
        while let Some(next) = place(offset, follows, scan.next_seq).next_frame(&bytes) {
            offset = next.offset;
            if next.first_seq != scan.next_seq {
                scan.note(path, offset, "a frame's sequence does not follow");
                if next.first_seq < scan.next_seq {
                    break;
                }
            }
            scan.next_seq = next.first_seq + u64::from(next.ops);
            (offset, follows) = (next.end, true);
            if next.ops > 0 {
                let payload = bytes.slice_ref(next.payload);
                let Next { offset, first_seq, ops, .. } = next;
                scan.frames.push(Frame { offset, first_seq, ops, payload });
            }
        }
        if end_seq == Some(scan.next_seq) {
            break;
        }
        // Neither at `offset` nor at the next sector does a good frame begin. Was there one, known
        // to be synced?
        match later_frame(&bytes, offset, segment.number, &scan, end_seq.is_some()) {
            Some(at) => {
                scan.note(path, bad_place(&bytes, offset), "a synced frame is damaged");
                // Its gap was noted.
                if let Some((header, _)) = frame_at(&bytes, at, segment.number) {
                    scan.next_seq = header.first_seq;
                }
                (offset, follows) = (at, false);
            }
            None => break,
        }
    }
    if let Some(end) = end_seq
        && end != scan.next_seq
    {
        scan.note(path, bad_place(&bytes, offset), "a synced frame is damaged");
        scan.next_seq = scan.next_seq.max(end);
    }
    Ok(scan)
}

impl Scan {
    fn note(&mut self, path: &Path, offset: u64, what: &'static str) {
        if self.damage.is_none() {
            self.damage = Some(Error::corrupt(path, offset, what));
        }
    }
}

/// The next good frame behind `offset`, if it proves that what stands there had been synced: what
/// a frame can say of itself is checked, so that a value that looks like a frame hardly passes for
/// one. In a segment that is known to have been synced (`complete`) any later frame proves it.
fn later_frame(
    bytes: &[u8],
    offset: u64,
    log_number: u64,
    scan: &Scan,
    complete: bool,
) -> Option<u64> {
    let mut at = frame::aligned(offset + 1);
    while at < bytes.len() as u64 {
        if let Some((header, _)) = frame_at(bytes, at, log_number)
            && header.first_seq >= scan.next_seq
            && header.synced_offset.is_multiple_of(FRAME_ALIGN_BYTES)
            && (complete || scan.damage.is_some() || header.synced_offset > frame::aligned(offset))
            && header.synced_offset <= at
        {
            return Some(at);
        }
        at += FRAME_ALIGN_BYTES;
    }
    None
}

/// Where a frame is looked for.
struct Place {
    offset: u64,
    /// Of the log.
    number: u64,
    next_seq: u64,
    /// Whether a good frame ends here.
    follows: bool,
}

/// A good frame, as it lies.
struct Next<'a> {
    offset: u64,
    first_seq: u64,
    ops: u32,
    payload: &'a [u8],
    end: u64,
}

impl Place {
    /// The good frame that follows what ends here: directly or, behind synced ones, at the next
    /// sector.
    fn next_frame<'a>(&self, bytes: &'a [u8]) -> Option<Next<'a>> {
        let &Self { offset, number, next_seq, follows } = self;
        if follows
            && let Some(rest) = bytes.get(offset as usize..)
            && let Some((ops, payload, len)) = frame::open_short(rest, number, next_seq, offset)
        {
            return Some(Next { offset, first_seq: next_seq, ops, payload, end: offset + len });
        }
        let whole = |offset: u64| {
            let (header, payload) = frame_at(bytes, offset, number)?;
            let end = offset + header.frame_bytes();
            Some(Next { offset, first_seq: header.first_seq, ops: header.ops, payload, end })
        };
        whole(offset).or_else(|| whole(frame::aligned(offset)))
    }
}

/// Where the bad frame behind `offset` most likely begins: behind the zeros, if there are any.
fn bad_place(bytes: &[u8], offset: u64) -> u64 {
    let next = frame::aligned(offset);
    let gap = bytes.get(offset as usize..next as usize).unwrap_or_default();
    if gap.iter().all(|byte| *byte == 0) { next } else { offset }
}

fn frame_at(bytes: &[u8], offset: u64, log_number: u64) -> Option<(frame::Header, &[u8])> {
    frame::open(bytes.get(offset as usize..)?, log_number)
}
