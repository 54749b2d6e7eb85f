"""A listener is shared by an application and a handler: the protocol of the TLS handshake (ALPN) decides."""

import socket
import ssl

import pytest

import goev
from asgi_support import site
from certificates import Authority
from support import PATIENCE, Server


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


class Lines(goev.Connection):
    framing = goev.Delimited(b"\n")

    def on_message(self, line):
        self.send(line.upper())


class Choice(goev.Connection):
    def on_open(self):
        self.hand_over(Lines() if self.tls.alpn == "lines/1" else site(app)())


@pytest.mark.parametrize(
    ("protocol", "question", "answer"),
    [
        ("lines/1", b"hello\n", b"HELLO\n"),
        ("http/1.1", b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"\r\n\r\n/hello"),
    ],
)
def test_the_protocol_of_the_handshake_decides(stack, protocol, question, answer):
    authority = Authority()
    own = authority.issue("localhost")
    tls = goev.tls.ServerContext(own.chain, own.key, alpn=["lines/1", "http/1.1"])
    server = Server(stack, Choice, asyncio=True, tls=tls)
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols([protocol])
    raw = stack.enter_context(socket.create_connection(server.address, timeout=PATIENCE))
    with context.wrap_socket(raw, server_hostname="localhost") as client:
        assert client.selected_alpn_protocol() == protocol
        client.sendall(question)
        received = b""
        while not received.endswith(answer):
            part = client.recv(65536)
            assert part, received
            received += part
