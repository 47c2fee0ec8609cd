//! A file system over another one that it never changes: what is written stays in memory.
//!
//! Opening a directory for reading needs all that an ordinary open does: a torn tail is cut, the
//! log is replayed into tables, the manifest is rolled. Over this file system it does it, and the
//! disk stays as it was. Files are looked up in memory first, then below; a file that is opened for
//! writing is copied into memory; a removed one is remembered as gone.
//!
//! Invariant: no call changes anything of the file system below.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{File, Fs, MemFs, OpenMode};

/// Reads what is there, and keeps in memory what is written. Memory that it takes: what is written,
/// which at an open is the log.
#[derive(Debug)]
pub struct OverlayFs {
    below: Arc<dyn Fs>,
    above: MemFs,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Names of the file system below that were removed, renamed or replaced.
    gone: BTreeSet<PathBuf>,
    /// Files of the file system below that have another name now.
    renamed: BTreeMap<PathBuf, PathBuf>,
}

impl OverlayFs {
    /// An overlay on which nothing was written yet.
    pub fn new(below: Arc<dyn Fs>) -> Self {
        Self { below, above: MemFs::new(), state: Mutex::default() }
    }

    /// Where `path` is below, if it is there and not gone.
    fn place_below(&self, path: &Path) -> Option<PathBuf> {
        let state = self.state.lock();
        if let Some(old) = state.renamed.get(path) {
            return Some(old.clone());
        }
        (!state.gone.contains(path)).then(|| path.to_path_buf())
    }

    fn open_below(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let place = self.place_below(path).ok_or(io::ErrorKind::NotFound)?;
        self.below.open(&place, OpenMode::Read)
    }

    /// Copies a file into memory, so that it can be written to.
    fn copy_up(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let below = self.open_below(path)?;
        let mut bytes = vec![0; usize::try_from(below.len()?).unwrap_or(usize::MAX)];
        let read = below.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        let file = self.above.open(path, OpenMode::CreateNew)?;
        file.write_at(0, &bytes)?;
        Ok(file)
    }

    fn forget(&self, path: &Path) {
        let mut state = self.state.lock();
        state.renamed.remove(path);
        state.gone.insert(path.to_path_buf());
    }
}

impl Fs for OverlayFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::CreateNew {
            if self.open_below(path).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            return self.above.open(path, mode);
        }
        match self.above.open(path, mode) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        if mode == OpenMode::Read { self.open_below(path) } else { self.copy_up(path) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.above.rename(from, to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let place = self.place_below(from).ok_or(io::ErrorKind::NotFound)?;
                self.below.open(&place, OpenMode::Read)?;
                let mut state = self.state.lock();
                state.renamed.remove(from);
                state.gone.insert(from.to_path_buf());
                state.gone.insert(to.to_path_buf());
                state.renamed.insert(to.to_path_buf(), place);
                drop(state);
                // What had the name in memory is replaced.
                let _ = self.above.remove(to);
            }
            done => {
                done?;
                self.forget(from);
                self.forget(to);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let above = self.above.remove(path);
        if above.is_err() {
            self.open_below(path)?;
        }
        self.forget(path);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names: BTreeSet<String> = self.above.list(dir)?.into_iter().collect();
        let state = self.state.lock();
        let below = self.below.list(dir).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(e),
        })?;
        names.extend(below.into_iter().filter(|name| !state.gone.contains(&dir.join(name))));
        let renamed = state.renamed.keys().filter(|path| path.parent() == Some(dir));
        names.extend(renamed.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())));
        Ok(names.into_iter().collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.above.create_dir(dir)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.above.lock(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fs: &dyn Fs, path: &str) -> Option<String> {
        let file = fs.open(Path::new(path), OpenMode::Read).ok()?;
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    fn write(fs: &dyn Fs, path: &str, mode: OpenMode, bytes: &[u8]) {
        fs.open(Path::new(path), mode).unwrap().write_at(0, bytes).unwrap();
    }

    #[test]
    fn what_is_below_is_seen_and_never_changed() {
        let disk = MemFs::new();
        disk.create_dir(Path::new("d")).unwrap();
        for name in ["d/a", "d/b", "d/c"] {
            write(&disk, name, OpenMode::CreateNew, name.as_bytes());
        }
        let over = OverlayFs::new(Arc::new(disk.clone()));
        over.create_dir(Path::new("d")).unwrap();
        write(&over, "d/a", OpenMode::Write, b"X");
        write(&over, "d/new", OpenMode::CreateNew, b"new");
        assert!(over.open(Path::new("d/b"), OpenMode::CreateNew).is_err());
        over.rename(Path::new("d/b"), Path::new("d/e")).unwrap();
        over.rename(Path::new("d/new"), Path::new("d/c")).unwrap();
        assert_eq!(over.list(Path::new("d")).unwrap(), ["a", "c", "e"]);
        assert_eq!(text(&over, "d/a").unwrap(), "X/a");
        assert_eq!(text(&over, "d/c").unwrap(), "new");
        assert_eq!(text(&over, "d/e").unwrap(), "d/b");
        assert_eq!(text(&over, "d/b"), None);
        over.remove(Path::new("d/e")).unwrap();
        assert!(over.remove(Path::new("d/e")).is_err());
        assert_eq!(over.list(Path::new("d")).unwrap(), ["a", "c"]);

        assert_eq!(disk.list(Path::new("d")).unwrap(), ["a", "b", "c"]);
        for name in ["d/a", "d/b", "d/c"] {
            assert_eq!(text(&disk, name).unwrap(), name);
        }
    }
}
