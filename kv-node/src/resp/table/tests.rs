//! Tests of the command table.

use super::*;
use crate::resp::glob::Glob;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::request::OwnedRequest;

fn request(line: &str) -> OwnedRequest {
    OwnedRequest::new(line.split(' ').map(str::as_bytes))
}

fn rejected(line: &str) -> String {
    resolve(&request(line).request()).expect_err(line).to_string()
}

fn command(line: &str) -> &'static Command {
    let owned = request(line);
    resolve(&owned.request()).unwrap_or_else(|rejection| panic!("{line}: {rejection}"))
}

#[test]
fn every_name_is_found_in_any_case_and_once() {
    let mut names = std::collections::BTreeSet::new();
    for command in SERVED {
        assert!(names.insert(command.name), "{} twice", command.name);
        if command.container().is_none() {
            for name in [command.name.to_owned(), command.name.to_uppercase()] {
                assert!(
                    matches!(lookup(name.as_bytes()), Some(Found::Served(c)) if c.id == command.id)
                );
            }
        }
    }
    for refused in REFUSED {
        assert!(names.insert(refused.name), "{} twice", refused.name);
        let name = refused.name.to_uppercase();
        assert!(
            matches!(lookup(name.as_bytes()), Some(Found::Refused(r)) if r.name == refused.name)
        );
    }
    for name in [&b""[..], b"gett", b"ge", b"g\x45t", b"client|id", b"\xff\xff", &[b'a'; 1000]] {
        let found = lookup(name);
        assert_eq!(found.is_some(), name == b"g\x45t", "{name:?}");
    }
}

#[test]
fn the_index_is_nearly_perfect() {
    let places = |name: &str| {
        let start = hash(name.as_bytes());
        let number = SERVED.iter().map(|c| c.name).chain(REFUSED.iter().map(|r| r.name));
        let number = number.into_iter().position(|own| own == name).unwrap() + 1;
        (0..INDEX_PLACES)
            .find(|step| usize::from(INDEX[(start + step) % INDEX_PLACES]) == number)
            .unwrap()
    };
    for hot in ["get", "set", "mget", "mset", "del", "ping", "exists", "incr", "expire"] {
        assert!(places(hot) <= 1, "{hot}: {}", places(hot));
    }
}

#[test]
fn the_rows_agree_with_themselves() {
    for command in SERVED {
        let keys = command.keys;
        assert_eq!(keys.first == 0, keys.touch == Touch::Nothing, "{}", command.name);
        assert_eq!(keys.first == 0, keys.step == 0, "{}", command.name);
        assert!(!command.has(flag::WRITE | flag::READONLY), "{}", command.name);
        assert!(command.summary.len() <= 80 && !command.summary.ends_with('.'));
        assert_eq!(
            command.has(flag::FAST),
            command.categories & cat::FAST != 0,
            "{}",
            command.name
        );
        if let Some(container) = command.container() {
            let Some(Found::Served(container)) = lookup(container.as_bytes()) else { panic!() };
            assert!(is_container(container.id));
            assert!(container.subcommands().iter().any(|sub| sub.id == command.id));
        }
    }
    for refused in REFUSED {
        assert!(Rejection::Unsupported(refused).to_string().len() <= 200, "{}", refused.name);
    }
}

#[test]
fn requests_find_their_command() {
    assert_eq!(command("gEt a").id, CommandId::Get);
    assert_eq!(command("command").id, CommandId::Command);
    assert_eq!(command("COMMAND docs").id, CommandId::CommandDocs);
    assert_eq!(command("client SETNAME a").id, CommandId::ClientSetname);
    assert_eq!(command("kv.get a").class, Class::Natural);
    assert_eq!(command("incr a").class, Class::Promise);
    for (line, text) in [
        ("FOO", "ERR unknown command 'FOO', with args beginning with: "),
        ("FOO a bc", "ERR unknown command 'FOO', with args beginning with: 'a' 'bc' "),
        ("get", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("client", "ERR wrong number of arguments for 'client' command"),
        ("client setname", "ERR wrong number of arguments for 'client|setname' command"),
        ("CLIENT Foo", "ERR unknown subcommand 'Foo'. Try CLIENT HELP."),
    ] {
        assert_eq!(rejected(line), text);
    }
    assert!(
        rejected("BRPOP q 0").starts_with("ERR unsupported command 'brpop' (kv 0.1): blocking")
    );
    assert!(rejected("watch a").contains("KV.PUT"));
    let long = rejected(&format!("FOO {} b", "a".repeat(500)));
    assert_eq!(long.len(), "ERR unknown command 'FOO', with args beginning with: ''".len() + 129);
}

#[test]
fn keys_are_found_among_the_arguments() {
    for (line, keys) in [
        ("get a", "a"),
        ("set a 1 EX 10", "a"),
        ("mget a b c", "a b c"),
        ("mset a 1 b 2", "a b"),
        ("mset a 1 b", "a b"),
        ("rename a b", "a b"),
        ("memory usage a", "a"),
        ("scan 0", ""),
        ("ping", ""),
    ] {
        let owned = request(line);
        let request = owned.request();
        let found: Vec<_> = command(line).keys_of(&request).map(String::from_utf8_lossy).collect();
        assert_eq!(found.join(" "), keys, "{line}");
    }
}

#[test]
fn what_may_run_before_auth_is_what_redis_lets_run() {
    let open: Vec<_> = SERVED.iter().filter(|c| c.has(flag::NO_AUTH)).map(|c| c.name).collect();
    assert_eq!(open, ["quit", "reset", "hello", "auth"]);
}

fn rendered(protocol: Protocol, write: impl Fn(&mut Reply<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut Reply::new(&mut out, protocol));
    String::from_utf8(out).unwrap().replace("\r\n", "|")
}

#[test]
fn command_info_has_the_shape_of_redis() {
    let get = |protocol| {
        rendered(protocol, |reply| command_info(reply, Some([&b"GET"[..], b"nope"].into_iter())))
    };
    assert_eq!(
        get(Protocol::Resp2),
        "*2|*10|$3|get|:2|*2|+readonly|+fast|:1|:1|:1|*3|+@read|+@string|+@fast|*0|*1|*6|$5|flags|\
         *2|+RO|+access|$12|begin_search|*4|$4|type|$5|index|$4|spec|*2|$5|index|:1|$9|find_keys|\
         *4|$4|type|$5|range|$4|spec|*6|$7|lastkey|:0|$7|keystep|:1|$5|limit|:0|*0|$-1|"
    );
    assert!(get(Protocol::Resp3).starts_with("*2|*10|$3|get|:2|~2|+readonly|+fast|"));
    assert!(get(Protocol::Resp3).ends_with("~0|_|"));
    let none: Option<std::iter::Empty<&[u8]>> = None;
    let all = rendered(Protocol::Resp2, |reply| command_info(reply, none.clone()));
    assert!(all.starts_with(&format!("*{}|", command_count())));
    assert!(all.contains("|$14|client|setname|:3|"), "subcommands are nested");
}

/// The end of the frame at `at`. (redis-protocol can't read a map in a set, as Redis's own reply
/// to COMMAND has it.)
fn end_of(bytes: &[u8], at: usize) -> usize {
    let line = at + bytes[at..].windows(2).position(|two| two == b"\r\n").unwrap();
    let count = || String::from_utf8_lossy(&bytes[at + 1..line]).parse::<usize>().unwrap();
    let frames = match bytes[at] {
        b'+' | b'-' | b':' | b'_' => 0,
        b'$' => {
            let end = line + 2 + count();
            assert_eq!(&bytes[end..end + 2], b"\r\n");
            return end + 2;
        }
        b'*' | b'~' => count(),
        b'%' => 2 * count(),
        other => panic!("mark {other}"),
    };
    (0..frames).fold(line + 2, |at, _| end_of(bytes, at))
}

#[test]
fn the_whole_table_is_one_well_formed_reply() {
    let none = || None::<std::iter::Empty<&[u8]>>;
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        for which in 0..3 {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, protocol);
            match which {
                0 => command_info(&mut reply, none()),
                1 => command_docs(&mut reply, none()),
                _ => command_list(&mut reply, None),
            }
            let taken = end_of(&out, 0);
            assert_eq!(taken, out.len(), "{protocol:?} {which}");
        }
    }
}

#[test]
fn lists_and_docs() {
    let list = |filter| rendered(Protocol::Resp2, |reply| command_list(reply, filter));
    assert_eq!(list(Some(ListFilter::Module)), "*0|");
    assert!(list(Some(ListFilter::Category(b"TRANSACTION"))).starts_with("*4|$5|multi|"));
    let glob = Glob::new(b"mse*").unwrap();
    assert_eq!(list(Some(ListFilter::Pattern(glob))), "*2|$4|mset|$6|msetnx|");
    let docs = rendered(Protocol::Resp3, |reply| {
        command_docs(reply, Some([&b"get"[..], b"nope"].into_iter()));
    });
    assert!(docs.starts_with("%1|$3|get|%3|$7|summary|"), "{docs}");
}
