"""The programs: installed, built or found at their first use. A program that fails is skipped by name."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from harness import BENCHES, REPO, Unavailable, venv

PEERS = BENCHES / "peers"
BUILD = BENCHES / ".build"
EXAMPLES = REPO / "examples"
NO_LIMIT = "1000000000000"  # bytes per second: download.py never waits

Command = list[str]


def find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def find_nats() -> str | None:
    return shutil.which("nats-server", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs, which Debian keeps by version outside of the PATH."""
    folders = [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    found = shutil.which("postgres", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *folders]))
    return Path(found).resolve().parent if found else None


class Programs:
    """The command line of every program, by name."""

    def __init__(self, goev_python: Path) -> None:
        self._goev_python = goev_python
        self._recipes: dict[str, Callable[[], Command]] = {
            "goev": lambda: self._goev("goev_peer.py"),
            "goev timers": lambda: [*self._goev("timers_peer.py"), "--loop", "goev"],
            "goev pool": lambda: self._goev("pool_peer.py"),
            "goev relay": lambda: self._goev(EXAMPLES / "proxy.py"),
            "goev messages": lambda: self._goev("messages_peer.py"),
            "goev http": lambda: self._goev("http_peer.py"),
            "goev websocket": lambda: self._goev("websocket_peer.py"),
            "granian http": lambda: _python("granian_peer.py", "granian", "uvloop"),
            "socketify http": lambda: _python("socketify_peer.py", "socketify"),
            "picows websocket": lambda: _python("picows_peer.py", "aiofastnet", "picows", "uvloop"),
            "websockets websocket": lambda: _python("websockets_peer.py", "websockets", "uvloop"),
            "goev echo": lambda: self._goev("echo_peer.py"),
            "goev loop": lambda: self._goev("loop_peer.py"),
            "goev channel messages": lambda: self._goev("channel_peer.py"),
            "goev channel receiver": lambda: self._goev("channel_receiver.py"),
            "picows receiver": lambda: _python("picows_receiver.py", "aiofastnet", "picows", "uvloop"),
            "websockets receiver": lambda: _python("websockets_receiver.py", "websockets", "uvloop"),
            "websocket source": lambda: _python("websocket_source.py"),
            "goev api": lambda: self._goev("api_peer.py", "redis", "asyncpg"),
            "uvicorn api": lambda: _python("uvicorn_peer.py", "uvicorn", "httptools", "uvloop", "redis", "asyncpg"),
            "postgres store": lambda: [*_python("postgres_peer.py"), "--programs", _postgres()],
            "redis store": lambda: self.command("redis resp"),
            "goev service": lambda: [*self._goev("service_peer.py"), "--server", "goev"],
            "goev starlette": lambda: [*self._goev("service_peer.py", "starlette"), "--server", "goev"],
            "granian service": partial(_service, "granian", "uvloop"),
            "granian starlette": partial(_service, "granian", "uvloop", "starlette"),
            "uvicorn service": partial(_service, "uvicorn", "httptools", "uvloop"),
            "gunicorn service": partial(_service, "gunicorn"),
            "goev broadcast": lambda: self._goev("broadcast_peer.py"),
            "uvloop broadcast": partial(_event_loop, "broadcast_peer.py", "uvloop"),
            "broadcast load": lambda: _python("broadcast_load.py"),
            "goev node": lambda: self._goev("cluster_peer.py", "nats-py", "redis"),
            "goev round": lambda: self._goev("cluster_round_peer.py", "nats-py", "redis"),
            "cluster load": lambda: _python("cluster_load.py"),
            "nats engine": lambda: [*_python("nats_peer.py"), "--nats-server", _nats()],
            "redis engine": lambda: self.command("redis resp"),
            "goev resp": lambda: self._goev(EXAMPLES / "redis_server.py"),
            "redis resp": lambda: [*_python("redis_peer.py"), "--redis-server", _redis("redis-server")],
            "redis-benchmark": lambda: [_redis("redis-benchmark")],
            "goev udp": lambda: self._goev(EXAMPLES / "udp_echo.py"),
            "goev download": lambda: [*self._goev(EXAMPLES / "download.py"), "--sendfile", "--rate", NO_LIMIT],
            "go-goev": lambda: [_go_build("goev", ".")],
            "go-goev timers": lambda: [_go_build("goev", "./timers")],
            "gnet": lambda: [_go_build("gnet", ".")],
            "gnet relay": lambda: [_go_build("gnet", "./relay")],
            "gnet http": lambda: [_go_build("gnet", "./http")],
            "nginx": _nginx,
            "nginx download": _nginx,
            "nginx transfer": _nginx,
            "goev transfer": lambda: self._goev("transfer_peer.py"),
            "core": lambda: [_cargo_build("core_plaintext")],
            "bare-epoll": lambda: [_cargo_build("bare_epoll")],
            "churn": lambda: [_cargo_build("churn")],
            "relay load": lambda: [_cargo_build("relay_load")],
            "messages load": lambda: [_cargo_build("messages_load")],
            "websocket load": lambda: [_cargo_build("websocket_load")],
            "udp load": lambda: [_cargo_build("udp_load")],
            "download load": lambda: [_cargo_build("download_load")],
            "upload load": lambda: [_cargo_build("upload_load")],
            "storm load": lambda: [_cargo_build("storm_load")],
            "wrk": lambda: [_wrk()],
            "wrk on one CPU": lambda: [_taskset(), "--cpu-list", str(min(os.sched_getaffinity(0))), _wrk()],
        }
        for loop in ("asyncio", "uvloop", "rloop"):
            self._recipes[loop] = partial(_event_loop, "asyncio_peer.py", loop)
            self._recipes[f"{loop} timers"] = partial(_event_loop, "timers_peer.py", loop)
        self._recipes["aiofastnet"] = partial(_event_loop, "asyncio_peer.py", "aiofastnet", "uvloop")
        self._recipes["aiofastnet transfer"] = partial(_event_loop, "asyncio_transfer_peer.py", "aiofastnet", "uvloop")
        self._recipes["uvloop transfer"] = partial(_event_loop, "asyncio_transfer_peer.py", "uvloop")
        for loop in ("asyncio", "uvloop"):
            self._recipes[f"{loop} messages"] = partial(_event_loop, "asyncio_messages_peer.py", loop)
            self._recipes[f"{loop} udp"] = partial(_event_loop, "udp_peer.py", loop)
        self._outcomes: dict[str, Command | Unavailable] = {}

    def command(self, name: str) -> Command:
        """Raises ``Unavailable`` for a program that is not available, at each call."""
        if name not in self._outcomes:
            print(f"preparing {name}", flush=True)
            try:
                self._outcomes[name] = self._recipes[name]()
            except Unavailable as unavailable:
                self._outcomes[name] = unavailable
        outcome = self._outcomes[name]
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    def _goev(self, script: str | Path, *packages: str) -> Command:
        """The packages have to be installed for goev's Python in the versions that the other servers have."""
        if not self._goev_python.exists():
            raise Unavailable("the Python given for goev does not exist", f"no {self._goev_python}")
        run([self._goev_python, "-c", "import goev"], "the Python given for goev cannot import it")
        for requirement in map(venv.requirement, packages):
            check = "import sys; from importlib.metadata import version; name = sys.argv[1].partition('==')[0]"
            check += "; sys.exit(f'{name}=={version(name)}' != sys.argv[1])"
            run([self._goev_python, "-c", check, requirement], f"the Python given for goev has not {requirement}")
        return [str(self._goev_python), str(PEERS / script)]


def _python(script: str, *packages: str) -> Command:
    for package in packages:
        venv.require(package)
    return [str(venv.PYTHON), str(PEERS / script)]


def _service(server: str, *others: str) -> Command:
    return [*_python("service_peer.py", server, *others), "--server", server]


def _event_loop(script: str, loop: str, *others: str) -> Command:
    packages = () if loop == "asyncio" else (loop, *others)
    return [*_python(script, *packages), "--loop", loop]


def _go_build(module: str, package: str) -> str:
    if shutil.which("go") is None:
        raise Unavailable("Go is not installed")
    output = BUILD / f"{module}{package.lstrip('.').replace('/', '-')}"
    reason = f"the Go modules of {module} could not be fetched or built"
    run(["go", "build", "-buildvcs=false", "-o", output, package], reason, cwd=PEERS / "go" / module)
    return str(output)


def _cargo_build(example: str) -> str:
    """Builds an example of the crate without Python and returns the path of the executable."""
    if shutil.which("cargo") is None:
        raise Unavailable("cargo is not installed")
    command = ["cargo", "build", "--release", "--no-default-features", "--features", "tls", "--example", example]
    messages = run([*command, "--message-format=json"], f"cargo could not build the example {example}", cwd=REPO)
    artifacts = (json.loads(line) for line in messages.splitlines())
    executables = (artifact["executable"] for artifact in artifacts if artifact.get("executable"))
    return str(next(executables))


def _wrk() -> str:
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        run(["apt-get", "update"], "apt-get update failed")
        run(["apt-get", "install", "--yes", "wrk"], "apt-get could not install wrk")
    found = shutil.which("wrk")
    if found is None:
        raise Unavailable("wrk is not installed (Debian: apt-get install wrk)")
    return found


def _taskset() -> str:
    found = shutil.which("taskset")
    if found is None:
        raise Unavailable("taskset is not installed (Debian: apt-get install util-linux)")
    return found


def _nats() -> str:
    found = find_nats()
    if found is None:
        raise Unavailable("nats-server is not installed (Debian: apt-get install nats-server)")
    return found


def _redis(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise Unavailable(f"{program} is not installed (Debian: apt-get install redis-server)")
    return found


def _postgres() -> str:
    found = find_postgres()
    if found is None:
        raise Unavailable("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return str(found)


def _nginx() -> Command:
    """nginx must be installed already, because its package would also start a server."""
    found = find_nginx()
    if found is None:
        raise Unavailable("nginx is not installed (Debian: apt-get install nginx-light)")
    return [*_python("nginx_peer.py"), "--nginx", found]


def run(command: Sequence[str | Path], reason: str, cwd: Path | None = None) -> str:
    """Runs a program that prepares something, and returns its output."""
    try:
        result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)
    except FileNotFoundError as error:
        raise Unavailable(reason, str(error)) from error
    if result.returncode != 0:
        raise Unavailable(reason, result.stderr)
    return result.stdout
