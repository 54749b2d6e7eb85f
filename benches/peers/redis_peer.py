"""Starts a real Redis server that keeps nothing on disk, and prints ``ready`` when it listens."""

import argparse
import signal
import socket
import subprocess
import tempfile
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--redis-server", default="redis-server")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(arguments.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        child = subprocess.Popen([arguments.redis_server, *options, "--dir", folder], stdout=subprocess.DEVNULL)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())  # the folder goes away after it
        deadline = time.monotonic() + 10
        while child.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", arguments.port), timeout=1).close()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                print("ready", flush=True)
                break
        raise SystemExit(child.wait())


if __name__ == "__main__":
    main()
