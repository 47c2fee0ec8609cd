//! Tests of the argument parsers: what is said, against what Redis would make of it.

use super::*;
use crate::mutation::{Existence, ExpireIf, ExpiryRule};
use crate::resp::reply::Protocol;
use crate::resp::request::OwnedRequest;

const NOW: u64 = 1_700_000_000_000;

fn with<T>(line: &str, parse: impl Fn(&Request<'_>) -> Parsed<T>) -> Result<T, String> {
    let owned = OwnedRequest::new(line.split(' ').map(str::as_bytes));
    parse(&owned.request()).map_err(|error| error.to_string())
}

const SYNTAX: &str = "ERR syntax error";
const NUMBER: &str = "ERR value is not an integer or out of range";

#[test]
fn set_options() {
    let check = |line: &str, expected: Result<(ExpiryRule, Option<Existence>, bool), &str>| {
        let found = with(line, |r| set(r, NOW).map(|set| (set.expiry, set.only, set.answer_old)));
        assert_eq!(found, expected.map_err(str::to_owned), "{line}");
    };
    use {Existence::*, ExpiryRule::*};
    check("set k v", Ok((Never, None, false)));
    check("set k v ex 10", Ok((At(NOW + 10_000), None, false)));
    check("set k v PX 10 NX", Ok((At(NOW + 10), Some(Absent), false)));
    check("set k v EXAT 5", Ok((At(5000), None, false)));
    check("set k v PXAT 5 get xx", Ok((At(5), Some(Present), true)));
    check("set k v KEEPTTL NX GET", Ok((Keep, Some(Absent), true)));
    check("set k v EX 1 EX 2", Ok((At(NOW + 2000), None, false)));
    for line in [
        "set k v NX XX",
        "set k v EX",
        "set k v EX 1 PX 1",
        "set k v KEEPTTL EX 1",
        "set k v EX 1 KEEPTTL",
        "set k v PERSIST",
        "set k v foo",
        "set k v EX 1 EXAT 1",
        "set k v NX foo",
    ] {
        check(line, Err(SYNTAX));
    }
    for line in ["set k v EX x", "set k v EX 1.5", "set k v PX 99999999999999999999"] {
        check(line, Err(NUMBER));
    }
    for line in [
        "set k v EX 0",
        "set k v PX -1",
        "set k v EXAT 0",
        "set k v EX 9223372036854775807",
        "set k v PX 9223372036854775807",
    ] {
        check(line, Err("ERR invalid expire time in 'set' command"));
    }
}

#[test]
fn promises_of_set_are_named() {
    let promise = |line: &str| with(line, |r| set(r, NOW).map(|set| set.promise())).unwrap();
    assert_eq!(promise("set k v EX 5"), None);
    assert_eq!(promise("set k v NX GET"), Some("set nx"));
    assert_eq!(promise("set k v XX"), Some("set xx"));
    assert_eq!(promise("set k v GET"), Some("set get"));
}

#[test]
fn setex_and_getex() {
    let expiry = |line: &str, unit| {
        with(line, |r| setex(r, unit, NOW).map(|set| (set.value == b"v", set.expiry)))
    };
    assert_eq!(expiry("setex k 10 v", 1000), Ok((true, ExpiryRule::At(NOW + 10_000))));
    assert_eq!(expiry("psetex k 10 v", 1), Ok((true, ExpiryRule::At(NOW + 10))));
    assert_eq!(
        expiry("setex k 0 v", 1000),
        Err("ERR invalid expire time in 'setex' command".into())
    );
    assert_eq!(
        expiry("psetex k -1 v", 1),
        Err("ERR invalid expire time in 'psetex' command".into())
    );
    assert_eq!(expiry("setex k x v", 1000), Err(NUMBER.into()));
    let change = |line: &str| with(line, |r| getex(r, NOW));
    assert_eq!(change("getex k"), Ok(ExpiryChange::Leave));
    assert_eq!(change("getex k persist"), Ok(ExpiryChange::Persist));
    assert_eq!(change("getex k PX 5"), Ok(ExpiryChange::At(NOW + 5)));
    assert_eq!(change("getex k EXAT 5"), Ok(ExpiryChange::At(5000)));
    for line in [
        "getex k KEEPTTL",
        "getex k PERSIST EX 5",
        "getex k EX 5 PERSIST",
        "getex k EX",
        "getex k x",
    ] {
        assert_eq!(change(line), Err(SYNTAX.into()), "{line}");
    }
    assert_eq!(change("getex k EX 0"), Err("ERR invalid expire time in 'getex' command".into()));
}

#[test]
fn expire_family() {
    let check = |line: &str, form, expected: Result<(u64, Option<ExpireIf>), &str>| {
        let found = with(line, |r| expire(r, form, NOW).map(|expire| (expire.at_ms, expire.only)));
        assert_eq!(found, expected.map_err(str::to_owned), "{line}");
    };
    use ExpireForm::*;
    check("expire k 10", Seconds, Ok((NOW + 10_000, None)));
    check("pexpire k 10", Millis, Ok((NOW + 10, None)));
    check("expireat k 10", SecondsAt, Ok((10_000, None)));
    check("pexpireat k 10", MillisAt, Ok((10, None)));
    check("expire k -10", Seconds, Ok((NOW - 10_000, None)));
    check("expireat k -10", SecondsAt, Ok((1, None)));
    check("expireat k 0", SecondsAt, Ok((1, None)));
    check("expire k 1 nx", Seconds, Ok((NOW + 1000, Some(ExpireIf::NoExpiry))));
    check("expire k 1 XX", Seconds, Ok((NOW + 1000, Some(ExpireIf::HasExpiry))));
    check("expire k 1 GT XX", Seconds, Ok((NOW + 1000, Some(ExpireIf::Later))));
    check("expire k 1 LT", Seconds, Ok((NOW + 1000, Some(ExpireIf::Earlier))));
    check("expire k x", Seconds, Err(NUMBER));
    check("expire k 1 foo", Seconds, Err("ERR Unsupported option foo"));
    check("expire k 1 XX LT", Seconds, Ok((NOW + 1000, Some(ExpireIf::EarlierThanExpiry))));
    for line in ["expire k 1 NX XX", "expire k 1 NX GT", "expire k 1 LT NX"] {
        check(
            line,
            Seconds,
            Err("ERR NX and XX, GT or LT options at the same time are not compatible"),
        );
    }
    check(
        "expire k 1 GT LT",
        Seconds,
        Err("ERR GT and LT options at the same time are not compatible"),
    );
    let invalid = "ERR invalid expire time in 'expire' command";
    check("expire k 9223372036854775807", Seconds, Err(invalid));
    check("expire k -9223372036854775808", Seconds, Err(invalid));
    let invalid = "ERR invalid expire time in 'pexpire' command";
    check("pexpire k 9223372036854775807", Millis, Err(invalid));
}

#[test]
fn scan_options() {
    let found = |line: &str| {
        with(line, |r| {
            let scan = scan(r)?;
            let pattern = scan.pattern.map(|glob| glob.pattern().to_vec());
            Ok((scan.cursor, pattern, scan.count, scan.wants_strings))
        })
    };
    assert_eq!(found("scan 0"), Ok((0, None, 10, true)));
    let all = found("scan 18446744073709551615 match a* COUNT 5 TYPE String");
    assert_eq!(all, Ok((u64::MAX, Some(b"a*".to_vec()), 5, true)));
    assert_eq!(found("scan 0 TYPE hash"), Ok((0, None, 10, false)));
    assert_eq!(found("scan 0 COUNT 99999999"), Ok((0, None, SCAN_COUNT_MAX, true)));
    assert_eq!(found("scan x"), Err("ERR invalid cursor".into()));
    assert_eq!(found("scan -1"), Err("ERR invalid cursor".into()));
    for line in ["scan 0 COUNT 0", "scan 0 COUNT -1", "scan 0 MATCH", "scan 0 foo 1"] {
        assert_eq!(found(line), Err(SYNTAX.into()), "{line}");
    }
    assert_eq!(found("scan 0 COUNT x"), Err(NUMBER.into()));
    assert!(found(&format!("scan 0 MATCH {}", "a".repeat(2000))).is_err());
}

#[test]
fn numbers_and_ranges() {
    assert_eq!(with("decrby k 5", |r| negated(r, 2)), Ok(-5));
    let overflow = with("decrby k -9223372036854775808", |r| negated(r, 2));
    assert_eq!(overflow, Err("ERR decrement would overflow".into()));
    assert_eq!((float(b"1.5"), float(b"-3e2")), (Ok(1.5), Ok(-300.0)));
    for bad in [&b""[..], b"x", b" 1", b"nan", b"inf", b"1e999", b"0x10", b"\xff"] {
        assert_eq!(float(bad), Err(ArgError::NotFloat), "{bad:?}");
    }
    let value = b"This is a string";
    for (bounds, part) in [
        ((0, 3), "This"),
        ((-3, -1), "ing"),
        ((0, -1), "This is a string"),
        ((10, 100), "string"),
        ((5, 3), ""),
        ((100, 200), ""),
        ((-1, -5), ""),
        ((-100, 3), "This"),
        ((0, -100), "T"),
        ((i64::MIN, i64::MAX), "This is a string"),
    ] {
        assert_eq!(slice(value, bounds), part.as_bytes(), "{bounds:?}");
    }
    assert_eq!(slice(b"", (0, -1)), b"");
    assert_eq!(with("setrange k 5 ab", |r| setrange(r, 10)), Ok(5));
    assert_eq!(
        with("setrange k -1 ab", |r| setrange(r, 10)),
        Err("ERR offset is out of range".into())
    );
    let over = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(with("setrange k 9 ab", |r| setrange(r, 10)), Err(over.into()));
    assert_eq!(with("setrange k 4294967296 ab", |r| setrange(r, usize::MAX)), Err(over.into()));
}

#[test]
fn small_commands() {
    let two = with("mset a 1 b 2", |r| {
        Ok(pairs(r, "mset")?.map(|(k, v)| k == b"b" && v == b"2").collect::<Vec<_>>())
    });
    assert_eq!(two, Ok(vec![false, true]));
    let odd = with("mset a 1 b", |r| pairs(r, "mset").map(Iterator::count));
    assert_eq!(odd, Err("ERR wrong number of arguments for 'mset' command".into()));
    assert_eq!(with("copy a b DB 0 replace", copy), Ok(true));
    assert_eq!(with("copy a b DB 1", copy), Err("ERR DB index is out of range".into()));
    assert_eq!(with("copy a b DB", copy), Err(SYNTAX.into()));
    assert_eq!(database(b"x"), Err(ArgError::NotInteger));
    assert_eq!(with("flushall async", flush), Ok(()));
    assert_eq!(with("flushall foo", flush), Err(SYNTAX.into()));
    assert_eq!(with("wait 2 100", wait), Ok((2, 100)));
    assert_eq!(with("wait -2 0", wait), Ok((0, 0)));
    assert_eq!(with("wait 1 -1", wait), Err("ERR timeout is negative".into()));
    assert_eq!(with("wait 1 x", wait), Err("ERR timeout is not an integer or out of range".into()));
    assert_eq!(
        with("memory usage k SAMPLES 0", |r| memory_usage(r).map(<[u8]>::to_vec)),
        Ok(b"k".to_vec())
    );
    assert!(with("memory usage k SAMPLES", |r| memory_usage(r).map(|_| ())).is_err());
    assert_eq!(with("cluster countkeysinslot 16383", slot), Ok(16_383));
    assert_eq!(with("cluster countkeysinslot 16384", slot), Err("ERR Invalid slot".into()));
    assert_eq!(with("command list", |r| command_list(r).map(|f| f.is_none())), Ok(true));
    assert_eq!(
        with("command list filterby aclcat x", |r| command_list(r).map(|f| f.is_some())),
        Ok(true)
    );
    assert_eq!(
        with("command list filterby foo x", |r| command_list(r).map(|_| ())),
        Err(SYNTAX.into())
    );
}

#[test]
fn kv_commands() {
    let get = |line: &str| with(line, |r| KvGet::parse(r).map(|get| get.read));
    assert_eq!(get("kv.get k"), Ok(None));
    assert_eq!(get("kv.get k R 2"), Ok(Some(Level::Count(2))));
    assert_eq!(get("kv.get k r quorum"), Ok(Some(Level::Quorum)));
    for line in ["kv.get k R", "kv.get k W 1", "kv.get k R 1 R 2"] {
        assert_eq!(get(line), Err(SYNTAX.into()), "{line}");
    }
    for line in ["kv.get k R 0", "kv.get k R -1", "kv.get k R some", "kv.get k R 256"] {
        assert!(get(line).unwrap_err().starts_with("ERR a consistency level is "), "{line}");
    }
    let put = |line: &str| {
        with(line, |r| {
            let put = KvPut::parse(r, NOW)?;
            Ok((put.context.map(<[u8]>::to_vec), put.write, put.expiry))
        })
    };
    assert_eq!(put("kv.put k v"), Ok((None, None, ExpiryRule::Never)));
    let full = Ok((Some(b"abc".to_vec()), Some(Level::All), ExpiryRule::At(NOW + 9000)));
    assert_eq!(put("kv.put k v CTX abc W all EX 9"), full);
    assert_eq!(put("kv.put k v PXAT 9"), Ok((None, None, ExpiryRule::At(9))));
    for line in [
        "kv.put k v CTX",
        "kv.put k v CTX a CTX b",
        "kv.put k v EX 1 PX 1",
        "kv.put k v KEEPTTL",
        "kv.put k v ",
    ] {
        assert!(put(line).is_err(), "{line}");
    }
    assert_eq!(put("kv.put k v EX 0"), Err("ERR invalid expire time in 'kv.put' command".into()));
    let delete =
        |line: &str| with(line, |r| KvDelete::parse(r).map(|d| (d.context.is_some(), d.write)));
    assert_eq!(delete("kv.del k CTX a W one"), Ok((true, Some(Level::One))));
    assert_eq!(delete("kv.del k EX 1"), Err(SYNTAX.into()));
    let levels = |line: &str| with(line, Levels::parse);
    assert_eq!(levels("kv.consistency"), Ok(Levels::default()));
    let both = Levels { read: Some(Level::One), write: Some(Level::Count(3)) };
    assert_eq!(levels("kv.consistency W 3 R ONE"), Ok(both));
    assert_eq!(levels("kv.consistency R"), Err(SYNTAX.into()));
}

#[test]
fn sessions() {
    let protocol = |line: &str| {
        with(line, |r| hello(r).map(|h| (h.protocol, h.auth.is_some(), h.name.is_some())))
    };
    assert_eq!(protocol("hello"), Ok((None, false, false)));
    assert_eq!(protocol("hello 3"), Ok((Some(Protocol::Resp3), false, false)));
    assert_eq!(protocol("HELLO 2 SETNAME a AUTH u p"), Ok((Some(Protocol::Resp2), true, true)));
    assert_eq!(protocol("hello 4"), Err("NOPROTO unsupported protocol version".into()));
    assert_eq!(
        protocol("hello x"),
        Err("ERR Protocol version is not an integer or out of range".into())
    );
    assert_eq!(protocol("hello 3 AUTH u"), Err("ERR Syntax error in HELLO option 'AUTH'".into()));
    assert_eq!(protocol("hello 3 foo"), Err("ERR Syntax error in HELLO option 'foo'".into()));
    let owned = OwnedRequest::new(["hello", "3", "AUTH", "u", "secret"].map(str::as_bytes));
    assert!(
        !format!("{:?}", hello(&owned.request())).contains("115, 101, 99"),
        "a password is shown"
    );
    assert_eq!(with("auth p", |r| auth(r).map(|(user, _)| user == b"default")), Ok(true));
    assert_eq!(with("auth u p", |r| auth(r).map(|(user, _)| user == b"u")), Ok(true));
    assert_eq!(with("auth u p x", |r| auth(r).map(|_| ())), Err(SYNTAX.into()));
    assert!(
        client_name(b"a b").is_err() && client_name(b"a\n").is_err() && client_name(b"").is_ok()
    );
    assert!(client_name(&[b'a'; 257]).is_err());
    assert_eq!(
        with("client setinfo lib-name x", |r| set_info(r).map(|i| i == SetInfo::LibName(b"x"))),
        Ok(true)
    );
    assert_eq!(
        with("client setinfo foo x", |r| set_info(r).map(|_| ())),
        Err("ERR Unrecognized option 'foo'".into())
    );
}
