"""Workers: how they start, end, come back, and are replaced."""

import os
import re
import signal
import time
from textwrap import dedent

import pytest

from service_support import PLAIN, SLOW, Service, gone, refuses, request
from support import Client, eventually

METHODS = ["spawn", "fork"]


@pytest.mark.parametrize("method", METHODS)
def test_workers_serve_until_sigterm_and_none_is_left(tmp_path, method):
    with Service(tmp_path, workers=2, start_method=method).serving() as service:
        workers = service.workers()
        assert len(workers) == 2
        eventually(lambda: service.worker() in workers, "a worker answers")
        address = service.address
        assert service.end() == 0
        gone(*workers)
        assert refuses(address)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_other_signals_end_it_too(tmp_path, number):
    with Service(tmp_path).serving() as service:
        assert service.end(number) == 0


def test_the_start_up_line_says_where_and_how_many(tmp_path):
    path = tmp_path / "site.sock"
    options = {"listen": ("127.0.0.1:0", f"unix:{path}"), "workers": 2, "reactor": {"pollers": 1}}
    with Service(tmp_path, **options) as service:
        service.logged(
            rf"serving on 127.0.0.1:\d+, unix:{path} \(plain\) with 2 workers of 1 poller each; supervisor \d+"
        )
        with Client(str(path)) as client:
            assert int(request(client)) in service.workers()
        assert service.end() == 0
        assert not path.exists()


LOGS = """
    import logging
    import goev

    class Site(goev.http.Connection):
        def on_request(self, request):
            logging.getLogger("shop").info("asked")
            request.respond(200, None, b"yes")
"""
# A program with a log handler, which the workers get too, by a copy or by its import.
WITH_A_HANDLER = """
    import logging, sys
    import app
    from goev.service import Logging, Settings, run

    logging.basicConfig(format="of the program: %(message)s", level=logging.INFO)
    if __name__ == "__main__":
        options = eval(sys.argv[1])
        logging_ = Logging(format=options.pop("format"))
        sys.exit(run(Settings(target=app.Site, listen=("127.0.0.1:0",), grace=5.0, logging=logging_, **options)))
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_line_of_a_worker_has_the_form_of_the_text_formatter(tmp_path, method):
    with Service(tmp_path, LOGS, start_method=method).serving() as service:
        service.ask()
        service.logged(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO     shop \[worker 0, poller 0\]: asked$")
        assert service.end() == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_of_a_worker_is_written_once_although_the_program_has_a_handler(tmp_path, method, form):
    with Service(tmp_path, LOGS, program=WITH_A_HANDLER, start_method=method, format=form).serving() as service:
        service.logged("of the program: serving on")
        service.ask()
        service.logged("asked")
        assert service.end() == 0
        assert service.log.count("asked") == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_raises_at_import_ends_the_start_with_its_traceback(tmp_path, method):
    with Service(tmp_path, 'raise LookupError("no such table")', workers=2, start_method=method) as service:
        assert service.child.end(SLOW) == 3
        assert 'raise LookupError("no such table")' in service.log
        assert "the workers cannot start" in service.log


def test_a_worker_that_hangs_at_import_ends_the_start_with_its_stack(tmp_path):
    with Service(tmp_path, "import time\ntime.sleep(1000)", start_timeout=2.0) as service:
        assert service.child.end(SLOW) == 3
        assert "was not ready within start_timeout=2 s" in service.log
        assert "app.py" in service.log  # where it hangs


def test_a_killed_worker_is_replaced(tmp_path):
    with Service(tmp_path, workers=2).serving() as service:
        before = service.workers()
        os.kill(before[0], signal.SIGKILL)
        service.logged(r"worker \d \(process \d+\) was ended by SIGKILL")
        service.logged(r"worker \d \(process \d+\) serves")
        assert len(service.workers()) == 2
        assert before[0] not in service.workers()
        assert service.end() == 0


def test_the_connections_of_a_dead_worker_do_not_wait_in_its_backlog(tmp_path):
    """The other worker listens for it until the successor is there, and no longer."""
    slow = "import os, time\nif os.path.exists('slow'): time.sleep(3)\n"
    with Service(tmp_path, slow + dedent(PLAIN), workers=2).serving() as service:
        (tmp_path / "slow").touch()
        before = service.workers()
        os.kill(before[0], signal.SIGKILL)
        service.logged("was ended by SIGKILL")
        began = time.monotonic()
        answered = {service.worker() for _ in range(20)}
        assert answered == {before[1]}
        assert time.monotonic() - began < 2.5
        service.logged(r"worker \d \(process \d+\) serves")
        eventually(lambda: service.worker() not in before, "the successor gets connections")
        assert service.end() == 0


def test_a_worker_that_dies_again_and_again_is_started_less_and_less_often(tmp_path):
    app = dedent(PLAIN) + "\nimport threading\nthreading.Timer(0.05, os._exit, (9,)).start()\n"
    with Service(tmp_path, app).serving() as service:
        service.logged("ended with status 9", 5)
        assert service.child.process.poll() is None
        began = time.monotonic()
        service.logged("ended with status 9", 7)
        assert time.monotonic() - began > 0.8
        service.end()


def test_workers_end_when_the_supervisor_is_killed(tmp_path):
    with Service(tmp_path, workers=2).serving() as service:
        workers, address = service.workers(), service.address
        with Client(address) as client:
            request(client)
            service.send(signal.SIGKILL)
            gone(*workers)
            assert refuses(address)


def test_a_worker_that_hangs_at_import_ends_when_the_supervisor_is_killed(tmp_path):
    with Service(tmp_path, "import time\ntime.sleep(1000)") as service:
        (worker,) = eventually(service.workers, "a worker was started", SLOW)
        eventually(lambda: _has_threads(worker, 2), "its control thread runs", SLOW)
        service.send(signal.SIGKILL)
        gone(worker)


def _has_threads(pid: int, count: int) -> bool:
    return len(os.listdir(f"/proc/{pid}/task")) >= count


def test_a_second_sigterm_ends_it_at_once(tmp_path):
    app = """
        import goev

        class Site(goev.Connection):
            def on_read(self):
                self.write(self.read())
            def on_stopping(self):
                print("told", flush=True)  # the connection stays open
    """
    with Service(tmp_path, app, grace=60.0).serving() as service, Client(service.address) as client:
        assert client.ask(b"x") == b"x"
        service.send(signal.SIGTERM)
        assert service.child.line(SLOW) == "told"
        began = time.monotonic()
        assert service.end() == 0
        assert time.monotonic() - began < 10


# Hangs at its import as long as there is a FIFO, which the test opens and removes.
GATED = dedent("""
    import os
    import goev.service
    if goev.service.is_worker and os.path.exists("gate"):
        open("gate").close()
""") + dedent(PLAIN)


@pytest.mark.parametrize(
    ("number", "log"),
    [
        (signal.SIGHUP, "reloaded: "),
        (signal.SIGUSR2, "upgrading"),
        (signal.SIGTTIN, r"worker 1 \(process \d+\) serves"),
    ],
)
def test_a_signal_that_comes_before_the_first_workers_serve_has_its_effect_then(tmp_path, number, log):
    os.mkfifo(tmp_path / "gate")
    with Service(tmp_path, GATED) as service:
        eventually(service.workers, "the first worker starts", SLOW)
        service.send(number)
        with open(tmp_path / "gate", "w"):
            os.unlink(tmp_path / "gate")
        service.logged(log)
        assert service.end() == 0


def test_more_and_fewer_workers(tmp_path):
    with Service(tmp_path, workers=1).serving() as service:
        (first,) = service.workers()
        service.send(signal.SIGTTIN)
        service.logged(r"worker 1 \(process \d+\) serves")
        assert len(service.workers()) == 2
        eventually(lambda: service.worker() != first, "the second one gets connections")
        service.send(signal.SIGTTOU)
        service.logged("no longer wanted")
        eventually(lambda: service.workers() == [first], "one is left", SLOW)
        assert {service.worker() for _ in range(20)} == {first}  # also from the backlog of the other
        service.send(signal.SIGTTOU)
        service.logged("one worker stays")  # the kernel brings two signals at once in the order of their numbers
        service.send(signal.SIGTTIN)
        service.logged(r"worker 1 \(process \d+\) serves", 2)
        assert first in service.workers()
        assert service.end() == 0


LIMITS = [{"max_requests": 5, "jitter": 0.0}, {"max_lifetime": 0.5}, {"max_memory": 1}]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: next(iter(limit)))
def test_a_worker_at_its_limit_is_replaced_and_no_client_is_refused(tmp_path, limit):
    with Service(tmp_path, **limit).serving() as service:
        first = service.worker()
        end = time.monotonic() + SLOW
        while service.worker() == first:
            assert time.monotonic() < end, service.log
        gone(first)
        assert "was ended by" not in service.log
        assert service.end() == 0


STUCK = """
    import ctypes, os, time
    import goev

    class Site(goev.http.Connection):
        def on_request(self, request):
            if request.path == "/sleep":
                time.sleep(1000)
            if request.path == "/lock":
                ctypes.PyDLL(None).sleep(1000)  # with the interpreter lock
            request.respond(200, None, b"%d" % os.getpid())
"""


@pytest.mark.parametrize("path", ["/sleep", "/lock"])
def test_a_worker_that_stands_still_is_killed_and_its_stack_logged(tmp_path, path):
    # The signal of a stall warning would end the sleep with the lock.
    with Service(tmp_path, STUCK, stuck_timeout=1.0, reactor={"stall_warning": None}).serving() as service:
        with Client(service.address) as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            service.logged("stands still for longer than stuck_timeout=1 s")
            service.logged("was ended by SIGABRT")
            service.logged(r'app.py", line \d+ in on_request')
        service.logged(r"worker 0 \(process \d+\) serves")
        assert service.worker() in service.workers()
        assert service.end() == 0


def test_workers_run_on_the_cpus_that_were_asked_for(tmp_path):
    cpus = sorted(os.sched_getaffinity(0))
    with Service(tmp_path, workers=2, affinity=tuple(cpus)).serving() as service:
        found = sorted(tuple(os.sched_getaffinity(worker)) for worker in service.workers())
        assert found == sorted((cpus[place % len(cpus)],) for place in range(2))
        assert service.end() == 0


def test_the_pid_file_is_there_while_it_serves(tmp_path):
    path = tmp_path / "service.pid"
    with Service(tmp_path, pid_file=str(path)).serving() as service:
        assert int(path.read_text()) == service.child.pid
        assert service.end() == 0
        assert not path.exists()


def test_an_address_that_another_service_listens_on_is_refused(tmp_path):
    with Service(tmp_path).serving() as service:
        (tmp_path / "other").mkdir()
        with Service(tmp_path / "other", listen=(f"127.0.0.1:{service.port}",), workers=2) as other:
            assert other.child.end(SLOW) == 1
            assert "Address already in use" in other.log
        assert service.end() == 0


WRONG = [
    ({"workers": 0}, "ValueError: workers must be from 1 to 1,024, not 0"),
    ({"grace": -1}, "ValueError: grace must be 0 seconds or more, not -1"),
    ({"start_timeout": 0}, "ValueError: start_timeout must be more than 0 seconds, not 0"),
    ({"start_method": "thread"}, "ValueError: start_method must be 'spawn' or 'fork', not 'thread'"),
    ({"affinity": (4096,)}, "ValueError: affinity must name CPUs of this process"),
    ({"listen": ()}, "ValueError: listen must name at least one address"),
    ({"jitter": 2}, "ValueError: jitter must be from 0 to 1, not 2"),
    ({"acceptor": {"max_input": -1}}, "max_input"),
    ({"acceptor": {"no_such_option": 1}}, "no_such_option"),
]


def test_wrong_settings_are_refused_before_anything_listens(tmp_path):
    program = """
        import sys
        import goev
        from goev.service import Settings, run
        for options, _ in eval(sys.argv[1])["cases"]:
            try:
                run(Settings(**{"target": goev.Connection, "listen": ("127.0.0.1:0",), **options}))
            except (TypeError, ValueError) as error:
                print(f"{type(error).__name__}: {error}", flush=True)
    """
    with Service(tmp_path, program=program, cases=WRONG) as service:
        for options, text in WRONG:
            assert text in service.child.line(SLOW), options
        assert service.child.end() == 0


IN_A_PROGRAM = """
    import os, sys
    import goev

    class Echo(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, None, b"%d" % os.getpid())

    if __name__ == "__main__" or len(sys.argv) > 2:
        report = goev.serve(
            Echo, "127.0.0.1:0", workers=2, max_input=8192, start_method="@",
            ready=lambda at: print(at.address[1], flush=True),
        )
        print(report)
"""


@pytest.mark.parametrize("method", METHODS)
def test_goev_serve_with_workers_serves_a_class_of_the_program(tmp_path, method):
    with Service(tmp_path, program=IN_A_PROGRAM.replace("@", method)) as service:
        port = int(service.child.line(SLOW))
        with Client(("127.0.0.1", port)) as client:
            assert int(request(client)) in service.workers()
            service.send(signal.SIGINT)
            assert client.receive_all() == b""
        assert service.child.line(SLOW).startswith("StopReport(closed=")
        assert service.child.end() == 0


AN_APPLICATION = """
    import goev

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            return await send({"type": "http.response.body", "body": scope["state"]["greeting"]})
        await receive()
        scope["state"]["greeting"] = b"hello"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shut down", flush=True)
        await send({"type": "lifespan.shutdown.complete"})

    class Site(goev.asgi.Connection):
        app = app

    if __name__ == "__main__":
        goev.serve(Site, "127.0.0.1:0", workers=1, ready=lambda at: print(at.address[1], flush=True))
"""


def test_goev_serve_with_workers_begins_and_ends_an_application(tmp_path):
    with Service(tmp_path, program=AN_APPLICATION) as service:
        with Client(("127.0.0.1", int(service.child.line(SLOW)))) as client:
            assert request(client) == b"hello"
        service.send(signal.SIGTERM)
        assert service.child.line(SLOW) == "shut down"
        assert service.child.end() == 0


def test_a_program_without_a_guard_is_told_what_to_write(tmp_path):
    program = IN_A_PROGRAM.replace(" or len(sys.argv) > 2", " or True").replace("@", "spawn")
    with Service(tmp_path, program=program) as service:
        assert service.child.end(SLOW) == 1
        assert "below 'if __name__ == \"__main__\":'" in service.log


def test_a_tls_context_cannot_go_to_workers():
    import goev

    with pytest.raises(TypeError, match="tls must be a dict"):
        goev.serve(goev.Connection, "127.0.0.1:0", workers=2, tls=object())


def test_a_limit_that_every_worker_reaches_at_once_makes_for_pauses_and_is_told(tmp_path):
    with Service(tmp_path, max_memory=1).serving() as service:
        service.logged(r"worker 0 \(process \d+\) has reached max_memory \([\d,]+\)", 7, 40.0)
        times = [
            float(hour) * 3600 + float(minute) * 60 + float(second)
            for hour, minute, second in re.findall(r"(\d\d):(\d\d):(\d\d\.\d{3}) .* worker 0 .* serves", service.log)
        ]
        assert times[-1] - times[-2] > 1.0  # the pauses grow
        assert service.end() == 0


ON_THE_LOOP = """
    async def site(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            ENDING
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"""
PROGRAM_WITH_REPORT = """
    import sys
    from goev.service import Settings
    from goev.service.supervisor import Supervisor

    if __name__ == "__main__":
        supervisor = Supervisor.of(Settings(target="app:site", listen=("127.0.0.1:0",), grace=5.0))
        supervisor.run()
        print(supervisor.report, flush=True)
"""


def test_an_application_on_the_loop_ends_in_order_and_is_in_the_report(tmp_path):
    app = ON_THE_LOOP.replace("ENDING", "")
    with Service(tmp_path, app, program=PROGRAM_WITH_REPORT).serving() as service:
        with Client(service.address) as client:
            assert request(client) == b"ok"
            service.send(signal.SIGTERM)
            assert service.child.line(SLOW) == "(1, 0)"  # the connection that was open
        assert "ended with" not in service.log


def test_a_worker_that_fails_in_its_stop_is_told(tmp_path):
    app = ON_THE_LOOP.replace("ENDING", "import os; os._exit(5)")
    with Service(tmp_path, app, program=PROGRAM_WITH_REPORT).serving() as service:
        service.send(signal.SIGTERM)
        service.logged(r"ERROR .* worker 0 \(process \d+\) ended with status 5")
        assert service.child.end(SLOW) == 0
