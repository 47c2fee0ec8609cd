//! An export as a file: JSON Lines that a person can read, and a last line that proves the rest.
//!
//! ```text
//! {"kv_export":1,"from":"cluster 5d2f…","at_ms":1763816000123}
//! {"key":"cart","siblings":[{"value":"milk","expires_at_ms":null}]}
//! {"keys":1,"crc32":"8f1d20c3"}
//! ```
//!
//! An entry is written as `kv get --json` prints it: text where it is text, else `key_hex` and
//! `value_hex`. The checksum is over all bytes before the last line, so a file that was cut or
//! changed is refused before anything of it is stored. While it is written it is called
//! `NAME.part`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::entry::{Entry, Kept, Page};
use crate::{Error, json as form, text};

const VERSION: u64 = 1;
/// Bytes of a line at most: an entry with its siblings.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// So far a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) crc32: u32,
    pub(crate) keys: u64,
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    part: PathBuf,
    written: Written,
    crc: crc32fast::Hasher,
}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// `Input` if it is there already.
    pub(crate) fn begin(path: &Path, from: &str, at_ms: u64) -> Result<Self, Error> {
        if path.exists() {
            return Err(Error::Input(format!("{} is there already", path.display())));
        }
        let part = part_of(path);
        let file = File::create(&part).map_err(Error::file(&part))?;
        let mut writer = Self {
            file,
            path: path.to_owned(),
            part,
            written: Written::default(),
            crc: crc32fast::Hasher::new(),
        };
        let head = json!({"kv_export": VERSION, "from": from, "at_ms": at_ms});
        writer.append(format!("{head}\n").as_bytes())?;
        Ok(writer)
    }

    /// Goes on where a file was left, even if that was after its last line.
    ///
    /// # Errors
    /// It is gone, or shorter than it was: begin anew.
    pub(crate) fn resume(path: &Path, written: Written) -> Result<Self, Error> {
        let part = part_of(path);
        if !part.exists() {
            if !path.exists() || Reader::open(path)?.end != written.bytes {
                let what =
                    format!("{} is gone: without its checkpoint it begins anew", part.display());
                return Err(Error::Input(what));
            }
            fs::rename(path, &part)?;
        }
        let mut file = OpenOptions::new().write(true).open(&part).map_err(Error::file(&part))?;
        if file.metadata()?.len() < written.bytes {
            let what = format!("{} is shorter than its checkpoint says", part.display());
            return Err(Error::Input(what));
        }
        file.set_len(written.bytes)?;
        file.seek(SeekFrom::Start(written.bytes))?;
        let crc = crc32fast::Hasher::new_with_initial_len(written.crc32, written.bytes);
        Ok(Self { file, path: path.to_owned(), part, written, crc })
    }

    pub(crate) fn write(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut lines = Vec::new();
        for entry in entries {
            lines.extend_from_slice(line_of(entry).as_bytes());
            lines.push(b'\n');
        }
        self.append(&lines)?;
        self.written.keys += entries.len() as u64;
        Ok(())
    }

    /// Makes all so far durable, and tells how far that is.
    pub(crate) fn settle(&mut self) -> Result<Written, Error> {
        self.file.sync_data()?;
        Ok(self.written)
    }

    /// Writes the last line, reads the whole again, and gives it its name: how many entries were
    /// read that are what was written.
    ///
    /// # Errors
    /// What is read is not what was written.
    pub(crate) fn finish(&mut self) -> Result<u64, Error> {
        let Written { bytes, keys, crc32 } = self.written;
        let tail = json!({"keys": keys, "crc32": format!("{crc32:08x}")});
        writeln!(self.file, "{tail}")?;
        self.file.sync_all()?;
        let read = Reader::open(&self.part)?;
        if (read.end, read.keys) != (bytes, keys) {
            let what = format!("{} is not what was written to it", self.part.display());
            return Err(Error::Input(what));
        }
        fs::rename(&self.part, &self.path)?;
        let directory = self.path.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        Ok(read.keys)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes)?;
        self.crc.update(bytes);
        self.written.bytes += bytes.len() as u64;
        self.written.crc32 = self.crc.clone().finalize();
        Ok(())
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut part = path.to_owned().into_os_string();
    part.push(".part");
    part.into()
}

/// A file that was found whole.
#[derive(Debug)]
pub(crate) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    first: u64,
    end: u64,
    keys: u64,
    identity: String,
}

impl Reader {
    /// Reads all of it once.
    ///
    /// # Errors
    /// `Input`: it is no export, is cut, or was changed.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut file = BufReader::new(File::open(path).map_err(Error::file(path))?);
        let wrong = |what: &str| Error::Input(format!("{}: {what}", path.display()));
        let mut crc = crc32fast::Hasher::new();
        let (mut end, mut lines, mut first) = (0_u64, 0_u64, 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = read_line(&mut file, &mut line)?;
            let Some(object) = object(&line) else {
                return Err(wrong(match (lines, length) {
                    (0, _) => "it is no export of `kv export`",
                    (_, 0) => "it is cut",
                    _ => "it is damaged",
                }));
            };
            if lines == 0 {
                if object.get("kv_export").and_then(Value::as_u64) != Some(VERSION) {
                    return Err(wrong("it is no export of this version"));
                }
                first = length;
            } else if let Some(told) = object.get("crc32") {
                let crc32 = format!("{:08x}", crc.finalize());
                let keys = object.get("keys").and_then(Value::as_u64);
                if told.as_str() != Some(&crc32) || keys != Some(lines - 1) {
                    return Err(wrong("it is damaged: its checksum is another"));
                }
                let identity = format!("{crc32} {end}");
                let (path, keys) = (path.to_owned(), lines - 1);
                return Ok(Self { file, path, first, end, keys, identity });
            }
            crc.update(&line);
            (end, lines) = (end + length, lines + 1);
        }
    }

    /// Tells this content from any other.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// The entries at an offset; at the first if that is 0.
    pub(crate) fn page(&mut self, at: &str, page_keys: u32) -> Result<Page, Error> {
        let name = self.path.display().to_string();
        let wrong = |what: &str| Error::Input(format!("{name}: {what}"));
        let at: u64 = at.parse().map_err(|_| wrong("the checkpoint is of something else"))?;
        let mut at = at.max(self.first);
        self.file.seek(SeekFrom::Start(at))?;
        let mut page = Page::default();
        let mut line = Vec::new();
        while at < self.end && page.entries.len() < page_keys as usize {
            line.clear();
            at += read_line(&mut self.file, &mut line)?;
            let entry = object(&line).and_then(|object| entry_of(&object));
            page.entries.push(entry.ok_or_else(|| wrong("a line is no entry"))?);
        }
        page.next = (at < self.end).then(|| at.to_string());
        Ok(page)
    }
}

/// Reads a line with its end; the bytes that it took.
fn read_line(file: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<u64> {
    let length = file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    Ok(length as u64)
}

fn object(line: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

fn line_of(entry: &Entry) -> String {
    let siblings = entry.siblings.iter().map(|kept| {
        let mut object = Map::new();
        form::put_bytes(&mut object, "value", &kept.value, false);
        object.insert("expires_at_ms".into(), kept.expires_at_ms.into());
        Value::Object(object)
    });
    let siblings = siblings.collect();
    let mut object = Map::new();
    form::put_bytes(&mut object, "key", &entry.key, false);
    object.insert("siblings".into(), siblings);
    Value::Object(object).to_string()
}

fn entry_of(object: &Map<String, Value>) -> Option<Entry> {
    let siblings = object.get("siblings")?.as_array()?.iter().map(|sibling| {
        let sibling = sibling.as_object()?;
        let expires_at_ms = match sibling.get("expires_at_ms") {
            None | Some(Value::Null) => None,
            Some(at) => Some(at.as_u64()?),
        };
        Some(Kept { value: bytes_of(sibling, "value")?, expires_at_ms })
    });
    let siblings: Vec<Kept> = siblings.collect::<Option<_>>()?;
    (!siblings.is_empty()).then_some(Entry { key: bytes_of(object, "key")?, siblings })
}

fn bytes_of(object: &Map<String, Value>, name: &str) -> Option<Bytes> {
    match object.get(name) {
        Some(plain) => plain.as_str().map(|plain| plain.to_owned().into()),
        None => text::unhex(name, object.get(&format!("{name}_hex"))?.as_str()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let kept = |value: &'static [u8], expires_at_ms| Kept {
            value: Bytes::from_static(value),
            expires_at_ms,
        };
        vec![
            Entry { key: "a\n\"".into(), siblings: vec![kept(b"one", Some(5)), kept(b"", None)] },
            Entry { key: Bytes::from_static(b"\xff"), siblings: vec![kept(b"\0\xfe", None)] },
            Entry { key: "c".into(), siblings: vec![kept("é".as_bytes(), None)] },
        ]
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("kv-tui-{}-{name}", std::process::id()));
        let _absent = fs::remove_file(&path);
        path
    }

    #[test]
    fn what_is_written_in_two_sittings_is_read_by_the_page() {
        let path = scratch("whole");
        let all = entries();
        let mut writer = Writer::begin(&path, "a test", 7).expect("begun");
        writer.write(&all[..1]).expect("written");
        let settled = writer.settle().expect("durable");
        // Lost: it came after the last checkpoint.
        writer.write(&all[..2]).expect("written");
        drop(writer);
        let mut writer = Writer::resume(&path, settled).expect("resumed");
        writer.write(&all[1..]).expect("written");
        let settled = writer.settle().expect("durable");
        assert_eq!(writer.finish().expect("whole"), 3);
        // Ended when the file had its name, and its checkpoint was still there.
        Writer::resume(&path, settled).expect("resumed").finish().expect("whole");
        let mut reader = Reader::open(&path).expect("whole");
        let first = reader.page("0", 2).expect("a page");
        assert_eq!(first.entries, all[..2]);
        let second = reader.page(&first.next.expect("more"), 2).expect("a page");
        assert_eq!((second.entries, second.next), (all[2..].to_vec(), None));
        assert!(Writer::begin(&path, "a test", 7).is_err(), "it is there already");
        fs::remove_file(&path).expect("there");
    }

    #[test]
    fn what_the_disk_did_not_keep_is_not_called_verified() {
        let path = scratch("lost");
        let mut writer = Writer::begin(&path, "a test", 7).expect("begun");
        writer.write(&entries()).expect("written");
        let part = part_of(&path);
        let mut kept = fs::read(&part).expect("there");
        let spot = kept.windows(3).position(|three| three == b"one").expect("there");
        kept[spot] = b'O';
        // The writer has the same file open still.
        fs::write(&part, &kept).expect("written");
        assert!(writer.finish().is_err() && !path.exists());
        // Whole, but another's: the last line fits, and what was written is not there.
        drop(writer);
        let mut other = Writer::begin(&path, "a test", 7).expect("begun");
        other.write(&entries()).expect("written");
        other.written.keys += 1;
        assert!(other.finish().is_err() && !path.exists());
        fs::remove_file(&part).expect("there");
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_refused() {
        let path = scratch("damaged");
        let mut writer = Writer::begin(&path, "a test", 7).expect("begun");
        writer.write(&entries()).expect("written");
        writer.finish().expect("whole");
        let good = fs::read(&path).expect("there");
        for end in 0..good.len() - 1 {
            fs::write(&path, &good[..end]).expect("written");
            assert!(Reader::open(&path).is_err(), "cut at {end}");
        }
        let spot = good.windows(3).position(|three| three == b"one").expect("there");
        let mut changed = good.clone();
        changed[spot] = b'O';
        fs::write(&path, &changed).expect("written");
        assert!(Reader::open(&path).is_err());
        fs::write(&path, &good).expect("written");
        assert!(Reader::open(&path).is_ok());
        fs::remove_file(&path).expect("there");
    }
}
