"""Workers that are copies of the supervisor. They are made between two runs of its event loop, never inside one."""

import contextlib
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Collection

from goev.service import worker
from goev.service.process import BLOCKED, channel_ends


def descriptors() -> set[int]:
    """The descriptors that this process has open."""
    return {int(name) for name in os.listdir("/proc/self/fd")}


def fork(kept: Collection[int]) -> tuple[int, socket.socket, int]:
    """Make a worker; return its process id, our end of its channel, and the pipe of its stacks.

    The copy keeps the descriptors ``kept``, which were open before the supervisor began. It never returns.
    """
    with channel_ends() as (ours, theirs, read, write):
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _be_worker({*kept, theirs.fileno(), write}, theirs, write)
    return pid, ours, read


def _be_worker(kept: Collection[int], end: socket.socket, stacks: int) -> None:
    status = worker.FAILED
    try:
        signal.set_wakeup_fd(-1)
        for number in (*BLOCKED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _hide(kept)
        status = worker.serve(end, stacks)
        logging.shutdown()  # lines may wait for the thread of a StderrHandler
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)  # the ends of the program are the supervisor's


def _hide(kept: Collection[int]) -> None:
    """Replace the supervisor's descriptors by the null device.

    Their numbers stay taken: objects of the supervisor still hold them, and would close descriptors that got them.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in descriptors() - {*kept, null}:
        with contextlib.suppress(OSError):  # the descriptor with which the folder was read
            os.dup2(null, fd, inheritable=False)
    os.close(null)
