//! Asking nodes how they are, from outside, as any client would: HTTP, INFO, a put and a get.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::place::Ports;
use crate::resp::{Connection, Reply};

/// How long one question may take; all of them stay on this machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What one node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// `/health/ready` answered 200.
    pub(crate) ready: bool,
    /// How many members it sees up, itself included; none when it doesn't answer INFO.
    pub(crate) members_up: Option<u64>,
    /// Keys of which it keeps hints for others.
    pub(crate) hint_keys: u64,
}

/// What a node still lacks before the cluster serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    NotReady,
    NoInfo,
    Sees { up: u64, of: u16 },
}

impl Health {
    /// Asks the node; what doesn't answer in time counts as not there.
    pub(crate) fn ask(ports: Ports) -> Self {
        let ready = http_status(ports.http, "/health/ready").is_ok_and(|status| status == 200);
        let info = Connection::open(ports.resp, ANSWER_LIMIT)
            .and_then(|mut connection| connection.info("kv"))
            .ok();
        let number = |field| info.as_ref().and_then(|info| info.number(field));
        let (members_up, hint_keys) = (number("kv_members_up"), number("kv_hint_keys"));
        Self { ready, members_up, hint_keys: hint_keys.unwrap_or_default() }
    }

    /// Whether it serves as one of `expected` members, sees all, and keeps nothing for any: then
    /// another can be stopped without a key that has one copy less than it should.
    pub(crate) fn is_whole(self, expected: u16) -> bool {
        self.lack(expected).is_none() && self.hint_keys == 0
    }

    /// What it lacks as one of `expected` members; none when it serves and sees all.
    pub(crate) fn lack(self, expected: u16) -> Option<Lack> {
        match (self.ready, self.members_up) {
            (_, None) => Some(Lack::NoInfo),
            (_, Some(up)) if up != u64::from(expected) => Some(Lack::Sees { up, of: expected }),
            (false, _) => Some(Lack::NotReady),
            (true, _) => None,
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("is not ready"),
            Self::NoInfo => f.write_str("doesn't answer"),
            Self::Sees { up, of } => write!(f, "sees {up} of {of}"),
        }
    }
}

/// Puts a key through each node, gets it through the next and deletes it through the one after.
pub(crate) fn quorum_round(nodes: &[Ports]) -> io::Result<()> {
    let open = |ports: &Ports| Connection::open(ports.resp, ANSWER_LIMIT);
    let mut connections: Vec<Connection> = nodes.iter().map(open).collect::<io::Result<_>>()?;
    let mut call = |index: usize, words: &[&str]| {
        let index = index.checked_rem(nodes.len()).unwrap_or_default();
        let connection = connections.get_mut(index).ok_or(io::ErrorKind::NotFound)?;
        connection.call(words)
    };
    for index in 0..nodes.len() {
        let key = format!("xtask:probe:{}:{index}", std::process::id());
        expect(&call(index, &["SET", &key, "there"])?, &Reply::Status("OK".into()))?;
        expect(&call(index + 1, &["GET", &key])?, &Reply::Bulk("there".into()))?;
        expect(&call(index + 2, &["DEL", &key])?, &Reply::Integer(1))?;
    }
    Ok(())
}

fn expect(got: &Reply, wanted: &Reply) -> io::Result<()> {
    if got == wanted {
        return Ok(());
    }
    Err(io::Error::other(match got {
        Reply::Error(words) => words.clone(),
        other => format!("{other:?} instead of {wanted:?}"),
    }))
}

fn http_status(port: u16, path: &str) -> io::Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(1024)).read_line(&mut line)?;
    let code = line.split(' ').nth(1).and_then(|word| word.trim_end().parse().ok());
    code.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_lacks_the_first_thing_that_is_missing() {
        let health = |ready, members_up| Health { ready, members_up, hint_keys: 0 };
        assert_eq!(health(true, Some(3)).lack(3), None);
        assert_eq!(health(false, Some(3)).lack(3), Some(Lack::NotReady));
        assert_eq!(health(true, Some(2)).lack(3), Some(Lack::Sees { up: 2, of: 3 }));
        assert_eq!(health(false, None).lack(3), Some(Lack::NoInfo));
        assert!(health(true, Some(3)).is_whole(3) && !health(true, Some(2)).is_whole(3));
        assert!(!Health { hint_keys: 1, ..health(true, Some(3)) }.is_whole(3));
    }

    #[test]
    fn nobody_there_is_no_health() {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let ports = Ports { resp: port, rpc: port, http: port, proxy: port };
        let nothing = Health { ready: false, members_up: None, hint_keys: 0 };
        assert_eq!(Health::ask(ports), nothing);
        assert!(quorum_round(&[ports]).is_err());
    }
}
