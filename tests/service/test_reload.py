"""Reloads: nothing is lost, and a new generation that fails leaves the old one serving."""

import os
import re
import resource
import signal
import ssl
import time
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import pytest

import goev
from certificates import Authority
from load_support import Swarm, Wrk, fresh, kept
from service_support import PLAIN, SLOW, Service, answer, gone, request
from support import PATIENCE, Client, eventually, need


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_reload_serves_the_new_code_and_ends_the_old_workers(tmp_path, method):
    with Service(tmp_path, workers=2, start_method=method).serving() as service:
        before = service.workers()
        assert service.worker() in before
        service.write(PLAIN.replace("os.getpid()", "42"))
        service.reload(1)
        gone(*before)
        assert {service.worker() for _ in range(10)} == {42}
        assert service.end() == 0


def test_a_request_that_is_under_way_is_answered_by_the_old_worker(tmp_path):
    with Service(tmp_path, WAITS).serving() as service, Client(service.address) as client:
        old = service.worker()
        client.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert service.child.line(SLOW) == "waits"
        service.reload(1)
        assert int(answer(client)) == old
        assert client.receive_all() == b""  # its answer said so
        gone(old)
        assert service.end() == 0


WAITS = """
    import os
    import goev

    class Site(goev.http.Connection):
        def on_request(self, request):
            if request.path != "/wait":
                return request.respond(200, None, b"%d" % os.getpid())
            print("waits", flush=True)
            self.schedule(3.0, lambda: request.respond(200, None, b"%d" % os.getpid()))
"""


def test_the_old_workers_have_been_told_to_stop_when_the_log_says_reloaded(tmp_path):
    with Service(tmp_path, program=TELLS_PHASES).serving() as service:
        service.reload(1)
        assert service.child.line(SLOW) == "serving, stopping"
        assert service.end() == 0


TELLS_PHASES = """
    import logging, sys
    from goev.service import Settings
    from goev.service.supervisor import Supervisor

    class Phases(logging.Handler):
        def emit(self, record):
            if "reloaded" in record.getMessage():
                print(*sorted(worker.phase.value for worker in supervisor.workers.values()), sep=", ", flush=True)

    if __name__ == "__main__":
        supervisor = Supervisor.of(Settings(target="app:Site", listen=("127.0.0.1:0",), grace=5.0))
        logging.getLogger().addHandler(Phases())
        sys.exit(supervisor.run())
"""


def test_an_idle_client_gets_an_answer_that_says_close(tmp_path):
    with Service(tmp_path, TELLS, drain=4.0).serving() as service, Client(service.address) as client:
        old = int(request(client))
        service.reload(1)
        assert service.child.line(SLOW) == "told"
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        said = client.receive_all()
        assert b"connection: close\r\n" in said.lower()
        assert said.endswith(str(old).encode())
        assert service.end() == 0


TELLS = (
    dedent(PLAIN)
    + """
    def on_stopping(self):
        print("told", flush=True)
        return super().on_stopping()
"""
)


def test_websockets_get_1001(tmp_path):
    app = """
        import os
        import goev

        class Site(goev.websocket.Connection):
            def on_message(self, message):
                self.send(message)
    """
    with Service(tmp_path, app).serving() as service:
        from websockets.sync.client import connect

        with connect(f"ws://127.0.0.1:{service.port}") as client:
            client.send("x")
            assert client.recv(PATIENCE) == "x"
            service.reload(1)
            with pytest.raises(Exception, match="1001"):
                client.recv(PATIENCE)
        assert service.end() == 0


FAILING = {
    "raises": ('raise LookupError("no such table")', 'LookupError("no such table")'),
    "hangs": ("import time\ntime.sleep(1000)", "was not ready within start_timeout=3 s"),
    "ends": ("import os\nos._exit(7)", "ended with status 7"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_new_generation_that_fails_leaves_the_old_one_serving(tmp_path, kind):
    source, text = FAILING[kind]
    with Service(tmp_path, workers=2, start_timeout=3.0).serving() as service:
        before = service.workers()
        service.write(source)
        service.send(signal.SIGHUP)
        service.logged("the reload failed, and the old workers serve on")
        assert text in service.log
        assert service.worker() in before
        eventually(lambda: sorted(service.workers()) == sorted(before), "the new ones are gone", SLOW)
        service.write(PLAIN)
        service.reload(1)
        eventually(lambda: service.worker() not in before, "the next reload works", SLOW)
        assert service.end() == 0


def test_a_certificate_that_is_wrong_at_reload_leaves_the_old_one_serving(tmp_path):
    authority = Authority()
    first = authority.issue("localhost")
    certificate, key = first.files(tmp_path)
    with Service(tmp_path, tls={"certificate": str(certificate), "key": str(key)}).serving() as service:
        assert "(TLS)" in service.log
        certificate.write_text("no certificate")
        service.send(signal.SIGHUP)
        service.logged("the reload failed")
        assert 'server.pem" is not PEM' in service.log
        assert shown_by(service) == first.der
        second = authority.issue("localhost")
        second.files(tmp_path)
        service.reload(1)
        assert shown_by(service) == second.der
        assert service.end() == 0


def shown_by(service: Service) -> bytes:
    """The certificate of a TLS server, without any check."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(service.address))


def test_reloads_that_come_together_are_two_at_most(tmp_path):
    with Service(tmp_path).serving() as service:
        for _ in range(10):
            service.send(signal.SIGHUP)
            time.sleep(0.01)  # signals that arrive as one would prove nothing
        service.logged("reloaded: ")
        service.ask()
        service.end()
        assert 1 <= len(re.findall("reloaded: ", service.log)) <= 2


def test_a_stop_during_a_reload_ends_all_workers(tmp_path):
    with Service(tmp_path).serving() as service:
        service.write("import time\ntime.sleep(1000)")
        service.send(signal.SIGHUP)
        eventually(lambda: len(service.workers()) == 2, "the new worker was started", SLOW)
        workers = service.workers()
        assert service.end() == 0
        gone(*workers)


@pytest.mark.parametrize("metrics", [None, "127.0.0.1:0"], ids=["without-metrics", "with-metrics"])
def test_many_reloads_leave_no_descriptors_and_no_memory(tmp_path, metrics):
    options = {"start_method": "fork", "drain": 0.0, "grace": 1.0, "metrics": metrics}
    with Service(tmp_path, **options).serving() as service:
        reload_times(service, 0, 10)
        before = figures(service.child.pid)
        reload_times(service, 10, 60)
        eventually(lambda: figures(service.child.pid)[0] == before[0], "as many descriptors as before", SLOW)
        assert figures(service.child.pid)[1] <= before[1] + 2_000_000
        assert service.end() == 0


def reload_times(service: Service, begin: int, end: int) -> None:
    for count in range(begin, end):
        service.reload(count + 1)
    eventually(lambda: len(service.workers()) == 1, "the old workers are gone", SLOW)


def figures(pid: int) -> tuple[int, int]:
    """Descriptors and bytes of resident memory of a process."""
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return len(os.listdir(f"/proc/{pid}/fd")), memory


# ---- under load -----------------------------------------------------------------------------------------------------


UNDER_LOAD = """
    import goev

    class Echo(goev.websocket.Connection):
        def on_message(self, message):
            self.send(message)

    class Site(goev.http.Connection):
        def on_request(self, request):
            if request.path == "/echo":
                return goev.websocket.upgrade(request, Echo())
            request.respond(200, None, b"Hello")
"""


@pytest.mark.parametrize(("workers", "method"), [(1, "spawn"), (2, "fork")])
def test_twenty_reloads_under_load_lose_nothing(tmp_path, workers, method):
    """Four kinds of clients at once: wrk and h2load keep connections, ab opens one for each request, and a swarm of
    WebSockets comes back after 1001. Each reload begins when the one before has ended.

    Counted are refused connects, resets, and requests or messages without their answer. All are 0. A message may go
    unanswered by a worker that closes its connection with 1001, but only behind all that it has answered; the next
    worker answers it. A ``Connection: close`` in an answer is no loss, since the answer is whole.
    """
    wrk, ab, h2load = need("wrk"), need("ab", "apache2-utils"), need("h2load", "nghttp2-client")
    with Service(tmp_path, UNDER_LOAD, workers=workers, start_method=method).serving() as service:
        url = f"http://127.0.0.1:{service.port}/"
        with goev.Reactor(pollers=1) as reactor, ExitStack() as running:
            reactor.start()
            swarm = Swarm(reactor, f"ws://127.0.0.1:{service.port}/echo")
            keeping, loads = Wrk(wrk, url), [fresh(ab, url), kept(h2load, url)]
            running.callback(keeping.stop, SLOW)
            for load in loads:
                running.callback(load.stop)
            for count in range(20):
                service.reload(count + 1)
            swarm.stop(SLOW)
        for load in (keeping, *loads, swarm):
            assert load.problems == []
            assert load.answers > 0
        assert all(member.returns > 0 for member in swarm.members)
        assert " ERROR " not in service.log
        assert service.end() == 0


def test_a_reload_without_descriptors_leaves_the_old_workers_serving(tmp_path):
    with Service(tmp_path).serving() as service:
        old, limits = service.worker(), resource.prlimit(service.child.pid, resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir(f"/proc/{service.child.pid}/fd"))) + 1
        resource.prlimit(service.child.pid, resource.RLIMIT_NOFILE, (used, limits[1]))
        service.send(signal.SIGHUP)
        service.logged("the reload failed")
        assert "no process can be started" in service.log
        assert service.worker() == old
        resource.prlimit(service.child.pid, resource.RLIMIT_NOFILE, limits)
        service.reload(1)
        gone(old)
        assert service.worker() in service.workers()
        assert service.end() == 0


def test_an_application_on_its_event_loop_begins_and_ends_there(tmp_path):
    with Service(tmp_path, ON_LOOP, interface="asgi").serving() as service, Client(service.address) as client:
        assert request(client) == b"begun"
        service.reload(1)
        assert request(client) == b"begun"  # within its drain
        assert service.child.line(SLOW) == "ended"
        assert service.end() == 0
        assert service.child.line(SLOW) == "ended"


ON_LOOP = """
    import asyncio, sys, types
    import goev

    class Site(goev.http.Connection):
        state = []
        async def on_request(self, request):
            await asyncio.sleep(0.01)
            request.respond(200, None, self.state[0])

    class Application:
        on_loop = asyncio = True
        connection = Site
        def __init__(self, app, settings):
            pass
        async def begin(self):
            await asyncio.sleep(0.01)
            Site.state.append(b"begun")
        async def end(self):
            await asyncio.sleep(0.01)
            print("ended", flush=True)
        def close(self):
            pass

    stand_in = types.ModuleType("goev.asgi.interface")
    stand_in.Application = Application
    sys.modules["goev.asgi.interface"] = stand_in
"""
