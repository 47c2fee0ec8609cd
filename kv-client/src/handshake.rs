//! Both ends prove that they know the cluster secret before anything else is parsed.
//!
//! A challenge and response with a nonce from each side, after the pattern of ISO/IEC 9798-4: each
//! proof is an HMAC-SHA256 over both nonces, the version, the role and the side that proves, so a
//! proof can be replayed neither to another connection, nor for another role, nor back to its
//! maker. The key is derived from the secret for each role, so an operator may one day hand out the
//! key of the `client` role without the rest. Who dials proves first: a scanner learns nothing.
//!
//! ```text
//! dialer -> acceptor   hello      magic (6) | version (u16) | role (1) | nonce (32)
//! acceptor -> dialer   challenge  verdict (1) | version (u16) | nonce (32)
//! dialer -> acceptor   proof      HMAC (32)
//! acceptor -> dialer   verdict    verdict (1) | HMAC (32)
//! ```
//!
//! Every message has a fixed size below `MESSAGE_BYTES_MAX`: no length that a stranger sent is ever
//! believed. The stream is not encrypted by this; that is TLS's part.
//!
//! Invariant: `accept` returns a role only to an end that proved the secret, and so does `dial`.

use std::fmt;
use std::io;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of handshake, services and framing that this build speaks.
pub const VERSION: u16 = 1;

/// Bytes that either end reads of a stranger at once, at most.
pub const MESSAGE_BYTES_MAX: usize = 256;

const MAGIC: [u8; 6] = *b"\x00kvrpc";
const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;
const HELLO_BYTES: usize = 6 + 2 + 1 + NONCE_BYTES;
const CHALLENGE_BYTES: usize = 1 + 2 + NONCE_BYTES;
const VERDICT_BYTES: usize = 1 + PROOF_BYTES;
const _: () = assert!(HELLO_BYTES <= MESSAGE_BYTES_MAX && CHALLENGE_BYTES <= MESSAGE_BYTES_MAX);

/// What one end contributes to a handshake so that no two are alike. Never use one twice.
pub type Nonce = [u8; NONCE_BYTES];

/// What a connection is for: which service is spoken on it after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// Another node of the cluster.
    Peer,
    /// A program that reads and writes.
    Client,
    /// An operator's tool.
    Admin,
}

impl Role {
    fn code(self) -> u8 {
        match self {
            Self::Peer => 1,
            Self::Client => 2,
            Self::Admin => 3,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Peer, Self::Client, Self::Admin].into_iter().find(|role| role.code() == code)
    }
}

/// A secret that the members of a cluster and those who may talk to them share.
///
/// An empty one admits everybody: for loopback only. Its `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(Arc::from(bytes.as_ref()))
    }

    /// Whether it is empty, so that anybody can prove it.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    fn key(&self, role: Role) -> [u8; PROOF_BYTES] {
        mac(&self.0, &[b"kv role key", &[role.code()]])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_open() { "Secret(open)" } else { "Secret(..)" })
    }
}

/// Why a handshake did not end in a connection. Nothing else was said on it.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The stream failed or ended: the other end may not be a node, or is stopping.
    Io(io::Error),
    /// The other end speaks something else, such as RESP or HTTP. Check the port.
    NotOurs,
    /// The other end speaks another version. Upgrade the older one.
    Version {
        /// The other end's version.
        theirs: u16,
    },
    /// The other end does not know the secret, or says that we don't. Check `cluster_secret`.
    Secret,
    /// The other end does not serve the role that was asked for.
    Role,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "handshake broken off: {error}"),
            Self::NotOurs => write!(f, "the other end does not speak this protocol"),
            Self::Version { theirs } => {
                write!(f, "the other end speaks version {theirs}, this one {VERSION}")
            }
            Self::Secret => write!(f, "the cluster secret is not the same on both ends"),
            Self::Role => write!(f, "the other end does not serve this role"),
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A nonce from the operating system.
///
/// # Errors
/// The operating system has no randomness to give.
pub fn nonce() -> io::Result<Nonce> {
    let mut bytes = [0; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// The dialling end. The caller bounds the time.
///
/// # Errors
/// The stream must be dropped.
pub async fn dial<Io>(
    io: &mut Io,
    secret: &Secret,
    role: Role,
    nonce: Nonce,
) -> Result<(), HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut hello = Vec::with_capacity(HELLO_BYTES);
    hello.extend_from_slice(&MAGIC);
    hello.extend_from_slice(&VERSION.to_be_bytes());
    hello.push(role.code());
    hello.extend_from_slice(&nonce);
    io.write_all(&hello).await?;

    let verdict = io.read_u8().await?;
    let theirs = io.read_u16().await?;
    let mut challenge = [0; NONCE_BYTES];
    io.read_exact(&mut challenge).await?;
    judge(verdict, theirs)?;

    let proofs = Proofs::new(secret, role, &nonce, &challenge);
    io.write_all(&proofs.dialer).await?;
    let verdict = io.read_u8().await?;
    let mut proof = [0; PROOF_BYTES];
    io.read_exact(&mut proof).await?;
    judge(verdict, theirs)?;
    if bool::from(proof.ct_eq(&proofs.acceptor)) { Ok(()) } else { Err(HandshakeError::Secret) }
}

/// The accepting end: answers what the connection is for. The caller bounds the time, and
/// `serves` says which roles it has a service for.
///
/// # Errors
/// The other end was told why, if it speaks the protocol at all; the stream must be dropped.
pub async fn accept<Io>(
    io: &mut Io,
    secret: &Secret,
    serves: impl Fn(Role) -> bool + Send,
    nonce: Nonce,
) -> Result<Role, HandshakeError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    // The magic first: who sends less than a hello in another protocol is not waited for.
    let mut magic = [0; MAGIC.len()];
    io.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(HandshakeError::NotOurs);
    }
    let theirs = io.read_u16().await?;
    let code = io.read_u8().await?;
    let mut their_nonce = [0; NONCE_BYTES];
    io.read_exact(&mut their_nonce).await?;

    let role = Role::of(code).filter(|role| serves(*role));
    let verdict = match role {
        _ if theirs != VERSION => Verdict::Version,
        None => Verdict::Role,
        Some(_) => Verdict::Welcome,
    };
    let mut challenge = Vec::with_capacity(CHALLENGE_BYTES);
    challenge.push(verdict as u8);
    challenge.extend_from_slice(&VERSION.to_be_bytes());
    challenge.extend_from_slice(&nonce);
    io.write_all(&challenge).await?;
    judge(verdict as u8, theirs)?;
    let role = role.ok_or(HandshakeError::Role)?;

    let proofs = Proofs::new(secret, role, &their_nonce, &nonce);
    let mut proof = [0; PROOF_BYTES];
    io.read_exact(&mut proof).await?;
    let proved = bool::from(proof.ct_eq(&proofs.dialer));
    let mut answer = Vec::with_capacity(VERDICT_BYTES);
    answer.push(if proved { Verdict::Welcome } else { Verdict::Secret } as u8);
    answer.extend_from_slice(if proved { &proofs.acceptor } else { &[0; PROOF_BYTES] });
    io.write_all(&answer).await?;
    if proved { Ok(role) } else { Err(HandshakeError::Secret) }
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Verdict {
    Welcome = 0,
    Version = 1,
    Role = 2,
    Secret = 3,
}

fn judge(verdict: u8, theirs: u16) -> Result<(), HandshakeError> {
    match verdict {
        code if code == Verdict::Welcome as u8 => Ok(()),
        code if code == Verdict::Version as u8 => Err(HandshakeError::Version { theirs }),
        code if code == Verdict::Role as u8 => Err(HandshakeError::Role),
        code if code == Verdict::Secret as u8 => Err(HandshakeError::Secret),
        _ => Err(HandshakeError::NotOurs),
    }
}

struct Proofs {
    dialer: [u8; PROOF_BYTES],
    acceptor: [u8; PROOF_BYTES],
}

impl Proofs {
    fn new(secret: &Secret, role: Role, dialer: &Nonce, acceptor: &Nonce) -> Self {
        let key = secret.key(role);
        let version = VERSION.to_be_bytes();
        let over = |side: &[u8]| mac(&key, &[side, &version, &[role.code()], dialer, acceptor]);
        Self { dialer: over(b"dialer  "), acceptor: over(b"acceptor") }
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; PROOF_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn meet(
        dialer: &str,
        acceptor: &str,
        serves: fn(Role) -> bool,
    ) -> (Result<(), HandshakeError>, Result<Role, HandshakeError>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let (ours, theirs) = (Secret::new(dialer), Secret::new(acceptor));
        tokio::join!(
            dial(&mut near, &ours, Role::Peer, [1; 32]),
            accept(&mut far, &theirs, serves, [2; 32]),
        )
    }

    #[tokio::test]
    async fn the_same_secret_is_welcome_and_another_is_refused_at_both_ends() {
        let (near, far) = meet("secret", "secret", |_| true).await;
        assert!(near.is_ok());
        assert_eq!(far.expect("welcome"), Role::Peer);
        for (dialer, acceptor) in [("secret", "other"), ("", "secret"), ("secret", "")] {
            let (near, far) = meet(dialer, acceptor, |_| true).await;
            assert!(matches!(near, Err(HandshakeError::Secret)), "{dialer} meets {acceptor}");
            assert!(matches!(far, Err(HandshakeError::Secret)), "{dialer} meets {acceptor}");
        }
    }

    #[tokio::test]
    async fn a_role_that_is_not_served_is_refused_before_any_proof() {
        let (near, far) = meet("secret", "secret", |role| role == Role::Admin).await;
        assert!(matches!(near, Err(HandshakeError::Role)));
        assert!(matches!(far, Err(HandshakeError::Role)));
    }

    #[tokio::test]
    async fn another_protocol_is_told_apart_by_its_first_bytes() {
        let (mut near, mut far) = tokio::io::duplex(64);
        near.write_all(b"*1\r\n$4\r\n").await.expect("room");
        let refused = accept(&mut far, &Secret::default(), |_| true, [2; 32]).await;
        assert!(matches!(refused, Err(HandshakeError::NotOurs)));
    }

    #[tokio::test]
    async fn another_version_learns_ours() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut hello = MAGIC.to_vec();
        hello.extend_from_slice(&9_u16.to_be_bytes());
        hello.push(1);
        hello.extend_from_slice(&[7; 32]);
        near.write_all(&hello).await.expect("room");
        let refused = accept(&mut far, &Secret::default(), |_| true, [2; 32]).await;
        assert!(matches!(refused, Err(HandshakeError::Version { theirs: 9 })));
        assert_eq!(near.read_u8().await.expect("verdict"), Verdict::Version as u8);
        assert_eq!(near.read_u16().await.expect("version"), VERSION);
    }

    #[tokio::test]
    async fn an_acceptor_without_the_secret_is_found_out() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let secret = Secret::new("secret");
        let impostor = async {
            let mut hello = [0; HELLO_BYTES];
            far.read_exact(&mut hello).await.expect("hello");
            let mut challenge = vec![0];
            challenge.extend_from_slice(&VERSION.to_be_bytes());
            challenge.extend_from_slice(&[3; 32]);
            far.write_all(&challenge).await.expect("room");
            let mut proof = [0; 32];
            far.read_exact(&mut proof).await.expect("proof");
            // The best that it has is the dialler's own proof.
            far.write_u8(0).await.expect("room");
            far.write_all(&proof).await.expect("room");
        };
        let (near, ()) = tokio::join!(dial(&mut near, &secret, Role::Client, [1; 32]), impostor);
        assert!(matches!(near, Err(HandshakeError::Secret)));
    }

    #[test]
    fn proofs_differ_by_side_role_and_nonce() {
        let secret = Secret::new("secret");
        let base = Proofs::new(&secret, Role::Peer, &[1; 32], &[2; 32]);
        assert_ne!(base.dialer, base.acceptor);
        assert_ne!(base.dialer, Proofs::new(&secret, Role::Admin, &[1; 32], &[2; 32]).dialer);
        assert_ne!(base.dialer, Proofs::new(&secret, Role::Peer, &[1; 32], &[3; 32]).dialer);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
