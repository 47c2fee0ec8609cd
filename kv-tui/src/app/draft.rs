//! A write that is shown before it is sent, and one that was sent and can be taken back.
//!
//! Invariant: what is sent carries the context of what was shown, so it replaces that and nothing
//! else. A version that was written since stays beside it, as a sibling.

use bytes::Bytes;
use kv_client::wire::{Coverage, Sibling};

use super::Op;
use crate::model::{Look, Rule, Seen, Verdict, resolve};

/// A write that is shown and not sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The key.
    pub key: Bytes,
    /// How the value came about.
    pub rule: Rule,
    /// The value, or why the rule can't decide.
    pub verdict: Result<Verdict, String>,
    /// What the write replaces: what was shown when the draft was made.
    pub replaced: Seen,
}

impl Draft {
    /// A draft over what a look showed.
    ///
    /// # Errors
    /// The look showed nothing that could be replaced, since the read failed.
    pub fn new(look: &Look, rule: Rule) -> Result<Self, String> {
        let seen = look.seen.as_ref().map_err(|why| format!("the key could not be read: {why}"))?;
        let verdict = resolve(&rule, &seen.siblings);
        Ok(Self { key: look.key.clone(), rule, verdict, replaced: seen.clone() })
    }

    /// The operation that would be sent; `None` while the rule does not decide.
    pub fn ops(&self) -> Option<Vec<Op>> {
        let verdict = self.verdict.as_ref().ok()?;
        Some(vec![Op {
            value: verdict.value.clone(),
            coverage: Coverage::Seen(self.replaced.context.clone()),
            expires_at_ms: verdict.expires_at_ms,
        }])
    }

    /// What it does, in words.
    pub fn words(&self) -> String {
        let what = match &self.verdict {
            Ok(Verdict { value: None, .. }) => "a delete".to_owned(),
            _ => format!("a value by rule {}", self.rule),
        };
        match self.replaced.siblings.len() {
            0 => format!("{what}, replacing nothing"),
            1 => format!("{what}, replacing the version shown"),
            count => format!("{what}, replacing {count} siblings"),
        }
    }
}

/// A write that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub id: u64,
    /// The key.
    pub key: Bytes,
    /// What it did, in words.
    pub what: String,
    /// What it replaced.
    pub replaced: Vec<Sibling>,
    /// Covers the write; empty until it is answered.
    pub context: Bytes,
    /// Whether it was itself an undo, and so can't be undone.
    pub is_undo: bool,
}

impl Sent {
    /// Puts back what the write replaced: the first in place of the write, the others beside it, as
    /// concurrent writes had left them. They get new names, since they are new writes.
    pub fn undo(&self) -> Vec<Op> {
        let mut coverage = Coverage::Seen(self.context.clone());
        if self.replaced.is_empty() {
            return vec![Op { value: None, coverage, expires_at_ms: None }];
        }
        // The newest comes first in what was read, and must be the last written to be it again.
        let oldest_first = self.replaced.iter().rev();
        // A delete replaces; beside values it could only follow them.
        let (deletes, values): (Vec<_>, Vec<_>) =
            oldest_first.partition(|sibling| sibling.value.is_none());
        let ops = deletes.into_iter().take(1).chain(values).map(|sibling| Op {
            value: sibling.value.clone(),
            coverage: std::mem::replace(&mut coverage, Coverage::Nothing),
            expires_at_ms: sibling.expires_at_ms,
        });
        ops.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_client::NodeId;
    use kv_client::wire::DotName;

    fn sibling(time: u64, value: Option<&'static str>) -> Sibling {
        let dot = DotName { time, node: NodeId(1), tenure: 1 };
        Sibling { dot, value: value.map(Bytes::from), expires_at_ms: None }
    }

    fn look() -> Look {
        let siblings = vec![sibling(3, Some("b")), sibling(2, Some("a"))];
        let seen = Seen { siblings, context: Bytes::from_static(b"ctx") };
        Look { key: Bytes::from_static(b"k"), explained: Err("no".into()), seen: Ok(seen) }
    }

    #[test]
    fn a_draft_replaces_what_was_shown() {
        let draft = Draft::new(&look(), Rule::Pick(1)).expect("it was read");
        let ops = draft.ops().expect("it decides");
        let context = Bytes::from_static(b"ctx");
        let coverage = Coverage::Seen(context);
        assert_eq!(ops, [Op { value: Some("a".into()), coverage, expires_at_ms: None }]);
        assert_eq!(draft.words(), "a value by rule pick sibling 2, replacing 2 siblings");
        let undecided = Draft::new(&look(), Rule::Max).expect("it was read");
        assert!(undecided.ops().is_none());
        let unread = Look { seen: Err("no quorum".into()), ..look() };
        assert!(Draft::new(&unread, Rule::Latest).is_err());
    }

    #[test]
    fn an_undo_puts_the_siblings_back_in_their_order() {
        let after = Bytes::from_static(b"after");
        let sent = |replaced| Sent {
            id: 1,
            key: "k".into(),
            what: String::new(),
            replaced,
            context: after.clone(),
            is_undo: false,
        };
        let undo = |replaced| -> Vec<(Option<Bytes>, bool)> {
            let ops = sent(replaced).undo().into_iter();
            ops.map(|op| (op.value, op.coverage == Coverage::Nothing)).collect()
        };
        let (a, b) = (Some(Bytes::from("a")), Some(Bytes::from("b")));
        assert_eq!(undo(look().seen.expect("read").siblings), [(a.clone(), false), (b, true)]);
        let with_delete = vec![sibling(3, None), sibling(2, Some("a"))];
        assert_eq!(undo(with_delete), [(None, false), (a, true)]);
        assert_eq!(undo(Vec::new()), [(None, false)], "a new key is deleted");
    }
}
