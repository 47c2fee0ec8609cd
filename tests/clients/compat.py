"""redis-py, standalone and cluster, sync and async, RESP2 and RESP3, against three real nodes.

    python tests/clients/compat.py target/release/kv-node [base port]

Works with redis-py 5 and 8. Starts and ends its own nodes; exits with 1 if anything is wrong.
"""

import asyncio
import secrets
import sys
import threading
import time
import warnings

import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncCluster
from redis.cluster import ClusterNode, RedisCluster

from cluster import Checks, Cluster

warnings.simplefilter("ignore", DeprecationWarning)  # SETEX and its like, which are still sent
BYTES = bytes(range(256))


class Blocking:
    """An async client with the face of a blocking one, so that both take the same checks."""

    def __init__(self, make):
        self.loop = asyncio.new_event_loop()
        self.client = self.loop.run_until_complete(self.made(make))

    @staticmethod
    async def made(make):
        return make()

    def __getattr__(self, name):
        def call(*args, **kwargs):
            async def run():
                return await getattr(self.client, name)(*args, **kwargs)

            return self.loop.run_until_complete(run())

        return call

    def scan_iter(self, **kwargs):
        async def run():
            return [key async for key in self.client.scan_iter(**kwargs)]

        return self.loop.run_until_complete(run())

    def piped(self, commands, **kwargs):
        async def run():
            pipe = self.client.pipeline(**kwargs)
            for name, *args in commands:
                getattr(pipe, name)(*args)
            return await pipe.execute(raise_on_error=False)

        return self.loop.run_until_complete(run())

    def close(self):
        close = getattr(self.client, "aclose", None) or self.client.close
        self.loop.run_until_complete(close())
        self.loop.close()


def piped(client, commands, **kwargs):
    if isinstance(client, Blocking):
        return client.piped(commands, **kwargs)
    pipe = client.pipeline(**kwargs)
    for name, *args in commands:
        getattr(pipe, name)(*args)
    return pipe.execute(raise_on_error=False)


def refused(words, call, *args, **kwargs):
    """The call must end in a ResponseError that says `words`, and the client must go on."""
    try:
        answer = call(*args, **kwargs)
    except redis.ResponseError as error:
        assert words in str(error), f"{words!r} is not in {error!s}"
        return
    raise AssertionError(f"{words!r} was expected, {answer!r} came")


def same(got, wanted):
    assert got == wanted, f"{wanted!r} was expected, {got!r} came"


def set_get_del(c):
    same(c.set("a", "1"), True)
    same(c.get("a"), b"1")
    same(c.exists("a"), 1)
    same(c.delete("a"), 1)
    same(c.delete("a"), 0)
    same(c.get("a"), None)
    same(c.exists("a"), 0)
    same(c.set("empty", ""), True)
    same(c.get("empty"), b"")
    same(c.set("número", "ключ"), True)
    same(c.get("número").decode(), "ключ")


def many(c, clustered):
    """Cluster clients refuse keys of several slots themselves, so they use a hash tag."""
    tag = "{t}" if clustered else ""
    same(c.mset({f"{tag}m{i}": str(i) for i in range(100)}), True)
    got = c.mget([f"{tag}m{i}" for i in range(101)])
    same(got, [str(i).encode() for i in range(100)] + [None])
    same(c.exists(f"{tag}m1", f"{tag}m1", f"{tag}m2", f"{tag}none"), 3)
    same(c.touch(f"{tag}m1", f"{tag}m2"), 2)
    same(c.unlink(f"{tag}m1", f"{tag}m2", f"{tag}none"), 2)
    same(c.mget(f"{tag}m1", f"{tag}m3"), [None, b"3"])
    if clustered:
        same(c.mset_nonatomic({f"s{i}": str(i) for i in range(50)}) is not None, True)
        same(c.mget_nonatomic([f"s{i}" for i in range(50)]), [str(i).encode() for i in range(50)])
        same(c.delete(*[f"s{i}" for i in range(50)]), 50)


def expiry(c):
    c.set("e", "v")
    same(c.ttl("e"), -1)
    same(c.ttl("none"), -2)
    same(bool(c.expire("e", 100)), True)
    assert 98 <= c.ttl("e") <= 100, c.ttl("e")
    assert 98_000 <= c.pttl("e") <= 100_000
    same(bool(c.expire("none", 100)), False)
    same(bool(c.persist("e")), True)
    same(bool(c.persist("e")), False)
    same(c.ttl("e"), -1)
    when = int(time.time()) + 50
    same(bool(c.expireat("e", when)), True)
    same(c.expiretime("e"), when)
    same(bool(c.pexpire("e", 60)), True)
    time.sleep(0.12)
    same(c.get("e"), None)
    same(c.exists("e"), 0)
    same(c.ttl("e"), -2)
    same(c.pttl("e"), -2)


def set_options(c):
    same(c.set("o", "1", ex=100), True)
    assert 98 <= c.ttl("o") <= 100
    same(c.set("o", "2", keepttl=True), True)
    assert 98 <= c.ttl("o") <= 100
    same(c.getex("o", px=5000), b"2")
    assert c.pttl("o") <= 5000
    same(c.getex("o", persist=True), b"2")
    same(c.ttl("o"), -1)
    same(c.set("o", "3", px=50_000), True)
    assert 48_000 <= c.pttl("o") <= 50_000
    same(c.set("o", "4"), True)
    same(c.ttl("o"), -1)
    same(c.setex("o", 10, "5"), True)
    same(c.psetex("o", 10_000, "6"), True)
    same(c.get("o"), b"6")
    same(c.set("o", "7", px=40), True)
    time.sleep(0.1)
    same(c.get("o"), None)
    refused("invalid expire time", c.set, "o", "1", ex=0)
    refused("invalid expire time", c.set, "o", "1", px=-5)


def strings(c):
    c.set("s", "hello world")
    same(c.strlen("s"), 11)
    same(c.getrange("s", 0, 4), b"hello")
    same(c.getrange("s", -5, -1), b"world")
    same(c.substr("s", 0, 1), b"he")
    same(c.type("s"), b"string")
    same(c.type("none"), b"none")
    assert c.object("encoding", "s") in (b"embstr", b"raw")
    assert c.memory_usage("s") > 11


def binary(c):
    same(c.set(BYTES, BYTES[::-1]), True)
    same(c.get(BYTES), BYTES[::-1])
    same(c.set(b"\r\n$5\r\n", b"*1\r\n\x00"), True)
    same(c.get(b"\r\n$5\r\n"), b"*1\r\n\x00")
    assert BYTES in set(c.scan_iter(count=1000))
    same(c.delete(BYTES), 1)
    big = b"\xff" * 10_000
    same(c.set(b"big", big), True)
    same(c.get(b"big"), big)
    refused("over the limit", c.set, b"big", b"x" * 11_264)
    same(c.get(b"big"), big)


def refusals(c):
    c.set("n", "1")
    for call in (lambda: c.incr("n"), lambda: c.decr("n", 2), lambda: c.append("n", "x")):
        refused("needs one decision maker: a cluster that was made with keyspace.rmw=best-effort", call)
    refused("needs one decision maker", c.set, "n", "2", nx=True)
    refused("needs one decision maker", c.setnx, "n", "2")
    refused("needs one decision maker", c.getset, "n", "2")
    refused("needs one decision maker", c.getdel, "n")
    same(c.get("n"), b"1")
    if not target(c):  # cluster clients refuse themselves what COMMAND does not list
        refused("unsupported command 'lpush'", c.lpush, "l", "x")
        refused("unsupported command 'hset'", c.hset, "h", "f", "x")
        refused("unsupported command 'publish'", c.publish, "c", "x")
        refused("unsupported command 'eval'", c.eval, "return 1", 0)
        words = "unknown command 'FOO', with args beginning with: 'a'"
        refused(words, c.execute_command, "FOO", "a")
        refused("wrong number of arguments for 'get' command", c.execute_command, "GET")
    same(c.get("n"), b"1")


def target(c):
    clustered = isinstance(c, RedisCluster) or isinstance(getattr(c, "client", None), AsyncCluster)
    return {"target_nodes": RedisCluster.RANDOM} if clustered else {}


def primaries(c):
    """For what redis-py's cluster client otherwise asks one node only."""
    return {"target_nodes": RedisCluster.PRIMARIES} if target(c) else {}


def pipelines(c):
    commands = [("set", f"p{i}", i) for i in range(1000)] + [("get", f"p{i}") for i in range(1000)]
    got = piped(c, commands, **({} if target(c) else {"transaction": False}))
    same(got, [True] * 1000 + [str(i).encode() for i in range(1000)])
    got = piped(c, [("set", "p", "1"), ("incr", "p"), ("get", "p")],
                **({} if target(c) else {"transaction": False}))
    same((got[0], got[2]), (True, b"1"))
    assert isinstance(got[1], redis.ResponseError) and "decision maker" in str(got[1]), got[1]


def transactions(c):
    got = piped(c, [("set", "{x}1", "a"), ("get", "{x}1"), ("ttl", "{x}1"), ("delete", "{x}1")],
                transaction=True)
    # redis-py's cluster client leaves the answers of a transaction as they came.
    same([got[0] in (True, b"OK"), *got[1:]], [True, b"a", -1, 1])
    got = piped(c, [("set", "{x}1", "a"), ("incr", "{x}1"), ("get", "{x}1")], transaction=True)
    same((got[0] in (True, b"OK"), got[2]), (True, b"a"))
    assert isinstance(got[1], redis.ResponseError), got


def watch_refused(c):
    if isinstance(c, Blocking):
        return
    with c.pipeline(transaction=True) as pipe:
        refused("WATCH", pipe.watch, "a")


def scan_complete(c):
    for start in range(0, 10_000, 1000):
        commands = [("set", f"scan:{i}", i) for i in range(start, start + 1000)]
        same(set(piped(c, commands)), {True})
    keys = {f"scan:{i}".encode() for i in range(10_000)}
    for count in (10, 1000):
        got = list(c.scan_iter(match="scan:*", count=count))
        same(set(got), keys)
    same(set(c.scan_iter(match="scan:77*")), {key for key in keys if key.startswith(b"scan:77")})
    same(set(c.scan_iter(match="scan:[12]?", _type="STRING", count=500)),
         {f"scan:{i}".encode() for i in range(10, 30)})
    same(set(c.keys("scan:999*", **primaries(c))), {key for key in keys if key.startswith(b"scan:999")})
    assert c.randomkey() is not None


def sizes(c, exact):
    """DBSIZE counts what has expired and is not collected yet, as Redis does."""
    size = c.dbsize(**primaries(c))
    found = len(set(c.scan_iter(count=1000)))
    if exact:
        assert found <= size <= found + 10, f"DBSIZE {size}, SCAN {found}"
    assert c.flushall()
    same(c.dbsize(**primaries(c)), 0)
    same(list(c.scan_iter()), [])
    same(c.get("scan:1"), None)
    same(c.set("after", "1"), True)
    same(c.get("after"), b"1")
    assert c.flushdb()
    same(c.get("after"), None)


def waits(c):
    if target(c):
        c.set("w", "1")
        same(c.wait(0, 100, target_nodes=RedisCluster.RANDOM) is not None, True)
        return
    got = piped(c, [("set", "w", "1"), ("wait", 2, 1000)], transaction=False)
    assert got[0] is True and got[1] in (1, 2), got
    got = piped(c, [("wait", 0, 100)], transaction=False)
    assert got[0] >= 0, got


def connection(c):
    if target(c):
        assert c.cluster_info(target_nodes=RedisCluster.RANDOM)["cluster_state"] == "ok"
        assert len(c.cluster_nodes()) == 3
        same(c.cluster_keyslot("foo"), 12182)
        same(c.cluster_keyslot("{user1000}.following"), c.cluster_keyslot("{user1000}.followers"))
        assert c.cluster_countkeysinslot(12182) >= 0
        assert c.cluster_shards()
        assert c.cluster_myid(c.get_random_node() if not isinstance(c, Blocking)
                              else c.client.get_random_node())
        return
    same(c.echo("hallo"), b"hallo")
    same(c.client_setname("me"), True)
    assert c.client_id() > 0
    assert c.client_info()["resp"]
    info = c.info()
    same((info["loading"], info["role"], info["redis_version"]), (0, "master", "7.2.0"))
    assert c.info("keyspace") is not None
    assert "maxmemory" in c.config_get("maxmemory*")
    assert isinstance(c.config_get(), dict)
    assert c.command_count() > 50
    assert c.command()["get"]["arity"] == 2
    assert c.execute_command("COMMAND", "INFO", "set")
    assert abs(c.time()[0] - time.time()) < 5
    assert c.role()[0] in (b"master", "master")
    assert c.lastsave()
    refused("DB index is out of range", c.select, 1)
    same(c.select(0), True)
    same(c.readonly(), True)
    assert c.reset() in (b"RESET", "RESET", True, None) if hasattr(c, "reset") and \
        not isinstance(c, redis.Redis) and not isinstance(c, Blocking) else True


def text(make):
    """decode_responses: text where it is text, an error of the client where it is not."""
    c = make(decode_responses=True)
    c.set("t", "grün")
    same(c.get("t"), "grün")
    c.set("t", b"\xff\xfe")
    try:
        raise AssertionError(f"decoded {c.get('t')!r}")
    except UnicodeDecodeError:
        pass
    same(c.set("t", "again"), True)
    same(c.get("t"), "again")
    assert "t" in set(c.scan_iter(count=1000))
    c.close()


def siblings(c):
    run, key = c.execute_command, secrets.token_hex(8)

    def values():
        return run("KV.GET", key)[1]

    same(run("KV.GET", key), [None, []])
    one, = run("KV.PUT", key, "a")
    run("KV.PUT", key, "b")
    context, both = run("KV.GET", key)
    same(sorted(both), [b"a", b"b"])
    assert c.get(key) in (b"a", b"b")
    # The context of a PUT covers what it wrote: b stays.
    run("KV.PUT", key, "a2", "CTX", one)
    same(sorted(values()), [b"a2", b"b"])
    # The context from before a2 leaves a2 live.
    run("KV.PUT", key, "ab", "CTX", context)
    context, both = run("KV.GET", key)
    same(sorted(both), [b"a2", b"ab"])
    mine, = run("KV.PUT", key, "all", "CTX", context)
    same(run("KV.GET", key, "R", "ALL")[1], [b"all"])
    run("KV.PUT", key, "next", "CTX", mine)
    same(values(), [b"next"])
    # An old context deletes nothing that it has not seen; the deletion is its sibling.
    run("KV.DEL", key, "CTX", context)
    same(sorted(values(), key=lambda value: value or b""), [None, b"next"])
    run("KV.DEL", key, "CTX", run("KV.GET", key)[0])
    same([value for value in values() if value is not None], [])
    same(c.get(key), None)
    # A blind SET overwrites siblings.
    run("KV.PUT", key, "x")
    run("KV.PUT", key, "y")
    c.set(key, "z")
    same(values(), [b"z"])
    run("KV.PUT", key, "with", "EX", "100", "CTX", run("KV.GET", key)[0], "W", "ALL")
    assert 98 <= c.ttl(key) <= 100
    same(run("KV.DEL", key), 1)
    same(run("KV.DEL", key), 0)


def foreign_contexts(c):
    run = c.execute_command
    c.set("c1", "v")
    c.set("c2", "v")
    context, _ = run("KV.GET", "c1")
    refused("context", run, "KV.PUT", "c2", "w", "CTX", context)
    refused("context", run, "KV.DEL", "c2", "CTX", context)
    refused("context", run, "KV.PUT", "c1", "w", "CTX", b"nonsense")
    refused("context", run, "KV.PUT", "c1", "w", "CTX", b"")
    for place in (0, len(context) // 2, len(context) - 1):
        bad = bytearray(context)
        bad[place] ^= 1
        refused("context", run, "KV.PUT", "c1", "w", "CTX", bytes(bad))
    refused("context", run, "KV.PUT", "c1", "w", "CTX", context[:-1])
    same(run("KV.GET", "c1")[1], [b"v"])
    same(run("KV.GET", "c2")[1], [b"v"])


def fields(answer):
    if isinstance(answer, dict):
        return {key.decode(): value for key, value in answer.items()}
    return {key.decode(): value for key, value in zip(answer[::2], answer[1::2])}


def explain(c):
    c.set("foo", "v")
    told = fields(c.execute_command("KV.EXPLAIN", "foo"))
    same((told["slot"], told["n"], told["r"], told["w"]), (12182, 3, 2, 2))
    same(len(told["preference"]), 3)
    same(len(told["replicas"]), 3)
    for replica in told["replicas"]:
        replica = fields(replica)
        assert replica["node"] in told["preference"] and replica["found"], replica
        assert bool(replica["up"]), replica
    same(len(fields(c.execute_command("KV.EXPLAIN", "never-there"))["replicas"]), 3)


def consistency(c):
    run = c.execute_command
    shown = fields(run("KV.CONSISTENCY"))
    same(shown, {"R": b"DEFAULT", "W": b"DEFAULT"})
    same(run("KV.CONSISTENCY", "R", "ONE", "W", "ALL") in (b"OK", True), True)
    same(fields(run("KV.CONSISTENCY")), {"R": b"ONE", "W": b"ALL"})
    same(c.set("k", "v"), True)
    same(c.get("k"), b"v")
    run("KV.CONSISTENCY", "R", "2", "W", "quorum")
    same(fields(run("KV.CONSISTENCY")), {"R": b"2", "W": b"QUORUM"})
    refused("4", run, "KV.CONSISTENCY", "R", "4")
    refused("consistency level", run, "KV.CONSISTENCY", "W", "0")
    refused("syntax error", run, "KV.CONSISTENCY", "X", "1")
    refused("", run, "KV.GET", "k", "R", "9")


def standalone_checks(checks, name, c, make):
    for feature, test in [
        ("connect", lambda: same(c.ping(), True)), ("set get del", lambda: set_get_del(c)),
        ("mget mset", lambda: many(c, False)), ("expiry", lambda: expiry(c)),
        ("set options", lambda: set_options(c)), ("strings", lambda: strings(c)),
        ("binary", lambda: binary(c)), ("refusals", lambda: refusals(c)),
        ("pipeline", lambda: pipelines(c)), ("multi exec", lambda: transactions(c)),
        ("watch", lambda: watch_refused(c)), ("scan", lambda: scan_complete(c)),
        ("wait", lambda: waits(c)), ("connection", lambda: connection(c)),
        ("text", lambda: text(make)), ("siblings", lambda: siblings(c)),
        ("contexts", lambda: foreign_contexts(c)), ("explain", lambda: explain(c)),
        ("dbsize flush", lambda: sizes(c, True)),
    ]:
        checks.run(name, feature, test)
    single = make(single_connection_client=True)
    checks.run(name, "consistency", consistency, single)
    single.close()


def cluster_checks(checks, name, c):
    for feature, test in [
        ("connect", lambda: same(bool(c.ping()), True)), ("set get del", lambda: set_get_del(c)),
        ("mget mset", lambda: many(c, True)), ("expiry", lambda: expiry(c)),
        ("set options", lambda: set_options(c)), ("strings", lambda: strings(c)),
        ("binary", lambda: binary(c)), ("refusals", lambda: refusals(c)),
        ("pipeline", lambda: pipelines(c)), ("scan", lambda: scan_complete(c)),
        ("wait", lambda: waits(c)), ("connection", lambda: connection(c)),
        ("dbsize flush", lambda: sizes(c, False)),
    ]:
        checks.run(name, feature, test)
    if int(redis.__version__.split(".")[0]) >= 6:
        checks.run(name, "multi exec", transactions, c)


def goes_on(checks, name, cluster, c, seconds=6):
    """One node is killed while the client writes and reads: it goes on, and nothing is lost."""
    outcome = {"ok": {}, "errors": [], "slowest": 0.0, "killed": float("inf"), "last": 0.0}
    end = time.monotonic() + seconds

    def run():
        place = 0
        while time.monotonic() < end:
            key, begun = f"kill:{place % 2000}", time.monotonic()
            try:
                assert c.set(key, place)
                outcome["ok"][key] = place
                got = int(c.get(key))
                assert got == place, f"{key} is {got}, not {place}"
            except (redis.RedisError, OSError) as error:
                outcome["errors"].append(f"{type(error).__name__}: {error}"[:120])
                outcome["last"] = time.monotonic() - outcome["killed"]
            outcome["slowest"] = max(outcome["slowest"], time.monotonic() - begun)
            place += 1

    def test():
        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(seconds / 3)
        outcome["killed"] = time.monotonic()
        cluster.kill(2)
        thread.join()
        last = len(outcome["ok"])
        for key, value in outcome["ok"].items():
            same(int(c.get(key)), value)
        shown = sorted(set(outcome["errors"]))
        print(f"  {name}: {last} keys, slowest {outcome['slowest'] * 1000:.0f} ms, "
              f"{len(outcome['errors'])} errors until {outcome['last'] * 1000:.0f} ms {shown}")
        assert last > 200, "the client stood still"
        # A client learns that a node is gone when the others believe it; so long it may fail.
        assert all(str(cluster.port(2)) in error for error in shown), shown
        assert outcome["last"] < 3, f"errors for {outcome['last']:.1f} s"

    checks.run(name, "kill -9", test)
    cluster.start(2)
    cluster.ready(2)
    cluster.seen(2)


def passwords(checks, name, port, protocol):
    def with_password():
        c = redis.Redis(port=port, password="pass word", protocol=protocol)
        same(c.set("a", "1"), True)
        c = redis.Redis(port=port, username="default", password="pass word", protocol=protocol)
        same(c.get("a"), b"1")

    def without():
        try:
            redis.Redis(port=port, protocol=protocol).get("a")
        except redis.AuthenticationError:
            return
        raise AssertionError("a client without the password was served")

    def wrong():
        for user in (None, "nobody"):
            try:
                password = "wrong" if user is None else "pass word"
                c = redis.Redis(port=port, username=user, password=password, protocol=protocol)
                c.get("a")
            except redis.AuthenticationError:
                continue
            raise AssertionError("a wrong password was taken")

    checks.run(name, "password", with_password)
    checks.run(name, "no password", without)
    checks.run(name, "wrong password", wrong)


def main(binary, base):
    checks = Checks()
    version = f"redis-py {redis.__version__}"
    with Cluster(binary, base) as cluster:
        for protocol in (2, 3):
            def make(**more):
                return redis.Redis(port=cluster.port(1), protocol=protocol, **more)

            def make_async(**more):
                return Blocking(lambda: redis.asyncio.Redis(
                    port=cluster.port(3), protocol=protocol, **more))

            for kind, maker in (("sync", make), ("async", make_async)):
                c = maker()
                standalone_checks(checks, f"{version} {kind} RESP{protocol}", c, maker)
                c.close()
        clustered(checks, version, cluster, None, local=False)
    more = '[resp]\nrequirepass = "pass word"\nannounce = "cluster"\nwhole_keyspace = "local"'
    with Cluster(binary, base, extra=more, password="pass word") as cluster:
        for protocol in (2, 3):
            passwords(checks, f"{version} RESP{protocol} requirepass", cluster.port(1), protocol)
        clustered(checks, version, cluster, "pass word", local=True)
    return checks.report()


def clustered(checks, version, cluster, password, local):
    mode = "local keyspace, password" if local else "defaults"
    for protocol in (2, 3):
        options = {"protocol": protocol, "password": password}
        for kind in ("sync", "async"):
            name = f"{version} RedisCluster {kind} RESP{protocol} {mode}"
            try:
                c = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", cluster.port(1))],
                                 **options) if kind == "sync" else Blocking(
                    lambda: AsyncCluster(host="127.0.0.1", port=cluster.port(1), **options))
            except redis.RedisError as error:
                checks.wrong.append(f"{name} / connect: {error}")
                continue
            cluster_checks(checks, name, c)
            goes_on(checks, name, cluster, c)
            c.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7300))
