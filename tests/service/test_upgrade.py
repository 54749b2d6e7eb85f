"""The upgrade of the supervisor (SIGUSR2): settings that are new, programs that would not serve, and the metrics."""

import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from textwrap import dedent

import pytest

from service_support import SLOW, Service, gone, is_alive
from support import Client, eventually

# The settings come from a file, which a test changes before the upgrade.
PROGRAM = """
    import pathlib, sys
    from goev.service import Settings, run
    import app

    if __name__ == "__main__":
        settings = eval(pathlib.Path("settings").read_text())
        if settings is None:
            print("nothing is to be served")
            sys.exit(0)
        sys.exit(run(Settings(target=app.Site, interface="goev", grace=5.0, **settings)))
"""


class Upgradable(Service):
    def __init__(self, folder, before: str = "", **settings) -> None:
        self.folder = folder
        self.set(**settings)
        super().__init__(folder, program=dedent(before) + dedent(PROGRAM))

    def set(self, **settings) -> None:
        (self.folder / "settings").write_text(repr(settings))

    def upgrade(self, log: str, count: int = 1) -> "re.Match[str]":
        self.send(signal.SIGUSR2)
        return self.logged(log, count)


@pytest.fixture
def taken():
    """A port on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_program_that_ends_before_it_serves_is_refused_although_its_status_is_0(tmp_path):
    with Upgradable(tmp_path, listen=("127.0.0.1:0",)).serving() as service:
        (tmp_path / "settings").write_text("None")
        service.upgrade("the upgrade is refused, and everything stays: .* did not come to its server")
        assert service.worker() in service.workers()
        assert service.end() == 0


@pytest.mark.parametrize("what", ["listen", "metrics", "pid_file"])
def test_an_upgrade_to_an_address_or_a_file_that_cannot_be_opened_is_refused(tmp_path, taken, what):
    with Upgradable(tmp_path, listen=("127.0.0.1:0",)).serving() as service:
        before = service.workers()
        new = {
            "listen": ("127.0.0.1:0", f"127.0.0.1:{taken}"),
            "metrics": f"127.0.0.1:{taken}",
            "pid_file": f"{tmp_path}/no/folder",
        }
        service.set(**{"listen": ("127.0.0.1:0",), what: new[what]})
        service.upgrade("the upgrade is refused, and everything stays")
        assert service.worker() in before
        assert service.end() == 0


def test_an_upgrade_keeps_an_address_opens_a_new_one_and_closes_another(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    with Upgradable(tmp_path, listen=(f"unix:{paths[0]}", f"unix:{paths[1]}")).serving() as service:
        service.set(listen=(f"unix:{paths[1]}", f"unix:{paths[2]}"))
        service.upgrade("serving on ", 2)
        assert [path.exists() for path in paths] == [False, True, True]
        for path in paths[1:]:
            Client(str(path)).close()
        assert service.end() == 0
        assert not any(path.exists() for path in paths)


def test_an_upgrade_obeys_a_new_number_of_workers_and_keeps_what_signals_changed(tmp_path):
    with Upgradable(tmp_path, listen=("127.0.0.1:0",), workers=2).serving() as service:
        service.send(signal.SIGTTIN)
        service.logged(r"worker 2 \(process \d+\) serves")
        before = service.workers()
        service.set(listen=("127.0.0.1:0",), workers=1)
        service.upgrade("with 2 workers")
        gone(*before)
        eventually(lambda: len(service.workers()) == 2, "two workers are left", SLOW)
        assert {service.worker() for _ in range(30)} <= set(service.workers())  # no client waits at the third socket
        assert service.end() == 0


def test_the_metrics_answer_and_are_ready_during_an_upgrade(tmp_path):
    with Upgradable(tmp_path, listen=("127.0.0.1:0",), metrics="127.0.0.1:0").serving() as service:
        address = ("127.0.0.1", int(service.logged(r"metrics and health checks on 127.0.0.1:(\d+)")[1]))
        answers: Counter[str] = Counter()
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                try:
                    with socket.create_connection(address, 5) as client:
                        client.sendall(b"GET /-/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                        answers[client.recv(12).decode()] += 1
                except OSError as error:
                    answers[type(error).__name__] += 1
                time.sleep(0.005)

        asker = threading.Thread(target=ask)
        asker.start()
        try:
            for count in (2, 3):
                service.upgrade("serving on ", count)
        finally:
            done.set()
            asker.join()
        # A connection that the old program has accepted ends with it.
        assert answers["ConnectionRefusedError"] == 0, answers
        assert answers["HTTP/1.1 503"] == 0, answers
        assert answers["HTTP/1.1 200"] > 10
        assert service.end() == 0


def test_a_worker_that_was_starting_at_an_upgrade_is_not_left_over(tmp_path):
    with Upgradable(tmp_path, listen=("127.0.0.1:0",), workers=2).serving() as service:
        source = (tmp_path / "app.py").read_text()
        # Workers hang at their import, until the upgrade.
        (tmp_path / "app.py").write_text(
            "import os, time\nimport goev.service\nwhile goev.service.is_worker and os.path.exists('hang'):\n"
            "    time.sleep(0.01)\n" + source
        )
        (tmp_path / "hang").touch()
        service.send(signal.SIGTTIN)
        before = eventually(lambda: (len(all_ := service.workers()) == 3 and all_) or None, "a third starts", SLOW)
        time.sleep(0.3)
        service.send(signal.SIGUSR2)
        service.logged("upgrading")
        eventually(lambda: not any(is_alive(pid) for pid in before[2:]), "the worker that hung is gone", SLOW)
        os.unlink(tmp_path / "hang")
        service.logged("serving on ", 2)
        assert service.end() == 0


# Lines of this handler wait until it is flushed, as lines of StderrHandler wait for its thread.
WAITING_LINES = """
    import logging, logging.handlers, sys
    from goev.service import Settings, run

    if __name__ == "__main__":
        target = logging.StreamHandler(sys.stdout)
        waiting = logging.handlers.MemoryHandler(100, logging.CRITICAL, target)
        logging.basicConfig(level=logging.INFO)
        logging.getLogger("goev.service").addHandler(waiting)
        sys.exit(run(Settings(target="app:Site", listen=("127.0.0.1:0",), grace=5.0)))
"""


def test_the_lines_that_wait_at_an_upgrade_are_written(tmp_path):
    with Service(tmp_path, program=WAITING_LINES).serving() as service:
        service.send(signal.SIGUSR2)
        service.logged("serving on ", 2)
        assert service.end() == 0
        assert "serving on" in service.child.line(SLOW)
        assert service.child.line(SLOW) == "upgrading"


def test_a_reload_that_is_asked_for_during_an_upgrade_follows_it(tmp_path):
    with Upgradable(tmp_path, listen=("127.0.0.1:0",)).serving() as service:
        before = service.workers()
        service.upgrade("upgrading")
        # The new program blocks the signal until it has its handlers, so this arrives before its workers serve.
        eventually(lambda: os.path.exists(f"/proc/{service.child.pid}/cmdline"), "the program is there", SLOW)
        while service.workers() == before:  # the trial run, and then a worker that starts
            time.sleep(0.001)
        service.send(signal.SIGHUP)
        service.logged("reloaded: ")
        assert service.end() == 0


# The supervisor sends itself a signal in the moment that a file names: when its trial run has ended, and when it is
# about to execute the new program.
SENDING = """
    import os, pathlib
    from goev.service import upgrade

    def send(moment):
        path = pathlib.Path(moment)
        if path.exists():
            number = int(path.read_text())
            path.unlink()
            os.kill(os.getpid(), number)

    check, descriptors = upgrade.check, upgrade.State.descriptors

    async def sending_check(*arguments):
        await check(*arguments)
        send("tried")

    def sending_descriptors(state):
        send("executes")
        return descriptors(state)

    upgrade.check, upgrade.State.descriptors = sending_check, sending_descriptors
"""


# With handlers of its own the supervisor has no thread for log lines, which would take the signal.
ALONE = dedent(SENDING) + "import logging; logging.basicConfig(level='INFO')\n"
MOMENTS = {"tried": (SENDING, "tried"), "executes": (SENDING, "executes"), "executes alone": (ALONE, "executes")}


@pytest.fixture(params=MOMENTS)
def upgraded(request, tmp_path):
    """``upgraded(number)``: a service that gets a signal in the last moments before the new program."""
    before, moment = MOMENTS[request.param]

    def upgraded(number):
        service = stack.enter_context(Upgradable(tmp_path, before, listen=("127.0.0.1:0",)).serving())
        (tmp_path / moment).write_text(str(int(number)))
        service.send(signal.SIGUSR2)
        return service

    with ExitStack() as stack:
        yield upgraded


def test_a_stop_in_the_last_moment_before_the_new_program_ends_the_service(upgraded):
    assert upgraded(signal.SIGTERM).child.end(SLOW) == 0


def test_a_reload_in_the_last_moment_before_the_new_program_is_made(upgraded):
    service = upgraded(signal.SIGHUP)
    service.logged("reloaded: ")
    service.logged("serving on ", 2)
    assert service.end() == 0


def test_a_worker_more_in_the_last_moment_before_the_new_program_is_started(upgraded):
    service = upgraded(signal.SIGTTIN)
    service.logged(r"with 2 workers|worker 1 \(process \d+\) serves")
    assert service.end() == 0


def test_an_upgrade_in_the_last_moment_before_the_new_program_follows_it(upgraded):
    service = upgraded(signal.SIGUSR2)
    service.logged("upgrading", 2)
    service.logged("serving on ", 2)
    assert service.end() == 0


def test_a_trial_run_ends_with_the_service(tmp_path):
    with Upgradable(tmp_path, HANGING, listen=("127.0.0.1:0",)).serving() as service:
        before = service.workers()
        (tmp_path / "hang").touch()
        service.send(signal.SIGUSR2)
        trial = int(eventually(lambda: read(tmp_path / "trial"), "the trial run hangs", SLOW))
        assert trial not in before
        assert service.end() == 0
        gone(trial)


HANGING = """
    import os, pathlib, signal
    if os.path.exists("hang"):
        pathlib.Path("new").write_text(str(os.getpid()))
        os.rename("new", "trial")
        signal.pause()
"""


def read(path):
    return path.read_text() if path.exists() else None


def test_a_service_without_workers_is_not_ready(tmp_path):
    app = (
        "import os\nimport goev\nimport goev.service\n"
        "if goev.service.is_worker and os.path.exists('fails'): raise ValueError('no database')\n"
        "class Site(goev.http.Connection):\n"
        "    def on_request(self, request): request.respond(200, None, b'%d' % os.getpid())\n"
    )
    path = tmp_path / "metrics"

    def ready() -> int:
        with Client(str(path)) as client:
            client.send(b"GET /-/ready HTTP/1.1\r\nHost: a\r\n\r\n")
            return int(client.receive(12)[9:])

    settings = {"listen": ("127.0.0.1:0",), "metrics": f"unix:{path}"}
    service = Upgradable(tmp_path, **settings)
    service.write(app)
    with service.serving():
        assert ready() == 200
        (tmp_path / "fails").touch()
        os.kill(service.workers()[0], signal.SIGKILL)
        eventually(lambda: ready() == 503, "it is not ready", SLOW)
        service.logged("no worker for place 0")
        os.unlink(tmp_path / "fails")
        eventually(lambda: ready() == 200, "it is ready again", SLOW)
        assert service.end() == 0
