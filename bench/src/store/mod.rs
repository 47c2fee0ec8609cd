//! One engine behind the few calls that the workloads make.
//!
//! What is asked of each is the same: a write that has returned survives the end of the process
//! (`kill -9`), and with `sync` a power cut. Caches, write buffers, block sizes and bits of the
//! filters are the same; everything else is what the engine's authors chose as defaults.

mod fjall;
mod lsm;
mod redb;
mod surrealkv;

use std::path::Path;

use crate::data::{Key, Value};

/// What may go wrong in an engine: told, not handled.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The sizes that all engines get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) memtable_bytes: usize,
    pub(crate) cache_bytes: usize,
}

/// An open engine.
pub(crate) trait Store: Send + Sync {
    /// Writes one pair.
    fn put(&self, key: &Key, value: &Value, sync: bool) -> Result<()>;
    /// Writes several at once, all or nothing.
    fn put_batch(&self, pairs: &[(Key, Value)]) -> Result<()>;
    /// Shows the value of a key to `see`; says whether there is one.
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool>;
    /// Walks over `count` pairs from `from`; says how many there were.
    fn scan(&self, from: &Key, count: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize>;
    /// Closes it in good order.
    fn close(self: Box<Self>) -> Result<()>;
}

/// The engines by name, ours first.
pub(crate) const NAMES: [&str; 5] = ["kv-lsm", "kv-lsm-ticket", "fjall", "surrealkv", "redb"];

/// Opens the engine called `name` in `dir`, creating it if need be.
pub(crate) fn open(name: &str, dir: &Path, sizes: Sizes) -> Result<Box<dyn Store>> {
    match name {
        "kv-lsm" => lsm::open(dir, sizes, true),
        "kv-lsm-ticket" => lsm::open(dir, sizes, false),
        "fjall" => fjall::open(dir, sizes),
        "surrealkv" => surrealkv::open(dir, sizes),
        "redb" => redb::open(dir, sizes),
        other => Err(format!("no engine is called {other}").into()),
    }
}
