"""A node of a cluster: sends messages of 100 bytes to a group, on all nodes or, without an engine, on this one.

From a connection "j" makes it a member, "s" sends a message, and "t" asks how long the last call took.
"""

from __future__ import annotations

import argparse
import struct
import time
from contextlib import ExitStack

import goev

MESSAGE = bytes(100)


def serve(port: int, url: str) -> None:
    took = 0.0
    with ExitStack() as stack:
        group: goev.Group | goev.cluster.ClusterGroup = goev.Group()
        if url:
            group = stack.enter_context(goev.cluster.connect(url)).group("room", presence=False)
        send = group.send

        class Node(goev.Connection):
            def on_read(self) -> None:
                nonlocal took
                for byte in self.read():
                    match chr(byte):
                        case "j":
                            group.add(self)
                            self.write(b"j")
                        case "s":
                            began = time.perf_counter()
                            send(MESSAGE)
                            took = time.perf_counter() - began
                        case "t":
                            self.write(struct.pack("<d", took))

        goev.serve(Node, f"127.0.0.1:{port}", pollers=1, backlog=4096, ready=lambda _: print("ready", flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", default="", help="the URL of an engine")
    arguments = parser.parse_args()
    serve(arguments.port, arguments.engine)


if __name__ == "__main__":
    main()
