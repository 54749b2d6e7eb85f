"""Ends of processes with a running reactor, many times each: by the end of the program, by exceptions, around forks."""

import os
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import Child

ROUNDS = 25 * int(os.environ.get("GOEV_SOAK", "1"))
AT_ONCE = 4

RUNNING = """
    import os, signal, socket, sys, warnings
    import goev

    # Since Python 3.12 a fork beside threads warns; here it is what is tried.
    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)

    class Echo(goev.Connection):
        def on_open(self):
            self.schedule(0.001, every=0.001)
        def on_read(self):
            self.write(self.read())

    def started(pollers=2):
        reactor = goev.Reactor(pollers=pollers)
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
        reactor.start()
        return reactor, acceptor

    def ask(acceptor):
        with socket.create_connection(acceptor.address, timeout=10) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"

    def main():
        reactor, acceptor = started()
        clients = [socket.create_connection(acceptor.address, timeout=10) for _ in range(5)]
        for client in clients:
            client.sendall(b"x" * 1000)
        ask(acceptor)
        THE_END

    def in_child(tell):
        try:
            reactor, acceptor = PARENTS
            try:
                reactor.call_soon(print)
            except RuntimeError as error:
                assert "os.fork" in str(error)
            else:
                raise AssertionError("the parent's reactor can be used")
            again, own = started(1)
            ask(own)
            again.stop(0)
            again.join(5)
            tell(b"fine")
        except BaseException as error:
            tell(repr(error).encode())
            raise

    def spawned(tell):
        again, own = started(1)
        ask(own)
        tell(b"fine")

    if __name__ == "__main__":
        main()
"""

FORK = """
PARENTS = globals()["PARENTS"] = (reactor, acceptor)
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    in_child(lambda text: os.write(writing, text))
    os._exit(0)
assert os.read(reading, 1000) == b"fine"
assert os.waitpid(child, 0)[1] == 0
ask(acceptor)
"""

MULTIPROCESSING = """
import multiprocessing
globals()["PARENTS"] = (reactor, acceptor)
context = multiprocessing.get_context("METHOD")
receiver, sender = context.Pipe(duplex=False)
child = context.Process(target=TARGET, args=(sender.send_bytes,))
child.start()
assert receiver.recv_bytes() == b"fine"
child.join(10)
assert child.exitcode == 0
ask(acceptor)
for client in clients:
    client.close()
"""

# The second signal comes while a handler stays open for the whole grace.
TWO_SIGNALS = """
class Stays(goev.Connection):
    def on_open(self):
        os.kill(os.getpid(), FIRST)
    def on_stopping(self):
        os.kill(os.getpid(), SECOND)
    def on_close(self, error):
        assert type(error) is ConnectionAbortedError
own = goev.Reactor(pollers=2)
listening = goev.Acceptor(own, "127.0.0.1:0", Stays)
own.call_soon(lambda: clients.append(socket.create_connection(listening.address, timeout=10)))
assert own.run(grace=1000) == goev.StopReport(closed=0, aborted=1)
ask(acceptor)
"""

# How the program ends, with which status, and the last line on standard error.
ENDS = {
    "falls off its end": ("os.write(1, b'end')", 0, ""),
    "sys.exit in the main thread": ("sys.exit(3)", 3, ""),
    "an exception in the main thread": ("raise ValueError('mine')", 1, "ValueError: mine"),
    "sys.exit in a callback of a background poller": (
        "reactor.call_soon(sys.exit, 4)\nreactor.join(10)",
        4,
        "",
    ),
    "sys.exit in a callback of run": (
        "own = goev.Reactor()\nown.call_soon(sys.exit, 5)\nown.run()",
        5,
        "",
    ),
    "by SIGINT twice": (TWO_SIGNALS.replace("FIRST", "signal.SIGINT").replace("SECOND", "signal.SIGINT"), 0, ""),
    "by SIGTERM and SIGINT": (TWO_SIGNALS.replace("FIRST", "signal.SIGTERM").replace("SECOND", "signal.SIGINT"), 0, ""),
    "after os.fork": (FORK, 0, ""),
    "after multiprocessing by fork": (
        MULTIPROCESSING.replace("METHOD", "fork").replace("TARGET", "in_child"),
        0,
        "",
    ),
    "after multiprocessing by spawn": (
        MULTIPROCESSING.replace("METHOD", "spawn").replace("TARGET", "spawned"),
        0,
        "",
    ),
}


@pytest.mark.timeout(120 + ROUNDS)
@pytest.mark.parametrize("how", ENDS)
def test_a_program_ends_with_its_status_and_neither_hangs_nor_crashes(tmp_path, how):
    ending, status, last_words = ENDS[how]
    program = tmp_path / "program.py"
    body = textwrap.indent(ending.strip("\n"), " " * 8).lstrip()
    program.write_text(textwrap.dedent(RUNNING.replace("THE_END", body)))

    def live() -> tuple[int, str]:
        with Child("-W", "ignore::ResourceWarning", str(program)) as child:
            ended = child.end(30)
            return ended, (child.errors.strip().splitlines() or [""])[-1]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        lives = [pool.submit(live) for _ in range(ROUNDS)]
        assert {future.result() for future in lives} == {(status, last_words)}
