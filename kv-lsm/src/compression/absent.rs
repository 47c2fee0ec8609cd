//! In the place of `zstandard` in a build without the feature `zstd`: there are no encoders and no
//! dictionaries, and nothing can be read that was written with them.
//!
//! Nobody comes here with such a block: the configuration that asks for one is refused, and so is
//! the table that has one, by the feature's name.

use super::Kind;

/// Whether this build reads and writes Zstandard.
pub(crate) const IS_BUILT_IN: bool = false;

/// There is none.
#[derive(Debug)]
pub(super) enum Encoder {}

impl Encoder {
    pub(super) fn new(_: u8) -> Option<Self> {
        None
    }

    pub(super) fn use_dictionary(&mut self, _: &[u8]) -> bool {
        match *self {}
    }

    pub(super) fn compress(&mut self, _: &[u8], _: &mut Vec<u8>) -> Option<Kind> {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Dictionary {}

impl Dictionary {
    pub(crate) fn load(_: &[u8]) -> Option<Self> {
        None
    }

    pub(crate) fn size_bytes(&self) -> usize {
        match *self {}
    }
}

pub(crate) fn train(_: &[u8], _: &[usize], _: usize) -> Option<Vec<u8>> {
    None
}

pub(super) fn decompress(_: &[u8], _: usize, _: Option<&Dictionary>) -> Option<Vec<u8>> {
    None
}
