"""A cluster on one machine: an engine, three nodes, and HAProxy before them with TLS and the PROXY protocol.

Needs ``nats-server`` or ``redis-server``, ``haproxy`` and ``openssl``. Start it, open the address that it prints in two
windows, and end a node: its clients go on at another one, and miss nothing.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

HERE = Path(__file__).parent
HAPROXY = """
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend chat
  bind 127.0.0.1:{port} ssl crt {folder}/both.pem
  default_backend nodes
backend nodes
  balance leastconn
  option httpchk GET /ready
"""
SERVER = "  server node{0} 127.0.0.1:{0} check inter 200ms fall 1 rise 1 check-send-proxy send-proxy-v2\n"


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def start(stack: ExitStack, *command: str | Path, folder: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([str(word) for word in command], cwd=folder)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def engine(stack: ExitStack, name: str, port: int, folder: str) -> str:
    """Start an engine; return its URL."""
    if name == "nats":
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder, "-l", f"{folder}/nats.log"]
    else:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--logfile", f"{folder}/redis.log"]
    start(stack, *command, folder=folder)
    return f"{name}://127.0.0.1:{port}"


def wait_for(port: int) -> None:
    """Wait until a node listens, which it does when it has reached the engine. Else the balancer takes it for dead."""
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found = "nats" if shutil.which("nats-server") else "redis"
    parser.add_argument("--engine", choices=["nats", "redis"], default=found)
    parser.add_argument("--port", type=int, default=8443, help="of the balancer, 0 for a free one")
    parser.add_argument("--nodes", type=int, default=3)
    args = parser.parse_args()
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        spare, engine_port, *nodes = free_ports(2 + args.nodes)
        port = args.port or spare
        certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        subject = ["-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", "key.pem", "-out", "cert.pem"]
        subprocess.run([*certificate, *subject, *files], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        both = Path(folder, "cert.pem").read_text() + Path(folder, "key.pem").read_text()
        Path(folder, "both.pem").write_text(both)
        servers = "".join(SERVER.format(node) for node in nodes)
        Path(folder, "haproxy.cfg").write_text(HAPROXY.format(port=port, folder=folder) + servers)
        url = engine(stack, args.engine, engine_port, folder)
        for node in nodes:
            options = ["--port", str(node), "--engine", url, "--proxied"]
            process = start(stack, sys.executable, HERE / "node.py", *options, folder=folder)
            print(f"node {node} is process {process.pid}", flush=True)
        for node in nodes:
            wait_for(node)
        balancer = start(stack, "haproxy", "-q", "-f", f"{folder}/haproxy.cfg", folder=folder)
        print(f"chat on https://localhost:{port}", flush=True)
        balancer.wait()


if __name__ == "__main__":
    main()
