"""The stack of a poller's thread: as large as those of Python's own threads, so that the same code fits."""

import importlib.util

import pytest

from support import run_script

STACK = """
import ctypes, resource, sys, threading
import goev

MIB = 1 << 20

class Attributes(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char * 128)]

def stack_size():
    libc, attributes = ctypes.CDLL(None), Attributes()
    libc.pthread_self.restype = ctypes.c_void_p
    assert libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), ctypes.byref(attributes)) == 0
    size = ctypes.c_size_t()
    assert libc.pthread_attr_getstacksize(ctypes.byref(attributes), ctypes.byref(size)) == 0
    libc.pthread_attr_destroy(ctypes.byref(attributes))
    return size.value

def on_poller(function):
    results = []
    def call():
        try:
            results.append(function())
        finally:
            reactor.stop(0)
    reactor = goev.Reactor(stall_warning=None)
    reactor.call_soon(call)
    reactor.start()
    reactor.join(20)
    return results[0]

def in_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]

def soft_limit(size):
    resource.setrlimit(resource.RLIMIT_STACK, (size, resource.getrlimit(resource.RLIMIT_STACK)[1]))

def about(size):
    return size <= on_poller(stack_size) < size + MIB
"""


def test_a_pollers_stack_is_the_soft_limit_but_not_small():
    run_script(
        STACK
        + """
# The smaller one first: the C library uses the stacks of ended threads again.
soft_limit(1 * MIB)
assert about(8 * MIB)
soft_limit(24 * MIB)
assert about(24 * MIB)
"""
    )


def test_a_pollers_stack_is_what_threading_was_told_and_that_stays_told():
    run_script(
        STACK
        + """
threading.stack_size(32 * MIB)
assert about(32 * MIB)
assert about(32 * MIB)
assert threading.stack_size() == 32 * MIB
"""
    )


def test_a_sort_that_recurses_in_c_fits_as_on_a_thread_of_pythons():
    run_script(
        STACK
        + """
def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value

def recurse(value):
    value.sort(key=recurse)
    return 0

assert in_thread(lambda: recurse(nested(470))) == on_poller(lambda: recurse(nested(470))) == 0
"""
    )


def test_setrecursionlimit_bounds_callbacks_as_it_bounds_threads():
    run_script(
        STACK
        + """
def depth(reached=0):
    try:
        return depth(reached + 1)
    except RecursionError:
        return reached

def raised():
    sys.setrecursionlimit(sys.getrecursionlimit() + 5000)
    return depth()

for limit in (300, 3000, 20000):
    sys.setrecursionlimit(limit)
    # The few frames of `threading` are below those of the callback.
    assert abs(in_thread(depth) - on_poller(depth)) < 30, limit
# In the callback itself it counts at once.
before = sys.getrecursionlimit()
assert abs(on_poller(raised) - before - 5000) < 30
"""
    )


@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="needs numpy: pip install numpy")
def test_lapack_fits():
    run_script(
        STACK
        + """
import numpy
matrix = numpy.eye(700) + numpy.ones((700, 700))
assert on_poller(lambda: numpy.linalg.inv(matrix).shape) == (700, 700)
"""
    )
