//! A connection to a Redis server: batches of commands out, as many replies in.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Command, Reply, Target, read};
use crate::Error;

const READ_BYTES: usize = 64 << 10;
/// Memory that a long reply took is kept for the next up to this.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A connection. After an error it is of no use: replies may be under way.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    address: String,
    /// What was read; replies before `taken` were given out.
    buffer: Vec<u8>,
    taken: usize,
    wait: Duration,
}

impl Link {
    /// Connects, logs in and chooses the database; `wait` bounds this and each exchange.
    ///
    /// # Errors
    /// `Peer` if nobody is there, `Redis` if it does not let us in.
    pub(crate) async fn open(target: &Target, wait: Duration) -> Result<Self, Error> {
        let address = target.address.clone();
        let lost = |source| Error::Peer { address: address.clone(), source };
        let dialled = timeout(wait, TcpStream::connect(&address)).await;
        let stream = dialled.map_err(|late| lost(late.into()))?.map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let mut link = Self { stream, address, buffer: Vec::new(), taken: 0, wait };
        let mut hello = Command::default();
        if let Some(password) = &target.password {
            match &target.user {
                Some(user) => hello.add(&[b"AUTH", user.as_bytes(), password.as_bytes()]),
                None => hello.add(&[b"AUTH", password.as_bytes()]),
            }
        }
        if target.db != 0 {
            hello.add(&[b"SELECT", target.db.to_string().as_bytes()]);
        }
        let mut refused = None;
        link.exchange(&hello, |_, reply| {
            if let Reply::Error(_) = reply {
                refused.get_or_insert_with(|| reply.told());
            }
        })
        .await?;
        match refused {
            Some(told) => Err(link.refusal(told)),
            None => Ok(link),
        }
    }

    /// Sends the commands and hands each reply, with its number, to `each`.
    ///
    /// # Errors
    /// `Peer`: not all replies came; what was sent may have been done.
    pub(crate) async fn exchange(
        &mut self,
        commands: &Command,
        each: impl FnMut(usize, &Reply<'_>),
    ) -> Result<(), Error> {
        let wait = self.wait;
        let done = match timeout(wait, self.exchanged(commands, each)).await {
            Ok(done) => done,
            Err(late) => Err(late.into()),
        };
        done.map_err(|source| Error::Peer { address: self.address.clone(), source })
    }

    /// Sends one command; `take` makes of its reply what is wanted, `None` if that can't be.
    ///
    /// # Errors
    /// `Peer` as `exchange`; `Redis` if the reply is another than wanted.
    pub(crate) async fn ask<T>(
        &mut self,
        words: &[&[u8]],
        mut take: impl FnMut(&Reply<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let mut answer = Err(String::new());
        self.exchange(&Command::of(words), |_, reply| {
            answer = take(reply).ok_or_else(|| reply.told());
        })
        .await?;
        answer.map_err(|told| self.refusal(told))
    }

    /// An answer that was not wanted, and how to enter where that is what is amiss.
    pub(crate) fn refusal(&self, mut told: String) -> Error {
        if told.starts_with("NOAUTH") || told.starts_with("WRONGPASS") {
            told.push_str(" Say it by REDISCLI_AUTH, or redis://USER:PASSWORD@HOST:PORT");
        }
        Error::Redis { address: self.address.clone(), told }
    }

    async fn exchanged(
        &mut self,
        commands: &Command,
        mut each: impl FnMut(usize, &Reply<'_>),
    ) -> io::Result<()> {
        self.stream.write_all(commands.bytes()).await?;
        for number in 0..commands.count() {
            loop {
                let unread = self.buffer.get(self.taken..).unwrap_or_default();
                match read(unread) {
                    Ok(Some((reply, length))) => {
                        each(number, &reply);
                        self.taken += length;
                        break;
                    }
                    Ok(None) => self.more().await?,
                    Err(unreadable) => return Err(io::Error::other(unreadable.to_string())),
                }
            }
        }
        Ok(())
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(KEPT_BYTES_MAX);
        }
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
