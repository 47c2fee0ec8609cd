//! Rules over one Rust file: its opening `//!`, its length, its functions' lengths, its columns.
//!
//! The text is read line by line, not parsed: rustfmt has already put every item's closing brace at
//! the indentation of its first line, which is all that the measure of a function needs. Tests are
//! last in a file (the house's reading order), so what comes before `#[cfg(test)] mod` is the
//! non-test part.

use super::Finding;

/// From here a file is to be looked at.
const FILE_LINES_WARN: usize = 400;
/// From here it is to be split.
const FILE_LINES_MAX: usize = 600;
const FN_LINES_WARN: usize = 70;
pub(super) const COLUMNS_MAX: usize = 100;

/// Everything that one file does wrong.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !opens_with_doc(text) {
        findings.push(Finding::fail(path, "must open with `//!`: what it is and why it is so"));
    }
    let lines: Vec<&str> = text.lines().collect();
    let code = lines.get(..non_test(path, &lines)).unwrap_or_default();
    let length = code.len();
    if length > FILE_LINES_MAX {
        let what = format!("{length} lines without its tests; {FILE_LINES_MAX} is the most");
        findings.push(Finding::fail(path, what));
    } else if length > FILE_LINES_WARN {
        findings.push(Finding::warn(path, format!("{length} lines without its tests")));
    }
    for (line, name, length) in functions(code) {
        if length > FN_LINES_WARN {
            let what = format!("fn {name} has {length} lines");
            findings.push(Finding::warn(format!("{path}:{line}"), what));
        }
    }
    for (number, line) in lines.iter().enumerate() {
        let columns = line.chars().count();
        // An address can't be broken over lines.
        if columns > COLUMNS_MAX && !line.contains("://") {
            let place = format!("{path}:{}", number + 1);
            findings.push(Finding::fail(place, format!("{columns} columns")));
        }
    }
    findings
}

fn opens_with_doc(text: &str) -> bool {
    text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"))
}

/// How many of the file's lines, from the first, are not tests.
fn non_test(path: &str, lines: &[&str]) -> usize {
    let is_test_file = path.split('/').skip(1).any(|part| part == "tests" || part == "tests.rs");
    if is_test_file {
        return 0;
    }
    lines
        .windows(2)
        .position(|pair| match pair {
            [attribute, item] => {
                *attribute == "#[cfg(test)]" && item.starts_with("mod ") && item.ends_with('{')
            }
            _ => false,
        })
        .unwrap_or(lines.len())
}

/// Line number (from 1), name and length of each function that has a body of several lines.
fn functions<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        if line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        let indent = indentation(line);
        for (offset, later) in lines.iter().enumerate().skip(start + 1) {
            if indentation(later) != indent || later.trim().is_empty() {
                continue;
            }
            let body = later.trim_start();
            if body.starts_with('}') {
                found.push((start + 1, name, offset - start + 1));
                break;
            }
            if body.starts_with(')') && body.ends_with(';') {
                break; // A declaration in a trait.
            }
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    const BEFORE: &[&str] =
        &["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    let mut rest = line.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix("fn ") {
            let end = after.find(['(', '<']).unwrap_or(after.len());
            return after.get(..end);
        }
        let (word, after) = rest.split_once(' ')?;
        if !BEFORE.contains(&word) && !word.starts_with("pub(in") {
            return None;
        }
        rest = after;
    }
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn levels(path: &str, text: &str) -> Vec<Level> {
        check(path, text).into_iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_file_opens_with_a_module_doc() {
        assert_eq!(levels("a/src/lib.rs", "//! Fine.\n"), []);
        assert_eq!(levels("a/src/lib.rs", "\n//! Fine.\n"), []);
        assert_eq!(levels("a/src/lib.rs", "use std::fmt;\n//! Late.\n"), [Level::Fail]);
        assert_eq!(levels("a/src/lib.rs", "// A licence.\n//! Late.\n"), [Level::Fail]);
        assert_eq!(levels("a/src/lib.rs", ""), [Level::Fail]);
    }

    #[test]
    fn length_warns_then_fails_and_tests_are_free() {
        let long = |lines: usize| format!("//! Doc.\n{}", "//\n".repeat(lines - 1));
        assert_eq!(levels("a/src/x.rs", &long(400)), []);
        assert_eq!(levels("a/src/x.rs", &long(401)), [Level::Warn]);
        assert_eq!(levels("a/src/x.rs", &long(600)), [Level::Warn]);
        assert_eq!(levels("a/src/x.rs", &long(601)), [Level::Fail]);
        assert_eq!(levels("a/tests/x.rs", &long(700)), []);
        assert_eq!(levels("a/src/x/tests.rs", &long(700)), []);
        assert_eq!(levels("tests/src/x.rs", &long(700)), [Level::Fail], "a package, not a test");
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", long(10), "//\n".repeat(900));
        assert_eq!(levels("a/src/x.rs", &tested), []);
        let elsewhere = format!("//! Doc.\n#[cfg(test)]\nmod tests;\n{}", "//\n".repeat(700));
        assert_eq!(levels("a/src/x.rs", &elsewhere), [Level::Fail], "`mod tests;` ends nothing");
    }

    #[test]
    fn columns_are_characters_and_addresses_are_excused() {
        let line = |text: String| format!("//! Doc.\n{text}\n");
        assert_eq!(levels("a.rs", &line("é".repeat(100))), []);
        assert_eq!(levels("a.rs", &line("x".repeat(101))), [Level::Fail]);
        assert_eq!(levels("a.rs", &line(format!("// https://{}", "x".repeat(101)))), []);
    }

    #[test]
    fn functions_are_measured_to_their_own_closing_brace() {
        let text = "\
impl A {
    pub(crate) async fn long(
        a: u8,
    ) -> u8 {
        if a > 0 {
            1
        }
    }

    fn short() {}
}
trait B {
    fn declared(
        a: u8,
    ) -> u8;
    fn defaulted(&self) {
        x();
    }
}
";
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(functions(&lines), [(2, "long", 7), (16, "defaulted", 3)]);
    }

    #[test]
    fn a_long_function_warns_with_its_place() {
        let text = format!("//! Doc.\nfn f<T>() {{\n{}}}\n", "    x();\n".repeat(69));
        let found = check("a.rs", &text);
        assert_eq!(found, [Finding::warn("a.rs:2", "fn f has 71 lines")]);
    }
}
