"""Log lines as JSON and as text: every record becomes a line, and no text looks like another."""

import json
import logging
import logging.handlers
import pickle
from datetime import UTC, datetime

import pytest

import goev
from goev.logs import JsonFormatter, TextFormatter
from support import Child, on_poller


def record(message="hello %s", *args, level=logging.INFO, extra=None, error=None, name="app"):
    info = (type(error), error, error.__traceback__) if error else None
    return logging.getLogger(name).makeRecord(name, level, __file__, 1, message, args, info, extra=extra)


def as_json(*args, worker=None, **options):
    line = JsonFormatter(worker=worker).format(record(*args, **options))
    assert line.isascii()
    assert "\n" not in line
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_object_has_the_fields_of_every_line():
    line = as_json("hello %s", "you", worker=2, level=logging.WARNING)
    assert abs((datetime.fromisoformat(line.pop("time")) - datetime.now(UTC)).total_seconds()) < 60
    assert line == {
        "level": "warning",
        "logger": "app",
        "message": "hello you",
        "peer": None,
        "callback": None,
        "worker": 2,
        "poller": None,
    }


def test_an_exception_has_type_text_and_traceback():
    line = as_json("oops", error=raised(ValueError("wrong")))
    assert (line["exception"]["type"], line["exception"]["text"]) == ("ValueError", "wrong")
    assert line["exception"]["traceback"][0] == "Traceback (most recent call last):"
    assert line["exception"]["traceback"][-1] == "ValueError: wrong"
    assert as_json("oops", error=raised(goev.Error("x")))["exception"]["type"].endswith("Error")


class Hostile:
    def __repr__(self):
        raise ZeroDivisionError

    __str__ = __repr__


class HostileError(Exception):
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, 1.5),
        (float("nan"), "nan"),
        ([float("inf"), {1: 2}], ["inf", {"1": 2}]),
        ({1}, "{1}"),
        (b"\xff", "b'\\xff'"),
        (Hostile(), "<a Hostile whose repr() raises>"),
        ("\ud800\u2028\x1b", "\ud800\u2028\x1b"),
        ({"a": {"b": Hostile()}}, {"a": {"b": "<a Hostile whose repr() raises>"}}),
    ],
)
def test_extra_fields_of_any_kind_are_there(value, expected):
    assert as_json("hello", extra={"given": value})["given"] == expected


def test_an_object_that_contains_itself_stops_no_line():
    circle = []
    circle.append(circle)
    assert as_json("hello", extra={"circle": circle})["circle"] == "[[...]]"


@pytest.mark.parametrize("make", [list, lambda: 10**5000, type("Odd", (dict,), {"items": None})])
def test_a_field_that_cannot_be_cleaned_changes_no_other(make):
    odd = make()
    if isinstance(odd, list):
        odd.append(odd)
    elif isinstance(odd, dict):
        odd[1, 2] = 3  # a key that JSON does not have
    line = as_json("hello", worker=2, extra={"odd": odd, "count": 1, "more": {"b": [None, 1.5]}})
    assert (line["level"], line["message"], line["worker"], line["peer"]) == ("info", "hello", 2, None)
    assert (line["count"], line["more"]) == (1, {"b": [None, 1.5]})


def test_extra_fields_replace_none_of_ours():
    line = as_json("hello", extra={"level": "fake", "time": "fake", "peer": "1.2.3.4:5"})
    assert (line["level"], line["extra_level"], line["extra_time"]) == ("info", "fake", "fake")
    assert line["peer"] == "1.2.3.4:5"


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_record_that_cannot_be_formatted_is_a_line_all_the_same(formatter):
    odd = type("Odd", (Exception,), {"__module__": Hostile()})
    for broken in (
        record("%d", "x"),
        record("%s", Hostile()),
        record(Hostile()),
        record(Hostile(), 1),
        record("a", extra={"given": type("Nameless", (), {"__repr__": lambda _: 1 / 0, "__name__": Hostile()})()}),
        record("a", error=raised(HostileError())),
        record("a", error=raised(odd())),
    ):
        assert formatter.format(broken)


def test_the_traceback_of_a_record_from_another_process_is_there():
    sent = record("oops", error=raised(ValueError("wrong")))
    pickled = logging.handlers.SocketHandler("localhost", 1).makePickle(sent)
    received = logging.makeLogRecord(pickle.loads(pickled[4:]))
    exception = json.loads(JsonFormatter().format(received))["exception"]
    assert (exception["type"], exception["text"]) == (None, "ValueError: wrong")
    assert exception["traceback"][0] == "Traceback (most recent call last):"
    assert TextFormatter().format(received).endswith("\n    ValueError: wrong")


def test_the_name_of_a_logger_begins_no_line():
    line = TextFormatter().format(record("hello", name="peer\n2030-01-01 fake\x1b[2J"))
    assert line.endswith(r"INFO     peer\n2030-01-01 fake\x1b[2J: hello")


def test_a_text_line_has_no_second_line_of_a_peer():
    line = TextFormatter().format(record("peer says %s", "x\n2030-01-01 fake\r\x1b[2J\u2028y"))
    first, second = line.split("\n")
    assert first.endswith("INFO     app: peer says x")
    assert second == "    2030-01-01 fake\\r\\x1b[2J\\u2028y"


def test_a_text_line_names_worker_and_poller(reactor):
    formatter = TextFormatter(worker=1)
    assert " app [worker 1]: hello" in formatter.format(record("hello"))
    line = on_poller(reactor, lambda: formatter.format(record("hello")))
    assert " app [worker 1, poller 0]: hello" in line
    assert on_poller(reactor, lambda: as_json("hello"))["poller"] == 0


def test_colour_only_if_asked_for():
    assert "\x1b[33mWARNING \x1b[0m" in TextFormatter(color=True).format(record("x", level=logging.WARNING))
    assert "\x1b" not in TextFormatter().format(record("x", level=logging.WARNING))


def test_records_of_goev_have_peer_callback_and_poller(start, log, events):
    class Fails(goev.Connection):
        def on_open(self):
            raise ZeroDivisionError

    handler = logging.Handler()
    handler.emit = lambda record: events("line", JsonFormatter().format(record))
    logging.getLogger("goev").addHandler(handler)
    try:
        client = start(Fails).connect()
        line = json.loads(events.until("line")[1])
    finally:
        logging.getLogger("goev").removeHandler(handler)
    assert (line["peer"], line["callback"], line["poller"]) == (client.name, "on_open", 0)
    assert line["exception"]["type"] == "ZeroDivisionError"


# ---- configure -------------------------------------------------------------------------------------------------------

CONFIGURED = """
    import logging, sys, threading, warnings
    from goev.logs import configure
    from goev.service.settings import Logging

    configure(Logging(level="info", format=sys.argv[1]), worker=4)
    configure(Logging(level="info", format=sys.argv[1]), worker=4)
"""


def errors_of(source, *args, status=0):
    with Child.running(CONFIGURED + source, *args) as child:
        assert child.end() == status
        return child.errors.splitlines()


def test_configure_sets_up_the_root_logger_once():
    lines = errors_of(
        """
    logging.getLogger("app").info("hello")
    logging.getLogger("app").debug("not this")
    """,
        "text",
    )
    assert len(lines) == 1
    assert lines[0].endswith("INFO     app [worker 4]: hello")


def test_with_json_everything_is_json():
    lines = errors_of(
        """
    warnings.simplefilter("always")
    warnings.warn("careful")
    thread = threading.Thread(target=lambda: 1 // 0, name="mine")
    thread.start()
    thread.join()
    class Ugly:
        def __del__(self):
            raise ValueError("ugly")
    Ugly()
    raise ZeroDivisionError("last words")
    """,
        "json",
        status=1,
    )
    found = [json.loads(line) for line in lines]
    assert [line["logger"] for line in found] == ["py.warnings"] + ["goev.uncaught"] * 3
    assert "careful" in found[0]["message"]
    assert found[1]["message"] == "uncaught exception in mine"
    assert found[2]["exception"]["text"] == "ugly"
    assert (found[3]["level"], found[3]["exception"]["text"]) == ("critical", "last words")
    assert {line["worker"] for line in found} == {4}


@pytest.mark.parametrize(("name", "value"), [("level", "loud"), ("format", "xml")])
def test_wrong_settings_are_named(name, value):
    from goev.logs import configure
    from goev.service.settings import Logging

    with pytest.raises(ValueError, match=f"{name} must be one of .*, not '{value}'"):
        configure(Logging(**{name: value}))


def test_the_import_of_goev_leaves_the_logs_for_later():
    with Child.running("import sys, goev; print('goev.logs' in sys.modules); goev.logs.JsonFormatter") as child:
        assert child.line() == "False"
        assert child.end() == 0


# ---- standard error --------------------------------------------------------------------------------------------------


def test_a_full_pipe_holds_up_nobody():
    source = """
    import os, time
    read, write = os.pipe()
    os.dup2(write, 2)
    handler = logging.getLogger().handlers[-1]
    from goev.logs import StderrHandler
    handler = StderrHandler(capacity=10_000)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("blocked")
    logger.propagate = False
    logger.addHandler(handler)
    for number in range(3000):
        logger.error("x" * 99)
    stats = handler.stats()
    assert stats["waiting"] <= 10_000 and stats["dropped"] > 0, stats
    print("not held up")
    # The end of the interpreter is not held up either.
    """
    with Child.running(CONFIGURED + source, "text") as child:
        assert child.line() == "not held up"
        assert child.end() == 0


@pytest.mark.parametrize("how", ["os.close(2)", "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)", "broken()"])
def test_a_standard_error_that_fails_ends_nothing(how):
    source = f"""
    import os
    def broken():
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(read)
    {how}
    configure(Logging(format="json"))
    logging.error("lost")
    handler = logging.getLogger().handlers[-1]
    handler.flush()
    print(handler.stats()["dropped"], handler.stats()["written"])
    """
    with Child.running(CONFIGURED + source, "text") as child:
        assert child.line() == "1 0"
        assert child.end() == 0


def test_a_forked_child_has_a_thread_of_its_own():
    lines = errors_of(
        """
    import os
    warnings.simplefilter("ignore")
    logging.info("before")
    pid = os.fork()
    logging.info("child" if pid == 0 else "parent")
    if pid:
        os.waitpid(pid, 0)
    """,
        "text",
    )
    assert sorted(line.rpartition(" ")[2] for line in lines) == ["before", "child", "parent"]


def test_the_last_words_of_a_process_that_is_killed_are_written():
    source = """
    import os, signal, time
    logging.error("last words")
    logging.getLogger().handlers[-1].flush()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with Child.running(CONFIGURED + source, "json") as child:
        assert child.end() == -9
        assert json.loads(child.errors)["message"] == "last words"


def test_many_threads_write_whole_lines():
    lines = errors_of(
        """
    def work(name):
        for number in range(200):
            logging.info("%s %d", name, number)
    threads = [threading.Thread(target=work, args=(str(name),)) for name in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """,
        "json",
    )
    messages = [json.loads(line)["message"] for line in lines]
    assert sorted(messages) == sorted(f"{name} {number}" for name in range(4) for number in range(200))
