"""Ends for a reason of the program's own: ``close(error)``, and a framing in Python that calls the peer wrong."""

import logging

import pytest

import goev
import goev.testing
from support import Events, Recorder


class Mine(Exception):
    pass


class Kept(Recorder):
    """Keeps itself open after the peer has finished."""

    def on_eof(self):
        pass


@pytest.fixture
def infos():
    """Records of the logger ``goev``, those of level INFO too."""
    events = Events()
    handler = logging.Handler()
    handler.emit = lambda record: events(record.levelname, record)
    logger = logging.getLogger("goev")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield events
    logger.removeHandler(handler)
    logger.setLevel(before)


# ---- close(error) --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Mine("mine"), OSError(5, "five"), goev.FramingError("odd"), KeyboardInterrupt()])
def test_on_close_gets_the_error_and_the_output_goes_out_first(error, infos):
    class Closes(Kept):
        def on_read(self):
            self.write(self.read())
            self.close(error)

    events = Events()
    peer = goev.testing.open(Closes(events))
    peer.receive(b"last")
    assert peer.sent() == b"last"
    assert peer.end == "finished"
    assert peer.close_error is error
    assert events.names == ["open", "close"]
    assert infos.history == [], "nothing is logged"


def test_from_another_thread(start, events):
    error = Mine()
    server = start(lambda: Kept(events))
    client = server.connect()
    handler = events.until("open")[1]
    handler.write(b"last")
    handler.close(error)
    handler.close(Mine("the first call counts"))
    assert client.receive_all() == b"last"
    assert events.until("close")[1] is error
    assert server.reactor.stats()[0]["closed_by"]["in_order"] == 1
    with pytest.raises(goev.ConnectionClosed):
        handler.write(b"x")


def test_the_first_close_counts():
    class Closes(Kept):
        def on_read(self):
            self.close()
            self.close(Mine())

    peer = goev.testing.open(Closes(Events()))
    peer.receive(b"x")
    assert peer.close_error is None


def test_in_on_open_and_before_the_new_handler_opens():
    first, second = Mine("first"), Mine("second")
    events = Events()

    class Opens(Kept):
        def on_open(self):
            self.close(first)

    class HandsOver(Kept):
        def on_read(self):
            new = Kept(events)
            self.hand_over(new)
            new.close(second)

    assert goev.testing.open(Opens(events)).close_error is first
    peer = goev.testing.open(HandsOver(Events()))
    peer.receive(b"x")
    assert peer.close_error is second
    assert events.names == ["close", "open", "close"]


def test_an_exception_of_the_same_callback_does_not_replace_it(log):
    class Both(Kept):
        def on_read(self):
            self.close(error)
            raise ZeroDivisionError

    error = Mine()
    peer = goev.testing.open(Both(Events()))
    peer.receive(b"x")
    assert peer.close_error is error
    assert "ZeroDivisionError" in log.next()[1]


def test_a_reset_meanwhile_does_not_replace_it():
    class Closes(Kept):
        def on_read(self):
            self.write(bytes(100))
            self.close(error)

    error = Mine()
    peer = goev.testing.open(Closes(Events()))
    peer.take_only(0)
    peer.receive(b"x")
    assert not peer.closed
    peer.reset()
    assert peer.close_error is error


@pytest.mark.parametrize("wrong", [Mine, "text", 5])
def test_anything_else_is_refused(wrong):
    class Wrong(Kept):
        def on_read(self):
            self.read()
            with pytest.raises(TypeError, match="error must be an exception or None"):
                self.close(wrong)
            events("refused")

    events = Events()
    peer = goev.testing.open(Wrong(events))
    peer.receive(b"x")
    assert events.names == ["open", "refused"]
    assert not peer.closed


def test_of_an_http_connection():
    class Closes(goev.http.Connection):
        def on_request(self, request):
            request.respond(200)
            self.close(error)

    error = Mine()
    peer = goev.testing.open(Closes())
    assert peer.ask("GET", "/").status == 200
    assert peer.close_error is error


def test_of_a_connection_of_a_pool(start, reactor):
    class Pooled(goev.PooledConnection):
        def on_close(self, error):
            events("close", error)
            super().on_close(error)

    error, events = Mine(), Events()
    server = start(goev.Connection)
    with goev.ConnectionPool(goev.Connector(reactor), f"127.0.0.1:{server.address[1]}", Pooled) as pool:
        pool.acquire(timeout=10).close(error)
        assert events.next() == ("close", error)


def test_of_a_websocket_with_a_last_word_of_its_own():
    class Closes(goev.websocket.Connection):
        def on_message(self, message):
            self.close(4001, "mine", error=error)

    error = Mine()
    handler = Closes()
    peer = goev.testing.open(handler)
    peer.send("x")
    assert peer.items() == [("close", (4001, "mine"))]
    assert peer.close_error is error
    assert (handler.close_code, handler.close_reason) == (4001, "mine")


# ---- a peer that breaks the rules of a framing in Python -------------------------------------------------------------


class Numbers:
    """Numbers in lines."""

    def feed(self, data: bytes) -> list[int]:
        if not data.replace(b"\n", b"").isdigit():
            raise goev.FramingError(f"no number: {data!r}")
        return [int(line) for line in data.split()]

    def frame(self, message: int) -> bytes:
        return b"%d\n" % message


class Sums(goev.Connection):
    framing = Numbers

    def on_open(self):
        self.sum = 0

    def on_message(self, message):
        self.sum += message
        self.send(self.sum)


def test_it_ends_with_the_error_and_one_line_of_info(infos):
    peer = goev.testing.open(Sums())
    peer.receive(b"1\n2\n")
    peer.receive(b"x\n")
    assert peer.sent() == b"1\n3\n"
    assert peer.end == "finished"
    assert type(peer.close_error) is goev.FramingError
    [(level, record)] = infos.history
    assert level == "INFO"
    text = logging.Formatter().format(record)
    assert "\n" not in text
    assert "broke the framing of Sums: FramingError(\"no number: b'x\\\\n'\")" in text
    assert (record.callback, record.peer) == ("feed", text.split()[0])
    assert record.exc_info is None


@pytest.mark.parametrize("kind", [goev.MessageTooLong, goev.ProtocolError, type("Own", (goev.FramingError,), {})])
def test_its_subclasses_count_too(kind, infos):
    class Raises(Numbers):
        def feed(self, data):
            raise kind("wrong")

    handler = Sums()
    handler.framing = Raises()
    peer = goev.testing.open(handler)
    peer.receive(b"1\n")
    assert type(peer.close_error) is kind
    assert [level for level, _ in infos.history] == ["INFO"]


def test_it_is_counted_as_a_framing_error(start):
    server = start(Sums)
    client = server.connect()
    client.send(b"x")
    assert client.receive_all() == b""
    client.close()
    assert server.reactor.stats()[0]["closed_by"]["framing"] == 1


def test_a_message_of_ours_that_is_too_long_is_our_fault(log):
    """Only ``feed`` speaks about the peer."""

    class Sends(Sums):
        def on_message(self, message):
            raise goev.MessageTooLong("ours")

    peer = goev.testing.open(Sends())
    peer.receive(b"1\n")
    assert type(peer.close_error) is goev.MessageTooLong
    record, text = log.next()
    assert record.levelname == "ERROR"
    assert "exception in on_message of Sends" in text
