"""A server that refuses tells why: the exception carries the status, the fields and the beginning of the body."""

import http.server
import threading
import time

import pytest

import goev
from websocket_support import Told

LONG = bytes(range(256)) * 100


def refused(events) -> goev.websocket.HandshakeRefused:
    name, error = events.next()
    assert (name, type(error)) == ("failed", goev.websocket.HandshakeRefused)
    return error


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x; name=value\r\n%b\r\n" % (len(part), part) for part in parts)


ANSWERS = {
    "length": (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nlogin", 401, b"login"),
    "nothing": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, b""),
    "more than its length": (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nabcdef", 500, b"ab"),
    "chunked": (
        b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(b"la", b"ter") + b"0\r\n\r\n",
        503,
        b"later",
    ),
    "no body": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", 304, b""),
    "an old server": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "no reason": (b"HTTP/1.1 429\r\nContent-Length: 2\r\n\r\nhi", 429, b"hi"),
    "long": (b"HTTP/1.1 403 No\r\nContent-Length: 25600\r\n\r\n" + LONG, 403, LONG[:16384]),
    "many chunks": (
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(*([LONG[:4096]] * 6)),
        403,
        (LONG[:4096] * 6)[:16384],
    ),
    "malformed chunks": (
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(b"a") + b"-1\r\n",
        403,
        b"a",
    ),
}


@pytest.mark.parametrize(("answer", "status", "body"), ANSWERS.values(), ids=ANSWERS)
def test_a_refusal_carries_status_fields_and_body(asked, events, answer, status, body):
    server, _ = asked()
    server.send(answer.replace(b"\r\n", b"\r\nX-Why: not now\r\nx-why: later\r\n", 1))
    error = refused(events)
    assert (error.status, error.body) == (status, body)
    assert error.headers["X-WHY"] == "not now, later"
    assert error.headers.get_all("x-why") == ["not now", "later"]
    assert str(error).startswith("the server refused the handshake: HTTP/1.")
    assert isinstance(error, goev.websocket.ProtocolError)
    assert events.names == ["failed"]


def test_a_body_cut_at_every_byte(asked, events):
    answer = ANSWERS["chunked"][0]
    head = answer.index(b"\r\n\r\n") + 4
    for cut in range(head - 1, len(answer), 4):
        server, _ = asked()
        server.send(answer[:cut])
        time.sleep(0)
        server.send(answer[cut:])
        assert refused(events).body == b"later"


def test_a_body_without_a_length_ends_with_the_connection(asked, events):
    server, _ = asked()
    server.send(b"HTTP/1.1 502 Bad Gateway\r\n\r\nnobody ")
    server.send(b"there")
    server.finish()
    error = refused(events)
    assert (error.status, error.body) == (502, b"nobody there")


def test_a_body_that_does_not_come_is_not_waited_for_long(asked, events):
    began = time.monotonic()
    server, _ = asked()
    server.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\nbeginning")
    error = refused(events)
    assert (error.status, error.body) == (502, b"beginning")
    assert time.monotonic() - began < 5, "a second, not the ten of the handshake"


def test_the_time_of_the_handshake_ends_the_wait_too(asked, events):
    server, _ = asked(timeout=0.2)
    server.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\nbeginning")
    assert refused(events).body == b"beginning"


def test_a_reset_amid_the_body_leaves_the_refusal(asked, events):
    server, _ = asked()
    server.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\n")
    server.reset()
    assert refused(events).status == 502


def test_the_server_of_the_standard_library_refuses(reactor, stack, events):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{server.server_port}/", Told(events))
        error = refused(events)
        thread.join()
    assert error.status == 501
    assert error.headers["content-type"].startswith("text/html")
    assert b"Unsupported method" in error.body


@pytest.mark.parametrize("name", ["Host", "host"])
def test_a_host_of_ones_own_takes_the_place_of_that_of_the_url(asked, events, name):
    server, handler = asked(headers={name: "example.org:8080", "Origin": "http://test"})
    assert server.fields["host"] == "example.org:8080"
    assert server.fields["origin"] == "http://test"
    server.agree()
    assert events.next() == ("open", handler)


def test_a_host_that_cannot_be_sent_is_refused(asked):
    with pytest.raises(ValueError, match=r"'Host': .* cannot be sent"):
        asked(headers={"Host": "a\r\nb"})
