//! Creating, finding and dropping keyspaces: the changes of the registry, each durable before it is
//! shown.
//!
//! Invariant: the registry of the newest view and the manifest's differ only while a change is
//! under way, and then nobody can write to the keyspace that it is about.

use std::sync::Arc;

use super::{DEFAULT, ID_MAX, Id, Keyspace, MARK, Registry};
use crate::engine::Engine;
use crate::error::Error;
use crate::shared::Shared;
use crate::version::Edit;
use crate::view::View;

/// Keyspaces of one engine. Each is looked at when one is looked for by its name.
const KEYSPACES_MAX: usize = 10_000;
/// Length of a name, in bytes.
const NAME_BYTES_MAX: usize = 255;

impl Engine {
    /// Makes a keyspace. It is durable when this returns, also if batches before it are not yet,
    /// and has the options that [`Config::keyspaces`](crate::Config::keyspaces) gives for its name.
    /// The first one of a directory changes the version of its format: builds from before there
    /// were keyspaces do not open it any more.
    ///
    /// # Errors
    /// [`Error::Keyspace`] when there is one of this name, or can't be, and for the first one when
    /// the default keyspace has keys that begin with the byte 0xFF: then there can't be others
    /// beside it; [`Error::DiskFull`], [`Error::Closed`], [`Error::Corrupt`] when it can't be seen
    /// whether there are such keys: nothing has changed. [`Error::Io`],
    /// [`Error::Poisoned`]: it may or may not be there after the next open.
    pub fn create_keyspace(&self, name: &str) -> Result<Keyspace, Error> {
        let (id, name) = self.shared().create_keyspace(name)?;
        Ok(Keyspace::new(self.clone(), id, name))
    }

    /// The keyspace of this name, if there is one.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<Keyspace> {
        let view = self.shared().view();
        let (id, name) = view.spaces.find(name)?;
        Some(Keyspace::new(self.clone(), id, Arc::clone(name)))
    }

    /// The names of the keyspaces beside the default one, in the order of their creation.
    #[must_use]
    pub fn keyspaces(&self) -> Vec<String> {
        self.shared().view().spaces.names().map(ToString::to_string).collect()
    }

    /// Drops a keyspace with all its keys. That is durable when this returns, as is everything that
    /// was appended before. Batches that name it are refused, reads through handles too; snapshots
    /// and walks that were taken before go on. Its tables are removed by the compaction that comes
    /// next; what of it is in the memtable and in level 0 goes with these.
    ///
    /// # Errors
    /// [`Error::Keyspace`] when there is none of this name. [`Error::DiskFull`]: it is still there.
    /// [`Error::Io`], [`Error::Poisoned`]: it may or may not be there after the next open.
    pub fn drop_keyspace(&self, name: &str) -> Result<(), Error> {
        self.shared().drop_keyspace(name)
    }
}

impl Shared {
    fn create_keyspace(&self, name: &str) -> Result<(Id, Arc<str>), Error> {
        let refused = |what| Err(Error::Keyspace { name: Arc::from(name), what });
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return refused("a name has from 1 to 255 bytes");
        }
        let _one_at_a_time = self.keyspace_changes.lock();
        self.check_open()?;
        let spaces = Arc::clone(&self.view().spaces);
        if spaces.find(name).is_some() {
            return refused("there is a keyspace of this name");
        }
        let id = spaces.next_id.max(DEFAULT + 1);
        if id > ID_MAX || spaces.spaces.len() >= KEYSPACES_MAX {
            return refused("there are too many keyspaces");
        }
        if !spaces.is_on() {
            self.commit.lock().marked_keys_wait = true;
        }
        let made = self.make(&spaces, id, name);
        self.commit.lock().marked_keys_wait = false;
        made.map(|()| (id, Arc::from(name)))
    }

    /// Makes a keyspace durable and shows it. If it is the first, no key that begins with the mark
    /// comes in meanwhile, and that there is none is durable before it: else a deleted one would
    /// come back, as a key of the new keyspace, when the log loses that it was deleted.
    fn make(&self, spaces: &Registry, id: Id, name: &str) -> Result<(), Error> {
        if !spaces.is_on() {
            if let Some(key) = self.snapshot().scan::<&[u8]>(&[MARK][..]..).next() {
                key?;
                let what = "the default keyspace has keys that begin with the byte 0xFF";
                return Err(Error::Keyspace { name: Arc::from(name), what });
            }
            self.sync_appended()?;
        }
        let added = vec![(id, name.to_owned())];
        self.append_to_manifest(&Edit { keyspaces_added: added, ..Edit::default() })?;
        let mut next = spaces.clone();
        next.insert(id, name, &self.config);
        self.show(next);
        Ok(())
    }

    fn drop_keyspace(&self, name: &str) -> Result<(), Error> {
        let _one_at_a_time = self.keyspace_changes.lock();
        self.check_open()?;
        let spaces = Arc::clone(&self.view().spaces);
        let Some((id, _)) = spaces.find(name) else {
            let what = "there is no such keyspace";
            return Err(Error::Keyspace { name: Arc::from(name), what });
        };
        let mut next = Registry::clone(&spaces);
        next.leaving = Some(id);
        self.show(next.clone());
        let edit = Edit { keyspaces_removed: vec![id], ..Edit::default() };
        let dropped = self.sync_appended().and_then(|()| self.append_to_manifest(&edit));
        if dropped.is_ok() {
            next.spaces.remove(&id);
        }
        next.leaving = None;
        self.show(next);
        self.work.add();
        dropped
    }

    fn check_open(&self) -> Result<(), Error> {
        self.poison.check()?;
        if self.commit.lock().closed { Err(Error::Closed) } else { Ok(()) }
    }

    fn append_to_manifest(&self, edit: &Edit) -> Result<(), Error> {
        let appended = self.manifest.lock().append(edit);
        appended.map_err(|e| if e.is_full() { Error::DiskFull } else { self.fail(&e.to_string()) })
    }

    /// Shows another registry to those who come from now on. Under the commit lock, so that a batch
    /// is judged by the registry under which it gets its sequence.
    fn show(&self, spaces: Registry) {
        let _commit = self.commit.lock();
        let mut view = self.view.write();
        *view = Arc::new(View { spaces: Arc::new(spaces), ..View::clone(&view) });
    }
}
