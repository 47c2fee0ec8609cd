//! How far a copy has got, in a file that is replaced whole, and the list of what was refused.
//!
//! Invariant: what a checkpoint says is copied was acknowledged before the checkpoint was written.
//! What came after it is copied once more, which changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::entry::Refused;
use super::file::Written;
use crate::{Error, json as form};

const VERSION: u64 = 1;
/// Kinds of refusal that are counted each; what is beyond goes under one more.
const KINDS_MAX: usize = 32;

/// Which pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Copy,
    /// Everything was copied once. A file is verified by being finished.
    Verify,
}

/// What was done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Keys that the source told; one may be told twice.
    pub(crate) scanned: u64,
    pub(crate) stored: u64,
    /// Listed, and gone when they were read or written.
    pub(crate) gone: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) verified: u64,
    /// Found different by the second pass, and copied again.
    pub(crate) mended: u64,
    /// Different still.
    pub(crate) differing: u64,
}

/// How far a copy has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) from: String,
    /// Tells the source's content, or its process, from any other.
    pub(crate) identity: String,
    pub(crate) to: String,
    pub(crate) phase: Phase,
    /// Where the next page begins.
    pub(crate) position: String,
    pub(crate) counts: Counts,
    /// Bytes of the list of refused keys that belong to this.
    pub(crate) refused_bytes: u64,
    /// The file that is written, if it is one.
    pub(crate) written: Option<Written>,
}

impl Checkpoint {
    /// Of a copy that has not begun.
    pub(crate) fn new(from: String, identity: String, to: String) -> Self {
        Self {
            from,
            identity,
            to,
            phase: Phase::Copy,
            position: "0".to_owned(),
            counts: Counts::default(),
            refused_bytes: 0,
            written: None,
        }
    }

    /// Reads it; `None` if there is none.
    ///
    /// # Errors
    /// `Input` if the file is none of ours.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file(path)(error)),
        };
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let read = value.as_ref().and_then(Self::from_json);
        read.map(Some).ok_or_else(|| {
            Error::Input(format!("{} is no checkpoint of this version", path.display()))
        })
    }

    /// Replaces the file, durably.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let fresh = beside(path, ".new");
        let mut file = File::create(&fresh).map_err(Error::file(&fresh))?;
        writeln!(file, "{:#}", self.to_json())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        Ok(())
    }

    fn to_json(&self) -> Value {
        let counts = &self.counts;
        let written = self.written.map(
            |written| json!({"bytes": written.bytes, "crc32": written.crc32, "keys": written.keys}),
        );
        json!({
            "kv_copy": VERSION,
            "from": self.from,
            "identity": self.identity,
            "to": self.to,
            "phase": match self.phase { Phase::Copy => "copy", Phase::Verify => "verify" },
            "position": self.position,
            "scanned": counts.scanned,
            "stored": counts.stored,
            "gone": counts.gone,
            "refused": counts.refused,
            "verified": counts.verified,
            "mended": counts.mended,
            "differing": counts.differing,
            "refused_bytes": self.refused_bytes,
            "written": written,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let number = |name: &str| value.get(name)?.as_u64();
        if number("kv_copy")? != VERSION {
            return None;
        }
        let refused = value.get("refused")?.as_object()?;
        let written = match value.get("written")? {
            Value::Null => None,
            written => Some(Written {
                bytes: written.get("bytes")?.as_u64()?,
                crc32: u32::try_from(written.get("crc32")?.as_u64()?).ok()?,
                keys: written.get("keys")?.as_u64()?,
            }),
        };
        Some(Self {
            from: text("from")?,
            identity: text("identity")?,
            to: text("to")?,
            phase: match text("phase")?.as_str() {
                "copy" => Phase::Copy,
                "verify" => Phase::Verify,
                _ => return None,
            },
            position: text("position")?,
            counts: Counts {
                scanned: number("scanned")?,
                stored: number("stored")?,
                gone: number("gone")?,
                refused: refused
                    .iter()
                    .map(|(kind, count)| Some((kind.clone(), count.as_u64()?)))
                    .collect::<Option<_>>()?,
                verified: number("verified")?,
                mended: number("mended")?,
                differing: number("differing")?,
            },
            refused_bytes: number("refused_bytes")?,
            written,
        })
    }
}

impl Counts {
    /// All that was refused.
    pub(crate) fn refused_sum(&self) -> u64 {
        self.refused.values().sum()
    }

    pub(crate) fn refuse(&mut self, kind: &str) {
        let known = self.refused.contains_key(kind) || self.refused.len() < KINDS_MAX;
        let kind = if known { kind } else { "others" };
        *self.refused.entry(kind.to_owned()).or_default() += 1;
    }
}

/// The list of refused keys: JSON Lines. Held, it also keeps a second copy off the checkpoint.
#[derive(Debug)]
pub(crate) struct RefusedList {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl RefusedList {
    /// Opens the list that belongs to a checkpoint, cut to what belongs to it.
    ///
    /// # Errors
    /// `Input`: another copy goes by this checkpoint.
    pub(crate) fn open(checkpoint: &Path, bytes: u64) -> Result<Self, Error> {
        let path = beside(checkpoint, ".refused");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = opened.map_err(Error::file(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let what = format!("another copy goes by {}", checkpoint.display());
                return Err(Error::Input(what));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Self { file, path, bytes })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds keys, durably; how long the list is then.
    pub(crate) fn add(&mut self, refused: &[Refused]) -> Result<u64, Error> {
        let mut lines = String::new();
        for one in refused {
            let mut object = Map::new();
            form::put_bytes(&mut object, "key", &one.key, false);
            object.insert("kind".into(), one.kind.as_str().into());
            object.insert("why".into(), one.why.as_str().into());
            lines.push_str(&Value::Object(object).to_string());
            lines.push('\n');
        }
        if !lines.is_empty() {
            self.file.write_all(lines.as_bytes())?;
            self.file.sync_data()?;
            self.bytes += lines.len() as u64;
        }
        Ok(self.bytes)
    }

    /// Removes the list if it is empty.
    pub(crate) fn close(self) -> Result<(), Error> {
        if self.bytes == 0 {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_anything_else_is_an_error() {
        let path = std::env::temp_dir().join(format!("kv-tui-{}-checkpoint", std::process::id()));
        assert_eq!(Checkpoint::load(&path).expect("read"), None);
        let mut checkpoint = Checkpoint::new("a".into(), "b".into(), "c".into());
        checkpoint.phase = Phase::Verify;
        checkpoint.position = "17".to_owned();
        checkpoint.counts.scanned = 5;
        checkpoint.counts.refuse("hash");
        checkpoint.written = Some(Written { bytes: 3, crc32: u32::MAX, keys: 1 });
        checkpoint.save(&path).expect("saved");
        assert_eq!(Checkpoint::load(&path).expect("read"), Some(checkpoint));
        fs::write(&path, "{\"kv_copy\": 2}").expect("written");
        assert!(Checkpoint::load(&path).is_err());
        fs::remove_file(&path).expect("there");
    }

    #[test]
    fn kinds_are_bounded_and_a_list_is_of_one_copy() {
        let mut counts = Counts::default();
        (0..100).for_each(|kind| counts.refuse(&kind.to_string()));
        assert_eq!((counts.refused.len(), counts.refused_sum()), (KINDS_MAX + 1, 100));
        let path = std::env::temp_dir().join(format!("kv-tui-{}-list", std::process::id()));
        let refused = |key: &'static str| Refused {
            key: key.into(),
            kind: "list".into(),
            why: "a list is no string".into(),
        };
        let mut list = RefusedList::open(&path, 0).expect("opened");
        assert!(RefusedList::open(&path, 0).is_err(), "it is held");
        let first = list.add(&[refused("a")]).expect("added");
        list.add(&[refused("b")]).expect("added");
        let name = list.path().to_owned();
        drop(list);
        let mut list = RefusedList::open(&path, first).expect("opened");
        list.add(&[refused("c")]).expect("added");
        let text = fs::read_to_string(&name).expect("there");
        let keys: Vec<_> = text.lines().map(|line| line.get(..10)).collect();
        assert_eq!(keys, [Some("{\"key\":\"a\""), Some("{\"key\":\"c\"")]);
        list.close().expect("kept");
        RefusedList::open(&path, 0).expect("opened").close().expect("removed");
        assert!(!name.exists());
    }
}
