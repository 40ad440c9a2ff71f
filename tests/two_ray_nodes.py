"""A Ray cluster of two nodes on the loopback address; prints its address.

Two arguments, where given, are the resources of the nodes, as JSON. Each line on standard input
kills the second node, once that is in the middle of a task, and answers with a line. The cluster
ends with standard input.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path


def working(raylet: int) -> bool:
    """Whether a worker of a node is in a task; Ray names the process after it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == raylet and re.match(rb"ray::(Worker\.)?execute", title):
            return True
    return False


def main() -> None:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}
    resources = [json.loads(text) for text in sys.argv[1:]] or [{}, {}]
    head = {**node, "resources": resources[0], "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(**node, resources=resources[1])
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    raylet = second.all_processes["raylet"][0].process.pid
    for _ in sys.stdin:
        deadline = time.monotonic() + 120
        while not working(raylet):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        cluster.remove_node(second, allow_graceful=False)
        print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
