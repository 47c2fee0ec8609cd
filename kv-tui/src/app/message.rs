//! What comes into `update`, and what goes out of it.

use bytes::Bytes;
use crossterm::event::{KeyCode, KeyModifiers};
use kv_client::NodeId;
use kv_client::wire::{ConflictsView, Coverage, MembersPlan, ScaleMode};

use super::LocalVerb;
use crate::model::{EventKind, Look, Snapshot};

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// Which.
    pub code: KeyCode,
    /// With what else held down.
    pub modifiers: KeyModifiers,
}

impl Pressed {
    /// A key alone.
    pub fn plain(code: KeyCode) -> Self {
        Self { code, modifiers: KeyModifiers::NONE }
    }

    /// A character alone.
    pub fn char(char: char) -> Self {
        Self::plain(KeyCode::Char(char))
    }
}

/// What a mouse did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wheel {
    /// The left button went down here: column, row.
    Click(u16, u16),
    /// It was turned towards the person.
    Down,
    /// It was turned away.
    Up,
}

/// What happened outside of the model.
#[derive(Clone, Debug)]
pub enum Message {
    /// Time went by.
    Tick {
        /// Milliseconds since the terminal was started.
        now_ms: u64,
        /// Milliseconds since 1970.
        unix_ms: u64,
    },
    /// A key was pressed.
    Key(Pressed),
    /// The mouse was used.
    Mouse(Wheel),
    /// Text was pasted.
    Paste(String),
    /// The screen has another size: columns, rows.
    Resize(u16, u16),
    /// A node answered.
    Heard(Box<Snapshot>),
    /// No node answered.
    Silent {
        /// Why.
        why: String,
        /// Milliseconds until the next question.
        retry_ms: u64,
    },
    /// A further page of the keys with siblings came, or did not.
    Listed {
        /// Where it begins.
        from: u64,
        /// The page, or why there is none.
        out: Result<ConflictsView, String>,
    },
    /// A key was looked up.
    Looked(Box<Look>),
    /// A write was answered.
    Written {
        /// Its number.
        id: u64,
        /// What came of it.
        out: Written,
    },
    /// A repair ended, as its words say.
    Repaired(Result<String, String>),
    /// A change of the members was planned, or can't be made.
    Planned {
        /// Who would join.
        joins: Vec<NodeId>,
        /// Who would leave.
        leaves: Vec<NodeId>,
        /// What would move, or why not.
        out: Result<Box<MembersPlan>, String>,
    },
    /// A change of the cluster was made or not, as its words say.
    Changed {
        /// What it is about.
        kind: EventKind,
        /// The words.
        out: Result<String, String>,
    },
    /// The program that runs a local cluster ended.
    Acted {
        /// What it was asked for.
        verb: LocalVerb,
        /// Of which node; `None` for all.
        node: Option<u16>,
        /// What it said if it failed.
        out: Result<(), String>,
    },
    /// The terminal was stopped and goes on.
    Continued,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is stored; the context covers it and what it replaced.
    Done {
        /// That context, of the first operation.
        context: Bytes,
    },
    /// It is not stored, or not known to be: the text says which.
    Failed {
        /// Why.
        why: String,
        /// Whether it may be stored nevertheless.
        perhaps: bool,
    },
}

/// One of the operations of a write, all on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The bytes; `None` deletes.
    pub value: Option<Bytes>,
    /// What it replaces.
    pub coverage: Coverage,
    /// Milliseconds since 1970, if it expires.
    pub expires_at_ms: Option<u64>,
}

/// What is to be done outside of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End the program.
    Quit,
    /// Give the terminal back to the shell, until it is continued.
    Suspend,
    /// Draw every cell anew.
    Redraw,
    /// Look a key up.
    Look(Bytes),
    /// List keys with siblings from this place on, which an answer named.
    List {
        /// The place.
        from: u64,
    },
    /// Write: all operations in one call, in order, never twice.
    Write {
        /// Its number.
        id: u64,
        /// The key.
        key: Bytes,
        /// What to do to it.
        ops: Vec<Op>,
    },
    /// Bring the replicas of a partition, or of one key of it, to the same.
    Repair {
        /// The partition.
        partition: u16,
        /// Only this key.
        key: Option<Bytes>,
    },
    /// Ask what a change of the members would move.
    Plan {
        /// Who would join.
        joins: Vec<NodeId>,
        /// Who would leave.
        leaves: Vec<NodeId>,
    },
    /// Change the members, if the newest epoch is still this.
    Change {
        /// Who joins.
        joins: Vec<NodeId>,
        /// Who leaves.
        leaves: Vec<NodeId>,
        /// The epoch.
        after: u64,
    },
    /// Call off the change of the members that is under way.
    Abort,
    /// Give the autoscaler this mode.
    Mode(ScaleMode),
    /// Have the program that runs a local cluster do this to a node of it, or to all.
    Local {
        /// What.
        verb: LocalVerb,
        /// The node's number.
        node: Option<u16>,
    },
    /// Ask again now.
    Ask,
}
