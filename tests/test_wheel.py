"""The wheel that `make wheel` built installs into an empty environment and serves there; so does the sdist."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVE = """
import socket, threading, goev, goev.errors

class Echo(goev.Connection):
    def on_read(self):
        self.write(self.read())

def visit(acceptor):
    def run():
        with socket.create_connection(acceptor.address, 10) as client:
            client.sendall(b"from the wheel")
            print(client.recv(100).decode())
        reactors[0].stop()
    threading.Thread(target=run).start()

reactors = [goev.Reactor()]
visit(goev.Acceptor(reactors[0], "127.0.0.1:0", Echo))
reactors[0].run()
print(goev.errors.codes()["GOEV102"])
print(goev.__file__)
"""


# The build of the source distribution, without the optimizations that take most of its time.
QUICK = {
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_DEBUG": "0",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
}


def run(*command: object) -> str:
    environment = {**os.environ, **QUICK}
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def serves_when_installed(package: Path, place: Path) -> None:
    run(sys.executable, "-m", "venv", place)
    run(place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", package)
    # -P: without the checkout on the path.
    said, explained, where = run(place / "bin" / "python", "-P", "-c", SERVE).splitlines()
    assert said == "from the wheel"
    assert explained == "The connection is closed, or not open yet."
    assert Path(where).is_relative_to(place)
    assert "py.typed" in {path.name for path in Path(where).parent.iterdir()}


@pytest.mark.timeout(120)
def test_the_wheel_serves_from_an_empty_environment(tmp_path):
    wheels = list((ROOT / "dist").glob("*.whl"))
    assert len(wheels) == 1, "`make wheel` builds it"
    serves_when_installed(wheels[0], tmp_path / "venv")


@pytest.mark.timeout(600)
def test_the_source_distribution_builds_and_serves(tmp_path):
    run(Path(sys.executable).parent / "maturin", "sdist", "--manifest-path", ROOT / "Cargo.toml", "--out", tmp_path)
    [source] = tmp_path.glob("*.tar.gz")
    serves_when_installed(source, tmp_path / "venv")
