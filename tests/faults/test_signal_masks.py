"""Children and threads that a callback starts block the same signals as those that the main thread starts."""

import pytest

from support import run_script

MASKS = """
import os, subprocess, threading
import goev

def mask_of(path):
    with open(path) as file:
        return next(line for line in file if line.startswith("SigBlk"))

def masks(queue):
    with subprocess.Popen(["sleep", "60"]) as child:
        queue.append(("child", mask_of(f"/proc/{child.pid}/status")))
        # A child that blocks signals would not hear terminate().
        child.kill()
    thread = threading.Thread(target=lambda: queue.append(("thread", mask_of("/proc/thread-self/status"))))
    thread.start()
    thread.join()

expected, found, done = [], [], threading.Event()
masks(expected)

def look():
    masks(found)
    reactor.run_in_executor(None, lambda: masks(found), then=end)

def end(future):
    future.result()
    done.set()
    reactor.stop(0)

reactor = goev.Reactor(stall_warning=None)
reactor.call_soon(look)
"""


@pytest.mark.parametrize("how", ["reactor.run()", "reactor.start(); reactor.join()"])
def test_what_a_callback_starts_hears_signals(how):
    run_script(MASKS + f"{how}\nassert done.is_set()\nassert found == expected * 2, (found, expected)\n")


@pytest.mark.parametrize("signals", [True, False])
def test_run_works_where_threading_takes_another_thread_for_the_main_one(signals):
    """threading takes the thread that imports it first for the main one, and signals belong to another."""
    run_script(f"""
import _thread, sys, time
assert "threading" not in sys.modules
done = []

def live():
    import goev
    reactor = goev.Reactor(stall_warning=None)
    reactor.call_soon(reactor.stop, 0)
    done.append(reactor.run(signals={signals}))

_thread.start_new_thread(live, ())
until = time.monotonic() + 10
while not done and time.monotonic() < until:
    time.sleep(0.01)
assert done
""")
