"""Unix sockets: abstract names go both ways, and the file of a path is never more open than ``unix_mode`` says."""

import os
import socket
import stat
from contextlib import contextmanager

import pytest

import goev
from support import Client, Echo, Recorder, run_script, text_of


class Ends(Recorder):
    def on_open(self):
        self.events("open", self.local_address, self.remote_address)


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def path(tmp_path) -> str:
    return f"{tmp_path}/socket"


@pytest.mark.parametrize("length", [1, 60, 106, 107])
def test_an_abstract_name_is_listened_on_shown_and_connected_to(start, events, length):
    name = f"goev-{os.getpid()}-".ljust(length, "x")[-length:]
    server = start(lambda: Ends(events), address=f"unix:@{name}")
    assert server.acceptor.address == f"@{name}"
    goev.connect(server.reactor, text_of(server.acceptor.address), Ends(events))
    assert {events.next()[1], events.next()[1]} == {f"@{name}", ""}
    with Client("\0" + name) as client:
        client.send(b"x")
        assert events.until("read") == ("read", b"x")


def test_an_abstract_name_is_too_long_by_one_byte(idle):
    with pytest.raises(ValueError, match="108 bytes, the limit is 107"):
        goev.Acceptor(idle, "unix:@" + 108 * "x", Echo)


def test_a_bound_abstract_socket_is_shown_like_one_of_ours(start):
    name = f"goev-bound-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("\0" + name)
        assert start(Echo, address=bound).acceptor.address == f"@{name}"


def test_a_path_that_begins_with_an_at_sign_is_not_shown_as_an_abstract_name(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("@file")
        server = start(Echo, address=bound)
        assert server.acceptor.address == "./@file"
        with goev.Reactor(pollers=1) as reactor, pytest.raises(OSError, match="in use"):
            goev.Acceptor(reactor, text_of(server.acceptor.address), Echo)


def test_a_path_that_is_no_utf_8_is_shown_as_the_os_module_shows_it(start, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
        assert start(Echo, address=bound).acceptor.address == os.fsdecode(path)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o000, 0o600, 0o660, 0o666, 0o777])
def test_the_file_has_the_mode_that_was_asked_for_whatever_the_umask(idle, path, mask, mode):
    with umask(mask):
        acceptor = goev.Acceptor(idle, f"unix:{path}", Echo, unix_mode=mode)
        assert mode_of(path) == mode
        assert os.umask(mask) == mask
    acceptor.close()


def test_without_a_mode_the_umask_decides(idle, path):
    with umask(0o027):
        goev.Acceptor(idle, f"unix:{path}", Echo)
    assert mode_of(path) == 0o750


def test_the_file_is_at_no_moment_more_open(path):
    """Somebody who looks again and again while such sockets are made never sees a more open one."""
    looks = """
        import os, stat, sys, threading
        import goev

        os.umask(0)
        path, seen, done = sys.argv[1], set(), threading.Event()

        def look():
            while not done.is_set():
                try:
                    seen.add(stat.S_IMODE(os.stat(path).st_mode))
                except FileNotFoundError:
                    pass

        thread = threading.Thread(target=look)
        sys.setswitchinterval(1e-6)
        thread.start()
        with goev.Reactor(pollers=1) as reactor:
            for _ in range(300):
                acceptor = goev.Acceptor(reactor, f"unix:{path}", goev.Connection, unix_mode=0o600)
                seen.add(stat.S_IMODE(os.stat(path).st_mode))
                os.unlink(path)
                acceptor.close()
        done.set()
        thread.join()
        print(*map(oct, seen))
    """
    assert run_script(looks, path).split() == ["0o600"]


def test_a_list_may_name_other_addresses_beside_the_path(idle, path):
    goev.Acceptor(idle, ["127.0.0.1:0", f"unix:{path}"], Echo, unix_mode=0o640)
    assert mode_of(path) == 0o640


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:@goev-mode"])
def test_a_mode_without_a_path_is_a_mistake(idle, address):
    with pytest.raises(ValueError, match="unix_mode is for Unix sockets with a path"):
        goev.Acceptor(idle, address, Echo, unix_mode=0o600)


@pytest.mark.parametrize("mode", [-1, 0o1000, 0o4755, 1 << 40])
def test_a_mode_is_of_nine_bits(idle, path, mode):
    with pytest.raises(ValueError, match="unix_mode must be"):
        goev.Acceptor(idle, f"unix:{path}", Echo, unix_mode=mode)
    assert not os.path.exists(path)


def test_the_file_of_a_socket_with_a_mode_is_removed_like_any_other(start, path):
    server = start(Echo, address=f"unix:{path}", unix_mode=0o600)
    server.reactor.stop()
    server.reactor.join(5)
    assert not os.path.exists(path)
