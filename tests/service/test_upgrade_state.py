"""The state that the supervisor leaves to the program that replaces it."""

import json
from types import SimpleNamespace

from goev.service.process import Phase
from goev.service.upgrade import State


def test_the_last_words_of_a_worker_that_was_not_reaped_go_to_the_next_program():
    worker = SimpleNamespace(
        place=0,
        pid=17,
        channel=SimpleNamespace(end=SimpleNamespace(fileno=lambda: 5)),
        stacks=6,
        phase=Phase.STOPPING,
        pollers=2,
        report=(3, 1),
        last={"requests": 4},
    )
    supervisor = SimpleNamespace(
        sockets=SimpleNamespace(metrics=None, addresses=[]),
        workers={17: worker},
        places=[],
        settings=SimpleNamespace(workers=1),
        restarts={},
        _pages=None,
    )
    [record] = json.loads(json.dumps(State.of(supervisor).workers))
    assert (record["pid"], record["report"], record["last"]) == (17, [3, 1], {"requests": 4})
