//! The keys with siblings of the whole cluster, page by page.
//!
//! Every member that is up lists its own from the same place on, and the pages are merged: a key is
//! named once, however many replicas show it, and one that only a single replica shows is named
//! too. A cursor is the slot and the token's top 48 bits, as that of a scan; keys at one place come
//! together.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_client::NodeId;
use kv_client::wire::{CONFLICTS_PAGE_KEYS_MAX, Conflict, ConflictsView};

use super::Coordinator;
use crate::error::RequestError;
use crate::keys::{DEFAULT_KEYSPACE, KeyRef, PREFIX_BYTES, position};
use crate::wire::{ConflictPage, PeerOp, PeerOut};

/// Bits of a token in a cursor.
const TOKEN_BITS: u32 = 48;
/// Milliseconds that other nodes have to list theirs.
const LISTED_MS_MAX: u64 = 1_000;

/// The place of a storage key among cursors.
fn place_of(storage_key: &[u8]) -> u64 {
    KeyRef::parse(storage_key).map_or(0, |key| {
        u64::from(key.slot.index()) << TOKEN_BITS | key.token.value() >> (64 - TOKEN_BITS)
    })
}

impl Coordinator {
    /// How many keys with siblings this node answers for: those in partitions whose first live
    /// primary it is. Summed over the members each key counts once.
    pub(crate) fn conflicts_counted(&self) -> u64 {
        let Ok(scope) = self.scope() else { return 0 };
        let me = Some(scope.view.me);
        self.parts.replica.conflicts().keys_in(|partition| scope.decider(partition) == me)
    }

    /// Whether this node's index names all of its keys with siblings.
    pub(crate) fn conflicts_are_all(&self) -> bool {
        let view = self.parts.view.now();
        let counts = self.parts.replica.conflicts().counts(|partition| view.holds(partition));
        counts.unread == 0 && counts.short == 0
    }

    /// The keys with siblings that this node holds, from a cursor on.
    pub(crate) fn conflicts_here(&self, from: u64, rows_max: u32) -> ConflictPage {
        let Ok(slot) = u16::try_from(from >> TOKEN_BITS) else { return ConflictPage::default() };
        let from = position(DEFAULT_KEYSPACE, slot, from << (64 - TOKEN_BITS));
        let count = rows_max.min(CONFLICTS_PAGE_KEYS_MAX) as usize;
        let same = |one: &[u8], other: &[u8]| place_of(one) == place_of(other);
        let (rows, end) = self.parts.replica.conflicts().page(&from, count, same);
        let row = |(key, of): (Bytes, crate::replica::Siblings)| (key, of.count, of.newest_ms);
        ConflictPage {
            rows: rows.into_iter().map(row).collect(),
            end,
            all: self.conflicts_are_all(),
            counted: self.conflicts_counted(),
        }
    }

    /// A page of the cluster's keys with siblings.
    ///
    /// # Errors
    /// `Loading`.
    pub(crate) async fn conflicts_everywhere(
        &self,
        from: u64,
        count: u32,
    ) -> Result<ConflictsView, RequestError> {
        let scope = self.scope()?;
        let count = count.clamp(1, CONFLICTS_PAGE_KEYS_MAX);
        let mut asked: Vec<NodeId> =
            scope.layouts.live().flat_map(|layout| layout.members().iter().copied()).collect();
        asked.sort_unstable();
        asked.dedup();
        asked.retain(|node| *node != scope.view.me && !scope.down.contains(node));
        let op = PeerOp::Conflicts { from, rows_max: count };
        let asks = asked.iter().map(|node| (*node, op.clone())).collect();
        let soon = self.parts.clock.steady_ms() + LISTED_MS_MAX;
        let answers = self.gather_while_up(soon.min(scope.deadline_ms), asks).await;
        let mut pages = vec![(scope.view.me, self.conflicts_here(from, count))];
        let mut silent = scope.down.clone();
        for (node, answer) in asked.into_iter().zip(answers) {
            match answer {
                Some(Ok(PeerOut::Conflicts(page))) => pages.push((node, page)),
                _ => silent.push(node),
            }
        }
        silent.sort_unstable();
        let mut view = merge(pages, count as usize);
        view.silent = silent;
        Ok(view)
    }
}

/// One page of several nodes'. A node's page that is not its last says nothing of what lies behind
/// it, so the merged one ends where the first of them does.
fn merge(pages: Vec<(NodeId, ConflictPage)>, count: usize) -> ConflictsView {
    let mut view = ConflictsView::default();
    let open = pages.iter().filter(|(_, page)| !page.end);
    let until = open.filter_map(|(_, page)| Some(place_of(&page.rows.last()?.0) + 1)).min();
    let mut found: BTreeMap<Bytes, Conflict> = BTreeMap::new();
    for (node, page) in pages {
        view.total += page.counted;
        if !page.all {
            view.partial.push(node);
        }
        for (key, siblings, newest_ms) in page.rows {
            if key.len() < PREFIX_BYTES || until.is_some_and(|until| place_of(&key) >= until) {
                continue;
            }
            let of_key = found.entry(key.clone()).or_insert_with(|| Conflict {
                key: key.slice(PREFIX_BYTES..),
                ..Conflict::default()
            });
            of_key.siblings = of_key.siblings.max(siblings);
            of_key.newest_ms = of_key.newest_ms.max(newest_ms);
            of_key.replicas = of_key.replicas.saturating_add(1);
        }
    }
    view.partial.sort_unstable();
    view.next = until.unwrap_or(0);
    let mut last = None;
    for (key, conflict) in found {
        let place = place_of(&key);
        if view.rows.len() >= count && last != Some(place) {
            view.next = place;
            break;
        }
        last = Some(place);
        view.rows.push(conflict);
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str], end: bool) -> ConflictPage {
        let mut rows: Vec<(Bytes, u32, u64)> = keys
            .iter()
            .map(|key| (KeyRef::place(DEFAULT_KEYSPACE, key.as_bytes()).to_storage(), 2, 7))
            .collect();
        rows.sort();
        ConflictPage { rows, end, all: end, counted: 1 }
    }

    fn names(view: &ConflictsView) -> Vec<String> {
        let name = |row: &Conflict| String::from_utf8_lossy(&row.key).into_owned();
        view.rows.iter().map(name).collect()
    }

    #[test]
    fn a_key_is_named_once_and_what_one_replica_shows_is_named_too() {
        let pages =
            vec![(NodeId(1), page(&["a", "b"], true)), (NodeId(2), page(&["b", "c"], true))];
        let view = merge(pages, 10);
        let mut found = names(&view);
        found.sort();
        assert_eq!(found, ["a", "b", "c"]);
        let replicas = |key: &str| view.rows.iter().find(|row| row.key == key).map(|r| r.replicas);
        assert_eq!((replicas("a"), replicas("b")), (Some(1), Some(2)));
        assert_eq!((view.total, view.next), (2, 0));
        assert!(view.partial.is_empty());
    }

    #[test]
    fn a_page_ends_where_the_first_of_its_parts_does() {
        let all: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let whole = page(&all, true);
        let from = |cursor: u64, rows: usize| {
            let mut page = whole.clone();
            page.rows.retain(|(key, ..)| place_of(key) >= cursor);
            page.end = page.rows.len() <= rows;
            page.rows.truncate(rows);
            page
        };
        let (mut found, mut cursor) = (Vec::new(), 0);
        for _ in 0..40 {
            let pages = vec![(NodeId(1), from(cursor, 3)), (NodeId(2), from(cursor, 7))];
            let view = merge(pages, 5);
            assert!(view.rows.len() <= 5);
            found.extend(names(&view));
            cursor = view.next;
            if cursor == 0 {
                break;
            }
        }
        found.sort();
        let mut wanted = all.clone();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "every key once");
    }
}
