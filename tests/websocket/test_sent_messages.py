"""A message leaves whole, in order, from any thread, and as far as the output queue has room."""

import pytest

import goev
from support import PATIENCE, SMALL_BUFFERS, eventually, in_thread, on_poller
from websocket_support import BINARY, DEFLATE, NOISE, PING, Echo, Told, closed, frame, inflated, text


def test_threads_may_send_and_frames_never_mix(opened):
    client, handler = opened(Told, None, DEFLATE, **SMALL_BUFFERS)
    sizes = (3, 300, 5000, 100_000)

    def send(thread):
        for number in range(60):
            handler.send(f"{thread:02} {number:04} ".encode() + bytes([thread]) * sizes[(thread + number) % 4])
            if number % 10 == 0:
                handler.ping(b"%d" % thread)

    threads = [in_thread(send, thread) for thread in range(16)]
    last = [-1] * 16
    for _ in range(16 * 60 + 16 * 6):
        came = client.next()
        if came.opcode == PING:
            continue
        data = inflated(came.payload) if came.rsv else came.payload
        thread, number = int(data[:2]), int(data[3:7])
        assert number == last[thread] + 1
        assert data[8:] == bytes([thread]) * sizes[(thread + number) % 4]
        last[thread] = number
    assert last == [59] * 16
    for thread in threads:
        thread.result(PATIENCE)


@pytest.mark.parametrize("size", [3, 10_000])
@pytest.mark.parametrize("extensions", [(), (DEFLATE,)])
def test_all_that_is_like_bytes_is_sent_and_owned(opened, size, extensions):
    client, handler = opened(Told, None, *extensions)
    data = bytearray(b"a" * size)
    for message in (bytes(data), data, memoryview(data), memoryview(data)[1:]):
        for send in (handler.send, lambda message: on_poller(handler, handler.send, message)):
            send(message)
            expected = bytes(message)
            data[:] = b"b" * size
            assert client.message() == expected
            data[:] = b"a" * size


@pytest.mark.parametrize("wrong", [None, 1, ["x"], object()])
def test_what_is_no_message_is_refused(opened, wrong):
    client, handler = opened(Told)
    name = type(wrong).__name__
    with pytest.raises(TypeError, match=f"message must be a str or a bytes-like object, not {name}"):
        handler.send(wrong)
    with pytest.raises(TypeError, match=f"message must be a str or a bytes-like object, not {name}"):
        goev.websocket.Framing().frame(wrong)
    with pytest.raises(UnicodeEncodeError):
        handler.send("\ud800")
    with pytest.raises(ValueError, match="must be contiguous"):
        handler.send(memoryview(b"abcd")[::2])
    handler.send("x")
    assert client.message() == "x"


def test_several_messages_are_sent_in_order(opened):
    client, handler = opened(Told)
    handler.send_messages(["one", b"two", bytearray(5000), ""])
    assert [client.message() for _ in range(4)] == ["one", b"two", bytes(5000), ""]


def test_nothing_is_sent_before_on_open_and_after_the_end(connected, events):
    class Hasty(Told):
        def __init__(self, events):
            super().__init__(events)
            self.tries("new")

        def on_handshake(self, request):
            self.tries("handshake")

        def on_close(self, error):
            self.tries("closed")
            super().on_close(error)

        def tries(self, when):
            for method, arguments in [(self.send, ("x",)), (self.ping, ())]:
                with pytest.raises(goev.ConnectionClosed):
                    method(*arguments)
            if when != "closed":
                with pytest.raises(goev.ConnectionClosed):
                    self.close()
            self.events(when)

    client = connected(Hasty)
    client.open()
    handler = events.until("open")[1]
    assert events.names == ["new", "handshake", "open"]
    on_poller(handler, handler.close)
    with pytest.raises(goev.ConnectionClosed):
        handler.send("x")
    assert client.farewell() == (1000, "")
    events.until("close")
    assert events.names == ["new", "handshake", "open", "closed", "close"]


# --- back-pressure ---


def test_a_reader_that_is_slow_slows_the_echo_down(opened):
    client, handler = opened(Echo, None, high_water=50_000, low_water=1000, **SMALL_BUFFERS)
    message = frame(BINARY, NOISE[:10_000])
    sent = client.fill(message * 3000)
    assert sent < 3000 * len(message), "the peer feels it"
    assert on_poller(handler, lambda: handler.over_high_water)
    assert on_poller(handler, lambda: handler.pending_output) < 200_000
    whole, part = divmod(sent, len(message))
    rest = in_thread(client.send, message[part:] if part else b"")
    for _ in range(whole + bool(part)):
        assert client.message() == NOISE[:10_000]
    rest.result(PATIENCE)
    client.send(text("on again"))
    assert client.message() == "on again"


def send_for_ever(handler, message):
    while True:
        handler.send(message)


def test_too_much_that_waits_ends_the_websocket(opened, events):
    client, handler = opened(Told, None, max_output=100_000, **SMALL_BUFFERS)
    with pytest.raises(goev.ConnectionClosed):
        send_for_ever(handler, NOISE[:20_000])
    error, code, _ = closed(events)
    assert (error, code) == (goev.OutputOverflow, 1006)
    client.reset()


@pytest.mark.parametrize("in_callback", [True, False])
@pytest.mark.parametrize("extensions", [(), (DEFLATE,)])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_one_message_into_an_empty_queue_always_fits(opened, in_callback, extensions, kind):
    client, handler = opened(Told, None, *extensions, max_output=100_000, **SMALL_BUFFERS)
    for _ in range(2):
        eventually(lambda: on_poller(handler, lambda: handler.pending_output) == 0, "what was before is sent")
        if in_callback:
            on_poller(handler, handler.send, kind(NOISE))
        else:
            handler.send(kind(NOISE))
        assert client.message() == NOISE
