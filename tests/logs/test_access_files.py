"""The file of an access log: shared, moved away, full, never read; and the ends of the process."""

import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import goev
import goev.logs
from http_support import Hello, HttpClient, get
from logs_support import written
from support import PATIENCE, Child, eventually, run_script


def ask(client, count, target="/"):
    """Ask for so many answers at once, a few at a time."""
    for first in range(0, count, 50):
        some = min(50, count - first)
        client.send(b"".join(get(f"{target}{number}") for number in range(first, first + some)))
        for _ in range(some):
            client.answer()


def test_a_lonely_line_is_written_within_moments(connected, access_log):
    log = access_log()
    connected(Hello, access_log=log).ask(get("/"))
    eventually(lambda: log.path.read_text() == "GET / 200\n", "the line is there without a flush", 1.0)
    assert log.stats() == {"written": 1, "dropped": 0, "errors": 0, "waiting": 0}


def test_rotation_under_load_loses_no_line(start, stack, access_log, tmp_path):
    log = access_log("{target}")
    server = start(Hello, pollers=2, access_log=log)
    clients = [HttpClient(stack, server) for _ in range(4)]
    threads = [threading.Thread(target=ask, args=(client, 500, f"/{name}/")) for name, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    moved = 0
    while any(thread.is_alive() for thread in threads):
        log.path.rename(tmp_path / f"access.log.{moved}")
        moved += 1
        log.reopen()
    for thread in threads:
        thread.join(PATIENCE)
    eventually(lambda: log.stats()["written"] == 2000, "all lines are written")
    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert moved > 3
    assert sorted(lines) == sorted(f"/{name}/{number}" for name in range(4) for number in range(500))
    assert log.stats()["dropped"] == 0


def test_the_old_file_gets_nothing_after_reopen(connected, access_log, tmp_path):
    log = access_log("{target}")
    client = connected(Hello, access_log=log)
    client.ask(get("/old"))
    assert written(log, 1) == ["/old"]
    old = log.path.rename(tmp_path / "old")
    log.reopen()
    client.ask(get("/new"))
    eventually(lambda: log.path.read_text() == "/new\n", "the new file gets it")
    assert old.read_text() == "/old\n"


def test_a_file_that_cannot_be_opened_anew_leaves_the_old_one(connected, access_log, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = access_log("{target}", path=folder / "access.log")
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="cannot open the log"):
        log.reopen()
    connected(Hello, access_log=log).ask(get("/kept"))
    eventually(lambda: (moved / "access.log").read_text() == "/kept\n", "the old file gets it")


def test_a_full_disk_drops_counts_and_is_told_of(connected, access_log, log):
    lines = access_log(path=Path("/dev/full"))
    client = connected(Hello, access_log=lines)
    ask(client, 100)
    eventually(lambda: lines.flush() and lines.stats()["dropped"] == 100, "all lines are lost")
    record, text = log.next()
    assert "the log /dev/full lost " in text
    assert "No space left on device" in text
    assert (record.levelname, record.peer, record.callback) == ("WARNING", None, None)
    stats = lines.stats()
    assert (stats["written"], stats["dropped"], stats["waiting"]) == (0, 100, 0)
    assert stats["errors"] >= 1


def test_a_disk_with_room_again_gets_whole_lines(tmp_path):
    """``RLIMIT_FSIZE`` stands in for a disk that is full amid a line: the kernel takes a part of a write."""
    path = tmp_path / "access.log"
    out = run_script(LIMITED, str(path))
    assert out == "full\nwhole"


LIMITED = """
    import logging, resource, socket, sys
    from pathlib import Path
    import goev, goev.logs

    logging.getLogger("goev").addHandler(logging.NullHandler())
    path = Path(sys.argv[1])

    class Hello(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, None, b"")

    def ask(client, target):
        client.sendall(f"GET {target} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
        data = b""
        while b"\\r\\n\\r\\n" not in data:
            data += client.recv(4096)

    def wait(count):
        while log.stats()["written"] + log.stats()["dropped"] < count:
            log.flush()

    log = goev.logs.AccessLog(path, format="{target}")
    with goev.Reactor() as reactor:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Hello, access_log=log)
        reactor.start()
        client = socket.create_connection(acceptor.address)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (25, hard))
        for number in range(5):
            ask(client, f"/first-{number}")
        wait(5)
        assert path.stat().st_size == 25, path.read_text()
        assert log.stats()["dropped"] >= 2, log.stats()
        print("full")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        ask(client, "/later")
        wait(6)
        lines = path.read_text().splitlines()
        assert lines[:2] == ["/first-0", "/first-1"] and lines[-1] == "/later", lines
        assert all(line.startswith("/first-") and len(line) == 8 for line in lines[:-1]), lines
        stats = log.stats()
        assert (stats["written"], stats["written"] + stats["dropped"]) == (len(lines), 6), (stats, lines)
        client.close()
        print("whole")
"""


def open_files() -> set[str]:
    """The paths of this process's descriptors."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # it was closed just now
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def test_a_fifo_without_a_reader_holds_up_no_request(connected, access_log, tmp_path, log):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    lines = access_log("{target}{request.x-fill}", path=path, capacity=100_000)
    client = connected(Hello, access_log=lines)
    for number in range(2000):
        client.send(get(f"/{number:04}", "X-Fill: " + "x" * 150))
        client.answer()
    assert not lines.flush(0.05)
    stats = lines.stats()
    assert stats["waiting"] <= 100_000
    assert stats["dropped"] > 0
    assert not lines.close(0.1)
    stats = lines.stats()
    assert (stats["written"] + stats["dropped"], stats["waiting"]) == (2000, 0)
    assert "the file takes them too slowly" in log.next()[1]
    eventually(lambda: str(path) not in open_files(), "the thread closes the FIFO")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as reader:
        # The last writer has closed the pipe, so its unread bytes are lost.
        assert reader.read() == ""


def test_a_reader_of_a_fifo_may_come_late(connected, access_log, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    lines = access_log("{target}", path=path)
    ask(connected(Hello, access_log=lines), 100)
    with open(path) as reader:
        assert [reader.readline() for _ in range(100)] == [f"/{number}\n" for number in range(100)]


def test_many_processes_append_whole_lines_to_one_file(tmp_path):
    path = tmp_path / "access.log"
    children = [Child.running(WORKER, str(path), str(number)) for number in range(4)]
    for child in children:
        with child:
            assert child.end() == 0, child.errors
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 4 * 500
    for number in range(4):
        targets = [line["target"] for line in lines if line["worker"] == number]
        assert sorted(targets) == sorted(f"/{target}" for target in range(500))


# Ends without a flush: the end of the interpreter writes the rest.
WORKER = """
    import socket, sys
    import goev, goev.logs

    class Hello(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, None, b"")

    log = goev.logs.AccessLog(sys.argv[1], format="json", worker=int(sys.argv[2]))
    reactor = goev.Reactor()
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Hello, access_log=log)
    reactor.start()
    client = socket.create_connection(acceptor.address)
    for target in range(500):
        client.sendall(f"GET /{target} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
        data = b""
        while b"\\r\\n\\r\\n" not in data:
            data += client.recv(4096)
    client.close()
"""


def test_standard_output_gets_the_lines():
    source = WORKER.replace("range(500)", "range(3)")
    assert [json.loads(line)["target"] for line in run_script(source, "-", "0").splitlines()] == ["/0", "/1", "/2"]


def test_a_forked_child_is_told_so_and_disturbs_nothing(tmp_path):
    out = run_script(
        """
        import os, sys, warnings
        import goev, goev.logs

        warnings.simplefilter("ignore", DeprecationWarning)
        log = goev.logs.AccessLog(sys.argv[1])
        pid = os.fork()
        if pid == 0:
            for method in (log.stats, log.flush, log.reopen, log.close):
                try:
                    method()
                except RuntimeError as error:
                    print(error)
            del log
            sys.exit()
        os.waitpid(pid, 0)
        print(log.flush(), log.close())
        """,
        str(tmp_path / "access.log"),
    )
    told = "this log belongs to the parent process: after os.fork() make a new one in the child [GOEV103]"
    assert out.splitlines() == [told] * 4 + ["True True"]


def test_a_closed_log_drops_and_counts(connected, access_log):
    log = access_log()
    client = connected(Hello, access_log=log)
    client.ask(get("/1"))
    assert written(log, 1) == ["GET /1 200"]
    assert log.close()
    client.ask(get("/2"))
    eventually(lambda: log.stats()["dropped"] == 1, "the later line is dropped")
    assert log.path.read_text() == "GET /1 200\n"
    assert log.close()
    with pytest.raises(RuntimeError, match="the log is closed"):
        log.reopen()


def writers() -> set[str]:
    """The threads of this process that write logs."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread may end meanwhile
            if (task / "comm").read_text() == "goev-log\n":
                found.add(task.name)
    return found


def test_a_log_that_nothing_refers_to_writes_the_rest_and_ends_its_thread(connected, tmp_path, stack):
    others = writers()  # a log of another test may be closed already, and its thread end a moment later
    with goev.Reactor() as reactor:
        acceptor = goev.Acceptor(
            reactor, "127.0.0.1:0", Hello, access_log=goev.logs.AccessLog(tmp_path / "log", format="{target}")
        )
        reactor.start()
        with socket.create_connection(acceptor.address) as client:
            client.sendall(get("/x", "Connection: close"))
            while client.recv(4096):
                pass
        (own,) = eventually(lambda: writers() - others, "the thread has its name")
    del acceptor, reactor
    eventually(lambda: own not in writers(), "the thread ends")
    assert (tmp_path / "log").read_text() == "/x\n"


def test_a_path_is_absolute_from_the_start(tmp_path, monkeypatch, access_log):
    monkeypatch.chdir(tmp_path)
    log = access_log(path="here.log")
    assert log.path == tmp_path / "here.log"
    assert repr(log) == f"<goev.logs.AccessLog {tmp_path}/here.log>"
