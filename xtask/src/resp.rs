//! A Redis client of one screen: one connection, one command at a time, flat replies.
//!
//! Enough to ask a server whether it serves and what its counters say. A reply that is longer than
//! `REPLY_BYTES_MAX` or that isn't flat is an error.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const REPLY_BYTES_MAX: usize = 1 << 20;

/// A connection to a server on this machine.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// A flat reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(String),
    /// The server refused; its words without the `-`.
    Error(String),
    Integer(i64),
    Bulk(String),
    Nil,
}

impl Connection {
    /// Connects to a port of 127.0.0.1; `limit` bounds the dial and each later wait.
    pub(crate) fn open(port: u16, limit: Duration) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one command and reads its reply.
    pub(crate) fn call(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.stream.get_mut().write_all(&encode(words))?;
        read_reply(&mut self.stream)
    }

    /// `INFO section` as lines; a refusal is an error.
    pub(crate) fn info(&mut self, section: &str) -> io::Result<Info> {
        match self.call(&["INFO", section])? {
            Reply::Bulk(text) => Ok(Info::new(text)),
            other => Err(io::Error::other(format!("INFO answered {other:?}"))),
        }
    }
}

/// What INFO said.
#[derive(Debug, Clone)]
pub(crate) struct Info(String);

impl Info {
    /// Reads a text of `field:value` lines.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The number in the line `field:number`.
    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.0
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
            .find(|(name, _)| *name == field)
            .and_then(|(_, value)| value.parse().ok())
    }
}

fn encode(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn read_reply(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    stream.by_ref().take(REPLY_BYTES_MAX as u64).read_line(&mut line)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("not a reply: {line:?}"));
    let body = line.strip_suffix("\r\n").ok_or_else(bad)?;
    let (kind, rest) = body.split_at_checked(1).ok_or_else(bad)?;
    match kind {
        "+" => Ok(Reply::Status(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => rest.parse().map(Reply::Integer).map_err(|_| bad()),
        "$" if rest == "-1" => Ok(Reply::Nil),
        "_" => Ok(Reply::Nil),
        "$" => {
            let length: usize = rest.parse().map_err(|_| bad())?;
            if length > REPLY_BYTES_MAX {
                return Err(bad());
            }
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Reply::Bulk(String::from_utf8_lossy(&bytes).into_owned()))
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Reply> {
        read_reply(&mut BufReader::new(bytes))
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        assert_eq!(encode(&["GET", "é"]), "*2\r\n$3\r\nGET\r\n$2\r\né\r\n".as_bytes());
    }

    #[test]
    fn flat_replies_are_read() {
        assert_eq!(read(b"+OK\r\n").unwrap(), Reply::Status("OK".into()));
        assert_eq!(read(b"-ERR no\r\n").unwrap(), Reply::Error("ERR no".into()));
        assert_eq!(read(b":-3\r\n").unwrap(), Reply::Integer(-3));
        assert_eq!(read(b"$-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(read(b"$4\r\na\r\nb\r\n").unwrap(), Reply::Bulk("a\r\nb".into()));
    }

    #[test]
    fn anything_else_is_an_error() {
        for bad in [&b""[..], b"OK\r\n", b"*1\r\n:1\r\n", b"$9999999\r\n", b"$5\r\nab\r\n", b"+OK"]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn info_fields_are_whole_names() {
        let info = Info::new("# kv\r\nkv_members:9\r\nkv_members_up:3\r\nkv_name:x\r\n");
        assert_eq!(info.number("kv_members_up"), Some(3));
        assert_eq!(info.number("members_up"), None);
        assert_eq!(info.number("kv_name"), None);
    }
}
