//! Where things stand: one function for drawing and for the mouse, so that a click finds what was
//! drawn.

use ratatui::layout::{Constraint, Layout, Rect};

use crate::app::{App, Tab};

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Less than 60x15: a sentence.
    None,
    /// One list.
    Little,
    /// 80x24: everything, in short words.
    Compact,
    /// 100x30 and more.
    Full,
}

pub(super) fn room(area: Rect) -> Room {
    match (area.width, area.height) {
        (100.., 30..) => Room::Full,
        (78.., 22..) => Room::Compact,
        (60.., 15..) => Room::Little,
        _ => Room::None,
    }
}

/// The screen's parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) header: Rect,
    pub(super) tabs: Rect,
    pub(super) body: Rect,
    pub(super) bar: Rect,
}

pub(super) fn parts(area: Rect) -> Parts {
    let rows =
        [Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)];
    let [header, tabs, body, bar] = Layout::vertical(rows).areas(area);
    Parts { header, tabs, body, bar }
}

/// A tab's label and the columns that it takes, from the left.
pub(super) fn tab_labels(app: &App, width: u16) -> Vec<(Tab, String, u16)> {
    let label = |tab: Tab, short: bool| {
        let (long, brief) = tab.names();
        let name = if short { brief } else { long };
        if tab == app.tab {
            format!("[{} {name}]", tab.digit())
        } else {
            format!(" {} {name} ", tab.digit())
        }
    };
    let all = |short: bool| Tab::ALL.map(|tab| (tab, label(tab, short)));
    let wide = |labels: &[(Tab, String); 7]| labels.iter().map(|of| of.1.len() + 1).sum::<usize>();
    let mut labels = all(false);
    if wide(&labels) > usize::from(width) || width < 100 {
        labels = all(true);
    }
    let mut at = 0;
    labels
        .into_iter()
        .map(|(tab, label)| {
            let start = at;
            at += label.len() as u16 + 1;
            (tab, label, start)
        })
        .collect()
}

/// What a click means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    Tab(Tab),
    /// A line of the tab's list, counted from its first.
    Row(usize),
}

/// What is at a place of the screen.
pub(crate) fn hit(app: &App, column: u16, row: u16) -> Option<Hit> {
    let area = Rect::new(0, 0, app.size.0, app.size.1);
    let parts = parts(area);
    let inside = |rect: Rect| rect.contains((column, row).into());
    if inside(parts.tabs) {
        let labels = tab_labels(app, area.width);
        let under = |of: &&(Tab, String, u16)| {
            (of.2..of.2.saturating_add(of.1.len() as u16)).contains(&column)
        };
        return labels.iter().find(under).map(|of| Hit::Tab(of.0));
    }
    let list = list(app, parts.body)?;
    if !inside(list.rows) {
        return None;
    }
    let at = list.first + usize::from(row - list.rows.y);
    (at < list.count).then_some(Hit::Row(at))
}

/// The list of a tab: where its lines stand, and which is the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) rows: Rect,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// A list in a bordered box, below as many head lines, scrolled so that `selected` is seen.
pub(super) fn list_in(area: Rect, head: u16, count: usize, selected: usize) -> List {
    let inner = area.inner(ratatui::layout::Margin::new(1, 1));
    let head = head.min(inner.height);
    let rows = Rect { y: inner.y + head, height: inner.height - head, ..inner };
    let visible = usize::from(rows.height);
    let selected = selected.min(count.saturating_sub(1));
    let first = (selected + 1).saturating_sub(visible);
    List { rows, first, count }
}

/// The list that the current tab shows, if it has one.
fn list(app: &App, body: Rect) -> Option<List> {
    let selected = &app.selected;
    Some(match app.tab {
        Tab::Nodes => {
            let area = nodes_parts(app, body).0;
            list_in(area, 1, app.nodes_shown().len(), selected.node)
        }
        Tab::Conflicts => {
            let area = conflicts_parts(body).0;
            conflicts_list(app, area, app.conflicts().len())
        }
        Tab::Events => {
            let area = events_parts(body).0;
            list_in(area, 0, app.events_shown().len(), selected.event)
        }
        _ => return None,
    })
}

/// The list of nodes, and the selected one below it.
pub(super) fn nodes_parts(app: &App, body: Rect) -> (Rect, Rect) {
    let rows = u16::try_from(app.nodes_shown().len()).unwrap_or(u16::MAX).saturating_add(4);
    let most = if body.height < 18 { body.height } else { body.height / 2 };
    let [list, detail] =
        Layout::vertical([Constraint::Length(rows.clamp(4, most.max(4))), Constraint::Min(0)])
            .areas(body);
    (list, detail)
}

/// The keys with siblings, and the rest.
pub(super) fn conflicts_parts(body: Rect) -> (Rect, Rect) {
    let width = if body.width >= 100 { 32 } else { 22 };
    let [list, rest] =
        Layout::horizontal([Constraint::Length(width), Constraint::Min(0)]).areas(body);
    (list, rest)
}

/// The list of keys with siblings, and below it a line for those that are not listed, if any.
pub(super) fn conflicts_list(app: &App, area: Rect, count: usize) -> List {
    let foot = u16::from(conflicts_unlisted(app, count) > 0);
    let area = Rect { height: area.height.saturating_sub(foot), ..area };
    list_in(area, 0, count, app.selected.conflict)
}

/// Keys with siblings that the nodes count and that are not listed, as far as is known.
pub(super) fn conflicts_unlisted(app: &App, count: usize) -> u64 {
    let told = app.shown().and_then(|snapshot| snapshot.conflicts.as_ref());
    told.map_or(0, |told| told.total.saturating_sub(count as u64))
}

/// The events, and what the selected one means.
pub(super) fn events_parts(body: Rect) -> (Rect, Rect) {
    let below = match body.height {
        24.. => 9,
        16.. => 6,
        _ => 0,
    };
    let [list, detail] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(below)]).areas(body);
    (list, detail)
}
