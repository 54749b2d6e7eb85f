"""Connections over TLS: input, output and their ends, with Python's ``ssl`` as the other side."""

import hashlib
import socket

import pytest

import goev
import goev.http
from support import Recorder, eventually
from tls_support import BIG, VERSIONS, Echo, Hashes, Peer, Sends, trusting


class Page(goev.http.Connection):
    def on_request(self, request):
        request.respond(200, {"x-version": self.tls.version, "x-alpn": str(self.tls.alpn)}, b"hello")


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_come_back(serve, root, version):
    with Peer.to(serve(Echo).address, trusting(root, version=version)) as client:
        assert client.tls.version() == version
        for size in (1, 100, 20_000):
            assert client.ask(b"x" * size) == b"x" * size


@pytest.mark.parametrize("version", VERSIONS)
def test_a_large_upload_arrives_whole(serve, root, version):
    with Peer.to(serve(Hashes).address, trusting(root, version=version)) as client:
        client.send(BIG)
        # close_notify ends our direction; the answer still comes.
        client.say_close()
        assert client.receive_all() == hashlib.sha256(BIG).digest()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_large_download_arrives_whole_and_ends_in_order(serve, root, version):
    with Peer.to(serve(Sends).address, trusting(root, version=version)) as client:
        assert hashlib.sha256(client.receive_all()).digest() == hashlib.sha256(BIG).digest()


def test_http_works_and_the_handler_sees_the_tls(serve, root):
    with Peer.to(serve(Page, tls={"alpn": ["http/1.1"]}).address, trusting(root, alpn=("http/1.1",))) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = client.receive_all()
    assert b"x-version: TLSv1.3" in answer
    assert b"x-alpn: http/1.1" in answer
    assert answer.endswith(b"hello")


def test_a_cut_stream_does_not_look_whole(serve, root, events):
    class Reports(Recorder):
        def on_eof(self):
            self.events("eof")

    with Peer.to(serve(lambda: Reports(events)).address, trusting(root)) as client:
        client.send(b"x")
        assert events.until("read")[1] == b"x"
        client.socket.shutdown(socket.SHUT_WR)
        error = events.until("close")[1]
    assert isinstance(error, goev.tls.TruncatedError), error
    assert "close_notify" in str(error)
    assert "eof" not in events.names


def test_a_client_of_ours_meets_a_server_of_ours(serve, reactor, root, events):
    class Asks(Recorder):
        def on_open(self):
            super().on_open()
            self.write(b"hello")

    context = goev.tls.ClientContext(ca=root.pem)
    goev.connect(reactor, f"localhost:{serve(Echo).address[1]}", Asks(events), tls=context)
    events.until("open")
    assert events.until("read")[1] == b"hello"


def test_an_unknown_issuer_is_told_to_the_client(serve, reactor, events):
    goev.connect(reactor, f"localhost:{serve(Echo).address[1]}", Failing(events), tls=True)
    error = events.until("connect_fail")[1]
    assert isinstance(error, goev.tls.CertificateError), error
    assert error.alert == "unknown_ca"


class Failing(Recorder):
    def on_connect_fail(self, error):
        self.events("connect_fail", error)


def test_no_tls_at_all_is_answered_by_an_alert_and_told_in_the_log(serve, reactor, tells):
    with socket.create_connection(serve(Echo).address, 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        # A fatal alert: decode_error.
        assert client.recv(100) == b"\x15\x03\x03\x00\x02\x02\x32"
        assert client.recv(100) == b""
    assert "does not speak TLS" in tells.next()
    eventually(lambda: reactor.stats()[0]["open"] == 0, "the connection is gone")
