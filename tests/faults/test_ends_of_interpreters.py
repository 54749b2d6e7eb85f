"""The end of the interpreter beside threads that cannot be stopped: the status is the program's, and nothing hangs."""

import os
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import STALL, Child

ROUNDS = int(os.environ.get("GOEV_SOAK", "1"))
AT_ONCE = 2
STATUS = 7

BEGINNING = """
    import socket, sys, threading, time
    import goev

    def forever():
        while True:
            pass

    def daemon(function):
        threading.Thread(target=function, daemon=True).start()

    class Framing:
        def feed(self, data):
            return [data]
        def frame(self, message):
            return bytes(list(message))

    class Keeps(goev.Connection):
        framing = Framing()
        opened = threading.Event()
        def on_open(self):
            Keeps.one = self
            self.opened.set()
        def on_message(self, message):
            pass

    def served():
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Keeps)
        reactor.start()
        client = socket.create_connection(acceptor.address)
        assert Keeps.opened.wait(10)
        return client

    def repeat(function):
        running = threading.Event()
        def run():
            while True:
                try:
                    function()
                except (goev.Error, RuntimeError):
                    pass
                running.set()
        daemon(run)
        assert running.wait(10)

    reactor = goev.Reactor(pollers=2, stall_warning=STALLS)
    begun = threading.Event()
"""

# The state of the threads when the main one ends.
STATES = {
    "a callback computes for ever": """
        reactor.call_soon(lambda: (begun.set(), forever()))
        reactor.start()
        assert begun.wait(10)
    """,
    "a callback sleeps in C": """
        reactor.call_soon(lambda: (begun.set(), time.sleep(1000)))
        reactor.start()
        assert begun.wait(10)
    """,
    "a busy run in a daemon thread": """
        reactor.schedule(0, begun.set, every=0.0001)
        daemon(reactor.run)
        assert begun.wait(10)
    """,
    "a run in a daemon thread whose callback computes for ever": """
        reactor.call_soon(lambda: (begun.set(), forever()))
        daemon(reactor.run)
        assert begun.wait(10)
    """,
    "a daemon thread sends by a framing in Python": """
        client = served()
        repeat(lambda: Keeps.one.send(b"x" * 1000))
    """,
    "a daemon thread writes what a generator makes": """
        client = served()
        repeat(lambda: Keeps.one.writelines(b"x" for _ in range(1000)))
    """,
    "a daemon thread submits to an executor": """
        client = served()
        repeat(lambda: reactor.run_in_executor(None, int, then=int))
    """,
    "a daemon thread joins": """
        client = served()
        daemon(reactor.join)
        daemon(lambda: reactor.join(1000))
    """,
}


@pytest.mark.timeout(60 + 10 * ROUNDS)
@pytest.mark.parametrize("state", STATES)
def test_the_status_is_the_programs(state):
    """With and without the watchdog, which may be reporting at that moment. A second each, for the stop."""

    def live(stalls: str) -> tuple[int, str]:
        body = textwrap.dedent(BEGINNING).replace("STALLS", stalls) + textwrap.dedent(STATES[state])
        with Child("-W", "ignore", "-c", f"{body}\nsys.exit({STATUS})\n") as child:
            return child.end(30), STALL.sub("", child.errors)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        lives = [pool.submit(live, stalls) for stalls in ("None", "0.001") * ROUNDS]
        ends = [future.result() for future in lives]
    assert {status for status, _ in ends} == {STATUS}, ends
