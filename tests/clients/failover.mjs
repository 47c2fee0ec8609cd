// ioredis' cluster client while nodes are killed with -9: the longest gap, and errors.
//
//     cd tests/clients && npm install && node failover.mjs ../../target/release/kv-node [base] [clients]
//
// Five nodes; each in turn is killed under load and started again. Every client owns keys in slots
// all over the ring and does SET, then GET, one after another. A gap is the time between two answers
// that one client got. Exits with 1 if a client was told of an error, read anything but what it
// wrote, or waited for longer than `GAP_MS_MAX`.
//
// ioredis waits `retryDelayOnFailover` before it sends a command again whose connection broke:
// 100 ms unless told otherwise, which no server can shorten. So it runs with 20 ms, and with its
// defaults, where that much more is allowed.
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster } from "ioredis";
import { Nodes } from "./nodes.mjs";

const BINARY = process.argv[2] ?? "../../target/release/kv-node";
const BASE = Number(process.argv[3] ?? 7300);
const CLIENTS = Number(process.argv[4] ?? 5);
const GAP_MS_MAX = 100;
const KEYS = 64;
const DEFAULT_DELAY_MS = 100;

/** One client; the longest gap since `calm`, and everything that went wrong. */
class Load {
  constructor(nodes, number, options) {
    const startup = nodes.all.map((node) => ({ host: "127.0.0.1", port: nodes.port(node) }));
    this.client = new Cluster(startup, options);
    this.number = number;
    this.going = true;
    this.done = 0;
    this.calm();
  }

  calm() {
    this.gap = 0;
    this.wrong = [];
  }

  async run() {
    let last = performance.now();
    for (let turn = 1; this.going; turn += 1) {
      const key = `f:${this.number}:${turn % KEYS}`;
      try {
        await this.client.set(key, String(turn));
        const found = await this.client.get(key);
        if (found !== String(turn)) this.wrong.push(`${key} is ${found}, not ${turn}`);
      } catch (error) {
        this.wrong.push(`${key}: ${String(error).slice(0, 200)}`);
      }
      const now = performance.now();
      this.gap = Math.max(this.gap, now - last);
      last = now;
      this.done += 1;
    }
    this.client.disconnect();
  }
}

/** Kills each node in turn; how many things were wrong. */
async function play(name, options, gapMsMax) {
  const nodes = new Nodes(BINARY, BASE, { count: 5 });
  let wrong = 0;
  try {
    await nodes.up();
    await nodes.seen();
    const loads = Array.from({ length: CLIENTS }, (_, number) => new Load(nodes, number, options));
    const runs = loads.map((load) => load.run());
    const longest = () => Math.max(...loads.map((load) => load.gap));
    await sleep(1_000);
    loads.forEach((load) => load.calm());
    await sleep(2_000);
    console.log(`${name}: no node killed: longest gap ${longest().toFixed(0)} ms`);
    for (const node of nodes.all) {
      loads.forEach((load) => load.calm());
      await nodes.kill(node);
      await sleep(4_000);
      const told = loads.flatMap((load) => load.wrong);
      console.log(`${name}: node ${node} killed: ${told.length} errors, ` +
        `longest gap ${longest().toFixed(0)} ms`);
      for (const line of told.slice(0, 5)) console.log("WRONG", line);
      wrong += told.length + Number(longest() > gapMsMax);
      await nodes.restart(node);
      await sleep(1_000);
    }
    loads.forEach((load) => (load.going = false));
    await Promise.all(runs);
    const rounds = loads.reduce((sum, load) => sum + load.done, 0);
    console.log(`${name}: ${rounds} rounds of SET and GET`);
  } finally {
    await nodes.down();
  }
  return wrong;
}

const quick = await play("retryDelayOnFailover 20", { retryDelayOnFailover: 20 }, GAP_MS_MAX);
const usual = await play("defaults", {}, GAP_MS_MAX + DEFAULT_DELAY_MS);
process.exit(quick + usual > 0 ? 1 : 0);
