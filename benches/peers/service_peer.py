"""Runs a server by its own command line, as its users do, and prints a line when it takes connections."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
# The object that each server is given. ``handler`` is a handler of goev, and for goev alone.
TARGETS = {
    "asgi": ("asgi", "applications:asgi", ()),
    "starlette": ("asgi", "applications:starlette", ("--factory",)),
    "wsgi": ("wsgi", "applications:wsgi", ()),
    "handler": ("goev", "http_peer:Hello", ()),
}
START_TIMEOUT = 15.0
PAUSE = 0.02  # between two tries to connect


def goev(arguments: argparse.Namespace, log: str) -> list[str]:
    interface, target, factory = TARGETS[arguments.application]
    listen = ["--listen", f"127.0.0.1:{arguments.port}", "--workers", str(arguments.workers)]
    logged = ["--access-log", log] if arguments.access_log else []
    return ["goev", "run", f"{target}()" if factory else target, "--interface", interface, *listen, *logged]


def granian(arguments: argparse.Namespace, log: str) -> list[str]:
    interface, target, factory = TARGETS[arguments.application]
    listen = ["--host", "127.0.0.1", "--port", str(arguments.port), "--workers", str(arguments.workers)]
    lean = ["--loop", "uvloop", "--http", "1", "--no-ws", "--no-log"]
    return ["granian", target, "--interface", interface, *factory, *listen, *lean]


def uvicorn(arguments: argparse.Namespace, log: str) -> list[str]:
    _, target, factory = TARGETS[arguments.application]
    listen = ["--host", "127.0.0.1", "--port", str(arguments.port), "--workers", str(arguments.workers)]
    lean = ["--loop", "uvloop", "--http", "httptools", "--ws", "none", "--no-access-log", "--log-level", "warning"]
    return ["uvicorn", target, *factory, *listen, *lean]


def gunicorn(arguments: argparse.Namespace, log: str) -> list[str]:
    _, target, _ = TARGETS[arguments.application]
    listen = ["--bind", f"127.0.0.1:{arguments.port}", "--workers", str(arguments.workers)]
    return ["gunicorn", target, *listen, "--worker-class", "gthread", "--threads", "16", "--log-level", "warning"]


SERVERS = {"goev": goev, "granian": granian, "uvicorn": uvicorn, "gunicorn": gunicorn}


def wait_until_it_answers(child: subprocess.Popen[bytes], port: int) -> None:
    """Connects until the server takes the connection."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(PAUSE)
        else:
            return
    sys.exit("the server ended at its start" if child.poll() is not None else "the server does not listen")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=SERVERS, required=True)
    parser.add_argument("--application", choices=TARGETS, required=True)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--access-log", action="store_true", help="into a file; for goev alone")
    arguments = parser.parse_args()

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the whole session gets it: the server ends, and then this
    with tempfile.TemporaryDirectory() as folder:
        command = SERVERS[arguments.server](arguments, f"{folder}/access.log")
        child = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=FOLDER,
            env={**os.environ, "PYTHONPATH": str(FOLDER)},
            stdout=sys.stderr,
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        )
        wait_until_it_answers(child, arguments.port)
        print("ready", flush=True)
        return child.wait()


if __name__ == "__main__":
    sys.exit(main())
