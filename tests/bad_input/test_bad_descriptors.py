"""C11: a reactor refuses descriptors, events and handlers that it cannot watch."""

import errno
import os
import socket

import pytest

import goev
from support import Echo, names


def closed_fd() -> int:
    fd = os.dup(0)
    os.close(fd)
    return fd


def test_a_closed_descriptor_is_ebadf(idle):
    fd = closed_fd()
    with pytest.raises(OSError, match=str(fd)) as raised:
        idle.add(goev.EventHandler(), fd, goev.EV_IN)
    assert raised.value.errno == errno.EBADF


def test_a_regular_file_is_eperm(idle, tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        with pytest.raises(OSError, match=str(file.fileno())) as raised:
            idle.add(goev.EventHandler(), file, goev.EV_IN)
        assert raised.value.errno == errno.EPERM


@pytest.mark.parametrize("fd", [-1, -(1 << 40), 1 << 40])
def test_a_number_that_is_no_descriptor_is_refused(idle, fd):
    with pytest.raises((ValueError, OSError), match="fd") as raised:
        idle.add(goev.EventHandler(), fd, goev.EV_IN)
    assert str(fd) in str(raised.value)


@pytest.mark.parametrize("fd", ["0", None, 1.0, object()])
def test_a_descriptor_of_another_type_is_a_type_error(idle, fd):
    with pytest.raises(TypeError, match="fd"):
        idle.add(goev.EventHandler(), fd, goev.EV_IN)


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@pytest.mark.parametrize("bits", [0, 1 << 20, -1, goev.EV_IN | (1 << 20)])
def test_wrong_events_are_a_value_error(idle, pair, bits):
    with pytest.raises(ValueError, match="events") as raised:
        idle.add(goev.EventHandler(), pair[0], bits)
    assert names(raised.value, "events")
    idle.add(goev.EventHandler(), pair[0], goev.EV_IN)
    for change in (idle.append_events, idle.remove_events):
        with pytest.raises(ValueError, match="events"):
            change(pair[0], bits)


def test_a_handler_that_is_none_is_a_type_error(idle, pair):
    for handler in (None, 5, Echo(), goev.EventHandler, object()):
        with pytest.raises(TypeError, match="handler"):
            idle.add(handler, pair[0], goev.EV_IN)


def test_a_handler_bound_twice_is_a_value_error(idle, pair):
    handler = goev.EventHandler()
    idle.add(handler, pair[0], goev.EV_IN)
    with pytest.raises(ValueError, match="handler"):
        idle.add(handler, pair[1], goev.EV_IN)


def test_a_descriptor_added_twice_is_eexist(idle, pair):
    idle.add(goev.EventHandler(), pair[0], goev.EV_IN)
    with pytest.raises(OSError, match=str(pair[0].fileno())) as raised:
        idle.add(goev.EventHandler(), pair[0], goev.EV_IN)
    assert raised.value.errno == errno.EEXIST


def test_changing_events_of_an_unknown_descriptor_is_enoent(idle, pair):
    for change in (idle.append_events, idle.remove_events):
        with pytest.raises(OSError, match=str(pair[0].fileno())) as raised:
            change(pair[0], goev.EV_IN)
        assert raised.value.errno == errno.ENOENT


def test_add_from_another_thread_while_running_is_wrong_thread(reactor, pair):
    for call in (
        lambda: reactor.add(goev.EventHandler(), pair[0], goev.EV_IN),
        lambda: reactor.append_events(pair[0], goev.EV_IN),
        lambda: reactor.remove_events(pair[0], goev.EV_IN),
    ):
        with pytest.raises(goev.WrongThread, match="call_soon"):
            call()
