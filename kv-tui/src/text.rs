//! Text in and out: hexadecimal, dots, durations, sizes, tables. What a store holds is not to be
//! trusted with a terminal, so control characters are shown and never sent.

use bytes::Bytes;
use kv_client::wire::{DotName, Level};

use crate::Error;

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

/// Reads what `hex` writes.
///
/// # Errors
/// `Input` with the name of what is not hexadecimal.
pub(crate) fn unhex(what: &str, text: &str) -> Result<Bytes, Error> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            let pairs = digits.chunks_exact(2);
            Ok(pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
        }
        _ => Err(Error::Input(format!("{what} is not hexadecimal: {text:?}"))),
    }
}

/// Reads `keyspace`, `one`, `quorum`, `all`, `local-quorum`, `each-quorum` or a number.
///
/// # Errors
/// A text for the command line's user.
pub(crate) fn level(text: &str) -> Result<Level, String> {
    match text {
        "keyspace" => Ok(Level::Keyspace),
        "one" => Ok(Level::One),
        "quorum" => Ok(Level::Quorum),
        "all" => Ok(Level::All),
        "local-quorum" => Ok(Level::LocalQuorum),
        "each-quorum" => Ok(Level::EachQuorum),
        number => match number.parse() {
            Ok(copies) if copies > 0 => Ok(Level::Count(copies)),
            _ => {
                Err("one, quorum, all, local-quorum, each-quorum or a number of copies".to_owned())
            }
        },
    }
}

/// A dot as people see it: milliseconds since 1970, counter, node, tenure.
pub(crate) fn dot(dot: &DotName) -> String {
    format!("{}.{}@{}/{:016x}", dot.time >> 16, dot.time & 0xffff, dot.node, dot.tenure)
}

/// Bytes as one line that does nothing to a terminal; at most `width_max` characters.
pub(crate) fn shown(bytes: &[u8], width_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::new();
    for (at, part) in text.chars().enumerate() {
        if at == width_max {
            line.push('…');
            break;
        }
        if part.is_control() {
            line.extend(part.escape_default());
        } else {
            line.push(part);
        }
    }
    line
}

/// A length of time in its two largest units.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// The time of day in UTC: hours, minutes, seconds.
pub(crate) fn clock(unix_ms: u64) -> String {
    let s = unix_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

/// A moment in UTC, to the millisecond; the date by Hinnant's days-to-civil rule.
pub(crate) fn moment(unix_ms: u64) -> String {
    let days = unix_ms / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {}.{:03}", clock(unix_ms), unix_ms % 1_000)
}

/// A count in three digits or fewer, with its thousands by letter.
pub(crate) fn count(value: u64) -> String {
    match value {
        0..1_000 => value.to_string(),
        1_000..1_000_000 => format!("{}.{}k", value / 1_000, value % 1_000 / 100),
        1_000_000..1_000_000_000 => {
            format!("{}.{}M", value / 1_000_000, value % 1_000_000 / 100_000)
        }
        _ => format!("{}.{}G", value / 1_000_000_000, value % 1_000_000_000 / 100_000_000),
    }
}

/// A latency.
pub(crate) fn latency(us: u64) -> String {
    if us < 1_000 { format!("{us}µs") } else { format!("{}.{}ms", us / 1_000, us % 1_000 / 100) }
}

/// A number of bytes in binary units.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut shown = format!("{bytes} B");
    let mut tenths = u128::from(bytes) * 10;
    for unit in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1_024;
        shown = format!("{}.{} {unit}", tenths / 10, tenths % 10);
    }
    shown
}

/// Columns aligned to the left, two spaces apart, a line for each row, without trailing spaces.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let room = width + 2 - cell.chars().count().min(*width);
            line.extend(std::iter::repeat_n(' ', room));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_client::NodeId;

    #[test]
    fn hex_goes_both_ways_and_refuses_what_it_is_not() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex("key", &hex(&all)).expect("hex"), all);
        assert_eq!(hex(b"\x00\xffA"), "00ff41");
        for wrong in ["0", "0g", "é0", "0x"] {
            assert!(unhex("key", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_that_is_stored_reaches_the_terminal_as_a_command() {
        assert_eq!(shown(b"a\x1b[2Jb\n", 80), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown("héllo".as_bytes(), 3), "hél…");
        assert_eq!(shown(b"\xff", 3), "\u{fffd}");
    }

    #[test]
    fn units() {
        assert_eq!(
            [duration(12), duration(61_000), duration(90_000_000)],
            ["12ms", "1m01s", "1d01h"]
        );
        assert_eq!(
            [size(0), size(1_023), size(1_536), size(u64::MAX)],
            ["0 B", "1023 B", "1.5 KiB", "16777215.9 TiB"]
        );
        assert_eq!([latency(999), latency(1_250)], ["999µs", "1.2ms"]);
        let name = DotName { time: 5 << 16 | 2, node: NodeId(255), tenure: 1 };
        assert_eq!(dot(&name), "5.2@00000000000000ff/0000000000000001");
    }

    #[test]
    fn moments_are_in_utc() {
        assert_eq!(moment(0), "1970-01-01 00:00:00.000");
        assert_eq!(moment(951_827_696_789), "2000-02-29 12:34:56.789");
        assert_eq!(moment(1_798_761_599_999), "2026-12-31 23:59:59.999");
        assert_eq!(clock(1_798_761_599_999), "23:59:59");
        assert!(moment(u64::MAX).ends_with(".615"), "no moment is too late to be shown");
        assert_eq!([count(999), count(18_420), count(2_500_000)], ["999", "18.4k", "2.5M"]);
    }

    #[test]
    fn levels_are_words_or_counts() {
        assert_eq!(level("quorum"), Ok(Level::Quorum));
        assert_eq!(level("2"), Ok(Level::Count(2)));
        assert!(level("0").is_err() && level("most").is_err() && level("300").is_err());
    }

    #[test]
    fn tables_align() {
        let rows =
            vec![vec!["a".to_owned(), "x".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&["K", "V"], &rows), "K    V\na    x\nbcd\n");
    }
}
