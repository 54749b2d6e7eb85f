"""A cluster on one machine: an engine, three nodes, and HAProxy before them with TLS and the PROXY protocol.

Needs ``nats-server`` or ``redis-server``, ``haproxy`` and ``openssl``. Start it, open the address that it prints in two
windows, and end a node: its clients go on at another one, and miss nothing. For root each node has a network namespace
of its own, where the machine can make one (``network.py``).
"""

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from network import Network, in_namespaces, on_ports

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
SERVER = "  server node{1} {0}:{1} check inter 200ms fall 1 rise 1 check-send-proxy send-proxy-v2\n"


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def start(stack: ExitStack, *command: str | Path, folder: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([str(word) for word in command], cwd=folder)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def network_of(stack: ExitStack, kind: str, count: int) -> Network:
    """The network of a kind; ``auto`` takes namespaces where they can be had."""
    if kind == "ports":
        return on_ports(count)
    with ExitStack() as made:
        try:
            network = in_namespaces(made, count)
        except OSError as error:
            if kind == "namespaces":
                raise SystemExit(f"there are no namespaces: {error}") from None
        else:
            stack.push(made.pop_all())
            return network
    return on_ports(count)


def engine(stack: ExitStack, name: str, host: str, port: int, folder: str) -> str:
    """Start an engine; return its URL."""
    if name == "nats":
        command = ["nats-server", "-a", host, "-p", str(port), "-js", "-sd", folder, "-l", f"{folder}/nats.log"]
    else:
        command = ["redis-server", "--port", str(port), "--bind", host, "--logfile", f"{folder}/redis.log"]
        command += ["--protected-mode", "no"]  # nobody else reaches the bridge
    start(stack, *command, folder=folder)
    return f"{name}://{host}:{port}"


def wait_for(host: str, port: int) -> None:
    """Wait until a node listens, which it does when it has reached the engine. Else the balancer takes it for dead."""
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((host, port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found = "nats" if shutil.which("nats-server") else "redis"
    parser.add_argument("--engine", choices=["nats", "redis"], default=found)
    parser.add_argument("--port", type=int, default=8443, help="of the balancer, 0 for a free one")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--network", choices=["auto", "namespaces", "ports"], default="auto", help="of the nodes")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
        network = network_of(stack, args.network, args.nodes)
        places = list(zip(network.places, nodes, strict=True))
        servers = "".join(SERVER.format(place.host, node) for place, node in places)
        Path(folder, "haproxy.cfg").write_text(HAPROXY.format(port=port, folder=folder) + servers)
        url = engine(stack, args.engine, network.host, engine_port, folder)
        for place, node in places:
            options = ["--host", place.host, "--port", str(node), "--engine", url, "--balancer", network.host]
            process = start(stack, *place.prefix, sys.executable, HERE / "node.py", *options, folder=folder)
            print(f"node {node} is process {process.pid}", flush=True)
        for place, node in places:
            wait_for(place.host, node)
        balancer = start(stack, "haproxy", "-q", "-f", f"{folder}/haproxy.cfg", folder=folder)
        print(f"chat on https://localhost:{port}", flush=True)
        balancer.wait()


if __name__ == "__main__":
    main()
