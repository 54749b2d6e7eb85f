"""Metrics and health of a service: the supervisor asks its workers, and keeps the counters of ended workers."""

import asyncio
import os
import re
import signal
import socket

import pytest

from goev.service import Settings
from goev.service.channel import packed
from goev.service.process import StartFailed, Worker
from service_support import PLAIN, SLOW, Service, request
from support import Client, eventually

STAND_IN = """
    import sys, types
    import goev
    stand_in = types.ModuleType("goev.metrics")

    class Totals:
        def left(self):
            return None
        def __init__(self):
            self.kept, self.gone = {}, 0
        def update(self, worker_id, snapshot):
            self.kept[worker_id] = snapshot["accepted"]
        def retire(self, worker_id):
            self.gone += self.kept.pop(worker_id, 0)
        def text(self, figures):
            return f"{self.gone + sum(self.kept.values())} {figures['workers_ready']} {figures['restarts']}"

    def snapshot(reactors, acceptors):
        return {"accepted": sum(acceptor.stats()["accepted"] for acceptor in acceptors)}

    def pages(source):
        class Page(goev.http.Connection):
            async def on_request(self, request):
                if request.path == "/-/ready":
                    return request.respond(200 if source.is_ready else 503, None, b"%d" % source.is_ready)
                request.respond(200, None, (await source.collect()).encode())
        return Page

    stand_in.Totals, stand_in.snapshot, stand_in.pages = Totals, snapshot, pages
    async def refresh(totals, workers):
        for worker_id, ask in workers.items():
            totals.update(worker_id, await ask())

    stand_in.refresh, stand_in.process_figures, stand_in.SupervisorFigures = refresh, dict, dict
    sys.modules["goev.metrics"] = stand_in
    exposition = types.ModuleType("goev.metrics.exposition")
    exposition.check_installed = lambda: None
    sys.modules["goev.metrics.exposition"] = exposition
"""
PROGRAM_WITH_METRICS = """
    import app  # has the stand-in for goev.metrics
    import sys
    from goev.service import Settings, run

    if __name__ == "__main__":
        path = eval(sys.argv[1])["metrics"]
        sys.exit(run(Settings(target=app.Site, listen=("127.0.0.1:0",), workers=2, metrics=path, grace=5.0)))
"""


def test_the_supervisor_sums_up_what_its_workers_count_also_of_those_that_ended(tmp_path):
    path = f"unix:{tmp_path}/metrics"
    with Service(tmp_path, STAND_IN + PLAIN, program=PROGRAM_WITH_METRICS, metrics=path).serving() as service:
        for _ in range(10):
            service.ask()
        assert ask(tmp_path) == b"10 2 {}"
        assert ask(tmp_path, "/-/ready") == b"1"
        os.kill(service.workers()[0], signal.SIGKILL)
        service.logged(r"worker \d \(process \d+\) serves")
        eventually(lambda: ask(tmp_path) == b"10 2 {'died': 1}", "the sum stays", SLOW)
        assert service.end() == 0


def ask(folder, path="/metrics"):
    with Client(f"{folder}/metrics") as client:
        return request(client, path)


ASGI = """
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": kind + ".complete"})
                if kind == "lifespan.shutdown":
                    return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"""
PROGRAM_OF_ASGI = """
    import sys
    from goev.service import Settings, run

    if __name__ == "__main__":
        sys.exit(run(Settings(target=TARGET, interface=INTERFACE, app_dir=".", listen=("127.0.0.1:0",), grace=5.0,
                              metrics=eval(sys.argv[1])["metrics"])))
"""


@pytest.mark.parametrize(("target", "interface", "app"), [("app:app", "asgi", ASGI), ("app:Site", "goev", PLAIN)])
def test_a_reload_and_an_upgrade_lose_no_count_although_nobody_has_asked_before(tmp_path, target, interface, app):
    pytest.importorskip("prometheus_client")
    program = PROGRAM_OF_ASGI.replace("TARGET", repr(target)).replace("INTERFACE", repr(interface))

    def counted() -> int:
        found = re.search(rb'goev_http_requests_total\{status="2xx"\} ([\d.]+)', ask(tmp_path, "/metrics"))
        assert found is not None
        return int(float(found[1]))

    with Service(tmp_path, app, program=program, metrics=f"unix:{tmp_path}/metrics").serving() as service:
        for _ in range(3):
            service.ask()
        service.reload(1)
        eventually(lambda: len(service.workers()) == 1, "the old worker has ended", SLOW)
        assert counted() == 3, service.log
        service.ask()
        for count in (2, 3):
            service.send(signal.SIGUSR2)
            service.logged("serving on ", count)
            assert counted() == 4
        assert b'goev_worker_restarts_total{reason="reload"} 1.0' in ask(tmp_path, "/metrics")
        assert service.end() == 0
        assert not (tmp_path / "metrics").exists()


def test_a_worker_that_answers_and_ends_at_once_gives_its_figures_once():
    """Else they would be added again to the figures that it had left."""

    async def answered_and_ended() -> None:
        ours, theirs = socket.socketpair()
        stacks, write = os.pipe()
        os.close(write)
        worker = Worker(0, 1, ours, stacks, Settings(target="app:Site"))
        asked = asyncio.ensure_future(worker.snapshot())
        await asyncio.sleep(0)
        theirs.sendall(packed({"is": "metrics", "number": 1, "snapshot": {"accepted": 1}}))
        theirs.close()
        worker.ended(0)
        with pytest.raises(StartFailed, match="it has ended"):
            await asked

    asyncio.run(answered_and_ended())
