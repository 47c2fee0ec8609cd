//! The one table of commands: what there is, how many arguments it takes, which are keys, what it
//! promises, and why something is not served.
//!
//! Lookup, the arity check, key extraction, the COMMAND family and the error texts of refusals are
//! all read from here, so that they can't disagree. A lookup is one hash of the name's first eight
//! bytes and its length, one probe into an index made at compile time, one comparison; it ignores
//! ASCII case and allocates nothing.
//!
//! Invariant: names are lower case and unique over served and refused commands; a subcommand
//! (`client|id`) stands directly behind its container.

pub mod bits;
mod paper;
mod refused;
mod render;
mod served;

use super::request::Request;
pub use bits::{cat, flag};
pub use paper::paper;
pub use render::{
    ListFilter, command_count, command_docs, command_help, command_info, command_list,
};
pub use served::CommandId;

use refused::REFUSED;
use served::SERVED;

/// What a command needs of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Keeps its meaning without a decision maker. (SET with NX, XX or GET and EXPIRE with a
    /// condition do not: their parsed arguments say so.)
    Natural,
    /// Promises something about the value that was there: needs `rmw = best-effort`.
    Promise,
    /// About this node or the cluster; touches no key's value.
    Admin,
    /// About this connection only.
    Connection,
}

/// What a command does to its keys, for COMMAND's key specifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It has no keys.
    Nothing,
    /// Reads the value.
    Access,
    /// Reads facts about the value, not its bytes.
    Metadata,
    /// Replaces the value, whatever it was.
    Overwrite,
    /// Replaces or reads, as its options say.
    Variable,
    /// Reads and changes.
    AccessUpdate,
    /// Changes without answering the bytes.
    Update,
    /// Adds to the value.
    Insert,
    /// Sets where there was none.
    InsertOnly,
    /// Reads and deletes.
    Take,
    /// Deletes.
    Delete,
    /// Moves the first key over the second.
    Move,
    /// Moves the first key to the second, which must not be there.
    MoveToNew,
    /// Copies the first key to the second.
    Copy,
}

/// Where a command's keys are among its arguments: `first`, `first + step`, ... up to `last`,
/// negative counting from the end (-1 is the last argument). `first` 0 is no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first key's place; the name is at 0.
    pub first: u8,
    /// The last key's place.
    pub last: i8,
    /// From one key to the next.
    pub step: u8,
    /// What happens to them.
    pub touch: Touch,
}

/// The group under which COMMAND DOCS lists a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Connections.
    Connection,
    /// Keys of any type.
    Generic,
    /// Strings.
    String,
    /// The server.
    Server,
    /// The cluster.
    Cluster,
    /// MULTI and its kin.
    Transactions,
    /// Ours.
    Kv,
}

/// A served command or subcommand.
#[derive(Debug)]
#[non_exhaustive]
pub struct Command {
    /// For dispatch.
    pub id: CommandId,
    /// Lower case; `container|subcommand` for a subcommand.
    pub name: &'static str,
    /// How many arguments with the name (and the container's); negative is a least number.
    pub arity: i8,
    /// What it needs of the cluster.
    pub class: Class,
    /// Its keys.
    pub keys: Keys,
    /// For COMMAND DOCS.
    pub group: Group,
    /// The version of Redis (of ours for `kv.`) that brought it.
    pub since: &'static str,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Bits of [`cat`].
    pub categories: u32,
    /// Hints for cluster clients.
    pub tips: &'static [&'static str],
    /// One line.
    pub summary: &'static str,
}

impl Command {
    /// Whether all bits of `flags` are set.
    #[inline]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Whether a request of `count` arguments has the right number of them.
    #[inline]
    pub fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= arity } else { count == arity }
    }

    /// The keys of a request of this command, in order.
    pub fn keys_of<'a>(&self, request: &Request<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Keys { first, last, step, .. } = self.keys;
        let end = match usize::try_from(last) {
            Ok(last) => last + 1,
            Err(_) => (request.count() + 1).saturating_sub(usize::from(last.unsigned_abs())),
        };
        let count = if first == 0 { 0 } else { end.saturating_sub(usize::from(first)) };
        let from = usize::from(first).min(request.count());
        request.args_from(from).take(count).step_by(usize::from(step.max(1)))
    }

    fn subcommands(&self) -> &'static [Self] {
        let place = SERVED.iter().position(|command| command.id == self.id).unwrap_or(SERVED.len());
        let behind = SERVED.get(place + 1..).unwrap_or_default();
        let count = behind.iter().take_while(|command| command.container() == Some(self.name));
        behind.get(..count.count()).unwrap_or_default()
    }

    fn container(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(container, _)| container)
    }
}

/// A command of Redis that is not served.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refused {
    /// Lower case.
    pub name: &'static str,
    /// Why, and what to do instead.
    pub reason: &'static str,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// A command of ours.
    Served(&'static Command),
    /// A known one that is not served.
    Refused(&'static Refused),
}

/// Why a request names nothing that can be executed. Displays Redis's error text, without `-`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Rejection<'a> {
    /// No such command.
    Unknown(Request<'a>),
    /// No such subcommand of this container.
    UnknownSubcommand(&'static Command, &'a [u8]),
    /// The wrong number of arguments.
    Arity(&'static Command),
    /// Known, and not served.
    Unsupported(&'static Refused),
}

impl std::fmt::Display for Rejection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(request) => {
                let name = shown(request.name(), 128);
                write!(f, "ERR unknown command '{name}', with args beginning with: ")?;
                let mut room = 128_usize;
                for arg in request.args_from(1) {
                    if room == 0 {
                        break;
                    }
                    write!(f, "'{}' ", shown(arg, room))?;
                    room = room.saturating_sub(arg.len() + 3);
                }
                Ok(())
            }
            Self::UnknownSubcommand(container, name) => {
                let container = container.name.to_ascii_uppercase();
                let name = shown(name, 128);
                write!(f, "ERR unknown subcommand '{name}'. Try {container} HELP.")
            }
            Self::Arity(command) => {
                write!(f, "ERR wrong number of arguments for '{}' command", command.name)
            }
            Self::Unsupported(refused) => {
                let (name, reason) = (refused.name, refused.reason);
                write!(f, "ERR unsupported command '{name}' (kv {VERSION}): {reason}")
            }
        }
    }
}

const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

fn shown(bytes: &[u8], max: usize) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.get(..max).unwrap_or(bytes))
}

/// What a name stands for, whatever its case.
#[inline]
pub fn lookup(name: &[u8]) -> Option<Found> {
    let mut place = hash(name);
    loop {
        let entry = usize::from(*INDEX.get(place % INDEX_PLACES)?);
        let entry = entry.checked_sub(1)?;
        if let Some(command) = SERVED.get(entry) {
            if command.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(Found::Served(command));
            }
        } else if let Some(refused) = REFUSED.get(entry - SERVED.len())
            && refused.name.as_bytes().eq_ignore_ascii_case(name)
        {
            return Some(Found::Refused(refused));
        }
        place += 1;
    }
}

/// The command of a request, subcommand included, with its arity checked.
#[inline]
pub fn resolve<'a>(request: &Request<'a>) -> Result<&'static Command, Rejection<'a>> {
    let command = match lookup(request.name()) {
        Some(Found::Served(command)) => command,
        Some(Found::Refused(refused)) => return Err(Rejection::Unsupported(refused)),
        None => return Err(Rejection::Unknown(*request)),
    };
    let command = match request.arg(1) {
        Some(name) if is_container(command.id) => subcommand(command, name)?,
        _ => command,
    };
    if command.takes(request.count()) { Ok(command) } else { Err(Rejection::Arity(command)) }
}

/// Whether this is the first word of an HTTP request, sent to make a browser talk to us: close the
/// connection without an answer, as Redis does.
pub fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

fn is_container(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::Client
            | CommandId::Cluster
            | CommandId::Command
            | CommandId::Config
            | CommandId::Latency
            | CommandId::Memory
            | CommandId::Object
            | CommandId::Slowlog
    )
}

#[cold]
fn subcommand<'a>(
    container: &'static Command,
    name: &'a [u8],
) -> Result<&'static Command, Rejection<'a>> {
    let found = container.subcommands().iter().find(|command| {
        let own = command.name.as_bytes().get(container.name.len() + 1..);
        own.unwrap_or_default().eq_ignore_ascii_case(name)
    });
    found.ok_or(Rejection::UnknownSubcommand(container, name))
}

/// Names that COMMAND INFO and DOCS describe at once, at most: more than there are.
pub const NAMES_MAX: usize = INDEX_PLACES;

const INDEX_PLACES: usize = 1024;

/// For each place of the hash one more than a command's number, served ones first; 0 is free.
static INDEX: [u16; INDEX_PLACES] = index();

#[expect(clippy::indexing_slicing, reason = "runs at compile time: a wrong place fails the build")]
const fn index() -> [u16; INDEX_PLACES] {
    let mut index = [0; INDEX_PLACES];
    let mut number = 0;
    while number < SERVED.len() + REFUSED.len() {
        let name = if number < SERVED.len() {
            SERVED[number].name
        } else {
            REFUSED[number - SERVED.len()].name
        };
        if !has_bar(name.as_bytes()) {
            let mut place = hash(name.as_bytes());
            while index[place % INDEX_PLACES] != 0 {
                place += 1;
            }
            index[place % INDEX_PLACES] = number as u16 + 1;
        }
        number += 1;
    }
    assert!(SERVED.len() + REFUSED.len() < INDEX_PLACES / 2, "the index is too full to be fast");
    index
}

const fn has_bar(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, behind @ ..] = rest {
        if *first == b'|' {
            return true;
        }
        rest = behind;
    }
    false
}

/// A hash that ignores ASCII case: the first eight bytes and the length.
#[inline]
const fn hash(name: &[u8]) -> usize {
    let mut folded = name.len() as u64;
    let mut rest = name;
    let mut taken = 0;
    while let [first, behind @ ..] = rest {
        if taken == 8 {
            break;
        }
        folded = folded.rotate_left(8) ^ (*first | 0x20) as u64;
        rest = behind;
        taken += 1;
    }
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[cfg(test)]
mod tests;
