//! The cluster's record: what is decided once, at birth, and the same on every node.
//!
//! Its keyspace settings live here and not in a node's file, so that no two nodes can serve one
//! keyspace under different rules. It is stored and sent as a version byte and postcard, and a
//! node that has one never bootstraps again.

use kv_client::ClusterId;
use serde::{Deserialize, Serialize};

use crate::keys::Keyspace;

/// First byte of an encoded record.
const FORMAT_VERSION: u8 = 1;

/// An encoded record is at most so long: what is longer is not one.
pub const RECORD_BYTES_MAX: usize = 64 * 1_024;

/// How a keyspace treats concurrent writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Concurrent values are kept and shown.
    #[default]
    Siblings,
    /// Every write is blind: the highest dot wins.
    Lww,
}

/// What a keyspace does with commands that need one decision maker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rmw {
    /// They are refused, with this setting named.
    #[default]
    Refuse,
    /// The first live primary decides every write: exact while membership is stable.
    BestEffort,
}

/// How long a copy waits for the disk before it counts; the safest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// It counts when it is synced.
    #[default]
    Sync,
    /// It counts when it is in the log; the log is synced every so often.
    Periodic,
    /// It counts when it is in the log; the operating system syncs when it likes.
    Os,
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Periodic => "periodic",
            Self::Os => "os",
        })
    }
}

/// How many copies: a word or a number, resolved against N when it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelSetting {
    /// One copy.
    One,
    /// A majority of N.
    #[default]
    Quorum,
    /// All N.
    All,
    /// Exactly so many.
    Copies(u8),
    /// A majority of those in the zone of the node that is asked.
    LocalQuorum,
    /// A majority of those in each zone.
    EachQuorum,
}

/// The settings of one keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceSettings {
    /// Its number, in every storage key.
    pub id: Keyspace,
    /// Its name.
    pub name: String,
    /// Copies of each pair.
    pub n: u8,
    /// Default copies to read.
    pub read: LevelSetting,
    /// Default copies to write.
    pub write: LevelSetting,
    /// Concurrent writes.
    pub mode: Mode,
    /// Whether fallbacks stand in for primaries that are down.
    pub sloppy: bool,
    /// Promise commands.
    pub rmw: Rmw,
    /// What a copy waits for.
    pub durability: Durability,
}

impl Default for KeyspaceSettings {
    /// Keyspace 0: three copies, majorities, siblings.
    fn default() -> Self {
        Self {
            id: crate::keys::DEFAULT_KEYSPACE,
            name: "default".into(),
            n: 3,
            read: LevelSetting::default(),
            write: LevelSetting::default(),
            mode: Mode::default(),
            sloppy: true,
            rmw: Rmw::default(),
            durability: Durability::default(),
        }
    }
}

/// The record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The cluster's id, random.
    pub id: ClusterId,
    /// Its name, for people.
    pub name: String,
    /// Partitions at birth: a power of two up to 16384.
    pub partitions: u16,
    /// The keyspaces, by id.
    pub keyspaces: Vec<KeyspaceSettings>,
    /// Bytes of key and value of one pair at most.
    pub pair_bytes_max: u32,
    /// Seeds fingerprints of records: the same on all replicas, unknown to clients.
    pub digest_key: u64,
    /// Seals contexts.
    pub context_key: [u8; 32],
}

impl std::fmt::Debug for ClusterRecord {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("partitions", &self.partitions)
            .field("keyspaces", &self.keyspaces)
            .field("pair_bytes_max", &self.pair_bytes_max)
            .finish_non_exhaustive()
    }
}

impl ClusterRecord {
    /// The settings of a keyspace.
    pub fn keyspace(&self, id: Keyspace) -> Option<&KeyspaceSettings> {
        self.keyspaces.iter().find(|keyspace| keyspace.id == id)
    }

    /// Whether a node that stores with `own` durability can keep what every keyspace promises; if
    /// not, why. One that is safer than it must be may.
    ///
    /// # Errors
    /// What the operator has to change.
    pub fn check_durability(&self, own: Durability) -> Result<(), String> {
        let promises = self.keyspaces.iter().find(|keyspace| keyspace.durability < own);
        promises.map_or(Ok(()), |keyspace| {
            Err(format!(
                "storage.durability: this node stores with `{own}`, and keyspace `{}` of cluster \
                 `{}` promises `{}`: set storage.durability = \"{}\"",
                keyspace.name, self.name, keyspace.durability, keyspace.durability
            ))
        })
    }

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT_VERSION]).expect("serialising to memory doesn't fail")
    }

    /// Reads a record back; `None` for anything that isn't one in this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, body) = bytes.split_first()?;
        if *version != FORMAT_VERSION || bytes.len() > RECORD_BYTES_MAX {
            return None;
        }
        let (record, rest) = postcard::take_from_bytes::<Self>(body).ok()?;
        let sound = rest.is_empty()
            && record.partitions.is_power_of_two()
            && record.partitions <= 16_384
            && record.keyspaces.iter().all(|keyspace| keyspace.n > 0);
        sound.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_that_waits_for_less_than_was_promised_is_told() {
        let promised = |durability| ClusterRecord {
            id: ClusterId(1),
            name: "c".into(),
            partitions: 64,
            keyspaces: vec![KeyspaceSettings { durability, ..KeyspaceSettings::default() }],
            pair_bytes_max: 1_024,
            digest_key: 1,
            context_key: [0; 32],
        };
        let (sync, os) = (promised(Durability::Sync), promised(Durability::Os));
        let told = sync.check_durability(Durability::Os).expect_err("less than promised");
        assert!(told.contains("set storage.durability = \"sync\""), "{told}");
        assert!(sync.check_durability(Durability::Periodic).is_err());
        assert_eq!(sync.check_durability(Durability::Sync), Ok(()));
        assert_eq!(os.check_durability(Durability::Sync), Ok(()), "more is no contradiction");
    }
}
