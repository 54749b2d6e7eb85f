"""The machine and the versions of the measurement."""

import os
import platform
import re
import shutil
import ssl
import subprocess
from importlib import metadata
from pathlib import Path

from harness import BENCHES, REPO
from harness.programs import find_nats, find_nginx, find_postgres

CODE = ("src", "python", "benches/peers", "examples", "Cargo.lock")  # the parts of the repository that are measured


def describe(goev_python: Path) -> dict[str, str]:
    """Names and values as the report shows them; a program that is not installed is left out."""
    versions = {
        "CPU": _cpu(),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Python of goev": _output(goev_python, "-c", "import platform; print(platform.python_version())"),
        "goev": _goev(goev_python),
        "Rust": _output("rustc", "--version").removeprefix("rustc "),
        "Go": _output("go", "version").removeprefix("go version go"),
        "wrk": _output("wrk", "--version").removeprefix("wrk ").partition(" [")[0],
        "nginx": _nginx(),
        "uvloop": _package("uvloop"),
        "aiofastnet": _package("aiofastnet"),
        "OpenSSL of Python": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
        "rloop": _package("rloop"),
        "granian": _package("granian"),
        "socketify": _package("socketify"),
        "picows": _package("picows"),
        "websockets": _package("websockets"),
        "uvicorn": _package("uvicorn"),
        "httptools": _package("httptools"),
        "gunicorn": _package("gunicorn"),
        "Starlette": _package("starlette"),
        "redis (Python)": _package("redis"),
        "asyncpg": _package("asyncpg"),
        "Redis": _output("redis-server", "--version").removeprefix("Redis server v=").partition(" ")[0],
        "nats-py": _package("nats-py"),
        "NATS": _output(find_nats() or "nats-server", "--version").removeprefix("nats-server: v"),
        "PostgreSQL": _output(f"{find_postgres()}/postgres", "--version").removeprefix("postgres (PostgreSQL) "),
        "Go goev": _go_module("goev", "github.com/shaovie/goev"),
        "gnet": _go_module("gnet", "github.com/panjf2000/gnet/v2"),
        "wildcat": _go_module("gnet", "github.com/evanphx/wildcat"),
    }
    return {name: version for name, version in versions.items() if version}


def _goev(python: Path) -> str:
    version = _output(python, "-c", "import importlib.metadata as m; print(m.version('goev'))")
    is_trained = (python.parent.parent / "trained").exists()
    return f"{version}, compiled with a profile as its wheels are (`make trained`)" if is_trained else version


def commit() -> str:
    """The commit that was measured, marked when the work tree differs from it."""
    return _output("git", "-C", REPO, "describe", "--always", "--dirty=, with changes", "--exclude=*") or "unknown"


def changes_since(commit: str) -> int | None:
    """How many commits have changed the measured code since this one; ``None`` for a commit that git does not know."""
    start = commit.partition(",")[0]  # without the mark of a work tree that differed
    count = _output("git", "-C", REPO, "rev-list", "--count", f"{start}..HEAD", "--", *CODE)
    return int(count) if count else None


def _cpu() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    model = found.group(1) if found else platform.machine()
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _nginx() -> str:
    """The version of nginx, which it prints on standard error."""
    program = find_nginx()
    if program is None:
        return ""
    result = subprocess.run([program, "-v"], check=False, capture_output=True, text=True)
    return result.stderr.strip().partition("nginx/")[2]


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _go_module(folder: str, module: str) -> str:
    text = (BENCHES / "peers" / "go" / folder / "go.mod").read_text()
    found = re.search(rf"{re.escape(module)} (\S+)", text)
    return found.group(1) if found else ""


def _output(program: str | Path, *arguments: str | Path) -> str:
    """The first line that a program prints, or nothing."""
    if shutil.which(program) is None:
        return ""
    result = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
    return result.stdout.partition("\n")[0]
