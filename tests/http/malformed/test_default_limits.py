"""The limits hold as they are by default, from both sides; a line's own CRLF may or may not count."""

import pytest

import goev
from http_support import get, post_chunked
from malformed_support import NEXT, Notes, chunks, ended_for_it, is_refused, table
from support import in_thread

MEBIBYTE = 1 << 20
WITHIN = [
    (get("/" + "a" * (8190 - len("GET / HTTP/1.1"))), "a line of max_line with its CRLF"),
    (get("/", *(f"X-{n}: a" for n in range(99))), "max_headers fields"),
    (get("/", *(f"X-{n}: {'a' * 990}" for n in range(32))), "a head just below max_head"),
    (get("/", f"Content-Length: {MEBIBYTE}", method="POST") + bytes(MEBIBYTE), "a body of max_body, declared"),
    (post_chunked("/", *[bytes(MEBIBYTE // 16)] * 16), "a body of max_body, in chunks"),
]
OVER = [
    (414, get("/" + "a" * (8193 - len("GET / HTTP/1.1"))), "a line over max_line"),
    (431, get("/", *(f"X-{n}: a" for n in range(100))), "one field over max_headers"),
    (431, get("/", *(f"X-{n}: {'a' * 1030}" for n in range(32))), "a head over max_head"),
    (413, get("/", f"Content-Length: {MEBIBYTE + 1}", method="POST") + bytes(MEBIBYTE + 1), "a byte over max_body"),
    (413, post_chunked("/", bytes(MEBIBYTE), b"x"), "a byte over max_body, in chunks"),
]


class Unlimited(Notes):
    """With the limits every class has by default."""

    limits = goev.http.Limits()


@pytest.mark.parametrize("sent", table(*WITHIN))
def test_what_is_within_the_default_limits_is_served(connected, events, sent):
    client = connected(lambda: Unlimited(events))
    sending = in_thread(client.send, sent + NEXT)
    assert [client.answer().status, client.answer()["x-target"]] == [200, "/next"]
    sending.result(10)


@pytest.mark.parametrize(("status", "sent"), table(*OVER))
def test_what_is_over_the_default_limits_is_refused(connected, events, status, sent):
    client = connected(lambda: Unlimited(events))
    sending = in_thread(client.send, sent + NEXT)
    is_refused(client, status)
    ended_for_it(events)
    sending.result(10)
    assert events.names == ["close"]


@pytest.mark.parametrize(
    "body",
    [b"1;x=" + b"a" * 40_000 + b"\r\nx\r\n0\r\n\r\n", (b"1;x=" + b"a" * 150 + b"\r\nx\r\n") * 1000 + b"0\r\n\r\n"],
    ids=["one", "all together"],
)
def test_chunk_extensions_are_limited(connected, events, body):
    """9112-7.1.1: a recipient ought to limit their *total* length, and answer with a 4xx. Which one is ours."""
    client = connected(lambda: Unlimited(events))
    sending = in_thread(client.send, chunks(body) + NEXT)
    is_refused(client, 400)
    ended_for_it(events)
    sending.result(10)
    assert events.names == ["close"]
