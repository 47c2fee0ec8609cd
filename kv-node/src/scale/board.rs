//! What the members tell each other about scaling: what operators set for all of them, and what the
//! one who decides is doing.
//!
//! Settings are a register, of which the latest wins: whoever was asked gives it a stamp above the
//! one that it knows and tells it with its gossip; each member keeps the latest durably and tells
//! it too, so that it outlives any of them. What the decider does is told by it alone.
//!
//! Invariant: who is made to leave is noted, durably, before the change is proposed, so that no
//! restart forgets to end him; he is ended only when no live layout names him. Who is a member by a
//! later layout that is stable (it was not decided, or it was called off) is on no list any more.

use std::io;
use std::sync::Arc;

use kv_client::NodeId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::policy::Policy;
use crate::cluster::meta::MetaStore;

/// Nodes that left and are yet to be ended that are told of at most; the oldest go first.
const LEFT_MAX: usize = 8;
/// Bytes of a sentence at most.
const WORDS_BYTES_MAX: usize = 110;
/// The names of the durable facts.
const FACT: &str = "autoscale";
const LEFT_FACT: &str = "autoscale-left";

/// Whether decisions are made, and acted upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// None are made.
    #[default]
    Off,
    /// They are made and shown.
    Advise,
    /// They are made, shown and carried out.
    Auto,
}

impl Mode {
    /// A stable word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Advise => "advise",
            Self::Auto => "auto",
        }
    }
}

/// What operators set for the whole cluster, over what is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// The later wins; 0 if nothing was ever set.
    pub stamp_ms: u64,
    /// Who set it: of equal stamps the higher wins.
    pub by: NodeId,
    /// The mode, if it was set.
    pub mode: Option<Mode>,
    /// The policy, if it was set.
    pub policy: Option<Policy>,
    /// Nothing is done before, milliseconds since 1970; 0 is no pause, the maximum one for good.
    pub paused_until_ms: u64,
}

impl Board {
    fn order(&self) -> (u64, NodeId) {
        (self.stamp_ms, self.by)
    }
}

/// What one member tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The latest settings that it knows.
    pub board: Board,
    /// Members that it made leave and that are yet to be ended.
    pub left: Vec<NodeId>,
    /// What it is doing, if it decides.
    pub doing: String,
    /// What failed last.
    pub failure: String,
}

impl Told {
    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// What a node told. Later versions may tell more: that is not read.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::take_from_bytes(bytes).ok().map(|(told, _)| told)
    }
}

/// A sentence, short enough to be told.
pub(crate) fn words(text: &str) -> String {
    let most = WORDS_BYTES_MAX.min(text.len());
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

/// A member that is made to leave, and is to be ended then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    node: NodeId,
    /// The newest epoch when that was decided.
    after: u64,
}

/// What this node tells, with the settings and those that left durable.
pub(crate) struct BoardStore {
    meta: Arc<MetaStore>,
    told: Mutex<Told>,
    left: Mutex<Vec<Left>>,
}

impl BoardStore {
    /// What the directory remembers.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn open(meta: Arc<MetaStore>) -> io::Result<Self> {
        let kept = meta.load(FACT)?;
        // Settings of a later version are not understood, and will be heard of anew.
        let board = kept.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let kept = meta.load(LEFT_FACT)?;
        let left: Vec<Left> =
            kept.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let names = left.iter().map(|left| left.node).collect();
        let told = Told { board, left: names, ..Told::default() };
        Ok(Self { meta, told: Mutex::new(told), left: Mutex::new(left) })
    }

    /// Notes a member that is about to be made to leave, after epoch `after`. Blocks.
    ///
    /// # Errors
    /// It can't be stored: nothing is noted.
    pub(crate) fn note_left(&self, node: NodeId, after: u64) -> io::Result<()> {
        self.keep_left(|left| {
            left.retain(|known| known.node != node);
            if left.len() >= LEFT_MAX {
                left.remove(0);
            }
            left.push(Left { node, after });
        })
    }

    /// Forgets a node that was ended. Blocks.
    ///
    /// # Errors
    /// It can't be stored: it is remembered, and may be ended once more.
    pub(crate) fn forget_left(&self, node: NodeId) -> io::Result<()> {
        self.keep_left(|left| left.retain(|known| known.node != node))
    }

    /// Nothing moves, in this epoch: who is a member did not leave. Blocks.
    ///
    /// # Errors
    /// It can't be stored: all are remembered.
    pub(crate) fn settled(&self, epoch: u64, is_member: impl Fn(NodeId) -> bool) -> io::Result<()> {
        self.keep_left(|left| left.retain(|left| epoch <= left.after || !is_member(left.node)))
    }

    fn keep_left(&self, change: impl FnOnce(&mut Vec<Left>)) -> io::Result<()> {
        let mut left = self.left.lock();
        let mut next = left.clone();
        change(&mut next);
        if next == *left {
            return Ok(());
        }
        self.meta.store(LEFT_FACT, &postcard::to_allocvec(&next).map_err(io::Error::other)?)?;
        self.told.lock().left = next.iter().map(|left| left.node).collect();
        *left = next;
        Ok(())
    }

    pub(crate) fn now(&self) -> Told {
        self.told.lock().clone()
    }

    /// Takes settings if they are later than what is known, durably. Says whether they were.
    ///
    /// # Errors
    /// They can't be stored; they hold until the next start.
    pub(crate) fn take(&self, board: Board) -> io::Result<bool> {
        {
            let mut told = self.told.lock();
            if board.order() <= told.board.order() {
                return Ok(false);
            }
            told.board = board;
        }
        self.meta.store(FACT, &postcard::to_allocvec(&board).unwrap_or_default())?;
        Ok(true)
    }

    /// Changes what this node tells beside the settings.
    pub(crate) fn say(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kv_lsm::fs::MemFs;

    use super::*;

    #[test]
    fn the_latest_settings_win_and_outlive_a_restart() {
        let fs = Arc::new(MemFs::new());
        let open = || {
            let meta = MetaStore::open(fs.clone(), Path::new("/meta")).expect("memory");
            BoardStore::open(Arc::new(meta)).expect("memory")
        };
        let store = open();
        assert_eq!(store.now(), Told::default());
        let board = |stamp_ms, by| Board {
            stamp_ms,
            by: NodeId(by),
            mode: Some(Mode::Auto),
            ..Board::default()
        };
        assert!(store.take(board(5, 1)).expect("memory"));
        assert!(!store.take(board(4, 9)).expect("memory"), "an older one");
        assert!(!store.take(board(5, 1)).expect("memory"), "the same");
        assert!(store.take(board(5, 2)).expect("memory"), "of equals the higher");
        assert_eq!(open().now().board, board(5, 2));
    }

    #[test]
    fn who_was_made_to_leave_is_known_after_a_restart_until_he_is_ended_or_stays() {
        let fs = Arc::new(MemFs::new());
        let open = || {
            let meta = MetaStore::open(fs.clone(), Path::new("/meta")).expect("memory");
            BoardStore::open(Arc::new(meta)).expect("memory")
        };
        let (one, other) = (NodeId(1), NodeId(2));
        open().note_left(one, 7).expect("memory");
        let store = open();
        assert_eq!(store.now().left, [one]);
        store.note_left(other, 8).expect("memory");
        store.settled(7, |_| true).expect("memory");
        assert_eq!(store.now().left, [one, other], "it is not decided yet");
        store.settled(9, |node| node == one).expect("memory");
        assert_eq!(open().now().left, [other], "it was called off");
        open().forget_left(other).expect("memory");
        assert!(open().now().left.is_empty());
        let store = open();
        (0..20).for_each(|n| store.note_left(NodeId(n), 9).expect("memory"));
        assert_eq!(open().now().left.len(), LEFT_MAX);
    }

    #[test]
    fn what_is_told_fits_a_fact() {
        let policy = Policy {
            nodes_min: u16::MAX,
            nodes_max: u16::MAX,
            ops_per_node: u64::MAX,
            cpu_percent: u8::MAX,
            disk_bytes_per_node: u64::MAX,
            margin_percent: u8::MAX,
            out_after_ms: u64::MAX,
            in_after_ms: u64::MAX,
            cool_down_ms: u64::MAX,
        };
        let board = Board {
            stamp_ms: u64::MAX,
            by: NodeId(u64::MAX),
            mode: Some(Mode::Auto),
            policy: Some(policy),
            paused_until_ms: u64::MAX,
        };
        let long = words(&"ä".repeat(500));
        let left = vec![NodeId(u64::MAX); LEFT_MAX];
        let told = Told { board, left, doing: long.clone(), failure: long };
        let bytes = told.to_bytes();
        assert!(bytes.len() <= kv_gossip::Config::lan().fact_bytes_max, "{}", bytes.len());
        assert_eq!(Told::from_bytes(&bytes), Some(told));
        assert_eq!(words("short"), "short");
    }
}
