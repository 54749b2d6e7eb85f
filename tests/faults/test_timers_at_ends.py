"""Timers that are cancelled, set anew or outlived by their connection inside their own callback; clocks that step."""

import shutil
import subprocess
import time

import pytest

import goev
from support import Recorder, on_poller, run_script, settle


@pytest.fixture
def connection(start, events):
    """An open connection, its client and its reactor."""
    server = start(lambda: Recorder(events))
    client = server.connect()
    return events.until("open")[1], client, server.reactor


def test_cancelled_in_its_own_callback_a_repeating_timer_fires_no_more(connection, events):
    handler, _, reactor = connection

    def fire():
        events("fired")
        timers[0].cancel()
        timers[0].cancel()

    timers = []
    on_poller(handler, lambda: timers.append(handler.schedule(0.0, fire, every=0.001)))
    events.until("fired")
    time.sleep(0.02)  # a live timer would fire many more times now
    settle(reactor)
    assert events.names.count("fired") == 1


def test_set_anew_in_its_own_callback_it_fires_again(connection, events):
    handler, _, _ = connection

    def fire(left: int):
        events("fired", left)
        if left:
            handler.schedule(0.001, lambda: fire(left - 1))

    on_poller(handler, lambda: handler.schedule(0.0, lambda: fire(20)))
    events.times("fired", 21)
    assert [event[1] for event in events.of("fired")] == list(range(20, -1, -1))


@pytest.mark.parametrize("end", ["close", "abort", "False", "raise"])
def test_when_its_callback_ends_the_connection_no_timer_of_it_fires_again(connection, events, log, end):
    handler, _, reactor = connection

    def fire():
        events("fired")
        if end == "raise":
            raise ValueError
        if end == "False":
            handler.close()
            return False
        getattr(handler, end)()
        return None

    def set_them():
        for _ in range(10):
            handler.schedule(0.0, fire, every=0.001)

    on_poller(handler, set_them)
    events.until("close")
    time.sleep(0.02)  # a live timer would fire many more times now
    assert events.names.count("fired") == 1
    with pytest.raises(goev.ConnectionClosed):
        on_poller(reactor, lambda: handler.schedule(0.0))


def test_one_due_timer_may_cancel_the_others_of_the_same_batch(connection, events):
    handler, _, reactor = connection
    timers = []

    def fire():
        events("fired")
        for timer in timers:
            timer.cancel()

    def set_them():
        timers.extend(handler.schedule(0.0, fire) for _ in range(100))

    on_poller(handler, set_them)
    events.until("fired")
    settle(reactor)
    assert events.names.count("fired") == 1


def test_a_timer_may_cancel_itself_set_another_and_close_all_in_one(connection, events):
    handler, client, reactor = connection

    def fire():
        timers[0].cancel()
        handler.schedule(0.0, lambda: events("never"))
        handler.write(b"bye")
        handler.close()

    timers = []
    on_poller(handler, lambda: timers.append(handler.schedule(0.0, fire, every=0.001)))
    assert client.receive_all() == b"bye"
    events.until("close")
    settle(reactor)
    assert "never" not in events.names


MEASURES = """
    import time
    import goev
    reactor = goev.Reactor(stall_warning=None)
    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    ticks = []
    reactor.schedule(0.1, lambda: ticks.append(time.clock_gettime(time.CLOCK_MONOTONIC) - began), every=0.1)
    reactor.schedule(0.55, reactor.stop)
    reactor.run()
    assert len(ticks) == 5, ticks
    assert all(0.1 * n <= tick < 0.1 * n + 0.08 for n, tick in enumerate(ticks, 1)), ticks
    print("in time")
"""

# time.time() and datetime jump by a day, forth and back, at each call; so does CLOCK_REALTIME of libc.
STEPS = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <time.h>
    int clock_gettime(clockid_t clock, struct timespec *now) {
        static int (*real)(clockid_t, struct timespec *);
        static int calls;
        if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
        int result = real(clock, now);
        if (clock == CLOCK_REALTIME) now->tv_sec += (++calls % 2 ? 86400 : -86400);
        return result;
    }
"""


def test_steps_of_the_wall_clock_do_not_matter(tmp_path, monkeypatch):
    compiler = shutil.which("cc")
    assert compiler, "cargo needs one as well"
    source, library = tmp_path / "steps.c", tmp_path / "steps.so"
    source.write_text(STEPS)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    assert run_script("import time; print(abs(time.time() - time.time()) > 1000)") == "True", "the clock steps"
    assert run_script(MEASURES) == "in time"
