"""Messages: cut out of the stream by the core, one callback each or all at once, and framed by `send`."""

import struct
import threading

import pytest

import goev
from support import PATIENCE, Events, eventually, on_poller

pytestmark = pytest.mark.wires("plain", "tls")

FRAMINGS = {
    "big": (goev.LengthPrefixed(4), lambda m: struct.pack(">I", len(m)) + m),
    "little": (goev.LengthPrefixed(2, byteorder="little"), lambda m: struct.pack("<H", len(m)) + m),
    "byte": (goev.LengthPrefixed(1, max_size=255), lambda m: bytes([len(m)]) + m),
    "itself": (goev.LengthPrefixed(8, includes_size=True), lambda m: struct.pack(">Q", len(m) + 8) + m),
    "varint": (goev.LengthPrefixed("varint"), lambda m: varint(len(m)) + m),
    "lines": (goev.Delimited(), lambda m: m + b"\n"),
    "crlf": (goev.Delimited(b"\r\n"), lambda m: m + b"\r\n"),
    "fixed": (goev.FixedSize(5), lambda m: m),
}
MESSAGES = [b"first", b"\x00\x01\x02\x03\x04", b"third"]


def varint(value: int) -> bytes:
    """As in the Protocol Buffers documentation, "Base 128 Varints"."""
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def recording(events: Events, framing, base=goev.Connection) -> type[goev.Connection]:
    """A class that notes its messages and sends each back."""

    class Recording(base):
        def on_message(self, message):
            events("message", message)
            self.send(message)

        def on_close(self, error):
            events("close", error)

    Recording.framing = framing
    return Recording


@pytest.fixture
def connected(start):
    """Makes a server of a class, and a client of it."""
    return lambda handler, **options: start(handler, **options).connect()


@pytest.mark.parametrize("name", FRAMINGS)
def test_each_message_arrives_whole_wherever_the_stream_is_cut_and_goes_back_framed(connected, name):
    framing, framed = FRAMINGS[name]
    stream = b"".join(map(framed, MESSAGES))
    assert b"".join(map(framing.frame, MESSAGES)) == stream
    events = Events()
    client = connected(recording(events, framing))
    for cut in range(len(stream) + 1):
        client.send(stream[:cut])
        if 0 < cut < len(stream):
            # The whole messages come back before the rest is sent, so the server really sees the cut.
            whole = [m for n, m in enumerate(MESSAGES) if cut >= len(b"".join(map(framed, MESSAGES[: n + 1])))]
            answer = b"".join(map(framed, whole))
            assert client.receive(len(answer)) == answer
            client.send(stream[cut:])
            assert client.receive(len(stream) - len(answer)) == stream[len(answer) :]
        else:
            client.send(stream[cut:])
            assert client.receive(len(stream)) == stream
    assert [message for _, message in events.history] == MESSAGES * (len(stream) + 1)


def test_all_messages_that_are_there_come_at_once(connected):
    events = Events()

    class Batches(goev.Connection):
        framing = goev.Delimited()

        def on_messages(self, messages):
            events("messages", messages)
            self.send_messages(message.upper() for message in messages)

    client = connected(Batches)
    client.send(b"a\nb\n\nc\nrest")
    assert client.receive(7) == b"A\nB\n\nC\n"
    client.send(b" of it\n")
    assert client.receive(11) == b"REST OF IT\n"
    assert events.history == [("messages", [b"a", b"b", b"", b"c"]), ("messages", [b"rest of it"])]


@pytest.mark.parametrize(
    ("framing", "stream", "error", "text"),
    [
        (goev.LengthPrefixed(4, max_size=10), b"\x00\x00\x00\x0b", goev.MessageTooLong, "11 bytes: max_size is 10"),
        (goev.LengthPrefixed(8, max_size=10), b"\xff" * 8, goev.MessageTooLong, "max_size is 10"),
        (goev.LengthPrefixed("varint", max_size=10), b"\x0b", goev.MessageTooLong, "11 bytes"),
        (goev.LengthPrefixed("varint"), b"\xff" * 10, goev.FramingError, "64 bits"),
        (goev.LengthPrefixed(2, includes_size=True), b"\x00\x01", goev.FramingError, "2 bytes of itself"),
        (goev.Delimited(max_size=10), b"x" * 11, goev.MessageTooLong, "no delimiter within max_size=10"),
    ],
)
def test_what_is_no_message_ends_the_connection_after_the_messages_before_it(connected, framing, stream, error, text):
    events = Events()
    client = connected(recording(events, framing))
    good = framing.frame(b"good")
    client.send(good + stream)
    assert client.receive(len(good)) == good
    assert client.receive_all() == b"", "the end comes in order, behind the answer"
    closed = events.until("close")[1]
    assert type(closed) is error
    assert text in str(closed)
    assert events.history[0] == ("message", b"good")


def test_a_message_may_be_larger_than_max_input(connected):
    events = Events()
    client = connected(recording(events, goev.LengthPrefixed(4, max_size=3_000_000)), max_input=1000)
    message = bytes(range(250)) * 12_000
    frame = goev.LengthPrefixed(4, max_size=3_000_000).frame(message)
    sending = threading.Thread(target=client.send, args=(frame,))
    sending.start()
    assert client.receive(len(frame)) == frame
    sending.join(PATIENCE)
    assert events.history == [("message", message)]


def test_a_pause_holds_the_messages_that_follow_and_a_close_drops_them(start):
    events = Events()
    handlers = []

    class Pausing(goev.Connection):
        framing = goev.Delimited()

        def on_open(self):
            handlers.append(self)

        def on_message(self, message):
            events("message", message)
            if message == b"pause":
                self.pause_reading()
            return message != b"close"

        def on_close(self, error):
            events("close", error)

    server = start(Pausing)
    client = server.connect()
    client.send(b"pause\nnext\nclose\nnever\n")
    events.until("message")
    on_poller(server.reactor, lambda: None)
    assert events.history == [("message", b"pause")]
    on_poller(server.reactor, handlers[0].resume_reading)
    assert events.until("close") == ("close", None)
    assert [event[1] for event in events.history[:-1]] == [b"pause", b"next", b"close"]


def test_a_pause_holds_also_what_is_wrong_behind_the_message(connected):
    events = Events()

    class Answers(recording(events, goev.LengthPrefixed(1, max_size=5))):
        def on_message(self, message):
            self.pause_reading()
            self.run_in_executor(None, lambda: message * 2, then=self.answer)

        def answer(self, future):
            self.send(future.result())
            self.resume_reading()

    client = connected(Answers)
    client.send(b"\x01a\x06too long")
    assert client.receive_all() == b"\x02aa"
    assert type(events.until("close")[1]) is goev.MessageTooLong


def test_what_is_taken_out_of_turn_may_leave_a_whole_message(connected):
    events = Events()

    class Skips(recording(events, goev.LengthPrefixed(1))):
        def on_open(self):
            events("open", self)

    client = connected(Skips)
    connection = events.until("open")[1]
    client.send(b"\x0aabc\x02hi")
    eventually(lambda: on_poller(connection, lambda: connection.pending_input == 7), "it waits")
    assert on_poller(connection, lambda: connection.skip(4)) == 4
    assert client.receive(3) == b"\x02hi"


@pytest.mark.parametrize("framing", [None, goev.Delimited()])
def test_who_is_closed_before_it_opens_is_told_of_both(connected, framing):
    events = Events()

    class Next(recording(events, framing)):
        def on_open(self):
            events("open")

    class First(goev.Connection):
        def on_read(self):
            self.read()
            following = Next()
            self.hand_over(following)
            following.close()

    client = connected(First)
    client.send(b"x")
    assert client.receive_all() == b""
    assert events.next() == ("open",)
    assert events.next() == ("close", None)


def test_what_read_takes_is_not_taken_for_messages(connected):
    class Binary(goev.Connection):
        framing = goev.Delimited()

        def on_message(self, message):
            self.write(b"<" + message + b">" + self.read(int(message)))

    client = connected(Binary)
    client.send(b"3\n\n\n\n0\n")
    assert client.receive(9) == b"<3>\n\n\n<0>"


def test_threads_send_whole_frames(connected):
    everyone = []

    class Joins(goev.Connection):
        framing = goev.LengthPrefixed(4)

        def on_open(self):
            everyone.append(self)
            self.send(b"welcome")

    client = connected(Joins)
    assert client.receive(11) == b"\x00\x00\x00\x07welcome"
    messages = [bytes([65 + n]) * size for n, size in enumerate((0, 1, 1000, 5000, 50_000))]

    def send():
        for message in messages:
            everyone[0].send(message)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    received = []
    for _ in range(8 * len(messages)):
        (size,) = struct.unpack(">I", client.receive(4))
        received.append(client.receive(size))
    assert sorted(received) == sorted(messages * 8)
    for thread in threads:
        thread.join(PATIENCE)


def test_messages_are_sent_together_in_order_up_to_one_that_is_refused(connected):
    sizes = [0, 1, 5000, 2, 70_000, 3]

    class Several(goev.Connection):
        framing = goev.LengthPrefixed(4, max_size=100_000)

        def on_open(self):
            self.send_messages([bytes(size) for size in sizes])
            with pytest.raises(goev.MessageTooLong):
                self.send_messages([b"last", bytes(100_001), b"never"])
            with pytest.raises(TypeError, match="not int"):
                self.send_messages([1])
            self.close()

    client = connected(Several)
    expected = b"".join(struct.pack(">I", size) + bytes(size) for size in sizes) + b"\x00\x00\x00\x04last"
    assert client.receive_all() == expected


@pytest.mark.parametrize("make", [list, iter], ids=["list", "iterator"])
def test_messages_that_are_sent_together_are_bound_by_max_output(connected, make):
    events = Events()

    class Floods(recording(events, goev.LengthPrefixed(2))):
        def on_message(self, message):
            with pytest.raises(goev.ConnectionClosed):
                self.send_messages(make([bytes(3000)] * 20_000))  # more than any kernel takes

    # The message comes after the connect, which a reset would end with an error.
    connected(Floods, max_output=1 << 20).send(b"\x00\x02go")
    assert type(events.until("close")[1]) is goev.OutputOverflow


class Upper:
    """A framing in Python: words between spaces, told in capitals."""

    def __init__(self):
        self.rest = b""

    def feed(self, data):
        *words, self.rest = (self.rest + data).split(b" ")
        return [word.upper() for word in words]

    def frame(self, message):
        return message + b" "


def test_a_framing_in_python_of_which_each_connection_has_its_own(start):
    server = start(recording(Events(), Upper))
    one, two = server.connect(), server.connect()
    one.send(b"on")
    two.send(b"tw")
    one.send(b"e more ")
    assert one.receive(9) == b"ONE MORE "
    two.send(b"o ")
    assert two.receive(4) == b"TWO "


def test_a_framing_in_python_hands_out_lists_and_stops_at_the_end(connected):
    events = Events()

    class Batches(goev.Connection):
        framing = Upper

        def on_messages(self, messages):
            events("messages", messages)
            return b"END" not in messages

    client = connected(Batches)
    client.send(b"a b end c")
    assert client.receive_all() == b""
    assert events.history == [("messages", [b"A", b"B", b"END"])]


@pytest.mark.parametrize("fed", [None, 5, b"ab", {"a": 1}, ("a",)])
@pytest.mark.parametrize("name", ["on_message", "on_messages"])
def test_a_framing_in_python_must_return_a_list(connected, log, name, fed):
    events = Events()

    class Feeds(Upper):
        def feed(self, data):
            return fed

    class Told(goev.Connection):
        framing = Feeds()

        def on_close(self, error):
            events("close", error)

    setattr(Told, name, lambda self, messages: events("message", messages))
    connected(Told).send(b"x")
    error = events.next()[1]
    assert type(error) is TypeError
    assert str(error) == f"feed(data) must return a list of messages, not {type(fed).__name__}"


def test_a_framing_is_of_one_handler_and_not_of_the_next(connected):
    class Raw(goev.Connection):
        def on_read(self):
            self.write(b"raw " + self.read())

    class Lines(goev.Connection):
        framing = goev.Delimited()

        def on_message(self, message):
            self.send(message)
            if message == b"raw":
                self.hand_over(Raw())

    client = connected(Lines)
    client.send(b"line\nraw\nno line")
    assert client.receive(20) == b"line\nraw\nraw no line"


def test_input_that_waits_is_cut_when_a_framing_takes_over(connected):
    class Lines(goev.Connection):
        framing = goev.Delimited()

        def on_message(self, message):
            self.send(message.upper())

    class First(goev.Connection):
        def on_read(self):
            self.read_until(b"\n")
            self.hand_over(Lines())

    client = connected(First)
    client.send(b"upgrade\none\ntwo\n")
    assert client.receive(8) == b"ONE\nTWO\n"


@pytest.mark.parametrize(
    ("framing", "message", "error", "text"),
    [
        (goev.LengthPrefixed(1, max_size=10), b"x" * 11, goev.MessageTooLong, "11 bytes: max_size is 10"),
        (goev.LengthPrefixed(1), b"x" * 256, ValueError, "does not fit into 1 bytes"),
        (goev.Delimited(b"--"), b"a--b", ValueError, "in it"),
        (goev.Delimited(b"--"), b"a-", ValueError, "in it"),
        (goev.FixedSize(4), b"abc", ValueError, "exactly 4 bytes, not 3"),
        (goev.LengthPrefixed(), "text", TypeError, "bytes-like object, not str"),
    ],
)
def test_a_message_that_cannot_be_framed_is_refused(framing, message, error, text):
    with pytest.raises(error, match=text):
        framing.frame(message)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: goev.LengthPrefixed(3), ValueError, "size must be 1, 2, 4, 8 or 'varint', not 3"),
        (lambda: goev.LengthPrefixed("4"), ValueError, 'not "4"'),
        (lambda: goev.LengthPrefixed(2.0), TypeError, "float"),
        (lambda: goev.LengthPrefixed("varint", includes_size=True), ValueError, "no meaning"),
        (lambda: goev.LengthPrefixed(byteorder="native"), ValueError, "byteorder must be"),
        (lambda: goev.LengthPrefixed(max_size=0), ValueError, "max_size must be from 1"),
        (lambda: goev.LengthPrefixed(max_size=2**40), ValueError, "max_size must be from 1 to 1073741824"),
        (lambda: goev.Delimited(b""), ValueError, "delimiter must not be empty"),
        (lambda: goev.Delimited("\n"), TypeError, "delimiter"),
        (lambda: goev.FixedSize(0), ValueError, "size must be from 1"),
        (lambda: goev.FixedSize(-1), ValueError, "size must be 0 or more"),
    ],
)
def test_a_framing_that_makes_no_sense_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_framing_says_what_it_is():
    assert repr(goev.LengthPrefixed(2, max_size=9, byteorder="little", includes_size=True)) == (
        "goev.LengthPrefixed(2, max_size=9, byteorder='little', includes_size=True)"
    )
    assert repr(goev.Delimited(b"\r\n")) == r"goev.Delimited(b'\r\n', max_size=65536)"
    assert repr(goev.FixedSize(4)) == "goev.FixedSize(4)"


def test_send_without_a_framing_says_what_to_do(connected):
    events = Events()

    class Bytes(goev.Connection):
        def on_open(self):
            with pytest.raises(TypeError, match=r"send\(\) needs a framing"):
                self.send(b"x")
            events("refused")

    connected(Bytes)
    events.until("refused")


def test_an_object_that_is_no_framing_ends_the_connection_and_says_what_is_missing(connected, log):
    events = Events()
    client = connected(recording(events, object()))
    assert client.receive_all() == b""
    error = events.until("close")[1]
    assert type(error) is TypeError
    assert "object has no feed" in str(error)
    assert "has no feed" in log.texts()[0]


class Own:
    """A framing in Python: lines."""

    def __init__(self):
        self.rest = b""

    def feed(self, data):
        *messages, self.rest = (self.rest + data).split(b"\n")
        return messages

    def frame(self, message):
        return message + b"\n"


@pytest.mark.parametrize("framing", [Own, Own(), goev.Delimited, goev.Delimited()])
def test_send_before_the_opening_is_refused_as_other_calls_are(framing):
    handler = type("Sends", (goev.Connection,), {"framing": framing})()
    for call in (handler.send, lambda message: handler.send_messages([message]), handler.write):
        with pytest.raises(goev.ConnectionClosed, match="not open yet"):
            call(b"x")


def test_send_with_a_class_for_a_framing_says_to_give_an_instance(connected):
    events = Events()

    class Bytes(goev.Connection):
        def on_open(self):
            self.framing = Own
            with pytest.raises(TypeError, match=r"framing must be an instance of Own to send a message, as Own\(\)"):
                self.send(b"x")
            self.framing = Own()
            self.send(b"x")
            events("refused")

    client = connected(Bytes)
    events.until("refused")
    assert client.receive(2) == b"x\n"
