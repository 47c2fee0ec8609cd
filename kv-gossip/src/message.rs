//! The wire: what a packet holds, drawn.
//!
//! ```text
//! packet  = version u8 | kind u8 | sender: account | fields of the kind | update*
//! account = node u64 | state u8 | incarnation n | length u8, address
//!           | Suspect: count u8, node u64 *   those who accuse
//!           | Down, Left: seconds n           how long ago
//! update  = 1 | account
//!         | 2 | node u64 | fact u16 | version n | 0, or 1 + length n, bytes
//!
//! kind 1 Ping     seq n | target u64          are you there?
//!      2 Ack      seq n | target u64          target is there
//!      3 Nack     seq n | target u64          I asked, and have no answer
//!      4 PingReq  seq n | target u64 | length u8, address
//!      5 Gossip                               news only
//!      6 Pull     token n | flags u8 | [cursor] | count u16 | entry *
//!      7 Page     token n | flags u8 | [cursor]
//! cursor  = node u64 | fact u16
//! entry   = node u64 | incarnation u64 | state u8 | digest u64
//! ```
//!
//! `n` is LEB128, the rest is big-endian. News rides on every kind (SWIM, section 4.1). The
//! sender's own account leads each packet, so whoever hears from a stranger knows where to answer.
//! Invariant: [`Packet::parse`] has seen every byte before the first update is given out.

use crate::Error;
use crate::codec::{PACKET_BYTES_LIMIT, Reader, Writer};
use crate::identity::{ADDRESS_BYTES_MAX, NodeCode};
use crate::member::{ACCUSERS_MAX, Accusers, State};

/// The version of the format, first byte of each packet.
pub const WIRE_VERSION: u8 = 1;

/// What one node says of another, or of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Account<'a, N> {
    pub(crate) node: N,
    pub(crate) state: State,
    pub(crate) incarnation: u64,
    pub(crate) address: &'a [u8],
    pub(crate) accusers: Accusers<N>,
    pub(crate) gone_s: u64,
}

/// A fact as it travels. `bytes` is `None` when the owner took the fact back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FactUpdate<'a, N> {
    pub(crate) node: N,
    pub(crate) id: u16,
    pub(crate) version: u64,
    pub(crate) bytes: Option<&'a [u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Update<'a, N> {
    Account(Account<'a, N>),
    Fact(FactUpdate<'a, N>),
}

/// Where a comparison goes on: from this fact of this member, inclusive.
pub(crate) type Cursor<N> = (N, u16);

/// What the requester of a page has of one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry<N> {
    pub(crate) node: N,
    pub(crate) incarnation: u64,
    pub(crate) state: State,
    pub(crate) digest: u64,
}

pub(crate) const ENTRY_BYTES: usize = 25;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message<'a, N> {
    Ping { seq: u64, target: N },
    Ack { seq: u64, target: N },
    Nack { seq: u64, target: N },
    PingReq { seq: u64, target: N, address: &'a [u8] },
    Gossip,
    Pull(Pull<'a, N>),
    Page { token: u64, next: Option<Cursor<N>> },
}

/// A request to compare what follows the cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pull<'a, N> {
    pub(crate) token: u64,
    pub(crate) cursor: Option<Cursor<N>>,
    /// The entries reach to the last member that the requester knows.
    pub(crate) complete: bool,
    /// This request was caused by one of ours: it must not cause another.
    pub(crate) in_return: bool,
    entries: &'a [u8],
}

impl<N: NodeCode> Pull<'_, N> {
    /// The entries, checked by [`Packet::parse`].
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<N>> + '_ {
        self.entries.chunks_exact(ENTRY_BYTES).filter_map(|chunk| read_entry(chunk).ok())
    }
}

/// A packet that was checked to its last byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Packet<'a, N> {
    pub(crate) sender: Account<'a, N>,
    pub(crate) message: Message<'a, N>,
    updates: &'a [u8],
}

const PULL_HAS_CURSOR: u8 = 1;
const PULL_COMPLETE: u8 = 2;
const PULL_IN_RETURN: u8 = 4;

impl<'a, N: NodeCode> Packet<'a, N> {
    /// Reads and checks a whole packet. O(bytes), allocates nothing.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > PACKET_BYTES_LIMIT {
            return Err(Error::PacketTooLong { bytes: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != WIRE_VERSION {
            return Err(Error::Version { found: version });
        }
        let kind = reader.u8()?;
        let sender: Account<'_, N> = read_account(&mut reader)?;
        if !matches!(sender.state, State::Up | State::Left) {
            return Err(Error::Malformed { field: "sender" });
        }
        let message = read_message(kind, &mut reader)?;
        let start = reader;
        while !reader.is_empty() {
            read_update::<N>(&mut reader)?;
        }
        let mut updates = start;
        let updates = updates.bytes(updates.len())?;
        Ok(Self { sender, message, updates })
    }

    pub(crate) fn updates(&self) -> impl Iterator<Item = Update<'a, N>> + use<'a, N> {
        let mut reader = Reader::new(self.updates);
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            read_update(&mut reader).ok()
        })
    }
}

/// Who sent a packet, without looking at the rest. For transports that don't know it themselves.
///
/// # Errors
/// As [`Swim::handle_message`](crate::Swim::handle_message) for a packet with a damaged head.
pub fn sender<N: NodeCode>(bytes: &[u8]) -> Result<N, Error> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if version != WIRE_VERSION {
        return Err(Error::Version { found: version });
    }
    reader.u8()?;
    reader.node()
}

fn read_message<'a, N: NodeCode>(
    kind: u8,
    reader: &mut Reader<'a>,
) -> Result<Message<'a, N>, Error> {
    Ok(match kind {
        1 => Message::Ping { seq: reader.varint()?, target: reader.node()? },
        2 => Message::Ack { seq: reader.varint()?, target: reader.node()? },
        3 => Message::Nack { seq: reader.varint()?, target: reader.node()? },
        4 => Message::PingReq {
            seq: reader.varint()?,
            target: reader.node()?,
            address: read_address(reader)?,
        },
        5 => Message::Gossip,
        6 => {
            let token = reader.varint()?;
            let flags = reader.u8()?;
            if flags > (PULL_HAS_CURSOR | PULL_COMPLETE | PULL_IN_RETURN) {
                return Err(Error::Malformed { field: "flags" });
            }
            let cursor = read_cursor(flags & PULL_HAS_CURSOR, reader)?;
            let count = usize::from(reader.u16()?);
            let entries = reader.bytes(count * ENTRY_BYTES)?;
            for chunk in entries.chunks_exact(ENTRY_BYTES) {
                read_entry::<N>(chunk)?;
            }
            let complete = flags & PULL_COMPLETE != 0;
            let in_return = flags & PULL_IN_RETURN != 0;
            Message::Pull(Pull { token, cursor, complete, in_return, entries })
        }
        7 => {
            let token = reader.varint()?;
            let flags = reader.u8()?;
            Message::Page { token, next: read_cursor(flags, reader)? }
        }
        _ => return Err(Error::Malformed { field: "kind" }),
    })
}

fn read_cursor<N: NodeCode>(flag: u8, reader: &mut Reader<'_>) -> Result<Option<Cursor<N>>, Error> {
    match flag {
        0 => Ok(None),
        1 => Ok(Some((reader.node()?, reader.u16()?))),
        _ => Err(Error::Malformed { field: "flags" }),
    }
}

fn read_entry<N: NodeCode>(chunk: &[u8]) -> Result<Entry<N>, Error> {
    let mut reader = Reader::new(chunk);
    Ok(Entry {
        node: reader.node()?,
        incarnation: reader.u64()?,
        state: read_state(&mut reader)?,
        digest: reader.u64()?,
    })
}

fn read_state(reader: &mut Reader<'_>) -> Result<State, Error> {
    match reader.u8()? {
        0 => Ok(State::Up),
        1 => Ok(State::Suspect),
        2 => Ok(State::Down),
        3 => Ok(State::Left),
        _ => Err(Error::Malformed { field: "state" }),
    }
}

fn read_address<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let length = usize::from(reader.u8()?);
    reader.bytes(length)
}

fn read_account<'a, N: NodeCode>(reader: &mut Reader<'a>) -> Result<Account<'a, N>, Error> {
    let node = reader.node()?;
    let state = read_state(reader)?;
    let incarnation = reader.counter()?;
    let address = read_address(reader)?;
    let mut accusers = Accusers::none();
    let mut gone_s = 0;
    match state {
        State::Up => {}
        State::Suspect => {
            let count = usize::from(reader.u8()?);
            if count > ACCUSERS_MAX {
                return Err(Error::Malformed { field: "accusers" });
            }
            for _ in 0..count {
                accusers.insert(reader.node()?);
            }
        }
        State::Down | State::Left => gone_s = reader.varint()?,
    }
    Ok(Account { node, state, incarnation, address, accusers, gone_s })
}

fn read_update<'a, N: NodeCode>(reader: &mut Reader<'a>) -> Result<Update<'a, N>, Error> {
    match reader.u8()? {
        1 => Ok(Update::Account(read_account(reader)?)),
        2 => {
            let (node, id, version) = (reader.node()?, reader.u16()?, reader.counter()?);
            let bytes = match reader.varint()? {
                0 => None,
                more => {
                    let length = usize::try_from(more - 1).map_err(|_| Error::Truncated)?;
                    Some(reader.bytes(length)?)
                }
            };
            Ok(Update::Fact(FactUpdate { node, id, version, bytes }))
        }
        _ => Err(Error::Malformed { field: "update" }),
    }
}

/// Begins a packet: everything up to the first update. A pull's entries follow from the caller.
pub(crate) fn write_head<N: NodeCode>(
    writer: &mut Writer,
    sender: &Account<'_, N>,
    message: &Message<'_, N>,
) {
    writer.u8(WIRE_VERSION);
    writer.u8(match message {
        Message::Ping { .. } => 1,
        Message::Ack { .. } => 2,
        Message::Nack { .. } => 3,
        Message::PingReq { .. } => 4,
        Message::Gossip => 5,
        Message::Pull(_) => 6,
        Message::Page { .. } => 7,
    });
    write_account(writer, sender);
    match *message {
        Message::Ping { seq, target }
        | Message::Ack { seq, target }
        | Message::Nack { seq, target } => {
            writer.varint(seq);
            writer.node(target);
        }
        Message::PingReq { seq, target, address } => {
            writer.varint(seq);
            writer.node(target);
            write_address(writer, address);
        }
        Message::Gossip => {}
        Message::Pull(pull) => {
            writer.varint(pull.token);
            let mut flags = u8::from(pull.cursor.is_some()) * PULL_HAS_CURSOR;
            flags |= u8::from(pull.complete) * PULL_COMPLETE;
            flags |= u8::from(pull.in_return) * PULL_IN_RETURN;
            writer.u8(flags);
            write_cursor(writer, pull.cursor);
            writer.u16((pull.entries.len() / ENTRY_BYTES) as u16);
            writer.slice(pull.entries);
        }
        Message::Page { token, next } => {
            writer.varint(token);
            writer.u8(u8::from(next.is_some()));
            write_cursor(writer, next);
        }
    }
}

fn write_cursor<N: NodeCode>(writer: &mut Writer, cursor: Option<Cursor<N>>) {
    if let Some((node, fact)) = cursor {
        writer.node(node);
        writer.u16(fact);
    }
}

fn write_address(writer: &mut Writer, address: &[u8]) {
    assert!(address.len() <= ADDRESS_BYTES_MAX, "an address is checked when it is made");
    writer.u8(address.len() as u8);
    writer.slice(address);
}

fn write_account<N: NodeCode>(writer: &mut Writer, account: &Account<'_, N>) {
    writer.node(account.node);
    writer.u8(account.state as u8);
    writer.varint(account.incarnation);
    write_address(writer, account.address);
    match account.state {
        State::Up => {}
        State::Suspect => {
            writer.u8(account.accusers.len() as u8);
            for accuser in account.accusers.iter() {
                writer.node(accuser);
            }
        }
        State::Down | State::Left => writer.varint(account.gone_s),
    }
}

pub(crate) fn write_update<N: NodeCode>(writer: &mut Writer, update: &Update<'_, N>) {
    match update {
        Update::Account(account) => {
            writer.u8(1);
            write_account(writer, account);
        }
        Update::Fact(fact) => {
            writer.u8(2);
            writer.node(fact.node);
            writer.u16(fact.id);
            writer.varint(fact.version);
            match fact.bytes {
                None => writer.varint(0),
                Some(bytes) => {
                    writer.varint(bytes.len() as u64 + 1);
                    writer.slice(bytes);
                }
            }
        }
    }
}

/// Puts an entry behind others, for [`pull`].
pub(crate) fn write_entry<N: NodeCode>(writer: &mut Writer, entry: &Entry<N>) {
    writer.node(entry.node);
    writer.u64(entry.incarnation);
    writer.u8(entry.state as u8);
    writer.u64(entry.digest);
}

/// A pull whose entries were written by [`write_entry`].
pub(crate) fn pull<N>(
    token: u64,
    cursor: Option<Cursor<N>>,
    complete: bool,
    in_return: bool,
    entries: &[u8],
) -> Message<'_, N> {
    Message::Pull(Pull { token, cursor, complete, in_return, entries })
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
