//! An encoded record, checked once and then read in place.
//!
//! Invariant: a [`RecordView`] exists only for bytes in canonical form, so what reads it needs no
//! checks of its own and cannot fail.

use super::bytes::{Dots, Reader};
use super::{FLAG_END, FLAG_OPERATION, FLAG_REGISTER, FORMAT, VERSION_BYTES};
use crate::dot::{Dot, HybridTime};
use crate::error::Error;
use crate::expiry::Expiry;
use crate::version::{Kind, Version};

#[derive(Clone, Copy)]
pub(crate) struct RecordView<'a> {
    entries: Dots<'a>,
    exceptions: Dots<'a>,
    live: &'a [u8],
    live_count: usize,
}

impl<'a> RecordView<'a> {
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        match reader.u32()? {
            head if head == u32::from(FORMAT) => {}
            head if head as u8 == FORMAT => return Err(Error::Malformed),
            head => return Err(Error::UnknownFormat { version: head as u8 }),
        }
        let live_count = reader.count()?;
        let entry_count = reader.count()?;
        let exception_count = reader.count()?;
        let entries = reader.dots(entry_count)?;
        let exceptions = reader.dots(exception_count)?;
        let live = reader.take(reader.left())?;
        if live_count > live.len() / VERSION_BYTES {
            return Err(Error::Truncated);
        }
        let view = Self { entries, exceptions, live, live_count };
        view.check()?;
        Ok(view)
    }

    fn check(self) -> Result<(), Error> {
        let mut last: Option<Dot> = None;
        for entry in self.entries {
            let ascending = last.is_none_or(|last| last.actor < entry.actor);
            if !ascending || entry.time == HybridTime::ZERO {
                return Err(Error::Malformed);
            }
            last = Some(entry);
        }
        let mut last: Option<Dot> = None;
        for dot in self.exceptions {
            if last.is_some_and(|last| last >= dot) || !self.under_vector(dot) {
                return Err(Error::Malformed);
            }
            last = Some(dot);
        }
        let mut reader = Reader::new(self.live);
        let mut last: Option<Dot> = None;
        for _ in 0..self.live_count {
            let dot = read_version(&mut reader, self.entries, true)?.dot;
            if last.is_some_and(|last| last <= dot) || self.is_excepted(dot) {
                return Err(Error::Malformed);
            }
            last = Some(dot);
        }
        reader.finish()
    }

    pub(crate) const fn entries(self) -> Dots<'a> {
        self.entries
    }

    pub(crate) const fn exceptions(self) -> Dots<'a> {
        self.exceptions
    }

    pub(crate) const fn live_count(self) -> usize {
        self.live_count
    }

    pub(crate) fn live(self) -> Live<'a> {
        Live { reader: Reader::new(self.live), entries: self.entries, left: self.live_count }
    }

    pub(crate) fn find(self, dot: Dot) -> Option<Version<&'a [u8]>> {
        self.live().find(|version| version.dot == dot)
    }

    pub(crate) fn covers(self, dot: Dot) -> bool {
        self.under_vector(dot) && !self.is_excepted(dot)
    }

    /// Entries are few, so they are searched from the front.
    pub(crate) fn under_vector(self, dot: Dot) -> bool {
        let entry = self.entries.into_iter().find(|entry| entry.actor >= dot.actor);
        entry.is_some_and(|entry| entry.actor == dot.actor && dot.time <= entry.time)
    }

    fn is_excepted(self, dot: Dot) -> bool {
        !self.exceptions.is_empty() && self.exceptions.into_iter().any(|hole| hole == dot)
    }
}

/// The live versions of a checked view.
pub(crate) struct Live<'a> {
    reader: Reader<'a>,
    entries: Dots<'a>,
    left: usize,
}

impl<'a> Iterator for Live<'a> {
    type Item = Version<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        read_version(&mut self.reader, self.entries, false).ok()
    }
}

#[inline]
fn read_version<'a>(
    reader: &mut Reader<'a>,
    entries: Dots<'a>,
    strict: bool,
) -> Result<Version<&'a [u8]>, Error> {
    let time = HybridTime::from_bits(reader.u64()?);
    let entry = entries.at(reader.count()?).ok_or(Error::Malformed)?;
    let value_len = reader.count()?;
    let kind = Kind::from_byte(reader.u8()?);
    let flags = reader.u8()?;
    let zero = reader.u16()?;
    let expiry = if flags & FLAG_REGISTER == 0 {
        Expiry::NEVER
    } else {
        let stamp = HybridTime::from_bits(reader.u64()?);
        let end = reader.u64()?;
        if strict && flags & FLAG_END == 0 && end != 0 {
            return Err(Error::Malformed);
        }
        let expires_at_ms = (flags & FLAG_END != 0).then_some(end);
        Expiry { stamp, expires_at_ms }
    };
    let operation = if flags & FLAG_OPERATION == 0 { None } else { Some(reader.u64()?) };
    let bytes = reader.take(value_len)?;
    if strict {
        let known = FLAG_REGISTER | FLAG_END | FLAG_OPERATION;
        let register = flags & FLAG_REGISTER != 0;
        let sound = zero == 0
            && flags & !known == 0
            && register == (expiry != Expiry::NEVER)
            && (register || flags & FLAG_END == 0)
            && (kind != Kind::Tombstone || value_len == 0)
            && time <= entry.time
            && time > HybridTime::ZERO;
        if !sound {
            return Err(Error::Malformed);
        }
    }
    let value = (kind != Kind::Tombstone).then_some(bytes);
    Ok(Version { dot: Dot::new(entry.actor, time), kind, value, expiry, operation })
}
