"""The contents that a wheel and an sdist must have, and the libraries that they must not need.

Nothing is installed or run here. Each check raises ``Fault`` with the file, what was found, and what was expected.
"""

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

from matrix import Wheel

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LICENSE = (ROOT / "LICENSE").read_text()
# The files of an sdist beside the folders src, python and examples.
SOURCES = {"Cargo.toml", "Cargo.lock", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
EXTRAS = {"CHANGELOG.md", "rustfmt.toml"}
FOLDERS = ("src/", "python/goev/", "examples/")
JUNK = re.compile(r"(^|/)(__pycache__|target|\.venv)/|\.(so|pyc)$")
GLIBC = 17  # manylinux2014 is glibc 2.17
EXTENSION = re.compile(r"goev/_core\.(\S+)\.so")


class Fault(Exception):
    """A package is not as it has to be."""


def check_wheel(path: Path, wheel: Wheel | None = None) -> None:
    """The contents and the metadata of a wheel; of a ``Wheel`` of the release also its tags and its policy."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        info = f"goev-{PROJECT['version']}.dist-info"
        strays = {name for name in names if not name.startswith(("goev/", f"{info}/"))}
        _expect(path, "files outside of the package", strays, set())
        junk = {name for name in names if "__pycache__" in name or name.endswith((".rs", ".pyc", ".toml"))}
        _expect(path, "files that nobody imports", junk, set())
        described = {f"{info}/{name}" for name in ("licenses/LICENSE", "sboms/goev.cyclonedx.json")}
        wanted = {"goev/py.typed", "goev/_core.pyi", "goev/errors.md"} | _modules() | described
        _expect(path, "files that are missing", wanted - names, set())
        extensions = [found[1] for found in map(EXTENSION.fullmatch, names) if found]
        _expect(path, "extension modules", len(extensions), 1)
        _check_metadata(path, _message(archive, f"{info}/METADATA"))
        _expect(path, "licence", archive.read(f"{info}/licenses/LICENSE").decode(), LICENSE)
        _check_tags(path, _message(archive, f"{info}/WHEEL"))
        _check_record(path, archive, f"{info}/RECORD")
    if wheel is not None:
        _expect(path, "extension module", extensions[0], wheel.abi)
        _expect(path, "tags of Python", path.name.split("-")[2:4], list(wheel.tags))
        _check_policy(path, wheel)


def check_sdist(path: Path) -> None:
    """An sdist holds what a build reads, and the licence; no tests, no benchmarks' results, no tools."""
    with tarfile.open(path) as archive:
        top = f"goev-{PROJECT['version']}/"
        names = {member.name for member in archive if member.isfile()}
        _expect(path, "files outside of its folder", {name for name in names if not name.startswith(top)}, set())
        files = {name.removeprefix(top) for name in names}
        strays = {name for name in files - SOURCES - EXTRAS if not name.startswith(FOLDERS) or JUNK.search(name)}
        _expect(path, "files that do not belong there", strays, set())
        needed = SOURCES | {f"python/{name}" for name in {"goev/errors.md", *_modules()}} | _rust()
        _expect(path, "files that are missing", needed - files, set())
        _expect(path, "licence", _text(archive, f"{top}LICENSE"), LICENSE)
        _check_metadata(path, Parser().parsestr(_text(archive, f"{top}PKG-INFO")))


def _modules() -> set[str]:
    """The Python files of the package, as a wheel names them."""
    folder = ROOT / "python"
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py") if "__pycache__" not in path.parts}


def _rust() -> set[str]:
    return {str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.rs")}


def _check_metadata(path: Path, metadata: Message) -> None:
    for field, value in {
        "Name": PROJECT["name"],
        "Version": PROJECT["version"],
        "Requires-Python": PROJECT["requires-python"],
        "License-Expression": PROJECT["license"],
        "License-File": "LICENSE",
        "Summary": PROJECT["description"],
    }.items():
        _expect(path, field, metadata[field], value)
    required = metadata.get_all("Requires-Dist", [])
    _expect(path, "requirements without an extra", [name for name in required if "extra ==" not in name], [])
    _expect(path, "extras", set(metadata.get_all("Provides-Extra", [])), set(PROJECT.get("optional-dependencies", {})))


def _check_tags(path: Path, wheel: Message) -> None:
    """The tags within are those of the file name; a platform may have several names."""
    python, abi, platforms = path.stem.split("-")[2:]
    tags = {f"{python}-{abi}-{platform}" for platform in platforms.split(".")}
    _expect(path, "tags", set(wheel.get_all("Tag", [])), tags)
    _expect(path, "Root-Is-Purelib", wheel["Root-Is-Purelib"], "false")


def _check_record(path: Path, archive: zipfile.ZipFile, record: str) -> None:
    """RECORD lists every file with its hash and size, as installers check them."""
    rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(archive.read(record).decode()))}
    _expect(path, "files of RECORD", set(rows), set(archive.namelist()))
    for name, (digest, size) in rows.items():
        if name != record:
            data = archive.read(name)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            _expect(path, f"hash and size of {name}", (digest, size), (f"sha256={hashed}", str(len(data))))


def _check_policy(path: Path, wheel: Wheel) -> None:
    """auditwheel finds no newer symbol and no other library than the platform tag allows."""
    command = [sys.executable, "-m", "auditwheel", "show", "--json", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        raise Fault(f"{path.name}: auditwheel failed: {shown.stderr or shown.stdout}")
    found = json.loads(shown.stdout)
    if wheel.library == "musl":
        _check_musl(path, found, f"musllinux_1_2_{wheel.processor}")
        return
    tag = found["overall_tag"]
    minor = re.fullmatch(rf"manylinux_2_(\d+)_{wheel.processor}", tag)
    if minor is None or int(minor[1]) > GLIBC:
        raise Fault(f"{path.name}: its policy is {tag}, and {wheel.platform} was asked for")


def _check_musl(path: Path, found: dict[str, Any], tag: str) -> None:
    """The symbols fit, and the only library is musl.

    auditwheel knows musl as ``libc.musl-x86_64.so.1``, its name in Alpine. zig writes ``libc.so``, the name that musl
    gives itself. The loader of musl takes each name that begins with ``libc.`` for itself (``ldso/dynlink.c``).
    """
    _expect(path, "policy of the symbols", found["sym_tag"], tag)
    upgrade = found["policy_upgrades"].get(tag, {"libs_to_eliminate": []})
    _expect(path, "libraries", [name for name in upgrade["libs_to_eliminate"] if name != "libc.so"], [])


def _message(archive: zipfile.ZipFile, name: str) -> Message:
    return Parser().parsestr(archive.read(name).decode())


def _text(archive: tarfile.TarFile, name: str) -> str:
    member = archive.extractfile(name)
    assert member is not None
    return member.read().decode()


def _expect(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Fault(f"{path.name}: {what}: {found!r} instead of {expected!r}")
