//! `tidy --fix`: folds comments that are wider than a line may be.
//!
//! rustfmt (stable) leaves comments alone, so this is the one rule that a machine can mend. Only a
//! paragraph with a line over the bound is folded; code fences, tables, headings and indented text
//! stay as they are, and an item of a list keeps its hanging indent.

use super::source::COLUMNS_MAX;

/// The text with its wide comments folded; none when nothing has to change.
pub(super) fn fold(text: &str) -> Option<String> {
    let mut out: Vec<String> = Vec::new();
    let mut paragraph = Paragraph::default();
    let mut fenced = false;
    for line in text.lines() {
        let Some((lead, body)) = comment(line) else {
            paragraph.end(&mut out);
            fenced = false;
            out.push(line.to_owned());
            continue;
        };
        let is_fence = body.trim_start().starts_with("```");
        let kept = fenced || is_fence || is_kept(body);
        fenced ^= is_fence;
        if kept {
            paragraph.end(&mut out);
            out.push(line.to_owned());
        } else {
            if !paragraph.goes_on(lead, body) {
                paragraph.end(&mut out);
            }
            paragraph.push(lead, line, body);
        }
    }
    paragraph.end(&mut out);
    let mut folded = out.join("\n");
    folded.push('\n');
    (folded != text).then_some(folded)
}

/// Lines of one comment that may be folded together.
#[derive(Default)]
struct Paragraph<'a> {
    /// Indentation and marker, `    ///`.
    lead: &'a str,
    /// What stands before the text of every line but the first: the width of a list's marker.
    hang: usize,
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Paragraph<'a> {
    fn goes_on(&self, lead: &str, body: &str) -> bool {
        let indent = body.len() - body.trim_start().len();
        self.lead == lead && !self.lines.is_empty() && item(body) == 0 && indent == self.hang
    }

    fn push(&mut self, lead: &'a str, line: &'a str, body: &'a str) {
        if self.lines.is_empty() {
            self.lead = lead;
            self.hang = item(body);
        }
        self.lines.push((line, body));
    }

    fn end(&mut self, out: &mut Vec<String>) {
        let lines = std::mem::take(&mut self.lines);
        if lines.iter().all(|(line, _)| line.chars().count() <= COLUMNS_MAX) {
            out.extend(lines.iter().map(|(line, _)| (*line).to_owned()));
            return;
        }
        let mut current = String::new();
        for word in unbroken(lines.iter().flat_map(|(_, body)| body.split_whitespace())) {
            let width = current.chars().count() + 1 + word.chars().count();
            if current.is_empty() {
                current = format!("{} {word}", self.lead);
            } else if width <= COLUMNS_MAX {
                current.push(' ');
                current.push_str(&word);
            } else {
                out.push(current);
                current = format!("{} {}{word}", self.lead, " ".repeat(self.hang));
            }
        }
        out.push(current);
    }
}

/// Joins what must stay on one line: code between backticks, and a sign that would be a list's
/// marker if a line began with it.
fn unbroken<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for word in words {
        match joined.last_mut() {
            Some(last) if last.matches('`').count() % 2 == 1 || is_sign(word) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => joined.push(word.to_owned()),
        }
    }
    joined
}

fn is_sign(word: &str) -> bool {
    matches!(word, "-" | "*" | "+" | "|" | "#")
}

/// Splits a line that is a comment and nothing else into its lead and its text.
fn comment(line: &str) -> Option<(&str, &str)> {
    let start = line.len() - line.trim_start().len();
    let rest = line.get(start..)?;
    let marker = ["//!", "///", "//"].into_iter().find(|marker| rest.starts_with(marker))?;
    let (lead, body) = line.split_at_checked(start + marker.len())?;
    match body.strip_prefix(' ') {
        Some(body) => Some((lead, body)),
        None if body.is_empty() => Some((lead, body)),
        None => None,
    }
}

/// Text whose line breaks mean something.
fn is_kept(body: &str) -> bool {
    let trimmed = body.trim_start();
    let nested = trimmed.len() < body.len() && item(trimmed) > 0;
    trimmed.is_empty() || nested || trimmed.starts_with(['|', '#']) || body.starts_with("    ")
}

/// The width of a list's marker that the text begins with; 0 when it begins with none.
fn item(body: &str) -> usize {
    if body.starts_with("- ") || body.starts_with("* ") {
        return 2;
    }
    let digits = body.chars().take_while(char::is_ascii_digit).count();
    if digits > 0 && body.get(digits..).is_some_and(|rest| rest.starts_with(". ")) {
        return digits + 2;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> String {
        vec!["word"; count].join(" ")
    }

    #[test]
    fn a_wide_paragraph_is_folded_whole_and_its_neighbours_stay() {
        let text = format!("/// Short.\n///\n/// {}\n/// tail\nfn f() {{}}\n", words(22));
        let expected =
            format!("/// Short.\n///\n/// {}\n/// {} tail\nfn f() {{}}\n", words(19), words(3));
        assert_eq!(fold(&text), Some(expected));
    }

    #[test]
    fn what_is_narrow_stays_as_it_was_broken() {
        assert_eq!(fold("//! One\n//! two.\nuse a;\n"), None);
    }

    #[test]
    fn lists_hang_and_items_stay_apart() {
        let text = format!("    // - {}\n    //   more\n    // - two\n", words(21));
        let expected =
            format!("    // - {}\n    //   {} more\n    // - two\n", words(18), words(3));
        assert_eq!(fold(&text), Some(expected));
    }

    #[test]
    fn fences_tables_and_code_stay() {
        let wide = words(30);
        let text = format!(
            "//! ```text\n//! {wide}\n//! ```\n//! | {wide} |\n//!   - {wide}\n\
             let a = \"// {wide}\";\n"
        );
        assert_eq!(fold(&text), None);
    }

    #[test]
    fn code_and_signs_are_not_torn() {
        let words = "a `b c d` e - f".split_whitespace();
        assert_eq!(unbroken(words), ["a", "`b c d`", "e -", "f"]);
    }

    #[test]
    fn folding_twice_changes_nothing() {
        let once = fold(&format!("//! {}\n//! x\n", words(50))).unwrap();
        assert_eq!(fold(&once), None);
        assert!(once.lines().all(|line| line.chars().count() <= COLUMNS_MAX));
    }
}
