//! The keys with siblings beyond the first page.
//!
//! The first page comes with the answers, again and again. Further ones are asked for when the
//! selection nears the end of what is listed, and kept: what of them was looked up and has siblings
//! no more is dropped, and all of them where the first page no longer reaches to where they begin.

use std::collections::BTreeSet;

use kv_client::wire::{Conflict, ConflictsView};

use super::message::Effect;
use super::{App, Tab};
use crate::model::Look;
use crate::text;

/// Keys with siblings that are listed at most, besides those of the first page.
pub const PAGED_KEYS_MAX: usize = 10_000;
/// The next page is asked for when so few lines are left below the selected one.
const NEAR_LINES: usize = 20;

/// Pages behind the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Their keys.
    pub rows: Vec<Conflict>,
    /// Where they begin: the first page's end, when they were asked for.
    from: u64,
    /// Where the next begins; 0 at the end.
    next: u64,
    /// Where the page begins that was asked for and has not come.
    asked: Option<u64>,
}

impl Pages {
    /// Takes a first page: what it lists is not listed twice.
    pub(super) fn follow(&mut self, first: &ConflictsView) {
        if first.next == 0 || first.next < self.from {
            self.rows.clear();
        }
        if self.rows.is_empty() {
            (self.from, self.next) = (first.next, first.next);
        }
        let known: BTreeSet<&[u8]> = first.rows.iter().map(|row| &row.key[..]).collect();
        self.rows.retain(|row| !known.contains(&row.key[..]));
    }

    /// Drops a key that was looked up and has siblings no more.
    pub(super) fn looked(&mut self, look: &Look) {
        if look.seen.is_ok() && !look.is_conflict() {
            self.rows.retain(|row| row.key != look.key);
        }
    }

    /// Asks for what follows, once at a time.
    fn ask(&mut self) -> Option<Effect> {
        let more = self.next > 0 && self.rows.len() < PAGED_KEYS_MAX && self.asked.is_none();
        self.asked = more.then_some(self.next).or(self.asked);
        more.then_some(Effect::List { from: self.next })
    }
}

/// The next page, if the selection nears the end of what is listed.
pub(super) fn wanted(app: &mut App) -> Option<Effect> {
    let listed = app.conflicts().len();
    let near = app.selected.conflict.saturating_add(NEAR_LINES) >= listed;
    if app.tab == Tab::Conflicts && near { app.pages.ask() } else { None }
}

/// A page came, or did not.
pub(super) fn listed(app: &mut App, from: u64, out: Result<ConflictsView, String>) {
    app.pages.asked.take_if(|asked| *asked == from);
    let page = match out {
        Ok(page) => page,
        Err(why) => {
            let why = text::shown(why.as_bytes(), 200);
            return app.say(format!("the next keys with siblings were not heard of: {why}"));
        }
    };
    // One that was asked for before the first page changed.
    if app.pages.next != from {
        return;
    }
    let first = app.snapshot.as_deref().and_then(|snapshot| snapshot.conflicts.as_ref());
    let known: BTreeSet<&[u8]> = first
        .into_iter()
        .flat_map(|first| &first.rows)
        .chain(&app.pages.rows)
        .map(|row| &row.key[..])
        .collect();
    let fresh = page.rows.into_iter().filter(|row| !known.contains(&row.key[..]));
    let fresh: Vec<Conflict> = fresh.collect();
    app.pages.rows.extend(fresh);
    app.pages.rows.truncate(PAGED_KEYS_MAX);
    app.pages.next = page.next;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::app::{Message, Pressed, update};
    use crate::fixture::{self, Standing, app};

    const END: u64 = 7 << 48;

    fn row(number: usize) -> Conflict {
        let key = Bytes::from(format!("paged:{number}"));
        Conflict { key, siblings: 2, newest_ms: fixture::UNIX_MS, replicas: 3 }
    }

    fn page(rows: std::ops::Range<usize>, next: u64) -> ConflictsView {
        ConflictsView { rows: rows.map(row).collect(), next, ..ConflictsView::default() }
    }

    fn come(app: &mut App, from: u64, page: ConflictsView) -> Vec<Effect> {
        update(app, Message::Listed { from, out: Ok(page) })
    }

    fn press(app: &mut App, key: char) -> Vec<Effect> {
        update(app, Message::Key(Pressed::char(key)))
    }

    /// Only the pages that were asked for.
    fn asked(effects: Vec<Effect>) -> Vec<u64> {
        let of = |effect| match effect {
            Effect::List { from } => Some(from),
            _ => None,
        };
        effects.into_iter().filter_map(of).collect()
    }

    #[test]
    fn pages_are_asked_for_as_the_selection_nears_the_end() {
        let mut app = app(Standing::Degraded);
        assert_eq!(app.conflicts().len(), 3);
        assert_eq!(asked(press(&mut app, '4')), [END], "three lines are few");
        assert_eq!(asked(press(&mut app, 'j')), [0; 0], "once at a time");
        assert_eq!(asked(come(&mut app, END, page(0..100, 8 << 48))), [0; 0]);
        assert_eq!(app.conflicts().len(), 103);
        assert_eq!(asked(press(&mut app, 'j')), [0; 0]);
        assert_eq!(asked(press(&mut app, 'G')), [8 << 48]);
        // What did not come is said, and asked for again.
        update(&mut app, Message::Listed { from: 8 << 48, out: Err("no answer".into()) });
        assert!(app.notice.as_ref().is_some_and(|(text, _)| text.contains("no answer")));
        assert_eq!(asked(press(&mut app, 'k')), [8 << 48]);
        // The same key on two pages is listed once; the last page is the last.
        assert_eq!(asked(come(&mut app, 8 << 48, page(99..120, 0))), [0; 0]);
        assert_eq!(app.conflicts().len(), 123);
        assert_eq!(asked(press(&mut app, 'G')), [0; 0]);
        assert_eq!(app.selected.conflict, 122);
    }

    #[test]
    fn pages_follow_the_first() {
        let mut app = app(Standing::Degraded);
        press(&mut app, '4');
        come(&mut app, END, page(0..100, 8 << 48));
        let heard = |app: &mut App, rows: std::ops::Range<usize>, next| {
            let mut ill = fixture::ill();
            ill.conflicts = Some(page(rows, next));
            drop(update(app, Message::Heard(Box::new(ill))));
            app.pages.rows.len()
        };
        assert_eq!(heard(&mut app, 0..10, END + 1), 90, "it reaches further: those are not twice");
        assert_eq!(heard(&mut app, 0..10, END), 90);
        // A key was looked up, and has one version.
        let gone = Look { key: row(50).key, ..fixture::user() };
        update(&mut app, Message::Looked(Box::new(gone)));
        assert_eq!(app.pages.rows.len(), 89);
        assert_eq!(heard(&mut app, 0..10, END - 1), 0, "what lies between would be missing");
        // An answer to a question from before then is none to the one that it asked for.
        assert_eq!(app.pages.asked, Some(END - 1));
        come(&mut app, 8 << 48, page(100..120, 0));
        assert_eq!(app.pages.rows.len(), 0);
        come(&mut app, END - 1, page(10..20, 0));
        assert_eq!(app.pages.rows.len(), 10);
        assert_eq!(heard(&mut app, 0..10, 0), 0, "the first page is the last");
    }

    #[test]
    fn pages_are_bounded() {
        let mut app = app(Standing::Degraded);
        let mut from = END;
        press(&mut app, '4');
        for at in 0..20 {
            let next = from + 1;
            come(&mut app, from, page(at * 1_000..(at + 1) * 1_000, next));
            from = next;
            press(&mut app, 'G');
        }
        assert_eq!(app.pages.rows.len(), PAGED_KEYS_MAX);
        assert_eq!(asked(press(&mut app, 'G')), [0; 0]);
    }
}
