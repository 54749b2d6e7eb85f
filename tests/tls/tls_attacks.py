"""Malformed TLS: first messages written byte by byte, and a client by tlslite-ng that breaks rules when told to."""

import socket
import struct
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

with warnings.catch_warnings():
    # On Python 3.11 it imports asyncore.
    warnings.simplefilter("ignore", DeprecationWarning)
    from tlslite.constants import AlertDescription
    from tlslite.errors import TLSAbruptCloseError, TLSClosedConnectionError, TLSError, TLSRemoteAlert
    from tlslite.handshakesettings import HandshakeSettings
    from tlslite.messages import Message
    from tlslite.tlsconnection import TLSConnection

from support import PATIENCE

CCS, ALERT, HANDSHAKE, DATA, HEARTBEAT = 20, 21, 22, 23, 24
CLIENT_HELLO, NEW_TICKET, END_OF_EARLY_DATA, ENCRYPTED_EXTENSIONS, CERTIFICATE = 1, 4, 5, 8, 11
CERTIFICATE_REQUEST, SERVER_HELLO_DONE, CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE, FINISHED = 13, 14, 15, 16, 20
KEY_UPDATE = 24

SNI, GROUPS, POINT_FORMATS, SIGNATURES, ALPN, TICKET = 0, 10, 11, 13, 16, 35
PRE_SHARED_KEY, EARLY_DATA, VERSIONS, PSK_MODES, KEY_SHARE, RENEGOTIATION = 41, 42, 43, 45, 51, 0xFF01

X25519, SECP256R1, X448 = 29, 23, 30


# --- bytes ---


def vector(size: int, *parts: bytes) -> bytes:
    """Bytes behind their length, which has ``size`` bytes."""
    body = b"".join(parts)
    return len(body).to_bytes(size, "big") + body


def numbers(*values: int) -> bytes:
    return b"".join(struct.pack("!H", value) for value in values)


def extension(kind: int, body: bytes) -> bytes:
    return numbers(kind) + vector(2, body)


def message(kind: int, body: bytes = b"") -> bytes:
    """A message of the handshake."""
    return bytes([kind]) + vector(3, body)


def record(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    return bytes([kind]) + numbers(version) + vector(2, body)


def key_share(group: int, key: bytes) -> bytes:
    return numbers(group) + vector(2, key)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return vector(2, bytes([kind]), vector(2, name))


@dataclass(frozen=True)
class Hello:
    """The first message of a client; the default one is fine for a server of TLS 1.3."""

    version: int = 0x0303
    random: bytes = bytes(range(32))
    session: bytes = bytes(32)
    suites: bytes = numbers(0x1301, 0x1302, 0x1303)
    compressions: bytes = b"\0"
    extensions: dict[int, bytes] = field(
        default_factory=lambda: {
            SNI: server_name(b"localhost"),
            VERSIONS: vector(1, numbers(0x0304)),
            GROUPS: vector(2, numbers(X25519)),
            SIGNATURES: vector(2, numbers(0x0403, 0x0804, 0x0807)),
            KEY_SHARE: vector(2, key_share(X25519, b"\x09" + bytes(31))),
        }
    )
    trailing: bytes = b""

    def but(self, **changes: Any) -> "Hello":
        return replace(self, **changes)

    def with_extension(self, kind: int, body: bytes) -> "Hello":
        return replace(self, extensions={**self.extensions, kind: body})

    def without(self, *kinds: int) -> "Hello":
        return replace(self, extensions={k: body for k, body in self.extensions.items() if k not in kinds})

    @property
    def encoded_extensions(self) -> bytes:
        return b"".join(extension(kind, body) for kind, body in self.extensions.items())

    def body(self, encoded_extensions: bytes | None = None) -> bytes:
        parts = [numbers(self.version), self.random, vector(1, self.session), vector(2, self.suites)]
        parts.append(vector(1, self.compressions))
        parts.append(vector(2, self.encoded_extensions if encoded_extensions is None else encoded_extensions))
        return b"".join(parts) + self.trailing

    @property
    def message(self) -> bytes:
        return message(CLIENT_HELLO, self.body())

    @property
    def record(self) -> bytes:
        return record(HANDSHAKE, self.message, 0x0301)


HELLO_13 = Hello()
HELLO_12 = Hello(suites=numbers(0xC02B, 0xC02C, 0xCCA9, 0x00FF)).without(VERSIONS, KEY_SHARE)


def alert_name(number: int) -> str:
    return AlertDescription.toStr(number) or f"alert {number}"


def plain_alert(address: Any, parts: Iterable[bytes], *, finish: bool = True) -> str | None:
    """Sends the parts; returns the alert that comes unencrypted, behind other records, or ``None`` at the end.

    With ``finish`` the client ends the stream; otherwise the server has to.
    """
    with socket.create_connection(address, PATIENCE) as sock:
        with suppress(OSError):
            for part in parts:
                sock.sendall(part)
            if finish:
                sock.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError), sock.makefile("rb") as stream:
            while header := stream.read(5):
                body = stream.read(int.from_bytes(header[3:], "big"))
                if header[0] == ALERT and len(body) == 2:
                    return alert_name(body[1])
    return None


# --- a client with keys ---


class Wire:
    """The socket of the client; ``spoil`` changes the next bytes that go out."""

    def __init__(self, address: Any) -> None:
        self.socket = socket.create_connection(address, PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.spoil: Callable[[bytes], bytes] | None = None

    def send(self, data: bytes) -> int:
        spoil, self.spoil = self.spoil, None
        self.socket.sendall(spoil(bytes(data)) if spoil else data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)


class Attacker(TLSConnection):
    """A client that follows the rules, except where ``tamper`` says otherwise.

    Args:
        address: the server's.
        version: ``(3, 3)`` is TLS 1.2, ``(3, 4)`` is 1.3.
        tamper: gets the attacker and each message that is to be sent, and returns the messages to send instead.
    """

    def __init__(
        self,
        address: Any,
        version: tuple[int, int] = (3, 4),
        tamper: Callable[["Attacker", Message], list[Message]] | None = None,
    ) -> None:
        self.wire = Wire(address)
        super().__init__(self.wire)
        self.closeSocket = True
        self.settings = HandshakeSettings()
        self.settings.minVersion, self.settings.maxVersion = min(version, (3, 3)), version
        self.settings.eccCurves = ["x25519", "secp256r1"]
        self.settings.keyShares = ["x25519"]
        self.tamper = tamper

    def __enter__(self) -> "Attacker":
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.socket.close()

    def shake_hands(self, **options: Any) -> None:
        self.handshakeClientCert(settings=self.settings, serverName="localhost", **options)

    def _sendMsg(self, msg: Message, randomizeFirstBlock: bool = True, update_hashes: bool = True) -> Any:
        tamper, self.tamper = self.tamper, None
        messages = tamper(self, msg) if tamper else [msg]
        self.tamper = tamper
        for each in messages:
            # The hash is that of an honest client.
            yield from super()._sendMsg(each, randomizeFirstBlock, update_hashes and each is msg)

    def wait_for_echo(self) -> None:
        """Behind this the server has opened the connection; otherwise a fault would be one of the handshake."""
        self.write(b"hello")
        assert self.read(min=5, max=5) == b"hello"

    def put(self, kind: int, body: bytes) -> None:
        """Send a record with the keys of this time. A body of over 16 KiB is not split."""
        for _ in self._sendMsgThroughSocket(Message(kind, bytearray(body))):
            pass

    def put_plain(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.wire.sendall(data)

    def change_keys(self) -> None:
        """Send with the next keys of TLS 1.3, as behind a KeyUpdate."""
        session = self.session
        secrets = (session.cipherSuite, session.cl_app_secret, session.sr_app_secret)
        session.cl_app_secret, _ = self._recordLayer.calcTLS1_3KeyUpdate_reciever(*secrets)

    def next_record(self) -> tuple[int, bytes]:
        """The next record that comes: its type and its content."""
        for result in self._recordLayer.recvRecord():
            if result not in (0, 1):
                header, parser = result
                return header.type, bytes(parser.bytes)
        raise AssertionError("no record came")

    def hear_alert(self) -> str | None:
        """Read to the end; return the alert that came, or ``None``."""
        try:
            while self.read(min=1, max=1 << 14):
                pass
        except TLSRemoteAlert as alert:
            return alert_name(alert.description)
        except (TLSAbruptCloseError, TLSClosedConnectionError, ConnectionError):
            return None
        return "close_notify"


def outcome(attacker: Attacker, attack: Callable[[Attacker], object] | None = None, **options: Any) -> str | None:
    """The alert that the server answers by: during the handshake, or to the attack behind it."""
    with attacker:
        try:
            attacker.shake_hands(**options)
        except TLSRemoteAlert as alert:
            return alert_name(alert.description)
        except (TLSAbruptCloseError, ConnectionError):
            return None
        if attack is not None:
            attacker.wait_for_echo()
            with suppress(ConnectionError):
                attack(attacker)
        return attacker.hear_alert()


def flood_with(attacker: Attacker, flood: Callable[[Attacker], object]) -> None:
    """Attack behind the handshake; the server may end before the last record is sent."""
    with attacker:
        attacker.shake_hands()
        attacker.wait_for_echo()
        # tlslite-ng asserts that an end comes behind no handshake.
        with suppress(OSError, TLSError, AssertionError):
            flood(attacker)


def on(kind: int, make: Callable[[Attacker, Message], list[Message]]) -> Callable[[Attacker, Message], list[Message]]:
    """A ``tamper`` for the messages of one kind of the handshake."""

    def tamper(attacker: Attacker, msg: Message) -> list[Message]:
        is_it = msg.contentType == HANDSHAKE and bytes(msg.write())[:1] == bytes([kind])
        return make(attacker, msg) if is_it else [msg]

    return tamper


def on_change_of_keys(make: Callable[[Attacker, Message], list[Message]]) -> Callable[..., list[Message]]:
    """A ``tamper`` for the record ChangeCipherSpec."""
    return lambda attacker, msg: make(attacker, msg) if msg.contentType == CCS else [msg]


def raw(kind: int, body: bytes) -> Message:
    return Message(kind, bytearray(body))
