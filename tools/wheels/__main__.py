"""Builds the wheels and the sdist of a release into wheelhouse/, audits them, and serves from each that can run here.

A package that was built from the same sources is not built again: an interrupted run goes on where it was.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import hosts
import training
from audit import PROJECT, ROOT, Fault, check_sdist, check_wheel
from matrix import LIBRARIES, PROCESSORS, PYTHONS, Wheel, wheels

BUILT_FROM = (
    "src",
    "python",
    "Cargo.toml",
    "Cargo.lock",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "examples",
)
TARGETS = ROOT / "target" / "wheels"


@dataclass
class Report:
    """The lines of the summary, and whether one of them is a failure."""

    lines: list[str] = field(default_factory=list)
    failed: bool = False

    def note(self, name: str, words: str) -> None:
        self.lines.append(f"{name:45} {words}")

    def tried(self, name: str, work: Callable[[], str]) -> None:
        """Note what the work says, or the fault that it raises."""
        begin = time.monotonic()
        try:
            words = work()
        except Fault as fault:
            self.failed = True
            words = f"FAILED: {str(fault).splitlines()[0]}"
            print(fault, file=sys.stderr)
        print(f"    {words} ({time.monotonic() - begin:.0f} s)", flush=True)
        self.note(name, words)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/wheels", description=__doc__)
    for name, values in (("python", PYTHONS), ("library", tuple(LIBRARIES)), ("processor", PROCESSORS)):
        parser.add_argument(
            f"--{name}", action="append", choices=values, help="only this one, may be repeated (default: all)"
        )
    parser.add_argument("--interpreter", action="append", default=[], help="a Python to serve by, besides those found")
    parser.add_argument("--debian", action="store_true", help="serve by Debian's Pythons too, from its packages")
    parser.add_argument("--no-sdist", action="store_true", help="wheels only")
    parser.add_argument("--no-build", action="store_true", help="audit and serve what is there")
    parser.add_argument("--list", action="store_true", help="list the wheels, and end")
    parser.add_argument("--out", type=Path, default=ROOT / "wheelhouse", help="instead of wheelhouse/")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    chosen = list(
        wheels(arguments.python or PYTHONS, arguments.library or LIBRARIES, arguments.processor or PROCESSORS)
    )
    if arguments.list:
        print("\n".join(map(str, chosen)))
        return 0
    out: Path = arguments.out.resolve()
    prepare(out, keep=arguments.no_build)
    report = Report()
    if not arguments.no_sdist:
        print("sdist", flush=True)
        report.tried("sdist", lambda: sdist(out, build=not arguments.no_build))
    for number, wheel in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {wheel}", flush=True)
        report.tried(str(wheel), partial(one, wheel, out, arguments))
    print("", *report.lines, "", sep="\n")
    print(f"FAILED, packages in {out}" if report.failed else f"all is well, packages in {out}")
    return 1 if report.failed else 0


def prepare(out: Path, *, keep: bool) -> None:
    """Clear the folder if it has packages of other sources."""
    digest = sources()
    stamp = out / ".sources"
    if not keep and out.exists() and (not stamp.exists() or stamp.read_text() != digest):
        for path in [*out.glob("goev-*.whl"), *out.glob("goev-*.tar.gz")]:
            path.unlink()
    out.mkdir(exist_ok=True, parents=True)
    if not keep:
        stamp.write_text(digest)


def sources() -> str:
    """A hash over everything that a package is made from."""
    digest = hashlib.sha256()
    for name in BUILT_FROM:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix not in (".so", ".pyc"):
                digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def one(wheel: Wheel, out: Path, arguments: argparse.Namespace) -> str:
    """Build a wheel unless it is there, audit it, serve from it."""
    path = wheel.file(out, PROJECT["version"])
    if path is None:
        if arguments.no_build:
            raise Fault(f"{wheel} is not in {out}")
        path = build(wheel, out)
    check_wheel(path, wheel)
    size = f"{path.stat().st_size / 1e6:.1f} MB, audited"
    with tempfile.TemporaryDirectory() as folder:
        try:
            said = host_of(wheel, arguments).serve(path, wheel.python, Path(folder))
            return f"{size}, served: {said}"
        except LookupError as reason:
            return f"{size}, {musl(wheel, path, Path(folder))}not served: {reason}"


def host_of(wheel: Wheel, arguments: argparse.Namespace) -> hosts.Host:
    """An interpreter that loads the wheel. Raises ``LookupError`` when there is none."""
    here = hosts.found(tuple(arguments.interpreter))
    if wheel.abi in here:
        return here[wheel.abi]
    if not arguments.debian or wheel.library == "musl":
        raise LookupError(f"no {wheel.abi} is here")
    return hosts.debian(wheel.python, wheel.processor, TARGETS / "debian")


def musl(wheel: Wheel, path: Path, folder: Path) -> str:
    """Without an interpreter for musl, its loader at least says whether the wheel finds its symbols."""
    if wheel.library != "musl":
        return ""
    with zipfile.ZipFile(path) as archive:
        extension = archive.extract(f"goev/_core.{wheel.abi}.so", folder)
    try:
        hosts.bound_by_musl(wheel, Path(extension), TARGETS / "debian")
    except LookupError:
        return ""
    return "symbols bound by musl, "


def build(wheel: Wheel, out: Path) -> Path:
    """By maturin, with zig as the compiler and linker: it knows the symbols of each version of each C library."""
    _have_target(wheel.target)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    here = Wheel(f"{sys.version_info.major}.{sys.version_info.minor}", "gnu", os.uname().machine)
    profile = TARGETS / f"{wheel.target}-{sources()[:16]}.profdata"
    if wheel.target == here.target:
        if not profile.exists():
            training.trained(_counting(here), profile, environment)
        environment.update(training.flags(f"-Cprofile-use={profile}"))
    training.run([*_command(wheel), "--out", str(out)], environment)
    path = wheel.file(out, PROJECT["version"])
    if path is None:
        raise Fault(f"maturin built no {wheel}, but {[path.name for path in out.glob('*.whl')]}")
    return path


def _command(wheel: Wheel) -> list[str]:
    command = ["maturin", "build", "--release", "--locked", "--strip", "--zig", "--target", wheel.target]
    return [*command, "--compatibility", LIBRARIES[wheel.library], "--interpreter", f"python{wheel.python}"]


def _counting(wheel: Wheel) -> list[str]:
    """The build of a wheel that counts, by the machine's linker: zig's does not link the runtime of the counts."""
    command = ["maturin", "build", "--release", "--locked", "--target", wheel.target, "--compatibility", "off"]
    return [*command, "--interpreter", sys.executable]


def sdist(out: Path, *, build: bool) -> str:
    """Make the sdist, look into it, and install from it into an empty environment, which compiles all."""
    path = out / f"goev-{PROJECT['version']}.tar.gz"
    if build and not path.exists():
        training.run([str(Path(sys.executable).with_name("maturin")), "sdist", "--out", str(out)], dict(os.environ))
    check_sdist(path)
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CARGO_TARGET_DIR"] = str(TARGETS / "sdist")  # kept, so that a second run compiles less
        said = hosts.Host((sys.executable,), installs=True).serve(path, "", Path(folder))
    return f"{size}, installed, served: {said}"


def _have_target(target: str) -> None:
    """Rust's standard library for the target, by rustup where that is the one who installs Rust."""
    if shutil.which("rustup") is not None:
        training.run(["rustup", "target", "add", target], dict(os.environ))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
