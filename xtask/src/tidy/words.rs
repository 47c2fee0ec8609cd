//! Words that no tracked file may hold: places that exist on one machine only, and the hosts of
//! registries (a build names packages, never where they come from).
//!
//! This file holds the words itself, so it is the one that isn't looked at.

use super::Finding;

const BANNED: &[(&str, &str)] = &[
    ("/root/", "a path of one machine"),
    ("/home/", "a path of one machine"),
    ("/work/", "a path of one machine"),
    ("/Users/", "a path of one machine"),
    ("/tmp/", "a path of one machine; tests make their own temporary directory"),
    ("static.crates.io", "the host of a registry"),
    ("index.crates.io", "the host of a registry"),
    ("registry.npmjs", "the host of a registry"),
    ("pypi.org", "the host of a registry"),
    ("DO NOT COMMIT", "a note to oneself"),
];

/// Each line that holds a banned word.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if path == "xtask/src/tidy/words.rs" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (word, why) in BANNED {
            if line.contains(word) {
                let place = format!("{path}:{}", number + 1);
                findings.push(Finding::fail(place, format!("`{word}`: {why}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_machine_is_found_with_its_line() {
        let found = check("docs/a.md", "fine\ncd /home/me/kv\n");
        assert_eq!(found, [Finding::fail("docs/a.md:2", "`/home/`: a path of one machine")]);
    }

    #[test]
    fn clean_text_passes() {
        assert_eq!(check("a.rs", "//! homework, target/kv, crates.io\n"), []);
    }
}
