//! A file system in memory that knows what a power cut may do to it.
//!
//! Each file keeps what was synced and, in order, what was changed since; each directory likewise.
//! [`MemFs::crash`] draws from a seed which of the unsynced changes reached the medium: a write
//! whole, not at all, or as a prefix or any subset of its 512-byte sectors, each write on its own;
//! of a directory's creations, renames and removals a prefix. A sync that fails drops the dirty
//! pages and marks them clean, as Linux does: they read back until the crash, and no later sync
//! saves them.
//!
//! Invariant: what a successful sync covered is in every disk that `crash` returns. Directories
//! themselves are durable at once, a simplification.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{File, Fs, OpenMode};

/// The unit that a device writes as a whole, in bytes.
const SECTOR_BYTES: u64 = 512;

/// A file system in memory with the crash semantics of a disk. Clones share the disk.
#[derive(Clone, Debug, Default)]
pub struct MemFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<u64, Inode>,
    dirs: BTreeMap<PathBuf, Dir>,
    locks: BTreeSet<PathBuf>,
    next_inode: u64,
    /// Successful syncs until one fails.
    sync_failure_in: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    visible: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    /// Cloned into every handle: says whether there are any.
    handles: Arc<()>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate(u64),
}

#[derive(Clone, Debug, Default)]
struct Dir {
    visible: BTreeMap<String, u64>,
    synced: BTreeMap<String, u64>,
    unsynced: Vec<Rename>,
}

/// A change of a directory: creation (no `from`), removal (no `to`), or rename.
#[derive(Clone, Debug)]
struct Rename {
    from: Option<String>,
    to: Option<(String, u64)>,
}

impl MemFs {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk as it may be found after a power cut now. The same seed on the same history gives
    /// the same disk. This disk is left as it is. Takes time in proportion to the bytes stored.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let disk = self.disk.lock();
        let mut random = SplitMix(seed);
        let mut after = Disk { next_inode: disk.next_inode, ..Disk::default() };
        for (path, dir) in &disk.dirs {
            let mut names = dir.synced.clone();
            let kept = random.below(dir.unsynced.len() as u64 + 1);
            for rename in dir.unsynced.iter().take(kept as usize) {
                rename.apply(&mut names);
            }
            let found = Dir { visible: names.clone(), synced: names, unsynced: Vec::new() };
            after.dirs.insert(path.clone(), found);
        }
        for (&number, inode) in &disk.files {
            let mut bytes = inode.synced.clone();
            for change in &inode.unsynced {
                change.survive(&mut bytes, &mut random);
            }
            if after.dirs.values().any(|dir| dir.visible.values().any(|&n| n == number)) {
                let found = Inode { visible: bytes.clone(), synced: bytes, ..Inode::default() };
                after.files.insert(number, found);
            }
        }
        Self { disk: Arc::new(Mutex::new(after)) }
    }

    /// Lets `nth` more calls of `sync_data` succeed (0: none) and the one after them fail with
    /// `EIO`, once. The pages that it would have written are lost and count as clean.
    pub fn fail_sync_after(&self, nth: u64) {
        self.disk.lock().sync_failure_in = Some(nth);
    }

    /// Flips one bit of a file in place, on the medium and in what is read: damage for tests.
    ///
    /// # Errors
    /// When the file does not exist or has no such byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let number = disk.lookup(path)?;
        let inode = disk.inode(number)?;
        let mask = 1_u8 << (bit % 8);
        for bytes in [&mut inode.visible, &mut inode.synced] {
            if let Some(at) = bytes.get_mut(byte as usize) {
                *at ^= mask;
            }
        }
        Ok(())
    }

    /// Bytes that all files hold.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.disk.lock().files.values().map(|inode| inode.visible.len() as u64).sum()
    }
}

impl Fs for MemFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk.lock();
        let number = match mode {
            OpenMode::Read | OpenMode::Write => disk.lookup(path)?,
            OpenMode::CreateNew => {
                if disk.lookup(path).is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                let number = disk.next_inode;
                let (dir, name) = disk.dir(path)?;
                dir.change(Rename { from: None, to: Some((name, number)) });
                disk.next_inode += 1;
                disk.files.insert(number, Inode::default());
                number
            }
        };
        let handle = Arc::clone(&disk.inode(number)?.handles);
        Ok(Arc::new(MemFile { disk: Arc::clone(&self.disk), number, _handle: handle }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let number = disk.lookup(from)?;
        let (_, old) = split(from)?;
        let (dir, new) = disk.dir(to)?;
        dir.change(Rename { from: Some(old), to: Some((new, number)) });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.lookup(path)?;
        let (dir, name) = disk.dir(path)?;
        dir.change(Rename { from: Some(name), to: None });
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk.lock();
        let dir = disk.dirs.get(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok(dir.visible.keys().cloned().collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        for ancestor in dir.ancestors().filter(|a| !a.as_os_str().is_empty()) {
            disk.dirs.entry(ancestor.to_path_buf()).or_default();
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let dir = disk.dirs.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
        dir.synced = dir.visible.clone();
        dir.unsynced.clear();
        disk.drop_nameless();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut disk = self.disk.lock();
        if !disk.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { disk: Arc::clone(&self.disk), path: path.to_path_buf() }))
    }
}

#[derive(Debug)]
struct MemFile {
    disk: Arc<Mutex<Disk>>,
    number: u64,
    _handle: Arc<()>,
}

impl File for MemFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        let bytes = &disk.inode(self.number)?.visible;
        let from = bytes.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), from.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let inode = disk.inode(self.number)?;
        write(&mut inode.visible, offset, bytes);
        inode.unsynced.push(Change::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let fails = match &mut disk.sync_failure_in {
            Some(0) => {
                disk.sync_failure_in = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let inode = disk.inode(self.number)?;
        let unsynced = std::mem::take(&mut inode.unsynced);
        if fails {
            return Err(io::Error::other("input/output error"));
        }
        for change in unsynced {
            change.apply(&mut inode.synced);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inode(self.number)?.visible.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let inode = disk.inode(self.number)?;
        inode.visible.resize(len as usize, 0);
        inode.unsynced.push(Change::Truncate(len));
        Ok(())
    }
}

#[derive(Debug)]
struct Lock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.path);
    }
}

impl Disk {
    fn dir(&mut self, path: &Path) -> io::Result<(&mut Dir, String)> {
        let (parent, name) = split(path)?;
        let dir = self.dirs.get_mut(parent).ok_or(io::ErrorKind::NotFound)?;
        Ok((dir, name))
    }

    fn lookup(&mut self, path: &Path) -> io::Result<u64> {
        let (dir, name) = self.dir(path)?;
        dir.visible.get(&name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Frees the files that have no name, before or after a crash, and no handle.
    fn drop_nameless(&mut self) {
        let mut named: BTreeSet<u64> = BTreeSet::new();
        for dir in self.dirs.values() {
            named.extend(dir.visible.values().chain(dir.synced.values()));
            named.extend(dir.unsynced.iter().filter_map(|r| r.to.as_ref().map(|(_, n)| *n)));
        }
        self.files.retain(|number, inode| {
            named.contains(number) || Arc::strong_count(&inode.handles) > 1
        });
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Dir {
    fn change(&mut self, rename: Rename) {
        rename.apply(&mut self.visible);
        self.unsynced.push(rename);
    }
}

impl Rename {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some((to, number)) = &self.to {
            names.insert(to.clone(), *number);
        }
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(file, *offset, bytes),
            Self::Truncate(len) => file.resize(*len as usize, 0),
        }
    }

    /// Applies what a power cut leaves of this change.
    fn survive(&self, file: &mut Vec<u8>, random: &mut SplitMix) {
        match (random.below(4), self) {
            (0, _) => {}
            (1, Self::Write { offset, bytes }) => {
                let end = offset + bytes.len() as u64;
                let sectors = end.div_ceil(SECTOR_BYTES) - offset / SECTOR_BYTES;
                let cut = (offset / SECTOR_BYTES + random.below(sectors + 1)) * SECTOR_BYTES;
                let kept = cut.clamp(*offset, end) - offset;
                write(file, *offset, bytes.get(..kept as usize).unwrap_or_default());
            }
            (2, Self::Write { offset, bytes }) => {
                let end = offset + bytes.len() as u64;
                for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
                    let from = (sector * SECTOR_BYTES).max(*offset);
                    let to = ((sector + 1) * SECTOR_BYTES).min(end);
                    let part = (from - offset) as usize..(to - offset) as usize;
                    if random.below(2) == 0 {
                        write(file, from, bytes.get(part).unwrap_or_default());
                    }
                }
            }
            _ => self.apply(file),
        }
    }
}

fn split(path: &Path) -> io::Result<(&Path, String)> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().and_then(|n| n.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok((parent, name.to_owned()))
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if file.len() < to {
        file.resize(to, 0);
    }
    if let Some(at) = file.get_mut(from..to) {
        at.copy_from_slice(bytes);
    }
}

/// The `SplitMix64` generator (Steele, Lea, Flood 2014): enough for choosing what survives.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fs: &MemFs, path: &str) -> io::Result<Vec<u8>> {
        let file = fs.open(Path::new(path), OpenMode::Read)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn synced_bytes_and_names_survive_every_crash_and_unsynced_ones_some() {
        let fs = MemFs::new();
        let dir = Path::new("/d");
        fs.create_dir(dir).unwrap();
        let file = fs.open(Path::new("/d/a"), OpenMode::CreateNew).unwrap();
        file.write_at(0, &[1; 2048]).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(dir).unwrap();
        file.write_at(0, &[2; 2048]).unwrap();
        fs.open(Path::new("/d/b"), OpenMode::CreateNew).unwrap();
        fs.rename(Path::new("/d/a"), Path::new("/d/c")).unwrap();

        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let after = fs.crash(seed);
            let names = after.list(dir).unwrap();
            let path = if names.contains(&"c".to_owned()) { "/d/c" } else { "/d/a" };
            let bytes = read(&after, path).unwrap();
            assert_eq!(bytes.len(), 2048);
            for sector in bytes.chunks(512) {
                assert!(sector.iter().all(|&b| b == sector[0]), "torn inside a sector");
            }
            let changed: Vec<u8> = bytes.iter().step_by(512).copied().collect();
            seen.insert((names, changed));
            assert_eq!(read(&fs.crash(seed), path).unwrap(), bytes, "same seed, other disk");
        }
        // Three states of the directory, sixteen of the file's four sectors; some are rare.
        let of_file: BTreeSet<_> = seen.iter().map(|(_, changed)| changed).collect();
        assert!(of_file.len() >= 14 && seen.len() > 24, "{seen:?}");
    }

    #[test]
    fn a_failed_sync_loses_its_pages_for_good() {
        let fs = MemFs::new();
        fs.create_dir(Path::new("/d")).unwrap();
        let file = fs.open(Path::new("/d/a"), OpenMode::CreateNew).unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        fs.fail_sync_after(0);
        file.write_at(0, b"lost").unwrap();
        file.sync_data().unwrap_err();
        assert_eq!(read(&fs, "/d/a").unwrap(), b"lost");
        file.sync_data().unwrap();
        for seed in 0..20 {
            assert_eq!(read(&fs.crash(seed), "/d/a").unwrap(), b"");
        }
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let fs = MemFs::new();
        let held = fs.lock(Path::new("/l")).unwrap();
        assert_eq!(fs.lock(Path::new("/l")).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        fs.lock(Path::new("/l")).unwrap();
    }
}
