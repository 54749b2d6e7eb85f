"""``examples/files.py``: the files of a directory and nothing outside of it, and a log line for each answer."""

import os
import re
import subprocess
from contextlib import contextmanager

import pytest

from support import ROOT, Child, Client, need

EXAMPLE = ROOT / "examples" / "files.py"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "public"
    (folder / "sub").mkdir(parents=True)
    (folder / "a b.txt").write_bytes(b"0123456789")
    (folder / "index.html").write_bytes(b"<p>index")
    (tmp_path / "secret").write_bytes(b"secret")
    os.symlink(tmp_path / "secret", folder / "link")
    return folder


@contextmanager
def running(root):
    with Child(str(EXAMPLE), "--port", "0", "--root", str(root)) as child:
        port = int(re.search(r":(\d+)", child.line())[1])
        yield child, port
        child.interrupt()
        assert child.end() == 0


def asked(port: int, target: str, *fields: str, method: str = "GET") -> tuple[str, bytes]:
    """The status and the body of an answer."""
    with Client(("127.0.0.1", port)) as client:
        lines = [f"{method} {target} HTTP/1.1", "Host: test", "Connection: close", *fields, "", ""]
        client.send("\r\n".join(lines).encode())
        head, _, body = client.receive_all().partition(b"\r\n\r\n")
        return head.split(b" ", 2)[1].decode(), body


def test_it_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 80


def test_it_serves_files_and_nothing_else(root):
    with running(root) as (child, port):
        for target, status, body in [
            ("/a%20b.txt", "200", b"0123456789"),
            ("/", "200", b"<p>index"),
            ("/sub", "404", b""),
            ("/missing", "404", b""),
            ("/%00", "404", b""),
            ("/link", "404", b""),
            ("/../secret", "404", b""),
            ("/%2e%2e/secret", "404", b""),
            ("//etc/passwd", "404", b""),
            ("/" + "x" * 1000, "404", b""),
        ]:
            assert asked(port, target) == (status, body), target
        assert asked(port, "/a%20b.txt", "Range: bytes=-3") == ("206", b"789")
        assert asked(port, "/a%20b.txt", method="HEAD") == ("200", b"")
        assert asked(port, "/a%20b.txt", method="DELETE")[0] == "405"
    assert len(re.findall(r'"GET /a%20b\.txt" 200 \d+ \d\.\d{3}\n', child.errors)) == 1
    assert len(child.errors.splitlines()) == 13


def test_curl_resumes_a_download(root, tmp_path):
    curl = need("curl")
    (root / "big").write_bytes(bytes(range(256)) * 4000)
    part = tmp_path / "part"
    part.write_bytes((bytes(range(256)) * 4000)[:300_001])
    with running(root) as (_, port):
        subprocess.run(
            [curl, "-sS", "--max-time", "20", "-C", "-", "-o", str(part), f"http://127.0.0.1:{port}/big"], check=True
        )
    assert part.read_bytes() == (root / "big").read_bytes()
