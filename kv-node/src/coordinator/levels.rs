//! Levels: how many copies a request waits for, and where, against the keyspace and this node's
//! zone.
//!
//! What cannot be had is an error, never less than asked. `local-quorum` means the zone of the node
//! that the client speaks to: it goes along where another node does the work. Levels that name
//! zones count primaries only, in sloppy keyspaces too.

use kv_quorum::{Copies, Level};
use kv_ring::Zone;

use super::Scope;
use crate::cluster::record::LevelSetting;
use crate::error::RequestError;

/// What one connection or request asks for: copies, beside the keyspace's defaults, and an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Copies to read; the keyspace's default if none.
    pub read: Option<LevelSetting>,
    /// Copies to write; the keyspace's default if none.
    pub write: Option<LevelSetting>,
    /// The zone that `local-quorum` means; this node's if none.
    pub zone: Option<Zone>,
    /// When its caller stops waiting, on the node's steady clock; none waits as long as the node.
    pub until_ms: Option<u64>,
}

impl Scope {
    /// Copies to read.
    ///
    /// # Errors
    /// `Level` when they can't be had.
    pub(crate) fn read_copies(&self, levels: Levels) -> Result<Copies<Zone>, RequestError> {
        self.copies(levels.read.unwrap_or(self.keyspace.read), levels.zone)
    }

    /// Copies to write.
    ///
    /// # Errors
    /// `Level` when they can't be had.
    pub(crate) fn write_copies(&self, levels: Levels) -> Result<Copies<Zone>, RequestError> {
        self.copies(levels.write.unwrap_or(self.keyspace.write), levels.zone)
    }

    /// Whether fallbacks count: one of elsewhere is no copy of a zone.
    pub(crate) fn counts_fallbacks(&self, copies: Copies<Zone>) -> bool {
        self.keyspace.sloppy && matches!(copies, Copies::Any(_))
    }

    /// A level against the keyspace.
    ///
    /// # Errors
    /// `Level` when it can't be had.
    pub(crate) fn copies(
        &self,
        level: LevelSetting,
        zone: Option<Zone>,
    ) -> Result<Copies<Zone>, RequestError> {
        let own = || self.layouts.newest().spec(self.view.me).map(|spec| spec.zone);
        resolve(level, self.keyspace.n, || zone.or_else(own))
    }
}

/// A level among `n` copies, asked for in a zone.
///
/// # Errors
/// `Level` if more copies are asked for than there are, or the node has no zone.
fn resolve(
    level: LevelSetting,
    n: u8,
    zone: impl FnOnce() -> Option<Zone>,
) -> Result<Copies<Zone>, RequestError> {
    let level = match level {
        LevelSetting::One => Level::One,
        LevelSetting::Quorum => Level::Quorum,
        LevelSetting::All => Level::All,
        LevelSetting::Copies(copies) => Level::Count(copies),
        LevelSetting::LocalQuorum => {
            let none = || RequestError::Level("this node is no member: it has no zone".into());
            return zone().map(Copies::InZone).ok_or_else(none);
        }
        LevelSetting::EachQuorum => return Ok(Copies::InEachZone),
    };
    level.resolve(n).map(Copies::Any).map_err(|_| {
        let asked = match level {
            Level::Count(copies) => copies.to_string(),
            named => format!("{named:?}").to_lowercase(),
        };
        RequestError::Level(format!("{asked} copies can't be had: the keyspace has N={n}"))
    })
}

/// Of `n` copies at least so many hold what a level acknowledged.
pub(crate) fn least(level: LevelSetting, n: u8) -> Result<u8, RequestError> {
    resolve(level, n, || Some(Zone::default())).map(|copies| copies.least(n))
}
