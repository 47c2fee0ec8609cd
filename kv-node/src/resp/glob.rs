//! Redis's glob patterns (`util.c`, `stringmatchlen`), for SCAN, KEYS, CONFIG GET, COMMAND LIST.
//!
//! `*` any bytes, `?` one byte, `[abc]` `[a-z]` `[^a]` one byte of a class, `\c` c itself. As in
//! Redis an unclosed class runs to the pattern's end, and ranges may be written backwards.
//!
//! Redis's matcher recurses at each star and is exponential in their number (CVE-2022-36021).
//! This one only goes back to the last star: at most pattern x text steps, no stack.
//!
//! Invariant: a pattern is at most [`PATTERN_BYTES_MAX`] long, so one match has a bounded cost.

/// The longest pattern that is taken.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// A pattern that is short enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glob<'p> {
    pattern: &'p [u8],
    /// Matches everything; the usual case, decided once.
    all: bool,
}

impl<'p> Glob<'p> {
    /// The pattern, or `None` when it is longer than [`PATTERN_BYTES_MAX`].
    pub fn new(pattern: &'p [u8]) -> Option<Self> {
        let all = !pattern.is_empty() && pattern.iter().all(|byte| *byte == b'*');
        (pattern.len() <= PATTERN_BYTES_MAX).then_some(Self { pattern, all })
    }

    /// The pattern's bytes.
    pub fn pattern(&self) -> &'p [u8] {
        self.pattern
    }

    /// Whether it matches everything.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether the whole text matches. O(pattern x text).
    pub fn matches(&self, text: &[u8]) -> bool {
        self.all || matches(self.pattern, text, false)
    }

    /// The same without regard to ASCII case.
    pub fn matches_ignore_case(&self, text: &[u8]) -> bool {
        self.all || matches(self.pattern, text, true)
    }
}

/// The greedy matcher: on a mismatch the last star takes one byte more.
fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(pattern_at..).unwrap_or_default();
        match (rest.first(), text.get(text_at)) {
            (Some(b'*'), _) => {
                pattern_at += 1;
                star = Some((pattern_at, text_at));
                continue;
            }
            (None, None) => return true,
            (Some(_), Some(byte)) => {
                let (hit, used) = one(rest, *byte, ignore_case);
                if hit {
                    pattern_at += used;
                    text_at += 1;
                    continue;
                }
            }
            (None, Some(_)) => {}
            (Some(_), None) => return false,
        }
        match star {
            Some((after, from)) => {
                pattern_at = after;
                text_at = from + 1;
                star = Some((after, text_at));
            }
            None => return false,
        }
    }
}

/// Whether one byte matches the first element of `pattern`, and how long that element is.
fn one(pattern: &[u8], byte: u8, ignore_case: bool) -> (bool, usize) {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    match pattern {
        [b'?', ..] => (true, 1),
        [b'[', class @ ..] => {
            let (hit, used) = in_class(class, fold(byte), fold);
            (hit, used + 1)
        }
        [b'\\', escaped, ..] => (fold(*escaped) == fold(byte), 2),
        [plain, ..] => (fold(*plain) == fold(byte), 1),
        [] => (false, 0),
    }
}

/// Whether the byte is in the class that begins after `[`, and how long the class is with its `]`.
fn in_class(class: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut hit = false;
    loop {
        match class.get(at..).unwrap_or_default() {
            [b'\\', escaped, ..] => {
                hit |= fold(*escaped) == byte;
                at += 2;
            }
            [b']', ..] => return (hit != negated, at + 1),
            [] => return (hit != negated, at),
            [low, b'-', high, ..] => {
                let (low, high) = (fold(*low), fold(*high));
                hit |= (low.min(high)..=low.max(high)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                hit |= fold(*plain) == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(pattern: &str, text: &str) -> bool {
        Glob::new(pattern.as_bytes()).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "abc"),
            ("***", "abc"),
            ("", ""),
            ("a", "a"),
            ("?", "a"),
            ("h*llo", "hllo"),
            ("h*llo", "heeello"),
            ("h?llo", "hallo"),
            ("h[ae]llo", "hello"),
            ("h[^e]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("\\*", "*"),
            ("\\a", "a"),
            ("a\\", "a\\"),
            ("[\\]]", "]"),
            ("[a-]", "a"),
            ("[abc", "b"),
            ("*b*d*", "abcd"),
            ("a*b*c", "axbxbxc"),
            ("user:[0-9]*", "user:42"),
            ("*:42", "user:42:42"),
            ("[^a]", "b"),
        ] {
            assert!(hit(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("h[ae]llo", "hillo"),
            ("h[^e]llo", "hello"),
            ("h?llo", "hllo"),
            ("*b", "abc"),
            ("\\*", "a"),
            ("a*b*c", "axbxb"),
            ("A", "a"),
            ("[^a]", ""),
            ("[]a", "a"),
        ] {
            assert!(!hit(pattern, text), "{pattern} {text}");
        }
        assert!(Glob::new(b"SeT[A-c]*").unwrap().matches_ignore_case(b"setbx"));
        assert!(!Glob::new(b"SeT[d-e]").unwrap().matches_ignore_case(b"setb"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_not_exponential() {
        let pattern = "a*".repeat(PATTERN_BYTES_MAX / 2 - 1) + "b";
        assert!(!hit(&pattern, &"a".repeat(20_000)));
    }

    #[test]
    fn long_patterns_are_refused() {
        assert!(Glob::new(&[b'a'; PATTERN_BYTES_MAX]).is_some());
        assert!(Glob::new(&[b'a'; PATTERN_BYTES_MAX + 1]).is_none());
    }

    /// A slow matcher that follows the definition.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                naive(&pattern[1..], text) || (!text.is_empty() && naive(pattern, &text[1..]))
            }
            (Some(_), Some(byte)) => {
                let (hit, used) = one(pattern, *byte, false);
                hit && naive(&pattern[used..], &text[1..])
            }
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn greedy_is_right(pattern in "[ab*?\\[\\]^\\\\-]{0,8}", text in "[ab\\-]{0,8}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            proptest::prop_assert_eq!(matches(pattern, text, false), naive(pattern, text));
        }
    }
}
