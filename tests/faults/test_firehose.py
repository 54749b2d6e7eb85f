"""One connection that sends as fast as it can does not starve fifty that ask now and then."""

import statistics

import pytest
from wires import authority

import goev
from support import Child, Echo, Recorder, eventually, held

# The second argument is the certificate of a CA, or empty for plain bytes.
CONNECT = """
    import socket, ssl, sys
    def connect():
        client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        if not sys.argv[2]:
            return client
        return ssl.create_default_context(cadata=sys.argv[2]).wrap_socket(client, server_hostname="localhost")
"""

PINGS = (
    CONNECT
    + """
    import time
    clients = [connect() for _ in range(50)]
    for line in sys.stdin:
        times = []
        for _ in range(20):
            for client in clients:
                began = time.perf_counter()
                client.sendall(b"ping")
                assert client.recv(4) == b"ping"
                times.append(time.perf_counter() - began)
        times.sort()
        print(times[int(len(times) * 0.99)], flush=True)
    for client in clients:
        client.close()
"""
)

FIREHOSE = (
    CONNECT
    + """
    import threading
    client = connect()
    def discard():
        buffer = bytearray(1 << 20)
        while client.recv_into(buffer):
            pass
    if not sys.argv[2]:  # OpenSSL's connections are for one thread at a time
        threading.Thread(target=discard, daemon=True).start()
    data = bytes(1 << 20)
    print("spraying", flush=True)
    try:
        while True:
            client.sendall(data)
    except OSError:
        pass
"""
)


class Discards(Echo):
    """Echoes small messages, and discards large ones."""

    def on_read(self):
        if self.pending_input > 4:
            self.skip(self.pending_input)
        else:
            super().on_read()


@pytest.mark.timeout(60)
@pytest.mark.wires("plain", "tls")
def test_of_fifty_pingers_the_slowest_wait_little_longer_beside_a_firehose(stack, start, wire):
    compare(stack, start(Discards), authority().pem.decode() if wire.is_secure else "")


@pytest.mark.timeout(60)
def test_of_fifty_pingers_the_slowest_wait_little_longer_beside_an_echoed_firehose(stack, start):
    compare(stack, start(Echo), "")


def compare(stack, server, trusted):
    """The slowest of fifty pingers, alone and beside a firehose."""
    where = str(server.address[1]), trusted
    pinger = stack.enter_context(Child.running(PINGS, *where))

    def p99() -> float:
        rounds = []
        for _ in range(3):
            pinger.say("go")
            rounds.append(float(pinger.line()))
        return statistics.median(rounds)

    quiet = p99()
    hose = stack.enter_context(Child.running(FIREHOSE, *where))
    assert hose.line() == "spraying"
    before = server.reactor.stats()[0]["bytes_in"]
    beside = p99()
    assert server.reactor.stats()[0]["bytes_in"] - before > 10_000_000, "it is a firehose"
    # A batch is at most 512 KiB and a millisecond of callbacks. Three busy processes share the CPUs: on two of them
    # each may wait some time slices of the others.
    assert beside < max(20 * quiet, 0.05), f"p99 {quiet * 1e3:.2f} ms, beside a firehose {beside * 1e3:.2f} ms"


def test_a_thousand_bytes_of_everybody_come_through_a_firehose(stack, start):
    """Not only small messages: fifty other clients that send and receive at their own pace lose nothing."""
    server = start(Echo)
    hose = stack.enter_context(Child.running(FIREHOSE, str(server.address[1]), ""))
    assert hose.line() == "spraying"
    data = bytes(range(250)) * 40
    clients = [server.connect() for _ in range(50)]
    for client in clients:
        client.send(data)
    for client in clients:
        assert client.receive(len(data)) == data


def test_what_a_firehose_has_sent_before_is_read_a_turn_at_a_time_and_the_pingers_come_between(start, events):
    """The order in which one poller reads does not depend on the load of the machine."""

    class Tells(Recorder):
        def on_read(self):
            self.events("read", self.skip(self.pending_input))

    server = start(lambda: Tells(events))
    hose, *pingers = [server.connect() for _ in range(51)]
    events.times("open", 51)
    for _ in range(3):
        before = len(events.history)
        with held(server.reactor):
            sprayed = hose.fill(bytes(8_000_000))
            for client in pingers:
                client.send(b"ping")
        assert sprayed > 1_000_000, "the hose has much more waiting than anybody is read at a time"
        while (taken := [event[1] for event in events.history[before:]]).count(4) < 50 or sum(taken) < sprayed + 200:
            events.next()
        last = max(index for index, count in enumerate(taken) if count == 4)
        assert sum(count for count in taken[:last] if count != 4) <= 260 * 1024


def test_what_is_read_of_large_messages_holds_up_a_small_one_no_longer_than_a_batch(start, events):
    """Parts of messages cause no call, but they count: a batch of them ends before every sender was read."""

    class Framed(Recorder):
        framing = goev.LengthPrefixed(4, max_size=1 << 26)

        def on_message(self, message):
            self.events("message", message, self.reactor.stats()[0]["bytes_in"])

    server = start(lambda: Framed(events))
    pinger, *hoses = [server.connect() for _ in range(11)]
    for client in hoses:
        client.send((1 << 26).to_bytes(4) + b"begun")
    eventually(lambda: server.reactor.stats()[0]["bytes_in"] == 90, "each message has begun")
    with held(server.reactor):
        pinger.send((4).to_bytes(4) + b"ping")
        sprayed = [client.fill(bytes(4_000_000)) for client in hoses]
    assert min(sprayed) > 300_000, "each has more waiting than is read of one at a time"
    _, message, came = events.until("message")
    assert message == b"ping"
    assert came - 90 <= (512 + 260) * 1024
