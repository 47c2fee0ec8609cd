//! What the README shows off with must be what was measured: every row of its table of figures
//! stands in docs/PERFORMANCE.md, which `cargo xtask bench redis` writes.

use super::Finding;

const PATH: &str = "README.md";
const BEGIN: &str = "<!-- begin redis -->";
const END: &str = "<!-- end redis -->";
/// The README's columns, and what the bench calls them.
const COLUMNS: [(&str, &str); 6] = [
    ("command", "command"),
    ("pipeline", "-P"),
    ("Redis op/s", "Redis op/s"),
    ("kv op/s", "ours op/s"),
    ("Redis p99 ms", "Redis p99 ms"),
    ("kv p99 ms", "ours p99 ms"),
];

/// Rows of the README that were not measured so, or that it has none.
pub(super) fn figures(readme: &str, performance: &str) -> Vec<Finding> {
    let measured = performance
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map_or_else(Vec::new, |(section, _)| table(section, |(_, theirs)| theirs));
    let shown = table(readme, |(ours, _)| ours);
    if shown.is_empty() {
        return vec![Finding::fail(PATH, "has no table of figures any more")];
    }
    let unknown = shown.into_iter().filter(|row| !measured.contains(row)).map(|row| {
        let what = format!("`{}` is not a row of docs/PERFORMANCE.md", row.join(" | "));
        Finding::fail(PATH, what)
    });
    unknown.collect()
}

/// The first table that has all columns, in the order of `COLUMNS`, without its head.
fn table(text: &str, name: fn((&'static str, &'static str)) -> &'static str) -> Vec<Vec<String>> {
    let mut lines = text.lines().map(cells);
    let head = lines.by_ref().find_map(|head| {
        let at = |column| head.iter().position(|cell| cell == name(column));
        COLUMNS.into_iter().map(at).collect::<Option<Vec<usize>>>()
    });
    let Some(at) = head else { return Vec::new() };
    let row = |cells: Vec<String>| at.iter().map(|at| cells.get(*at).cloned()).collect();
    // The line below the head is one of dashes.
    lines.skip(1).map_while(row).collect()
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map_or_else(Vec::new, |inner| inner.split('|').map(|it| it.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "\
Fast:

| command | pipeline | Redis op/s | kv op/s | Redis p99 ms | kv p99 ms |
|---|---|---|---|---|---|
| SET | 1 | 50994 | 50176 | 1.26 | 1.28 |
| GET | 16 | 256542 | 457666 | 5.00 | 3.04 |

| SET | 1 | not in it |
";

    fn performance(op_s: u32) -> String {
        format!(
            "{BEGIN}\n\
             | command | -P | Redis op/s | ours op/s | ratio | Redis p99 ms | ours p99 ms | |\n\
             |---|---|---|---|---|---|---|---|\n\
             | SET | 1 | 50994 | {op_s} | 0.98 | 1.26 | 1.28 | met |\n\
             | SET | 16 | 218962 | 297265 | 1.36 | 6.17 | 4.14 | met |\n\
             | GET | 16 | 256542 | 457666 | 1.78 | 5.00 | 3.04 | met |\n\
             {END}\n"
        )
    }

    #[test]
    fn rows_are_those_that_were_measured() {
        assert_eq!(figures(README, &performance(50_176)), []);
        let found = figures(README, &performance(50_177));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found.iter().all(|of| of.what.contains("SET | 1 | 50994 | 50176 | 1.26 | 1.28")));
        assert_eq!(figures(README, "").len(), 2);
        assert_eq!(figures("no table", &performance(50_176)).len(), 1);
    }
}
