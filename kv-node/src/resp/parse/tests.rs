//! Tests of the request parser: tables of what Redis answers, then the oracle on made-up bytes.

use proptest::prelude::*;

use super::super::oracle::{check, encoded, run};
use super::*;

const ROOMY: usize = 1 << 20;

fn roomy() -> Limits {
    Limits::after_auth(ROOMY as u32, 4 << 20)
}

/// Requests as words, then errors, of bytes that come in one piece.
fn outcome(bytes: &[u8], limits: Limits) -> (Vec<String>, Vec<String>) {
    let out = run(bytes, limits, &[usize::MAX]);
    let words = |args: &Vec<Vec<u8>>| {
        args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
    };
    (out.requests.iter().map(words).collect(), out.errors)
}

#[test]
fn well_formed_requests() {
    let table: &[(&[u8], &[&str], usize)] = &[
        (b"*1\r\n$4\r\nPING\r\n", &["PING"], 0),
        (b"PING\r\nPING\n\r\n\n  \r\nget a\r\n", &["PING", "PING", "get a"], 0),
        (b"*0\r\n*-1\r\n*-7\r\n*1\r\n$1\r\na\r\n", &["a"], 0),
        (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", &["GET "], 0),
        (b"*1\r\n$4\r\n\r\n\r\n\r\n", &["\\r\\n\\r\\n"], 0),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI", &["PING"], 10),
        (b"*1\r\n$4\r\nPING\r", &[], 13),
        (b"*", &[], 1),
        (b"set k \"a b\"\r\n*1\r\n$1\r\nx\r\n'q'\n", &["set k a b", "x", "q"], 0),
    ];
    for (bytes, requests, left) in table {
        for pieces in [&[usize::MAX][..], &[1], &[2, 3]] {
            let out = run(bytes, roomy(), pieces);
            assert_eq!(out.left, *left, "{bytes:?}");
        }
        assert_eq!(outcome(bytes, roomy()).0, *requests, "{}", bytes.escape_ascii());
    }
}

#[test]
fn broken_requests_get_the_texts_of_redis() {
    let table: &[(&[u8], &str)] = &[
        (b"*x\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*1\rx", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"*1\r\n\xff", "expected '$', got '\\xff'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$\r\n", "invalid bulk length"),
        (b"*1\r\n$1a\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$9999999999\r\n", "invalid bulk length"),
        (b"*1\r\n$1\r\nab\r\n", "expected CRLF after a bulk string"),
        (b"get \"a\r\n", "unbalanced quotes in request"),
    ];
    for (bytes, text) in table {
        let mut stream = b"*1\r\n$4\r\nPING\r\n".to_vec();
        stream.extend_from_slice(bytes);
        for pieces in [&[usize::MAX][..], &[1]] {
            let out = run(&stream, roomy(), pieces);
            assert_eq!(out.requests, [[b"PING".to_vec()]], "what came before is still served");
            assert_eq!(out.errors, [format!("ERR Protocol error: {text}")], "{bytes:?}");
        }
    }
}

#[test]
fn lines_without_an_end_are_refused_at_64_kib() {
    for (start, text) in [
        ("*1", "too big mbulk count string"),
        ("*1\r\n$1", "too big bulk count string"),
        ("x", "too big inline request"),
    ] {
        let mut bytes = start.as_bytes().to_vec();
        bytes.resize(start.len() + 60_000, b'1');
        assert_eq!(outcome(&bytes, roomy()).1, [""; 0], "{start}: not yet");
        bytes.resize(start.len() + (1 << 20), b'1');
        for pieces in [&[usize::MAX][..], &[4096], &[1000, 1]] {
            let out = run(&bytes, roomy(), pieces);
            assert_eq!(out.errors, [format!("ERR Protocol error: {text}")]);
        }
    }
}

#[test]
fn before_auth_little_is_taken() {
    let check = |bytes: &[u8], text: &str| {
        assert_eq!(outcome(bytes, Limits::BEFORE_AUTH).1, [format!("ERR Protocol error: {text}")]);
    };
    check(b"*11\r\n", "unauthenticated multibulk length");
    check(b"a b c d e f g h i j k\r\n", "unauthenticated multibulk length");
    check(b"*1\r\n$16385\r\n", "unauthenticated bulk length");
    let full = encoded(&vec![vec![b'x'; 16 * 1024]; 10]);
    assert_eq!(outcome(&full, Limits::BEFORE_AUTH).0.len(), 1);
}

#[test]
fn what_follows_auth_is_parsed_with_the_limits_after_it() {
    let mut bytes = b"AUTH secret\r\n".to_vec();
    bytes.extend(encoded(&[b"SET".to_vec(), b"k".to_vec(), vec![b'v'; 20_000]]));
    let mut parser = Parser::new(Limits::BEFORE_AUTH);
    let batch = parser.parse(&bytes);
    assert_eq!((batch.len(), batch.is_full(), batch.error()), (1, true, None));
    let consumed = batch.consumed();
    parser.set_limits(roomy());
    let batch = parser.parse(&bytes[consumed..]);
    assert_eq!((batch.len(), batch.is_full(), batch.error()), (1, false, None));
}

#[test]
fn an_oversize_argument_is_skipped_and_the_connection_goes_on() {
    let limits = Limits::after_auth(100, 0);
    let mut bytes = Vec::new();
    for size in [100, 101, 1_000_000] {
        bytes.extend(encoded(&[b"SET".to_vec(), vec![b'k'; size], b"tail".to_vec()]));
        bytes.extend(encoded(&[b"PING".to_vec()]));
    }
    for pieces in [&[usize::MAX][..], &[1], &[16_384], &[70, 1]] {
        let out = run(&bytes, limits, pieces);
        assert_eq!(out.requests.len(), 4);
        assert_eq!((&out.requests[1], out.left), (&vec![b"PING".to_vec()], 0));
        assert_eq!(
            out.errors,
            [
                "ERR argument of 101 bytes is over the limit of 100 bytes",
                "ERR argument of 1000000 bytes is over the limit of 100 bytes"
            ]
        );
    }
}

#[test]
fn an_oversize_request_is_skipped_without_being_held() {
    // 3,000 arguments of 100 bytes, over a limit of 64 KiB and a bit.
    let limits = Limits::after_auth(100, 0);
    let mut bytes = encoded(&vec![vec![b'v'; 100]; 3000]);
    bytes.extend(encoded(&[b"PING".to_vec()]));
    for pieces in [&[usize::MAX][..], &[10_000], &[7]] {
        let out = run(&bytes, limits, pieces);
        assert_eq!(out.requests, [[b"PING".to_vec()]]);
        assert_eq!(out.errors.len(), 1);
        assert!(out.errors[0].starts_with("ERR request of "), "{:?}", out.errors);
    }
    let mut parser = Parser::new(limits);
    assert_eq!(parser.parse(&bytes[..200_000]).consumed(), 200_000);
    assert!(parser.spans.capacity() < 2048, "the ranges of a skipped request are held");
}

#[test]
fn declared_lengths_allocate_nothing() {
    let mut parser = Parser::new(Limits::after_auth(1 << 29, 1 << 30));
    let batch = parser.parse(b"*1048576\r\n$536870912\r\n");
    assert_eq!((batch.consumed(), batch.error()), (0, None));
    assert_eq!(parser.spans.capacity() + parser.entries.capacity(), 0);
}

#[test]
fn a_large_value_in_pieces_is_not_scanned_again() {
    // 4 MiB of which each piece adds one byte: parsing from the start each time would look at
    // 2^43 bytes and never end. Arguments that are complete are not looked at either.
    let mut args = vec![b"x".to_vec(); 50_000];
    args.push(vec![b'v'; 1 << 20]);
    let bytes = encoded(&args);
    let mut parser = Parser::new(Limits::after_auth(4 << 20, 8 << 20));
    for end in bytes.len() - 200_000..bytes.len() {
        assert_eq!(parser.parse(&bytes[..end]).len(), 0);
    }
    assert_eq!(parser.parse(&bytes).len(), 1);
}

#[test]
fn a_batch_ends_at_its_limit_and_goes_on() {
    let bytes = b"*1\r\n$4\r\nPING\r\n".repeat(3000);
    let mut parser = Parser::new(roomy());
    let (mut from, mut sizes) = (0, Vec::new());
    while from < bytes.len() {
        let batch = parser.parse(&bytes[from..]);
        sizes.push((batch.len(), batch.is_full()));
        from += batch.consumed();
    }
    assert_eq!(sizes, [(1024, true), (1024, true), (952, false)]);
}

#[test]
fn nesting_costs_no_stack() {
    let out = run(&b"*1\r\n".repeat(200_000), roomy(), &[usize::MAX]);
    assert_eq!(out.errors, ["ERR Protocol error: expected '$', got '*'"]);
}

#[test]
fn a_cut_line_leaves_no_trace() {
    let bytes = [b"*2\r\n$100\r\n", &[b'v'; 100][..], b"\r\n$\r\n"].concat();
    let out = run(&bytes, roomy(), &[8, usize::MAX]);
    assert_eq!(out.errors, ["ERR Protocol error: invalid bulk length"]);
}

#[test]
fn an_error_stays() {
    let mut parser = Parser::new(roomy());
    assert!(parser.parse(b"*x\r\n").error().is_some());
    let batch = parser.parse(b"PING\r\n");
    assert_eq!((batch.len(), batch.consumed()), (0, 0));
    assert!(batch.error().is_some());
}

fn arg() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'$')], 0..6),
        (0_usize..2000).prop_map(|bytes| vec![b'v'; bytes]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever well-formed requests arrive, in whatever chunks: the oracle reads the same.
    #[test]
    fn well_formed_requests_in_any_chunks(
        requests in proptest::collection::vec(proptest::collection::vec(arg(), 1..6), 0..12),
        pieces in proptest::collection::vec(1_usize..700, 1..8),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|args| encoded(args)).collect();
        let out = run(&bytes, roomy(), &pieces);
        prop_assert_eq!(&out.requests, &requests);
        prop_assert_eq!((out.errors.len(), out.left), (0, 0));
        check(&bytes);
    }

    /// Bytes that look like requests and are none.
    #[test]
    fn mutated_requests(
        requests in proptest::collection::vec(proptest::collection::vec(arg(), 1..4), 1..5),
        edits in proptest::collection::vec((any::<u16>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut bytes: Vec<u8> = requests.iter().flat_map(|args| encoded(args)).collect();
        for (place, byte, how) in edits {
            let place = usize::from(place) % (bytes.len() + 1);
            match how {
                0 => bytes.insert(place, byte),
                1 if place < bytes.len() => bytes[place] = byte,
                _ => bytes.truncate(place.max(1)),
            }
        }
        check(&bytes);
    }
}

/// The fuzz target's check on bytes from its alphabet: the same for some seconds, in every run.
#[test]
fn the_fuzz_check_on_generated_bytes() {
    const TOKENS: [&[u8]; 16] = [
        b"*1\r\n",
        b"*2\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"$1\r\n",
        b"$3\r\n",
        b"$0\r\n",
        b"$-1\r\n",
        b"a\r\n",
        b"GET\r\n",
        b"\r\n",
        b"\r",
        b"\"",
        b"PING\r\n",
        b"30",
        b"\x00",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..120_000 {
        let mut bytes = Vec::new();
        for _ in 0..=state % 13 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(TOKENS[(state >> 32) as usize % TOKENS.len()]);
        }
        check(&bytes);
    }
}
