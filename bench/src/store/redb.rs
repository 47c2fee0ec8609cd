//! redb: a copy-on-write B-tree. A commit that is not synced does not even survive the end of the
//! process, and without a sync it never frees a page: every thousandth commit is synced.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{Result, Sizes, Store};
use crate::data::{Key, Value};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");
const COMMITS_PER_SYNC: u64 = 1_000;

struct Redb {
    database: Database,
    commits: AtomicU64,
}

pub(super) fn open(dir: &Path, sizes: Sizes) -> Result<Box<dyn Store>> {
    std::fs::create_dir_all(dir)?;
    let mut builder = Database::builder();
    builder.set_cache_size(sizes.cache_bytes);
    let database = builder.create(dir.join("bench.redb"))?;
    let redb = Redb { database, commits: AtomicU64::new(0) };
    redb.write(&[], true)?;
    Ok(Box::new(redb))
}

impl Redb {
    fn write(&self, pairs: &[(&[u8], &[u8])], sync: bool) -> Result<()> {
        let due = self.commits.fetch_add(1, Ordering::Relaxed).is_multiple_of(COMMITS_PER_SYNC);
        let mut transaction = self.database.begin_write()?;
        let durability = if sync || due { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in pairs {
                table.insert(*key, *value)?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Store for Redb {
    fn put(&self, key: &Key, value: &Value, sync: bool) -> Result<()> {
        self.write(&[(key, value)], sync)
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Result<()> {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        self.write(&pairs, false)
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let found = table.get(key.as_slice())?;
        Ok(found.map(|value| see(value.value())).is_some())
    }

    fn scan(&self, from: &Key, count: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut seen = 0;
        for pair in table.range(from.as_slice()..)?.take(count) {
            let (key, value) = pair?;
            see(key.value(), value.value());
            seen += 1;
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.write(&[], true)
    }
}
