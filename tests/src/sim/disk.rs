//! Disks with a power switch: it can be thrown before any change of any file.
//!
//! The nodes' work runs inline, so a cut between two turns of the runtime would never fall between
//! a write and its sync. Here the cut is armed for a number of changes from now, counted over all
//! disks: the change that it falls on does not happen, what [`MemFs::crash`] leaves of each disk
//! is put aside, and everything that the old processes still try fails.
//!
//! A disk may also be in trouble (a sync, a write or a read fails, or it is full), be lost, or be
//! put back to what it was: see [`Trouble`], [`Power::lose`] and [`Power::put_back`].
//!
//! Invariant: after a cut nothing reaches the disk that the next start will find.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use kv_lsm::fs::{File, Fs, MemFs, OpenMode};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The power of all disks of a world.
#[derive(Clone, Debug, Default)]
pub struct Power(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    state: Mutex<State>,
    fell: Notify,
}

#[derive(Debug, Default)]
struct State {
    disks: Vec<Disk>,
    changes: u64,
    armed: Option<Armed>,
}

#[derive(Debug, Default)]
struct Disk {
    medium: MemFs,
    /// Counts the starts: what an earlier process holds is of no use.
    life: u64,
    on: bool,
    trouble: Option<Trouble>,
    full: bool,
    /// Files of this life: a process may leave something alive that would keep a whole disk.
    open: Vec<Weak<PowerFile>>,
}

/// What is wrong with a disk, from its `after`-th use of that kind on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which use fails.
    pub fails: Fails,
    /// Uses of that kind that still succeed.
    pub after: u64,
    /// Uses that fail then, before it is well again.
    pub times: u64,
}

/// A kind of use of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// A sync of a file: what it should have saved is dropped, and reads back until the next cut.
    Sync,
    /// A write, a truncation, a creation: without effect.
    Write,
    /// A read.
    Read,
}

#[derive(Debug)]
struct Armed {
    at_change: u64,
    disks: Vec<usize>,
    seed: u64,
}

impl Power {
    /// Empty disks, all off.
    #[must_use]
    pub fn new(disks: usize) -> Self {
        let power = Self::default();
        power.0.state.lock().disks.resize_with(disks, Disk::default);
        power
    }

    /// Turns a disk on and gives it to a new process.
    #[must_use]
    pub fn on(&self, disk: usize) -> PoweredFs {
        let mut state = self.0.state.lock();
        let life = state.disks.get_mut(disk).map_or(0, |found| {
            found.life += 1;
            found.on = true;
            found.life
        });
        PoweredFs { power: self.clone(), disk, life }
    }

    /// Ends the process that has a disk, and leaves the disk as it is: what was written to the
    /// system is safe there, synced or not.
    pub fn release(&self, disk: usize) {
        if let Some(disk) = self.0.state.lock().disks.get_mut(disk) {
            disk.shut();
        }
    }

    /// Puts a disk into trouble, or out of it.
    pub fn trouble(&self, disk: usize, trouble: Option<Trouble>) {
        if let Some(disk) = self.0.state.lock().disks.get_mut(disk) {
            disk.trouble = trouble;
        }
    }

    /// Fills a disk, or makes room again.
    pub fn fill(&self, disk: usize, full: bool) {
        if let Some(disk) = self.0.state.lock().disks.get_mut(disk) {
            disk.full = full;
        }
    }

    /// What a cut now would leave of a disk: a backup.
    #[must_use]
    pub fn backup(&self, disk: usize, seed: u64) -> MemFs {
        let state = self.0.state.lock();
        state.disks.get(disk).map(|disk| disk.medium.crash(seed)).unwrap_or_default()
    }

    /// A disk that is off is replaced by an empty one.
    pub fn lose(&self, disk: usize) {
        self.put_back(disk, MemFs::new());
    }

    /// A disk that is off is replaced by this one.
    ///
    /// # Panics
    /// It is on.
    pub fn put_back(&self, disk: usize, medium: MemFs) {
        if let Some(disk) = self.0.state.lock().disks.get_mut(disk) {
            assert!(!disk.on, "only a disk that is off is replaced");
            disk.medium = medium;
        }
    }

    /// One directory of a disk that is off is put back to what a backup has of it.
    ///
    /// # Errors
    /// The backup has no such directory.
    pub fn put_back_dir(&self, disk: usize, backup: &MemFs, dir: &Path) -> io::Result<()> {
        let state = self.0.state.lock();
        let Some(disk) = state.disks.get(disk) else { return Ok(()) };
        assert!(!disk.on, "only a disk that is off is changed");
        let names = backup.list(dir)?;
        for name in disk.medium.list(dir)? {
            disk.medium.remove(&dir.join(name))?;
        }
        for name in names {
            let from = backup.open(&dir.join(&name), OpenMode::Read)?;
            let mut bytes = vec![0; from.len()? as usize];
            from.read_at(0, &mut bytes)?;
            let to = disk.medium.open(&dir.join(&name), OpenMode::CreateNew)?;
            to.write_at(0, &bytes)?;
            to.sync_data()?;
        }
        disk.medium.sync_dir(dir)
    }

    /// Whether a disk is on.
    #[must_use]
    pub fn is_on(&self, disk: usize) -> bool {
        self.0.state.lock().disks.get(disk).is_some_and(|disk| disk.on)
    }

    /// Changes of files so far, over all disks.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.state.lock().changes
    }

    /// Cuts the power of these disks when `after` more changes have been made.
    pub fn arm(&self, disks: &[usize], after: u64, seed: u64) {
        let mut state = self.0.state.lock();
        let at_change = state.changes + after;
        state.armed = Some(Armed { at_change, disks: disks.to_vec(), seed });
    }

    /// Cuts it now, if an armed cut has not come.
    pub fn trip(&self) {
        let mut state = self.0.state.lock();
        if let Some(armed) = state.armed.take() {
            state.cut(&armed);
            self.0.fell.notify_waiters();
        }
    }

    /// Returns when the armed cut has come.
    pub async fn fallen(&self) {
        loop {
            let fell = self.0.fell.notified();
            tokio::pin!(fell);
            fell.as_mut().enable();
            if self.0.state.lock().armed.is_none() {
                return;
            }
            fell.await;
        }
    }

    /// The medium, before it is used so; an error when this life is over or the disk is in trouble.
    fn medium(&self, disk: usize, life: u64, usage: Usage) -> io::Result<MemFs> {
        let mut state = self.0.state.lock();
        if usage != Usage::Read {
            state.changes += 1;
            let changes = state.changes;
            if let Some(armed) = state.armed.take_if(|armed| changes > armed.at_change) {
                state.cut(&armed);
                self.0.fell.notify_waiters();
            }
        }
        match state.disks.get_mut(disk) {
            Some(found) if found.on && found.life == life => found.used(usage),
            _ => Err(io::Error::other("the power is off")),
        }
    }
}

/// How a disk is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    Read,
    /// A change that needs no more room.
    Change,
    /// A change that does.
    Grow,
    Sync,
}

impl Disk {
    fn used(&mut self, usage: Usage) -> io::Result<MemFs> {
        let hits = self.trouble.as_mut().filter(|trouble| match trouble.fails {
            Fails::Sync => usage == Usage::Sync,
            Fails::Write => matches!(usage, Usage::Change | Usage::Grow),
            Fails::Read => usage == Usage::Read,
        });
        if let Some(trouble) = hits {
            if trouble.after > 0 {
                trouble.after -= 1;
            } else {
                let fails = trouble.fails;
                trouble.times = trouble.times.saturating_sub(1);
                if trouble.times == 0 {
                    self.trouble = None;
                }
                if fails != Fails::Sync {
                    return Err(io::Error::other("input/output error"));
                }
                self.medium.fail_sync_after(0);
            }
        }
        if self.full && usage == Usage::Grow {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.medium.clone())
    }

    fn shut(&mut self) {
        self.on = false;
        for file in self.open.drain(..).filter_map(|file| file.upgrade()) {
            file.inner.lock().take();
        }
    }
}

impl State {
    fn cut(&mut self, armed: &Armed) {
        for place in &armed.disks {
            let Some(disk) = self.disks.get_mut(*place).filter(|disk| disk.on) else { continue };
            disk.medium = disk.medium.crash(armed.seed.wrapping_add(*place as u64));
            disk.shut();
        }
    }
}

/// A disk as one process sees it.
#[derive(Clone, Debug)]
pub struct PoweredFs {
    power: Power,
    disk: usize,
    life: u64,
}

impl PoweredFs {
    fn read(&self) -> io::Result<MemFs> {
        self.power.medium(self.disk, self.life, Usage::Read)
    }

    fn change(&self, usage: Usage) -> io::Result<MemFs> {
        self.power.medium(self.disk, self.life, usage)
    }
}

impl Fs for PoweredFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let create = mode == OpenMode::CreateNew;
        let medium = if create { self.change(Usage::Grow)? } else { self.read()? };
        let inner = Mutex::new(Some(medium.open(path, mode)?));
        let file = Arc::new(PowerFile { inner, disk: self.clone() });
        let mut state = self.power.0.state.lock();
        if let Some(disk) = state.disks.get_mut(self.disk) {
            disk.open.retain(|file| file.strong_count() > 0);
            disk.open.push(Arc::downgrade(&file));
        }
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Usage::Change)?.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Usage::Change)?.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.read()?.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(Usage::Change)?.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(Usage::Change)?.sync_dir(dir)
    }

    /// A new process gets the disk only when the old one's life is over, so there is nobody to
    /// lock out; and a guard of the medium's would keep all its bytes as long as the process.
    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.read().map(|_| Box::new(()) as Box<dyn Send + Sync>)
    }
}

#[derive(Debug)]
struct PowerFile {
    /// None when the power was cut.
    inner: Mutex<Option<Arc<dyn File>>>,
    disk: PoweredFs,
}

impl PowerFile {
    fn file(&self) -> io::Result<Arc<dyn File>> {
        self.inner.lock().clone().ok_or_else(|| io::Error::other("the power is off"))
    }

    fn changed(&self, usage: Usage) -> io::Result<Arc<dyn File>> {
        self.disk.change(usage)?;
        self.file()
    }
}

impl File for PowerFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.disk.read()?;
        self.file()?.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let grows = offset + bytes.len() as u64 > self.file()?.len()?;
        let usage = if grows { Usage::Grow } else { Usage::Change };
        self.changed(usage)?.write_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.changed(Usage::Sync)?.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.changed(Usage::Change)?.truncate(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(power: &Power) -> (PoweredFs, Arc<dyn File>) {
        let fs = power.on(0);
        fs.create_dir(Path::new("/d")).expect("the power is on");
        let file = fs.open(Path::new("/d/f"), OpenMode::CreateNew).expect("the power is on");
        fs.sync_dir(Path::new("/d")).expect("the power is on");
        (fs, file)
    }

    #[test]
    fn a_cut_falls_on_the_change_it_was_armed_for_and_ends_the_process() {
        let power = Power::new(1);
        let (fs, file) = made(&power);
        power.arm(&[0], 2, 7);
        file.write_at(0, b"synced").expect("the first change");
        file.sync_data().expect("the second");
        file.write_at(6, b" and not").expect_err("the third meets the cut");
        assert!(!power.is_on(0));
        file.sync_data().expect_err("nothing more reaches the disk");
        assert!(fs.list(Path::new("/d")).is_err());

        let again = power.on(0);
        let found = again.open(Path::new("/d/f"), OpenMode::Read).expect("it was synced");
        let mut bytes = [0; 16];
        let len = found.read_at(0, &mut bytes).expect("readable");
        assert_eq!(&bytes[..len], b"synced");
        assert!(fs.list(Path::new("/d")).is_err(), "the old process stays dead");
    }

    #[test]
    fn trouble_fails_what_it_names_so_often_and_a_full_disk_takes_what_needs_no_room() {
        let power = Power::new(1);
        let (fs, file) = made(&power);
        file.write_at(0, b"abc").expect("the power is on");
        power.trouble(0, Some(Trouble { fails: Fails::Sync, after: 1, times: 1 }));
        file.sync_data().expect("the first is well");
        file.write_at(0, b"xyz").expect("a write");
        file.sync_data().expect_err("the second is not");
        file.sync_data().expect("and then it says that all is well");
        power.fill(0, true);
        file.write_at(0, b"def").expect("no more room is needed");
        file.write_at(3, b"g").expect_err("that needs room");
        fs.open(Path::new("/d/g"), OpenMode::CreateNew).expect_err("that too");
        power.trouble(0, Some(Trouble { fails: Fails::Read, after: 0, times: 1 }));
        file.read_at(0, &mut [0]).expect_err("once");
        file.read_at(0, &mut [0]).expect("well again");
    }

    #[test]
    fn a_disk_is_lost_or_put_back_whole_or_in_part() {
        let power = Power::new(1);
        let (fs, file) = made(&power);
        file.write_at(0, b"old").expect("the power is on");
        file.sync_data().expect("the power is on");
        let backup = power.backup(0, 1);
        file.write_at(0, b"newer").expect("the power is on");
        file.sync_data().expect("the power is on");
        power.release(0);
        assert!(fs.list(Path::new("/d")).is_err() && file.len().is_err());
        let len = |power: &Power| {
            let fs = power.on(0);
            let len = fs.open(Path::new("/d/f"), OpenMode::Read).and_then(|file| file.len());
            power.release(0);
            len.ok()
        };
        assert_eq!(len(&power), Some(5));
        power.put_back_dir(0, &backup, Path::new("/d")).expect("it is there");
        assert_eq!(len(&power), Some(3));
        power.lose(0);
        assert_eq!(len(&power), None);
        power.put_back(0, backup);
        assert_eq!(len(&power), Some(3));
    }

    #[test]
    fn what_was_not_synced_may_go() {
        let lost = (0..20).filter(|seed| {
            let power = Power::new(1);
            let (_, file) = made(&power);
            file.write_at(0, b"not synced").expect("the power is on");
            power.arm(&[0], 100, *seed);
            power.trip();
            let found = power.on(0).open(Path::new("/d/f"), OpenMode::Read).expect("it was named");
            found.len().expect("readable") == 0
        });
        let lost = lost.count();
        assert!((1..20).contains(&lost), "{lost} of 20");
    }
}
