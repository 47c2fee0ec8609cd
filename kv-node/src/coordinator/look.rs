//! Reads of facts about values: whether there is one, how long, until when. The same reads of R
//! replicas as GET's, of which less is shown.

use super::{Coordinator, Levels};
use crate::error::RequestError;
use crate::keys::KeyRef;

/// What is known of a live value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    /// The bytes that GET shows.
    pub(crate) value: &'a [u8],
    /// When they expire, in milliseconds since 1970.
    pub(crate) expires_at_ms: Option<u64>,
    /// Bytes of the whole record.
    pub(crate) record_bytes: usize,
}

/// Takes what is seen of each key.
pub(crate) type Show<'s> = dyn FnMut(usize, Result<Option<Seen<'_>>, RequestError>) + Send + 's;

impl Coordinator {
    /// Looks at keys: `show` is called once for each, in order, with `None` where GET shows nil.
    pub(crate) async fn look_batch(
        &self,
        keys: &[KeyRef<'_>],
        levels: Levels,
        show: &mut Show<'_>,
    ) {
        self.parts.figures.coordinator_gets.add(keys.len() as u64);
        let now_ms = self.now_ms();
        self.read_batch(keys, levels, &mut |place, record| {
            let seen = record.and_then(|record| {
                let Some(record) = record else { return Ok(None) };
                let peek = kv_quorum::peek(record)
                    .map_err(|error| RequestError::Storage(format!("a stored record: {error}")))?;
                Ok(peek.and_then(|peek| {
                    let value = record.get(peek.shown(now_ms)?)?;
                    let expires_at_ms = peek.expiry.expires_at_ms;
                    Some(Seen { value, expires_at_ms, record_bytes: record.len() })
                }))
            });
            show(place, seen);
        })
        .await;
    }
}
