//! The ring: a cell for each partition, or for a few neighbours where there are more than fit; then
//! the cell shows the worst of them.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use crate::model::{PartitionState, Snapshot};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let title = match &snapshot.ring {
        Some(ring) => {
            let (epoch, count, copies) = (ring.epoch, ring.partitions(), ring.copies);
            format!(" Ring: layout {epoch}, {count} partitions, {copies} copies ")
        }
        None => " Ring: no layout ".to_owned(),
    };
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [map, legend] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(inner);
    let states = snapshot.partition_states();
    let room = usize::from(map.width) * usize::from(map.height);
    let (cells, each) = cells(&states, room);
    let width = usize::from(map.width).max(1);
    let lines: Vec<Line<'_>> =
        cells.chunks(width).map(|cells| cells.iter().copied().map(cell).collect()).collect();
    frame.render_widget(Paragraph::new(lines), map);
    let counts = snapshot.partition_counts();
    let (full, short, no_quorum) = (counts.full, counts.short, counts.no_quorum);
    let cells = if each > 1 { format!("   a cell is {each} partitions") } else { String::new() };
    let words = format!("■ {full} full   ▪ {short} short   × {no_quorum} without quorum{cells}");
    frame.render_widget(Line::from(words), legend);
}

/// At most `room` cells, each the worst of as many partitions as it stands for.
fn cells(states: &[PartitionState], room: usize) -> (Vec<PartitionState>, usize) {
    let each = states.len().div_ceil(room.max(1)).max(1);
    let worst = |states: &[PartitionState]| states.iter().copied().max();
    (states.chunks(each).filter_map(worst).collect(), each)
}

fn cell(state: PartitionState) -> Span<'static> {
    let (glyph, color) = match state {
        PartitionState::Full => ("■", Color::Green),
        PartitionState::Short => ("▪", Color::Yellow),
        PartitionState::NoQuorum => ("×", Color::Red),
    };
    Span::styled(glyph, Style::new().fg(color))
}

#[cfg(test)]
mod tests {
    use super::*;
    use PartitionState::{Full, NoQuorum, Short};

    #[test]
    fn a_cell_shows_the_worst_of_its_partitions() {
        let states = [Full, Short, Full, Full, NoQuorum];
        assert_eq!(cells(&states, 5), (states.to_vec(), 1));
        assert_eq!(cells(&states, 3), (vec![Short, Full, NoQuorum], 2));
        assert_eq!(cells(&states, 0), (vec![NoQuorum], 5));
        assert_eq!(cells(&[], 10), (vec![], 1));
    }
}
