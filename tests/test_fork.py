"""C10: after os.fork() the child's copy says what it is and touches nothing; the parent's goes on."""

import pytest

from support import run_script

PRELUDE = """
import os, signal, socket, sys, threading, traceback, warnings
import goev

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the subject of this test

class Echo(goev.Connection):
    made = []
    def on_open(self):
        Echo.made.append(self)
    def on_read(self):
        self.write(self.read())

def ask(address, data=b"ping"):
    with socket.create_connection(address, 10) as client:
        client.settimeout(10)
        client.sendall(data)
        assert client.recv(100) == data
        return True

def in_child(fn, end=os._exit):
    pid = os.fork()
    if pid == 0:
        try:
            fn()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        end(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}"

def play(reactor, peers):
    # The reactor on this thread, peers() beside it; a child that comes out of run() ends there.
    parent, problems = os.getpid(), []
    def run_peers():
        try:
            peers()
        except BaseException:
            problems.append(traceback.format_exc())
        reactor.stop()
    thread = threading.Thread(target=run_peers)
    thread.start()
    try:
        reactor.run()
    except (RuntimeError, SystemExit):
        if os.getpid() == parent:
            raise
    if os.getpid() != parent:
        os._exit(0)
    thread.join()
    assert not problems, problems[0]
"""


def run(body: str, *args: str) -> str:
    return run_script(PRELUDE + body, *args)


def test_every_method_in_the_child_raises_runtime_error_that_names_fork():
    run("""
with goev.Reactor(pollers=1) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    timer = reactor.schedule(60.0, print)
    reactor.start()
    ask(acceptor.address)

    def child():
        reading, writing = os.pipe()
        calls = {
            "call_soon": lambda: reactor.call_soon(print),
            "schedule": lambda: reactor.schedule(1.0, print),
            "cache_set": lambda: reactor.cache_set(1, 1),
            "stop": lambda: reactor.stop(),
            "join": lambda: reactor.join(1),
            "run": lambda: reactor.run(),
            "start": lambda: reactor.start(),
            "add": lambda: reactor.add(goev.EventHandler(), reading, goev.EV_IN),
            "append_events": lambda: reactor.append_events(reading, goev.EV_IN),
            "remove_events": lambda: reactor.remove_events(reading, goev.EV_IN),
            "stats": lambda: reactor.stats(),
            "Acceptor": lambda: goev.Acceptor(reactor, "127.0.0.1:0", Echo),
        }
        for name, call in calls.items():
            try:
                call()
            except RuntimeError as error:
                assert "fork" in str(error), (name, error)
            else:
                raise AssertionError(f"{name} did not raise")

    in_child(child)
    for _ in range(20):
        ask(acceptor.address)
""")


def test_a_connection_of_the_parent_cannot_be_used_in_the_child():
    run("""
with goev.Reactor(pollers=1) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    reactor.start()
    client = socket.create_connection(acceptor.address, 10)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    connection = Echo.made[0]

    def child():
        for call in (lambda: connection.write(b"from the child"), connection.close, connection.abort,
                     lambda: connection.call_soon(print), connection.read, lambda: connection.schedule(1.0)):
            try:
                call()
            except RuntimeError as error:
                assert "fork" in str(error), error
            else:
                raise AssertionError("did not raise")

    in_child(child)
    client.sendall(b"still")
    assert client.recv(100) == b"still"
    client.close()
""")


def test_a_child_that_ends_like_any_program_disturbs_nothing():
    """Interpreter shutdown in the child: finalizers of its copies must neither hang nor reach the parent's epoll."""
    run("""
reactor = goev.Reactor(pollers=2)
acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
reactor.start()
ask(acceptor.address)
pid = os.fork()
if pid == 0:
    del reactor, acceptor
    import gc
    gc.collect()
    sys.exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0, status
for _ in range(20):
    ask(acceptor.address)
reactor.stop()
reactor.join(10)
""")


def test_the_child_may_run_a_reactor_of_its_own():
    run("""
with goev.Reactor(pollers=2) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    reactor.start()
    ask(acceptor.address)

    def child():
        with goev.Reactor(pollers=2) as own:
            mine = goev.Acceptor(own, "127.0.0.1:0", Echo)
            own.start()
            assert ask(mine.address)

    in_child(child)
    ask(acceptor.address)
""")


def test_a_reactor_made_before_the_fork_and_not_started_is_unusable_in_the_child_only():
    run("""
reactor = goev.Reactor(pollers=1)
acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)

def child():
    try:
        reactor.run()
    except RuntimeError as error:
        assert "fork" in str(error), error
    else:
        raise AssertionError("did not raise")

in_child(child)
with reactor:
    reactor.start()
    ask(acceptor.address)
""")


def test_a_closed_connection_ends_for_the_peer_although_a_child_holds_a_copy():
    run("""
with goev.Reactor(pollers=1) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    reactor.start()
    client = socket.create_connection(acceptor.address, 10)
    client.settimeout(10)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent is done
        os._exit(0)
    Echo.made[0].close()
    assert client.recv(1) == b""
    os.close(writing)
    os.waitpid(pid, 0)
    client.close()
""")


def test_forking_inside_a_callback_leaves_the_parents_poller_unharmed():
    run("""
class Forks(Echo):
    def on_read(self):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        super().on_read()

with goev.Reactor(pollers=1) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Forks)
    reactor.start()
    for _ in range(5):
        ask(acceptor.address)
""")


def test_a_child_that_returns_from_the_callback_it_was_forked_in_does_not_serve():
    """The child comes back into a copy of the poller's loop: it must end there, not answer the parent's clients."""
    run("""
class Forks(Echo):
    def on_read(self):
        data = self.read()
        if data == b"fork":
            global child
            pid = os.fork()
            if pid == 0:
                return
            child = pid
        self.write(data)

def work():
    with goev.Reactor(pollers=1) as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Forks)
        reactor.start()
        ask(acceptor.address, b"fork")
        for _ in range(20):
            ask(acceptor.address)

work()
import signal, time
for _ in range(500):
    if os.waitpid(child, os.WNOHANG) != (0, 0):
        break
    time.sleep(0.01)
else:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
""")


def test_a_child_forked_in_a_callback_leaves_the_rest_of_the_batch_to_the_parent():
    """Two connections are ready at once; the child comes back from the callback of the first, and must end there."""
    run("""
parent, children = os.getpid(), []
class Forks(Echo):
    def on_read(self):
        if os.getpid() != parent:
            os._exit(3)  # called in the child
        data = self.read()
        if data == b"both" and not children:
            children.append(os.fork())
            if children == [0]:
                signal.alarm(10)
                return
        self.write(data)
    def on_close(self, error):
        if os.getpid() != parent:
            os._exit(4)

reactor = goev.Reactor(pollers=1)
acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Forks)

def peers():
    clients = [socket.create_connection(acceptor.address, 10) for _ in range(2)]
    for client in clients:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
    entered, release = threading.Event(), threading.Event()
    reactor.call_soon(lambda: (entered.set(), release.wait(10)))
    assert entered.wait(10)
    for client in clients:
        client.sendall(b"both")
    release.set()
    for client in clients:
        assert client.recv(100) == b"both"
    _, status = os.waitpid(children[0], 0)
    assert status == 0, f"the child ended with {status}"
    for client in clients:
        client.sendall(b"still")
        assert client.recv(100) == b"still"
        client.close()
    ask(acceptor.address)

play(reactor, peers)
""")


def test_a_child_that_exits_in_a_callback_takes_nothing_of_the_parent_with_it():
    run("""
parent, children = os.getpid(), []
class Forks(Echo):
    def on_read(self):
        if self.peek() == b"fork":
            children.append(os.fork())
            if children[-1] == 0:
                signal.alarm(10)
                sys.exit()
        super().on_read()
    def on_close(self, error):
        if os.getpid() != parent:
            os._exit(4)

reactor = goev.Reactor(pollers=1)
acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Forks)

def peers():
    with socket.create_connection(acceptor.address, 10) as old, socket.create_connection(acceptor.address, 10) as forks:
        for client, data in ((old, b"before"), (forks, b"fork"), (old, b"beside"), (forks, b"after")):
            client.sendall(data)
            assert client.recv(100) == data
        ask(acceptor.address)
        _, status = os.waitpid(children[0], 0)
        assert status == 0, f"the child ended with {status}"
        for client in (old, forks):
            client.sendall(b"still")
            assert client.recv(100) == b"still"
        for _ in range(20):
            ask(acceptor.address)

play(reactor, peers)
""")


HOLDING_A_COPY = """
def fork(how):
    # A child that has ended already, or one that holds copies of all sockets until finish() is called.
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        if how == "alive":
            os.read(reading, 1)
        os._exit(0)
    def finish():
        os.close(writing)
        os.waitpid(pid, 0)
    if how == "alive":
        return finish
    finish()
    return lambda: None

def must_be_reset(client):
    try:
        while client.recv(1 << 20):
            pass
    except ConnectionResetError:
        return
    raise AssertionError("the peer saw an orderly end")
"""


@pytest.mark.parametrize("child", ["exited", "alive"])
def test_after_a_fork_abort_still_resets_the_peer(child):
    run(
        HOLDING_A_COPY
        + """
with goev.Reactor(pollers=1) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    reactor.start()
    with socket.create_connection(acceptor.address, 10) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        finish = fork(sys.argv[1])
        Echo.made[0].abort()
        must_be_reset(client)
        finish()
""",
        child,
    )


@pytest.mark.parametrize("child", ["exited", "alive"])
def test_after_a_fork_a_file_that_shrinks_still_resets_the_peer(child):
    run(
        HOLDING_A_COPY
        + """
import tempfile
file = tempfile.TemporaryFile()
file.truncate(100_000_000)
class Sends(goev.Connection):
    def on_open(self):
        self.sendfile(file)
        self.close()

with file, goev.Reactor(pollers=1) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Sends)
    reactor.start()
    with socket.create_connection(acceptor.address, 10) as client:
        assert client.recv(1000)
        finish = fork(sys.argv[1])
        file.truncate(1000)
        must_be_reset(client)
        finish()
""",
        child,
    )


@pytest.mark.parametrize("call", ["acceptor.close()", "timer.cancel()", "reactor.running"])
def test_in_the_child_what_belongs_to_the_parents_reactor_is_refused(call):
    run(
        """
with goev.Reactor(pollers=1) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
    timer = reactor.schedule(60.0, print)
    reactor.start()
    ask(acceptor.address)

    def child():
        try:
            eval(sys.argv[1])
        except RuntimeError as error:
            assert "fork" in str(error) or "parent" in str(error), error
        else:
            raise AssertionError("did not raise")

    in_child(child)
    for _ in range(20):
        ask(acceptor.address)
""",
        call,
    )


def test_subprocesses_started_by_callbacks_inherit_no_descriptor():
    run("""
import subprocess
with goev.Reactor(pollers=2) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, reuse_port=True)
    reactor.start()
    ask(acceptor.address)
    client = socket.create_connection(acceptor.address, 10)
    program = "import os; print(len(os.listdir('/proc/self/fd')))"
    counted = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, close_fds=False).stdout
    assert int(counted) <= 5, counted  # 0, 1, 2 and the listing itself
    client.close()
""")


def test_a_child_forked_in_a_callback_of_a_descriptor_does_not_take_it_from_the_parent():
    """The child's False, as the parent's, would take the handler out: of the epoll instance that both share."""
    run("""
children, seen = [], []
class Pipe(goev.EventHandler):
    def on_read(self):
        os.read(self.fileno(), 1)
        if not children:
            children.append(os.fork())
            if children == [0]:
                signal.alarm(10)
                return False
        seen.append(1)
class Names(goev.Datagram):
    forked = None
    def on_open(self):
        Names.address = self.local_address
        opened.set()
    def on_datagram(self, data, address):
        self.send_to(data, address)
        if Names.forked is None:
            Names.forked = os.fork()
            if Names.forked == 0:
                signal.alarm(10)
                return False

opened = threading.Event()
reactor = goev.Reactor(pollers=1)
reading, writing = os.pipe()
reactor.add(Pipe(), reading, goev.EV_IN)
Names().bind(reactor, "127.0.0.1:0")

def peers():
    for count in (1, 2):
        os.write(writing, b"x")
        while len(seen) < count:
            threading.Event().wait(0.001)
    os.waitpid(children[0], 0)
    assert opened.wait(10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(Names.address)
        client.settimeout(10)
        for data in (b"first", b"second"):
            client.send(data)
            assert client.recv(100) == data
        os.waitpid(Names.forked, 0)
        client.setblocking(False)
        try:
            again = client.recv(100)
        except BlockingIOError:
            again = None
        assert again is None, "the child sent what the parent had queued"

play(reactor, peers)
""")


def test_a_child_forked_in_a_callback_runs_a_reactor_of_its_own():
    """On the thread of ``run()`` and on a background poller; the signals of the child's main thread stop it."""
    run("""
class Forks(Echo):
    def on_read(self):
        data = self.read()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                own = goev.Reactor(pollers=2)
                mine = goev.Acceptor(own, "127.0.0.1:0", Echo)
                own.start()
                ask(mine.address)
                own.stop(0)
                own.join(10)
                again = goev.Reactor()
                again.call_soon(os.kill, os.getpid(), signal.SIGTERM)
                report = again.run(grace=1)
                assert report == goev.StopReport(0, 0), report
                os.write(writing, b"fine")
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as stream:
            assert stream.read() == b"fine"
        os.waitpid(pid, 0)
        self.write(data)

with goev.Reactor(pollers=1, stall_warning=None) as reactor:
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Forks)
    reactor.start()
    for _ in range(3):
        ask(acceptor.address)

main = goev.Reactor(stall_warning=None)
acceptor = goev.Acceptor(main, "127.0.0.1:0", Forks)
play(main, lambda: [ask(acceptor.address) for _ in range(3)])
""")


def test_a_child_forked_in_on_request_cannot_answer_for_the_parent():
    run("""
import goev.http

class Forks(goev.http.Connection):
    def on_request(self, request):
        pid = os.fork()
        if pid == 0:
            big = b"x" * 1_000_000  # above high_water it would be sent at once
            for call in (lambda: request.respond(200, {}, big), lambda: request.start(200)):
                try:
                    call()
                except RuntimeError as error:
                    assert "fork" in str(error), error
                else:
                    os._exit(1)
            return  # and drops the request without an answer
        assert os.waitpid(pid, 0)[1] == 0
        request.respond(200, {}, b"the parent")

parent = os.getpid()
reactor = goev.Reactor(stall_warning=None)
acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Forks)
def peers():
    with socket.create_connection(acceptor.address, 10) as client:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        got = b"".join(iter(lambda: client.recv(65536), b""))
    assert got.endswith(b"the parent") and got.count(b"HTTP/1.1") == 1, got[:200]
play(reactor, peers)
""")
