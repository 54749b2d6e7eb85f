"""HTTP against clients that others wrote: their own reports must show no error."""

import http.client
import os
import re
import subprocess
import types
from collections.abc import Iterator

import pytest

import goev
from support import Server, need, sha256, skip_outside_ci

DATA = bytes(range(256)) * 2000  # 512,000 bytes
PIECES = [b"piece %d\n" % n for n in range(100)]


class App(goev.http.Connection):
    """A bit of everything, by path."""

    def on_request(self, request):
        if request.path == "/stream":
            request.start(200, {"content-type": "text/plain"})
            for piece in PIECES:
                request.write(piece)
            request.end()
        elif request.path == "/echo":
            request.respond(200, {"content-type": "application/octet-stream"}, request.body)
        elif request.path == "/data":
            request.respond(200, None, DATA)
        elif request.path == "/teapot":
            request.respond(418, {"x-reason": "teapot"}, b"short and stout")
        elif request.path == "/none":
            request.respond(204)
        else:
            request.respond(200, {"content-type": "text/plain"}, b"Hello\n")


class Upload(goev.http.Connection):
    """Counts what is uploaded without ever holding it."""

    limits = goev.http.Limits(max_body=1 << 30)

    def __init__(self) -> None:
        self.count = 0

    def on_request(self, request):
        if request.path == "/refuse":
            request.respond(403, {"connection": "close"}, b"refused\n")

    def on_body(self, request, data):
        self.count += len(data)
        if not data and request.path != "/refuse":
            request.respond(200, None, b"%d\n" % self.count)
            self.count = 0


@pytest.fixture
def url(start) -> str:
    return "http://{}:{}".format(*start(App).address)


@pytest.fixture
def upload(start) -> str:
    return "http://{}:{}".format(*start(Upload).address)


def run(*command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a client that must end by itself with status 0."""
    ended = subprocess.run(command, input=stdin, capture_output=True, timeout=25, check=False)
    assert ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout[-2000:]!r}\n{ended.stderr[-4000:]!r}"
    return ended


def curl(*arguments: str, stdin: bytes = b"") -> bytes:
    return run(need("curl"), "-sS", "--noproxy", "*", "--max-time", "10", *arguments, stdin=stdin).stdout


def curl_aloud(*arguments: str, stdin: bytes = b"") -> tuple[bytes, str]:
    """What curl printed, and what it told of the exchange."""
    command = [need("curl"), "-sSv", "--noproxy", "*", "--max-time", "10", *arguments]
    ended = run(*command, stdin=stdin)
    return ended.stdout, ended.stderr.decode("latin-1")


@pytest.fixture
def large_file(tmp_path) -> str:
    path = tmp_path / "large"
    path.write_bytes(DATA * 10)
    return str(path)


# --- curl ---


def test_curl_gets(url):
    shown = curl("-i", f"{url}/").decode()
    head, _, body = shown.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert re.search(r"(?im)^content-length: 6\r?$", head)
    assert body == "Hello\n"


def test_curl_gets_a_large_body(url):
    assert sha256(curl(f"{url}/data")) == sha256(DATA)


def test_curl_gets_a_streamed_body(url):
    assert curl("--raw", f"{url}/stream").endswith(b"0\r\n\r\n")
    assert curl(f"{url}/stream") == b"".join(PIECES)
    assert curl("--http1.0", f"{url}/stream") == b"".join(PIECES)


def test_curl_sees_status_and_headers(url):
    shown = curl("-w", "%{http_code} %header{x-reason}", f"{url}/teapot").decode()
    assert shown == "short and stout418 teapot"
    assert curl("-w", "%{http_code} %{size_download}", f"{url}/none") == b"204 0"


def test_curl_asks_for_the_head(url):
    shown = curl("-I", f"{url}/data").decode()
    assert shown.startswith("HTTP/1.1 200 OK\r\n")
    assert re.search(rf"(?im)^content-length: {len(DATA)}\r?$", shown)
    assert shown.endswith("\r\n\r\n")


def test_curl_speaks_http_1_0(url):
    assert curl("--http1.0", f"{url}/", f"{url}/") == b"Hello\n" * 2


def test_curl_gets_several_urls_over_one_connection(url):
    paths = ["/", "/stream", "/none", "/teapot", "/data", "/"]
    urls = [f"{url}{path}" for path in paths]
    outputs = [part for _ in paths for part in ("-o", os.devnull)]
    shown = curl("-w", "%{http_code} %{num_connects}\n", *outputs, *urls).decode()
    assert shown.splitlines() == ["200 1", "200 0", "204 0", "418 0", "200 0", "200 0"]


def test_curl_posts(url):
    assert curl("--data-binary", "a=b&c=d", f"{url}/echo") == b"a=b&c=d"
    assert sha256(curl("--data-binary", "@-", f"{url}/echo", stdin=DATA)) == sha256(DATA)
    assert curl("--data-binary", "", f"{url}/echo") == b""


def test_curl_uploads_in_chunks(url):
    body, told = curl_aloud("-T", "-", "-H", "Expect:", f"{url}/echo", stdin=DATA)
    assert "> Transfer-Encoding: chunked" in told
    assert sha256(body) == sha256(DATA)


@pytest.mark.parametrize("chunked", [False, True])
def test_curl_waits_to_be_told_to_go_on(upload, large_file, chunked):
    coding = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    wait = ["-H", "Expect: 100-continue", "--expect100-timeout", "9"]  # else it would go on by itself after a second
    body, told = curl_aloud(*coding, *wait, "-T", large_file, f"{upload}/", "-w", "%{time_total}")
    count, took = body.decode().split("\n")
    assert int(count) == len(DATA) * 10
    assert "< HTTP/1.1 100 Continue" in told
    assert float(took) < 8
    assert ("> Transfer-Encoding: chunked" in told) is chunked


def test_curl_is_refused_without_uploading(upload, large_file):
    wait = ["-H", "Expect: 100-continue", "--expect100-timeout", "9"]
    shown = curl(*wait, "-T", large_file, f"{upload}/refuse", "-w", "%{http_code} %{size_upload}").decode()
    assert shown == "refused\n403 0"


def test_curl_is_told_that_its_body_is_too_large(url, large_file):
    shown = curl("-H", "Expect:", "-T", large_file, "-o", os.devnull, "-w", "%{http_code}", f"{url}/echo")
    assert shown == b"413"


def test_curl_gets_many_urls_at_once(url):
    shown = curl("-Z", "--parallel-max", "20", "-w", "%{http_code}\n", "-o", "/dev/null", f"{url}/[1-300]").decode()
    assert shown.split() == ["200"] * 300


# --- load: each at most two seconds ---


WRK_PIPELINES = """
init = function(args)
    local requests = {}
    for n = 1, 16 do requests[n] = wrk.format("GET", "/" .. n) end
    pipelined = table.concat(requests)
end
request = function() return pipelined end
"""
WRK_POSTS = """
wrk.method, wrk.path, wrk.body = "POST", "/echo", string.rep("x", 3000)
response = function(status, headers, body) if body ~= wrk.body then wrk.thread:stop() end end
"""
WRK_STREAMS = "wrk.path = '/stream'"


@pytest.mark.parametrize(
    "script", [None, WRK_PIPELINES, WRK_POSTS, WRK_STREAMS], ids=["gets", "pipelines", "posts", "streams"]
)
@pytest.mark.parametrize("pollers", [1, 2])
def test_wrk_sees_no_error(start, tmp_path, script, pollers):
    server: Server = start(App, pollers=pollers)
    command = [need("wrk"), "-c", "16", "-t", "2", "-d", "1s", "http://{}:{}/".format(*server.address)]
    if script is not None:
        (tmp_path / "script.lua").write_text(script)
        command += ["-s", str(tmp_path / "script.lua")]
    shown = run(*command).stdout.decode()
    assert "Socket errors" not in shown, shown
    assert "Non-2xx" not in shown, shown
    assert int(re.search(r"(\d+) requests in", shown)[1]) > 100, shown


@pytest.mark.parametrize("streams", ["1", "8"], ids=["one by one", "pipelined"])
@pytest.mark.parametrize("path", ["/", "/stream"])
def test_h2load_sees_no_error(url, path, streams):
    command = [need("h2load", "nghttp2-client"), "--h1", "-n", "2000", "-c", "10", "-m", streams, url + path]
    shown = run(*command).stdout.decode()
    done = "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout"
    assert f"requests: {done}" in shown, shown
    assert "status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx" in shown, shown


def test_h2load_uploads(url, tmp_path):
    (tmp_path / "body").write_bytes(DATA[:10_000])
    command = [need("h2load", "nghttp2-client"), "--h1", "-n", "1000", "-c", "10", "-d", str(tmp_path / "body")]
    shown = run(*command, f"{url}/echo").stdout.decode()
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in shown, shown
    assert "status codes: 1000 2xx" in shown, shown


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "one each"])
def test_ab_sees_no_error(url, keep):
    """It speaks HTTP/1.0, and knows by the answer alone whether the connection is kept."""
    count = 2000 if keep else 500
    command = [need("ab", "apache2-utils"), "-q", "-n", str(count), "-c", "8", *(["-k"] if keep else []), f"{url}/"]
    shown = run(*command).stdout.decode()
    figures = dict(re.findall(r"(?m)^([A-Z][\w -]+):\s+(\d+)", shown))
    assert (figures["Complete requests"], figures["Failed requests"]) == (str(count), "0"), shown
    assert figures.get("Keep-Alive requests", "0") == (str(count) if keep else "0"), shown
    assert not {"Non-2xx responses", "Write errors"} & set(figures), shown


def test_ab_posts(url, tmp_path):
    (tmp_path / "body").write_bytes(DATA[:10_000])
    options = ["-q", "-k", "-n", "500", "-c", "8", "-p", str(tmp_path / "body"), "-T", "application/octet-stream"]
    shown = run(need("ab", "apache2-utils"), *options, f"{url}/echo").stdout.decode()
    figures = dict(re.findall(r"(?m)^([A-Z][\w -]+):\s+(\d+)", shown))
    assert (figures["Complete requests"], figures["Failed requests"]) == ("500", "0"), shown
    assert figures["Document Length"] == "10000", shown


# --- Python ---


@pytest.fixture
def python_client(start) -> Iterator[http.client.HTTPConnection]:
    """One connection of the standard library's client; it must be the only one."""
    server = start(App)
    client = http.client.HTTPConnection(*server.address, timeout=10)
    yield client
    client.close()
    assert sum(poller["accepted"] for poller in server.reactor.stats()) <= 1, "the connection was not kept"


def read(client: http.client.HTTPConnection) -> tuple[int, bytes]:
    response = client.getresponse()
    return response.status, response.read()


def test_http_client_gets_over_one_connection(python_client):
    for path, expected in (("/", b"Hello\n"), ("/stream", b"".join(PIECES)), ("/none", b""), ("/data", DATA)):
        python_client.request("GET", path)
        status, body = read(python_client)
        assert (status, body) == (204 if path == "/none" else 200, expected)
        python_client.request("HEAD", path)
        assert read(python_client) == (status, b"")


def test_http_client_sees_the_headers(python_client):
    python_client.request("GET", "/teapot")
    response = python_client.getresponse()
    assert (response.status, response.version, response.getheader("X-Reason")) == (418, 11, "teapot")
    assert response.getheader("Content-Length") == "15"
    assert response.read() == b"short and stout"


def test_http_client_uploads(python_client):
    for body in (b"", b"x", DATA):
        python_client.request("POST", "/echo", body)
        assert read(python_client) == (200, body)
        python_client.request("PUT", "/echo", iter([body[:1000], body[1000:2000], body[2000:]]), encode_chunked=True)
        assert read(python_client) == (200, body)


def test_http_client_makes_many_requests(python_client):
    for number in range(500):
        python_client.request("POST", "/echo", b"%d" % number)
        assert read(python_client) == (200, b"%d" % number)


@pytest.fixture
def requests() -> types.ModuleType:
    """The client most programs use. Without it the test is skipped, except in CI, where it fails."""
    try:
        import requests
    except ImportError:
        skip_outside_ci("requests is not installed (pip install -r requirements-dev.txt)")
    return requests


def test_requests_gets_and_posts(start, requests):
    server = start(App)
    url = "http://{}:{}".format(*server.address)
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(50):
            assert session.get(url, timeout=10).text == "Hello\n"
            assert session.post(f"{url}/echo", data={"a": "b c"}, timeout=10).content == b"a=b+c"
            assert session.post(f"{url}/echo", json={"a": [1, 2]}, timeout=10).json() == {"a": [1, 2]}
            assert session.get(f"{url}/stream", timeout=10).content == b"".join(PIECES)
        with session.get(f"{url}/stream", stream=True, timeout=10) as streamed:
            assert b"".join(streamed.iter_lines()) == b"".join(PIECES).replace(b"\n", b"")
        assert sha256(session.put(f"{url}/echo", data=DATA, timeout=10).content) == sha256(DATA)
        assert session.post(f"{url}/echo", data=iter(PIECES), timeout=10).content == b"".join(PIECES)
        head = session.head(f"{url}/data", timeout=10)
        assert (head.headers["content-length"], head.content) == (str(len(DATA)), b"")
        answer = session.get(f"{url}/teapot", timeout=10)
        assert (answer.status_code, answer.headers["X-Reason"]) == (418, "teapot")
    assert sum(poller["accepted"] for poller in server.reactor.stats()) == 1, "one connection did it all"
