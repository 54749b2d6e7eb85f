"""``goev run --dev``: a service in a child process, which ends and begins anew when files change.

The child is a whole service with one worker. A child that cannot start, for a syntax error say, prints the reason, and
the next change begins another child.
"""

import fnmatch
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from goev.cli import colours
from goev.cli.sources import Configuration, UsageError
from goev.service.settings import Settings

# Folders with these names hold no source. Folders with a name that begins with a dot are ignored as well.
IGNORED = frozenset(["__pycache__", "__pypackages__", "node_modules", "site-packages", "target", "venv"])
STEP = 0.1  # seconds between looks at the child
SIGNALLED = 128  # plus the signal: the exit status of a command that a signal has ended, as of shells
SPARE = 5.0  # seconds that the child gets beyond its grace
_CHILD = "import sys; from goev.cli.dev import _child; sys.exit(_child(int(sys.argv[1]), int(sys.argv[2])))"


class Filter:
    """Says which changes count: files with these names, in no folder that holds no source.

    Only the part of a path below the watched folder is looked at, so a project may be in a folder of any name.
    """

    def __init__(self, folders: Sequence[str], patterns: Sequence[str]) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._patterns = tuple(patterns)

    def __call__(self, _change: Any, name: str) -> bool:
        path = Path(name)
        if not any(fnmatch.fnmatch(path.name, pattern) for pattern in self._patterns):
            return False
        return any(self._is_source(path.relative_to(folder)) for folder in self._folders if path.is_relative_to(folder))

    @staticmethod
    def _is_source(path: Path) -> bool:
        return not any(part.startswith(".") or part in IGNORED for part in path.parts)


def for_development(found: Configuration) -> Settings:
    """The settings of the child. Options that were not given get values for one worker that ends often."""
    settings = found.settings()
    logging = settings.logging
    if "log_level" not in found.given:
        logging = replace(logging, level="debug")
    grace = settings.grace if "grace" in found.given else 1.0
    drain = settings.drain if "drain" in found.given else 0.0
    return replace(settings, workers=1, grace=grace, drain=drain, logging=logging)


class Child:
    """A service in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._grace = settings.grace
        self._painter: threading.Thread | None = None
        reading, writing = os.pipe()
        errors: int | None = None
        in_colour = colours.are_wanted(sys.stderr)
        if in_colour:
            painted, errors = os.pipe()
        try:
            command = [sys.executable, "-c", _CHILD, str(reading), str(os.getpid())]
            self._process = _started(command, reading, errors)
        finally:
            os.close(reading)
            if errors is not None:
                os.close(errors)
        if in_colour:
            self._painter = threading.Thread(target=colours.copy, args=(painted,), daemon=True)
            self._painter.start()
        with suppress(BrokenPipeError), open(writing, "wb") as pipe:  # it may have ended at once
            pickle.dump(settings, pipe)

    def ended(self) -> int | None:
        """Its exit status, or ``None`` while it runs."""
        return self._process.poll()

    def stop(self) -> bool:
        """End it as a signal does; return whether it had begun to handle signals."""
        is_early = self._blocks_interrupts()
        self._process.terminate()
        try:
            self._process.wait(self._grace + SPARE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.forget()
        return not (is_early and self._process.returncode == -signal.SIGTERM)

    def _blocks_interrupts(self) -> bool:
        """Whether SIGINT still waits in it, as from its start. At its end a SIGTERM may kill it too."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("SigBlk:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
        return False

    def forget(self) -> None:
        """Wait for the last lines of a child that has ended."""
        if self._painter is not None:
            self._painter.join(STEP)  # no longer, because a grandchild may hold the pipe open


def _started(command: list[str], reading: int, errors: int | None) -> "subprocess.Popen[bytes]":
    """Start the child. Ctrl-C, which the terminal sends to it too, waits in it until its supervisor handles signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return subprocess.Popen(command, pass_fds=[reading], stderr=errors)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(reading: int, parent: int) -> int:
    """The main function of the child."""
    import ctypes

    from goev.cli.running import serve

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: it ends with its parent, however that ends
    if os.getppid() != parent:
        return 1
    with open(reading, "rb") as pipe:
        settings = pickle.load(pipe)
    return serve(settings)


def run(configure: Callable[[], Configuration]) -> int:
    """Serve and start anew with every change, until a signal ends it or the service ends in order.

    Args:
        configure: reads the configuration, each time again, because its file may change too.

    Raises:
        UsageError: the first configuration is wrong, or watchfiles is missing.
    """
    found = configure()
    folders = [str(Path(folder).resolve()) for folder in found.value("dev_dir") or [found.value("app_dir")]]
    for folder in folders:
        if not Path(folder).is_dir():
            raise UsageError(f"there is no folder {folder} to watch")
    stop = threading.Event()
    came: list[int] = []

    def leave(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        stop.set()

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        had_begun = _follow(_changes(folders, found.value("dev_files"), stop), found, configure)
        return 0 if had_begun else SIGNALLED + came[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _changes(folders: Sequence[str], patterns: Sequence[str], stop: threading.Event) -> Iterator[list[str]]:
    """The names of the files that changed, or none after each ``STEP``, until the event is set."""
    try:
        import watchfiles
    except ModuleNotFoundError:
        raise UsageError("--dev needs watchfiles: pip install 'goev[dev]'") from None
    watching = watchfiles.watch(
        *folders,
        watch_filter=Filter(folders, patterns),
        stop_event=stop,
        rust_timeout=int(STEP * 1000),
        yield_on_timeout=True,
        debounce=400,
        ignore_permission_denied=True,
    )
    for changes in watching:
        yield sorted({path for _, path in changes})


def _follow(changes: Iterator[list[str]], found: Configuration, configure: Callable[[], Configuration]) -> bool:
    """Keep a child that has seen the newest files. Returns whether the last one had begun to serve, if it was ended."""
    child: Child | None = None
    next(changes, None)  # from now on no change is missed
    try:
        child = Child(for_development(found))
        for changed in changes:
            if changed:
                _tell(f"{_names(changed)} changed: starting anew")
                child = _replaced(child, configure)
            elif child is not None and (status := child.ended()) is not None:
                if status == 0:
                    return True
                _tell(f"the service ended with status {status}; waiting for a change")
                child.forget()
                child = None
    except BaseException:
        if child is not None:
            child.stop()
        raise
    return child is None or child.stop()


def _replaced(child: Child | None, configure: Callable[[], Configuration]) -> Child | None:
    if child is not None:
        child.stop()
    try:
        return Child(for_development(configure()))
    except UsageError as error:
        _tell(f"{error}; waiting for a change")
        return None


def _names(changed: list[str]) -> str:
    names = [os.path.relpath(name) for name in changed[:3]]
    return ", ".join(names) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def _tell(text: str) -> None:
    print(f"goev: {text}", file=sys.stderr, flush=True)
