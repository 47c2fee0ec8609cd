//! The name that was probably meant, by edit distance.
//!
//! Optimal string alignment (Damerau's four errors: a letter too many, too few, another, two
//! swapped), since those are what typing does.

/// The nearest of `names`, if it is near enough to be what was meant: a third of its length.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let known = names.map(|known| (distance(name, known), known)).min_by_key(|(far, _)| *far)?;
    let (far, known) = known;
    (far <= known.len().div_ceil(3)).then_some(known)
}

/// How many errors turn one into the other. Takes time in proportion to the product of lengths.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let at =
                |cells: &[usize], place: usize| cells.get(place).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, column) + usize::from(a != b);
            let dropped = at(&above, column + 1) + 1;
            let added = at(&line, column) + 1;
            let mut cost = replaced.min(dropped).min(added);
            let swapped = row > 0
                && column > 0
                && left.get(row - 1) == Some(b)
                && right.get(column - 1) == Some(a);
            if swapped {
                cost = cost.min(at(&before, column - 1).saturating_add(1));
            }
            line.push(cost);
        }
        before = std::mem::replace(&mut above, line);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_count_one_each() {
        for (left, right, far) in [
            ("", "", 0),
            ("resp", "resp", 0),
            ("rsp", "resp", 1),
            ("resps", "resp", 1),
            ("rexp", "resp", 1),
            ("rsep", "resp", 1),
            ("", "resp", 4),
            ("seeds", "zone", 5),
        ] {
            assert_eq!(distance(left, right), far, "{left} {right}");
            assert_eq!(distance(right, left), far, "{right} {left}");
        }
        assert_eq!(nearest("lisen", ["listen", "log"].into_iter()), Some("listen"));
        assert_eq!(nearest("quorum_sensing", ["listen", "log"].into_iter()), None);
    }
}
