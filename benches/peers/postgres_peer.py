"""Starts a real PostgreSQL server with an empty database that is not kept, and prints ``ready`` when it listens.

PostgreSQL refuses to run as root, so root starts it as ``nobody``.
"""

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5432)
    parser.add_argument("--programs", type=Path, required=True, help="the folder of initdb and postgres")
    arguments = parser.parse_args()

    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        make = [arguments.programs / "initdb", "--username", "postgres", "--auth", "trust", "--no-sync", "-D", data]
        subprocess.run(make, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        options = ["-D", data, "-p", str(arguments.port), "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"]
        child = subprocess.Popen([arguments.programs / "postgres", *options], user=user, cwd=folder)
        # SIGINT ends its connections, SIGTERM would wait for them. The folder goes away after it.
        signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGINT))
        is_ready = [
            arguments.programs / "pg_isready",
            "--quiet",
            "-U",
            "postgres",
            "-h",
            "127.0.0.1",
            "-p",
            str(arguments.port),
        ]
        deadline = time.monotonic() + 10
        while child.poll() is None and time.monotonic() < deadline:
            if subprocess.run(is_ready, check=False).returncode == 0:
                print("ready", flush=True)
                break
            time.sleep(0.02)
        raise SystemExit(child.wait())


if __name__ == "__main__":
    main()
