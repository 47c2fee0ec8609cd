//! The end of the log that is written to.
//!
//! One write for each group, one sync when its batches ask for it, and a new segment when the
//! group does not fit. Invariants: a segment is synced before the next one begins; an offset is
//! written at most once in a segment's life; after an error the writer is not used again.

use std::sync::Arc;

use super::frame::{self, HEADER_BYTES, Header};
use super::recycle::{Segment, Segments};
use crate::commit::Need;
use crate::error::Error;
use crate::fs::File;

/// A group of batches on its way to the log: room for a header, then operations.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) frame: Vec<u8>,
    pub(crate) first_seq: u64,
    pub(crate) ops: u32,
}

impl Group {
    /// An empty group that will begin at `first_seq`, in the memory of `frame`.
    pub(crate) fn reuse(mut frame: Vec<u8>, first_seq: u64) -> Self {
        frame.clear();
        frame.resize(HEADER_BYTES, 0);
        Self { frame, first_seq, ops: 0 }
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.frame.len() - HEADER_BYTES
    }

    /// Sequence of the last operation; that before the first when the group is empty.
    pub(crate) fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.ops) - 1
    }
}

/// Writes frames to the live segment.
#[derive(Debug)]
pub(crate) struct LogWriter {
    segments: Arc<Segments>,
    segment_bytes: u64,
    live: Option<Live>,
    /// Whether nothing was written since the last mark.
    marked: bool,
    /// A group that was taken and not written, because there is no room for a new segment.
    pub(crate) stuck: Option<(Group, Need)>,
}

#[derive(Debug)]
struct Live {
    segment: Segment,
    file: Arc<dyn File>,
    /// Where the next frame goes, in bytes.
    offset: u64,
    /// Up to where the segment is synced, in bytes.
    synced_offset: u64,
}

impl LogWriter {
    /// A writer that begins a new segment with its first frame.
    pub(crate) fn new(segments: Arc<Segments>, segment_bytes: u64) -> Self {
        Self { segments, segment_bytes, live: None, marked: true, stuck: None }
    }

    /// Makes room for a group, which then can be written without a new file. Returns whether that
    /// began a new segment. After [`Error::is_full`] nothing has changed and it may be tried again.
    pub(crate) fn prepare(&mut self, group: &Group) -> Result<bool, Error> {
        self.make_room(frame::frame_bytes(group.payload_bytes()), group.first_seq)
    }

    /// Writes one group as one frame. Returns whether that began a new segment.
    pub(crate) fn write(&mut self, group: &mut Group) -> Result<bool, Error> {
        let bytes = frame::frame_bytes(group.payload_bytes());
        assert!(bytes <= self.segment_bytes, "a frame that no segment can hold");
        let rotated = self.make_room(bytes, group.first_seq)?;
        let live = self.live.as_mut().ok_or(Error::Closed)?;
        let header = Header {
            payload_bytes: group.payload_bytes() as u32,
            ops: group.ops,
            log_number: live.segment.number,
            first_seq: group.first_seq,
            synced_offset: live.synced_offset,
        };
        frame::seal(&mut group.frame, &header);
        live.file
            .write_at(live.offset, &group.frame)
            .map_err(|e| Error::io("write", &live.segment.path, e))?;
        live.offset += bytes;
        self.marked = group.ops == 0;
        Ok(rotated)
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if let Some(live) = self.live.as_mut().filter(|live| live.synced_offset < live.offset) {
            live.file.sync_data().map_err(|e| Error::io("sync", &live.segment.path, e))?;
            live.synced_offset = live.offset;
        }
        Ok(())
    }

    /// Whether something written is not synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.synced_offset < live.offset)
    }

    /// Writes a mark behind the synced frames, so that damage to the last of them is told from a
    /// torn tail. Left out when there is one, when something is unsynced, or when there is no room.
    pub(crate) fn mark(&mut self, next_seq: u64) -> Result<bool, Error> {
        let wanted = self.wants_mark();
        if wanted {
            self.write(&mut Group::reuse(Vec::new(), next_seq))?;
        }
        Ok(wanted)
    }

    /// Whether a mark would say something new.
    pub(crate) fn wants_mark(&self) -> bool {
        self.live.as_ref().is_some_and(|live| {
            let room = self.segment_bytes - live.offset;
            !self.marked && live.synced_offset == live.offset && room >= frame::frame_bytes(0)
        })
    }

    fn make_room(&mut self, bytes: u64, first_seq: u64) -> Result<bool, Error> {
        if self.live.as_ref().is_some_and(|live| live.offset + bytes <= self.segment_bytes) {
            return Ok(false);
        }
        self.sync()?;
        let (segment, file) = self.segments.activate(first_seq)?;
        self.live = Some(Live { segment, file, offset: 0, synced_offset: 0 });
        Ok(true)
    }
}
