//! A model drawn as one frame. Pure: the same model and size give the same cells, so that a frame
//! can be tested, and printed without a terminal (`kv-tui --once`).
//!
//! States differ by glyph and word as well as by colour, for those who see none and for logs. What
//! no node tells yet is said to be missing, in words, and never filled with something plausible.

mod conflicts;
mod events;
mod header;
mod keys;
mod layout;
mod nodes;
mod over;
mod paint;
mod panel;
mod repair;
mod ring;
mod scale;
mod svg;
mod value;

use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::app::{App, Tab};
use crate::model::Snapshot;

use self::layout::Room;
pub(crate) use self::layout::{Hit, hit};

/// Draws a model.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let room = layout::room(area);
    if room == Room::None {
        too_small(frame, area);
    } else {
        let parts = layout::parts(area);
        header::draw(frame, &parts, app, room);
        match app.shown() {
            Some(snapshot) => body(frame, parts.body, app, snapshot, room),
            None => header::nothing_heard(frame, parts.body, app),
        }
        over::draw(frame, &parts, app);
    }
    paint::finish(frame.buffer_mut(), app.options.plain, app.options.ascii);
}

fn body(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    match app.tab {
        Tab::Ring => ring::draw(frame, area, app, snapshot, room),
        Tab::Nodes => nodes::draw(frame, area, app, snapshot, room),
        Tab::Keys => keys::draw(frame, area, app, room),
        Tab::Conflicts => conflicts::draw(frame, area, app, room),
        Tab::Repair => repair::draw(frame, area, app, snapshot, room),
        Tab::Events => events::draw(frame, area, app),
        Tab::Scale => scale::draw(frame, area, app, snapshot, room),
    }
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let text = format!("need 60x15, have {}x{}", area.width, area.height);
    let middle = Rect { y: area.y + area.height / 2, height: 1, ..area }.intersection(area);
    frame.render_widget(Line::from(text).centered(), middle);
}

/// A model as text, a line for each row, without trailing spaces.
pub fn print(app: &App, width: u16, height: u16) -> String {
    let buffer = buffer(app, width, height);
    let cells = buffer.content();
    let mut lines = String::new();
    for row in cells.chunks(usize::from(width).max(1)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// A model as an SVG picture.
pub fn picture(app: &App, width: u16, height: u16) -> String {
    svg::picture(&buffer(app, width, height))
}

fn buffer(app: &App, width: u16, height: u16) -> Buffer {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| draw(frame, app));
    terminal.backend().buffer().clone()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
