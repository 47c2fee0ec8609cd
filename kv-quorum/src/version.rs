//! One version: a dot, what was written under it, and its expiry register.
//!
//! A tombstone is a version without bytes. An expired value *is* a tombstone with the same dot,
//! without a write; once its bytes are dropped it is one in form too. That is why digests look at
//! dots and registers and never at bytes or kind.
//!
//! Invariant: a version has a value exactly when its kind is not [`Kind::Tombstone`].

use crate::dot::Dot;
use crate::expiry::Expiry;

/// What the bytes of a version are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No value: a delete, or an expired value whose bytes are dropped.
    Tombstone,
    /// Opaque bytes.
    String,
    /// Reserved.
    Counter,
    /// Reserved.
    Map,
    /// Reserved.
    Set,
    /// Reserved.
    Zset,
    /// Reserved.
    List,
    /// A kind of a newer release; kept as it is. Made by [`Kind::from_byte`] only.
    Other(u8),
}

impl Kind {
    /// The kind that `byte` stands for.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Tombstone,
            1 => Self::String,
            2 => Self::Counter,
            3 => Self::Map,
            4 => Self::Set,
            5 => Self::Zset,
            6 => Self::List,
            other => Self::Other(other),
        }
    }

    /// The byte that stands for this kind.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Tombstone => 0,
            Self::String => 1,
            Self::Counter => 2,
            Self::Map => 3,
            Self::Set => 4,
            Self::Zset => 5,
            Self::List => 6,
            Self::Other(byte) => byte,
        }
    }
}

/// What is to be minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft<V> {
    pub(crate) kind: Kind,
    pub(crate) value: Option<V>,
    pub(crate) expiry: Expiry,
    pub(crate) operation: Option<u64>,
}

impl<V> Draft<V> {
    /// A string.
    pub const fn string(value: V) -> Self {
        Self::of_kind(Kind::String, value)
    }

    /// A value of `kind`; bytes of kind [`Kind::Tombstone`] are dropped.
    pub const fn of_kind(kind: Kind, value: V) -> Self {
        Self { kind, value: Some(value), expiry: Expiry::NEVER, operation: None }
    }

    /// A delete.
    pub const fn tombstone() -> Self {
        Self { kind: Kind::Tombstone, value: None, expiry: Expiry::NEVER, operation: None }
    }

    /// With an expiry register.
    #[must_use]
    pub fn expiring(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// With the id of the client's operation: siblings with one id are shown as one.
    #[must_use]
    pub fn by_operation(mut self, operation: Option<u64>) -> Self {
        self.operation = operation;
        self
    }

    pub(crate) fn at(self, dot: Dot) -> Version<V> {
        let value = if self.kind == Kind::Tombstone { None } else { self.value };
        Version { dot, kind: self.kind, value, expiry: self.expiry, operation: self.operation }
    }
}

/// One live version of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<V> {
    /// Its name.
    pub dot: Dot,
    /// What the bytes are.
    pub kind: Kind,
    /// The bytes; `None` exactly for [`Kind::Tombstone`].
    pub value: Option<V>,
    /// When it ends.
    pub expiry: Expiry,
    /// The id of the operation that wrote it, if it had one.
    pub operation: Option<u64>,
}

impl<V> Version<V> {
    /// The value at `now_ms`; `None` for a tombstone and for what has expired.
    pub fn value_at(&self, now_ms: u64) -> Option<&V> {
        if self.expiry.is_over(now_ms) { None } else { self.value.as_ref() }
    }
}

impl<V: Clone + AsRef<[u8]>> Version<V> {
    /// Joins two copies of the version with one dot: bytes win over none, the later register wins.
    /// Copies that differ in bytes are damage; the choice between them is the same everywhere.
    /// Says whether anything changed.
    pub(crate) fn join(&mut self, other: &Self) -> bool {
        debug_assert_eq!(self.dot, other.dot, "only copies of one version are joined");
        let mut changed = false;
        let theirs = (other.kind.to_byte(), other.value.as_ref().map(AsRef::as_ref));
        if theirs > (self.kind.to_byte(), self.value.as_ref().map(AsRef::as_ref)) {
            self.kind = other.kind;
            self.value.clone_from(&other.value);
            changed = true;
        }
        if other.expiry > self.expiry {
            self.expiry = other.expiry;
            changed = true;
        }
        if other.operation > self.operation {
            self.operation = other.operation;
            changed = true;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_byte_survives() {
        for byte in 0..=u8::MAX {
            assert_eq!(Kind::from_byte(byte).to_byte(), byte);
        }
    }
}
