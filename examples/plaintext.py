"""The plaintext test of TechEmpower's benchmarks: GET /plaintext answers "Hello, World!".

Requests may be cut anywhere or pipelined. The Date header is made once a second by a repeating timer, not per request.
"""

import argparse
from contextlib import suppress
from email.utils import formatdate

import goev

MAX_HEAD = 8192  # bytes of request line and headers
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
hello = b""  # the whole answer, made anew each second


def refresh_date() -> None:
    global hello
    date = formatdate(usegmt=True).encode()
    hello = (
        b"HTTP/1.1 200 OK\r\nServer: goev\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nDate: %b\r\n\r\n"
        b"Hello, World!" % date
    )


def parse(head: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Request target and headers of a head; ``ValueError`` unless it is a GET without a body (RFC 9112)."""
    request_line, *lines = head[:-4].split(b"\r\n")
    method, target, version = request_line.split(b" ")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.strip() != name:
            raise ValueError("malformed header")
        headers[name.lower()] = value.strip()
    framed = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    if method != b"GET" or version not in (b"HTTP/1.1", b"HTTP/1.0") or framed or b"host" not in headers:
        raise ValueError("not a GET of HTTP/1.1")
    return target, headers


class Plaintext(goev.Connection):
    def on_read(self) -> bool | None:
        try:
            while head := self.read_until(b"\r\n\r\n", MAX_HEAD):
                target, headers = parse(head)
                self.write(hello if target in (b"/plaintext", b"/") else NOT_FOUND)
                if headers.get(b"connection", b"").lower() == b"close":
                    return False
        except (ValueError, goev.InputOverflow):
            self.write(BAD_REQUEST)
            return False
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--for", dest="seconds", type=float, help="stop after so many seconds (default: on Ctrl-C)")
    args = parser.parse_args()
    reactor = goev.Reactor()
    acceptor = goev.Acceptor(reactor, f":{args.port}", Plaintext)
    reactor.schedule(0, refresh_date, every=1)
    if args.seconds is not None:
        reactor.schedule(args.seconds, reactor.stop)
    port = acceptor.address[1]
    with suppress(KeyboardInterrupt):
        print(f"serving; try: curl -i http://127.0.0.1:{port}/plaintext   (Ctrl-C ends it)", flush=True)
        reactor.run()


if __name__ == "__main__":
    main()
