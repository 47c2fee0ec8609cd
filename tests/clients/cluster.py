"""Nodes of our own, three unless said, for a test of clients: started, killed, their memory read.

Everything lies in a temporary directory, and only processes that were started here are ended.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time


class Cluster:
    """Nodes on 127.0.0.1: RESP at `base` + i, peers at `base` + 100 + i."""

    def __init__(self, binary, base, extra="", engine="lsm", keyspace="",
                 password=None, nodes=3):
        self.nodes = range(1, nodes + 1)
        self.binary, self.base, self.extra = os.path.abspath(binary), base, extra
        self.engine, self.keyspace, self.password = engine, keyspace, password
        self.secret = secrets.token_hex(16)
        self.directory = tempfile.mkdtemp(prefix="kv-clients-")
        self.processes = {}

    def __enter__(self):
        try:
            for node in self.nodes:
                self.start(node)
            for node in self.nodes:
                self.ready(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.directory)

    def port(self, node):
        return self.base + node

    @property
    def ports(self):
        return [self.port(node) for node in self.nodes]

    def start(self, node, secret=None):
        """Starts a node; one beyond the last is a stranger that knows the others' addresses."""
        home = os.path.join(self.directory, f"n{node}")
        os.makedirs(home, exist_ok=True)
        seeds = ", ".join(f'"127.0.0.1:{self.base + 100 + seed}"' for seed in self.nodes)
        with open(os.path.join(home, "kv.toml"), "w", encoding="utf-8") as file:
            file.write(
                f"""data_dir = "{home}/data"
[listen]
resp = "127.0.0.1:{self.port(node)}"
rpc = "127.0.0.1:{self.base + 100 + node}"
http = "127.0.0.1:{self.base + 200 + node}"
[cluster]
name = "clients"
bootstrap_expect = {len(self.nodes)}
seeds = [{seeds}]
secret = "{secret or self.secret}"
[keyspace]
n = 3
{self.keyspace}
[storage]
engine = "{self.engine}"
{self.extra}
"""
            )
        log = open(self.log_path(node), "ab")
        command = [self.binary, "--config", os.path.join(home, "kv.toml")]
        self.processes[node] = subprocess.Popen(command, stdout=log, stderr=log)

    def log_path(self, node):
        return os.path.join(self.directory, f"n{node}", "log")

    def log(self, node):
        with open(self.log_path(node), encoding="utf-8", errors="replace") as file:
            return file.read()

    def ready(self, node, seconds=20):
        """Waits until the node answers an ordinary read."""
        self.wait(node, b"EXISTS ready\r\n", lambda answer: answer.startswith(b":"), seconds)

    def seen(self, node, seconds=20):
        """Waits until every node shows `node` to clients that ask for the cluster's slots."""
        mark = f":{self.port(node)}@".encode()

        def good(answer):
            return any(mark in line and b"fail" not in line for line in answer.splitlines())

        for other in self.nodes:
            self.wait(other, b"CLUSTER NODES\r\n", good, seconds)

    def wait(self, node, ask, good, seconds):
        end = time.monotonic() + seconds
        answer = b""
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port(node)), 1) as peer:
                    if self.password:
                        peer.sendall(f'AUTH "{self.password}"\r\n'.encode())
                        peer.recv(200)
                    peer.sendall(ask)
                    answer = peer.recv(65536)
                if good(answer):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"node {node} is not ready: {answer}\n{self.log(node)[-2000:]}")

    def kill(self, node):
        self.processes[node].send_signal(signal.SIGKILL)
        self.processes[node].wait()

    def alive(self, node):
        return self.processes[node].poll() is None

    def resident_kib(self, node, field="VmRSS"):
        """`VmRSS` now or `VmHWM`, the most so far; where there is no /proc, 0."""
        try:
            with open(f"/proc/{self.processes[node].pid}/status", encoding="ascii") as file:
                for line in file:
                    if line.startswith(field + ":"):
                        return int(line.split()[1])
        except OSError:
            pass
        return 0


class Checks:
    """What was tried, by client and feature, and what was wrong."""

    def __init__(self):
        self.rows, self.wrong = {}, []

    def run(self, client, feature, test, *args):
        try:
            test(*args)
            verdict = "ok"
        except Exception as error:  # every failure of a check is one line, and the next goes on
            verdict = "WRONG"
            place, at = error.__traceback__, ""
            while place is not None:
                at = f"{os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}"
                if at.startswith(("compat", "bad_input")):
                    mine = at
                place = place.tb_next
            told = f"{type(error).__name__}: {str(error)[:300]}"
            self.wrong.append(f"{client} / {feature}: {told} ({mine})")
        self.rows.setdefault(client, {})[feature] = verdict

    def report(self):
        for client, features in self.rows.items():
            good = sum(verdict == "ok" for verdict in features.values())
            print(f"{client:44} {good:3} of {len(features)}")
        for line in self.wrong:
            print("WRONG", line)
        return 1 if self.wrong else 0
