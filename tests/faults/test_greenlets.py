"""Greenlets: a callback waits on one, and others of its thread call goev meanwhile.

A call from another greenlet is treated like a call from another thread: posted, or refused by ``WrongThread``. The
batch goes on when the callback returns.
"""

import importlib.util

import pytest

from support import run_script, skip_outside_ci

PACKAGES = ("greenlet", "gevent")


@pytest.fixture(autouse=True)
def packages():
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        skip_outside_ci(f"needs {' and '.join(missing)}: pip install {' '.join(missing)}")


GREENLETS = """
import socket, threading
import greenlet
import goev

class Line(goev.Connection):
    # A framing in Python: its methods may switch greenlets in the middle of a call of goev.
    class framing:
        between = staticmethod(lambda: None)
        def __init__(self):
            self.rest = b""
        def feed(self, data):
            *lines, self.rest = (self.rest + data).split(b"\\n")
            return lines
        def frame(self, message):
            if message.startswith(b"slow"):
                type(self).between()
            return message + b"\\n"
    def on_message(self, message):
        self.called(self, message)

def talk(*questions, lines):
    answers = []
    with socket.create_connection(acceptor.address, 10) as client:
        client.settimeout(10)
        stream = client.makefile("rb")
        for question in questions:
            client.sendall(question + b"\\n")
        answers = [stream.readline().strip() for _ in range(lines)]
    reactor.stop(0)
    return answers

def serve(called, *questions, lines, run=lambda: reactor.run()):
    Line.called = staticmethod(called)
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(talk(*questions, lines=lines)))
    thread.start()
    run()
    thread.join(10)
    return answers

reactor = goev.Reactor(stall_warning=None)
acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Line)
"""


def test_calls_of_another_greenlet_are_posted_or_refused():
    run_script(
        GREENLETS
        + """
refused = []
def other(connection):
    connection.send(b"from the other greenlet")
    for call in (connection.read, connection.pause_reading, lambda: connection.schedule(1), lambda: connection.cache,
                 lambda: connection.hand_over(Line())):
        try:
            call()
        except goev.WrongThread as error:
            refused.append(error)
    for call in (reactor.run, reactor.join):
        try:
            call()
        except RuntimeError as error:
            assert "inside a callback" in str(error)
            refused.append(error)

def called(connection, message):
    greenlet.greenlet(other).switch(connection)
    connection.send(b"from the callback")

# The posted message goes out after the batch.
assert serve(called, b"x", lines=2) == [b"from the callback", b"from the other greenlet"]
assert len(refused) == 7, refused
"""
    )


def test_a_call_that_is_suspended_when_the_batch_ends_disturbs_nothing():
    """PyO3 counts the calls of a thread. A poller that took the count for its own would run Python without the lock."""
    run_script(
        GREENLETS
        + """
suspended = []
def send_slowly(connection):
    connection.send(b"slow")

def called(connection, message):
    if message == b"suspend":
        Line.framing.between = staticmethod(lambda: here.switch())
        here = greenlet.getcurrent()
        for _ in range(10):
            other = greenlet.greenlet(send_slowly)
            suspended.append(other)
            other.switch(connection)
    elif message == b"resume":
        while suspended:
            one = suspended.pop()
            one.parent = greenlet.getcurrent()
            one.switch()
    connection.send(message)

questions = [b"%d" % number for number in range(50)]
asked = [*questions, b"suspend", *questions, b"resume", *questions]
# The suspended messages are sent when their greenlets go on.
answers = serve(called, *asked, lines=len(asked) + 10)
assert [answer for answer in answers if answer != b"slow"] == asked
assert not suspended
"""
    )


def test_calls_may_be_suspended_when_run_returns():
    """PyO3 counts the calls of a thread. Each call that ended uncounted would make it refuse a later one."""
    run_script(
        GREENLETS
        + """
suspended = []
def send_slowly(connection):
    try:
        connection.send(b"slow")
    except goev.ConnectionClosed:
        pass

def called(connection, message):
    Line.framing.between = staticmethod(here.switch)
    for _ in range(100):
        other = greenlet.greenlet(send_slowly)
        suspended.append(other)
        other.switch(connection)
    connection.send(message)

here = greenlet.getcurrent()
assert serve(called, b"x", lines=1) == [b"x"]
assert len(suspended) == 100
for one in suspended:
    one.switch()
    goev.Reactor()
goev.Reactor().stop()
"""
    )


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
import socket as patched
import goev

SLEEPS = {b"sleep": 0.01, b"sleep for ever": 1000.0}

class Sleeps(goev.Connection):
    opened = []
    class framing:
        def __init__(self):
            self.rest = b""
        def feed(self, data):
            *lines, self.rest = (self.rest + data).split(b"\\n")
            return lines
        def frame(self, message):
            if message == b"other":
                gevent.sleep(0.03)
            return message + b"\\n"
    def on_message(self, message):
        if self not in self.opened:
            self.opened.append(self)
        if message in SLEEPS:
            gevent.sleep(SLEEPS[message])
        self.send(message)

def other():
    while True:
        for connection in list(Sleeps.opened):
            try:
                connection.send(b"other")
            except goev.ConnectionClosed:
                Sleeps.opened.remove(connection)
        gevent.sleep(0.001)

def client(results):
    # A real thread with real sockets, beside gevent's.
    original = monkey.get_original("socket", "socket")
    with original() as one:
        one.settimeout(20)
        one.connect(acceptor.address)
        stream = one.makefile("rb")
        for number in range(30):
            one.sendall(b"sleep\\n" * 3 + b"%d\\n" % number)
            while stream.readline() != b"%d\\n" % number:
                pass
        results.append("done")
        END

reactor = goev.Reactor(stall_warning=None)
acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Sleeps)
results = []
gevent.spawn(other)
monkey.get_original("_thread", "start_new_thread")(client, (results,))
"""


@pytest.mark.parametrize("how", ["reactor.run()", "gevent.spawn(reactor.run).join()"])
def test_callbacks_that_sleep_in_gevent_beside_one_that_sends(how):
    run_script(GEVENT.replace("END", "reactor.stop(0)") + f"{how}\nassert results == ['done'], results\n", timeout=60.0)


def test_a_background_poller_has_a_hub_of_its_own():
    run_script(
        GEVENT.replace("END", "reactor.stop(0)")
        + """
reactor.start()
while not results:
    gevent.sleep(0.01)
reactor.join(10)
""",
        timeout=60.0,
    )


def test_the_program_may_end_while_a_callback_is_suspended():
    run_script(
        # The main greenlet goes on, and ends, while this callback waits.
        GEVENT.replace("END", r"one.sendall(b'sleep for ever\n'); stream.read()")
        + """
running = gevent.spawn(reactor.run)
while not results:
    gevent.sleep(0.01)
""",
        timeout=60.0,
    )
