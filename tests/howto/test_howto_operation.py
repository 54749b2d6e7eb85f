"""The pages on tests, stalls, figures and restarts: their programs print and log what the pages show."""

import re
import signal
import subprocess
import sys

import pytest
from test_docs import codes, rows
from test_readme import wait_until_it_serves_or_ends

import goev
from guides import FENCED
from howto_support import HowTo, needs_the_whole_file, write
from support import Client, eventually

TESTING, STALLS, STATS, RESTART = PAGES = [
    HowTo(f"{name}.md") for name in ("testing", "stalls", "stats", "graceful-restart")
]


def ask(port: int, path: str) -> bytes:
    """The body of an answer."""
    with Client(("127.0.0.1", port)) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return client.receive_all().partition(b"\r\n\r\n")[2]


# --- tests ---


def pytest_in(folder, *options: str) -> str:
    """The output of pytest in a project with the module of the page."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    write(folder, shout=TESTING.source(""))
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=60).stdout


def test_the_tests_without_and_with_sockets_pass(tmp_path):
    write(tmp_path, test_fast=TESTING.source("Without sockets"), test_real=TESTING.source("On a socket"))
    assert "3 passed" in pytest_in(tmp_path)


def test_the_test_with_pytest_asyncio_passes(tmp_path):
    write(tmp_path, conftest=TESTING.source("With pytest-asyncio"), test_api=TESTING.source("With pytest-asyncio", 1))
    assert "1 passed" in pytest_in(tmp_path)


def test_the_fixture_makes_errors_of_exceptions_in_callbacks(tmp_path):
    failing = """
import goev.testing
from shout import Shout


class Broken(Shout):
    def on_message(self, message):
        raise ValueError


def test_it():
    goev.testing.open(Broken()).receive(b"one\\n")
"""
    write(tmp_path, conftest=TESTING.source("When it goes wrong"), test_broken=failing)
    assert "1 passed, 1 error" in pytest_in(tmp_path)


# --- stalls ---


def test_a_stall_is_logged_as_the_page_shows(tmp_path):
    (shown,) = [text for language, text in FENCED.findall(STALLS.text) if language == "text"]
    with STALLS.program(tmp_path, "The line in the log") as child:
        port = wait_until_it_serves_or_ends(child)
        assert ask(port, "/report") == b"done\n"
        eventually(lambda: "time.sleep(0.3)" in child.errors, "the stack is logged")
        first, second, *stack = child.errors.splitlines()
    assert as_shown(first) == as_shown(shown.splitlines()[0])
    assert second == shown.splitlines()[1]
    assert re.sub(r'"\S*block\.py"', '"report.py"', "\n".join(stack)).find("\n".join(shown.splitlines()[2:])) >= 0


def as_shown(line: str) -> str:
    """Without the port, and without the time."""
    return re.sub(r"0\.\d{3} s", "0.1 s", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", line))


@pytest.mark.parametrize(("heading", "body"), [("Cure 1: a thread", b"done\n"), ("Cure 2: a coroutine", b"done\n")])
def test_a_cure_serves_two_at_once_without_a_stall(heading, body, tmp_path):
    with STALLS.serving(tmp_path, heading) as (port, child):
        with Client(("127.0.0.1", port)) as first, Client(("127.0.0.1", port)) as second:
            for client in (first, second):
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert first.receive_all().endswith(body)
            assert second.receive_all().endswith(body)
        assert "time.sleep" not in child.errors


def test_pieces_count_the_primes(tmp_path):
    with STALLS.serving(tmp_path, "Cure 3: pieces") as (port, _):
        stop = next(stop for stop in range(502, 30_000, 500) if stop >= 20_000)
        sieve = bytearray([1]) * stop
        for n in range(2, int(stop**0.5) + 1):
            sieve[n * n :: n] = bytes(len(range(n * n, stop, n)))
        assert int(ask(port, "/")) == sum(sieve[2:])


# --- figures ---


def test_the_figures_count_an_answer(tmp_path):
    with STATS.serving(tmp_path, "") as (port, child):
        assert ask(port, "/") == b"Hello!\n"
        line = re.compile(r"poller 0: \d+ open, (\d+) answers, \d+% of a second in Python")
        while line.fullmatch(child.line())[1] != "1":  # those before it are "0"
            pass


def test_the_table_names_figures_that_exist_and_all_of_a_poller():
    known = set(goev.Reactor(measure=True).stats()[0])
    named = {code for row in rows(STATS.path, "question") for code in codes(row[1])}
    assert known - named <= {"datagrams_dropped", "websockets", "handshakes", "handshakes_resumed"}
    others = {"in_order", "failed", "raised", '"2xx"', '"5xx"', "goev.Reactor(measure=True)"}
    assert named - known == others


# --- restarts ---


def test_a_job_that_runs_at_the_stop_is_finished(tmp_path):
    with RESTART.program(tmp_path, "Handlers with unfinished work") as child:
        port = wait_until_it_serves_or_ends(child)
        with Client(("127.0.0.1", port)) as busy, Client(("127.0.0.1", port)) as idle:
            busy.send(b"a\n")
            assert busy.receive(8) == b"begun a\n"
            idle.send(b"b\n")
            assert idle.receive(15) == b"begun b\ndone b\n"
            busy.send(b"c\n")
            assert busy.receive(15) == b"done a\nbegun c\n"
            child.process.send_signal(signal.SIGTERM)
            assert idle.receive_all() == b"stopping\n"
            assert busy.receive_all() == b"stopping\ndone c\n"
        assert child.end() == 0, child.errors


# --- the pages ---


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.stem)
def test_every_program_of_a_page_was_tried(page, request):
    needs_the_whole_file(request)
    assert page.untried() == set()
