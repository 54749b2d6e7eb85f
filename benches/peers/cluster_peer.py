"""A node of a cluster: sends messages of 100 bytes to a group, on all nodes or, without an engine, on this one.

From a connection "j" makes it a member, "s" sends a message, "h" sends one to the members here by a `goev.Group`, and
"t" asks how long the last call took.
"""

from __future__ import annotations

import argparse
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack

import goev

MESSAGE = bytes(100)


def serve(port: int, url: str) -> None:
    took = 0.0
    here = goev.Group()

    def timed(send: Callable[[bytes], None]) -> float:
        began = time.perf_counter()
        send(MESSAGE)
        return time.perf_counter() - began

    with ExitStack() as stack:
        group: goev.Group | goev.cluster.ClusterGroup = here
        if url:
            group = stack.enter_context(goev.cluster.connect(url)).group("room", presence=False)

        class Node(goev.Connection):
            def on_read(self) -> None:
                nonlocal took
                for byte in self.read():
                    match chr(byte):
                        case "j":
                            here.add(self)
                            group.add(self)
                            self.write(b"j")
                        case "s":
                            took = timed(group.send)
                        case "h":
                            took = timed(here.send)
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
