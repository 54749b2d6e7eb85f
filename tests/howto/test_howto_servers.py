"""The pages on servers: a proxy, files, events, limits and authentication do for real clients what the pages say."""

import gzip
import os
import shlex
import subprocess
import time

import pytest
import requests
from test_readme import wait_until_it_serves_or_ends
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import goev
from guides import FENCED
from howto_support import HowTo, needs_the_whole_file
from support import LOCAL, PATIENCE, Client, eventually, need

PROXY, FILES, EVENTS, RATES, AUTH = PAGES = [
    HowTo(f"{name}.md") for name in ("reverse-proxy", "files", "server-sent-events", "rate-limits", "auth")
]


def shell(page: HowTo) -> list[str]:
    return [line for language, text in FENCED.findall(page.text) if language == "sh" for line in text.splitlines()]


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False  # no proxy of the machine's
        yield session


# --- a reverse proxy ---


class Upstream(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        if request.path == "/cut":
            self.cut = request  # an answer that nobody refers to would be warned of
            request.start(200, {"content-length": "10"})
            request.write(b"half")
            return self.schedule(0, self.abort) and None
        seen = sorted(f"{name}: {value}" for name, value in request.headers.items())
        body = "\n".join([f"{request.method} {request.target}", *seen, ""]).encode() + request.body
        return request.respond(201, [("x-two", "a"), ("x-two", "b"), ("connection", "x-two-hop")], body)


@pytest.fixture
def upstream(reactor):
    return goev.Acceptor(reactor, LOCAL, Upstream).address[1]


def test_the_proxy_passes_requests_and_answers_on(tmp_path, session, upstream):
    upstreams = {"/api": f"http://127.0.0.1:{upstream}", "/": "http://127.0.0.1:9"}
    with PROXY.serving(tmp_path, "HTTP", UPSTREAMS=upstreams) as (port, _):
        fields = {"x-forwarded-for": "1.2.3.4", "x-mine": "yes", "connection": "x-hop, keep-alive", "x-hop": "no"}
        answer = session.post(f"http://127.0.0.1:{port}/api/a?b=c", data=b"the body", headers=fields, timeout=PATIENCE)
        assert answer.status_code == 201
        assert answer.headers["x-two"] == "a, b"
        lines = answer.text.splitlines()
        assert lines[0] == "POST /api/a?b=c"
        assert lines[-1] == "the body"
        assert "x-mine: yes" in lines
        assert "x-forwarded-for: 127.0.0.1" in lines
        assert not [line for line in lines if "1.2.3.4" in line or "x-hop" in line]
        assert session.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).status_code == 502
        assert session.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).text == "ConnectError\n"


def test_the_proxy_cuts_an_answer_that_was_cut(tmp_path, session, upstream):
    upstreams = {"/": f"http://127.0.0.1:{upstream}"}
    with PROXY.program(tmp_path, "HTTP", UPSTREAMS=upstreams) as child:
        port = wait_until_it_serves_or_ends(child)
        with pytest.raises(requests.RequestException):
            session.get(f"http://127.0.0.1:{port}/cut", timeout=PATIENCE)
        eventually(lambda: "exception in on_request of Proxy" in child.errors, "the log tells it")


# --- files ---


@pytest.fixture
def site(tmp_path):
    assets = tmp_path / "dist" / "assets"
    assets.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "dist" / "index.html").write_text("<title>Site</title>")
    (assets / "app-3f9a.js").write_text("let a")
    (assets / "app-3f9a.js.gz").write_bytes(gzip.compress(b"let a"))
    for file in tmp_path.rglob("*.*"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    with FILES.serving(tmp_path, "") as (port, _):
        yield f"http://127.0.0.1:{port}"


def test_assets_are_kept_for_ever_and_sent_compressed(site, session):
    packed = session.get(f"{site}/assets/app-3f9a.js", timeout=PATIENCE)
    plain = session.get(f"{site}/assets/app-3f9a.js", headers={"accept-encoding": "identity"}, timeout=PATIENCE)
    assert packed.text == plain.text == "let a"
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-type"] == plain.headers["content-type"]
    assert "content-encoding" not in plain.headers
    assert "immutable" in plain.headers["cache-control"]
    assert session.get(f"{site}/assets/gone.js", timeout=PATIENCE).status_code == 404


def test_other_paths_get_the_page_with_304_while_it_stays(site, session):
    page = session.get(f"{site}/some/where", timeout=PATIENCE)
    assert page.text == "<title>Site</title>"
    fields = {"if-none-match": page.headers["etag"]}
    assert session.get(f"{site}/", headers=fields, timeout=PATIENCE).status_code == 304
    assert session.post(f"{site}/", timeout=PATIENCE).status_code == 405


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "//etc/passwd", "/%00", "/" + "x" * 5000])
def test_no_path_leads_out(site, path):
    with Client(("127.0.0.1", int(site.rpartition(":")[2]))) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert client.receive_all().endswith((b"<title>Site</title>", b"Bad Request"))


def test_the_command_of_the_page_on_files_shows_the_fields(site):
    (line,) = shell(FILES)
    words = shlex.split(line.replace("http://127.0.0.1:8080", site))
    run = subprocess.run([need("curl"), "-sS", *words[1:]], capture_output=True, text=True, timeout=20)
    assert "content-encoding: gzip" in run.stdout.lower()


# --- events ---


def test_a_feed_gets_what_is_said(tmp_path):
    curl = need("curl")
    with EVENTS.serving(tmp_path, "") as (port, _), Client(("127.0.0.1", port)) as feed:
        feed.send(b"GET /events HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 7\r\n\r\n")
        seen = until(feed, b"retry: 2000\n\n")
        assert b"content-type: text/event-stream" in seen.lower()
        assert b": the last event was 7\n" in seen
        (line,) = shell(EVENTS)
        for _ in range(2):
            words = shlex.split(line.replace("8080", str(port)))
            subprocess.run([curl, "-sS", *words[1:]], check=True, timeout=20)
        assert b"id: 1\ndata: hello\n\n" in until(feed, b"id: 2\ndata: hello\n\n")
        with Client(("127.0.0.1", port)) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"EventSource" in client.receive_all()


def until(client: Client, end: bytes) -> bytes:
    seen = b""
    while end not in seen:
        seen += client.receive(1)
    return seen


# --- limits ---


def test_a_client_that_is_too_fast_has_to_wait_and_loses_nothing(tmp_path):
    with (
        RATES.serving(tmp_path, "Let the client wait") as (port, _),
        Client(("127.0.0.1", port)) as client,
    ):
        begin = time.monotonic()
        client.send(b"a\n" * 24)
        assert client.receive(48) == b"A\n" * 24
        assert time.monotonic() - begin > 0.25  # 20 at once, 4 at 10 a second; the first is late by one


def test_an_address_that_asks_too_often_gets_429(tmp_path, session):
    with RATES.serving(tmp_path, "Refuse the client") as (port, _):
        answers = [session.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE) for _ in range(30)]
        codes = [answer.status_code for answer in answers]
        assert codes[:10] == [200] * 10
        refused = answers[codes.index(429)]
        assert refused.headers["retry-after"] == "1"


# --- authentication ---


def test_a_client_with_a_token_gets_in_and_others_get_401(tmp_path):
    with AUTH.serving(tmp_path, "") as (port, child):
        token = child.line()
        url = f"ws://127.0.0.1:{port}/"
        for fields in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"a=b; session={token}"}):
            with connect(url, additional_headers=fields, proxy=None) as client:
                client.send("hello")
                assert client.recv(PATIENCE) == "ada: hello"
        user, end, signature = token.split(".")
        wrong = ["", "x", "a.b.c", f"bob.{end}.{signature}", f"{user}.{int(end) + 1}.{signature}", "ä" * 9]
        for each in wrong:
            with pytest.raises(InvalidStatus, match="401"):
                connect(url, additional_headers={"Cookie": f"session={each}"}, proxy=None)
        with pytest.raises(InvalidStatus, match="403"):
            connect(url, additional_headers={"Cookie": f"session={token}"}, origin="https://evil.example", proxy=None)


def test_a_token_ends(tmp_path):
    names: dict = {}
    exec(AUTH.source("").partition("class Private")[0], names)
    assert names["user_of"](names["make_token"]("ada.lovelace")) == "ada.lovelace"
    assert names["user_of"](names["make_token"]("ada", seconds=-1)) is None


# --- the pages ---


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.stem)
def test_every_program_of_a_page_was_tried(page, request):
    needs_the_whole_file(request)
    assert page.untried() == set()
