//! Every package that we build with has a licence that we may ship under.
//!
//! The manifest's SPDX expression is evaluated, not compared: `OR` needs one allowed side, `AND`
//! both, and the old `MIT/Apache-2.0` spelling means `OR`. deny.toml holds the same list for
//! cargo-deny.

use super::Finding;
use crate::metadata::Graph;

const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// One finding for each package whose licence is missing, unreadable or not allowed.
pub(super) fn check(graph: &Graph) -> Vec<Finding> {
    graph
        .packages
        .values()
        .filter(|package| !allows(&package.license))
        .map(|package| {
            let place = format!("{} {}", package.name, package.version);
            let licence =
                if package.license.is_empty() { "none named" } else { package.license.as_str() };
            Finding::fail(place, format!("licence not allowed: {licence}"))
        })
        .collect()
}

/// Whether an SPDX expression leaves us a licence that is on the list. What can't be read doesn't.
fn allows(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, at: 0 };
    reader.either() == Some(true) && reader.at == words.len()
}

/// Recursive descent over the words; `None` is a syntax error. Nesting is bounded by the words,
/// which come from manifests that cargo has already accepted.
struct Reader<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl Reader<'_> {
    fn either(&mut self) -> Option<bool> {
        let mut allowed = self.both()?;
        while self.eat("OR") {
            allowed |= self.both()?;
        }
        Some(allowed)
    }

    fn both(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.eat("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.eat("(") {
            let allowed = self.either()?;
            return self.eat(")").then_some(allowed);
        }
        let mut name = (*self.words.get(self.at)?).to_owned();
        self.at += 1;
        if matches!(name.as_str(), ")" | "AND" | "OR" | "WITH") {
            return None;
        }
        if self.eat("WITH") {
            name = format!("{name} WITH {}", self.words.get(self.at)?);
            self.at += 1;
        }
        Some(ALLOWED.contains(&name.as_str()))
    }

    fn eat(&mut self, word: &str) -> bool {
        let is = self.words.get(self.at) == Some(&word);
        self.at += usize::from(is);
        is
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spdx_expressions_mean_what_they_say() {
        let table = [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 / MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-2.0", false),
            ("GPL-2.0 AND (MIT OR Apache-2.0)", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("GPL-2.0 OR MIT AND ISC", true),
            ("", false),
            ("MIT OR", false),
            ("(MIT", false),
            ("MIT)", false),
            ("OR MIT", false),
            ("MIT Apache-2.0", false),
        ];
        for (expression, expected) in table {
            assert_eq!(allows(expression), expected, "{expression}");
        }
    }

    #[test]
    fn the_list_is_sorted_so_that_a_doubled_entry_is_seen() {
        assert!(ALLOWED.is_sorted());
    }
}
