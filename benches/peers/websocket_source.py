"""Sends WebSocket messages of 64 bytes to each client that connects, as fast as it takes them, and closes.

The last message is the number of those before it.
"""

import argparse
import base64
import hashlib
import re
import socket
import threading
import time

FINAL_BINARY, FINAL_CLOSE = 0x82, 0x88
BATCH = 1_000  # messages in one send
SIZE = 64
MESSAGES = (bytes([FINAL_BINARY, SIZE]) + b"x" * SIZE) * BATCH
CLOSE = bytes([FINAL_CLOSE, 2]) + (1000).to_bytes(2)
TIMEOUT = 10.0


def shake_hands(client: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        if not data:
            raise ConnectionError("the client sent no whole handshake")
        head += data
    found = re.search(rb"(?i)\r\nSec-WebSocket-Key: *(\S+)", head)
    assert found
    accept = base64.b64encode(hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def serve(client: socket.socket, seconds: float) -> None:
    with client:
        client.settimeout(TIMEOUT)
        shake_hands(client)
        sent, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            client.sendall(MESSAGES)
            sent += BATCH
        last = str(sent).encode()
        client.sendall(bytes([FINAL_BINARY, len(last)]) + last + CLOSE)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):  # its own close frame, and its end
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()

    with socket.create_server(("127.0.0.1", arguments.port)) as listener:
        print("ready", flush=True)
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0], arguments.seconds), daemon=True).start()


if __name__ == "__main__":
    main()
