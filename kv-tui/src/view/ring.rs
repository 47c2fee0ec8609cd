//! The ring: who owns which arc of it, how much each node holds, and where a key lies.
//!
//! Partitions go clockwise from the top. A cell is an arc of it: with 1024 partitions and a circle
//! of some 150 cells, the cell shows the partition at the arc's middle, or the worst state in it.

use std::f64::consts::TAU;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use kv_client::wire::NodeInfo;

use super::layout::Room;
use super::paint::{
    bad, bold, chosen, cut, dim, framed, glyph, good, lines, owner_style, state_style, warn,
};
use super::panel;
use crate::app::{App, RingColour};
use crate::model::{PartitionState, Snapshot, balance_hundredths, shares, state_word};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, room: Room) {
    if room < Room::Compact {
        let [owners, key] =
            Layout::vertical([Constraint::Min(4), Constraint::Length(5)]).areas(area);
        draw_owners(frame, owners, app, snapshot, false);
        panel::draw_place(frame, key, app, snapshot);
        return;
    }
    let side = if room == Room::Full { 48 } else { 34 };
    let [left, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(side)]).areas(area);
    draw_ring(frame, left, app, snapshot);
    let owners = (snapshot.nodes.len() as u16).saturating_add(4).min(right.height / 2);
    let [top, bottom] =
        Layout::vertical([Constraint::Length(owners.max(5)), Constraint::Min(0)]).areas(right);
    draw_owners(frame, top, app, snapshot, room == Room::Full);
    panel::draw_place(frame, bottom, app, snapshot);
}

fn draw_ring(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let Some(ring) = &snapshot.ring else {
        let inner = framed(frame, area, "ring  no layout yet");
        let text = "The asked node knows no layout: the cluster waits for its first members.";
        lines(frame, inner, vec![Line::from(text)]);
        return;
    };
    let by = match app.selected.colour {
        RingColour::Owner => "letter = first owner",
        RingColour::State => "■ full  ▪ short  × no quorum",
    };
    let title = format!("ring  {} partitions  {by}", ring.partitions());
    let inner = framed(frame, area, &title);
    let marks = Marks::of(app, snapshot);
    if app.selected.zoom {
        draw_list(frame, inner, app, snapshot, &marks);
    } else {
        draw_circle(frame, inner, app, snapshot, &marks);
    }
}

/// What stands for each partition.
struct Marks {
    owners: Vec<char>,
    states: Vec<PartitionState>,
    by: RingColour,
}

impl Marks {
    fn of(app: &App, snapshot: &Snapshot) -> Self {
        let ring = snapshot.ring.as_ref();
        let copies = ring.map_or(1, |ring| usize::from(ring.copies).max(1));
        let letters: Vec<char> =
            ring.iter().flat_map(|ring| &ring.nodes).map(|id| app.names.letter(*id)).collect();
        let firsts = ring.iter().flat_map(|ring| ring.owners.iter().step_by(copies));
        let letter = |at: &u16| letters.get(usize::from(*at)).copied().unwrap_or('?');
        let owners = firsts.map(letter).collect();
        Self { owners, states: snapshot.partition_states(), by: app.selected.colour }
    }

    fn count(&self) -> usize {
        self.owners.len()
    }

    /// The mark of an arc from one partition to before another.
    fn arc(&self, from: usize, to: usize) -> (char, Style) {
        match self.by {
            RingColour::Owner => {
                let middle = from + (to - from) / 2;
                let letter = self.owners.get(middle).copied().unwrap_or(' ');
                (letter, owner_style(letter))
            }
            RingColour::State => {
                let arc = self.states.get(from..to.min(self.states.len())).unwrap_or_default();
                match arc.iter().max() {
                    Some(PartitionState::Full) => ('■', good()),
                    Some(PartitionState::Short) => ('▪', warn()),
                    Some(PartitionState::NoQuorum) => ('×', bad()),
                    None => (' ', Style::new()),
                }
            }
        }
    }
}

/// An ellipse that looks round: cells are twice as high as wide.
struct Circle {
    x: f64,
    y: f64,
    across: f64,
    down: f64,
}

impl Circle {
    fn within(area: Rect) -> Self {
        let (width, height) = (f64::from(area.width), f64::from(area.height));
        let (x, y) = ((width - 1.0) / 2.0, (height - 1.0) / 2.0);
        let down = y.min(x / 2.0).max(0.0);
        Self { x, y, across: (down * 2.2).min(x), down }
    }

    /// The cell at a part of the way around, drawn in from the edge by some columns.
    #[expect(clippy::cast_sign_loss, reason = "what is below 0 was raised to it")]
    fn cell(&self, turn: f64, inwards: f64) -> (u16, u16) {
        let (sin, cos) = (turn * TAU).sin_cos();
        let x = self.x + (self.across - inwards).max(0.0) * sin;
        let y = self.y - (self.down - inwards / 2.0).max(0.0) * cos;
        (x.round().max(0.0) as u16, y.round().max(0.0) as u16)
    }
}

fn draw_circle(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, marks: &Marks) {
    let circle = Circle::within(area);
    let count = marks.count();
    let put = |frame: &mut Frame<'_>, (x, y): (u16, u16), char: char, style: Style| {
        if x < area.width
            && y < area.height
            && let Some(cell) = frame.buffer_mut().cell_mut((area.x + x, area.y + y))
        {
            cell.set_char(char).set_style(style);
        }
    };
    // More steps than cells, so that none is left out; the first step in a cell begins its arc.
    let steps = 12 * (usize::from(area.width) + usize::from(area.height));
    let mut begun: Option<((u16, u16), usize)> = None;
    for step in 0..=steps {
        let at = step * count / steps.max(1);
        let cell = circle.cell(step as f64 / steps.max(1) as f64, 0.0);
        match begun {
            Some((before, _)) if before == cell && step < steps => {}
            Some((before, from)) => {
                let (char, style) = marks.arc(from, at.max(from + 1));
                put(frame, before, char, style);
                begun = Some((cell, at));
            }
            None => begun = Some((cell, at)),
        }
    }
    if let Some(partition) = app.partition().filter(|at| *at < count) {
        let turn = (partition as f64 + 0.5) / count as f64;
        put(frame, circle.cell(turn, 3.0), '◆', bold());
        put(frame, circle.cell(turn, 5.0), '·', dim());
    }
    draw_centre(frame, area, app, snapshot);
}

fn draw_centre(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot) {
    let mut texts = Vec::new();
    if let Some(ring) = &snapshot.ring {
        let live = snapshot.layouts.as_ref().map_or(1, |layouts| layouts.live.len());
        let stable = if live > 1 { format!("{live} layouts live") } else { "stable".to_owned() };
        texts.push(format!("epoch {}   {stable}", ring.epoch));
        if let Some(partition) = app.partition() {
            let key = match (app.selected.partition, app.look()) {
                (None, Some(look)) => crate::text::shown(&look.key, 24),
                _ => String::new(),
            };
            texts.push(format!("◆ {key} prt {partition}").replace("  ", " "));
            let owners = ring.owners_of(partition).map(|id| app.names.letter(id).to_string());
            texts.push(owners.collect::<Vec<_>>().join(" → "));
        }
    }
    let counts = snapshot.partition_counts();
    if counts.full < counts.total() {
        let (short, none) = (counts.short, counts.no_quorum);
        texts.push(format!("{short} short, {none} without quorum"));
    }
    let width = (area.width / 2).max(1);
    let box_of = Rect {
        x: area.x + (area.width.saturating_sub(width)) / 2,
        y: area.y + (area.height / 2).saturating_sub(2),
        width,
        height: 4,
    }
    .intersection(area);
    let text = |text: String| Line::from(cut(&text, usize::from(width))).centered();
    lines(frame, box_of, texts.into_iter().map(text).collect());
}

/// Each partition in turn: its number in front of a row, the selected one turned around.
fn draw_list(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, marks: &Marks) {
    const NUMBER: usize = 6;
    let each = usize::from(area.width).saturating_sub(NUMBER).max(1);
    // Rows that begin with a round number, where there is room for that.
    let each = if each >= 10 { each / 10 * 10 } else { each };
    let selected = app.partition().unwrap_or(0);
    let height = usize::from(area.height).saturating_sub(1);
    let first = (selected / each + 1).saturating_sub(height);
    let row = |row: usize| {
        let start = row * each;
        let mut spans = vec![Span::styled(format!("{start:>5} "), dim())];
        for at in start..(start + each).min(marks.count()) {
            let (char, style) = marks.arc(at, at + 1);
            let style = if at == selected { style.patch(chosen()) } else { style };
            spans.push(Span::styled(char.to_string(), style));
        }
        Line::from(spans)
    };
    let rows = marks.count().div_ceil(each);
    let mut all: Vec<Line<'_>> = (first..rows).take(height).map(row).collect();
    let counts = snapshot.partition_counts();
    let (full, short, none) = (counts.full, counts.short, counts.no_quorum);
    let words = format!("■ {full} full   ▪ {short} short   × {none} without quorum");
    all.push(Line::styled(words, dim()));
    lines(frame, area, all);
}

fn draw_owners(frame: &mut Frame<'_>, area: Rect, app: &App, snapshot: &Snapshot, full: bool) {
    let copies = snapshot.ring.as_ref().map_or(0, |ring| ring.copies);
    let inner = framed(frame, area, &format!("owners  N={copies}"));
    let shares = snapshot.ring.as_ref().map(shares).unwrap_or_default();
    let balance = balance_hundredths(&shares);
    let mut all = Vec::new();
    if full {
        let head = "own          ring%   prt  first  state";
        all.push(Line::styled(head, dim()));
    }
    let width = app.names.short(snapshot.status.node).len();
    let mut nodes: Vec<&NodeInfo> = snapshot.nodes.iter().collect();
    nodes.sort_by_cached_key(|node| (app.names.letter(node.node), node.node));
    for node in nodes {
        let share = shares.iter().find(|share| share.node == node.node);
        let percent = share.map_or_else(
            || "--".to_owned(),
            |share| format!("{}.{}", share.per_mille / 10, share.per_mille % 10),
        );
        let letter = app.names.letter(node.node);
        let short = app.names.short(node.node);
        let state = format!("{} {}", glyph(node.state), state_word(node.state));
        let phi = match node.phi_hundredths {
            quiet @ 100.. => format!(" φ{}.{}", quiet / 100, quiet % 100 / 10),
            _ => String::new(),
        };
        let (held, first) = share.map_or((0, 0), |share| (share.held, share.first));
        let middle = if full {
            format!(" {short:<width$}  {percent:>7} {held:>5} {first:>6}  ")
        } else {
            format!(" {short:<width$} {percent:>5}% ")
        };
        all.push(Line::from(vec![
            Span::styled(letter.to_string(), owner_style(letter)),
            Span::raw(middle),
            Span::styled(format!("{state}{phi}"), state_style(node.state)),
        ]));
    }
    let room = usize::from(inner.height).saturating_sub(1);
    let more = all.len().saturating_sub(room);
    all.truncate(room);
    let balance = balance.map_or_else(String::new, |hundredths| {
        format!("balance {}.{:02} max/mean", hundredths / 100, hundredths % 100)
    });
    let more = if more > 0 { format!("   {more} more on Nodes") } else { String::new() };
    all.push(Line::styled(format!("{balance}{more}"), dim()));
    lines(frame, inner, all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use PartitionState::{Full, NoQuorum, Short};

    #[test]
    fn an_arc_shows_its_middle_owner_or_its_worst_state() {
        let mut marks = Marks {
            owners: vec!['A', 'B', 'C', 'D'],
            states: vec![Full, Short, Full, NoQuorum],
            by: RingColour::Owner,
        };
        assert_eq!(marks.arc(0, 3).0, 'B');
        marks.by = RingColour::State;
        assert_eq!([marks.arc(0, 1).0, marks.arc(0, 3).0, marks.arc(2, 9).0], ['■', '▪', '×']);
        assert_eq!(marks.arc(9, 10).0, ' ');
    }

    #[test]
    fn the_circle_begins_at_the_top_and_goes_clockwise() {
        let circle = Circle::within(Rect::new(0, 0, 41, 21));
        let quarters = [0.0, 0.25, 0.5, 0.75].map(|turn| circle.cell(turn, 0.0));
        assert_eq!(quarters, [(20, 0), (40, 10), (20, 20), (0, 10)]);
        assert_eq!(Circle::within(Rect::new(0, 0, 1, 1)).cell(0.3, 3.0), (0, 0));
    }
}
