"""Tests of outgoing connections share a handler that reports how it ended, raw listeners, and a program."""

import socket
from contextlib import contextmanager

import goev
from support import PATIENCE, Recorder

STAGGER = 0.25  # seconds until the next address is tried beside a silent one (RFC 8305)
SLACK = 0.05  # seconds that a deadline may be missed by


class Dials(Recorder):
    """Reports how the connecting ended, and what a Recorder reports."""

    def on_connect_fail(self, error: Exception) -> None:
        self.events("fail", error)


@contextmanager
def listening(family=socket.AF_INET, address=("127.0.0.1", 0), backlog: int = 128):
    """A listening socket that is not goev's."""
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen(backlog)
        listener.settimeout(PATIENCE)
        yield listener


def accept(listener, stack) -> socket.socket:
    peer = stack.enter_context(listener.accept()[0])
    peer.settimeout(PATIENCE)
    return peer


def opened(reactor, events, target, **wanted) -> goev.Connection:
    goev.Connector(reactor, **wanted).connect(target, Dials(events))
    return events.until("open")[1]


DIALS = """
    import errno, os, queue, socket, sys, threading, time, warnings
    import goev

    warnings.simplefilter("ignore", ResourceWarning)  # listeners stay open until the end of the program

    told = queue.SimpleQueue()

    class Dials(goev.Connection):
        def __init__(self, due=0.0):
            self.due = due
        def on_open(self):
            told.put(("open", self.remote_address[0], time.monotonic() - self.due))
        def on_connect_fail(self, error):
            told.put(("fail", error, time.monotonic() - self.due))

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    def next():
        return told.get(timeout=10)

    def listening(host="127.0.0.1", port=0):
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        return listener, listener.getsockname()[1]
"""
