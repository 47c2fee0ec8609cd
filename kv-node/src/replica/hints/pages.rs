//! Hints by the page: counting them after a restart, replaying them, handing them on, flushing.

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::Mark;

use super::log::HintMove;
use super::{UNCOUNTED, span_of};
use crate::keys::{after, hint_range, hint_row, parse_hint};
use crate::plug::storage::{PageRequest, StorageError};
use crate::replica::rows::RowChange;
use crate::replica::serve::Rows;
use crate::replica::{Replica, Verdict};

/// Rows of one page.
const PAGE_ROWS_MAX: usize = 256;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 256 * 1_024;

impl Replica {
    /// Counts the hints that a durable engine came up with, or has left after damage, unless they
    /// fill more than `pages_max` pages or somebody still takes some. Until they are counted none
    /// is taken or removed. Answers how many are gone by damage.
    ///
    /// # Errors
    /// They stay uncounted.
    pub async fn count_hints(&self, pages_max: usize) -> Result<u64, StorageError> {
        if !self.hints.may_be_counted() {
            return Ok(0);
        }
        let mut found: Vec<HintMove> = Vec::new();
        let mut from = hint_range(NodeId(0)).0;
        let mut pages = 0;
        loop {
            if pages == pages_max {
                return Ok(0);
            }
            pages += 1;
            let (rows, end) = self.hint_rows_from(from, Bytes::new()).await?;
            for (row, record) in &rows {
                let Some((target, _)) = parse_hint(row) else { continue };
                let now = Some((row.len() + record.len(), span_of(record)));
                found.push(HintMove { target, was: None, now });
            }
            match rows.last() {
                Some((last, _)) if !end => from = after(last),
                _ => break,
            }
        }
        Ok(self.hints.count(&found))
    }

    /// A page of the hints for `target`, from the row `from` on (or from the first): rows and
    /// whether that was the last page.
    ///
    /// # Errors
    /// Nothing is known of them.
    pub(crate) async fn hint_page(
        &self,
        target: NodeId,
        from: Option<Bytes>,
    ) -> Result<Rows, StorageError> {
        let (first, to) = hint_range(target);
        self.hint_rows_from(from.unwrap_or(first), to).await
    }

    async fn hint_rows_from(&self, from: Bytes, to: Bytes) -> Result<Rows, StorageError> {
        let page = PageRequest { from, to, rows_max: PAGE_ROWS_MAX, bytes_max: PAGE_BYTES_MAX };
        // With those that a flush made dead: they are counted, and are to be removed.
        let page = self.engine.scan(page).await?;
        self.durable(page.ticket).await?;
        Ok((page.rows, page.end))
    }

    /// Removes hints that their target holds durably now, and those that a flush made dead, unless
    /// they have changed since they were read. Says how many went.
    ///
    /// # Errors
    /// Some may still be there: they are delivered once more.
    pub(crate) async fn drop_hints(&self, rows: &[(Bytes, Bytes)]) -> Result<usize, StorageError> {
        let _entered = self.hints.enter().ok_or_else(|| StorageError::Busy(UNCOUNTED.into()))?;
        let keys: Vec<&[u8]> = rows.iter().map(|(row, _)| &row[..]).collect();
        let mut gone = 0;
        self.update(&keys, &mut |place, stored, _| {
            // A flush may have made some of it dead, before it was sent or since.
            let sent = rows.get(place).and_then(|(_, record)| self.alive(record));
            if stored.is_some() && stored != sent.as_deref() {
                return Verdict::Keep;
            }
            gone += 1;
            Verdict::Remove
        })
        .await?;
        Ok(gone)
    }

    /// Removes hints that the flush mark made dead.
    ///
    /// # Errors
    /// Some are still there; they stay dead all the same.
    pub(in crate::replica) async fn remove_flushed_hints(&self) -> Result<(), StorageError> {
        for target in self.hint_targets() {
            let mut from = None;
            loop {
                let (rows, end) = self.hint_page(target, from.take()).await?;
                let next = rows.last().map(|(last, _)| after(last));
                let dead: Vec<(Bytes, Bytes)> =
                    rows.into_iter().filter(|(_, record)| self.alive(record).is_none()).collect();
                if !dead.is_empty() {
                    self.drop_hints(&dead).await?;
                }
                match next {
                    Some(next) if !end => from = Some(next),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Hands a hint on whose target is no replica of the key any more: to those who are, and into
    /// this node's own copy if it is one of them. All at once, so that nothing is lost between. A
    /// full log does not refuse it: what it holds already has to go somewhere.
    ///
    /// # Errors
    /// It is where it was.
    pub(crate) async fn hand_hint_on(
        &self,
        row: &Bytes,
        to: &[NodeId],
        holds: bool,
    ) -> Result<(), StorageError> {
        let Some((_, key)) = parse_hint(row) else { return Ok(()) };
        let _entered = self.hints.enter().ok_or_else(|| StorageError::Busy(UNCOUNTED.into()))?;
        let mut rows = vec![row.clone()];
        rows.extend(to.iter().map(|target| hint_row(*target, key)));
        if holds {
            rows.push(Bytes::copy_from_slice(key));
        }
        let ticket = self
            .update_rows(&rows, &mut |stored| {
                let Some(Some(hint)) = stored.first() else {
                    return vec![(0, RowChange::Remove)];
                };
                let mut changes = Vec::with_capacity(stored.len());
                for (place, there) in stored.iter().enumerate().skip(1) {
                    let mut out = Vec::new();
                    let row = rows.get(place).map_or(&[][..], |row| &row[..]);
                    if self.join(row, there.as_deref(), hint, Mark::NONE, &mut out).0
                        == Verdict::Write
                    {
                        changes.push((place, RowChange::Put(Bytes::from(out))));
                    }
                }
                changes.push((0, RowChange::Remove));
                changes
            })
            .await?;
        self.durable(ticket).await
    }
}
