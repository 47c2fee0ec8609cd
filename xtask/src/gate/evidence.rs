//! The table of docs/EVIDENCE.md, read back and written anew, so that one row can be proved again
//! without losing what was proved of the others.
//!
//! Each row says on which day and commit it ran: rows of different commits may stand together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the file says of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) demand: String,
    pub(super) asked: String,
    pub(super) how: String,
    pub(super) outcome: String,
    pub(super) took: String,
    /// Day and commit.
    pub(super) on: String,
    /// Figures that it printed, or how it failed.
    pub(super) notes: Vec<String>,
}

/// The table, by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence(BTreeMap<String, Entry>);

const HEAD: &str = "| row | demand | asked for | how | outcome | time | on |\n\
                    |---|---|---|---|---|---|---|\n";
const COLUMNS: usize = 7;

impl Evidence {
    /// Reads what [`render`](Self::render) wrote; anything else in the text is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for line in text.lines() {
            if let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) {
                let cells: Vec<&str> = cells.split(" | ").collect();
                if let [id, demand, asked, how, outcome, took, on] = cells[..]
                    && id != "row"
                {
                    let entry = Entry {
                        demand: demand.into(),
                        asked: asked.into(),
                        how: how.into(),
                        outcome: outcome.into(),
                        took: took.into(),
                        on: on.into(),
                        notes: Vec::new(),
                    };
                    entries.insert(id.to_owned(), entry);
                }
            } else if let Some((id, note)) =
                line.strip_prefix("- ").and_then(|line| line.split_once(": "))
                && let Some(entry) = entries.get_mut(id)
            {
                entry.notes.push(note.to_owned());
            }
        }
        Self(entries)
    }

    /// What is known of a row now.
    pub(super) fn set(&mut self, id: &str, entry: Entry) {
        self.0.insert(id.to_owned(), entry);
    }

    /// The table and the figures, rows in this order; rows that no longer exist are dropped.
    pub(super) fn render(&self, order: &[&str]) -> String {
        let rows = || order.iter().filter_map(|id| Some((*id, self.0.get(*id)?)));
        let mut text = String::from(HEAD);
        for (id, entry) in rows() {
            let Entry { demand, asked, how, outcome, took, on, .. } = entry;
            let cells: [&str; COLUMNS] = [id, demand, asked, how, outcome, took, on];
            let cells = cells.map(|cell| cell.replace('|', "/"));
            let _infallible = writeln!(text, "| {} |", cells.join(" | "));
        }
        text.push('\n');
        for (id, entry) in rows() {
            for note in &entry.notes {
                let _infallible = writeln!(text, "- {id}: {}", note.replace('\n', " "));
            }
        }
        text
    }

    /// How many rows have each outcome.
    pub(super) fn summary(&self, order: &[&str]) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for id in order {
            let outcome = self.0.get(*id).map_or("not run", |entry| entry.outcome.as_str());
            *counts.entry(outcome).or_default() += 1;
        }
        let words: Vec<String> =
            counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        format!("{} rows: {}.", order.len(), words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(outcome: &str, notes: &[&str]) -> Entry {
        Entry {
            demand: "d".into(),
            asked: "a".into(),
            how: "`cargo x`".into(),
            outcome: outcome.into(),
            took: "1 s".into(),
            on: "2026-01-01 abc".into(),
            notes: notes.iter().map(|&note| note.to_owned()).collect(),
        }
    }

    #[test]
    fn one_row_is_proved_again_and_the_others_stay() {
        let mut evidence = Evidence::default();
        evidence.set("A1", entry("passed", &["0 of 1000: 3 s", "b"]));
        evidence.set("A2", entry("**FAILED**", &[]));
        evidence.set("old", entry("passed", &[]));
        let order = ["A2", "A1", "A3"];
        let text = format!("# Evidence\n\nbefore\n{}\nafter | x |\n", evidence.render(&order));
        let mut read = Evidence::parse(&text);
        read.set("A2", entry("passed", &["c"]));
        let text = read.render(&order);
        assert!(text.contains("| A1 | d | a | `cargo x` | passed | 1 s | 2026-01-01 abc |"));
        assert!(text.contains("- A2: c\n- A1: 0 of 1000: 3 s\n- A1: b\n"));
        assert!(!text.contains("FAILED") && !text.contains("old"));
        assert_eq!(read.summary(&order), "3 rows: 1 not run, 2 passed.");
    }
}
