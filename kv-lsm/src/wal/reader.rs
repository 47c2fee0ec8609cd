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
/// that everything below it had been synced.
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
    let mut scan = Scan { frames: Vec::new(), next_seq: segment.first_seq };
    let mut offset = 0;
    while let Some((header, payload)) = frame_at(&bytes, offset, segment.number) {
        if header.first_seq != scan.next_seq {
            return Err(Error::corrupt(path, offset, "a frame's sequence does not follow"));
        }
        if header.ops > 0 {
            scan.frames.push(Frame {
                offset,
                first_seq: header.first_seq,
                ops: header.ops,
                payload: Bytes::copy_from_slice(payload),
            });
            scan.next_seq += u64::from(header.ops);
        }
        offset += header.frame_bytes();
    }
    // `offset` is where no good frame begins. Was there one, known to be synced?
    match end_seq {
        Some(end) if end != scan.next_seq => {
            return Err(Error::corrupt(path, offset, "a synced frame is damaged"));
        }
        Some(_) => {}
        None => {
            let mut at = offset + FRAME_ALIGN_BYTES;
            while at < read as u64 {
                // What a frame can say of itself is checked, so that a value that looks like a
                // frame hardly passes for one.
                if let Some((header, _)) = frame_at(&bytes, at, segment.number)
                    && header.first_seq >= scan.next_seq
                    && header.synced_offset.is_multiple_of(FRAME_ALIGN_BYTES)
                    && (offset + 1..=at).contains(&header.synced_offset)
                {
                    return Err(Error::corrupt(path, offset, "a synced frame is damaged"));
                }
                at += FRAME_ALIGN_BYTES;
            }
        }
    }
    Ok(scan)
}

fn frame_at(bytes: &[u8], offset: u64, log_number: u64) -> Option<(frame::Header, &[u8])> {
    frame::open(bytes.get(offset as usize..)?, log_number)
}
