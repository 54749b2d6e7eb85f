"""nginx as the current user, in a temporary folder: a server of one file with sendfile, or of a short answer.

Without a file each request gets "Hello, World!" by ``return``: nginx answers before it has read a body, then reads the
body and discards it.
"""

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

import secure

CONFIGURATION = """\
daemon off;
worker_processes {workers};
{user}
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    lingering_time 300s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=1024{tls};
        location / {{ {answer} }}
    }}
}}
"""
TLS = """ ssl;
        ssl_protocols TLSv1.3;
        ssl_session_tickets on;
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}\""""
SHORT = 'default_type text/plain; return 200 "Hello, World!";'


def answer(file: Path | None) -> str:
    if file is None:
        return SHORT
    file = file.absolute()
    return f'root "{file.parent}"; try_files "/{file.name}" =404;'


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
    parser.add_argument("--pollers", type=int, default=1, help="worker processes")
    parser.add_argument("--file", type=Path, help="what to send")
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder is removed
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "nginx.conf")
        configuration.write_text(
            CONFIGURATION.format(
                workers=arguments.pollers,
                user=f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
                folder=folder,
                port=arguments.port,
                tls=TLS.format(certificate=arguments.certificate, key=arguments.key) if arguments.certificate else "",
                answer=answer(arguments.file),
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
