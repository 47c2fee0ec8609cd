"""The same as failover.py on Redis Cluster, for scale: how long clients stand still there.

    python tests/clients/redis_cluster.py [base port] [clients]

Three masters and three replicas with `cluster-node-timeout 1000`; each master is killed in turn and
started again (as a replica of who took its place). Needs redis-server and redis-cli. Always exits
with 0: it measures somebody else's design, which waits until a majority agrees that a master is
gone, and whose clients are told of it only then.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from failover import Clients

NODES = range(1, 7)
NODE_TIMEOUT_MS = 1_000


class Servers:
    """Redis servers on 127.0.0.1 at `base` + i; they end with this."""

    def __init__(self, base):
        self.base, self.processes = base, {}
        self.directory = tempfile.mkdtemp(prefix="redis-cluster-")

    def __enter__(self):
        try:
            for node in NODES:
                self.start(node)
            time.sleep(1)
            create = ["redis-cli", "--cluster", "create", *(f"127.0.0.1:{p}" for p in self.ports)]
            create += ["--cluster-replicas", "1", "--cluster-yes"]
            subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
            time.sleep(5)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.directory)

    @property
    def ports(self):
        return [self.base + node for node in NODES]

    def start(self, node):
        home = os.path.join(self.directory, f"r{node}")
        os.makedirs(home, exist_ok=True)
        settings = ["--port", str(self.base + node), "--dir", home, "--cluster-enabled", "yes"]
        settings += ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--save", ""]
        self.processes[node] = subprocess.Popen(
            ["redis-server", *settings], stdout=subprocess.DEVNULL
        )

    def kill(self, node):
        self.processes[node].send_signal(signal.SIGKILL)
        self.processes[node].wait()

    def masters(self):
        """Who is a master now and not gone."""
        for node in NODES:
            if self.processes[node].poll() is None:
                ask = ["redis-cli", "-p", str(self.base + node), "cluster", "nodes"]
                told = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
                lines = [line.split() for line in told.splitlines()]
                up = [line for line in lines if "master" in line[2] and "fail" not in line[2]]
                return sorted(int(line[1].split("@")[0].split(":")[1]) - self.base for line in up)
        return []


def main():
    base = int(sys.argv[1]) if len(sys.argv) > 1 else 7600
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with Servers(base) as servers:
        clients = Clients(count, servers.ports)
        clients.tell()
        time.sleep(1)
        clients.tell()
        time.sleep(2)
        print(f"no node killed: longest gap {clients.tell()[0]:.0f} ms")
        for node in servers.masters():
            clients.tell()
            servers.kill(node)
            time.sleep(6)
            gap, key, wrong, _ = clients.tell()
            print(f"master {node} killed: {len(wrong)} errors, longest gap {gap:.0f} ms ({key})")
            for line in wrong[:3]:
                print("  such as", line)
            servers.start(node)
            time.sleep(4)
            clients.tell()
    return 0


if __name__ == "__main__":
    sys.exit(main())
