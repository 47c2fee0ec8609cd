//! fjall: its defaults (LZ4 below the upper levels, 4 KiB blocks, 10 bits a key below level 0).

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Result, Sizes, Store};
use crate::data::{Key, Value};

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

pub(super) fn open(dir: &Path, sizes: Sizes) -> Result<Box<dyn Store>> {
    let database = Database::builder(dir).cache_size(sizes.cache_bytes as u64).open()?;
    let keyspace = database.keyspace("bench", || {
        KeyspaceCreateOptions::default().max_memtable_size(sizes.memtable_bytes as u64)
    })?;
    Ok(Box::new(Fjall { database, keyspace }))
}

impl Store for Fjall {
    fn put(&self, key: &Key, value: &Value, sync: bool) -> Result<()> {
        if sync {
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
            batch.insert(&self.keyspace, key.as_slice(), value.as_slice());
            return Ok(batch.commit()?);
        }
        Ok(self.keyspace.insert(key.as_slice(), value.as_slice())?)
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            batch.insert(&self.keyspace, key.as_slice(), value.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.keyspace.get(key)?;
        Ok(found.map(|value| see(&value)).is_some())
    }

    fn scan(&self, from: &Key, count: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut seen = 0;
        for guard in self.keyspace.range(from.as_slice()..).take(count) {
            let (key, value) = guard.into_inner()?;
            see(&key, &value);
            seen += 1;
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> Result<()> {
        drop(self);
        Ok(())
    }
}
