"""The virtual environment of the benchmarks, ``benches/.venv``: made at its first use, with pinned packages."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from harness import BENCHES, Unavailable

VENV = BENCHES / ".venv"
PYTHON = VENV / "bin" / "python"


def enter() -> None:
    """Replaces this process by the environment's Python, unless it runs in it already."""
    if Path(sys.prefix) == VENV:
        return
    if not PYTHON.exists():
        print("making benches/.venv", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    os.execv(PYTHON, [str(PYTHON), *sys.argv])


def require(package: str) -> None:
    """Installs one package of requirements.txt, unless this version is installed already."""
    wanted = requirement(package)
    if wanted == f"{package}=={_installed_version(package)}":
        return
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode != 0:
        raise Unavailable(f"pip could not install {wanted}", result.stderr)


def requirement(package: str) -> str:
    """The line of requirements.txt that names the package."""
    lines = (BENCHES / "requirements.txt").read_text().split()
    return next(line for line in lines if line.partition("==")[0] == package)


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
