"""Shared by the tests of TLS: peers whose sockets a test has in its hands, handlers, and the programs of OpenSSL."""

import hashlib
import logging
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import goev
from certificates import Authority, Identity
from support import PATIENCE, Events, need

BIG = bytes(range(256)) * 40_000
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class Echo(goev.Connection):
    def on_read(self) -> None:
        self.write(self.read())


class Hashes(goev.Connection):
    """Answers an upload with its hash."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def on_read(self) -> None:
        self.hash.update(self.read())

    def on_eof(self) -> None:
        self.write(self.hash.digest())
        self.close()


class Sends(goev.Connection):
    """A download."""

    def on_open(self) -> None:
        self.write(BIG)
        self.close()


def trusting(root: Authority, *, version: str | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Python's settings of a client that trusts a CA."""
    context = ssl.create_default_context(cadata=root.pem.decode())
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def serving(identity: Identity, folder: Path, *, version: str | None = None, name: str = "peer") -> ssl.SSLContext:
    """Python's settings of a server with this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*identity.files(folder, name))
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


class Peer:
    """Either side of TLS by Python's ``ssl``, over a plain socket: a test ends it as it likes.

    Args:
        sock: a connected socket.
        context, options: as for ``SSLContext.wrap_bio``.
        paced: called behind each byte, if every byte is to be sent alone.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, paced: Callable[[], object] | None = None, **options: Any
    ) -> None:
        self.socket = sock
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.paced = paced
        self.coming, self.going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.coming, self.going, **options)

    @classmethod
    def to(cls, address: Any, context: ssl.SSLContext, *, name: str = "localhost", **options: Any) -> "Peer":
        """A client after its handshake."""
        peer = cls(socket.create_connection(address, PATIENCE), context, server_hostname=name, **options)
        try:
            peer.shake_hands()
        except BaseException:
            peer.socket.close()
            raise
        return peer

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def shake_hands(self) -> None:
        self._do(self.tls.do_handshake)

    def send(self, data: bytes) -> None:
        """One record for each 16 KiB."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._do(self.tls.write, rest) :]

    def read(self, most: int = 1 << 20) -> bytes:
        """Some bytes; ``b""`` behind close_notify. A stream that ends without it is ``ssl.SSLEOFError``."""
        try:
            return self._do(self.tls.read, most)
        except ssl.SSLZeroReturnError:
            return b""

    def receive(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        got = b""
        while len(got) < count:
            part = self.read(count - len(got))
            assert part, f"close_notify {count - len(got)} bytes early"
            got += part
        return got

    def receive_all(self) -> bytes:
        """Everything up to close_notify."""
        return b"".join(iter(self.read, b""))

    def ask(self, data: bytes) -> bytes:
        """Send, then receive as many bytes, as from an echo server."""
        self.send(data)
        return self.receive(len(data))

    def say_close(self) -> None:
        """Send close_notify. The other direction goes on, and so does the TCP connection."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.push()

    def _do(self, call: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return call(*args)
            except ssl.SSLWantReadError:
                self.push()
                self._pull()
            finally:
                # After a failure this is our alert, which the other side may no longer take.
                with suppress(OSError):
                    self.push()

    def push(self) -> None:
        """Send the ciphertext that waits."""
        waiting = self.going.read()
        if self.paced is None:
            self.socket.sendall(waiting)
            return
        for at in range(len(waiting)):
            self.socket.sendall(waiting[at : at + 1])
            self.paced()

    def _pull(self) -> None:
        if part := self.socket.recv(1 << 16):
            self.coming.write(part)
        else:
            self.coming.write_eof()


@contextmanager
def accepting(context: ssl.SSLContext, **options: Any) -> Iterator[tuple[str, Callable[[], Peer]]]:
    """A listening socket: its address, and a function that accepts a ``Peer``, which has not shaken hands."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def accept() -> Peer:
            return Peer(listener.accept()[0], context, server_side=True, **options)

        yield f"localhost:{listener.getsockname()[1]}", accept


class Tells(logging.Handler):
    """Records of goev about handshakes, at INFO."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.events = Events()

    def emit(self, record: logging.LogRecord) -> None:
        self.events(record.levelname, record.getMessage())

    def next(self) -> str:
        """The next line about a handshake."""
        return self.events.until("INFO")[1]


def alert_of(error: ssl.SSLError) -> str:
    """The alert that OpenSSL got: ``tlsv1 alert unknown ca`` of 1.2 and 1.3 as ``unknown_ca``."""
    reason = str(error.reason).lower()
    return reason.partition("alert_")[2] or reason


def openssl(*args: object, stdin: str | bytes = "", timeout: float = PATIENCE) -> str:
    """Run a command of openssl; return what it prints on both of its outputs."""
    command = [need("openssl"), *map(str, args)]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    result = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    return result.stdout.decode(errors="replace")
