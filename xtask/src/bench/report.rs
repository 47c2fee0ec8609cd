//! Files of figures, such as docs/PERFORMANCE.md: sections that are replaced one by one.
//!
//! What stands between two marks is written by the verb; what stands outside is a person's (where
//! the time goes, what was tried) and stays.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// What docs/PERFORMANCE.md begins with.
pub(super) const PERFORMANCE: &str = "# Performance\n\nMeasured by `cargo xtask bench redis`, \
                      `bench cluster`, `bench gossip` and `bench lsm`; each writes its own \
                      section.\n";

/// What docs/SCALE.md begins with.
pub(super) const SCALE: &str = "# Scale\n\nMeasured by `cargo xtask bench ring`; membership at \
                      scale stands in PERFORMANCE.md.\n";

/// Replaces one section of the file, or appends it; a new file begins with `header`.
pub(crate) fn write(path: &Path, header: &str, section: &str, markdown: &str) -> Result<()> {
    let before = fs::read_to_string(path).unwrap_or_else(|_| header.to_owned());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
    }
    fs::write(path, replaced(&before, section, markdown)).map_err(Error::io(path))
}

fn replaced(before: &str, section: &str, markdown: &str) -> String {
    let begin = format!("<!-- begin {section} -->");
    let end = format!("<!-- end {section} -->");
    let body = format!("{begin}\n{}\n{end}", markdown.trim_end());
    let old = before.find(&begin).zip(before.find(&end)).filter(|(from, to)| from < to);
    match old.and_then(|(from, to)| before.get(..from).zip(before.get(to + end.len()..))) {
        Some((above, below)) => format!("{above}{body}{below}"),
        None => format!("{}\n\n{body}\n", before.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_appended_then_replaced_and_the_rest_stays() {
        let one = replaced("# P\n", "a", "first\n");
        assert_eq!(one, "# P\n\n<!-- begin a -->\nfirst\n<!-- end a -->\n");
        let two = replaced(&format!("{one}\nWhy: the disk.\n"), "b", "other");
        let three = replaced(&two, "a", "second");
        assert_eq!(
            three,
            "# P\n\n<!-- begin a -->\nsecond\n<!-- end a -->\n\nWhy: the disk.\n\n\
             <!-- begin b -->\nother\n<!-- end b -->\n"
        );
    }
}
