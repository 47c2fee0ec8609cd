//! kv-lsm. As `kv-lsm` a write returns when its ticket is, like everybody's; as `kv-lsm-ticket` it
//! returns with the ticket, as callers do who have other work until it is durable.

use std::path::Path;
use std::sync::Arc;

use kv_lsm::{Batch, Config, Durability, Engine, fs::OsFs};

use super::{Result, Sizes, Store};
use crate::data::{Key, Value};

struct Lsm {
    engine: Engine,
    waits: bool,
}

pub(super) fn open(dir: &Path, sizes: Sizes, waits: bool) -> Result<Box<dyn Store>> {
    let config = Config {
        memtable_bytes_max: sizes.memtable_bytes,
        cache_bytes_max: sizes.cache_bytes as u64,
        // A writer that gets ahead of the disk is to wait, not to be refused.
        stall_ms_max: 60_000,
        ..Config::default()
    };
    Ok(Box::new(Lsm { engine: Engine::open(Arc::new(OsFs::new()), dir, config)?, waits }))
}

impl Lsm {
    fn append(&self, batch: &mut Batch, sync: bool) -> Result<()> {
        batch.set_durability(if sync { Durability::Sync } else { Durability::Os });
        if sync || self.waits {
            self.engine.commit(batch)?;
        } else {
            self.engine.append(batch)?;
        }
        Ok(())
    }
}

impl Store for Lsm {
    fn put(&self, key: &Key, value: &Value, sync: bool) -> Result<()> {
        self.append(Batch::new().put(key, value), sync)
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Result<()> {
        let mut batch = Batch::new();
        for (key, value) in pairs {
            batch.put(key, value);
        }
        self.append(&mut batch, false)
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.engine.get(key)?;
        Ok(found.map(|found| see(&found.value)).is_some())
    }

    fn scan(&self, from: &Key, count: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut seen = 0;
        for pair in self.engine.scan(from.as_slice()..).take(count) {
            let (key, value) = pair?;
            see(&key, &value);
            seen += 1;
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.engine.close()?)
    }
}
