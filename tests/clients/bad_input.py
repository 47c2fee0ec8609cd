"""Bytes that no client should send: the right error each, the node alive, its memory bounded.

    python tests/clients/bad_input.py target/release/kv-node [base port]

Needs nothing but Python. Starts and ends its own nodes; exits with 1 if anything is wrong.
"""

import socket
import sys
import time

from cluster import Checks, Cluster


def request(*args):
    args = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)


class Raw:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the node has closed; what it said before is still to be read
        return self

    def line(self):
        try:
            return self.file.readline().rstrip(b"\r\n")
        except ConnectionResetError:
            return b""

    def says(self, data, wanted):
        got = self.send(data).line()
        assert got.startswith(wanted), f"{wanted!r} was expected, {got[:200]!r} came"
        return got

    def alive(self):
        self.says(b"PING\r\n", b"+PONG")

    def closed(self):
        got = self.line()
        assert got == b"", f"an end was expected, {got[:200]!r} came"


def too_large(port):
    c = Raw(port)
    c.says(request("SET", "k", b"v" * 11_264),
           b"-ERR pair of 11265 bytes is over the limit of 10240 bytes")
    c.alive()
    c.says(request("SET", "k", b"v" * (2 << 20)), b"-ERR argument of 2097152 bytes is over")
    c.alive()
    c.says(request("SET", b"k" * 65_536, "v"), b"-ERR pair of 65537 bytes is over")
    c.says(request("GET", b"k" * 65_536), b"$-1")
    c.says(request("KV.PUT", "k", b"v" * 11_264), b"-ERR pair of 11265 bytes is over")
    c.says(request("MSET", "ok", "1", "k", b"v" * 11_264), b"-ERR pair of ")
    c.says(request("EXISTS", "k"), b":0")
    c.alive()


def wrong_commands(port):
    c = Raw(port)
    c.says(request("FOO", "a", "b"), b"-ERR unknown command 'FOO', with args beginning with: 'a' 'b'")
    c.says(request("x" * 500, "y" * 5000), b"-ERR unknown command 'xxx")
    c.says(request("FOO\r\nBAR", "a\r\n+OK"), b"-ERR unknown command")
    c.alive()
    c.says(request("GET"), b"-ERR wrong number of arguments for 'get' command")
    c.says(request("SET", "a"), b"-ERR wrong number of arguments for 'set' command")
    c.says(request("MSET", "a", "1", "b"), b"-ERR wrong number of arguments for 'mset' command")
    c.says(request("CLUSTER", "KEYSLOT"),
           b"-ERR wrong number of arguments for 'cluster|keyslot' command")
    c.says(request("CLIENT", "FROB"), b"-ERR unknown subcommand 'FROB'. Try CLIENT HELP.")
    c.says(request("SET", "a", "1", "EX", "x"), b"-ERR value is not an integer or out of range")
    c.says(request("SET", "a", "1", "EX", "0"), b"-ERR invalid expire time in 'set' command")
    c.says(request("SET", "a", "1", "EX", "9" * 18), b"-ERR invalid expire time in 'set' command")
    c.says(request("SET", "a", "1", "EX", "1", "PX", "1"), b"-ERR syntax error")
    c.says(request("EXPIRE", "a", "nan"), b"-ERR value is not an integer or out of range")
    c.says(request("SCAN", "x"), b"-ERR invalid cursor")
    c.says(request("SCAN", "0", "COUNT", "0"), b"-ERR syntax error")
    c.says(request("SELECT", "1"), b"-ERR DB index is out of range")
    c.says(request("HELLO", "4"), b"-NOPROTO unsupported protocol version")
    c.says(request("EXEC"), b"-ERR EXEC without MULTI")
    c.says(request("DISCARD"), b"-ERR DISCARD without MULTI")
    c.says(request("MULTI"), b"+OK")
    c.says(request("MULTI"), b"-ERR MULTI calls can not be nested")
    c.says(request("FOO"), b"-ERR unknown command")
    c.says(request("EXEC"), b"-EXECABORT Transaction discarded because of previous errors.")
    c.says(request(b"\x00\xff\r\n", "a"), b"-ERR unknown command")
    c.says(request(""), b"-ERR unknown command ''")
    c.alive()


BROKEN = [
    (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length"),
    (b"*1\r\n$99999999999\r\n", b"-ERR Protocol error: invalid bulk length"),
    (b"*1\r\n$536870913\r\n", b"-ERR Protocol error: invalid bulk length"),
    (b"*1\r\n$x\r\n", b"-ERR Protocol error: invalid bulk length"),
    (b"*99999999999999999999\r\n", b"-ERR Protocol error: invalid multibulk length"),
    (b"*2147483647\r\n", b"-ERR Protocol error: invalid multibulk length"),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", b"-ERR Protocol error: expected '$', got '*'"),
    (b"*1\r\n" * 100_000, b"-ERR Protocol error: expected '$', got '*'"),
    (b"*3\r\n$3\r\nSET\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'"),
    (b"SET \"a\r\n", b"-ERR Protocol error: unbalanced quotes in request"),
    (b"a" * (1 << 20), b"-ERR Protocol error: too big inline request"),
    (b"*" + b"1" * (1 << 20), b"-ERR Protocol error: too big mbulk count string"),
    (b"*1\r\n$" + b"1" * (1 << 20), b"-ERR Protocol error: too big bulk count string"),
]


def broken(port):
    for data, wanted in BROKEN:
        c = Raw(port)
        try:
            c.says(data, wanted)
            c.closed()
        except AssertionError as error:
            raise AssertionError(f"{data[:30]!r}: {error}") from None
    for empty in (b"*0\r\n", b"*-1\r\n", b"\r\n", b"*-99\r\n"):
        c = Raw(port)
        c.send(empty)
        c.alive()


def promised_much(cluster):
    """Lengths are no reservations: 200 connections that each announce 512 MiB cost nothing."""
    before = cluster.resident_kib(1)
    clients = [Raw(cluster.port(1)) for _ in range(200)]
    for place, c in enumerate(clients):
        c.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nvv" if place % 2 else
               b"*1048576\r\n$1\r\na\r\n")
    time.sleep(1)
    grown = cluster.resident_kib(1) - before
    print(f"  200 large promises: {grown} KiB more")
    assert grown < 64 * 1024, f"{grown} KiB"
    for c in clients:
        c.socket.close()


def many_small(cluster):
    """One argument announced, again and again; and 200,000 empty requests."""
    before = cluster.resident_kib(1, "VmHWM")
    c = Raw(cluster.port(1))
    c.says(b"*1\r\n" * 200_000, b"-ERR Protocol error: expected '$', got '*'")
    c.closed()
    c = Raw(cluster.port(1))
    c.send(b"*0\r\n" * 200_000)
    c.alive()
    grown = cluster.resident_kib(1, "VmHWM") - before
    print(f"  400,000 headers: {grown} KiB more")
    assert grown < 32 * 1024, f"{grown} KiB"


def many_arguments(cluster):
    """A request of 200,000 arguments is answered, or refused in its place."""
    c = Raw(cluster.port(1))
    got = c.says(request("EXISTS", *(["k"] * 200_000)), (b":", b"-ERR"))
    print(f"  200,000 arguments: {got[:60]!r}, {cluster.resident_kib(1, 'VmHWM')} KiB at most")
    c.alive()
    c.says(request("MULTI"), b"+OK")
    c.socket.settimeout(60)
    c.send(request("SET", "k", b"v" * 8000) * 10_000)
    for _ in range(10_000):
        got = c.line()
        if got != b"+QUEUED":
            break
    print(f"  10,000 queued of 8 KB: {got[:80]!r}, {cluster.resident_kib(1)} KiB now, "
          f"{cluster.resident_kib(1, 'VmHWM')} at most")
    assert cluster.resident_kib(1, "VmHWM") < 512 * 1024


def does_not_read(cluster):
    """A client that asks and never reads is closed at `resp.output_bytes_max`, or waits."""
    c = Raw(cluster.port(1))
    c.says(request("SET", "big", b"v" * 10_000), b"+OK")
    before = cluster.resident_kib(1)
    c.socket.settimeout(3)
    try:
        for _ in range(200):
            c.socket.sendall(request("GET", "big") * 1000)
    except OSError:
        pass
    grown = cluster.resident_kib(1) - before
    print(f"  a client that never reads: {grown} KiB more")
    assert grown < 160 * 1024, f"{grown} KiB"
    c.socket.close()


def wrong_secret(cluster):
    """A fourth node with another secret is refused, told so in the log, and nothing breaks."""
    logs = {node: len(cluster.log(node)) for node in (1, 2, 3)}
    cluster.start(4, secret="another")
    time.sleep(3)
    told = [line for node in (1, 2, 3) for line in cluster.log(node)[logs[node]:].splitlines()]
    own = cluster.log(4)
    print("  members say:", *told[:2], sep="\n    ")
    print("  the stranger says:", *own.splitlines()[-3:], sep="\n    ")
    print(f"  {len(told)} lines in 3 s")
    c = Raw(cluster.port(1))
    c.says(request("SET", "a", "1"), b"+OK")
    c.send(request("CLUSTER", "NODES"))
    size = int(c.line()[1:])
    assert str(cluster.port(4)).encode() not in c.file.read(size + 2), "the stranger is a member"
    if cluster.alive(4):
        try:
            Raw(cluster.port(4)).says(request("GET", "a"), b"-LOADING")
        except OSError:
            pass
        cluster.kill(4)
    assert any("secret" in line for line in told), "no member logged it"
    assert "secret" in own, "the stranger did not log it"
    assert len(told) < 200, f"{len(told)} lines of log"


def garbage_to_peers(cluster):
    """Bytes that are no handshake on the peers' port."""
    for data in (b"\x00" * 100_000, b"\xff" * 100_000, b"GET / HTTP/1.1\r\n\r\n", request("PING"),
                 b"\xff\xff\xff\x7f" + b"x" * 1000):
        peer = socket.create_connection(("127.0.0.1", cluster.base + 101), 5)
        try:
            peer.sendall(data)
            peer.settimeout(0.3)
            peer.recv(100)
        except OSError:
            pass
        peer.close()
    Raw(cluster.port(1)).says(request("SET", "a", "1"), b"+OK")


def before_auth(port):
    c = Raw(port)
    c.says(request("GET", "a"), b"-NOAUTH Authentication required.")
    c.says(request("AUTH", "wrong"),
           b"-WRONGPASS invalid username-password pair or user is disabled.")
    c.says(request("AUTH", "a", "b", "c"), b"-ERR syntax error")
    c = Raw(port)
    c.says(b"*11\r\n", b"-ERR Protocol error: unauthenticated multibulk length")
    c.closed()
    c = Raw(port)
    c.says(b"*1\r\n$16385\r\n", b"-ERR Protocol error: unauthenticated bulk length")
    c.closed()
    c = Raw(port)
    c.says(request("AUTH", "pass word"), b"+OK")
    c.says(request("GET", "a"), (b"$", b"_"))


def main(binary, base):
    checks = Checks()
    with Cluster(binary, base) as cluster:
        begun = cluster.resident_kib(1)
        for name, test, what in [
            ("too large", too_large, cluster.port(1)),
            ("wrong commands", wrong_commands, cluster.port(1)),
            ("broken framing", broken, cluster.port(1)), ("promises", promised_much, cluster),
            ("many small", many_small, cluster), ("many arguments", many_arguments, cluster),
            ("does not read", does_not_read, cluster), ("wrong secret", wrong_secret, cluster),
            ("garbage to peers", garbage_to_peers, cluster),
        ]:
            checks.run("bad input", name, test, what)
            checks.run("bad input", f"{name}: alive",
                       lambda: [Raw(cluster.port(node)).alive() for node in (1, 2, 3)])
        print(f"  resident: {begun} KiB before, {cluster.resident_kib(1)} after, "
              f"{cluster.resident_kib(1, 'VmHWM')} at most")
    more = '[resp]\nrequirepass = "pass word"'
    with Cluster(binary, base, extra=more, password="pass word") as cluster:
        checks.run("bad input", "before AUTH", before_auth, cluster.port(1))
    return checks.report()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7300))
