//! The first failure that makes the engine unfit to write, kept for all who ask later.
//!
//! After a failed write or sync nobody knows what is on the disk, and a second sync that succeeds
//! proves nothing (the kernel has dropped the dirty pages and marked them clean). So the engine
//! stops: writes fail, reads go on. A background thread that panics poisons through a drop guard.
//!
//! Invariant: once set, the cause never changes.

use std::sync::{Arc, OnceLock};

use crate::error::Error;

/// Whether and why the engine is poisoned.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    cause: OnceLock<Arc<str>>,
}

impl Poison {
    /// Poisons, unless an earlier failure did. Returns what to answer from now on.
    pub(crate) fn set(&self, cause: &str) -> Error {
        Error::Poisoned { cause: Arc::clone(self.cause.get_or_init(|| Arc::from(cause))) }
    }

    /// # Errors
    /// [`Error::Poisoned`] once it is.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.cause.get().map_or(Ok(()), |cause| Err(Error::Poisoned { cause: Arc::clone(cause) }))
    }
}

/// Runs `on_panic` when it is dropped by a panic.
pub(crate) struct PanicGuard<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for PanicGuard<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}
