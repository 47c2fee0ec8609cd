//! A model drawn as one frame. Pure: the same screen and size give the same cells, so that a frame
//! can be tested, and printed without a terminal (`kv-tui --once`).
//!
//! States differ by glyph as well as by colour, for those who see none and for logs.

mod ring;

use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table};

use kv_client::wire::{NodeInfo, NodeState};

use crate::model::{Health, Snapshot};
use crate::text;
use crate::verbs::nodes::{COLUMNS, HEAD, row};

/// Alerts shown at most; the last line says how many more there are.
const ALERTS_MAX: usize = 4;

/// What is on the screen.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// Where the answers come from.
    pub address: String,
    /// The last answer, if there was one.
    pub snapshot: Option<Snapshot>,
    /// Milliseconds since it came.
    pub age_ms: u64,
    /// Why there is no newer one.
    pub problem: Option<String>,
}

/// Draws a screen.
pub fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let empty = Snapshot::default();
    let snapshot = screen.snapshot.as_ref().unwrap_or(&empty);
    let notices = notices(screen, snapshot);
    // Where there is little room, who is down matters more than which partitions that touches.
    let node_lines = u16::try_from(snapshot.nodes.len()).unwrap_or(u16::MAX).saturating_add(3);
    let ring_lines = if frame.area().height < 24 { 4 } else { frame.area().height / 3 };
    let [head, alerts, ring, nodes, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(notices.len() as u16),
        Constraint::Min(ring_lines),
        Constraint::Max(node_lines),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(heading(screen, snapshot)), head);
    frame.render_widget(Paragraph::new(notices), alerts);
    ring::draw(frame, ring, snapshot);
    draw_nodes(frame, nodes, &snapshot.nodes);
    let keys = Line::from("q quit   answers are what one node believes").style(dim());
    frame.render_widget(keys, foot);
}

/// A screen as text, a line for each row, without trailing spaces.
pub fn print(screen: &Screen, width: u16, height: u16) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| draw(frame, screen));
    let cells = terminal.backend().buffer().content();
    let mut lines = String::new();
    for row in cells.chunks(usize::from(width).max(1)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

fn heading(screen: &Screen, snapshot: &Snapshot) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    if screen.snapshot.is_none() {
        let asked = format!("asking {}", text::shown(screen.address.as_bytes(), 80));
        return vec![Line::from(vec![Span::styled("kv", bold), Span::raw("  "), Span::raw(asked)])];
    }
    let status = &snapshot.status;
    let health = snapshot.health();
    let (up, members) = snapshot.members_up();
    let cluster = status.cluster.map_or_else(|| "not born yet".to_owned(), |id| id.to_string());
    let first = Line::from(vec![
        Span::styled("kv", bold),
        Span::raw(format!("  cluster {cluster}  ")),
        Span::styled(health.word(), health_style(health)),
        Span::raw(format!("  {up} of {members} members up")),
    ]);
    let rows = status.rows.map_or_else(String::new, |rows| format!("  {rows} rows"));
    let second = Line::from(format!(
        "asked {}  node {}  version {}  up for {}  engine {}  memory {}  disk {}{rows}",
        text::shown(screen.address.as_bytes(), 80),
        status.node,
        text::shown(status.version.as_bytes(), 20),
        text::duration(status.uptime_ms),
        text::shown(status.engine.as_bytes(), 20),
        text::size(status.memory_bytes),
        text::size(status.disk_bytes),
    ));
    vec![first, second.style(dim())]
}

/// Why the screen is old, then what needs an operator.
fn notices(screen: &Screen, snapshot: &Snapshot) -> Vec<Line<'static>> {
    let warn = Style::new().fg(Color::Red);
    let mut lines = Vec::new();
    if let Some(problem) = &screen.problem {
        let age = match &screen.snapshot {
            Some(_) => format!("; what is shown is {} old", text::duration(screen.age_ms)),
            None => String::new(),
        };
        let problem = text::shown(problem.as_bytes(), 300);
        lines.push(Line::styled(format!("! no answer: {problem}{age}"), warn));
    }
    if screen.snapshot.is_none() {
        return lines;
    }
    let alerts = snapshot.alerts();
    let more = alerts.len().saturating_sub(ALERTS_MAX);
    for alert in alerts.iter().take(ALERTS_MAX) {
        lines.push(Line::styled(format!("! {}", text::shown(alert.as_bytes(), 300)), warn));
    }
    if more > 0 {
        lines.push(Line::styled(format!("! {more} more"), warn));
    }
    lines
}

/// Blanks between two columns of a table.
const COLUMN_SPACING: u16 = 2;

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, nodes: &[NodeInfo]) {
    let cells: Vec<[String; COLUMNS]> = nodes.iter().map(row).collect();
    let width = |column: usize| {
        let of_cells = cells.iter().filter_map(|row| row.get(column));
        let head = HEAD.get(column).map_or(0, |head| head.len());
        of_cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(head) as u16
    };
    // Whole columns, from the left: what has no room is in `kv nodes`.
    let mut room = area.width.saturating_sub(2);
    let mut widths = Vec::new();
    for width in (0..COLUMNS).map(width) {
        if width > room && !widths.is_empty() {
            break;
        }
        widths.push(Constraint::Length(width));
        room = room.saturating_sub(width + COLUMN_SPACING);
    }
    let columns = widths.len();
    let rows = cells.into_iter().zip(nodes).map(|(cells, node)| {
        Row::new(cells.into_iter().take(columns)).style(Style::new().fg(match node.state {
            NodeState::Alive => Color::Reset,
            NodeState::Suspect => Color::Yellow,
            _ => Color::Red,
        }))
    });
    let table = Table::new(rows, widths)
        .header(Row::new(HEAD.into_iter().take(columns)).style(dim()))
        .column_spacing(COLUMN_SPACING)
        .block(Block::bordered().title(" Nodes "));
    frame.render_widget(table, area);
}

fn health_style(health: Health) -> Style {
    let color = match health {
        Health::Healthy => Color::Green,
        Health::Degraded => Color::Yellow,
        Health::NoQuorum => Color::Red,
    };
    Style::new().fg(color).add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::three;
    use kv_client::wire::NodeState::{Alive, Down};

    fn screen(snapshot: Snapshot) -> Screen {
        let address = "127.0.0.1:7101".to_owned();
        Screen { address, snapshot: Some(snapshot), ..Screen::default() }
    }

    #[test]
    fn a_frame_of_a_cluster_with_a_member_down() {
        let text = print(&screen(three([Alive, Alive, Down])), 120, 16);
        let expected = "\
kv  cluster not born yet  degraded  2 of 3 members up
asked 127.0.0.1:7101  node 0000000000000001  version 0.1.0  up for 1m01s  engine lsm  \
memory 0 B  disk 0 B
! node 0000000000000003 (127.0.0.1:7103) is down
┌ Ring: layout 1, 4 partitions, 3 copies ";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("│▪▪▪▪ "), "{text}");
        assert!(text.contains("■ 0 full   ▪ 4 short   × 0 without quorum"), "{text}");
        assert!(
            text.contains("│0000000000000003  down   127.0.0.1:7003  127.0.0.1:7103  -     1"),
            "{text}"
        );
        assert!(text.ends_with("q quit   answers are what one node believes\n"), "{text}");
        assert_eq!(text.lines().count(), 16);
    }

    #[test]
    fn silence_is_said_together_with_the_age_of_what_is_shown() {
        let mut screen = screen(three([Alive; 3]));
        screen.problem = Some("connection refused".into());
        screen.age_ms = 5_000;
        let text = print(&screen, 100, 16);
        assert!(
            text.contains("! no answer: connection refused; what is shown is 5s old"),
            "{text}"
        );
        screen.snapshot = None;
        let text = print(&screen, 100, 16);
        assert!(text.contains("kv  asking 127.0.0.1:7101"), "{text}");
        assert!(!text.contains("is shown"), "{text}");
    }

    #[test]
    fn no_size_is_too_small_and_no_cluster_too_large() {
        let mut large = three([Alive; 3]);
        if let Some(ring) = &mut large.ring {
            ring.owners = [0, 1, 2].repeat(16_384);
        }
        let few = print(&screen(three([Alive, Down, Down])), 100, 16);
        assert!(few.contains("│0000000000000003  down"), "{few}");
        let many = large.nodes.first().cloned().unwrap_or_default();
        large.nodes.resize(300, many);
        for (width, height) in [(0, 0), (1, 1), (7, 3), (40, 10), (300, 100)] {
            let text = print(&screen(large.clone()), width, height);
            assert!(text.lines().count() <= usize::from(height), "{width}x{height}");
        }
    }

    #[test]
    fn what_a_node_says_does_not_reach_the_terminal_raw() {
        let mut snapshot = three([Alive; 3]);
        snapshot.status.alerts.push("\x1b[2J".into());
        let text = print(&screen(snapshot), 100, 16);
        assert!(text.contains("! \\u{1b}[2J"), "{text}");
    }
}
