"""The wires between a server of a test and its clients: plain bytes, or TLS.

A test that holds for both runs over both, by a mark of it or of its module::

    pytestmark = pytest.mark.wires("plain", "tls")

The fixture ``start`` then serves over the wire of the parameter, and ``server.connect()`` returns a client for it.
"""

import contextlib
import select
import socket
import ssl
import struct
import threading
from functools import cache
from typing import Any

import goev
from certificates import Authority
from support import Client

CHUNK = 65_536


@cache
def server_context() -> "goev.tls.ServerContext":
    """Without tickets: a client that closes with something unread resets, also when it has read all plaintext."""
    identity = authority().issue("localhost", "127.0.0.1", "::1")
    return goev.tls.ServerContext(identity.chain, identity.key, tickets=False)


@cache
def authority() -> Authority:
    return Authority()


@cache
def client_context(version: str = "TLSv1_3") -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority().pem.decode())
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    return context


class SecureSocket:
    """A blocking socket over TLS, by OpenSSL. Unlike ``ssl.SSLSocket`` it ends one direction and keeps the other,
    may be read and written by two threads at once, and takes a stream without close_notify for no end (SSLEOFError).
    """

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, *, fin: bool = True) -> None:
        self.raw = raw
        self._fin = fin
        if raw.family != socket.AF_UNIX:
            # Else the kernel may hold back a record until our last flight is acknowledged, and a reset would drop it.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._coming, self._going, server_hostname="localhost")
        self._early = b""  # plaintext that was decrypted before it was asked for
        self._unsent = b""  # ciphertext that the socket has not taken
        self._machine = threading.RLock()
        self._sending = threading.RLock()
        while self._step(self._tls.do_handshake) is None:
            self._feed()
        self._push()

    def __getattr__(self, name: str) -> Any:
        """Everything that does not move bytes."""
        return getattr(self.raw, name)

    def _step(self, call: Any, *arguments: Any) -> Any:
        """``(result,)`` of a step of OpenSSL; None if it needs more of the peer."""
        with self._machine:
            try:
                return (call(*arguments),)
            except ssl.SSLWantReadError:
                return None

    def _feed(self, flags: int = 0) -> None:
        """Give OpenSSL more of the peer, and the peer its answer unless another thread is sending."""
        if self._sending.acquire(blocking=False):
            try:
                with contextlib.suppress(BlockingIOError):
                    self._push(socket.MSG_DONTWAIT)
            finally:
                self._sending.release()
        came = self.raw.recv(CHUNK, flags)
        with self._machine:
            if came:
                self._coming.write(came)
            else:
                self._coming.write_eof()

    def _push(self, flags: int = 0) -> None:
        with self._sending:
            with self._machine:
                self._unsent += self._going.read()
            while self._unsent:
                if flags & socket.MSG_DONTWAIT and not self._takes_more():
                    raise BlockingIOError
                self._unsent = self._unsent[self.raw.send(self._unsent, flags) :]

    def _takes_more(self) -> bool:
        """Whether the kernel takes more. A socket with a timeout waits for that in ``send``, also with MSG_DONTWAIT."""
        waits = select.poll()
        waits.register(self.raw, select.POLLOUT)
        return bool(waits.poll(0))

    def recv(self, count: int, flags: int = 0) -> bytes:
        try:
            while (read := self._step(self._take, min(count, CHUNK))) is None:
                self._feed(flags)
        except ssl.SSLZeroReturnError:
            return b""
        return read[0]

    def _take(self, count: int) -> bytes:
        """Plaintext in the order of the stream. Under the lock, for :meth:`_say_close` moves some of it."""
        if self._early:
            part, self._early = self._early[:count], self._early[count:]
            return part
        return self._tls.read(count)

    def recv_into(self, buffer: Any, count: int = 0, flags: int = 0) -> int:
        part = self.recv(count or len(buffer), flags)
        buffer[: len(part)] = part
        return len(part)

    def send(self, data: Any, flags: int = 0) -> int:
        """Encrypt and send. Ciphertext that the socket does not take goes out before the next."""
        with self._sending:
            self._push(flags)
            with self._machine:
                count = self._tls.write(data[:CHUNK])
            with contextlib.suppress(BlockingIOError):
                self._push(flags)
        return count

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]
        self._push()

    def shutdown(self, how: int) -> None:
        """Say close_notify, and end our direction of the stream."""
        assert how == socket.SHUT_WR
        self._say_close()
        self._push()
        if self._fin:
            self.raw.shutdown(how)

    def _say_close(self) -> None:
        """OpenSSL takes no plaintext behind its close_notify for granted unless it is asked for, so read it before."""
        with self._machine, contextlib.suppress(ssl.SSLZeroReturnError):
            while (read := self._step(self._tls.read, CHUNK)) and read[0]:
                self._early += read[0]
            self._step(self._tls.unwrap)

    def close(self) -> None:
        """An orderly end, if the stream is still in order and the socket takes it."""
        if self.raw.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._say_close()
                self._push(socket.MSG_DONTWAIT)
        self.raw.close()

    def break_off(self) -> None:
        """End without close_notify."""
        self.raw.close()


class SecureClient(Client):
    """A client over TLS."""

    def __init__(self, address: Any, *, version: str = "TLSv1_3", fin: bool = True, **options: Any) -> None:
        super().__init__(address, **options)
        try:
            self.socket: Any = SecureSocket(self.socket, client_context(version), fin=fin)
        except BaseException:
            self.socket.close()
            raise

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.break_off()


class Wire:
    """One kind of wire: the options of its acceptors, and its clients."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_secure = name != "plain"

    @property
    def acceptor_options(self) -> dict[str, Any]:
        return {"tls": server_context()} if self.is_secure else {}

    def client(self, address: Any, **options: Any) -> Client:
        match self.name:
            case "tls":
                return SecureClient(address, **options)
            case "tls 1.2, no FIN":
                return SecureClient(address, version="TLSv1_2", fin=False, **options)
        return Client(address, **options)


WIRES = ("plain", "tls", "tls 1.2, no FIN")
