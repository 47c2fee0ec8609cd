//! The files of the log: their names, the pool of spares, retirement.
//!
//! ```text
//!  (create, fill with zeros, sync) N.new --> N.spare --> NNNN-SSSS.log --> N.spare or removed
//! ```
//! A live segment's name holds its log number and the sequence of its first operation, both in
//! hexadecimal. The name is durable before the first frame is written, and the segment before it
//! was synced before that, so a name *proves* that every earlier segment is complete up to the
//! sequence before it. Overwriting a file whose blocks are already written is two to three times
//! cheaper to sync than growing one; hence the zeros and the reuse. Where nothing is synced but at
//! the end of a segment the zeros are left out.
//!
//! Invariant: a file that contains frames of log number N is named for N, or the manifest knows
//! that ids up to N are used up (log numbers and table ids come from one counter, which every edit
//! carries). So a new number was never used before, and a stale frame never looks like a new one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::Error;
use crate::fs::{File, Fs, OpenMode};

/// How much is filled with zeros by one call, in bytes.
const ZEROS_BYTES: usize = 256 << 10;

/// One live segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) first_seq: u64,
    pub(crate) path: PathBuf,
}

impl Segment {
    fn new(dir: &Path, number: u64, first_seq: u64) -> Self {
        let path = dir.join(format!("{number:016x}-{first_seq:016x}.log"));
        Self { number, first_seq, path }
    }

    fn parse(dir: &Path, name: &str) -> Option<Self> {
        let (number, first_seq) = name.strip_suffix(".log")?.split_once('-')?;
        let segment = Self::new(
            dir,
            u64::from_str_radix(number, 16).ok()?,
            u64::from_str_radix(first_seq, 16).ok()?,
        );
        (segment.path.file_name()?.to_str()? == name).then_some(segment)
    }
}

/// All files of the log of one engine.
#[derive(Debug)]
pub(crate) struct Segments {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    segment_bytes: u64,
    spares_max: usize,
    /// The next id of a table or number of a segment.
    ids: Arc<AtomicU64>,
    state: Mutex<State>,
    /// Whether the segments are synced while they are written to: only then the zeros pay.
    is_synced: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// In ascending order of number; the last is written to.
    live: Vec<Segment>,
    spares: Vec<PathBuf>,
    next_spare: u64,
}

impl Segments {
    /// Reads the directory. Leftovers of an interrupted preparation are removed, and `ids` is
    /// raised above the numbers of the live segments.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        segment_bytes: u64,
        spares_max: usize,
        ids: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let mut state = State::default();
        for name in fs.list(&dir).map_err(|e| Error::io("list", &dir, e))? {
            let path = dir.join(&name);
            match path.extension().and_then(OsStr::to_str) {
                Some("log") => state.live.extend(Segment::parse(&dir, &name)),
                Some("spare") if file_bytes(&*fs, &path)? == segment_bytes => {
                    state.next_spare = state.next_spare.max(spare_number(&name) + 1);
                    state.spares.push(path);
                }
                Some("spare" | "new") => {
                    fs.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
                }
                _ => {}
            }
        }
        state.live.sort_by_key(|segment| segment.number);
        let used = state.live.last().map_or(0, |segment| segment.number);
        ids.fetch_max(used.saturating_add(1), Ordering::Relaxed);
        Ok(Self {
            fs,
            dir,
            segment_bytes,
            spares_max,
            ids,
            state: Mutex::new(state),
            is_synced: AtomicBool::new(true),
        })
    }

    /// Notes whether the last segment was synced while it was written to.
    pub(crate) fn note_synced(&self, is_synced: bool) {
        self.is_synced.store(is_synced, Ordering::Relaxed);
    }

    /// The live segments, oldest first.
    pub(crate) fn live(&self) -> Vec<Segment> {
        self.state.lock().live.clone()
    }

    /// Bytes that the live segments take on disk.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.state.lock().live.len() as u64 * self.segment_bytes
    }

    pub(crate) fn spares(&self) -> usize {
        self.state.lock().spares.len()
    }

    /// Begins a new live segment whose first operation will be `first_seq`. What was written to
    /// the segment before must be synced. On return the new name is durable.
    pub(crate) fn activate(&self, first_seq: u64) -> Result<(Segment, Arc<dyn File>), Error> {
        let spare = self.state.lock().spares.pop();
        let spare = match spare {
            Some(spare) => spare,
            None => self.prewrite()?,
        };
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let segment = Segment::new(&self.dir, number, first_seq);
        let file =
            self.fs.open(&spare, OpenMode::Write).map_err(|e| Error::io("open", &spare, e))?;
        self.fs.rename(&spare, &segment.path).map_err(|e| Error::io("rename", &segment.path, e))?;
        self.fs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        self.state.lock().live.push(segment.clone());
        Ok((segment, file))
    }

    /// Prepares a spare, if there is none. Takes as long as writing and syncing a whole segment.
    pub(crate) fn prepare(&self) -> Result<bool, Error> {
        if self.spares() > 0 {
            return Ok(false);
        }
        let spare = self.prewrite()?;
        self.state.lock().spares.push(spare);
        Ok(true)
    }

    /// Retires the segments that hold nothing above `flushed_seq`, which must be durable in the
    /// manifest. The one that is written to always stays.
    pub(crate) fn retire(&self, flushed_seq: u64) -> Result<usize, Error> {
        let is_flushed = |live: &[Segment]| {
            live.get(1).is_some_and(|next| next.first_seq <= flushed_seq.saturating_add(1))
        };
        let mut retired = 0;
        while self.retire_oldest(is_flushed)? {
            retired += 1;
        }
        Ok(retired)
    }

    /// Retires all segments: everything is flushed, and none is being written to.
    pub(crate) fn retire_all(&self) -> Result<(), Error> {
        while self.retire_oldest(|live| !live.is_empty())? {}
        Ok(())
    }

    /// Retires the oldest segment if that is allowed; returns whether it was.
    fn retire_oldest(&self, allowed: impl Fn(&[Segment]) -> bool) -> Result<bool, Error> {
        let (old, keep) = {
            let mut state = self.state.lock();
            if !allowed(&state.live) {
                return Ok(false);
            }
            let keep = state.spares.len() < self.spares_max;
            (state.live.remove(0), keep)
        };
        if keep && file_bytes(&*self.fs, &old.path)? == self.segment_bytes {
            let spare = self.spare_path("spare");
            self.fs.rename(&old.path, &spare).map_err(|e| Error::io("rename", &spare, e))?;
            self.state.lock().spares.push(spare);
        } else {
            self.fs.remove(&old.path).map_err(|e| Error::io("remove", &old.path, e))?;
        }
        Ok(true)
    }

    /// Writes a file full of zeros, synced, and names it a spare.
    fn prewrite(&self) -> Result<PathBuf, Error> {
        let path = self.spare_path("new");
        let written = self.fill(&path);
        if written.is_err() {
            // What stays is removed at the next open.
            drop(self.fs.remove(&path));
        }
        written?;
        let spare = path.with_extension("spare");
        self.fs.rename(&path, &spare).map_err(|e| Error::io("rename", &spare, e))?;
        Ok(spare)
    }

    fn fill(&self, path: &Path) -> Result<(), Error> {
        let file =
            self.fs.open(path, OpenMode::CreateNew).map_err(|e| Error::io("create", path, e))?;
        let zeros = vec![0; ZEROS_BYTES.min(self.segment_bytes as usize)];
        let mut at = 0;
        if !self.is_synced.load(Ordering::Relaxed) {
            // Of full length, so that it is used again, and by then it is written.
            file.truncate(self.segment_bytes).map_err(|e| Error::io("extend", path, e))?;
            at = self.segment_bytes;
        }
        while at < self.segment_bytes {
            let len = (self.segment_bytes - at).min(zeros.len() as u64);
            let zeros = zeros.get(..len as usize).unwrap_or_default();
            file.write_at(at, zeros).map_err(|e| Error::io("write", path, e))?;
            at += len;
        }
        file.sync_data().map_err(|e| Error::io("sync", path, e))
    }

    fn spare_path(&self, extension: &str) -> PathBuf {
        let mut state = self.state.lock();
        let number = state.next_spare;
        state.next_spare += 1;
        self.dir.join(format!("{number:016x}.{extension}"))
    }
}

fn spare_number(name: &str) -> u64 {
    name.strip_suffix(".spare").and_then(|n| u64::from_str_radix(n, 16).ok()).unwrap_or(0)
}

fn file_bytes(fs: &dyn Fs, path: &Path) -> Result<u64, Error> {
    fs.open(path, OpenMode::Read)
        .and_then(|file| file.len())
        .map_err(|e| Error::io("open", path, e))
}
