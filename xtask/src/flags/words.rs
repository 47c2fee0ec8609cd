//! What is said about a word that means nothing: the nearest that does.

use crate::error::Error;

/// The error for a word that is none of those known.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> Error {
    match nearest(word, known) {
        Some(near) => Error::Usage(format!("no {what} `{word}`; did you mean `{near}`?")),
        None if known.is_empty() => Error::Usage(format!("no {what} `{word}`")),
        None => Error::Usage(format!("no {what} `{word}`; there are: {}", known.join(" "))),
    }
}

/// The candidate at the least edit distance, if it is near enough to be what was meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let bound = (word.chars().count() / 3).max(2);
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance by one row of the table.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for ((y, above), corner) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            left = (corner + usize::from(x != *y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
