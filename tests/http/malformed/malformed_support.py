"""Rows of requests name status, bytes and section of an RFC; these helpers make, number and judge them."""

import pytest

import goev
from http_support import HttpClient, chunked
from support import Events

# Small, so that a row that goes over one of them stays small.
LIMITS = goev.http.Limits(max_line=120, max_headers=10, max_head=600, max_body=64)
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"  # behind every row: it must not be answered when the row is malformed


class Notes(goev.http.Connection):
    """Reports what it sees of each request, and answers it."""

    limits = LIMITS

    def __init__(self, events: Events) -> None:
        self.events = events

    def on_request(self, request):
        names = ("method", "target", "path", "query", "version", "body", "keep_alive")
        seen = {name: getattr(request, name) for name in names}
        self.events("request", {**seen, "headers": dict(request.headers.items())})
        request.respond(200, {"x-target": request.target}, b"answered")

    def on_close(self, error):
        self.events("close", error)


def line(request_line: bytes) -> bytes:
    return request_line + b"\r\nHost: a\r\n\r\n"


def lines(*fields: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" / HTTP/1.1", b"Host: a", *fields, b"", b""])


def hosts(*fields: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"GET / HTTP/" + version, *fields, b"", b""])


def sized(*values: bytes) -> bytes:
    """Content-Length of these values, each in a line of its own."""
    return lines(*(b"Content-Length:" + value for value in values), method=b"POST") + b"hello"


def coded(*values: bytes) -> bytes:
    """Transfer-Encoding of these values, each in a line of its own."""
    return lines(*(b"Transfer-Encoding:" + value for value in values), method=b"POST") + chunked(b"hello")


def chunks(body: bytes) -> bytes:
    return lines(b"Transfer-Encoding: chunked", method=b"POST") + body


# A record of TLS 1.2 with a ClientHello, as a client sends that takes the port for one of HTTPS.
CLIENT_HELLO = (
    b"\x16\x03\x01\x00\x43\x01\x00\x00\x3f\x03\x03" + bytes(range(0x60, 0x80)) + b"\x00\x00\x04\x13\x01\x13\x02\x01\x00"
    b"\x00\x12\x00\x00\x00\x0e\x00\x0c\x00\x00\x09localhost"
)


def table(*rows):
    """Rows as parameters; the last of each is its id."""
    return [pytest.param(*row[:-1], id=row[-1]) for row in rows]


def is_refused(client: HttpClient, status: int) -> None:
    """One error answer comes, complete in itself, and then the end: no second answer, and no reset."""
    answer = client.answer()
    assert answer.status == status
    assert answer["connection"] == "close"
    assert answer["content-length"] is not None
    assert client.rest() == b""


def ended_for_it(events: Events) -> None:
    error = events.until("close")[1]
    assert isinstance(error, goev.http.ProtocolError)
    assert str(error)
