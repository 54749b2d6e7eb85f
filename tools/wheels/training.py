"""The profile of goev at work, by which the compiler learns which ways through the code are the frequent ones.

A wheel that counts is built and serves what ``benches/training.py`` asks. The compiler uses the counts in every later
build for the same target, whatever its Python. Run as a program, this builds goev into the environment of its Python.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from audit import ROOT, Fault

TARGETS = ROOT / "target" / "trained"
TRAINING = ROOT / "benches" / "training.py"
TAIL = 30  # lines of a command that failed


def trained(build: list[str], profile: Path, environment: dict[str, str]) -> None:
    """Write the profile of a wheel for this Python, which ``build`` builds. Takes the time of a wheel from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        counts, python = Path(folder) / "counts", Path(folder) / "venv" / "bin" / "python"
        run([*build, "--out", folder], {**environment, **flags(f"-Cprofile-generate={counts}")})
        run([sys.executable, "-m", "venv", folder + "/venv"], environment)
        wheels = [str(wheel) for wheel in Path(folder).glob("*.whl")]
        run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", *wheels], environment)
        run([str(python), str(TRAINING)], environment)
        profile.parent.mkdir(parents=True, exist_ok=True)
        run([_merger(environment), "merge", "--sparse", "--output", str(profile), str(counts)], environment)


def flags(flag: str) -> dict[str, str]:
    """The environment in which cargo gives a flag to every crate."""
    return {"RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} {flag}".strip()}


def run(command: list[str], environment: dict[str, str]) -> str:
    """The output of a command. Raises ``Fault`` with the end of it if the command fails."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise Fault("\n".join([f"{' '.join(command)} failed:", *done.stdout.splitlines()[-TAIL:]]))
    return done.stdout


def _merger(environment: dict[str, str]) -> str:
    """The ``llvm-profdata`` of this Rust, by rustup where that is the one who installs Rust."""
    if shutil.which("rustup") is not None:
        run(["rustup", "component", "add", "llvm-tools"], environment)
    tools = Path(run(["rustc", "--print", "target-libdir"], environment).strip()).parent / "bin"
    return str(tools / "llvm-profdata")


def main() -> None:
    maturin = str(Path(sys.executable).with_name("maturin"))
    environment, profile = {**os.environ, "CARGO_TARGET_DIR": str(TARGETS)}, TARGETS / "here.profdata"
    trained([maturin, "build", "--release", "--locked", "--interpreter", sys.executable], profile, environment)
    run([maturin, "develop", "--release", "--locked"], {**environment, **flags(f"-Cprofile-use={profile}")})


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(str(fault))
