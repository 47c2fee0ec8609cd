// node-redis and ioredis, standalone and cluster, RESP2 and RESP3, against three real nodes.
//
//     cd tests/clients && npm install && node compat.mjs ../../target/release/kv-node [base port]
//
// Starts and ends its own nodes; exits with 1 if anything is wrong.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { createClient, createCluster, RESP_TYPES } from "redis";
import { Nodes } from "./nodes.mjs";

const BINARY = process.argv[2] ?? "../../target/release/kv-node";
const BASE = Number(process.argv[3] ?? 7300);
const BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
const NODES = [1, 2, 3];
const port = (node) => BASE + node;
const rows = new Map();
const wrong = [];

async function check(client, feature, test) {
  let verdict = "ok";
  const late = new AbortController();
  const limit = sleep(60_000, null, { signal: late.signal }).then(
    () => Promise.reject(new Error("no answer for 60 s")), () => {});
  try {
    await Promise.race([test(), limit]);
  } catch (error) {
    verdict = "WRONG";
    const at = /compat\.mjs:\d+/.exec(error.stack ?? "")?.[0];
    wrong.push(`${client} / ${feature}: ${String(error).replace(/\s+/g, " ").slice(0, 300)} (${at})`);
  }
  late.abort();
  if (!rows.has(client)) rows.set(client, []);
  rows.get(client).push(verdict);
}

/** What both libraries' clients can do, under one set of names. */
const nodeRedis = (client, clustered) => ({
  clustered,
  raw: (key, ...args) => clustered
    ? client.sendCommand(key, false, args.map(String))
    : client.sendCommand(args.map((arg) => (Buffer.isBuffer(arg) ? arg : String(arg)))),
  set: (key, value, options) => client.set(key, value, options),
  get: (key) => client.get(key),
  getBytes: (key) =>
    client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }).get(key),
  del: (...keys) => client.del(keys),
  exists: (...keys) => client.exists(keys),
  mget: (...keys) => client.mGet(keys),
  mset: (pairs) => client.mSet(pairs),
  expire: (key, seconds) => client.expire(key, seconds).then(Number),
  ttl: (key) => client.ttl(key),
  persist: (key) => client.persist(key).then(Number),
  setEx: (key, seconds, value) => client.set(key, value, { EX: seconds }),
  setPx: (key, ms, value) => client.set(key, value, { PX: ms }),
  setKeepTtl: (key, value) => client.set(key, value, { KEEPTTL: true }),
  getExPx: (key, ms) => client.getEx(key, { type: "PX", value: ms }),
  incr: (key) => client.incr(key),
  setNx: (key, value) => client.set(key, value, { NX: true }),
  /** Many at once without waiting: the library pipelines. */
  async batch(commands) {
    return Promise.all(commands.map(([name, ...args]) =>
      client[{ set: "set", get: "get" }[name]](...args.map(String))));
  },
  async transaction(commands) {
    const multi = client.multi();
    commands.forEach(([name, ...args]) => multi[name](...args));
    return multi.exec().catch((error) => error.replies ?? Promise.reject(error));
  },
  async scan(match) {
    const keys = [];
    const nodes = clustered
      ? await Promise.all(client.masters.map((master) => client.nodeClient(master))) : [client];
    for (const node of nodes) {
      for await (const page of node.scanIterator({ MATCH: match, COUNT: 500 })) keys.push(...page);
    }
    return keys;
  },
  async everywhere(command) {
    const nodes = clustered
      ? await Promise.all(client.masters.map((master) => client.nodeClient(master))) : [client];
    return Promise.all(nodes.map((node) => node.sendCommand(command)));
  },
  close: () => client.close(),
});

const ioRedis = (client, clustered) => ({
  clustered,
  raw: (_key, ...args) => client.call(...args),
  set: (key, value) => client.set(key, value),
  get: (key) => client.get(key),
  getBytes: (key) => client.getBuffer(key),
  del: (...keys) => client.del(...keys),
  exists: (...keys) => client.exists(...keys),
  mget: (...keys) => client.mget(...keys),
  mset: (pairs) => client.mset(pairs),
  expire: (key, seconds) => client.expire(key, seconds),
  ttl: (key) => client.ttl(key),
  persist: (key) => client.persist(key),
  setEx: (key, seconds, value) => client.set(key, value, "EX", seconds),
  setPx: (key, ms, value) => client.set(key, value, "PX", ms),
  setKeepTtl: (key, value) => client.set(key, value, "KEEPTTL"),
  getExPx: (key, ms) => client.getex(key, "PX", ms),
  incr: (key) => client.incr(key),
  setNx: (key, value) => client.set(key, value, "NX"),
  async batch(commands) {
    // ioredis refuses a pipeline over several slots' masters, so a cluster sends one by one.
    if (clustered) return Promise.all(commands.map(([name, ...args]) => client[name](...args)));
    const pipeline = client.pipeline();
    commands.forEach(([name, ...args]) => pipeline[name](...args));
    return (await pipeline.exec()).map(([error, answer]) => error ?? answer);
  },
  async transaction(commands) {
    const multi = client.multi();
    commands.forEach(([name, ...args]) => multi[name](...args));
    return (await multi.exec()).map(([error, answer]) => error ?? answer);
  },
  async scan(match) {
    const keys = [];
    for (const node of clustered ? client.nodes("master") : [client]) {
      for await (const page of node.scanStream({ match, count: 500 })) keys.push(...page);
    }
    return keys;
  },
  everywhere: (command) => Promise.all(
    (clustered ? client.nodes("master") : [client]).map((node) => node.call(...command))),
  close: () => client.quit(),
});

async function basics(c) {
  assert.equal(await c.set("a", "1"), "OK");
  assert.equal(await c.get("a"), "1");
  assert.equal(await c.exists("a"), 1);
  assert.equal(await c.del("a"), 1);
  assert.equal(await c.del("a"), 0);
  assert.equal(await c.get("a"), null);
  await c.set("ключ", "grün");
  assert.equal(await c.get("ключ"), "grün");
  await c.set("empty", "");
  assert.equal(await c.get("empty"), "");
}

async function many(c) {
  const tag = c.clustered ? "{t}" : "";
  const keys = Array.from({ length: 100 }, (_, place) => `${tag}m${place}`);
  await c.mset(Object.fromEntries(keys.map((key, place) => [key, String(place)])));
  const got = await c.mget(...keys, `${tag}none`);
  assert.deepEqual(got, [...keys.map((_, place) => String(place)), null]);
  assert.equal(await c.exists(keys[0], keys[0], `${tag}none`), 2);
  assert.equal(await c.del(...keys, `${tag}none`), 100);
}

async function expiry(c) {
  await c.set("e", "1");
  assert.equal(await c.ttl("e"), -1);
  assert.equal(await c.ttl("none"), -2);
  assert.equal(await c.expire("e", 100), 1);
  assert.equal(await c.expire("none", 100), 0);
  const near = async (key, seconds) => assert.ok(Math.abs(await c.ttl(key) - seconds) <= 1);
  await near("e", 100);
  assert.equal(await c.persist("e"), 1);
  assert.equal(await c.ttl("e"), -1);
  await c.setEx("e", 50, "2");
  await near("e", 50);
  await c.setKeepTtl("e", "3");
  await near("e", 50);
  assert.equal(await c.getExPx("e", 20_000), "3");
  await near("e", 20);
  await c.set("e", "4");
  assert.equal(await c.ttl("e"), -1);
  await c.setPx("e", 50, "5");
  await sleep(110);
  assert.equal(await c.get("e"), null);
}

async function binary(c) {
  await c.set(BYTES, BYTES);
  assert.deepEqual(await c.getBytes(BYTES), BYTES);
  assert.equal(await c.del(BYTES), 1);
  await assert.rejects(c.set("big", "x".repeat(11_264)), /over the limit of 10240/);
  await c.set("text", BYTES);
  assert.equal(await c.get("text"), BYTES.toString());
}

async function refusals(c) {
  await c.set("n", "1");
  const reason = /needs one decision maker: a cluster that was made with keyspace.rmw=best-effort/;
  await assert.rejects(c.incr("n"), reason);
  await assert.rejects(c.setNx("n", "2"), reason);
  assert.equal(await c.get("n"), "1");
  await assert.rejects(c.raw("n", "LPUSH", "n", "x"), /unsupported command 'lpush'/);
  await assert.rejects(c.raw("n", "FOO", "n"), /unknown command 'FOO', with args beginning with/);
}

async function pipeline(c) {
  const places = Array.from({ length: 1000 }, (_, place) => place);
  const sets = await c.batch(places.map((place) => ["set", `p${place}`, place]));
  assert.deepEqual(new Set(sets), new Set(["OK"]));
  const gets = await c.batch(places.map((place) => ["get", `p${place}`]));
  assert.deepEqual(gets, places.map(String));
}

async function transaction(c) {
  const got = await c.transaction([["set", "{x}1", "a"], ["get", "{x}1"], ["ttl", "{x}1"]]);
  assert.deepEqual(got, ["OK", "a", -1]);
  const mixed = await c.transaction([["set", "{x}1", "b"], ["incr", "{x}1"], ["get", "{x}1"]]);
  assert.equal(mixed[0], "OK");
  assert.match(String(mixed[1]), /decision maker/);
  assert.equal(mixed[2], "b");
}

async function scan(c) {
  for (let from = 0; from < 10_000; from += 1000) {
    await c.batch(Array.from({ length: 1000 }, (_, place) => ["set", `scan:${from + place}`, place]));
  }
  const keys = new Set(await c.scan("scan:*"));
  assert.equal(keys.size, 10_000);
}

async function siblings(c) {
  const key = randomBytes(8).toString("hex");
  assert.deepEqual(await c.raw(key, "KV.GET", key), [null, []]);
  await c.raw(key, "KV.PUT", key, "a");
  await c.raw(key, "KV.PUT", key, "b");
  const [, values] = await c.raw(key, "KV.GET", key);
  assert.deepEqual([...values].sort(), ["a", "b"]);
  await c.raw(key, "KV.DEL", key);
  assert.equal(await c.get(key), null);
  const told = await c.raw("foo", "KV.EXPLAIN", "foo");
  const slot = Array.isArray(told) ? told[1] : (told.slot ?? told.get?.("slot"));
  assert.equal(Number(slot), 12182);
}

async function flush(c) {
  const sizes = await c.everywhere(["DBSIZE"]);
  assert.ok(sizes.reduce((sum, size) => sum + Number(size), 0) > 9_000, `DBSIZE ${sizes}`);
  await c.everywhere(["FLUSHALL"]);
  assert.equal((await c.scan("*")).length, 0);
  assert.equal(await c.get("scan:1"), null);
  const waited = await c.everywhere(["WAIT", "0", "100"]);
  assert.ok(waited.every((count) => Number(count) >= 0));
}

/** One node is killed while the client writes and reads: it goes on, nothing is lost. */
async function goesOn(name, nodes, c) {
  const begun = Date.now();
  const written = new Map();
  const failures = [];
  let killed = Infinity;
  let slowest = 0;
  let dying;
  for (let place = 0; Date.now() - begun < 6000; place += 1) {
    if (!dying && Date.now() - begun > 2000) {
      killed = Date.now();
      dying = nodes.kill(2);
    }
    const before = Date.now();
    try {
      const key = `kill:${place % 1000}`;
      await c.set(key, String(place));
      written.set(key, String(place));
      assert.equal(await c.get(key), String(place));
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      failures.push([Date.now() - killed, String(error).slice(0, 120)]);
    }
    slowest = Math.max(slowest, Date.now() - before);
  }
  await dying;
  for (const [key, value] of written) assert.equal(await c.get(key), value);
  console.log(`  ${name}: ${written.size} keys, slowest ${slowest} ms, ${failures.length} errors`,
    failures.slice(0, 2), failures.at(-1)?.[0] ?? "");
  assert.ok(written.size > 200, "the client stood still");
  assert.ok((failures.at(-1)?.[0] ?? 0) < 3000, "errors went on");
}

async function all(name, nodes, make, killing, whole) {
  let c;
  await check(name, "connect", async () => (c = await make()));
  if (!c) return;
  const tests = { basics, many, expiry, binary, refusals, pipeline, transaction, siblings };
  if (whole) Object.assign(tests, { scan, flush });
  for (const [feature, test] of Object.entries(tests)) await check(name, feature, () => test(c));
  if (killing) {
    await check(name, "kill -9", () => goesOn(name, nodes, c));
    await nodes.restart(2);
  }
  await check(name, "close", () => c.close());
}

const quiet = () => {};

async function libraries(nodes, mode) {
  const { password } = nodes;
  for (const RESP of [2, 3]) {
    await all(`node-redis RESP${RESP} ${mode}`, nodes, async () => {
      const client = createClient({ RESP, password, socket: { port: port(1), host: "127.0.0.1" } });
      client.on("error", quiet);
      await client.connect();
      return nodeRedis(client, false);
    }, false, !nodes.password);
    await all(`node-redis cluster RESP${RESP} ${mode}`, nodes, async () => {
      const client = createCluster({
        RESP, rootNodes: NODES.map((node) => ({ url: `redis://127.0.0.1:${port(node)}` })),
        defaults: { password },
        // It learns of a dead node only so long after losing it; 5000 if not said.
        topologyRefreshOnReconnectionAttemptStrategy: 500,
      });
      client.on("error", quiet);
      await client.connect();
      return nodeRedis(client, true);
    }, true, true);
    await all(`ioredis RESP${RESP} ${mode}`, nodes, async () => {
      const client = new Redis({ port: port(2), password, protocol: RESP, lazyConnect: true });
      client.on("error", quiet);
      await client.connect();
      return ioRedis(client, false);
    }, false, !nodes.password);
    await all(`ioredis Cluster RESP${RESP} ${mode}`, nodes, async () => {
      const client = new Redis.Cluster(NODES.map((node) => ({ port: port(node), host: "127.0.0.1" })),
        { redisOptions: { password, protocol: RESP }, lazyConnect: true });
      client.on("error", quiet);
      await client.connect();
      return ioRedis(client, true);
    }, true, true);
  }
}

const modes = {
  defaults: "",
  "password, local keyspace":
    'requirepass = "pass word"\nannounce = "cluster"\nwhole_keyspace = "local"',
};
for (const [mode, settings] of Object.entries(modes)) {
  const nodes = new Nodes(BINARY, BASE, { resp: settings });
  await nodes.up();
  try {
    await libraries(nodes, mode);
    if (nodes.password) {
      await check("wrong password", "refused", async () => {
        // It tries again for ever, as with Redis, and says why each time.
        const client = createClient({ password: "wrong", socket: { port: port(1) } });
        const told = new Promise((done) => client.on("error", done));
        client.connect().catch(quiet);
        assert.match(String(await told), /WRONGPASS/);
        client.destroy();
      });
    }
  } finally {
    await nodes.down();
  }
}
for (const [client, verdicts] of rows) {
  const good = verdicts.filter((verdict) => verdict === "ok").length;
  console.log(`${client.padEnd(56)} ${good} of ${verdicts.length}`);
}
wrong.forEach((line) => console.log("WRONG", line));
process.exit(wrong.length ? 1 : 0);
