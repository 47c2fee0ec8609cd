//! Arguments of what a connection says about itself: HELLO, AUTH, CLIENT SETNAME and SETINFO.
//!
//! Passwords are only borrowed, never shown: these types have no `Debug` that prints them.

use super::{ArgError, Parsed, at, is};
use crate::resp::reply::Protocol;
use crate::resp::request::Request;

/// `HELLO [2 | 3 [AUTH user password] [SETNAME name]]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The protocol to speak; as before when not said.
    pub protocol: Option<Protocol>,
    /// User and password.
    pub auth: Option<(&'a [u8], &'a [u8])>,
    /// The connection's name.
    pub name: Option<&'a [u8]>,
}

impl std::fmt::Debug for Hello<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("protocol", &self.protocol)
            .field("auth", &self.auth.is_some())
            .field("name", &self.name)
            .finish()
    }
}

/// Reads HELLO's arguments.
pub fn hello<'a>(request: &Request<'a>) -> Parsed<Hello<'a>> {
    let mut hello = Hello { protocol: None, auth: None, name: None };
    let Some(version) = request.arg(1) else { return Ok(hello) };
    hello.protocol = match super::decimal(version) {
        Some(2) => Some(Protocol::Resp2),
        Some(3) => Some(Protocol::Resp3),
        Some(_) => return Err(ArgError::Text("NOPROTO unsupported protocol version")),
        None => {
            let text = "ERR Protocol version is not an integer or out of range";
            return Err(ArgError::Text(text));
        }
    };
    let mut place = 2;
    while let Some(option) = request.arg(place) {
        if let (true, Some(user), Some(password)) =
            (is(option, b"AUTH"), request.arg(place + 1), request.arg(place + 2))
        {
            hello.auth = Some((user, password));
            place += 3;
        } else if let (true, Some(name)) = (is(option, b"SETNAME"), request.arg(place + 1)) {
            hello.name = Some(client_name(name)?);
            place += 2;
        } else {
            return Err(ArgError::quoting("ERR Syntax error in HELLO option '", option, "'"));
        }
    }
    Ok(hello)
}

/// `AUTH [user] password`: the user is `default` when not said.
pub fn auth<'a>(request: &Request<'a>) -> Parsed<(&'a [u8], &'a [u8])> {
    match request.count() {
        2 => Ok((b"default", at(request, 1)?)),
        3 => Ok((at(request, 1)?, at(request, 2)?)),
        _ => Err(ArgError::Syntax),
    }
}

/// The longest name of a connection, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A connection's name: printable ASCII without spaces, at most 256 bytes; empty takes it away.
pub fn client_name(name: &[u8]) -> Parsed<&[u8]> {
    if name.len() > NAME_BYTES_MAX {
        return Err(ArgError::Text("ERR client names are at most 256 bytes"));
    }
    if name.iter().all(u8::is_ascii_graphic) {
        return Ok(name);
    }
    let text = "ERR Client names cannot contain spaces, newlines or special characters.";
    Err(ArgError::Text(text))
}

/// What CLIENT SETINFO notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetInfo<'a> {
    /// The library's name.
    LibName(&'a [u8]),
    /// The library's version.
    LibVersion(&'a [u8]),
}

/// `CLIENT SETINFO LIB-NAME | LIB-VER value`.
pub fn set_info<'a>(request: &Request<'a>) -> Parsed<SetInfo<'a>> {
    let (option, value) = (at(request, 2)?, at(request, 3)?);
    let (info, refusal) = if is(option, b"LIB-NAME") {
        (
            SetInfo::LibName(value),
            "ERR lib-name cannot contain spaces, newlines or special characters.",
        )
    } else if is(option, b"LIB-VER") {
        (
            SetInfo::LibVersion(value),
            "ERR lib-ver cannot contain spaces, newlines or special characters.",
        )
    } else {
        return Err(ArgError::quoting("ERR Unrecognized option '", option, "'"));
    };
    let fits = value.len() <= NAME_BYTES_MAX && value.iter().all(u8::is_ascii_graphic);
    if fits { Ok(info) } else { Err(ArgError::Text(refusal)) }
}
