"""A request that is unusual, and yet legal, is served, and so is the one behind it."""

import pytest

from malformed_support import NEXT, Notes, chunks, coded, hosts, line, lines, table

# Each row: the request; the parts that the handler sees, of the headers these at least; the rule.
LEGAL = [
    (line(b"get / HTTP/1.1"), {"method": "get"}, "9110-9.1 a method is case-sensitive, and any token"),
    (line(b"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1"), {"method": "!#$%&'*+-.^_`|~09azAZ"}, "9110-5.6.2 all of a token"),
    (b"\r\n" + line(b"GET /a HTTP/1.1"), {"method": "GET", "target": "/a"}, "9112-2.2 an empty line before"),
    (line(b"GET / HTTP/1.2"), {"version": "1.1", "keep_alive": True}, "9110-2.5 a higher minor version is 1.1"),
    (
        line(b"GET http://b:80/a?c HTTP/1.1"),
        {"target": "http://b:80/a?c", "path": "/a", "query": "c"},
        "9112-3.2.2 absolute-form",
    ),
    (line(b"GET HTTP://b HTTP/1.1"), {"target": "HTTP://b", "path": "/", "query": ""}, "9110-4.2.3 an empty path is /"),
    (line(b"GET http://b?c=/d HTTP/1.1"), {"path": "/", "query": "c=/d"}, "9112-3.2.2 a query behind an empty path"),
    (line(b"OPTIONS * HTTP/1.1"), {"method": "OPTIONS", "target": "*", "path": "*", "query": ""}, "9112-3.2.4 *"),
    (line(b"OPTIONS /a HTTP/1.1"), {"method": "OPTIONS", "path": "/a"}, "9112-3.2.1 OPTIONS of one resource"),
    (line(b"GET /a%20b%C3%A9+c HTTP/1.1"), {"path": "/a bé+c", "target": "/a%20b%C3%A9+c"}, "3986-2.1 percent, UTF-8"),
    (
        line(b"GET /a%2fb%3Fc%25?d HTTP/1.1"),
        {"path": "/a/b?c%", "query": "d"},
        "3986-2.1 what is encoded splits nothing",
    ),
    (line(b"GET /%ff HTTP/1.1"), {"target": "/%ff", "query": ""}, "3986-2.1 no UTF-8 (what path is, is not said)"),
    (line(b"GET /a?b=%20/?c&d=+ HTTP/1.1"), {"path": "/a", "query": "b=%20/?c&d=+"}, "3986-3.4 a query is raw"),
    (line(b"GET /a? HTTP/1.1"), {"target": "/a?", "path": "/a", "query": ""}, "3986-3.4 an empty query"),
    (line(b"GET //a//../b/. HTTP/1.1"), {"path": "//a//../b/."}, "9112-3.2.1 the path is not tidied (ours)"),
    (line(b"GET /;a=b@:c,!$&'()*~ HTTP/1.1"), {"path": "/;a=b@:c,!$&'()*~"}, "3986-3.3 all of a path"),
    (hosts(b"Host:"), {"headers": {"host": ""}}, "9110-7.2 an empty Host"),
    (hosts(b"Host: [::1]:8080"), {"headers": {"host": "[::1]:8080"}}, "9110-7.2 an IPv6 address in Host"),
    (hosts(b"X: a", b"hOsT: a.b:"), {"headers": {"host": "a.b:", "x": "a"}}, "9110-7.2 Host last, an empty port"),
    (lines(b"X:a"), {"headers": {"x": "a"}}, "9112-5 no space behind the colon"),
    (lines(b"X: \t a \t b\t "), {"headers": {"x": "a \t b"}}, "9112-5 blanks around a value are no part of it"),
    (lines(b"X:", b"Y: "), {"headers": {"x": "", "y": ""}}, "9110-5.5 empty values"),
    (lines(b"X: : a: b"), {"headers": {"x": ": a: b"}}, "9110-5.5 colons in a value"),
    (lines(b"X: \xe9\xff"), {"headers": {"x": "éÿ"}}, "9110-5.5 bytes above 0x7f are latin-1"),
    (lines(b"X: a", b"Y: b", b"x: c"), {"headers": {"x": "a, c", "y": "b"}}, "9110-5.3 repeated fields are joined"),
    (lines(b"!#$%&'*+-.^_`|~09: a"), {"headers": {"!#$%&'*+-.^_`|~09": "a"}}, "9110-5.1 all of a name"),
    (
        lines(b"Transfer_Encoding: chunked"),
        {"body": b"", "headers": {"transfer_encoding": "chunked"}},
        "9110-5.1 _ is no -",
    ),
    (lines(b"X-Content-Length: 5"), {"body": b""}, "9110-8.6 a name that ends like Content-Length"),
    (lines(b"CONTENT-length:\t05 ", method=b"POST") + b"hello", {"body": b"hello"}, "9110-8.6 zeros, blanks, any case"),
    (lines(b"Content-Length: 5") + b"hello", {"method": "GET", "body": b"hello"}, "9110-9.3.1 a GET with a body"),
    (lines(b"Content-Length: 0", method=b"POST"), {"body": b""}, "9110-8.6 zero"),
    (lines(b"Content-Length: 31", method=b"PUT") + NEXT, {"body": NEXT}, "9112-6.2 a body that looks like a request"),
    (lines(b"Content-Length: 64", method=b"PUT") + b"x" * 64, {"body": b"x" * 64}, "ours a body of max_body"),
    (lines(method=b"POST"), {"method": "POST", "body": b""}, "9112-6.3 a POST without a body"),
    (coded(b" ChUnKeD"), {"body": b"hello"}, "9112-7 a coding in any case"),
    (coded(b"\tchunked\t "), {"body": b"hello"}, "9112-5 blanks around a coding"),
    (chunks(b"0\r\n\r\n"), {"body": b""}, "9112-7.1 no chunk but the last"),
    (chunks(b"00000\r\n\r\n"), {"body": b""}, "9112-7.1 the last chunk in five zeros"),
    (
        chunks(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
        {"body": b"0123456789" * 2},
        "9112-7.1 hex in any case",
    ),
    (chunks(b"0000000000000005\r\nhello\r\n0\r\n\r\n"), {"body": b"hello"}, "9112-7.1 a size of sixteen digits"),
    (chunks(b"2\r\n\r\n\r\n4\r\n0\r\n\r\r\n0\r\n\r\n"), {"body": b"\r\n0\r\n\r"}, "9112-7.1 CRLF and zero as data"),
    (chunks(b"40\r\n" + b"x" * 64 + b"\r\n0\r\n\r\n"), {"body": b"x" * 64}, "ours chunks of max_body"),
    (
        chunks(b'2;a\r\nhe\r\n3 ; b = c\t;d="e;f\\"g"\r\nllo\r\n0;h\r\n\r\n'),
        {"body": b"hello"},
        "9112-7.1.1 extensions are ignored",
    ),
    (
        chunks(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: b\r\nX: \xe9\r\nY:\r\n\r\n"),
        {"body": b"hello", "headers": {"host": "a", "transfer-encoding": "chunked"}},
        "9110-6.5.1 trailers are ignored",
    ),
    (lines(b"Connection: keep-alive"), {"keep_alive": True}, "9112-9.3 keep-alive said"),
    (lines(b"Connection: Upgrade", b"Upgrade: h2c"), {"keep_alive": True}, "9110-7.8 an upgrade may be ignored"),
    (
        hosts(b"Host: a", b"Connection: Keep-Alive", version=b"1.0"),
        {"version": "1.0", "keep_alive": True},
        "9112-9.3 1.0",
    ),
    (
        hosts(b"Connection: keep-alive", b"Content-Length: 5", version=b"1.0") + b"hello",
        {"version": "1.0", "body": b"hello"},
        "9112-3.2 no Host in HTTP/1.0",
    ),
]
# As above, and the connection ends with the answer.
LAST = [
    (lines(b"Connection: close"), {"keep_alive": False}, "9112-9.3 close"),
    (lines(b"Connection: CLOSE"), {"keep_alive": False}, "9110-7.6.1 in any case"),
    (lines(b"Connection: x,close ,\ty"), {"keep_alive": False}, "9110-7.6.1 in a list"),
    (lines(b"Connection: x", b"Connection: close"), {"keep_alive": False}, "9110-7.6.1 in a second line"),
    (lines(b"Connection: keep-alive, close"), {"keep_alive": False}, "9112-9.3 close is stronger than keep-alive"),
    (hosts(version=b"1.0"), {"version": "1.0", "keep_alive": False}, "9112-9.3 HTTP/1.0"),
    (hosts(b"Host: a", b"Connection: x", version=b"1.0"), {"keep_alive": False}, "9112-9.3 HTTP/1.0, another option"),
    (lines(b"Connection: close", b"Content-Length: 5") + b"hello", {"body": b"hello"}, "9112-9.3 close, and a body"),
]


def assert_seen(seen: dict, expected: dict) -> None:
    for name, value in expected.items():
        if name == "headers":
            assert {key: seen["headers"].get(key) for key in value} == value
        else:
            assert seen[name] == value, name


@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
@pytest.mark.parametrize(("sent", "expected"), table(*LEGAL))
def test_what_is_unusual_but_legal_is_served_and_so_is_what_follows(connected, events, sent, expected, cut):
    client = connected(lambda: Notes(events))
    (client.send if cut == "whole" else client.send_bytewise)(sent + NEXT)
    answers = [client.answer(), client.answer()]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"answered")] * 2
    assert answers[1]["x-target"] == "/next"
    assert "close" not in [answer["connection"] for answer in answers]
    assert_seen(events.until("request")[1], expected)
    assert events.until("request")[1]["path"] == "/next"
    assert client.is_silent()


@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
@pytest.mark.parametrize(("sent", "expected"), table(*LAST))
def test_a_last_request_is_served_and_what_follows_is_not(connected, events, sent, expected, cut):
    client = connected(lambda: Notes(events))
    (client.send if cut == "whole" else client.send_bytewise)(sent + NEXT)
    answer = client.answer()
    assert (answer.status, answer.body, answer["connection"]) == (200, b"answered", "close")
    assert client.rest() == b""
    assert_seen(events.until("request")[1], expected)
    assert events.until("close") == ("close", None)
    assert events.names == ["request", "close"]


def test_connect_reaches_the_handler_which_may_refuse_it(connected, events):
    """9112-3.2.3. Not in the table, because an answer of 200 would have opened a tunnel (9110-9.3.6)."""

    class NoProxy(Notes):
        def on_request(self, request):
            self.events("request", request.method, request.target)
            request.respond(405)

    client = connected(lambda: NoProxy(events))
    client.send(line(b"CONNECT [::1]:443 HTTP/1.1") + NEXT)
    assert [client.answer().status, client.answer().status] == [405, 405]
    assert events.history == [("request", "CONNECT", "[::1]:443"), ("request", "GET", "/next")]
