"""The service manager: its sockets, the messages that it gets, and the upgrade of the supervisor."""

import os
import signal
import socket
from textwrap import dedent

import pytest

from goev.service.systemd import Manager, inherited
from service_support import PLAIN, PROGRAM, SLOW, Service, gone, request
from support import Client, eventually

AS_SYSTEMD_DOES = """
    import os, socket, sys
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    if listener.fileno() != 3:
        os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
    os.execv(sys.executable, [sys.executable, "serve.py", *sys.argv[1:]])
"""


def test_sockets_of_systemd_are_served_instead_of_those_of_the_settings(tmp_path):
    (tmp_path / "serve.py").write_text(dedent(PROGRAM))
    with Service(tmp_path, program=AS_SYSTEMD_DOES, workers=2, listen=("127.0.0.1:1",)).serving() as service:
        assert service.port != 1
        assert service.worker() in service.workers()
        service.reload(1)
        assert service.worker() in service.workers()
        assert service.end() == 0


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """The socket on which a manager receives the messages of a service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(SLOW)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield end


def heard(end: socket.socket) -> dict[str, str]:
    """The next message but signs of life."""
    while True:
        said = dict(line.split("=", 1) for line in end.recv(4096).decode().splitlines())
        if said != {"WATCHDOG": "1"}:
            return said


def test_the_manager_hears_of_readiness_reloads_and_the_end(tmp_path, manager):
    with Service(tmp_path, workers=2) as service:
        assert heard(manager) == {"READY": "1", "STATUS": "2 workers serve"}
        service.send(signal.SIGHUP)
        reloading = heard(manager)
        assert reloading.pop("RELOADING") == "1"
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert heard(manager)["READY"] == "1"
        service.write("raise ValueError")
        service.send(signal.SIGHUP)
        assert heard(manager)["RELOADING"] == "1"
        assert heard(manager)["READY"] == "1"  # the old workers
        service.send(signal.SIGTERM)
        assert heard(manager)["STOPPING"] == "1"
        assert service.child.end(SLOW) == 0


def test_the_watchdog_of_the_manager_gets_signs_of_life(tmp_path, manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with Service(tmp_path) as service:
        assert heard(manager)["READY"] == "1"
        for _ in range(3):
            assert manager.recv(4096) == b"WATCHDOG=1"
        assert service.end() == 0


def test_variables_for_another_process_are_removed_and_mean_nothing():
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}
    assert inherited(environment) == []
    assert environment == {}


def test_variables_that_are_no_numbers_are_an_error():
    with pytest.raises(ValueError, match="LISTEN_PID and LISTEN_FDS must be numbers"):
        inherited({"LISTEN_PID": "x", "LISTEN_FDS": "1"})


def test_descriptors_that_are_not_there_are_an_error():
    with pytest.raises(ValueError, match=r"LISTEN_FDS=1000: descriptor \d+ is not open"):
        inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1000"})


def test_without_a_manager_nothing_is_said():
    Manager({}).ready("fine")
    Manager({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("fine")
    assert Manager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog is None


# ---- upgrades -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_an_upgrade_replaces_the_supervisor_and_keeps_its_number_and_sockets(tmp_path, method):
    path = tmp_path / "site.sock"
    options = {"listen": ("127.0.0.1:0", f"unix:{path}"), "workers": 2, "start_method": method}
    with Service(tmp_path, **options).serving() as service:
        before, port = service.workers(), service.port
        with Client(service.address) as idle:
            assert int(request(idle)) in before
            service.write(PLAIN.replace("os.getpid()", "42"))
            service.send(signal.SIGUSR2)
            service.logged("serving on ", 2)
            assert int(request(idle)) in before  # within its drain
        assert service.child.process.poll() is None
        gone(*before)
        with Client(("127.0.0.1", port)) as client, Client(str(path)) as local:
            assert (int(request(client)), int(request(local))) == (42, 42)
        eventually(lambda: len(service.workers()) == 2, "there are two workers", SLOW)
        service.send(signal.SIGUSR2)
        service.logged("serving on ", 3)
        assert service.end() == 0
        assert not path.exists()


def test_an_upgrade_to_a_program_that_fails_is_refused(tmp_path):
    with Service(tmp_path).serving() as service:
        before = service.workers()
        source = (tmp_path / "main.py").read_text()
        (tmp_path / "main.py").write_text("raise LookupError('no such module')")
        service.send(signal.SIGUSR2)
        service.logged("the upgrade is refused, and everything stays")
        assert "LookupError: no such module" in service.log
        assert service.worker() in before
        (tmp_path / "main.py").write_text(source)
        service.write("raise ValueError('the new code')")
        service.send(signal.SIGUSR2)
        service.logged("the new workers cannot start, so the old ones serve on")
        assert service.worker() in before
        assert service.end() == 0
        gone(*before)
