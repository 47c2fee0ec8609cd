//! A disk that fills up and gets room again: writes are refused, reads go on, nothing that was
//! durable is lost, and the engine goes on by itself.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::script::open;
use crate::fs::{File, Fs, MemFs, OpenMode};
use crate::{Batch, Config, Engine, Error, StepOutcome};

/// Takes nothing that makes a file larger while it is full.
#[derive(Clone, Debug)]
struct FullFs {
    inner: MemFs,
    full: Arc<AtomicBool>,
}

impl FullFs {
    fn check(&self) -> io::Result<()> {
        let full = self.full.load(Ordering::Relaxed);
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct FullFile {
    inner: Arc<dyn File>,
    disk: FullFs,
}

impl Fs for FullFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::CreateNew {
            self.check()?;
        }
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(FullFile { inner, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock(path)
    }
}

impl File for FullFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.inner.len()? {
            self.disk.check()?;
        }
        self.inner.write_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
}

fn put(engine: &Engine, n: usize) -> Result<crate::Ticket, Error> {
    let mut batch = Batch::new();
    batch.put(format!("{n:05}").as_bytes(), &[n as u8; 900]);
    engine.append(&batch)
}

fn drain(engine: &Engine) {
    while engine.step().unwrap() != StepOutcome::Idle {}
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_by_itself_when_there_is_room() {
    // The disk fills up at different moments: before a flush, a new segment, a compaction.
    for fills_at in (1..120).step_by(7) {
        let disk = MemFs::new();
        let fs = FullFs { inner: disk.clone(), full: Arc::default() };
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        let config = Config::tiny();
        let engine = open(&shared, &config).unwrap();
        for n in 0..fills_at {
            put(&engine, n).unwrap();
            drain(&engine);
        }
        fs.full.store(true, Ordering::Relaxed);
        let mut taken = fills_at;
        let refused = loop {
            match put(&engine, taken) {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
            drain(&engine);
            assert!(taken < fills_at + 200, "it never fills up");
        };
        assert!(matches!(refused, Error::DiskFull), "{refused}");
        assert!(engine.stats().disk_full && engine.stats().poisoned.is_none());
        for n in 0..taken {
            assert!(engine.get(format!("{n:05}").as_bytes()).unwrap().is_some(), "reads go on");
        }
        for _ in 0..5 {
            drain(&engine);
            assert!(matches!(put(&engine, taken), Err(Error::DiskFull)), "nothing is taken");
        }
        // A power cut now loses nothing that was reported durable.
        let durable = engine.durable();
        let cut: Arc<dyn Fs> = Arc::new(disk.crash(fills_at as u64));
        let after = open(&cut, &config).unwrap();
        assert!(after.durable() >= durable, "{:?} of {durable:?}", after.durable());
        drop(after);

        fs.full.store(false, Ordering::Relaxed);
        drain(&engine);
        let ticket = put(&engine, taken).expect("there is room again");
        engine.wait_durable(ticket).unwrap();
        drain(&engine);
        assert!(!engine.stats().disk_full);
        drop(engine);
        let engine = open(&shared, &config).unwrap();
        assert_eq!(engine.scan::<&[u8]>(..).count(), taken + 1);
    }
}
