"""Starts a real NATS server without JetStream, and prints ``ready`` when it listens."""

import argparse
import signal
import socket
import subprocess
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4222)
    parser.add_argument("--nats-server", default="nats-server")
    arguments = parser.parse_args()

    options = ["-a", "127.0.0.1", "-p", str(arguments.port)]
    child = subprocess.Popen([arguments.nats_server, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    deadline = time.monotonic() + 10
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", arguments.port), timeout=1) as probe:
                is_ready = probe.recv(4) == b"INFO"
        except (ConnectionRefusedError, ConnectionResetError):
            is_ready = False
        if is_ready:
            print("ready", flush=True)
            break
        time.sleep(0.02)
    raise SystemExit(child.wait())


if __name__ == "__main__":
    main()
