//! An encoded record, checked once and then read in place.
//!
//! Invariant: an [`EncodedRecord`] exists only for bytes in canonical form, so what reads it needs
//! no checks of its own and cannot fail.

use super::bytes::{Dots, Reader};
use super::{FLAG_END, FLAG_OPERATION, FLAG_REGISTER, FORMAT, VERSION_BYTES};
use crate::dot::{Actor, Dot, HybridTime};
use crate::error::Error;
use crate::expiry::Expiry;
use crate::record::fingerprint_chunk;
use crate::version::{Kind, Version};
use core::fmt;

/// An encoded record whose form has been checked. Cheap to copy; reading it allocates nothing.
#[derive(Clone, Copy)]
pub struct EncodedRecord<'a> {
    bytes: &'a [u8],
    entries: Dots<'a>,
    exceptions: Dots<'a>,
    live: &'a [u8],
    live_count: usize,
}

impl<'a> EncodedRecord<'a> {
    /// The record of a key that nobody wrote.
    pub const EMPTY: EncodedRecord<'static> = EncodedRecord {
        bytes: &[FORMAT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        entries: Dots::EMPTY,
        exceptions: Dots::EMPTY,
        live: &[],
        live_count: 0,
    };

    /// Checks `bytes`, all of them. O(entries + live versions), without the values.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownFormat`] or [`Error::Malformed`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
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
        let view = Self { bytes, entries, exceptions, live, live_count };
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

    /// The bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// How many versions are live.
    pub const fn live_len(self) -> usize {
        self.live_count
    }

    /// The latest time that is covered, of any actor: what a clock is shown before it mints over
    /// the record ([`HybridTime::observe`]). Zero for a record that covers nothing.
    pub fn latest(self) -> HybridTime {
        self.entries.into_iter().map(|entry| entry.time).max().unwrap_or(HybridTime::ZERO)
    }

    /// The time up to which dots of `actor` are covered; zero when the actor is not known.
    pub fn covered_until(self, actor: Actor) -> HybridTime {
        self.entries.entry_of(actor).map_or(HybridTime::ZERO, |entry| entry.time)
    }

    /// When collection may first have something to do here: tombstones, what no longer lives, and
    /// more than `entries_max` entries of actors of whom nothing is live, as soon as a mark has
    /// these milliseconds; and values that end, when the clock has the other ones and
    /// `clock_skew_ms_max` more. `None` for what is not here.
    pub fn collectable_at_ms(
        self,
        entries_max: usize,
        clock_skew_ms_max: u64,
    ) -> (Option<u64>, Option<u64>) {
        let (mut by_mark, mut by_clock) = (None::<u64>, None::<u64>);
        let least = |best: Option<u64>, ms: u64| Some(best.map_or(ms, |best| best.min(ms)));
        for version in self.live() {
            let settled = version.dot.time.ms().max(version.expiry.stamp.ms());
            match (version.expiry.expires_at_ms, version.kind) {
                (Some(end), Kind::Tombstone) => {
                    let end = end.saturating_add(clock_skew_ms_max);
                    by_mark = least(by_mark, end.max(settled));
                }
                (Some(end), _) => by_clock = least(by_clock, end),
                (None, Kind::Tombstone) => by_mark = least(by_mark, settled),
                (None, _) => {}
            }
        }
        if self.live_count == 0 || self.entries.len() > self.live_count + entries_max {
            by_mark = least(by_mark, self.latest().ms());
        }
        (by_mark, by_clock)
    }

    /// Feeds `sink` what [`Record::fingerprint`](crate::Record::fingerprint) feeds it for the
    /// same record.
    pub fn fingerprint(self, mut sink: impl FnMut(&[u8])) {
        for version in self.live() {
            sink(&fingerprint_chunk(version.dot, version.expiry));
        }
    }

    pub(crate) const fn entries(self) -> Dots<'a> {
        self.entries
    }

    pub(crate) const fn exceptions(self) -> Dots<'a> {
        self.exceptions
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

    pub(crate) fn under_vector(self, dot: Dot) -> bool {
        self.entries.entry_of(dot.actor).is_some_and(|entry| dot.time <= entry.time)
    }

    fn is_excepted(self, dot: Dot) -> bool {
        !self.exceptions.is_empty() && self.exceptions.contains(dot)
    }
}

impl fmt::Debug for EncodedRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.live().map(|version| version.dot)).finish()
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
