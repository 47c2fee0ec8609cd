//! Arguments of what one connection asks about others: CLIENT LIST, KILL, and two switches.
//!
//! ```text
//! CLIENT LIST [TYPE NORMAL | MASTER | REPLICA | PUBSUB] [ID id ...]
//! CLIENT KILL addr:port
//! CLIENT KILL [ID id] [ADDR a] [LADDR a] [TYPE t] [USER u] [SKIPME YES | NO] [MAXAGE s] ...
//! CLIENT NO-EVICT ON | OFF      CLIENT REPLY ON | OFF | SKIP
//! ```

use super::{ArgError, Parsed, at, is};
use crate::resp::request::Request;

/// Numbers that one CLIENT LIST names at most.
const IDS_MAX: usize = 1_024;

/// Which connections are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientList {
    /// Only these; all if empty.
    pub ids: Vec<u64>,
    /// Whether a type was named that none of ours is.
    pub none: bool,
}

/// Reads CLIENT LIST's arguments.
pub fn client_list(request: &Request<'_>) -> Parsed<ClientList> {
    let mut list = ClientList::default();
    let Some(option) = request.arg(2) else { return Ok(list) };
    if is(option, b"TYPE") && request.count() == 4 {
        list.none = !is_normal(at(request, 3)?)?;
    } else if is(option, b"ID") && request.count() > 3 {
        if request.count() - 3 > IDS_MAX {
            return Err(ArgError::Text("ERR at most 1024 clients are named at once"));
        }
        for id in request.args_from(3) {
            list.ids.push(number(id).ok_or(ArgError::Text("ERR Invalid client ID"))?);
        }
    } else {
        return Err(ArgError::Syntax);
    }
    Ok(list)
}

/// Which connections are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKill<'a> {
    /// The old form: the one with this address.
    Address(&'a [u8]),
    /// Those that all filters choose.
    Chosen(KillFilter<'a>),
}

/// What is asked of a connection that is to be ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KillFilter<'a> {
    /// Its number.
    pub id: Option<u64>,
    /// Where the client is.
    pub address: Option<&'a [u8]>,
    /// Where it connected to.
    pub local_address: Option<&'a [u8]>,
    /// Whether a type or a user was named that none of ours has.
    pub none: bool,
    /// Whether the asking connection is ended, too.
    pub me_too: bool,
    /// Only those older than so many seconds.
    pub age_s_min: Option<u64>,
}

/// Reads CLIENT KILL's arguments.
pub fn client_kill<'a>(request: &Request<'a>) -> Parsed<ClientKill<'a>> {
    if request.count() == 3 {
        return Ok(ClientKill::Address(at(request, 2)?));
    }
    let mut filter = KillFilter::default();
    let mut place = 2;
    while let Some(option) = request.arg(place) {
        let value = request.arg(place + 1).ok_or(ArgError::Syntax)?;
        if is(option, b"ID") {
            let text = "ERR client-id should be greater than 0";
            filter.id = Some(number(value).ok_or(ArgError::Text(text))?);
        } else if is(option, b"ADDR") {
            filter.address = Some(value);
        } else if is(option, b"LADDR") {
            filter.local_address = Some(value);
        } else if is(option, b"TYPE") {
            filter.none |= !is_normal(value)?;
        } else if is(option, b"USER") {
            if value != b"default" {
                return Err(ArgError::quoting("ERR No such user '", value, "'"));
            }
        } else if is(option, b"SKIPME") {
            filter.me_too = !yes_or_no(value)?;
        } else if is(option, b"MAXAGE") {
            let text = "ERR maxage is not an integer or out of range";
            filter.age_s_min = Some(number(value).ok_or(ArgError::Text(text))?);
        } else {
            return Err(ArgError::Syntax);
        }
        place += 2;
    }
    Ok(ClientKill::Chosen(filter))
}

/// ON or OFF.
pub fn on_or_off(arg: &[u8]) -> Parsed<bool> {
    match (is(arg, b"ON"), is(arg, b"OFF")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(ArgError::Syntax),
    }
}

/// What CLIENT REPLY asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientReply {
    /// Answers again.
    On,
    /// No answers.
    Off,
    /// No answer to the next command.
    Skip,
}

/// Reads CLIENT REPLY's argument.
pub fn client_reply(arg: &[u8]) -> Parsed<ClientReply> {
    if is(arg, b"SKIP") {
        return Ok(ClientReply::Skip);
    }
    Ok(if on_or_off(arg)? { ClientReply::On } else { ClientReply::Off })
}

fn yes_or_no(arg: &[u8]) -> Parsed<bool> {
    match (is(arg, b"YES"), is(arg, b"NO")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(ArgError::Syntax),
    }
}

/// All connections are ordinary ones here.
fn is_normal(kind: &[u8]) -> Parsed<bool> {
    if is(kind, b"NORMAL") {
        return Ok(true);
    }
    let known = [&b"MASTER"[..], b"REPLICA", b"SLAVE", b"PUBSUB"];
    if known.iter().any(|known| is(kind, known)) {
        return Ok(false);
    }
    Err(ArgError::quoting("ERR Unknown client type '", kind, "'"))
}

fn number(arg: &[u8]) -> Option<u64> {
    super::decimal(arg).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::OwnedRequest;

    fn parse<T>(line: &str, with: impl Fn(&Request<'_>) -> Parsed<T>) -> Result<T, String> {
        let owned = OwnedRequest::new(line.split(' ').map(str::as_bytes));
        with(&owned.request()).map_err(|error| error.to_string())
    }

    #[test]
    fn lists() {
        let list = |line| parse(line, client_list);
        assert_eq!(list("client list"), Ok(ClientList::default()));
        assert_eq!(list("client list id 3 5").map(|list| list.ids), Ok(vec![3, 5]));
        assert_eq!(list("client list type normal").map(|list| list.none), Ok(false));
        assert_eq!(list("client list TYPE pubsub").map(|list| list.none), Ok(true));
        for (line, error) in [
            ("client list id", "ERR syntax error"),
            ("client list id x", "ERR Invalid client ID"),
            ("client list type x", "ERR Unknown client type 'x'"),
            ("client list foo bar", "ERR syntax error"),
        ] {
            assert_eq!(list(line), Err(error.to_owned()), "{line}");
        }
    }

    #[test]
    fn kills() {
        let kill = |line: &str| {
            parse(line, |request| {
                client_kill(request).map(|kill| match kill {
                    ClientKill::Address(address) => String::from_utf8_lossy(address).into_owned(),
                    ClientKill::Chosen(filter) => format!(
                        "{:?} {} {} {:?}",
                        filter.id, filter.none, filter.me_too, filter.age_s_min
                    ),
                })
            })
        };
        assert_eq!(kill("client kill 127.0.0.1:1"), Ok("127.0.0.1:1".into()));
        assert_eq!(kill("client kill id 4 skipme no"), Ok("Some(4) false true None".into()));
        assert_eq!(kill("client kill type master"), Ok("None true false None".into()));
        assert_eq!(kill("client kill maxage 9"), Ok("None false false Some(9)".into()));
        for (line, error) in [
            ("client kill id 0", "ERR client-id should be greater than 0"),
            ("client kill skipme maybe", "ERR syntax error"),
            ("client kill id 4 addr", "ERR syntax error"),
            ("client kill user bob", "ERR No such user 'bob'"),
        ] {
            assert_eq!(kill(line), Err(error.to_owned()), "{line}");
        }
        assert_eq!(client_reply(b"skip"), Ok(ClientReply::Skip));
        assert!(client_reply(b"maybe").is_err());
    }
}
