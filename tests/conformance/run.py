"""Runs the Autobahn test suite against goev.websocket, as server and as client, for docs/conformance.md.

The suite needs an installed Python 2.7: python2.7, or pyenv with one. It is installed into target/autobahn.
All connections use 127.0.0.1. All cases take about half an hour on two cores. Ends with 1 when a case is not passed.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import page

import goev

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = ROOT / "target" / "autobahn"
SUITE = TARGET / "venv" / "bin" / "python"
REQUIREMENTS = HERE / "requirements.txt"
VIRTUALENV = "virtualenv==20.21.1"  # the last version that makes environments for Python 2.7
ACCELERATOR = "wsaccel==0.6.2"  # the suite takes four times as long without it; needs a C compiler
SILENCE = 600.0  # seconds that a case may take; the suite itself ends the longest one after 480
PASSED = ("OK", "INFORMATIONAL")

# All listening sockets of the suite are bound to this machine only.
WSTEST = """
from autobahntestsuite import wstest
from twisted.internet import reactor
listen = reactor.listenTCP
reactor.listenTCP = lambda port, factory, backlog=50, interface="": listen(port, factory, backlog, "127.0.0.1")
wstest.run()
"""
LIST = """
import autobahn, autobahntestsuite, json
from autobahntestsuite.case import Cases, CaseCategories
ids = [case.__name__[len("Case"):].replace("_", ".") for case in Cases]
print(json.dumps({"ids": ids, "titles": CaseCategories, "version": autobahntestsuite.version}))
"""


HEADING = "## goev.websocket: the Autobahn test suite"
SECTION = """The results of the
[Autobahn test suite](https://pypi.org/project/autobahntestsuite/) {suite} for goev {goev}, on {date}
with Python {python}. `make conformance` runs it and writes this section.

A case is passed when its behavior and the end of its connection are both OK, or INFORMATIONAL where the suite
requires nothing. Others are FAILED, NON-STRICT, UNIMPLEMENTED, closed wrongly, or MISSING from the report.

{table}

{verdict}
"""


class CannotRun(Exception):
    """Something is missing or in the way; the text names it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", metavar="ID", help="only these cases or sections: 1 9.1 13.3.2")
    parser.add_argument("--side", choices=["server", "client"], help="which of the two goev is (default: both)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="suites at a time (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=120, help="minutes for all of it (default: %(default)s)")
    parser.add_argument(
        "--report", type=Path, help="file for the section (default: docs/conformance.md; none with --cases)"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        install()
        suite = Suite.installed()
        cases = suite.select(args.cases)
        sides = [args.side] if args.side else ["server", "client"]
        results = run(sides, cases, args.jobs, args.limit * 60)
    except CannotRun as error:
        sys.exit(f"{parser.prog}: {error}")
    report = suite.report(results)
    is_whole = not args.cases and not args.side
    path = args.report or (page.PAGE if is_whole else None)
    if path:
        page.put(HEADING, report, path)
    print(report if not path else f"wrote {path}")
    failures = {
        f"{side} {case}: {result}" for side in results for case, result in results[side].items() if result.failed
    }
    sys.exit("\n".join(["not passed:", *sorted(failures)]) if failures else 0)


# Installing the suite


def install() -> None:
    wanted = hashlib.sha256(f"{REQUIREMENTS.read_text()}{VIRTUALENV}{ACCELERATOR}".encode()).hexdigest()
    stamp = TARGET / "installed"
    if SUITE.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    python = python2()
    print(f"installing the suite for {python} into {TARGET}", flush=True)
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    tool = TARGET / "virtualenv"
    quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    command(sys.executable, "-m", "pip", "install", *quiet, "--target", str(tool), VIRTUALENV)
    options = ["--quiet", "--no-download", "--app-data", str(TARGET / "app-data"), "--python", python]
    command(sys.executable, "-m", "virtualenv", *options, str(TARGET / "venv"), path=tool)
    pip = [str(SUITE), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-python-version-warning"]
    command(*pip, "--no-deps", "--requirement", str(REQUIREMENTS))
    try:
        command(*pip, "--no-deps", ACCELERATOR)
    except CannotRun as error:
        print(f"without {ACCELERATOR}, so that it takes long: {error}", flush=True)
    stamp.write_text(wanted)


def python2() -> str:
    """The path of a Python 2.7. pyenv's python2.7 on the PATH needs PYENV_VERSION to choose a version."""
    versions = [os.environ.get("PYENV_VERSION", "")]
    if pyenv := shutil.which("pyenv"):
        listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False).stdout
        versions += sorted(re.findall(r"^2\.7\.\d+$", listed, re.MULTILINE), reverse=True)
    for version in versions:
        environment = {**os.environ, "PYENV_VERSION": version} if version else dict(os.environ)
        try:
            asked = ["python2.7", "-c", "import sys; print(sys.executable)"]
            found = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return found.stdout.strip()
    raise CannotRun("the Autobahn test suite needs Python 2.7: have python2.7 on the PATH, or `pyenv install 2.7.18`")


def environment(path: Path | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", **({"PYTHONPATH": str(path)} if path else {})}


def command(*argv: str, path: Path | None = None) -> str:
    done = subprocess.run(argv, env=environment(path), capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise CannotRun(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


# Running it


@dataclass
class Job:
    """Some cases of one section, with goev as server or as client."""

    side: str
    name: str
    cases: list[str]
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = TARGET / "reports" / self.side / self.name

    def begun(self) -> int:
        log = self.folder / "log"
        return log.read_text(errors="replace").count("Running test case ID") if log.exists() else 0

    def __str__(self) -> str:
        return f"{self.side} {self.name}: {self.begun()}/{len(self.cases)}"


@dataclass
class Result:
    behavior: str
    close: str

    @property
    def failed(self) -> bool:
        return self.behavior not in PASSED or self.close not in PASSED

    def __str__(self) -> str:
        return f"{self.behavior}, close {self.close}"


Results = dict[str, dict[str, Result]]


def run(sides: list[str], cases: list[str], jobs: int, limit: float) -> Results:
    shutil.rmtree(TARGET / "reports", ignore_errors=True)
    waiting = [Job(side, name, part) for name, part in parts(cases).items() for side in sides]
    running: list[Job] = []
    stopping = threading.Event()
    end = time.monotonic() + limit
    began = time.monotonic()
    with ExitStack() as stack:
        server, port = stack.enter_context(echo_server()) if "server" in sides else (None, 0)
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        stack.callback(stopping.set)  # before the stack waits for the pool
        futures = [pool.submit(do, job, port, running, stopping) for job in waiting]
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=max(0.0, min(15.0, end - time.monotonic())))
            for future in done:
                future.result()
            if server and server.poll() is not None:  # without the server no further case would have a result
                raise CannotRun(f"the server has ended with {server.returncode}")
            minutes = (time.monotonic() - began) / 60
            count = len(futures) - len(pending)
            print(f"{minutes:5.1f} min, {count} of {len(futures)} parts; {'; '.join(map(str, running))}", flush=True)
            if time.monotonic() > end:
                raise CannotRun(f"not done after {limit / 60:.0f} minutes")
    return {side: {case: result for job in waiting if job.side == side for case, result in read(job)} for side in sides}


def parts(cases: list[str]) -> dict[str, list[str]]:
    """The cases by section; long sections by subsection."""
    found: dict[str, list[str]] = {}
    for case in cases:
        words = case.split(".")
        found.setdefault(".".join(words[:2] if words[0] in ("9", "12", "13") else words[:1]), []).append(case)
    return found


def do(job: Job, port: int, running: list[Job], stopping: threading.Event) -> None:
    if stopping.is_set():
        return
    running.append(job)
    try:
        job.folder.mkdir(parents=True)
        (serve_suite if job.side == "client" else ask_suite)(job, port, stopping)
    finally:
        running.remove(job)


def ask_suite(job: Job, port: int, stopping: threading.Event) -> None:
    """The suite is the client."""
    spec = {"servers": [{"agent": "goev", "url": f"ws://127.0.0.1:{port}"}]}
    with suite(job, "fuzzingclient", spec) as process:
        attend(job, process, stopping)


def serve_suite(job: Job, _: int, stopping: threading.Event) -> None:
    """The suite is the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with suite(job, "fuzzingserver", {"url": f"ws://127.0.0.1:{port}"}):
        await_port(port)
        with program("echo_client.py", f"ws://127.0.0.1:{port}", "goev") as process:
            attend(job, process, stopping)


@contextmanager
def suite(job: Job, mode: str, spec: dict[str, object]):
    everywhere = {"outdir": str(job.folder), "cases": job.cases, "exclude-cases": [], "exclude-agent-cases": {}}
    (job.folder / "spec.json").write_text(json.dumps({**everywhere, **spec}))
    argv = [str(SUITE), "-c", WSTEST, "-m", mode, "-u", "0", "-s", str(job.folder / "spec.json")]
    with (job.folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, env=environment(), stdout=log, stderr=subprocess.STDOUT, cwd=job.folder)
        with ended(process):
            yield process


@contextmanager
def program(name: str, *arguments: str):
    argv = [sys.executable, "-X", "faulthandler", str(HERE / name), *arguments]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=None, text=True)
    with ended(process):
        yield process


@contextmanager
def echo_server():
    with program("echo_server.py") as process:
        port = process.stdout.readline()
        if not port:
            raise CannotRun("the server has not started")
        yield process, int(port)
        process.terminate()  # not SIGINT: background jobs of a shell may ignore it
        if process.wait(30) != 0:
            raise CannotRun(f"the server ended with {process.returncode} on SIGTERM")


@contextmanager
def ended(process: subprocess.Popen):
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def attend(job: Job, process: subprocess.Popen, stopping: threading.Event) -> None:
    """Wait for the end of a process that must make progress with its cases."""
    begun, since = 0, time.monotonic()
    while process.poll() is None:
        if stopping.wait(0.1):
            raise CannotRun("stopped")
        if job.begun() != begun:
            begun, since = job.begun(), time.monotonic()
        if time.monotonic() - since > SILENCE:
            raise CannotRun(f"{job}: nothing new in {SILENCE:.0f} seconds; see {job.folder / 'log'}")
    if process.returncode:
        raise CannotRun(f"{job}: ended with {process.returncode}; see {job.folder / 'log'}")


def await_port(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise CannotRun(f"the suite does not listen on port {port}") from None
            time.sleep(0.05)


def read(job: Job) -> list[tuple[str, Result]]:
    """The results that the suite reports; a case that is not in its report never ran."""
    index = job.folder / "index.json"
    reported = json.loads(index.read_text()).get("goev", {}) if index.exists() else {}
    missing = {"behavior": "MISSING", "behaviorClose": "MISSING"}
    found = ((case, reported.get(case, missing)) for case in job.cases)
    return [(case, Result(entry["behavior"], entry["behaviorClose"])) for case, entry in found]


# Reporting it


@dataclass
class Suite:
    ids: list[str]
    titles: dict[str, str]
    version: str

    @classmethod
    def installed(cls) -> "Suite":
        return cls(**json.loads(command(str(SUITE), "-c", LIST)))

    def select(self, wanted: list[str] | None) -> list[str]:
        if wanted is None:
            return self.ids
        chosen = {word: [case for case in self.ids if f"{case}.".startswith(f"{word}.")] for word in wanted}
        if unknown := [word for word, cases in chosen.items() if not cases]:
            raise CannotRun(f"no such case or section: {' '.join(unknown)}")
        return [case for case in self.ids if any(case in cases for cases in chosen.values())]

    def report(self, results: Results) -> str:
        sides = list(results)
        cases = list(results[sides[0]])
        sections = sorted({case.split(".")[0] for case in cases}, key=int)
        columns = [f"{side}: {what}" for side in sides for what in ("OK", "INFORMATIONAL", "other")]
        rows = [self.row(section, results) for section in [*sections, ""]]
        table = [
            "| section | | cases | " + " | ".join(columns) + " |",
            "|---|---|" + "---:|" * (1 + len(columns)),
            *rows,
        ]
        remarks = []
        for side in sides:
            told = [case for case, result in results[side].items() if result.behavior == "INFORMATIONAL"]
            if told:
                remarks.append(f"INFORMATIONAL for the {side}: {', '.join(told)}.")
        failed = [f"- {side} {case}: {r}" for side in sides for case, r in results[side].items() if r.failed]
        section = SECTION.format(
            suite=self.version,
            goev=goev.__version__,
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            python=sys.version.split()[0],
            table="\n".join(table),
            verdict="\n".join(["Not passed:", "", *failed]) if failed else "All cases are passed.",
        )
        return "\n".join([section, *remarks, ""]) if remarks else section

    def row(self, section: str, results: Results) -> str:
        """One line of the table; without a section, the sums."""
        cells: list[str] = []
        number = 0
        for of_side in results.values():
            chosen = [result for case, result in of_side.items() if section in ("", case.split(".")[0])]
            counts = Counter("other" if result.failed else result.behavior for result in chosen)
            cells += [str(counts[what]) for what in ("OK", "INFORMATIONAL", "other")]
            number = len(chosen)
        title = self.titles.get(section, "Misc") if section else "all"
        return f"| {section} | {title} | {number} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
