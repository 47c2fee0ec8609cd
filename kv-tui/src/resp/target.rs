//! Where a Redis server is: `redis://[[user]:password@]host[:port][/db]`, or `host:port`.

use std::fmt;

use crate::Error;

const PORT: u16 = 6_379;

/// A server, a database of it, and how to enter. Shows itself without the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) db: u32,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}/{}", self.address, self.db)
    }
}

impl Target {
    /// Whether a text means a server, and not a file.
    pub(crate) fn is_meant_by(text: &str) -> bool {
        text.contains("://")
    }

    /// Reads the text. `password` is the one to use if the text has none.
    ///
    /// # Errors
    /// `Input` says what is wrong with it.
    pub(crate) fn parse(text: &str, password: Option<String>) -> Result<Self, Error> {
        // Not the text: it may hold a password.
        let wrong = |what: &str| Error::Input(format!("{what}; write redis://HOST:PORT/DB"));
        let rest = match text.split_once("://") {
            None => text,
            Some(("redis", rest)) => rest,
            Some(("rediss", _)) => return Err(wrong("TLS is not spoken here")),
            Some(_) => return Err(wrong("this is no redis:// address")),
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (address, db) = place.split_once('/').unwrap_or((place, ""));
        let db = match db {
            "" => 0,
            digits => digits.parse().map_err(|_| wrong("the database is not a number"))?,
        };
        let (user, given) = match login {
            None => (None, None),
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or(("", login));
                let plain = |part| plain(part).ok_or_else(|| wrong("the login is badly escaped"));
                let user = plain(user)?;
                (Some(user).filter(|user| !user.is_empty()), Some(plain(password)?))
            }
        };
        let address = with_port(address).ok_or_else(|| wrong("there is no host, or no port"))?;
        Ok(Self { address, db, user, password: given.or(password) })
    }
}

fn with_port(address: &str) -> Option<String> {
    let bracketed = address.starts_with('[');
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !bracketed || host.ends_with(']') => (host, port.parse().ok()?),
        _ => (address, PORT),
    };
    (!host.is_empty()).then(|| format!("{host}:{port}"))
}

/// Undoes percent-escapes.
fn plain(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let mut digit = || char::from(*rest.next()?).to_digit(16);
            bytes.push((digit()? << 4 | digit()?) as u8);
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_no_password_is_shown() {
        let parse = |text| Target::parse(text, None).expect("an address");
        let plain = parse("redis://cache");
        assert_eq!((plain.address.as_str(), plain.db), ("cache:6379", 0));
        assert_eq!((plain.user, plain.password), (None, None));
        let full = parse("redis://ann:p%40ss:w@10.0.0.1:7001/3");
        assert_eq!((full.address.as_str(), full.db), ("10.0.0.1:7001", 3));
        assert_eq!(full.user.as_deref(), Some("ann"));
        assert_eq!(full.password.as_deref(), Some("p@ss:w"));
        assert_eq!(format!("{full} {full:?}"), ["redis://10.0.0.1:7001/3"; 2].join(" "));
        assert_eq!(parse("redis://:secret@h").password.as_deref(), Some("secret"));
        assert_eq!(parse("redis://[::1]:7001").address, "[::1]:7001");
        assert_eq!(parse("redis://[::1]").address, "[::1]:6379");
        assert_eq!(parse("127.0.0.1:7001").address, "127.0.0.1:7001");
        let other = Target::parse("redis://h", Some("of the environment".into())).expect("read");
        assert_eq!(other.password.as_deref(), Some("of the environment"));
    }

    #[test]
    fn what_is_no_address_is_told_without_its_password() {
        for wrong in ["http://h", "rediss://:hunter2@h", "redis://", "redis://:hunter2@h:x"] {
            let error = Target::parse(wrong, None).expect_err(wrong).to_string();
            assert!(error.contains("write redis://") && !error.contains("hunter2"), "{error}");
        }
        assert!(Target::parse("redis://:%4@h", None).is_err());
        assert!(Target::parse("redis://h/x", None).is_err());
    }
}
