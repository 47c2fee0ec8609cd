//! The parts of a table's file, read one by one and checked: what an open table is made from.
//!
//! Invariant: no memory is taken on the word of a place before that is known to lie in the file.

use std::path::Path;

use super::TableMeta;
use super::filter::{Filter, FilterPolicy};
use super::footer::{BadFooter, FOOTER_BYTES, Footer, decode_properties};
use super::seal::{Handle, unseal};
use crate::compression::Dictionary;
use crate::error::Error;
use crate::fs::File;

/// A file while its parts are read.
pub(super) struct Raw<'a> {
    pub(super) file: &'a dyn File,
    pub(super) path: &'a Path,
    pub(super) file_id: u64,
    pub(super) len: u64,
    pub(super) dictionary: Option<&'a Dictionary>,
}

impl Raw<'_> {
    /// Exactly `len` bytes at `offset`; the place is checked before memory is taken.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(Error::corrupt(self.path, offset, "a block reaches beyond the file"));
        }
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..)
            && !rest.is_empty()
        {
            let read = self
                .file
                .read_at(offset + filled as u64, rest)
                .map_err(|source| Error::io("read", self.path, source))?;
            if read == 0 {
                return Err(Error::corrupt(self.path, offset, "the file ends inside a block"));
            }
            filled += read;
        }
        Ok(bytes)
    }

    pub(super) fn block(&self, handle: Handle) -> Result<Vec<u8>, Error> {
        let stored = self.read(handle.offset, handle.len as usize)?;
        unseal(self.file_id, handle.offset, stored, self.dictionary)
            .map_err(|what| Error::corrupt(self.path, handle.offset, what))
    }

    pub(super) fn footer(&self, at: u64) -> Result<Footer, Error> {
        let bytes = self.read(at, FOOTER_BYTES)?;
        Footer::decode(self.file_id, at, &bytes).map_err(|bad| match bad {
            BadFooter::Version(version) => {
                Error::UnknownFormat { path: self.path.to_path_buf(), version }
            }
            BadFooter::Damage(what) => Error::corrupt(self.path, at, what),
        })
    }

    /// Holds the table's properties against the manifest's `meta`; gives the dictionary's place.
    pub(super) fn properties(&self, footer: &Footer, meta: &TableMeta) -> Result<Handle, Error> {
        let properties = self.block(footer.properties)?;
        let told = decode_properties(self.file_id, footer.zstd, &properties);
        if let Some((told, place)) = told {
            let told = TableMeta { bytes: meta.bytes, checksum: meta.checksum, ..told };
            if told == *meta {
                return Ok(place);
            }
        }
        let what = "the table is not the one that the manifest names";
        Err(Error::corrupt(self.path, footer.properties.offset, what))
    }

    /// The dictionary at `place`, if there is one.
    pub(super) fn load_dictionary(&self, place: Handle) -> Result<Option<Dictionary>, Error> {
        if place.len == 0 {
            return Ok(None);
        }
        let what = "a dictionary that can't be loaded";
        let loaded = Dictionary::load(&self.block(place)?);
        loaded.map(Some).ok_or_else(|| Error::corrupt(self.path, place.offset, what))
    }

    /// The filter, if there is one that one of `policies` made, and the end of the data blocks.
    pub(super) fn filter(
        &self,
        footer: &Footer,
        policies: &[&dyn FilterPolicy],
    ) -> Result<(Option<Box<dyn Filter>>, u64), Error> {
        if footer.filter.len == 0 {
            return Ok((None, footer.index.offset));
        }
        let Handle { offset, .. } = footer.filter;
        let mut raw = self.block(footer.filter)?;
        let made_by = policies.iter().find(|policy| raw.first() == Some(&policy.id()));
        let Some(policy) = made_by else { return Ok((None, offset)) };
        raw.remove(0);
        let filter = policy
            .load(raw)
            .ok_or_else(|| Error::corrupt(self.path, offset, "a filter that can't be loaded"))?;
        Ok((Some(filter), offset))
    }
}
