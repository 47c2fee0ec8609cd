//! From an address to an authenticated stream: connect, no delay, handshake, all under one time.
//!
//! Clients, operators' tools and peers dial alike. `bind_source` is the local address to dial
//! from, for hosts where only one of several addresses is allowed through.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::handshake::{self, HandshakeError, Role, Secret};

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Proved to the other end, which proves it too.
    pub secret: Secret,
    /// What the connection is for.
    pub role: Role,
    /// The local address to dial from; the system's choice if `None`.
    pub bind_source: Option<IpAddr>,
    /// Milliseconds for name lookup, connecting and handshake together.
    pub dial_ms_max: u64,
}

/// Why there is no stream. Nothing but a handshake was sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The address does not resolve, or the connection was refused or reset.
    Io(io::Error),
    /// The other end did not pass the handshake, or we did not.
    Handshake(HandshakeError),
    /// `dial_ms_max` passed.
    TimedOut,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "could not connect: {error}"),
            Self::Handshake(error) => write!(f, "{error}"),
            Self::TimedOut => write!(f, "could not connect in time"),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Handshake(error) => Some(error),
            Self::TimedOut => None,
        }
    }
}

/// Dials `host:port`, trying each address that the name has.
///
/// # Errors
/// The last address's error. Nothing but a handshake was sent.
pub async fn dial(address: &str, options: &DialOptions) -> Result<TcpStream, DialError> {
    let all = async {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for target in tokio::net::lookup_host(address).await.map_err(DialError::Io)? {
            match connect(target, options.bind_source).await {
                Ok(mut stream) => {
                    let nonce = handshake::nonce().map_err(DialError::Io)?;
                    handshake::dial(&mut stream, &options.secret, options.role, nonce)
                        .await
                        .map_err(DialError::Handshake)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(DialError::Io(last))
    };
    tokio::time::timeout(Duration::from_millis(options.dial_ms_max), all)
        .await
        .unwrap_or(Err(DialError::TimedOut))
}

async fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(target).await?;
    // Small calls must not wait for the acknowledgement of earlier ones (Nagle).
    stream.set_nodelay(true)?;
    Ok(stream)
}
