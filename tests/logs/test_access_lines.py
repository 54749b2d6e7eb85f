"""The access log has one line for each request, in the format that was asked for."""

import json
import re
from datetime import UTC, datetime

import pytest

import goev
import goev.logs
from http_support import Hello, Keeps, get, post, streaming
from logs_support import written
from support import eventually, on_poller

COMBINED = re.compile(
    r'(?P<peer>\S+) - (?P<user>\S+) \[(?P<time>[^]]+)\] "(?P<request>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+)'
    r' "(?P<referer>[^"]*)" "(?P<agent>[^"]*)"'
)


def test_combined_has_the_fields_of_apache_and_nginx(connected, access_log):
    log = access_log("combined")
    client = connected(Hello, access_log=log)
    client.ask(get("/a?b", "Referer: http://r/", "User-Agent: curl/8", "Authorization: Basic YW5uYTpzZWNyZXQ="))
    (line,) = written(log, 1)
    found = COMBINED.fullmatch(line)
    assert found, line
    assert found["peer"] == "127.0.0.1"
    assert found["user"] == "anna"
    assert abs((datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z") - datetime.now(UTC)).total_seconds()) < 60
    assert found["request"] == "GET /a?b HTTP/1.1"
    assert (found["status"], found["bytes"]) == ("200", "6")
    assert (found["referer"], found["agent"]) == ("http://r/", "curl/8")
    assert "secret" not in line


def test_a_json_line_is_an_object_with_typed_fields(connected, access_log):
    log = access_log("json", worker=3)
    client = connected(Hello, access_log=log)
    client.ask(get("/x?y=1", "X-Request-ID: r-1"))
    (line,) = map(json.loads, written(log, 1))
    assert line["peer"] == "127.0.0.1"
    assert line["port"] == client.raw.socket.getsockname()[1]
    assert 0 <= line.pop("seconds") < 60
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert (line["method"], line["target"], line["version"], line["status"]) == ("GET", "/x?y=1", "HTTP/1.1", 200)
    assert (line["body_bytes"], line["whole"], line["host"], line["request_id"]) == (6, True, "test", "r-1")
    assert (line["worker"], line["poller"], line["tls"], line["user"]) == (3, 0, None, None)


def test_every_answer_of_a_connection_has_its_line_in_order(connected, access_log):
    log = access_log()
    client = connected(Hello, access_log=log)
    client.send(b"".join(get(f"/{number}") for number in range(50)))
    for _ in range(50):
        client.answer()
    assert written(log, 50) == [f"GET /{number} 200" for number in range(50)]


def test_fields_of_request_and_answer_are_named(connected, access_log):
    log = access_log("{path}|{query}|{request.x-who}|{response.Content-Type}|{version}|{bytes_sent}|{{}}")
    client = connected(Hello, access_log=log)
    client.ask(get("/p?q", "X-Who: me"))
    before, sent, braces = written(log, 1)[0].rsplit("|", 2)
    assert (before, braces) == ("/p|q|me|text/plain|HTTP/1.1", "{}")
    assert int(sent) > 6


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (b"nonsense\r\n\r\n", "nonsense - 400"),
        (b"GET / HTTP/1.1\r\n\r\n", "GET / 400"),
        (b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", "POST /big 413"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", f"GET /{'x' * 9000} 414"),
        (get("/many", *(f"x{number}: 1" for number in range(101))), "GET /many 431"),
        (post("/odd", b"", "Expect: something"), "POST /odd 417"),
    ],
)
def test_refused_requests_have_lines(connected, access_log, sent, line):
    log = access_log()
    client = connected(Hello, access_log=log)
    client.send(sent)
    client.rest()
    assert written(log, 1) == [line]


def test_a_head_that_never_ends_has_a_line(connected, access_log):
    class Hasty(Hello):
        limits = goev.http.Limits(head_timeout=0.05)

    log = access_log()
    client = connected(Hasty, access_log=log)
    client.send(b"GET /slow HTTP/1.1\r\nHo")
    client.rest()
    assert written(log, 1) == ["GET /slow 408"]


def test_an_exception_has_the_line_of_its_500(connected, access_log, log):
    class Fails(goev.http.Connection):
        def on_request(self, request):
            raise ZeroDivisionError

    lines = access_log()
    connected(Fails, access_log=lines).ask(get("/"))
    log.next()
    assert written(lines, 1) == ["GET / 500"]


def test_a_peer_that_leaves_before_the_answer_has_a_line_with_499(connected, access_log, events):
    log = access_log("{target} {status} {whole}")
    client = connected(lambda: Keeps(events), access_log=log)
    client.send(get("/left"))
    request = events.until("request")[1]
    client.reset()
    events.until("close")
    assert written(log, 1) == ["/left 499 false"]
    assert request.target == "/left"


def test_an_answer_that_is_cut_is_not_whole(connected, access_log, events):
    class Endless(goev.http.Connection):
        def on_request(self, request):
            request.start(200, None)
            request.write(b"x" * 1000)
            self.abort()

        def on_close(self, error):
            events("close", error)

    log = access_log("{target} {status} {whole}")
    client = connected(Endless, access_log=log)
    client.send(get("/cut"))
    events.until("close")
    assert written(log, 1) == ["/cut 200 false"]


@pytest.mark.parametrize("fields", [None, {"content-length": "2000"}])
def test_an_answer_amid_which_the_handler_fails_is_not_whole(connected, access_log, log, fields):
    class Fails(goev.asgi.Connection):
        @staticmethod
        async def app(scope, receive, send):
            headers = [(name.encode(), value.encode()) for name, value in (fields or {}).items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            raise ZeroDivisionError

    lines = access_log("{target} {status} {whole}")
    client = connected(Fails, asyncio=True, access_log=lines)
    client.send(get("/fails"))
    client.survives_until_end()
    assert "ZeroDivisionError" in log.next()[1]
    assert written(lines, 1) == ["/fails 200 false"]


def test_a_streamed_answer_has_a_line_with_its_bytes(connected, access_log):
    log = access_log("{status} {body_bytes}")
    client = connected(streaming(b"abc", b"defg", headers={"content-length": "7"}), access_log=log)
    client.ask(get("/"))
    assert written(log, 1) == ["200 7"]


def test_an_upgrade_has_a_line_with_101(start, stack, access_log):
    class Chat(goev.websocket.Connection):
        pass

    log = access_log()
    server = start(Chat, access_log=log)
    client = server.connect()
    key = "A" * 22 + "=="
    fields = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    client.send(get("/ws", *fields))
    assert client.receive(12) == b"HTTP/1.1 101"
    assert written(log, 1) == ["GET /ws 101"]


def test_on_answered_and_the_log_agree(connected, access_log, events):
    class Observed(Hello):
        def on_answered(self, request, status, bytes_sent, seconds):
            events("answered", status, bytes_sent)

    log = access_log("{status} {bytes_sent}")
    connected(Observed, access_log=log).ask(get("/"))
    _, status, sent = events.until("answered")
    assert written(log, 1) == [f"{status} {sent}"]


def test_peers_of_unix_sockets_and_of_proxies(start, access_log, tmp_path):
    log = access_log("{peer} {port}")
    server = start(Hello, address=f"unix:{tmp_path}/socket", access_log=log)
    client = server.connect()
    client.send(get("/", "Connection: close"))
    client.receive_all()
    client = start(Hello, access_log=log, proxy_protocol=True, proxy_from=["127.0.0.1"]).connect()
    client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n" + get("/", "Connection: close"))
    client.receive_all()
    client = start(Hello, access_log=log, proxy_protocol=True, proxy_from=["127.0.0.1"]).connect()
    client.send(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n" + get("/", "Connection: close"))
    client.receive_all()
    assert written(log, 3) == ["unix: -", "192.0.2.7 4711", "2001:db8::7 4711"]


def test_a_sample_has_its_share_and_every_failure(connected, access_log):
    class Varied(goev.http.Connection):
        def on_request(self, request):
            request.respond(int(request.target[1:4]), None, b"")

    log = access_log("{status}", sample=0.1)
    client = connected(Varied, access_log=log)
    for _ in range(10):
        client.send(get("/200") * 30 + get("/503"))
        for _ in range(31):
            client.answer()
    # The last request fails, so its line is the last one.
    eventually(lambda: log.flush() and log.path.read_text().count("503") == 10, "every failure is there")
    lines = log.path.read_text().splitlines()
    assert 27 <= lines.count("200") <= 33


@pytest.mark.wires("plain", "tls")
def test_the_version_of_tls_is_named(start, access_log, wire):
    log = access_log("{tls}")
    client = start(Hello, access_log=log).connect()
    client.send(get("/", "Connection: close"))
    client.receive_all()
    assert written(log, 1) == ["-" if wire.name == "plain" else "TLSv1.3"]


HOSTILE = [
    b'/"%20500%200%20"x',
    b"/'-{}%25s%25n\\x0a",
    b"/%0d%0a127.0.0.1%20-%20-",
]


@pytest.mark.parametrize("target", HOSTILE)
@pytest.mark.parametrize("format", ["combined", "json"])
def test_no_peer_writes_a_line_of_its_own(connected, access_log, target, format):
    log = access_log(format)
    client = connected(Hello, access_log=log)
    agent = b'a" 200 1 "b\\\x80\xff\xe2\x80\xa8\xc2\x85\tc'
    client.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nUser-Agent: " + agent + b"\r\nReferer: " + agent)
    client.send(b"\r\nAuthorization: Basic YSAtIFtmYWtlXSAiCmI6YwoK\r\n\r\n")  # a - [fake] ", a line feed, b
    client.answer()
    client.send(b'GET /\x00\n1.2.3.4 - - "x\r\n\r\n')
    client.rest()
    lines = written(log, 2)
    assert "\n".join(lines).isascii()
    for line in lines:
        assert len(line.splitlines()) == 1
        if format == "json":
            assert json.loads(line)["peer"] == "127.0.0.1"
        else:
            assert COMBINED.fullmatch(line), line
    first = lines[0]
    if format == "json":
        assert json.loads(first)["user_agent"] == agent.decode(errors="replace")
        assert json.loads(first)["user"] == 'a - [fake] "\nb'
    else:
        assert COMBINED.fullmatch(first)["user"] == r"a\x20-\x20[fake]\x20\x22\x0ab"


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"format": "{nobody}"}, ValueError, "format .* has no value {nobody}; there are time, .*, pid, request.NAME"),
        ({"format": "{peer"}, ValueError, "has a brace without a partner"),
        ({"format": "nothing"}, ValueError, "must be 'common', 'combined', 'json', or a text with values in braces"),
        ({"format": "{peer}\n"}, ValueError, "has a control character"),
        ({"sample": 0.0}, ValueError, "sample must be more than 0 and at most 1, not 0"),
        ({"sample": float("nan")}, ValueError, "sample must be"),
        ({"sample": 1.5}, ValueError, "sample must be"),
        ({"capacity": 10}, ValueError, "capacity must be from 1024 to 1073741824, not 10"),
        ({"path": 7}, TypeError, "path must be a str or os.PathLike, not int"),
        ({"path": ""}, OSError, "path must name a file"),
        ({"path": "/nowhere/access.log"}, FileNotFoundError, "cannot open the log /nowhere/access.log"),
        ({"path": "/tmp"}, IsADirectoryError, "cannot open the log /tmp"),
    ],
)
def test_wrong_arguments_are_named(options, error, text):
    with pytest.raises(error, match=text):
        goev.logs.AccessLog(**{"path": "/dev/null"} | options)


def test_an_acceptor_takes_nothing_else(idle):
    with pytest.raises(TypeError, match=r"access_log must be a goev\.logs\.AccessLog, not str"):
        goev.Acceptor(idle, "127.0.0.1:0", Hello, access_log="/tmp/access.log")
    goev.Acceptor(idle, "127.0.0.1:0", Hello, access_log=None)


def test_the_poller_that_served_is_named(start, access_log):
    log = access_log("{poller}")
    server = start(Hello, pollers=2, access_log=log)
    for _ in range(4):
        client = server.connect()
        client.send(get("/", "Connection: close"))
        client.receive_all()
    assert sorted(written(log, 4)) == ["0", "0", "1", "1"]
    assert on_poller(server.reactor, goev.logs.formatting._current_poller) == 0
