"""Finalizers that call goev: run by the collector in the middle of anything, or by the end of a factory."""

import pytest

from support import run_script

FINALIZERS = """
import gc, socket, sys, threading
import goev, goev.http, goev.websocket

class Calls:
    # Garbage whose finalizer calls goev, as often as the collector runs.
    done, errors = 0, []
    def __init__(self):
        self.itself = self
    def __del__(self):
        try:
            for call in calls:
                call()
            Calls.done += 1
        except goev.WrongThread:
            pass  # the collector may run on any thread
        except BaseException as error:
            Calls.errors.append(error)

connections, calls = [], []

HAS_LOCK = getattr(sys, "_is_gil_enabled", lambda: True)()

def litter():
    Calls()
    if not HAS_LOCK:  # there the collector waits until a quarter of all objects is new, whatever its threshold
        gc.collect()

def ask(acceptor, data, until):
    with socket.create_connection(acceptor.address, 10) as client:
        client.settimeout(10)
        client.sendall(data)
        got = b""
        while until not in got:
            part = client.recv(65536)
            assert part, got
            got += part
        return got
"""


def test_finalizers_that_the_collector_runs_may_call_anything():
    """Before Python 3.12 the collector runs inside allocations. With a threshold of 1 at every object it tracks."""
    run_script(
        FINALIZERS
        + """
class Http(goev.http.Connection):
    def on_open(self):
        connections.append(self)
    def on_request(self, request):
        litter()
        request.respond(200, {"x": "y"}, request.body)

class Bodies(Http):
    def on_body(self, request, data):
        litter()

class Lines(goev.Connection):
    framing = goev.Delimited()
    def on_open(self):
        connections.append(self)
    def on_message(self, message):
        litter()
        self.schedule(0.0, litter)
        self.send(message)

class Batches(Lines):
    def on_messages(self, messages):
        litter()
        self.send_messages(messages)

reactor = goev.Reactor(pollers=1, stall_warning=None)
def on_connections():
    for connection in connections[-3:]:
        try:
            connection.pending_output, connection.pending_input, connection.over_high_water
            if not isinstance(connection, Http):  # of HTTP, whose answers go another way
                connection.write(b"")
            connection.schedule(60.0, litter).cancel()
        except goev.ConnectionClosed:
            pass
calls += [on_connections, lambda: reactor.call_soon(int), lambda: reactor.schedule(60.0, int).cancel(), reactor.stats]
http, bodies, lines, batches = (goev.Acceptor(reactor, "127.0.0.1:0", each) for each in (Http, Bodies, Lines, Batches))

def peers():
    try:
        request = b"POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\n\\r\\nhi"
        head = b"POST / HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
        chunked = head + b"2\\r\\nhi\\r\\n0\\r\\n\\r\\n"
        for _ in range(3):
            ask(http, request * 3, b"hi")
            ask(http, chunked, b"hi")
            ask(bodies, chunked, b"\\r\\n\\r\\n")
            ask(lines, b"a\\nb\\nc\\n", b"c\\n")
            ask(batches, b"a\\nb\\nc\\n", b"c\\n")
    finally:
        reactor.stop(0)

thread = threading.Thread(target=peers)
thread.start()
# Only the poller's thread is to collect.
gc.set_threshold(1, 1, 1)
reactor.run()
gc.set_threshold(0)
thread.join()
gc.collect()
assert Calls.done >= 10, Calls.done
assert not Calls.errors, Calls.errors[:3]
""",
        timeout=60.0,
    )


ENDS = [
    "acceptor.close()",
    "reactor.call_soon(acceptor.close)",
    "reactor.call_soon(lambda acceptor: (reactor.call_soon(int), acceptor.close()), acceptor)",
    "reactor.stop(0)",
    "reactor.call_soon(reactor.stop, 0)",
    "reactor.call_soon(sys.exit, 0)",
]


@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_a_factory_may_call_anything(how):
    """The last reference goes where a listener ends: by ``close()``, in a callback, or by the stop of the reactor."""
    run_script(
        FINALIZERS
        + """
ended = threading.Event()
class Factory:
    def __call__(self):
        return goev.Connection()
    def __del__(self):
        for call in calls:
            try:
                call()
            except (goev.Error, RuntimeError):
                pass
            except BaseException as error:
                Calls.errors.append(error)
        ended.set()

reactor = goev.Reactor(pollers=2, stall_warning=None)
calls += [lambda: reactor.call_soon(int), lambda: reactor.schedule(60.0, int), reactor.stats,
          lambda: goev.Acceptor(reactor, "127.0.0.1:0", goev.Connection)]
acceptor = goev.Acceptor(reactor, ["127.0.0.1:0", "127.0.0.1:0"], Factory(), reuse_port=True)
reactor.start()
with socket.create_connection(acceptor.address, 10):
    pass
"""
        + how
        + """
del acceptor
def has_ended():  # in short steps: without the interpreter lock an object ends on the thread that made it
    return any(ended.wait(0.05) for _ in range(100))
try:
    assert has_ended() or (reactor.stop(0), has_ended())[1]
    reactor.stop(0)
    reactor.join(10)
except SystemExit:
    pass
assert not Calls.errors, Calls.errors
"""
    )
