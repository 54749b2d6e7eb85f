"""HTTP and WebSockets over TLS: curl, Python's ``http.client`` and ``websockets`` meet servers of ours."""

import hashlib
import http.client
import subprocess

import pytest
import websockets.sync.client

import goev
import goev.http
import goev.websocket
from support import PATIENCE, Recorder, in_thread, need
from tls_support import BIG, VERSIONS, accepting, serving, trusting


class Site(goev.http.Connection):
    limits = goev.http.Limits(max_body=1 << 24)

    def on_request(self, request):
        if request.method == "POST":
            request.respond(200, {}, hashlib.sha256(request.body).hexdigest().encode())
        elif request.path == "/big":
            request.respond(200, {}, BIG)
        else:
            request.respond(200, {}, f"{self.tls.version} {self.tls.alpn}".encode())


class Talk(goev.websocket.Connection):
    def on_message(self, message):
        self.send(message)


@pytest.fixture
def curl(serve, root, tmp_path):
    """``curl(path, *options)``: the body of the answer of a site of ours."""
    port = serve(Site, tls={"alpn": ["http/1.1"]}).address[1]
    (tmp_path / "ca.pem").write_bytes(root.pem)
    (tmp_path / "big").write_bytes(BIG)
    fixed = [need("curl"), "-4", "-sS", "--fail", "--cacert", "ca.pem", "--max-time", str(PATIENCE), "--noproxy", "*"]

    def run(path, *options):
        command = [*fixed, *options, f"https://localhost:{port}{path}"]
        return subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout

    return run


def test_curl_gets_a_page_by_each_version(curl):
    assert curl("/") == b"TLSv1.3 http/1.1"
    assert curl("/", "--tls-max", "1.2") == b"TLSv1.2 http/1.1"
    assert curl("/", "--no-alpn") == b"TLSv1.3 None"


def test_curl_downloads_and_uploads(curl):
    assert curl("/big") == BIG
    assert curl("/", "--data-binary", "@big", "-H", "Expect:").decode() == hashlib.sha256(BIG).hexdigest()


def test_curl_keeps_the_connection(curl):
    assert curl("/", "--next", "-4", "-sS", "--cacert", "ca.pem", "-w", " %{num_connects}").endswith(b" 1")


@pytest.mark.parametrize("version", VERSIONS)
def test_http_client_of_python_uploads_and_keeps_the_connection(serve, root, version):
    port = serve(Site).address[1]
    client = http.client.HTTPSConnection("localhost", port, context=trusting(root, version=version), timeout=PATIENCE)
    try:
        client.request("POST", "/", BIG)
        assert client.getresponse().read().decode() == hashlib.sha256(BIG).hexdigest()
        client.request("GET", "/")
        assert client.getresponse().read().decode() == f"{version} None"
    finally:
        client.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_websockets_talks_over_wss(serve, root, version):
    port = serve(Talk).address[1]
    uri, context = f"wss://localhost:{port}/", trusting(root, version=version)
    with websockets.sync.client.connect(uri, ssl=context, max_size=None, open_timeout=PATIENCE, proxy=None) as client:
        for message in ("hello", b"", BIG[:1_000_000]):
            client.send(message)
            assert client.recv(PATIENCE) == message


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_ours_meets_a_server_of_python(reactor, root, identity, tmp_path, events, version):
    class Asks(Recorder):
        def on_open(self):
            self.events("open", self.tls)
            self.write(BIG[:100_000])
            self.shutdown_write()

        def on_eof(self):
            self.events("eof")
            self.close()

    def answer(accept):
        with accept() as peer:
            peer.shake_hands()
            peer.send(hashlib.sha256(peer.receive_all()).digest())
            peer.say_close()

    with accepting(serving(identity, tmp_path, version=version)) as (address, accept):
        answered = in_thread(answer, accept)
        goev.connect(reactor, address, Asks(events), tls=goev.tls.ClientContext(ca=root.pem))
        assert events.until("open")[1].version == version
        assert events.until("read")[1] == hashlib.sha256(BIG[:100_000]).digest()
        events.until("eof")
        assert events.until("close")[1] is None
        answered.result(PATIENCE)
