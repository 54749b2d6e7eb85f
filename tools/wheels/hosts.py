"""The interpreters that a wheel is tried by: those of this machine, and Debian's for other versions and processors."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audit import Fault
from matrix import PYTHONS, Wheel

SERVED = Path(__file__).with_name("served.py")
ASK = "import sysconfig; print(sysconfig.get_config_var('SOABI'))"
PATIENCE = 900.0  # seconds for one command
# With an index, because an sdist needs maturin.
PIP = ("install", "--quiet", "--disable-pip-version-check", "--no-deps")
PYTHON_SYMBOL = re.compile(r"^Error relocating \S+: _?Py\w+: symbol not found$")
# The suite of Debian that has the version; none has 3.12 or free threading.
SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "forky"}
DEBIAN = {"x86_64": ("amd64", "ld-linux-x86-64.so.2"), "aarch64": ("arm64", "ld-linux-aarch64.so.1")}


@dataclass(frozen=True)
class Host:
    """An interpreter, by the command that runs it. ``installs`` says whether it makes virtual environments."""

    command: tuple[str, ...]
    installs: bool

    def serve(self, wheel: Path, version: str, folder: Path) -> str:
        """Install the wheel into an empty place in ``folder``, serve and ask there; the words of the interpreter."""
        if self.installs:
            _run([*self.command, "-m", "venv", str(folder / "venv")])
            python = str(folder / "venv" / "bin" / "python")
            _run([python, "-m", "pip", *PIP, str(wheel)])
            command, place = [python, "-P"], folder / "venv"
        else:
            place = folder / "packages"
            _run([sys.executable, "-m", "pip", *PIP, *_unpacking(wheel, version), "--target", str(place), str(wheel)])
            command = [*self.command, "-P"]
        environment = {**os.environ, "PYTHONPATH": "" if self.installs else str(place)}
        said, file = _run([*command, str(SERVED), *_certificate(folder)], environment).splitlines()
        if not Path(file).is_relative_to(place):
            raise Fault(f"{wheel.name}: {file} was served from, not the wheel")
        return said


def _unpacking(wheel: Path, version: str) -> list[str]:
    """The options by which pip installs a wheel for another interpreter; pip checks the tags that it is given."""
    _, abi, platforms = wheel.stem.split("-")[2:]
    platform = [part for name in platforms.split(".") for part in ("--platform", name)]
    return ["--python-version", version.rstrip("t"), "--abi", abi, *platform]


@cache
def found(extra: tuple[str, ...]) -> dict[str, Host]:
    """The interpreters of this machine by their ABI: given ones first, then those in the PATH and of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = [str(path) for python in PYTHONS for path in sorted(pyenv.glob(f"*/bin/python{python}"))]
    hosts: dict[str, Host] = {}
    for name in (*extra, sys.executable, *(f"python{python}" for python in PYTHONS), *installed):
        abi = _abi(name)
        if abi is None and name in extra:
            raise Fault(f"{name} is no CPython that runs here")
        if abi is not None and abi not in hosts:
            hosts[abi] = Host((name,), installs=_has_pip(name))
    return hosts


@cache
def debian(version: str, processor: str, folder: Path) -> Host:
    """Debian's interpreter, unpacked into ``folder``; run by qemu when it is for another processor."""
    suite = SUITES.get(version)
    if suite is None:
        raise LookupError(f"Debian has no CPython {version}")
    architecture, loader = DEBIAN[processor]
    place = folder / f"{suite}-{architecture}"
    python = place / "usr" / "bin" / f"python{version}"
    if not python.exists():
        if shutil.which("mmdebstrap") is None:
            raise LookupError("mmdebstrap is not installed (Debian and Ubuntu: apt-get install mmdebstrap)")
        shutil.rmtree(place, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        packages = f"python{version}-minimal,libpython{version}-stdlib,musl"
        # A mirror may lag behind: the dates of its lists do not matter here, their signatures do.
        options = ["--variant=extract", f"--architectures={architecture}", f"--include={packages}"]
        _run(["mmdebstrap", *options, '--aptopt=Acquire::Check-Valid-Until "false"', suite, str(place)])
    return Host((*emulator(processor), *_loaded(place, processor, loader), str(python)), installs=False)


def emulator(processor: str) -> tuple[str, ...]:
    """The command in front of a program of that processor."""
    if processor == os.uname().machine:
        return ()
    program = f"qemu-{processor}"
    if shutil.which(program) is None:
        raise LookupError(f"{program} is not installed (Debian and Ubuntu: apt-get install qemu-user)")
    return (program,)


def bound_by_musl(wheel: Wheel, extension: Path, folder: Path) -> None:
    """Let musl's own loader resolve every symbol of an extension; only those of CPython may be missing."""
    loader = next(folder.glob(f"*/usr/lib/{wheel.processor}-linux-musl/libc.so"), None)
    if loader is None:
        raise LookupError(f"no musl for {wheel.processor} is here (see --debian)")
    command = [*emulator(wheel.processor), str(loader), "--list", str(extension)]
    bound = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    complaints = [line for line in (bound.stdout + bound.stderr).splitlines() if line.startswith("Error ")]
    if not any(PYTHON_SYMBOL.search(line) for line in complaints):
        raise Fault(f"{extension.name}: musl's loader did not come to the symbols: {bound.stdout + bound.stderr!r}")
    others = [line for line in complaints if not PYTHON_SYMBOL.search(line)]
    if others:
        raise Fault(f"{extension.name}: {others!r}")


def _loaded(place: Path, processor: str, loader: str) -> tuple[str, ...]:
    """The root's own loader and libraries: the C library of the suite may be newer than the machine's."""
    program = next(place.glob(f"**/{processor}-linux-gnu/{loader}"))
    return (str(program), "--library-path", str(program.parent))


def _abi(command: str) -> str | None:
    """pyenv has commands of versions that are not chosen: they are there and fail."""
    if shutil.which(command) is None:
        return None
    asked = subprocess.run([command, "-c", ASK], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None


def _has_pip(command: str) -> bool:
    asked = subprocess.run([command, "-c", "import ensurepip"], capture_output=True, check=False)
    return asked.returncode == 0


def _certificate(folder: Path) -> list[str]:
    """A certificate for localhost and its key, in files."""
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    _run(["openssl", "req", "-x509", *kind, *subject, "-keyout", key, "-out", certificate])
    return [certificate, key]


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
        check=False,
        cwd=tempfile.gettempdir(),
    )
    if done.returncode != 0:
        raise Fault(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
