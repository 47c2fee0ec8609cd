//! The manifest: the log of edits from which the set of tables is rebuilt at open.
//!
//! ```text
//! header:  0  magic
//!          8  format version u32
//!         12  generation u64         one more at every new file
//!         20  synced u64             length of the file when it got its name
//!         28  CRC-32 u32 of the above
//! frame*:  length of the edit u32 | CRC-32 u32 | synced u64 | edit
//! ```
//!
//! A frame's checksum covers generation, its own offset, length and synced offset besides the edit.
//! `synced` is the offset below which everything was durable when the frame was written. So a bad
//! frame is told apart: when the header or a later good frame says that it had been synced, it is
//! damage, an error; else it is what a crash left of a write that nobody was told of, and is cut.
//! Since the last edit has no later frame to speak for it, a *mark* (a frame without an edit)
//! follows each sync and reaches the disk with whatever the system writes next. (Pebble's and
//! surrealkv's logs know their synced offset likewise.)
//!
//! Version 1 knows no keyspaces; the first one that is made makes a manifest one of version 2.
//!
//! When the file passes its bound, and at every open, one edit with all tables goes to a new file,
//! which is synced and then renamed over the old one; there is never a moment without a complete
//! manifest.
//!
//! Invariant: after a failed write or sync nothing more is written (what reached the disk is not
//! known): the manifest is poisoned until the directory is opened anew.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::state::State;
use super::{Edit, Version};
use crate::codec::{take, take_u32, take_u64};
use crate::error::Error;
use crate::fs::{File, Fs, OpenMode};
use crate::sstable::{TableMeta, table_id};

/// Name of the manifest in its directory.
const NAME: &str = "MANIFEST";
/// Name of its successor until that is complete.
const NEXT_NAME: &str = "MANIFEST.next";

const MAGIC: [u8; 8] = *b"kvlsmman";
const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 16;

/// What open found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovered {
    /// The tables.
    pub(crate) version: Version<TableMeta>,
    /// No file id from here on has ever been used in a durable edit.
    pub(crate) next_file_id: u64,
    /// All up to this sequence is in tables; 0 when nothing is.
    pub(crate) flushed_seq: u64,
    /// The names of the keyspaces, by their numbers.
    pub(crate) keyspaces: BTreeMap<u32, String>,
    /// No keyspace from this number on has ever been there; 0 where there were none.
    pub(crate) next_keyspace: u32,
}

/// The open manifest. One owner writes.
#[derive(Debug)]
pub(crate) struct Manifest {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    bytes_max: u64,
    file: Arc<dyn File>,
    generation: u64,
    /// Where the next frame goes, and how far the file was synced.
    len: u64,
    synced: u64,
    /// Length right after the last roll.
    rolled: u64,
    state: State,
    poisoned: Option<Arc<str>>,
}

impl Manifest {
    /// Opens the manifest of `dir`, or makes one if the directory has neither manifest nor tables.
    /// From `bytes_max` bytes on it is written anew.
    ///
    /// # Errors
    /// Damage, a missing manifest beside tables, an unknown format, or the file system's.
    pub(crate) fn open(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        bytes_max: u64,
    ) -> Result<(Self, Recovered), Error> {
        let path = dir.join(NAME);
        let next = dir.join(NEXT_NAME);
        match fs.remove(&next) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &next, source));
            }
            _ => {}
        }
        let manifest = match fs.open(&path, OpenMode::Write) {
            Ok(file) => {
                // What was read may only be in the page cache: left there by a process that was
                // killed, or by a sync that failed. Nothing may be built on it before it is synced,
                // and only bytes that are written anew are.
                let mut read = Self::read(fs, dir, bytes_max, file)?;
                read.roll()?;
                read
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                let names = fs.list(dir).map_err(|source| Error::io("list", dir, source))?;
                if names.iter().any(|name| table_id(name).is_some()) {
                    return Err(Error::corrupt(&path, 0, "missing, and there are tables"));
                }
                let state = State::default();
                let (file, len) = write_file(fs.as_ref(), dir, 1, &state)?;
                Self::new(fs, dir, bytes_max, file, 1, len, state)
            }
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        let version =
            manifest.state.version().map_err(|rule| Error::corrupt(&path, manifest.len, rule))?;
        let State { next_file_id, flushed_seq, next_keyspace, .. } = manifest.state;
        let keyspaces = manifest.state.keyspaces.clone();
        let found = Recovered { version, next_file_id, flushed_seq, keyspaces, next_keyspace };
        Ok((manifest, found))
    }

    /// # Errors
    /// There is none in `dir`, or it can't be opened.
    pub(crate) fn exists(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
        let path = dir.join(NAME);
        fs.open(&path, OpenMode::Read).map(drop).map_err(|source| Error::io("open", &path, source))
    }

    /// Writes a manifest that says the same into another directory. Gives the sequence up to which
    /// all is in tables.
    pub(crate) fn copy_to(&self, fs: &dyn Fs, dir: &Path) -> Result<u64, Error> {
        write_file(fs, dir, 1, &self.state)?;
        Ok(self.state.flushed_seq)
    }

    /// Makes an edit durable. The names of the tables that it adds must be durable already.
    ///
    /// # Errors
    /// After [`Error::is_full`] nothing has changed. After any other error the edit may or may not
    /// be found at the next open, and every further call answers [`Error::Poisoned`].
    pub(crate) fn append(&mut self, edit: &Edit) -> Result<(), Error> {
        if let Some(cause) = &self.poisoned {
            return Err(Error::Poisoned { cause: Arc::clone(cause) });
        }
        let result = self.try_append(edit);
        // A write that had no room may have left part of a frame, which the next one overwrites.
        if let Err(error) = &result
            && !error.is_full()
        {
            self.poisoned = Some(error.to_string().into());
        }
        result
    }

    fn try_append(&mut self, edit: &Edit) -> Result<(), Error> {
        let path = self.dir.join(NAME);
        let mut next = self.state.clone();
        let applied = next.apply(edit);
        assert!(applied.is_ok(), "an edit that can't be read back: {applied:?}");
        let is_full = self.len >= self.bytes_max && self.len >= self.rolled.saturating_mul(2);
        if is_full || next.format_version() != self.state.format_version() {
            let (file, len) = write_file(self.fs.as_ref(), &self.dir, self.generation + 1, &next)?;
            self.file = file;
            self.generation += 1;
            (self.len, self.synced, self.rolled) = (len, len, len);
            self.state = next;
            return Ok(());
        }
        let mut payload = Vec::new();
        edit.encode(&mut payload);
        let frame = frame(self.generation, self.len, self.synced, &payload);
        self.file.write_at(self.len, &frame).map_err(|source| Error::io("write", &path, source))?;
        self.file.sync_data().map_err(|source| Error::io("sync", &path, source))?;
        self.len += frame.len() as u64;
        self.synced = self.len;
        self.state = next;
        // The mark: a claim about the past. Without it (an error) the claim is only made later.
        let mark = self::frame(self.generation, self.len, self.synced, &[]);
        if self.file.write_at(self.len, &mark).is_ok() {
            self.len += mark.len() as u64;
        }
        Ok(())
    }

    /// Puts one edit with everything into a new file, in the place of this one.
    fn roll(&mut self) -> Result<(), Error> {
        let (file, len) =
            write_file(self.fs.as_ref(), &self.dir, self.generation + 1, &self.state)?;
        self.file = file;
        self.generation += 1;
        (self.len, self.synced, self.rolled) = (len, len, len);
        Ok(())
    }

    fn new(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        bytes_max: u64,
        file: Arc<dyn File>,
        generation: u64,
        len: u64,
        state: State,
    ) -> Self {
        Self {
            fs: Arc::clone(fs),
            dir: dir.to_path_buf(),
            bytes_max,
            file,
            generation,
            len,
            synced: len,
            rolled: 0,
            state,
            poisoned: None,
        }
    }

    /// Replays a file, and cuts the tail that a crash left.
    fn read(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        bytes_max: u64,
        file: Arc<dyn File>,
    ) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let bytes = read_all(file.as_ref(), &path)?;
        let header = Header::decode(&path, &bytes)?;
        let mut state = State::default();
        let mut at = HEADER_BYTES;
        while let Some((payload, _)) = parse_frame(&bytes, header.generation, at) {
            let bad = |what| Error::corrupt(&path, at as u64, what);
            let edit = Edit::decode(payload).ok_or_else(|| bad("an edit that can't be read"))?;
            state.apply(&edit).map_err(bad)?;
            at += FRAME_BYTES + payload.len();
        }
        if at < bytes.len() || (at as u64) < header.synced {
            let known = known_synced(&bytes, header.generation, at).max(header.synced);
            if known > at as u64 {
                return Err(Error::corrupt(&path, at as u64, "an edit that had been synced"));
            }
            file.truncate(at as u64)
                .and_then(|()| file.sync_data())
                .map_err(|source| Error::io("cut", &path, source))?;
        }
        let (generation, len) = (header.generation, at as u64);
        Ok(Self::new(fs, dir, bytes_max, file, generation, len, state))
    }
}

struct Header {
    format_version: u32,
    generation: u64,
    synced: u64,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.format_version.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let parse = || {
            let (checked, mut sum) =
                bytes.get(..HEADER_BYTES)?.split_at_checked(HEADER_BYTES - 4)?;
            let mut left = checked.strip_prefix(&MAGIC)?;
            let header = Self {
                format_version: take_u32(&mut left)?,
                generation: take_u64(&mut left)?,
                synced: take_u64(&mut left)?,
            };
            (take_u32(&mut sum)? == crc32fast::hash(checked)).then_some(header)
        };
        let header = parse().ok_or_else(|| Error::corrupt(path, 0, "a bad header"))?;
        if !State::reads(header.format_version) {
            let (path, version) = (path.to_path_buf(), header.format_version);
            return Err(Error::UnknownFormat { path, version });
        }
        Ok(header)
    }
}

/// A frame to be written at `offset`.
fn frame(generation: u64, offset: u64, synced: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_BYTES + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&frame_sum(generation, offset, synced, payload).to_le_bytes());
    out.extend_from_slice(&synced.to_le_bytes());
    out.extend_from_slice(payload);
    out
}

fn frame_sum(generation: u64, offset: u64, synced: u64, payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for number in [generation, offset, synced, payload.len() as u64] {
        sum.update(&number.to_le_bytes());
    }
    sum.update(payload);
    sum.finalize()
}

/// Edit and synced offset of the frame at `at`, if a good one is there.
fn parse_frame(bytes: &[u8], generation: u64, at: usize) -> Option<(&[u8], u64)> {
    let mut left = bytes.get(at..)?;
    let len = take_u32(&mut left)? as usize;
    let sum = take_u32(&mut left)?;
    let synced = take_u64(&mut left)?;
    if synced > at as u64 {
        return None;
    }
    let payload = take(&mut left, len)?;
    (frame_sum(generation, at as u64, synced, payload) == sum).then_some((payload, synced))
}

/// The highest synced offset that a good frame behind the bad one at `bad` speaks of.
fn known_synced(bytes: &[u8], generation: u64, bad: usize) -> u64 {
    let mut known = 0;
    for at in bad + 1..bytes.len() {
        // Cheap test first: a frame that says nothing about `bad` is of no interest.
        let claim = bytes.get(at + 8..).and_then(|mut field| take_u64(&mut field));
        if claim.is_some_and(|claim| claim > bad as u64 && claim <= at as u64)
            && let Some((_, synced)) = parse_frame(bytes, generation, at)
        {
            known = known.max(synced);
        }
    }
    known
}

/// Writes a complete manifest and puts it in the place of the old one. Gives file and length.
fn write_file(
    fs: &dyn Fs,
    dir: &Path,
    generation: u64,
    state: &State,
) -> Result<(Arc<dyn File>, u64), Error> {
    let (path, next) = (dir.join(NAME), dir.join(NEXT_NAME));
    let mut payload = Vec::new();
    state.snapshot().encode(&mut payload);
    let len = HEADER_BYTES + FRAME_BYTES + payload.len();
    let format_version = state.format_version();
    let mut bytes = Header { format_version, generation, synced: len as u64 }.encode();
    bytes.extend_from_slice(&frame(generation, HEADER_BYTES as u64, 0, &payload));
    let file =
        fs.open(&next, OpenMode::CreateNew).map_err(|source| Error::io("create", &next, source))?;
    if let Err(source) = file.write_at(0, &bytes) {
        // Else it would be in the way of a later try.
        let _ = fs.remove(&next);
        return Err(Error::io("write", &next, source));
    }
    file.sync_data().map_err(|source| Error::io("sync", &next, source))?;
    fs.rename(&next, &path).map_err(|source| Error::io("rename", &next, source))?;
    fs.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))?;
    Ok((file, len as u64))
}

fn read_all(file: &dyn File, path: &Path) -> Result<Vec<u8>, Error> {
    let io = |source| Error::io("read", path, source);
    let len = usize::try_from(file.len().map_err(io)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..)
        && !rest.is_empty()
    {
        match file.read_at(filled as u64, rest).map_err(io)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
