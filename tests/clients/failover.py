"""redis-py's cluster client while nodes are killed with -9: the longest gap, and errors.

    python tests/clients/failover.py target/release/kv-node [base port] [clients]

Five nodes; each in turn is killed under load and started again. Every client is a process of its own,
owns keys in slots all over the ring and does SET, then GET, one after another; nothing of redis-py's
defaults is changed. A gap is the time between two answers that one client got. Exits with 1 if a
client was told of an error, read anything but what it wrote, or waited for longer than `GAP_MS_MAX`.
"""

import multiprocessing
import sys
import time

from redis.cluster import ClusterNode, RedisCluster

from cluster import Cluster

GAP_MS_MAX = 100
KEYS = 64


def load(number, ports, pipe):
    """One client; tells its longest gap and everything that went wrong since it was asked last."""
    client = RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", port) for port in ports], decode_responses=True
    )
    gap, gap_key, wrong, turn = 0.0, "", [], 0
    last = time.monotonic()
    while True:
        turn += 1
        key, value = f"f:{number}:{turn % KEYS}", str(turn)
        try:
            client.set(key, value)
            found = client.get(key)
            if found != value:
                wrong.append(f"{key} is {found}, not {value}")
        except Exception as error:  # whatever a client is told counts
            wrong.append(f"{key}: {type(error).__name__}: {str(error)[:200]}")
        now = time.monotonic()
        if now - last > gap:
            gap, gap_key = now - last, key
        last = now
        if pipe.poll():
            pipe.recv()
            pipe.send((gap, gap_key, wrong, turn))
            gap, gap_key, wrong = 0.0, "", []


class Clients:
    """The processes; they end with this one."""

    def __init__(self, count, ports):
        self.pipes = []
        context = multiprocessing.get_context("spawn")
        for number in range(count):
            ours, theirs = context.Pipe()
            arguments = (number, ports, theirs)
            context.Process(target=load, args=arguments, daemon=True).start()
            self.pipes.append(ours)

    def tell(self):
        """The longest gap in ms and its key, what went wrong, and rounds so far."""
        for pipe in self.pipes:
            pipe.send(None)
        told = [pipe.recv() for pipe in self.pipes]
        gap, key, _, _ = max(told)
        wrong = [line for _, _, lines, _ in told for line in lines]
        return gap * 1_000, key, wrong, sum(rounds for _, _, _, rounds in told)


def main():
    binary = sys.argv[1]
    base = int(sys.argv[2]) if len(sys.argv) > 2 else 7300
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    failures = 0
    with Cluster(binary, base, nodes=5) as cluster:
        for node in cluster.nodes:
            cluster.seen(node)
        clients = Clients(count, cluster.ports)
        clients.tell()
        time.sleep(1)
        clients.tell()
        time.sleep(2)
        print(f"no node killed: longest gap {clients.tell()[0]:.0f} ms")
        for node in cluster.nodes:
            clients.tell()
            cluster.kill(node)
            time.sleep(4)
            gap, key, wrong, _ = clients.tell()
            print(f"node {node} killed: {len(wrong)} errors, longest gap {gap:.0f} ms ({key})")
            for line in wrong[:5]:
                print("WRONG", line)
            failures += len(wrong) + (gap > GAP_MS_MAX)
            cluster.start(node)
            cluster.ready(node)
            cluster.seen(node)
            time.sleep(1)
            gap, _, wrong, rounds = clients.tell()
            print(f"node {node} back: {len(wrong)} errors, longest gap {gap:.0f} ms")
            for line in wrong[:5]:
                print("WRONG", line)
            failures += len(wrong)
        print(f"{rounds} rounds of SET and GET")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
