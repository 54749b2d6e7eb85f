"""Headers of the PROXY protocol as Python makes them, handlers that tell what they got, and the real proxies."""

import random
import signal
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import goev
from support import PATIENCE, Events, eventually, need

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TRUSTED = {"proxy_protocol": True, "proxy_from": ["127.0.0.0/8", "::1", "unix:"]}
CLIENT, SERVER = ("192.0.2.1", 40000), ("198.51.100.2", 443)
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n"


def binary(command: int, family: int, behind: bytes = b"") -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(behind)) + behind


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def ipv4(*fields: bytes) -> bytes:
    """A header of version 2 that names CLIENT and SERVER."""
    ends = socket.inet_aton(CLIENT[0]) + socket.inet_aton(SERVER[0]) + struct.pack("!HH", CLIENT[1], SERVER[1])
    return binary(0x21, 0x11, ends + b"".join(fields))


def ipv6() -> bytes:
    def packed(host: str) -> bytes:
        return socket.inet_pton(socket.AF_INET6, host)

    return binary(0x21, 0x21, packed("2001:db8::1") + packed("2001:db8::2") + struct.pack("!HH", 40000, 443))


class Tells(goev.Connection):
    """Tells of the peer, and echoes."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_open(self) -> None:
        self.events("open", self.remote_address, self.local_address, self.proxy)

    def on_read(self) -> None:
        data = self.read()
        self.events("read", data)
        self.write(data)

    def on_close(self, error: BaseException | None) -> None:
        self.events("close", error)


class Asks(goev.Connection):
    """A client that asks, and tells of the answer."""

    def __init__(self, events: Events, question: bytes = b"hello") -> None:
        self.events = events
        self.question = question

    def on_open(self) -> None:
        self.events("connected", self.local_address, self.remote_address)
        self.write(self.question)

    def on_read(self) -> None:
        self.events("answer", self.read())

    def on_close(self, error: BaseException | None) -> None:
        self.events("end", error)

    def on_connect_fail(self, error: BaseException) -> None:
        self.events("failed", error)


def refused(reactor: goev.Reactor) -> dict[str, int]:
    """The refusals of all pollers that are not 0."""
    sums: dict[str, int] = {}
    for poller in reactor.stats():
        for reason, count in poller["proxy_refused"].items():
            if count:
                sums[reason] = sums.get(reason, 0) + count
    return sums


def with_tls(plain: socket.socket, root: Any, name: str = "a.example", *identity: Path) -> ssl.SSLSocket:
    """A client's TLS over a socket, with the client's certificate if there is one."""
    context = ssl.create_default_context(cadata=root.pem.decode())
    if identity:
        context.load_cert_chain(*identity)
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(plain, server_hostname=name)


class TlsClient:
    """A client's TLS whose first message may come in one segment with other bytes."""

    def __init__(self, plain: socket.socket, root: Any, first: bytes) -> None:
        self.plain, self.coming, self.going = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cadata=root.pem.decode())
        self.tls = context.wrap_bio(self.coming, self.going, server_hostname="a.example")
        self._until(self.tls.do_handshake, first)

    def _until(self, step: Any, first: bytes = b"") -> Any:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self.plain.sendall(first + self.going.read())
                first = b""
                self.coming.write(self.plain.recv(65536))
            else:
                self.plain.sendall(self.going.read())
                return done

    def send(self, data: bytes) -> None:
        self._until(lambda: self.tls.write(data))

    def receive(self) -> bytes:
        data: bytes = self._until(lambda: self.tls.read(65536))
        return data


# ---- real proxies ----------------------------------------------------------------------------------------------------


@contextmanager
def running(command: list[str], ready: Any) -> Iterator[None]:
    """A proxy in the foreground, until the test is over."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            eventually(lambda: process.poll() is not None or ready(), f"{command[0]} listens")
            if process.poll() is not None:
                pytest.fail(f"{command[0]} ended: {process.communicate()[0]}")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


Place = tuple[str, int]


def listens(place: Place) -> bool:
    """Whether some socket listens there; a probe would be a connection that the proxy passes on."""
    number = struct.unpack("=I", socket.inet_aton(place[0]))[0]
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(fields[1] == f"{number:08X}:{place[1]:04X}" and fields[3] == "0A" for fields in lines)


def free_place() -> Place:
    """An address of this machine that no other program uses, and a port that was free there just now."""
    host = "127.{}.{}.{}".format(*random.choices(range(2, 250), k=3))
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return host, port


def haproxy(stack: ExitStack, folder: Path, sections: str, *places: Place) -> None:
    """Runs HAProxy with these sections, until the test is over."""
    config = folder / "haproxy.cfg"
    defaults = "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n"
    config.write_text(f"global\n  maxconn 100\n{defaults}{sections}")
    command = [need("haproxy"), "-db", "-f", str(config)]
    stack.enter_context(running(command, lambda: all(map(listens, places))))


STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def nginx(stack: ExitStack, folder: Path, sections: str, *places: Place) -> None:
    """Runs nginx with these sections, until the test is over."""
    program = need("nginx", "nginx libnginx-mod-stream")
    if "stream {" in sections and not STREAM_MODULE.exists():
        need(str(STREAM_MODULE), "libnginx-mod-stream")
    load = f"load_module {STREAM_MODULE};\n" if "stream {" in sections else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"{load}daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n{sections}"
    )
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(config)]
    stack.enter_context(running(command, lambda: all(map(listens, places))))
