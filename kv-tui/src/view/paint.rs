//! What all screens are painted with: boxes, styles, small graphs, and the last pass that takes
//! colour away or leaves only ASCII.
//!
//! A state is told by a glyph and a word; colour only repeats it.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use kv_client::wire::NodeState;

pub(super) fn good() -> Style {
    Style::new().fg(Color::Green)
}

pub(super) fn warn() -> Style {
    Style::new().fg(Color::Yellow)
}

pub(super) fn bad() -> Style {
    Style::new().fg(Color::Red)
}

pub(super) fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

pub(super) fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

pub(super) fn chosen() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// Up, doubted, down, gone.
pub(super) fn glyph(state: NodeState) -> &'static str {
    match state {
        NodeState::Alive => "●",
        NodeState::Suspect | NodeState::Draining => "◐",
        NodeState::Down => "○",
        _ => "·",
    }
}

pub(super) fn state_style(state: NodeState) -> Style {
    match state {
        NodeState::Alive => good(),
        NodeState::Suspect | NodeState::Draining => warn(),
        NodeState::Down => bad(),
        _ => dim(),
    }
}

/// The colour of an owner's letter: twelve that differ on a dark and a light ground.
pub(super) fn owner_style(letter: char) -> Style {
    const COLOURS: [Color; 12] = [
        Color::Cyan,
        Color::Yellow,
        Color::Magenta,
        Color::Green,
        Color::Blue,
        Color::Red,
        Color::LightCyan,
        Color::LightYellow,
        Color::LightMagenta,
        Color::LightGreen,
        Color::LightBlue,
        Color::LightRed,
    ];
    let at = (letter as usize).wrapping_sub('A' as usize) % COLOURS.len();
    Style::new().fg(COLOURS.get(at).copied().unwrap_or(Color::Reset))
}

/// A box with a title; what is inside it.
pub(super) fn framed(frame: &mut Frame<'_>, area: Rect, title: &str) -> Rect {
    let block = Block::bordered().title(format!("─ {title} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    // A blank column on the left, as between words and a wall.
    Rect { x: inner.x.saturating_add(1), width: inner.width.saturating_sub(1), ..inner }
        .intersection(inner)
}

/// Lines from the top; what does not fit is not drawn.
pub(super) fn lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

/// A name in a column, and what there is to say.
pub(super) fn pair(name: &str, what: impl Into<String>) -> Line<'static> {
    Line::from(vec![Span::styled(format!("{name:<11} "), dim()), Span::raw(what.into())])
}

/// A graph of the values, as high as their largest.
pub(super) fn spark(values: impl Iterator<Item = u64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<u64> = values.collect();
    let most = u128::from(values.iter().copied().max().unwrap_or(0)).max(1);
    let bar = |value: &u64| {
        let at = (u128::from(*value) * 7).div_ceil(most) as usize;
        BARS.get(at).copied().unwrap_or('█')
    };
    values.iter().map(bar).collect()
}

/// A bar of `width` cells, filled by so many thousandths.
pub(super) fn bar(per_mille: u64, width: usize) -> String {
    let full = (per_mille.min(1_000) as usize * width).div_ceil(1_000).min(width);
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

/// Cuts a text to a number of characters, and says that it did.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { String::new() } else { format!("{kept}…") }
}

/// Breaks a text between words into lines of at most `width` characters.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let room = width.saturating_sub(line.chars().count());
        if !line.is_empty() && word.chars().count() >= room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&cut(word, width));
    }
    lines.push(line);
    lines
}

/// The last pass over a frame: no colour, and nothing but ASCII, where that is wanted.
pub(super) fn finish(buffer: &mut Buffer, plain: bool, ascii: bool) {
    if !plain && !ascii {
        return;
    }
    for cell in &mut buffer.content {
        if plain {
            cell.fg = Color::Reset;
            cell.bg = Color::Reset;
        }
        if ascii && !cell.symbol().is_ascii() {
            let plain = cell.symbol().chars().next().map_or(' ', ascii_of);
            cell.set_char(plain);
        }
    }
}

fn ascii_of(char: char) -> char {
    match char {
        '─' | '—' => '-',
        '│' => '|',
        '┌' | '┐' | '└' | '┘' | '├' | '┤' => '+',
        '●' => '*',
        '◐' => '~',
        '○' => 'o',
        '·' | '░' => '.',
        '◆' => '#',
        '▶' | '→' => '>',
        '←' | '◀' => '<',
        '↑' => '^',
        '↓' => 'v',
        '⏎' => '$',
        '①'..='⑨' => char::from_digit(char as u32 - '①' as u32 + 1, 10).unwrap_or('?'),
        '▁' | '▂' => '_',
        '▃' | '▄' => '-',
        '▅' | '▆' => '=',
        '▇' | '█' | '■' => '#',
        '▪' => '+',
        '×' => 'x',
        '≥' => '>',
        '≤' => '<',
        'φ' => 'p',
        'µ' => 'u',
        '…' => '~',
        '▏' => '|',
        '↔' => '=',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_as_high_as_their_largest() {
        assert_eq!(spark([0, 1, 8].into_iter()), "▁▂█");
        assert_eq!(spark([0, 0].into_iter()), "▁▁");
        assert_eq!(spark([u64::MAX].into_iter()), "█");
        assert_eq!(bar(500, 4), "██░░");
        assert_eq!(bar(1, 4), "█░░░");
        assert_eq!(bar(9_999, 2), "██");
    }

    #[test]
    fn texts_are_cut_and_wrapped() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("extraordinary", 5), ["extr…"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn every_glyph_that_is_drawn_has_a_stand_in() {
        for glyph in "─│┌┐└┘●◐○·◆→←↑↓⏎①③▁▄█■▪×φµ…▏░".chars()
        {
            assert!(ascii_of(glyph).is_ascii() && ascii_of(glyph) != '?', "{glyph}");
        }
        assert_eq!(ascii_of('③'), '3');
    }
}
