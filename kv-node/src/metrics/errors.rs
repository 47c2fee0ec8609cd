//! How many commands were answered with an error, by the error's first word.
//!
//! The words are Redis's and ours, a fixed list, so that the label has a bound; what is not on it
//! counts as `other`. Counted where the answer is written: whatever the reason, it is seen here.

use std::sync::atomic::{AtomicU64, Ordering};

/// First words that are counted by themselves.
const CODES: [&str; 11] = [
    "ERR",
    "BUSY",
    "NOREPLICAS",
    "INDETERMINATE",
    "UNAVAILABLE",
    "LOADING",
    "MISCONF",
    "OOM",
    "NOAUTH",
    "EXECABORT",
    "WRONGTYPE",
];
/// The label of all others.
const OTHER: &str = "other";

/// The counts.
#[derive(Debug, Default)]
pub struct Errors {
    by_code: [AtomicU64; CODES.len()],
    other: AtomicU64,
}

impl Errors {
    /// An error of this text, which begins with its code, is answered.
    #[cold]
    pub fn note(&self, text: &[u8]) {
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        let known = CODES.iter().zip(&self.by_code).find(|(word, _)| word.as_bytes() == code);
        known.map_or(&self.other, |(_, count)| count).fetch_add(1, Ordering::Relaxed);
    }

    /// Each code with its count.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let known = CODES.into_iter().zip(&self.by_code);
        let all = known.chain([(OTHER, &self.other)]);
        all.map(|(code, count)| (code, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_counts_under_its_first_word_whole() {
        let errors = Errors::default();
        for text in ["ERR no", "BUSY x", "BUSYGROUP y", "UNAVAILABLE", "", "ERR"] {
            errors.note(text.as_bytes());
        }
        let some: Vec<_> = errors.each().filter(|(_, count)| *count > 0).collect();
        assert_eq!(some, [("ERR", 2), ("BUSY", 1), ("UNAVAILABLE", 1), (OTHER, 2)]);
    }
}
