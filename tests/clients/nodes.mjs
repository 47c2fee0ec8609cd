// Nodes of our own, for a test of clients: started, killed with -9, started again.
//
// Everything lies in a temporary directory, and only processes that were started here are ended.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Nodes on 127.0.0.1: RESP at `base` + 1.., peers at `base` + 101.., HTTP at `base` + 201... */
export class Nodes {
  constructor(binary, base, { count = 3, resp = "" } = {}) {
    this.binary = resolve(binary);
    this.base = base;
    this.all = Array.from({ length: count }, (_, node) => node + 1);
    this.resp = resp;
    this.password = /requirepass = "([^"]*)"/.exec(resp)?.[1];
    this.directory = mkdtempSync(join(tmpdir(), "kv-clients-"));
    this.secret = randomBytes(16).toString("hex");
    this.processes = new Map();
  }

  port(node) {
    return this.base + node;
  }

  async up() {
    this.all.forEach((node) => this.start(node));
    for (const node of this.all) await this.wait(node, "EXISTS ready", (said) => said.startsWith(":"));
  }

  start(node) {
    const home = join(this.directory, `n${node}`);
    mkdirSync(home, { recursive: true });
    const seeds = this.all.map((seed) => `"127.0.0.1:${this.base + 100 + seed}"`).join(", ");
    writeFileSync(join(home, "kv.toml"), `data_dir = "${home}/data"
[listen]
resp = "127.0.0.1:${this.port(node)}"
rpc = "127.0.0.1:${this.base + 100 + node}"
http = "127.0.0.1:${this.base + 200 + node}"
[cluster]
bootstrap_expect = ${this.all.length}
seeds = [${seeds}]
secret = "${this.secret}"
[resp]
${this.resp}
`);
    const log = openSync(join(home, "log"), "a");
    const stdio = ["ignore", log, log];
    this.processes.set(node, spawn(this.binary, ["--config", join(home, "kv.toml")], { stdio }));
  }

  ask(node, line) {
    return new Promise((done) => {
      const socket = net.connect(this.port(node), "127.0.0.1", () => {
        const auth = this.password ? `AUTH "${this.password}"\r\n` : "";
        socket.write(`${auth}${line}\r\nQUIT\r\n`);
      });
      let said = "";
      socket.on("data", (bytes) => (said += bytes)).on("error", () => done(""));
      socket.on("close", () => done(this.password ? said.replace(/^\+OK\r\n/, "") : said));
    });
  }

  async wait(node, line, good) {
    for (const end = Date.now() + 20_000; Date.now() < end; await sleep(50)) {
      if (good(await this.ask(node, line))) return;
    }
    throw new Error(`node ${node} is not ready for ${line}`);
  }

  kill(node) {
    const gone = new Promise((done) => this.processes.get(node).once("exit", done));
    this.processes.get(node).kill("SIGKILL");
    return gone;
  }

  async restart(node) {
    this.start(node);
    await this.shown(node);
  }

  /** Waits until every node shows this one to clients. */
  async shown(node) {
    const good = (said) => said.split("\n").some((line) =>
      line.includes(`:${this.port(node)}@`) && !line.includes("fail"));
    for (const other of this.all) await this.wait(other, "CLUSTER NODES", good);
  }

  /** Waits until every node shows all others to clients. */
  async seen() {
    for (const node of this.all) await this.shown(node);
  }

  async down() {
    await Promise.all(this.all.map((node) => this.kill(node)));
    rmSync(this.directory, { recursive: true });
  }
}
