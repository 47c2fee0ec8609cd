//! surrealkv: blocks of 4 KiB, as the others have, and Snappy, the fastest compression that it has.
//!
//! It checks for conflicts, so two blind writes of one hot key may fail: such a write is tried
//! again.

use std::path::Path;

use surrealkv::{
    CompressionType, Durability, Error, LSMIterator, Mode, Options, Tree, TreeBuilder,
};
use tokio::runtime::Runtime;

use super::{Result, Sizes, Store};
use crate::data::{Key, Value};

struct Surreal {
    runtime: Runtime,
    tree: Tree,
}

pub(super) fn open(dir: &Path, sizes: Sizes) -> Result<Box<dyn Store>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = Options::new()
        .with_path(dir.to_path_buf())
        .with_block_size(4 << 10)
        .with_max_memtable_size(sizes.memtable_bytes)
        .with_block_cache_capacity(sizes.cache_bytes as u64)
        .with_compression_per_level(vec![CompressionType::SnappyCompression]);
    let tree = {
        let _inside = runtime.enter();
        TreeBuilder::with_options(options).build()?
    };
    Ok(Box::new(Surreal { runtime, tree }))
}

impl Surreal {
    fn write(&self, pairs: &[(&[u8], &[u8])], sync: bool) -> Result<()> {
        loop {
            let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?;
            if sync {
                transaction.set_durability(Durability::Immediate);
            }
            for (key, value) in pairs {
                transaction.set(*key, *value)?;
            }
            match self.runtime.block_on(transaction.commit()) {
                Err(Error::TransactionWriteConflict | Error::TransactionRetry) => {}
                done => return Ok(done?),
            }
        }
    }
}

impl Store for Surreal {
    fn put(&self, key: &Key, value: &Value, sync: bool) -> Result<()> {
        self.write(&[(key, value)], sync)
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Result<()> {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        self.write(&pairs, false)
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let found = transaction.get(key.as_slice())?;
        Ok(found.map(|value| see(&value)).is_some())
    }

    fn scan(&self, from: &Key, count: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut iter = transaction.scan(from.as_slice()..)?;
        let mut seen = 0;
        let mut valid = iter.seek_first()?;
        while valid && seen < count {
            see(iter.key().user_key(), &iter.value_ref()?);
            seen += 1;
            if seen < count {
                valid = iter.next()?;
            }
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}
