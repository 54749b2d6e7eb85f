"""PEP 3333, "environ Variables": each row is a request and keys of its `environ`."""

import io
from wsgiref.validate import validator

import pytest

from http_support import get, post, post_chunked

SEEN = b"seen"


def seeing(seen):
    def app(environ, start_response):
        seen.update(environ)
        seen["body"] = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [SEEN]

    return app


ROWS = [
    ("method", get(method="PATCH"), {"REQUEST_METHOD": "PATCH"}),
    ("version", get(version="1.0"), {"SERVER_PROTOCOL": "HTTP/1.0"}),
    ("path and query", get("/a/b?x=1&y=%20"), {"PATH_INFO": "/a/b", "QUERY_STRING": "x=1&y=%20", "SCRIPT_NAME": ""}),
    ("no query", get("/"), {"QUERY_STRING": ""}),
    ("escapes are bytes", get("/%C3%A4%2Fb"), {"PATH_INFO": "/\xc3\xa4/b", "RAW_URI": "/%C3%A4%2Fb"}),
    ("absolute form", get("http://other/p?q"), {"PATH_INFO": "/p", "QUERY_STRING": "q"}),
    ("absolute form without a path", get("http://other"), {"PATH_INFO": "/"}),
    ("a field", get("/", "X-One: a"), {"HTTP_X_ONE": "a", "HTTP_HOST": "test"}),
    ("a repeated field", get("/", "X: a", "x: b"), {"HTTP_X": "a, b"}),
    ("cookies", get("/", "Cookie: a=1", "Cookie: b=2"), {"HTTP_COOKIE": "a=1; b=2"}),
    ("latin-1", get("/", "X: \xe4"), {"HTTP_X": "\xe4"}),
    (
        "content type",
        post("/", b"a", "Content-Type: a/b"),
        {"CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "1", "body": b"a"},
    ),
    ("chunks", post_chunked("/", b"ab", b"c"), {"HTTP_TRANSFER_ENCODING": "chunked", "body": b"abc"}),
    ("no body", get(), {"body": b""}),
    ("server", get(), {"SERVER_NAME": "127.0.0.1", "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http"}),
    ("wsgi", get(), {"wsgi.version": (1, 0), "wsgi.run_once": False, "wsgi.input_terminated": True}),
    ("threads", get(), {"wsgi.multithread": True, "wsgi.multiprocess": False}),
]


@pytest.mark.parametrize(("request_bytes", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_environment_has(client, request_bytes, expected):
    seen = {}
    assert client(seeing(seen)).ask(request_bytes).body == SEEN
    assert {name: seen.get(name) for name in expected} == expected


def test_the_port_is_that_of_the_server(site, client):
    seen = {}
    server = site(seeing(seen))
    raw = client(server)
    raw.ask(get())
    assert seen["SERVER_PORT"] == str(server.address[1])
    assert seen["REMOTE_PORT"] == str(raw.raw.socket.getsockname()[1])


@pytest.mark.parametrize("absent", ["CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_X_ONE", "HTTP_CONTENT_TYPE"])
def test_names_that_were_not_sent_are_missing_and_an_underscore_is_no_hyphen(client, absent):
    seen = {}
    client(seeing(seen)).ask(get("/", "X_One: spoofed"))
    assert absent not in seen


@pytest.mark.parametrize(
    ("target", "path"),
    [("/app/x", "/x"), ("/app", ""), ("/apple", "/apple"), ("/x", "/x"), ("/app/", "/")],
)
def test_the_root_path_is_the_script_name(client, target, path):
    seen = {}
    client(seeing(seen), root_path="/app").ask(get(target))
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/app", path)


def test_a_proxy_that_is_trusted_names_the_client(client):
    seen = {}
    raw = client(seeing(seen), proxy_protocol=True, proxy_from=["127.0.0.1"])
    raw.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n")
    raw.ask(get())
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"], seen["SERVER_PORT"]) == ("192.0.2.7", "4711", "443")


def test_each_request_has_an_environment_of_its_own(client):
    seen = []

    def app(environ, start_response):
        seen.append(dict(environ))
        environ["HTTP_LEFT"] = "over"
        start_response("200 OK", [])
        return []

    raw = client(app)
    raw.ask(get("/", "X: a"))
    raw.ask(get("/"))
    assert "HTTP_LEFT" not in seen[1]
    assert "HTTP_X" not in seen[1]


@pytest.mark.parametrize("request_bytes", [get("/a?b"), post("/", b"line\nrest"), post_chunked("/", b"ab")])
def test_the_validator_of_the_standard_library_finds_nothing(client, request_bytes):
    def app(environ, start_response):
        read = environ["wsgi.input"]
        lines = [read.readline(), read.read(3), read.read(100), *read.readlines(10)]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"".join(lines) or b"none"]

    answer = client(validator(app)).ask(request_bytes)
    assert answer.status == 200


READS = [
    ("all", lambda file: [file.read()]),
    ("nothing", lambda file: [file.read(0), file.read()]),
    ("by none", lambda file: [file.read(None)]),
    ("in pieces", lambda file: [file.read(4), file.read(1), file.read(1000), file.read(1)]),
    ("a line", lambda file: [file.readline(), file.readline(2), file.readline(-1), file.read()]),
    ("lines", lambda file: file.readlines()),
    ("some lines", lambda file: [*file.readlines(7), b"|", *file.readlines(0)]),
    ("iteration", lambda file: list(file)),
]


@pytest.mark.parametrize("read", [row[1] for row in READS], ids=[row[0] for row in READS])
@pytest.mark.parametrize("body", [b"", b"one\ntwo\nthree", b"\n\n", b"no newline"], ids=repr)
def test_the_input_reads_like_a_file(client, read, body):
    seen = []

    def app(environ, start_response):
        seen.append(read(environ["wsgi.input"]))
        start_response("200 OK", [])
        return []

    client(app).ask(post("/", body))
    assert seen == [read(io.BytesIO(body))]
