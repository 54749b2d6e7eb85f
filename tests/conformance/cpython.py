"""Runs CPython's own tests of asyncio on goev.asyncio.EventLoop, and writes their outcomes to docs/conformance.md.

Each module of test.test_asyncio runs twice, in processes of its own: on the loop of asyncio and on that of goev. Each
test that passes on the first has to pass on the second, or cpython_known.toml has to name it with the reason; else the
exit status is 1. For another interpreter than this one, goev is built and installed into target/asyncio. The tests of
one version take three minutes on two cores.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

import page

import goev

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = ROOT / "target" / "asyncio"
LIMIT = 900  # seconds that a module may take; the longest take a minute

DESCRIBE = """
import json, platform, sys
from importlib.util import find_spec
tests = find_spec("test") and find_spec("test.test_asyncio")
print(json.dumps([sys.executable, platform.python_version(), tests and tests.submodule_search_locations[0]]))
"""
ABSENT = ("test_windows_*", "test_proactor_*")  # of another system

KNOWN = tomllib.loads((HERE / "cpython_known.toml").read_text())["known"]


class CannotRun(Exception):
    """Something is missing or in the way; the text names it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pythons", nargs="+", metavar="PYTHON", help="interpreters (default: this one)")
    parser.add_argument("--modules", nargs="+", metavar="NAME", help="only these, as in test_streams; writes no page")
    parser.add_argument("--only-goev", action="store_true", help="not on asyncio's loop, to compare; writes no page")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="modules at a time (default: %(default)s)"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kinds = ["goev"] if args.only_goev else ["asyncio", "goev"]
    failures: list[str] = []
    try:
        for path in args.pythons or [sys.executable]:
            python = Python.at(path)
            version = Version(python, run(python, kinds, args.modules or python.modules(), args.jobs))
            if not args.modules and not args.only_goev:
                page.put(f"### CPython {python.minor}", version.report())
            failures += version.failures()
    except CannotRun as error:
        sys.exit(f"{parser.prog}: {error}")
    sys.exit("\n".join(failures) if failures else 0)


# The interpreters


@dataclass
class Python:
    """An interpreter with goev."""

    path: str
    version: str
    tests: Path

    @classmethod
    def at(cls, path: str) -> "Python":
        path, version, tests = json.loads(command(path, "-c", DESCRIBE))
        if tests is None:
            minor = version.rpartition(".")[0]
            raise CannotRun(f"{path} lacks its own tests (Debian: apt-get install libpython{minor}-testsuite)")
        return cls(path if path == sys.executable else install(path, version), version, Path(tests))

    @property
    def minor(self) -> str:
        return self.version.rpartition(".")[0]

    def modules(self) -> list[str]:
        names = sorted(path.stem for path in self.tests.glob("test_*.py"))
        return [name for name in names if not any(fnmatch(name, pattern) for pattern in ABSENT)]


def install(path: str, version: str) -> str:
    """Build goev for this interpreter, into an environment below target/; cargo keeps all that has not changed."""
    place = TARGET / version
    print(f"building goev for Python {version} in {place}", flush=True)
    shutil.rmtree(place / "dist", ignore_errors=True)  # wheels of earlier versions
    build = [Path(sys.executable).parent / "maturin", "build", "--release", "--locked", "--interpreter", path]
    build += ["--manifest-path", ROOT / "Cargo.toml", "--target-dir", place / "cargo", "--out", place / "dist"]
    if subprocess.run(build, check=False).returncode:
        raise CannotRun(f"goev cannot be built for {path}")
    [wheel] = (place / "dist").glob("*.whl")
    command(path, "-m", "venv", str(place / "venv"))
    python = str(place / "venv" / "bin" / "python")
    quiet = ["--quiet", "--disable-pip-version-check"]
    command(python, "-m", "pip", "install", *quiet, "--no-index", "--force-reinstall", str(wheel))
    return python


def command(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900)
    except OSError as error:
        raise CannotRun(f"{argv[0]}: {error.strerror}") from error
    if done.returncode:
        raise CannotRun(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


# Running them


@dataclass
class Outcomes:
    """The tests of one run: passed, failed, skipped, or begun if a test never ended; and what the loops did."""

    tests: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    loops: int = 0
    turns: int = 0

    @classmethod
    def read(cls, path: Path) -> "Outcomes":
        found = cls()
        for line in path.read_text().splitlines() if path.exists() else []:
            entry = json.loads(line)
            if "test" in entry:
                found.tests[entry["test"]], found.details[entry["test"]] = entry["outcome"], entry["detail"]
            else:
                found.loops, found.turns = entry["loops"], entry["turns"]
        return found

    def count(self, outcome: str) -> int:
        return list(self.tests.values()).count(outcome)


@dataclass
class Module:
    """The outcomes of one module by the kind of loop."""

    name: str
    of: dict[str, Outcomes] = field(default_factory=dict)
    unsteady: list[str] = field(default_factory=list)  # passed on goev's loop when they ran again

    def differences(self) -> list[str]:
        """Tests that do not pass on goev's loop, though they do on asyncio's; without that, those that fail."""
        stock, ours = self.of.get("asyncio", Outcomes()).tests, self.of["goev"].tests
        found = (name for name in {**stock, **ours} if differ(stock.get(name), ours.get(name, "missing")))
        return [name for name in found if name not in self.unsteady]


def differ(stock: str | None, ours: str) -> bool:
    return ours != "passed" and (stock == "passed" or (stock is None and ours != "skipped"))


def run(python: Python, kinds: list[str], names: list[str], jobs: int) -> list[Module]:
    modules = {name: Module(name) for name in names}
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(do, python, kind, name, [name]): (kind, name) for name in names for kind in kinds}
        for number, future in enumerate(as_completed(futures), 1):
            kind, name = futures[future]
            modules[name].of[kind] = future.result()
            counts = ", ".join(f"{n} {what}" for what, n in Counter(future.result().tests.values()).items())
            when = f"{time.monotonic() - began:4.0f} s, {number} of {len(futures)}"
            print(f"{when}: Python {python.version}, loop of {kind}, {name}: {counts}", flush=True)
    for module in modules.values():
        repeat(python, module)
    return list(modules.values())


def do(python: Python, kind: str, name: str, tests: list[str]) -> Outcomes:
    """Run tests in a process of its own, killed with all that they leave behind. A crash or a hang lacks outcomes."""
    folder = TARGET / "outcomes" / python.version / kind
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.unlink(missing_ok=True)
    argv = [python.path, "-X", "faulthandler", str(HERE / "cpython_child.py"), kind, str(path), *tests]
    with (folder / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
        )
    try:
        child.wait(LIMIT)
    except subprocess.TimeoutExpired:
        print(f"{name} on the loop of {kind} has not ended after {LIMIT} s", flush=True)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return Outcomes.read(path)


def repeat(python: Python, module: Module) -> None:
    """Run the tests that differ once more, alone on the machine: many measure time, and fail on a busy one."""
    if tests := [name for name in module.differences() if not reason(python, name) and "setUp" not in name]:
        again = do(python, "goev", f"{module.name}.again", tests)
        module.unsteady += [name for name in tests if again.tests.get(name) == "passed"]


# Reporting them


def reason(python: Python, test: str) -> str | None:
    """The reason that cpython_known.toml gives for a difference."""
    for entry in KNOWN:
        if python.minor in entry.get("versions", [python.minor]) and any(
            fnmatch(test, name) for name in entry["tests"]
        ):
            return entry["reason"]
    return None


@dataclass
class Version:
    python: Python
    modules: list[Module]

    def failures(self) -> list[str]:
        """Everything for which the run has failed, a line each."""
        return [*self.unexplained(), *self.outdated(), *self.idle()]

    def unexplained(self) -> Iterator[str]:
        for module in self.modules:
            for test in module.differences():
                if not reason(self.python, test):
                    ours = module.of["goev"]
                    detail = ours.details.get(test, "").strip().rpartition("\n")[2]
                    yield f"{self.python.version} {test}: {ours.tests.get(test, 'missing')} {detail}".strip()

    def outdated(self) -> Iterator[str]:
        for module in self.modules:
            different = module.differences()
            for test in module.of["goev"].tests:
                if reason(self.python, test) and test not in different:
                    yield f"{self.python.version} {test}: does not differ, but cpython_known.toml names it"

    def idle(self) -> Iterator[str]:
        """The proof that the tests made loops of goev's: as many as they make of asyncio's, and they turned."""
        for module in self.modules:
            ours, stock = module.of["goev"], module.of.get("asyncio")
            if stock and ours.loops != stock.loops:
                yield f"{self.python.version} {module.name}: {ours.loops} loops of goev, {stock.loops} of asyncio"
        if not sum(module.of["goev"].turns for module in self.modules):
            yield f"{self.python.version}: no loop of goev has turned"

    def report(self) -> str:
        columns = ["tests", "passed on asyncio's loop", "passed on goev's", "skipped on both", "loops", "turns"]
        table = [f"| module | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
        rows = [(module.name, cells(module)) for module in self.modules]
        rows.append(("all", [sum(column) for column in zip(*(row for _, row in rows), strict=True)]))
        table += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in rows]
        differences = [test for module in self.modules for test in module.differences()]
        told = [f"- {test}: {reason(self.python, test) or 'unexplained'}" for test in differences]
        verdict = ["Different:", "", *told] if told else ["Every test that passes on asyncio's loop passes on goev's."]
        if unsteady := [test for module in self.modules for test in module.unsteady]:
            verdict += ["", f"Passed when they ran again, alone: {', '.join(unsteady)}."]
        made = f"Python {self.python.version}, goev {goev.__version__}, {datetime.now(UTC):%Y-%m-%d}."
        return "\n".join([made, "", *table, "", *verdict])


def cells(module: Module) -> list[int]:
    stock, ours = module.of["asyncio"], module.of["goev"]
    passed = ours.count("passed") + len(module.unsteady)
    return [len(stock.tests), stock.count("passed"), passed, ours.count("skipped"), ours.loops, ours.turns]


if __name__ == "__main__":
    main()
