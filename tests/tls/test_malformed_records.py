"""Records that go wrong behind the handshake: each gets its alert, and the handler an error that says why."""

import pytest

import goev
from tls_attacks import (
    ALERT,
    CCS,
    CERTIFICATE_REQUEST,
    CLIENT_HELLO,
    DATA,
    FINISHED,
    HANDSHAKE,
    HEARTBEAT,
    HELLO_12,
    HELLO_13,
    KEY_UPDATE,
    NEW_TICKET,
    Attacker,
    flood_with,
    message,
    on,
    outcome,
    raw,
    record,
)

TLS12, TLS13 = (3, 3), (3, 4)
GREATEST = 16_384


def put(kind, body):
    return lambda attacker: attacker.put(kind, body)


def plain(data):
    return lambda attacker: attacker.put_plain(data)


def many(count, kind, body):
    def attack(attacker):
        for _ in range(count):
            attacker.put(kind, body)

    return attack


def changed_record(attacker):
    attacker.wire.spoil = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    attacker.put(DATA, b"hello")


def repeated_record(attacker):
    """The same record twice, as a third party may send it."""
    attacker.wire.spoil = lambda data: data * 2
    attacker.put(DATA, b"hello")


def lost_record(attacker):
    attacker.wire.spoil = lambda data: b""
    attacker.put(DATA, b"hello")
    attacker.put(DATA, b"world")


def update_keys(value):
    def attack(attacker):
        attacker.put(HANDSHAKE, message(KEY_UPDATE, bytes([value])))
        attacker.change_keys()

    return attack


def key_update_without_new_keys(attacker):
    attacker.put(HANDSHAKE, message(KEY_UPDATE, b"\0"))
    attacker.put(DATA, b"hello")


def part_of_a_message_then_data(attacker):
    attacker.put(HANDSHAKE, message(KEY_UPDATE, b"\0")[:3])
    attacker.put(DATA, b"hello")


BOTH = {
    "changed": (changed_record, "bad_record_mac", "cannot be decrypted"),
    "repeated": (repeated_record, "bad_record_mac", "cannot be decrypted"),
    "lost": (lost_record, "bad_record_mac", "cannot be decrypted"),
    "in plain": (plain(record(DATA, b"hello")), "bad_record_mac", "cannot be decrypted"),
    "noise of a record": (plain(record(DATA, bytes(range(200)))), "bad_record_mac", "cannot be decrypted"),
    "no TLS": (plain(b"GET / HTTP/1.1\r\n\r\n"), "decode_error", "does not speak TLS"),
    "over the limit by its header": (plain(b"\x17\3\3\x48\x01"), "decode_error", "malformed"),
    "over the limit by a byte": (put(DATA, bytes(GREATEST + 1)), "record_overflow", "longer than 16 KiB"),
    "heartbeat": (put(HEARTBEAT, b"\1\0\3abc" + bytes(16)), "decode_error", "does not speak TLS"),
    "unknown type": (put(99, b"abc"), "decode_error", "does not speak TLS"),
    "CCS": (plain(record(CCS, b"\1")), "unexpected_message", ""),
    "alert of an unknown level": (put(ALERT, b"\7\x28"), "illegal_parameter", ""),
    "alert of no byte": (put(ALERT, b""), "decode_error", "malformed"),
    "alert of one byte": (put(ALERT, b"\2"), "decode_error", "malformed"),
    "alert of three bytes": (put(ALERT, b"\2\x28\0"), "decode_error", "malformed"),
    "fatal alert": (put(ALERT, b"\2\x28"), None, "alert handshake_failure"),
    "unknown alert": (put(ALERT, b"\2\xc8"), None, "alert unknown"),
    "Finished again": (put(HANDSHAKE, message(FINISHED, bytes(12))), "unexpected_message", "out of order"),
    "unknown message": (put(HANDSHAKE, message(99, b"abc")), "unexpected_message", "out of order"),
    "message over the limit": (put(HANDSHAKE, b"\1\xff\xff\xff" + bytes(100)), None, "too large"),
    "part of a message, then data": (part_of_a_message_then_data, None, "interleaved"),
    "empty records without end": (many(100, DATA, b""), None, "too many empty fragments"),
}

ONLY_12 = {
    "many warnings": (many(100, ALERT, b"\1\x5a"), None, "too many warning alerts"),
}

ONLY_13 = {
    "padding alone": (put(0, bytes(20)), None, "inner plaintext"),
    "hello": (put(HANDSHAKE, HELLO_13.message), "unexpected_message", "out of order"),
    "ticket of a client": (
        put(HANDSHAKE, message(NEW_TICKET, bytes(8) + b"\0\0\1x\0\0")),
        "unexpected_message",
        "out of order",
    ),
    "request of a certificate": (
        put(HANDSHAKE, message(CERTIFICATE_REQUEST, b"\0\0\x08\0\x0d\0\4\0\2\4\3")),
        "unexpected_message",
        "out of order",
    ),
    "warning": (put(ALERT, b"\1\x28"), "decode_error", "alert handshake_failure"),
    "key update of a wrong value": (update_keys(2), "illegal_parameter", "key update"),
    "key update of no byte": (put(HANDSHAKE, message(KEY_UPDATE)), "decode_error", "malformed"),
    "key update of two bytes": (put(HANDSHAKE, message(KEY_UPDATE, b"\0\0")), "decode_error", "malformed"),
    "key update with a message behind it": (
        put(HANDSHAKE, message(KEY_UPDATE, b"\0") * 2),
        "unexpected_message",
        "key epoch with pending fragment",
    ),
    "key update without new keys": (key_update_without_new_keys, "bad_record_mac", "cannot be decrypted"),
}


@pytest.mark.parametrize(
    ("version", "attack", "alert", "words"),
    [
        pytest.param(version, *case, id=f"1.{version[1] - 1} {name}")
        for version, tables in ((TLS12, (BOTH, ONLY_12)), (TLS13, (BOTH, ONLY_13)))
        for table in tables
        for name, case in table.items()
    ],
)
def test_a_wrong_record_gets_its_alert_and_ends_the_connection(target, events, version, attack, alert, words):
    assert outcome(Attacker(target, version), attack) == alert
    error = events.until("close")[1]
    assert type(error) is goev.tls.Error, error
    assert words in str(error)


# --- key updates ---


@pytest.mark.parametrize("value", [0, 1])
def test_key_updates_are_followed(target, value):
    """Of value 1 asks for new keys of the server, too (RFC 8446 section 4.6.3)."""
    with Attacker(target, TLS13) as client:
        client.shake_hands()
        for number in range(20):
            for _ in client.send_keyupdate_request(value):
                pass
            data = b"%05d" % number
            client.write(data)
            assert client.read(min=5, max=5) == data


def test_a_flood_of_key_updates_ends_the_connection(target, events):
    def flood(attacker):
        for _ in range(100):
            update_keys(1)(attacker)

    flood_with(Attacker(target, TLS13), flood)
    assert "too many key update requests" in str(events.until("close")[1])


# --- renegotiation ---


def test_renegotiation_is_refused_and_the_connection_goes_on(target):
    """RFC 5746 allows a refusal by the warning no_renegotiation."""
    with Attacker(target, TLS12) as client:
        client.shake_hands()
        client.put(HANDSHAKE, HELLO_12.message)
        client.put(DATA, b"hello")
        kinds = [client.next_record() for _ in range(2)]
    assert kinds == [(ALERT, b"\1\x64"), (DATA, b"hello")]


def test_a_flood_of_renegotiations_ends_the_connection(target, events):
    flood_with(Attacker(target, TLS12), many(100, HANDSHAKE, HELLO_12.message))
    assert "too many renegotiation requests" in str(events.until("close")[1])


# --- what came before ---


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_data_before_a_wrong_record_arrives(serve, events, version):
    """Also if both come by one read."""

    class Reads(goev.Connection):
        def on_open(self):
            events("open")

        def on_read(self):
            events("read", self.read())

        def on_eof(self):
            events("eof")

        def on_close(self, error):
            events("close", error)

    with Attacker(serve(Reads).address, version) as client:
        client.shake_hands()
        assert events.next() == ("open",)
        client.wire.spoil = lambda data: data + b"\x17\3\3\0\x20" + bytes(32)
        client.put(DATA, b"hello")
        assert client.hear_alert() == "bad_record_mac"
    assert events.next() == ("read", b"hello")
    name, error = events.next()
    assert (name, type(error), error.alert) == ("close", goev.tls.Error, "bad_record_mac")


# --- tickets ---


def test_a_wrong_binder_of_a_right_ticket_is_refused(target, tells):
    """RFC 8446 section 4.2.11.2."""
    with Attacker(target, TLS13) as first:
        first.shake_hands()
        first.wait_for_echo()
        session = first.session
    assert session.tickets, "the server sent no ticket"

    def spoil(_, msg):
        whole = bytes(msg.write())  # the binder is at its end
        return [raw(HANDSHAKE, whole[:-1] + bytes([whole[-1] ^ 1]))]

    assert outcome(Attacker(target, TLS13, on(CLIENT_HELLO, spoil)), session=session) == "decrypt_error"
    assert "a TLS handshake with" in tells.next()
