//! Disks with a power switch: it can be thrown before any change of any file.
//!
//! The nodes' work runs inline, so a cut between two turns of the runtime would never fall between
//! a write and its sync. Here the cut is armed for a number of changes from now, counted over all
//! disks: the change that it falls on does not happen, what [`MemFs::crash`] leaves of each disk
//! is put aside, and everything that the old processes still try fails.
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
    /// Files of this life: a process may leave something alive that would keep a whole disk.
    open: Vec<Weak<PowerFile>>,
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

    /// The medium, before a change (`true`) or to be read; an error when this life is over.
    fn medium(&self, disk: usize, life: u64, change: bool) -> io::Result<MemFs> {
        let mut state = self.0.state.lock();
        if change {
            state.changes += 1;
            let changes = state.changes;
            if let Some(armed) = state.armed.take_if(|armed| changes > armed.at_change) {
                state.cut(&armed);
                self.0.fell.notify_waiters();
            }
        }
        match state.disks.get(disk) {
            Some(found) if found.on && found.life == life => Ok(found.medium.clone()),
            _ => Err(io::Error::other("the power is off")),
        }
    }
}

impl State {
    fn cut(&mut self, armed: &Armed) {
        for place in &armed.disks {
            let Some(disk) = self.disks.get_mut(*place).filter(|disk| disk.on) else { continue };
            disk.medium = disk.medium.crash(armed.seed.wrapping_add(*place as u64));
            disk.on = false;
            for file in disk.open.drain(..).filter_map(|file| file.upgrade()) {
                file.inner.lock().take();
            }
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
        self.power.medium(self.disk, self.life, false)
    }

    fn change(&self) -> io::Result<MemFs> {
        self.power.medium(self.disk, self.life, true)
    }
}

impl Fs for PoweredFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let medium = if mode == OpenMode::CreateNew { self.change()? } else { self.read()? };
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
        self.change()?.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.read()?.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.change()?.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change()?.sync_dir(dir)
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

    fn changed(&self) -> io::Result<Arc<dyn File>> {
        self.disk.change()?;
        self.file()
    }
}

impl File for PowerFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file()?.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.changed()?.write_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.changed()?.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.changed()?.truncate(len)
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
