"""redis-py's cluster client while nodes are killed with -9: the longest gap, and errors.

    python tests/clients/failover.py target/release/kv-node [base port] [clients]

Five nodes; each in turn is killed under load and started again. Every client owns keys in slots all
over the ring and does SET, then GET, one after another; nothing of redis-py's defaults is changed. A
gap is the time between two answers that one client got. Exits with 1 if a client was told of an
error, read anything but what it wrote, or waited for longer than `GAP_MS_MAX`.
"""

import sys
import threading
import time

from redis.cluster import ClusterNode, RedisCluster

from cluster import Cluster

GAP_MS_MAX = 100
KEYS = 64


class Load(threading.Thread):
    """One client; the longest gap since `calm`, and everything that went wrong."""

    def __init__(self, cluster, number):
        super().__init__(daemon=True)
        nodes = [ClusterNode("127.0.0.1", port) for port in cluster.ports]
        self.client = RedisCluster(startup_nodes=nodes, decode_responses=True)
        self.number, self.going, self.done, self.wrong = number, True, 0, []
        self.gap, self.gap_key = 0.0, ""

    def calm(self):
        self.gap, self.gap_key = 0.0, ""

    def run(self):
        last, turn = time.monotonic(), 0
        while self.going:
            turn += 1
            key, value = f"f:{self.number}:{turn % KEYS}", str(turn)
            try:
                self.client.set(key, value)
                found = self.client.get(key)
                if found != value:
                    self.wrong.append(f"{key} is {found}, not {value}")
            except Exception as error:  # whatever a client is told counts
                self.wrong.append(f"{key}: {type(error).__name__}: {str(error)[:200]}")
            now = time.monotonic()
            if now - last > self.gap:
                self.gap, self.gap_key = now - last, key
            last = now
            self.done += 1


def main():
    binary = sys.argv[1]
    base = int(sys.argv[2]) if len(sys.argv) > 2 else 7300
    clients = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    wrong = 0
    with Cluster(binary, base, nodes=5) as cluster:
        for node in cluster.nodes:
            cluster.seen(node)
        loads = [Load(cluster, number) for number in range(clients)]
        for load in loads:
            load.start()
        time.sleep(1)
        for load in loads:
            load.calm()
        time.sleep(2)
        usual = max(load.gap for load in loads) * 1_000
        print(f"no node killed: longest gap {usual:.0f} ms")
        for node in cluster.nodes:
            for load in loads:
                load.calm()
                load.wrong.clear()
            cluster.kill(node)
            time.sleep(4)
            worst = max(loads, key=lambda load: load.gap)
            told = [line for load in loads for line in load.wrong]
            print(f"node {node} killed: {len(told)} errors, longest gap {worst.gap * 1000:.0f} ms")
            for line in told[:5]:
                print("WRONG", line)
            wrong += len(told) + (worst.gap * 1_000 > GAP_MS_MAX)
            cluster.start(node)
            cluster.ready(node)
            cluster.seen(node)
            time.sleep(1)
        for load in loads:
            load.going = False
        for load in loads:
            load.join(10)
        print(f"{sum(load.done for load in loads)} rounds of SET and GET")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
