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

    if let Some(version) = frame::foreign_version(&bytes) {
        return Err(Error::UnknownFormat { path: path.clone(), version });
    }
    let mut scan = Scan { frames: Vec::new(), next_seq: segment.first_seq, damage: None };
    let mut offset = 0;
    loop {
        while let Some((header, payload)) = frame_at(&bytes, offset, segment.number) {
            if header.first_seq != scan.next_seq {
                scan.note(path, offset, "a frame's sequence does not follow");
                if header.first_seq < scan.next_seq {
                    break;
                }
            }
            if header.ops > 0 {
                scan.frames.push(Frame {
                    offset,
                    first_seq: header.first_seq,
                    ops: header.ops,
                    payload: Bytes::copy_from_slice(payload),
                });
                scan.next_seq = header.first_seq + u64::from(header.ops);
            }
            offset += header.frame_bytes();
        }
        if end_seq == Some(scan.next_seq) {
            break;
        }
        // `offset` is where no good frame begins. Was there one, known to be synced?
        match later_frame(&bytes, offset, segment.number, &scan, end_seq.is_some()) {
            Some(at) => {
                scan.note(path, offset, "a synced frame is damaged");
                // Its gap was noted.
                if let Some((header, _)) = frame_at(&bytes, at, segment.number) {
                    scan.next_seq = header.first_seq;
                }
                offset = at;
            }
            None => break,
        }
    }
    if let Some(end) = end_seq
        && end != scan.next_seq
    {
        scan.note(path, offset, "a synced frame is damaged");
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
    let mut at = offset + FRAME_ALIGN_BYTES;
    while at < bytes.len() as u64 {
        if let Some((header, _)) = frame_at(bytes, at, log_number)
            && header.first_seq >= scan.next_seq
            && header.synced_offset.is_multiple_of(FRAME_ALIGN_BYTES)
            && (complete || scan.damage.is_some() || header.synced_offset > offset)
            && header.synced_offset <= at
        {
            return Some(at);
        }
        at += FRAME_ALIGN_BYTES;
    }
    None
}

fn frame_at(bytes: &[u8], offset: u64, log_number: u64) -> Option<(frame::Header, &[u8])> {
    frame::open(bytes.get(offset as usize..)?, log_number)
}
