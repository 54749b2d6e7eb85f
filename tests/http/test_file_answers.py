"""``respond_file`` sends files in turn among the answers, whole or in part, and only when the peer has not got them."""

import errno
import os
import random
import socket
import time
from email.utils import formatdate, parsedate_to_datetime

import pytest

import goev
import goev.testing
from http_support import get, post
from support import eventually, in_thread, on_poller, open_fds, settle

DATA = random.Random(21).randbytes(300_000)
OLD = 1_000_000_000.25  # seconds; the time of change of the files here
DATE = formatdate(int(OLD), usegmt=True)


def file_of(path, data=DATA, changed=OLD):
    path.write_bytes(data)
    os.utime(path, (changed, changed))
    return path


@pytest.fixture
def path(tmp_path):
    return file_of(tmp_path / "data.txt")


class Files(goev.http.Connection):
    """Answers each request with one file."""

    arguments: tuple = ()
    options: dict = {}  # noqa: RUF012

    def on_request(self, request):
        request.respond_file(*self.arguments, **self.options)


@pytest.fixture
def served(connected):
    """``served(file, **options)``: a client of a server of that file."""
    return lambda file, **options: connected(type("Served", (Files,), {"arguments": (file,), "options": options}))


def test_a_file_goes_out_whole_with_its_fields(served, path):
    answer = served(path).ask(get())
    assert (answer.status, answer.body) == (200, DATA)
    assert answer["content-length"] == "300000"
    assert answer["content-type"] == "text/plain"
    assert answer["last-modified"] == DATE
    assert answer["accept-ranges"] == "bytes"
    assert answer["etag"][:1] == answer["etag"][-1:] == '"'
    assert answer["date"]


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 262_144, 262_145])
def test_every_size_arrives(served, tmp_path, size):
    client = served(file_of(tmp_path / "x", DATA[:size]))
    for _ in range(2):
        assert client.ask(get()).body == DATA[:size]


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "object", "descriptor"])
def test_a_path_a_file_or_a_descriptor_will_do(connected, path, kind):
    class Serves(goev.http.Connection):
        def on_request(self, request):
            with open(path, "rb") as file:
                file.seek(100)  # the position does not matter
                kinds = {
                    "path": path,
                    "str": str(path),
                    "bytes": os.fsencode(path),
                    "object": file,
                    "descriptor": file.fileno(),
                }
                request.respond_file(kinds[kind])

    client = connected(Serves)
    answer = client.ask(get())
    assert answer.body == DATA
    expected = "application/octet-stream" if kind == "descriptor" else "text/plain"
    assert answer["content-type"] == expected
    settle(client.server.reactor)
    before = open_fds()
    assert client.ask(get()).body == DATA
    eventually(lambda: open_fds() == before, "the descriptor is closed")


def test_a_part_of_a_file_is_a_file_of_its_own(served, path):
    client = served(path, offset=1000, count=100_000)
    answer = client.ask(get())
    assert answer.body == DATA[1000:101_000]
    part = client.ask(get("/", "Range: bytes=10-19"))
    assert (part.body, part["content-range"]) == (DATA[1010:1020], "bytes 10-19/100000")
    assert part["etag"] == answer["etag"]
    assert served(path).ask(get())["etag"] != answer["etag"]


def test_head_gets_the_head_alone(served, path):
    client = served(path)
    answer = client.ask(get(method="HEAD"))
    assert (answer.status, answer["content-length"], answer["content-type"]) == (200, "300000", "text/plain")
    assert client.ask(get("/", "Range: bytes=0-9", method="HEAD")).status == 200
    assert client.ask(get()).body == DATA


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_connection_ends_behind_the_file_if_the_peer_asks(served, path, version):
    client = served(path)
    client.send(get("/", "Connection: close", version=version))
    answer = client.answer()
    assert (answer.body, answer["connection"]) == (DATA, "close")
    assert client.rest() == b""


# ---- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("range_", "part"),
    [("0-0", (0, 1)), ("100000-", (100_000, 300_000)), ("-5", (299_995, 300_000)), ("5-900000", (5, 300_000))],
)
def test_a_range_gets_its_part(served, path, range_, part):
    answer = served(path).ask(get("/", f"Range: bytes={range_}"))
    first, end = part
    assert (answer.status, answer.body) == (206, DATA[first:end])
    assert answer["content-range"] == f"bytes {first}-{end - 1}/300000"
    assert answer["accept-ranges"] == "bytes"


def test_a_range_behind_the_end_is_told_the_size(served, path):
    client = served(path)
    answer = client.ask(get("/", "Range: bytes=300000-"))
    assert (answer.status, answer.body, answer["content-range"]) == (416, b"", "bytes */300000")
    assert answer["content-type"] is None
    assert client.ask(get()).status == 200


@pytest.mark.parametrize("range_", ["bytes=0-1,4-5", "lines=1-2", "bytes=5-2", "nonsense"])
def test_several_ranges_and_nonsense_get_the_whole(served, path, range_):
    answer = served(path).ask(get("/", f"Range: {range_}"))
    assert (answer.status, len(answer.body), answer["content-range"]) == (200, 300_000, None)


def test_a_file_in_ranges_put_together_is_the_file(served, path):
    client = served(path)
    parts = [client.ask(get("/", f"Range: bytes={at}-{at + 69_999}")).body for at in range(0, 300_000, 70_000)]
    assert b"".join(parts) == DATA


def test_if_range_sends_the_whole_of_another_version(served, path):
    client = served(path)
    tag = client.ask(get())["etag"]
    for condition, status in [(tag, 206), (DATE, 206), ('"other"', 200), (f"W/{tag}", 200)]:
        assert client.ask(get("/", "Range: bytes=0-9", f"If-Range: {condition}")).status == status, condition


# ---- conditions ------------------------------------------------------------------------------------------------------


def test_a_peer_that_has_the_file_gets_no_body(served, path):
    client = served(path, headers={"Cache-Control": "no-cache", "Content-Language": "en"})
    tag = client.ask(get())["etag"]
    for condition in (f"If-None-Match: {tag}", f"If-Modified-Since: {DATE}", "If-None-Match: *"):
        for method in ("GET", "HEAD"):
            answer = client.ask(get("/", condition, method=method))
            assert (answer.status, answer.body, answer["etag"]) == (304, b"", tag)
            assert (answer["cache-control"], answer["last-modified"]) == ("no-cache", DATE)
            assert answer["content-type"] is answer["content-language"] is answer["content-length"] is None
    assert client.ask(get("/", 'If-None-Match: "other"')).body == DATA


def test_a_precondition_that_fails_is_412(served, path):
    client = served(path)
    tag = client.ask(get())["etag"]
    before = formatdate(OLD - 2, usegmt=True)
    for condition in ('If-Match: "other"', f"If-Match: W/{tag}", f"If-Unmodified-Since: {before}"):
        assert client.ask(get("/", condition)).status == 412
    assert client.ask(get("/", f"If-Match: {tag}", f"If-Unmodified-Since: {before}")).status == 200


def test_an_answer_to_another_method_has_no_conditions(served, path):
    request = post("/", b"x", "If-None-Match: *", "Range: bytes=0-1")
    assert served(path).ask(request).body == DATA


def test_a_change_makes_another_tag(served, path):
    client = served(path)
    first = client.ask(get())["etag"]
    os.utime(path, (OLD + 0.001, OLD + 0.001))
    second = client.ask(get())["etag"]
    file_of(path, DATA[1:])
    assert len({first, second, client.ask(get())["etag"]}) == 3


def test_the_tag_of_a_file_that_changed_just_now_is_weak(served, path):
    """It could change again without a new time, so parts of two versions could be put together."""
    os.utime(path, None)
    client = served(path)
    answer = client.ask(get())
    assert answer["etag"].startswith('W/"')
    now = formatdate(time.time(), usegmt=True)
    for condition in (answer["etag"], answer["last-modified"], now):
        assert client.ask(get("/", "Range: bytes=0-9", f"If-Range: {condition}")).status == 200
    assert client.ask(get("/", f"If-None-Match: {answer['etag']}")).status == 304


def test_a_time_of_change_in_the_future_is_now(served, path):
    os.utime(path, (4_000_000_000, 4_000_000_000))
    answer = served(path).ask(get())
    assert parsedate_to_datetime(answer["last-modified"]) <= parsedate_to_datetime(answer["date"])


# ---- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html"),
        ("a.js", "text/javascript"),
        ("a.tar.gz", "application/gzip"),
        ("a.txt.bz2", "application/x-bzip2"),
        ("a.css.br", "application/octet-stream"),
        ("nothing", "application/octet-stream"),
        ("a.nonsense", "application/octet-stream"),
        ("data:text,html", "application/octet-stream"),
        (b"\xff.html".decode("utf-8", "surrogateescape"), "text/html"),
    ],
)
def test_the_type_is_guessed_by_the_name(served, tmp_path, name, kind):
    answer = served(file_of(tmp_path / name, b"x")).ask(get())
    assert answer["content-type"].replace("application/javascript", "text/javascript") == kind


def test_fields_of_ones_own_come_first(served, path):
    headers = [("ETag", '"v1"'), ("last-modified", DATE), ("content-type", "x/y"), ("X-A", "1"), ("X-A", "2")]
    client = served(path, headers=headers)
    answer = client.ask(get())
    assert (answer["etag"], answer["content-type"], answer.all("x-a")) == ('"v1"', "x/y", ["1", "2"])
    assert client.ask(get("/", 'If-None-Match: "v1"')).status == 304
    assert client.ask(get("/", "Range: bytes=0-1", 'If-Range: "v1"')).status == 206


def test_a_compressed_file_may_stand_for_its_content(served, tmp_path):
    path = file_of(tmp_path / "a.css.gz", b"x")
    answer = served(path, headers={"content-encoding": "gzip"}).ask(get())
    assert (answer["content-type"], answer["content-encoding"]) == ("text/css", "gzip")


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "number"),
    [
        (lambda folder: folder / "missing", FileNotFoundError, errno.ENOENT),
        (lambda folder: folder, IsADirectoryError, errno.EISDIR),
        (lambda folder: folder / "data.txt" / "below", NotADirectoryError, errno.ENOTDIR),
        (lambda folder: folder / ("x" * 300), OSError, errno.ENAMETOOLONG),
    ],
)
def test_a_file_that_cannot_be_opened_is_an_error_at_the_call(kept, path, tmp_path, make, error, number):
    client, request = kept(get())
    with pytest.raises(error) as raised:
        request.respond_file(make(tmp_path))
    assert (raised.value.errno, raised.value.filename) == (number, make(tmp_path))
    request.respond(404)
    assert client.answer().status == 404


def test_a_file_that_may_not_be_read(kept, path):
    client, request = kept(get())
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            request.respond_file(path)
    finally:
        os.seteuid(user)
    request.respond(403)
    assert client.answer().status == 403


def test_what_is_no_regular_file_is_refused_and_a_pipe_is_not_waited_for(kept, tmp_path):
    client, request = kept(get())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for file in (pipe, "/dev/null"):
        with pytest.raises(ValueError, match="file must be a regular file"):
            request.respond_file(file)
    with socket.socket() as unfit, pytest.raises(ValueError, match="file must be a regular file"):
        request.respond_file(unfit)
    request.respond(404)
    assert client.answer().status == 404


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"offset": -1}, ValueError, "offset must be 0 or more"),
        ({"offset": 300_001}, ValueError, "offset must be at most the file's 300000 bytes, not 300001"),
        ({"count": 300_001}, ValueError, "count must be at most the 300000 bytes from offset on"),
        ({"headers": {"Content-Length": "1"}}, ValueError, "makes content-length by itself"),
        ({"headers": {"Content-Range": "1"}}, ValueError, "makes content-range by itself"),
        ({"headers": {"ETag": "v1"}}, ValueError, "ETag must be in quotes, not 'v1'"),
        ({"headers": {"Last-Modified": "now"}}, ValueError, "Last-Modified must be a date of HTTP, not 'now'"),
        ({"headers": {"X": "a\nb"}}, ValueError, "a control character"),
        ({"headers": 3}, TypeError, "headers must be a mapping or pairs"),
    ],
)
def test_wrong_arguments_are_refused_and_the_request_stays_unanswered(kept, path, options, error, text):
    client, request = kept(get())
    with pytest.raises(error, match=text):
        request.respond_file(path, **options)
    assert not request.answered
    request.respond_file(path)
    assert client.answer().body == DATA
    with pytest.raises(RuntimeError, match="answer"):
        request.respond_file(path)


@pytest.mark.parametrize("name", ["a\0b", None, 1.5])
def test_a_name_that_no_file_has_is_refused(kept, name):
    client, request = kept(get())
    with pytest.raises((ValueError, TypeError)):
        request.respond_file(name)
    request.respond(404)
    client.answer()


# ---- order and threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_elsewhere", [False, True])
def test_files_take_their_turn_among_the_answers(kept, path, from_elsewhere):
    client, *requests = kept(*(get(f"/{number}") for number in range(4)))
    call = (
        (lambda fn, *args: fn(*args))
        if from_elsewhere
        else (lambda fn, *args: on_poller(client.server.reactor, fn, *args))
    )
    call(requests[3].respond, 200, None, b"last")
    call(requests[1].respond_file, path)
    call(requests[2].respond_file, path)
    settle(client.server.reactor)
    assert client.is_silent()
    call(requests[0].respond_file, path)
    assert [client.answer().body for _ in range(4)] == [DATA, DATA, DATA, b"last"]


def test_threads_answer_with_files(kept, path):
    client, *requests = kept(*(get(f"/{number}") for number in range(8)))
    for future in [in_thread(request.respond_file, path) for request in requests]:
        future.result(10)
    for _ in requests:
        assert client.answer().body == DATA


def test_a_slow_peer_gets_it_all_and_waits_in_no_memory(connected, tmp_path, events):
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(200_000_000)

    class Serves(goev.http.Connection):
        def on_request(self, request):
            request.respond_file(big, count=100_000_000)
            events("answered", self.pending_output)

    client = connected(Serves)
    client.send(get() + get())
    assert events.next()[1] > 90_000_000
    assert client.head()["content-length"] == "100000000"
    client.raw.discard(100_000_000 - len(client._buffer))
    client._buffer = b""
    assert client.head().status == 200


# ---- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [b"", get("/next")], ids=["alone", "pipelined"])
def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection(connected, tmp_path, events, behind):
    path = tmp_path / "shrinks"
    with path.open("wb") as file:
        file.truncate(50_000_000)

    class Serves(goev.http.Connection):
        def on_request(self, request):
            request.respond_file(path)
            events("answered")

        def on_close(self, error):
            events("close", error)

    client = connected(Serves, send_buffer_size=65536)
    client.send(get() + behind)
    events.until("answered")
    os.truncate(path, 1000)
    received = client.survives_until_end()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(received) < 50_000_000
    error = events.until("close")[1]
    assert isinstance(error, OSError)
    assert "shrank" in str(error)


def test_a_small_file_with_less_than_its_size_is_an_error_at_the_call(kept):
    """The files of sysfs say that they have a page."""
    lies = "/sys/kernel/uevent_seqnum"
    if not os.path.exists(lies):
        pytest.skip("this machine has no sysfs")
    client, request = kept(get())
    with pytest.raises(OSError, match="cannot read the file to send"):
        request.respond_file(lies)
    assert not request.answered
    request.respond(500)
    assert client.answer().status == 500


def test_waiting_files_of_a_peer_that_leaves_are_closed(kept, path, events):
    client, *requests = kept(*(get(f"/{number}") for number in range(5)))
    before = open_fds()
    for request in requests[1:]:
        request.respond_file(path)
    eventually(lambda: open_fds() == before + 4, "each waits with a descriptor")
    client.reset()
    events.until("close")
    eventually(lambda: open_fds() <= before - 2, "all are closed, and the connection with them")


def test_the_bench_serves_files(path):
    class Serves(goev.http.Connection):
        def on_request(self, request):
            request.respond_file(path)

    answer = goev.testing.open(Serves()).ask("GET", "/", {"range": "bytes=0-99999"})
    assert (answer.status, answer.body) == (206, DATA[:100_000])
