"""A directory served over HTTP: files by sendfile(2), with ranges and conditional requests, and an access log.

GET /path sends a file of the directory. Nothing outside of it is sent, whatever the path or a symbolic link says.
"""

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path

import goev


class Files(goev.http.Connection):
    root: Path

    def on_request(self, request: goev.http.Request) -> None:
        if request.method not in ("GET", "HEAD"):
            return request.respond(405, {"allow": "GET, HEAD"})
        try:
            path = (self.root / request.path.lstrip("/")).resolve()  # decoded already; resolves ".." and links
            if path.is_dir():
                path /= "index.html"
            if not path.is_relative_to(self.root):
                return request.respond(404)
            return request.respond_file(path, headers={"cache-control": "no-cache"})
        except PermissionError:
            return request.respond(403)
        except (OSError, ValueError):  # no such file, or a name that no file has
            return request.respond(404)

    def on_answered(self, request: goev.http.Request, status: int, bytes_sent: int, seconds: float) -> None:
        peer = "{}:{}".format(*self.remote_address[:2])
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        line = f'{now} {peer} "{request.method} {request.target}" {status} {bytes_sent} {seconds:.3f}\n'
        sys.stderr.write(line)  # in one call: without the interpreter lock two pollers may write at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--root", type=Path, default=Path(), help="the directory (default: the current one)")
    args = parser.parse_args()
    Files.root = args.root.resolve()
    with goev.Reactor() as reactor, suppress(KeyboardInterrupt):
        acceptor = goev.Acceptor(reactor, f"127.0.0.1:{args.port}", Files, idle_timeout=60)
        print("serving on {}:{}".format(*acceptor.address), flush=True)
        reactor.run()


if __name__ == "__main__":
    main()
