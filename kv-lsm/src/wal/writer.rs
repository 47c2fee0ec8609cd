//! The end of the log that is written to.
//!
//! One write for each group, one sync when its batches ask for it, and a new segment when the
//! group does not fit. Invariants: a segment is synced before the next one begins; a byte is
//! written at most once in a segment's life, and none in a sector that was synced; after an error
//! the writer is not used again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::frame::{self, HEADER_BYTES, Header, STRETCH_BYTES};
use super::recycle::{Segment, Segments};
use crate::commit::Need;
use crate::error::Error;
use crate::fs::File;

/// What may be written without a sync before the disk is made to begin with it, in bytes.
const BEHIND_BYTES_MAX: u64 = 2 << 20;

/// A group of batches on its way to the log: room for a header, then operations.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) frame: Vec<u8>,
    pub(crate) first_seq: u64,
    pub(crate) ops: u32,
    /// Batches of it that a thread waits for.
    pub(crate) waiting: u32,
}

impl Group {
    /// An empty group that will begin at `first_seq`, in the memory of `frame`.
    pub(crate) fn reuse(mut frame: Vec<u8>, first_seq: u64) -> Self {
        frame.clear();
        frame.resize(HEADER_BYTES, 0);
        Self { frame, first_seq, ops: 0, waiting: 0 }
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
    /// Memory for the group of one who writes on his own thread.
    pub(crate) spare: Vec<u8>,
    /// Bytes written since the file was last handed to the disk, ahead of its sync or by it.
    behind_bytes: u64,
    /// Syncs of the live segment.
    syncs: u64,
    /// How long the last sync took that a batch waited for.
    pub(crate) sync_took: Duration,
}

#[derive(Debug)]
struct Live {
    segment: Segment,
    file: Arc<dyn File>,
    /// Where the last frame ends, in bytes.
    offset: u64,
    /// Up to where the segment is synced, in bytes.
    synced_offset: u64,
}

impl Live {
    /// Where the next frame goes: no synced sector is written again.
    fn next_offset(&self) -> u64 {
        let aligned = frame::aligned(self.offset);
        let is_first_of_stretch = match self.offset.checked_sub(1) {
            Some(last) => last / STRETCH_BYTES != aligned / STRETCH_BYTES,
            None => true,
        };
        if self.synced_offset == self.offset || is_first_of_stretch { aligned } else { self.offset }
    }
}

impl LogWriter {
    /// A writer that begins a new segment with its first frame.
    pub(crate) fn new(segments: Arc<Segments>, segment_bytes: u64) -> Self {
        Self {
            segments,
            segment_bytes,
            live: None,
            marked: true,
            stuck: None,
            spare: Vec::new(),
            behind_bytes: 0,
            syncs: 0,
            sync_took: Duration::ZERO,
        }
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
        let offset = live.next_offset();
        let header = Header {
            payload_bytes: group.payload_bytes() as u32,
            ops: group.ops,
            log_number: live.segment.number,
            first_seq: group.first_seq,
            synced_offset: frame::aligned(live.synced_offset),
        };
        let follows = offset > 0 && offset == live.offset && live.synced_offset < live.offset;
        let start = if follows {
            frame::seal_short(&mut group.frame, &header, offset)
        } else {
            frame::seal(&mut group.frame, &header);
            0
        };
        let bytes = group.frame.get(start..).unwrap_or_default();
        live.file.write_at(offset, bytes).map_err(|e| Error::io("write", &live.segment.path, e))?;
        live.offset = offset + bytes.len() as u64;
        self.behind_bytes += bytes.len() as u64;
        self.marked = group.ops == 0;
        Ok(rotated)
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if let Some(live) = self.live.as_mut().filter(|live| live.synced_offset < live.offset) {
            live.file.sync_data().map_err(|e| Error::io("sync", &live.segment.path, e))?;
            live.synced_offset = live.offset;
            self.syncs += 1;
        }
        self.behind_bytes = 0;
        Ok(())
    }

    /// The file, when so much was written to it without a sync that the disk should begin with it:
    /// the sync at the end of the segment would take long.
    pub(crate) fn file_behind(&mut self) -> Option<(Arc<dyn File>, PathBuf)> {
        let live = self.live.as_ref().filter(|_| self.behind_bytes >= BEHIND_BYTES_MAX)?;
        self.behind_bytes = 0;
        Some((Arc::clone(&live.file), live.segment.path.clone()))
    }

    /// Whether there is such a file.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind_bytes >= BEHIND_BYTES_MAX
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
            let end = live.next_offset() + frame::frame_bytes(0);
            !self.marked && live.synced_offset == live.offset && end <= self.segment_bytes
        })
    }

    fn make_room(&mut self, bytes: u64, first_seq: u64) -> Result<bool, Error> {
        if self.live.as_ref().is_some_and(|live| live.next_offset() + bytes <= self.segment_bytes) {
            return Ok(false);
        }
        if self.live.is_some() {
            self.segments.note_synced(self.syncs > 0);
        }
        self.sync()?;
        self.syncs = 0;
        let (segment, file) = self.segments.activate(first_seq)?;
        self.live = Some(Live { segment, file, offset: 0, synced_offset: 0 });
        Ok(true)
    }
}
