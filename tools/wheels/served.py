"""Run by an interpreter with a wheel installed: goev serves over plain TCP and TLS, and is asked by its own client.

The arguments are a certificate and its key. It needs no other package, and no OpenSSL of Python.
"""

import platform
import sys
import sysconfig
import threading

import goev

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BODY = b"Hello from the wheel"
PATIENCE = 120.0  # seconds; an emulated processor is slow


class Site(goev.http.Connection):
    def on_request(self, request: goev.http.Request) -> None:
        request.respond(200, {"content-type": "text/plain"}, BODY)


class Visitor(goev.Connection):
    """Sends one request, and keeps the answer until the server closes."""

    def __init__(self, ended: threading.Semaphore) -> None:
        self.ended = ended
        self.answer = b""
        self.error: BaseException | None = None

    def on_open(self) -> None:
        self.write(REQUEST)

    def on_read(self) -> None:
        self.answer += self.read()

    def on_close(self, error: BaseException | None) -> None:
        self.error = error
        self.ended.release()

    def on_connect_fail(self, error: Exception) -> None:
        self.error = error
        self.ended.release()


def main() -> None:
    certificate, key = sys.argv[1:]
    ended = threading.Semaphore(0)
    visitors = [Visitor(ended), Visitor(ended)]
    with goev.Reactor() as reactor:
        reactor.start()
        plain = goev.Acceptor(reactor, "127.0.0.1:0", Site)
        secure = goev.Acceptor(reactor, "127.0.0.1:0", Site, tls=goev.tls.ServerContext(certificate, key))
        trusting = goev.tls.ClientContext(ca=certificate, server_name="localhost")
        connector = goev.Connector(reactor)
        connector.connect(f"127.0.0.1:{plain.address[1]}", visitors[0], timeout=PATIENCE)
        connector.connect(f"127.0.0.1:{secure.address[1]}", visitors[1], timeout=PATIENCE, tls=trusting)
        for _ in visitors:
            assert ended.acquire(timeout=PATIENCE), "no answer came"
    for visitor in visitors:
        assert visitor.error is None, visitor.error
        assert visitor.answer.startswith(b"HTTP/1.1 200 OK\r\n"), visitor.answer
        assert visitor.answer.endswith(BODY), visitor.answer
    print(f"CPython {platform.python_version()} {sysconfig.get_config_var('SOABI')}", goev.__file__, sep="\n")


if __name__ == "__main__":
    main()
