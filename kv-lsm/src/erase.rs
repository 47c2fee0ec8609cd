//! Deleting many keys by their range.
//!
//! Each key that is there gets a tombstone, batch by batch: the cost is that of the keys, and the
//! space comes back as compaction meets them. There are no range tombstones: every read would have
//! to ask for them.

use std::ops::RangeBounds;

use crate::commit::{Batch, Durability};
use crate::engine::Engine;
use crate::error::Error;
use crate::snapshot::Iter;
use crate::ticket::Ticket;

/// Keys of one batch.
const BATCH_KEYS: usize = 1_000;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many keys.
    pub keys: u64,
    /// When it is durable, so is all of it.
    pub ticket: Ticket,
}

impl Engine {
    /// Deletes the keys of a range that are there when it begins. Not at once: readers may see some
    /// gone and others not yet, and a crash may leave it half done; then it can be done again.
    ///
    /// # Errors
    /// As [`Engine::append`] and of a walk; what was deleted before stays deleted.
    pub fn delete_range<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        durability: Durability,
    ) -> Result<Erased, Error> {
        self.erase(self.scan(range), durability, enter_deletion)
    }

    /// As [`Engine::delete_range`], for the keys that begin with `prefix`.
    ///
    /// # Errors
    /// As [`Engine::delete_range`].
    pub fn delete_prefix(&self, prefix: &[u8], durability: Durability) -> Result<Erased, Error> {
        self.erase(self.scan_prefix(prefix), durability, enter_deletion)
    }

    /// Deletes the keys of a walk, each as `delete` enters it into a batch.
    pub(crate) fn erase(
        &self,
        pairs: Iter,
        durability: Durability,
        delete: impl Fn(&mut Batch, &[u8]),
    ) -> Result<Erased, Error> {
        let mut erased = Erased { keys: 0, ticket: pairs.ticket() };
        let mut batch = Batch::new();
        batch.set_durability(durability);
        let bytes_max = self.shared().config.batch_bytes_max / 2;
        for pair in pairs {
            let (key, _) = pair?;
            if batch.len() == BATCH_KEYS || batch.bytes() + key.len() > bytes_max {
                erased.ticket = self.append(&batch)?;
                batch.clear();
            }
            delete(&mut batch, &key);
            erased.keys += 1;
        }
        if !batch.is_empty() {
            erased.ticket = self.append(&batch)?;
        }
        Ok(erased)
    }
}

fn enter_deletion(batch: &mut Batch, key: &[u8]) {
    batch.delete(key);
}
