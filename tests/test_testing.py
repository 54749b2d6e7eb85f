"""``goev.testing``: handlers with a peer in memory, on a clock of the test's own."""

import threading
import time

import pytest

import goev
import goev.http
import goev.testing
from support import Events, Recorder


class Echo(goev.Connection):
    def on_read(self):
        self.write(self.read())


# ---- bytes --------------------------------------------------------------------------------------------------------


def test_bytes_come_and_go_without_waiting():
    peer = goev.testing.open(Echo())
    peer.receive(b"hello")
    assert peer.sent() == b"hello"
    assert peer.sent() == b""
    assert not peer.closed


def test_callbacks_come_in_the_order_of_the_contract():
    events = Events()
    peer = goev.testing.open(Recorder(events))
    peer.receive(b"x")
    peer.eof()
    assert events.names == ["open", "read", "close"]
    assert peer.closed
    assert peer.close_error is None
    assert peer.end == "finished"


def test_a_reset_is_told_with_its_error():
    events = Events()
    peer = goev.testing.open(Recorder(events))
    peer.reset()
    assert isinstance(peer.close_error, ConnectionResetError)
    assert events.of("close")[0][1] is peer.close_error


def test_bytes_before_a_reset_are_lost_as_with_a_socket_and_those_before_an_end_are_not():
    events = Events()
    peer = goev.testing.open(Recorder(events))
    peer.receive(b"before")
    peer.eof()
    assert events.of("read") == [("read", b"before")]


def test_an_exception_of_a_callback_ends_the_connection(log):
    class Raises(goev.Connection):
        def on_read(self):
            raise ZeroDivisionError

    peer = goev.testing.open(Raises())
    peer.receive(b"x")
    assert isinstance(peer.close_error, ZeroDivisionError)
    assert "on_read of Raises with 192.0.2.1:50000" in log.next()[1]


def test_an_open_connection_has_no_error_of_its_end():
    with pytest.raises(RuntimeError, match="has not ended"):
        _ = goev.testing.open(Echo()).close_error


def test_a_slow_reader_is_felt_by_the_handler():
    class Talks(goev.Connection):
        drained = 0

        def on_open(self):
            self.write(bytes(100_000))

        def on_drain(self):
            self.drained += 1

    handler = Talks()
    peer = goev.testing.open(handler)
    assert len(peer.sent()) == 100_000
    assert handler.drained == 0  # all of it went out at once

    class Slow(Talks):
        def on_open(self):
            pass

        def on_read(self):
            self.write(self.read() * 100_000)

    handler = Slow()
    peer = goev.testing.open(handler)
    peer.take_only(10)
    peer.receive(b"x")
    assert len(peer.sent()) == 10
    peer.receive(b"y")  # not read: output above the high-water mark pauses reading
    assert handler.drained == 0
    peer.take_only(None)
    assert len(peer.sent()) == 200_000 - 10
    assert handler.drained == 1


def test_limits_are_arguments_of_open():
    class Deaf(goev.Connection):
        pass

    peer = goev.testing.open(Deaf(), max_input=10)
    peer.receive(bytes(11))
    assert isinstance(peer.close_error, goev.InputOverflow)
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_inptu'"):
        goev.testing.open(Deaf(), max_inptu=10)


def test_the_peer_has_the_address_of_the_test_s_choice():
    handler = Echo()
    goev.testing.open(handler, remote_address="[2001:db8::1]:7")
    assert handler.remote_address == ("2001:db8::1", 7, 0, 0)
    with pytest.raises(ValueError, match="remote_address"):
        goev.testing.open(Echo(), remote_address="nonsense")


def test_a_handler_serves_one_connection_once():
    handler = Echo()
    goev.testing.open(handler)
    with pytest.raises(ValueError, match="serves one connection, once"):
        goev.testing.open(handler)


def test_a_file_is_sent_as_by_a_socket(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 4000)

    class Sends(goev.Connection):
        def on_open(self):
            with file.open("rb") as opened:
                self.sendfile(opened)
            self.close()

    peer = goev.testing.open(Sends())
    assert peer.sent() == file.read_bytes()
    assert peer.closed


def test_a_connection_without_a_socket_says_so_by_its_values():
    class Looks(goev.Connection):
        def on_open(self):
            self.seen = (self.fileno(), self.local_address)
            self.set_nodelay(False)
            self.set_receive_buffer_size(1000)

    handler = Looks()
    goev.testing.open(handler)
    assert handler.seen == (-1, ("192.0.2.2", 80))


def test_a_half_close_of_the_handler_reaches_the_peer_and_reading_goes_on():
    class Half(Echo):
        def on_open(self):
            self.write(b"last")
            self.shutdown_write()

        def on_read(self):
            self.got = self.read()

    handler = Half()
    peer = goev.testing.open(handler)
    assert peer.sent() == b"last"
    assert peer.end == "finished"
    assert not peer.closed
    peer.receive(b"more")
    assert handler.got == b"more"


# ---- time ---------------------------------------------------------------------------------------------------------


def test_timers_fire_at_their_own_time_and_in_order():
    clock, fired = goev.testing.Clock(), []

    class Timers(goev.Connection):
        def on_open(self):
            for delay in (3, 1, 2):
                self.schedule(delay, lambda delay=delay: fired.append((delay, clock.now)) or None)
            self.schedule(0.5, lambda: fired.append(("every", clock.now)) or None, every=1)

    goev.testing.open(Timers(), clock=clock)
    clock.advance(0.4)
    assert fired == []
    clock.advance(2.6)
    expected = [("every", 0.5), (1, 1.0), ("every", 1.5), (2, 2.0), ("every", 2.5), (3, 3.0)]
    assert [(name, pytest.approx(at)) for name, at in fired] == expected
    assert clock.now == pytest.approx(3.0)


def test_limits_in_time_are_judged_by_the_clock_of_the_test():
    clock = goev.testing.Clock()
    peer = goev.testing.open(Echo(), clock=clock, idle_timeout=10)
    clock.advance(9)
    peer.receive(b"x")
    clock.advance(9.9)
    assert not peer.closed
    clock.advance(0.1)
    assert isinstance(peer.close_error, goev.IdleTimeout)


def test_a_timer_of_an_hour_takes_no_time():
    clock = goev.testing.Clock()

    class Hourly(goev.Connection):
        def on_open(self):
            self.schedule(3600, self.close)

    peer = goev.testing.open(Hourly(), clock=clock)
    began = time.monotonic()
    clock.advance(3600)
    assert peer.closed
    assert time.monotonic() - began < 1


def test_the_clock_goes_forward_only():
    with pytest.raises(ValueError, match="seconds must be from 0"):
        goev.testing.Clock().advance(-1)


# ---- several handlers, threads ------------------------------------------------------------------------------------


def test_handlers_of_one_clock_may_be_members_of_one_group():
    clock, group = goev.testing.Clock(), goev.Group()

    class Member(goev.Connection):
        def on_open(self):
            group.add(self)

        def on_read(self):
            group.send(self.read())

    peers = [goev.testing.open(Member(), clock=clock) for _ in range(3)]
    peers[0].receive(b"to all")
    assert [peer.sent() for peer in peers] == [b"to all"] * 3


def test_calls_of_other_threads_run_when_the_test_lets_them():
    clock, handler = goev.testing.Clock(), Echo()
    peer = goev.testing.open(handler, clock=clock)
    thread = threading.Thread(target=lambda: handler.write(b"from elsewhere"))
    thread.start()
    thread.join()
    assert peer.sent() == b""
    clock.settle()
    assert peer.sent() == b"from elsewhere"


def test_the_reactor_of_the_clock_is_the_handler_s():
    clock = goev.testing.Clock()

    class Knows(goev.Connection):
        def on_open(self):
            self.knows = self.reactor is clock.reactor

    handler = Knows()
    goev.testing.open(handler, clock=clock)
    assert handler.knows


def test_a_stop_is_told_to_handlers():
    clock = goev.testing.Clock()

    class Polite(goev.Connection):
        def on_stopping(self):
            self.write(b"goodbye")
            return False

    peer = goev.testing.open(Polite(), clock=clock)
    clock.reactor.stop(5)
    clock.settle()
    assert peer.sent() == b"goodbye"
    assert peer.closed


def test_a_peer_belongs_to_the_test_and_not_to_a_callback():
    class Meddles(goev.Connection):
        def on_read(self):
            self.read()
            with pytest.raises(RuntimeError, match="belong to the test"):
                peer.receive(b"again")
            self.write(b"done")

    peer = goev.testing.open(Meddles())
    peer.receive(b"x")
    assert peer.sent() == b"done"


def test_handlers_that_never_come_to_rest_are_reported():
    class Restless(goev.Connection):
        def on_open(self):
            self.again()

        def again(self):
            self.call_soon(self.again)

    with pytest.raises(RuntimeError, match="still busy"):
        goev.testing.open(Restless())


def test_what_is_no_exception_comes_out_at_the_test():
    class Stops(goev.Connection):
        def on_read(self):
            raise KeyboardInterrupt

    peer = goev.testing.open(Stops())
    with pytest.raises(KeyboardInterrupt):
        peer.receive(b"x")


# ---- protocols ----------------------------------------------------------------------------------------------------


def test_messages_are_cut_by_the_framing():
    class Upper(goev.Connection):
        framing = goev.LengthPrefixed(2)

        def on_message(self, message):
            self.send(message.upper())

    peer = goev.testing.open(Upper())
    for byte in b"\x00\x02hi\x00\x01x":
        peer.receive(bytes([byte]))
    assert peer.sent() == b"\x00\x02HI\x00\x01X"


class Site(goev.http.Connection):
    def on_request(self, request):
        if request.path == "/stream":
            request.start(200)
            request.write(b"in ")
            request.write(b"chunks")
            request.end()
        elif request.method == "POST":
            request.respond(201, [("set-cookie", "a=1"), ("set-cookie", "b=2")], request.body[::-1])
        else:
            request.respond(200, {"connection": "close"} if request.path == "/last" else None, b"fine")


def test_requests_are_asked_and_answered():
    peer = goev.testing.open(Site())
    assert peer.ask("GET").body == b"fine"
    answer = peer.ask("POST", "/x", {"content-type": "a/b"}, b"abc")
    assert (answer.status, answer.body, answer.headers["set-cookie"]) == (201, b"cba", "a=1, b=2")
    assert peer.ask("GET", "/stream").body == b"in chunks"
    assert peer.ask("HEAD").headers["content-length"] == "4"


def test_pipelined_answers_are_taken_one_by_one():
    peer = goev.testing.open(Site())
    peer.receive(b"".join(goev.testing.request("GET", target) for target in ("/a", "/stream", "/last")))
    assert [peer.answer().body for _ in range(3)] == [b"fine", b"in chunks", b"fine"]
    assert peer.closed
    with pytest.raises(AssertionError, match="no whole answer yet"):
        peer.answer()


def test_an_answer_that_is_not_whole_stays():
    class Later(goev.http.Connection):
        def on_request(self, request):
            self.request = request
            request.start(200, {"content-length": "4"})
            request.write(b"ab")

        def go_on(self):
            self.request.write(b"cd")
            self.request.end()

    clock, handler = goev.testing.Clock(), Later()
    peer = goev.testing.open(handler, clock=clock)
    with pytest.raises(AssertionError, match="no whole answer yet"):
        peer.ask("GET")
    handler.call_soon(handler.go_on)
    clock.settle()
    assert peer.answer().body == b"abcd"


class Chat(goev.websocket.Connection):
    ping_interval = 20
    ping_timeout = 10

    def on_open(self):
        self.send(f"hello from {self.request.path}")

    def on_message(self, message):
        if message == "bye":
            self.close(3000, "as you wish")
        self.send(message)


def test_a_websocket_is_open_behind_its_handshake():
    peer = goev.testing.open(Chat(), target="/room")
    assert peer.messages() == ["hello from /room"]
    peer.send("text")
    peer.send(b"bytes")
    peer.ping(b"there?")
    assert peer.items() == [("text", "text"), ("binary", b"bytes"), ("pong", b"there?")]


def test_either_side_of_a_websocket_says_the_last_word():
    peer = goev.testing.open(Chat())
    peer.messages()
    peer.close(1000, "done")
    assert peer.items() == [("close", (1000, ""))]
    assert peer.close_error is None
    handler = Chat()
    peer = goev.testing.open(handler)
    peer.messages()
    with pytest.raises(AssertionError, match="no whole answer"):
        peer.answer()
    handler.call_soon(handler.close, 3000, "as you wish")
    peer.clock.settle()
    assert peer.items() == [("close", (3000, "as you wish"))]


def test_a_silent_websocket_is_pinged_and_given_up_by_the_clock():
    clock = goev.testing.Clock()
    peer = goev.testing.open(Chat(), clock=clock)
    peer.messages()
    clock.advance(20)
    assert [kind for kind, _ in peer.items()] == ["ping"]
    clock.advance(10)
    assert isinstance(peer.close_error, goev.PingTimeout)


def test_a_refused_handshake_is_an_error_of_the_test():
    class Picky(goev.websocket.Connection):
        def on_handshake(self, request):
            request.respond(403)
            return False

    with pytest.raises(AssertionError, match="refused"):
        goev.testing.open(Picky())


def test_only_websockets_have_messages_of_websockets():
    with pytest.raises(TypeError, match="no WebSocket"):
        goev.testing.open(Echo()).send("x")


# ---- speed --------------------------------------------------------------------------------------------------------


def test_a_thousand_tests_take_less_than_a_second():
    began = time.monotonic()
    for _ in range(1000):
        peer = goev.testing.open(Echo())
        peer.receive(b"x")
        assert peer.sent() == b"x"
        peer.eof()
        assert peer.closed
    assert time.monotonic() - began < 5  # a margin for a machine that does other things


def test_input_that_came_in_parts_during_a_pause_is_delivered_whole():
    class Pauses(goev.Connection):
        got = b""

        def on_read(self):
            if not self.got:
                self.pause_reading()
            self.got += self.read(self.pending_input)

    handler, clock = Pauses(), goev.testing.Clock()
    peer = goev.testing.open(handler, clock=clock, max_input=4096)
    peer.receive(b"a" * 5000)
    peer.receive(b"b" * 4000)
    handler.call_soon(handler.resume_reading)
    clock.settle()
    assert handler.got == b"a" * 5000 + b"b" * 4000


def test_a_handler_that_overflows_during_a_stop_leaves_nothing_to_do():
    class Keeps(goev.http.Connection):
        def __init__(self):
            self.requests, self.error = [], None

        def on_request(self, request):
            self.requests.append(request)

        def on_close(self, error):
            self.error = error

    handler, clock = Keeps(), goev.testing.Clock()
    peer = goev.testing.open(handler, clock=clock, max_output=100_000)
    peer.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    clock.reactor.stop(100)
    clock.settle()
    for request in handler.requests[1:]:
        handler.call_soon(request.respond, 200, None, b"x" * 70_000)
        clock.settle()
    assert isinstance(handler.error, goev.OutputOverflow)
