//! A frame as an SVG picture, for pages that are read and not run.
//!
//! The same cells always give the same bytes. Each run of cells in one style is one text whose
//! length is fixed, so that columns stay columns whatever font is there.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

const CELL_WIDTH: u32 = 8;
const CELL_HEIGHT: u32 = 17;
const MARGIN: u32 = 12;
const GROUND: &str = "#16181d";
const INK: &str = "#d4d7dd";
const DIMMED: &str = "#878d99";

/// What a run of cells has in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    ink: &'static str,
    ground: Option<&'static str>,
    bold: bool,
}

/// The picture of a frame.
pub(super) fn picture(buffer: &Buffer) -> String {
    let (columns, rows) = (u32::from(buffer.area.width), u32::from(buffer.area.height));
    let width = columns * CELL_WIDTH + 2 * MARGIN;
    let height = rows * CELL_HEIGHT + 2 * MARGIN;
    let mut svg = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        // A string takes whatever is written to it.
        let _taken = writeln!(svg, "{text}");
    };
    line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"13\">"
    ));
    line(format_args!("<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{GROUND}\"/>"));
    let side = usize::from(buffer.area.width).max(1);
    for (row, cells) in (0..).zip(buffer.content.chunks(side)) {
        let top = MARGIN + row * CELL_HEIGHT;
        for (column, run) in runs(cells) {
            let Some(first) = run.first() else { continue };
            let look = look_of(first);
            let left = MARGIN + column * CELL_WIDTH;
            let length = run.len() as u32 * CELL_WIDTH;
            if let Some(ground) = look.ground {
                line(format_args!(
                    "<rect x=\"{left}\" y=\"{top}\" width=\"{length}\" height=\"{CELL_HEIGHT}\" \
                     fill=\"{ground}\"/>"
                ));
            }
            if run.iter().all(|cell| cell.symbol() == " ") {
                continue;
            }
            let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
            line(format_args!(
                "<text x=\"{left}\" y=\"{}\" fill=\"{}\"{weight} textLength=\"{length}\" \
                 xml:space=\"preserve\">{}</text>",
                top + 13,
                look.ink,
                escaped(run)
            ));
        }
    }
    line(format_args!("</svg>"));
    svg
}

/// Runs of cells in one look, each with its first column. Blanks on a plain ground divide what is
/// far apart, and belong to nothing.
fn runs(cells: &[Cell]) -> Vec<(u32, &[Cell])> {
    let mut runs = Vec::new();
    let mut column = 0;
    for run in cells.chunk_by(|one, next| is_gap(one) == is_gap(next) && alike(one, next)) {
        if !run.iter().all(is_gap) {
            runs.push((column, run));
        }
        column += run.len() as u32;
    }
    runs
}

fn is_gap(cell: &Cell) -> bool {
    cell.symbol() == " " && look_of(cell).ground.is_none()
}

fn alike(one: &Cell, other: &Cell) -> bool {
    is_gap(one) || look_of(one) == look_of(other)
}

fn look_of(cell: &Cell) -> Look {
    let dim = cell.modifier.contains(Modifier::DIM);
    let ink = colour(cell.fg).unwrap_or(if dim { DIMMED } else { INK });
    let ground = colour(cell.bg);
    let bold = cell.modifier.contains(Modifier::BOLD);
    if cell.modifier.contains(Modifier::REVERSED) {
        return Look { ink: ground.unwrap_or(GROUND), ground: Some(ink), bold };
    }
    Look { ink, ground, bold }
}

fn colour(colour: Color) -> Option<&'static str> {
    Some(match colour {
        Color::Black => "#000000",
        Color::Red => "#e5534b",
        Color::Green => "#57ab5a",
        Color::Yellow => "#c69026",
        Color::Blue => "#539bf5",
        Color::Magenta => "#b083f0",
        Color::Cyan => "#39c5cf",
        Color::Gray | Color::White => "#d4d7dd",
        Color::DarkGray => "#878d99",
        Color::LightRed => "#ff938a",
        Color::LightGreen => "#8ddb8c",
        Color::LightYellow => "#eac55f",
        Color::LightBlue => "#96d0ff",
        Color::LightMagenta => "#dcbdfb",
        Color::LightCyan => "#56d4dd",
        _ => return None,
    })
}

fn escaped(run: &[Cell]) -> String {
    let mut text = String::new();
    for char in run.iter().flat_map(|cell| cell.symbol().chars()) {
        match char {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            char if char.is_control() => text.push('\u{fffd}'),
            char => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn runs_keep_their_columns_and_their_look() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 1));
        buffer.set_string(0, 0, "a<b", Style::new());
        buffer.set_string(4, 0, "up", Style::new().fg(Color::Green));
        let chosen = Style::new().add_modifier(Modifier::REVERSED);
        buffer.set_string(8, 0, "x ", chosen);
        let svg = picture(&buffer);
        let texts: Vec<&str> = svg.lines().filter(|line| line.starts_with("<text")).collect();
        assert_eq!(texts.len(), 3, "{svg}");
        assert!(texts[0].contains("x=\"12\"") && texts[0].ends_with(">a&lt;b</text>"), "{svg}");
        assert!(texts[1].contains("x=\"44\" y=\"25\" fill=\"#57ab5a\""), "{svg}");
        assert!(texts[2].contains("textLength=\"16\"") && texts[2].ends_with(">x </text>"));
        assert!(svg.contains("<rect x=\"76\" y=\"12\" width=\"16\""), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
