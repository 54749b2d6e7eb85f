"""nginx as a server of one file: one worker, sendfile; as the current user, in a temporary folder."""

import argparse
import getpass
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGURATION = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root "{root}";
        location / {{ try_files "/{name}" =404; }}
    }}
}}
"""


def wait_until_listening(port: int) -> None:
    """Waits without a limit: the program that started this one has a limit."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nginx", default="nginx", help="the program")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--file", type=Path, default=Path(__file__), help="what to send")
    arguments = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder is removed
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "nginx.conf")
        configuration.write_text(
            CONFIGURATION.format(
                user=f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
                folder=folder,
                port=arguments.port,
                root=arguments.file.absolute().parent,
                name=arguments.file.name,
            )
        )
        nginx = subprocess.Popen([arguments.nginx, "-e", "stderr", "-p", folder, "-c", str(configuration)])
        try:
            wait_until_listening(arguments.port)
            print("ready", flush=True)
            sys.exit(nginx.wait())
        finally:
            nginx.terminate()
            nginx.wait()


if __name__ == "__main__":
    main()
