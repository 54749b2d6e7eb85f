"""WebSocket messages: echoes of servers, and clients that receive."""

import socket
from email import message_from_bytes

from harness import Unavailable, server
from harness.measure import Bench, Run, echo_load, run_program
from harness.peers import Peer
from harness.server import Server

# The key and the value that it must give are those of RFC 6455, section 1.3.
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HEAD_LIMIT = 8192

TEXT, BINARY = 1, 2
SIZES = (64, 0, 1, 125, 126, 65535, 65536)  # of the messages that the check sends, cut in different places
MASK = b"\x37\xfa\x21\x3d"


def echoes(bench: Bench, peer: Peer, size: int, *, tls: bool = False) -> Run:
    """Echoes per second of messages of ``size`` bytes, and the server's CPU time for each."""
    program = bench.programs.command(f"{peer.program} websocket")
    with server.start([*program, *peer.arguments], tls=tls) as running:
        _check(running)
        return echo_load(bench, running, "websocket load", str(size))[0]


def messages(bench: Bench, peer: Peer) -> Run:
    """Messages per second that a client receives, and its CPU time for each."""
    client = bench.programs.command(f"{peer.program} receiver")
    source = bench.programs.command("websocket source")
    with server.start([*source, "--seconds", str(bench.effort.seconds)]) as running:
        seen = run_program([*client, "--port", str(running.port)])
    return {"messages": seen["messages"] / seen["seconds"], "message_cpu": seen["cpu"] / seen["messages"]}


def _check(running: Server) -> None:
    messages = [(opcode, b"x" * size) for size in SIZES for opcode in (TEXT, BINARY)]
    sent = b"".join(_frame(opcode, payload, MASK) for opcode, payload in messages)
    echoed = b"".join(_frame(opcode, payload) for opcode, payload in messages)
    with running.connect() as client:
        _shake_hands(client)
        for at in (1, 3, 7, 80, len(sent) - 1):
            client.sendall(sent[:at])
            client.sendall(sent[at:])
            server.expect(client, echoed)


def _shake_hands(client: socket.socket) -> None:
    client.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < HEAD_LIMIT:
        byte = client.recv(1)
        if not byte:
            break
        head += byte
    status, _, fields = head.partition(b"\r\n")
    headers = message_from_bytes(fields)
    if not status.startswith(b"HTTP/1.1 101 ") or headers["Sec-WebSocket-Accept"] != ACCEPT:
        raise Unavailable("it does not accept a WebSocket", repr(head))
    if "Sec-WebSocket-Extensions" in headers:
        raise Unavailable("it uses an extension that nobody offered", repr(head))


def _frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """One final frame; masked, as a client's has to be, if there is a mask."""
    size, masked = len(payload), 0x80 if mask else 0
    if size < 126:
        length = bytes([masked | size])
    elif size < 1 << 16:
        length = bytes([masked | 126]) + size.to_bytes(2)
    else:
        length = bytes([masked | 127]) + size.to_bytes(8)
    if mask:
        key = mask * (size // len(mask) + 1)
        payload = bytes(a ^ b for a, b in zip(payload, key, strict=False))
    return bytes([0x80 | opcode]) + length + mask + payload
