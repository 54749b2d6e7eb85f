"""Handshakes that go wrong behind the first message: a client by tlslite-ng breaks one rule, and gets its alert."""

import pytest

from tls_attacks import (
    ALERT,
    CCS,
    CERTIFICATE,
    CERTIFICATE_VERIFY,
    CLIENT_KEY_EXCHANGE,
    DATA,
    END_OF_EARLY_DATA,
    FINISHED,
    HANDSHAKE,
    HEARTBEAT,
    HELLO_12,
    HELLO_13,
    KEY_UPDATE,
    NEW_TICKET,
    SERVER_HELLO_DONE,
    Attacker,
    message,
    numbers,
    on,
    on_change_of_keys,
    outcome,
    raw,
    record,
    vector,
)

TLS12, TLS13 = (3, 3), (3, 4)


def spoiled(_, msg):
    """The message with its last byte changed."""
    body = bytes(msg.write())
    return [raw(msg.contentType, body[:-1] + bytes([body[-1] ^ 1]))]


def cut(_, msg):
    """The message one byte shorter, and its length with it."""
    body = bytes(msg.write())
    return [raw(HANDSHAKE, message(body[0], body[4:-1]))]


def longer(_, msg):
    body = bytes(msg.write())
    return [raw(HANDSHAKE, message(body[0], body[4:] + b"\0"))]


def before(kind, body):
    """Another record before the message."""
    return lambda _, msg: [raw(kind, body), msg]


def instead(kind, body):
    return lambda _, msg: [raw(kind, body)]


def behind(kind, body):
    """Another message in the same record, behind the message."""
    return lambda _, msg: [raw(kind, bytes(msg.write()) + body)]


def in_plain(attacker, msg):
    """The message without encryption."""
    attacker.put_plain(record(msg.contentType, bytes(msg.write())))
    return []


def with_changed_record(attacker, msg):
    attacker.wire.spoil = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    return [msg]


def as_record(data):
    """Bytes that are not encrypted, instead of the message."""

    def make(attacker, msg):
        attacker.put_plain(data)
        return []

    return make


def in_parts_around(kind, body):
    """Another record between two parts of the message."""

    def make(_, msg):
        whole = bytes(msg.write())
        return [raw(HANDSHAKE, whole[:10]), raw(kind, body), raw(HANDSHAKE, whole[10:])]

    return make


def too_large(_, msg):
    """A message that says that it is of the greatest length."""
    return [raw(HANDSHAKE, bytes(msg.write())[:1] + b"\xff\xff\xff" + bytes(16_000))]


def without_change_of_keys(attacker, msg):
    if msg.contentType == CCS:
        return []
    return in_plain(attacker, msg) if bytes(msg.write())[:1] == bytes([FINISHED]) else [msg]


def only_zeros(attacker, msg):
    """A record that is padding and has no type (RFC 8446 section 5.4)."""
    return [raw(0, bytes(20))]


CASES_13 = {
    "Finished wrong": (on(FINISHED, spoiled), "decrypt_error"),
    "Finished cut": (on(FINISHED, cut), "decrypt_error"),
    "Finished longer": (on(FINISHED, longer), "decrypt_error"),
    "Finished of no byte": (on(FINISHED, instead(HANDSHAKE, message(FINISHED))), "decrypt_error"),
    "Finished in plain": (on(FINISHED, in_plain), "bad_record_mac"),
    "Finished with a message behind it": (
        on(FINISHED, behind(HANDSHAKE, message(KEY_UPDATE, b"\0"))),
        "unexpected_message",
    ),
    "record changed": (on(FINISHED, with_changed_record), "bad_record_mac"),
    "record too short for its tag": (on(FINISHED, as_record(record(DATA, b"short"))), "bad_record_mac"),
    "record of no byte": (on(FINISHED, as_record(record(DATA, b""))), "bad_record_mac"),
    "record of the greatest length": (on(FINISHED, as_record(record(DATA, bytes(16_384 + 256)))), "bad_record_mac"),
    "record over the limit": (on(FINISHED, as_record(bytes([DATA]) + numbers(0x0303, 16_384 + 2049))), "decode_error"),
    "data before Finished": (on(FINISHED, before(DATA, b"hello")), "unexpected_message"),
    "ticket before Finished": (
        on(FINISHED, before(HANDSHAKE, message(NEW_TICKET, bytes(8) + b"\0\0\1x\0\0"))),
        "unexpected_message",
    ),
    "certificate that nobody asked for": (
        on(FINISHED, before(HANDSHAKE, message(CERTIFICATE, bytes(4)))),
        "unexpected_message",
    ),
    "key update before Finished": (on(FINISHED, before(HANDSHAKE, message(KEY_UPDATE, b"\0"))), "unexpected_message"),
    "end of early data": (on(FINISHED, before(HANDSHAKE, message(END_OF_EARLY_DATA))), "unexpected_message"),
    "second hello": (on(FINISHED, before(HANDSHAKE, HELLO_13.message)), "unexpected_message"),
    "message of an unknown kind": (on(FINISHED, before(HANDSHAKE, message(99, b"x"))), "unexpected_message"),
    "heartbeat": (on(FINISHED, before(HEARTBEAT, b"\1\0\1x" + bytes(16))), "decode_error"),
    "unknown type of record": (on(FINISHED, before(99, b"x")), "decode_error"),
    "CCS encrypted": (on(FINISHED, before(0, b"\1" + bytes([CCS]))), "unexpected_message"),
    "CCS of another value": (on_change_of_keys(as_record(record(CCS, b"\2"))), "unexpected_message"),
    "CCS of two bytes": (on_change_of_keys(as_record(record(CCS, b"\1\1"))), "unexpected_message"),
    "warning amid the handshake": (on(FINISHED, before(ALERT, b"\1\x28")), "decode_error"),
    "alert of an unknown level": (on(FINISHED, before(ALERT, b"\7\x28")), "illegal_parameter"),
    "alert of one byte": (on(FINISHED, before(ALERT, b"\2")), "decode_error"),
}

CASES_12 = {
    "Finished wrong": (on(FINISHED, spoiled), "decrypt_error"),
    "Finished cut": (on(FINISHED, cut), "decrypt_error"),
    "Finished longer": (on(FINISHED, longer), "decrypt_error"),
    "record changed": (on(FINISHED, with_changed_record), "bad_record_mac"),
    "no CCS": (without_change_of_keys, "unexpected_message"),
    "CCS twice": (on_change_of_keys(lambda _, msg: [msg, msg]), "unexpected_message"),
    "CCS of another value": (on_change_of_keys(instead(CCS, b"\2")), "decode_error"),
    "CCS before the key": (on(CLIENT_KEY_EXCHANGE, before(CCS, b"\1")), "unexpected_message"),
    "no key": (on(CLIENT_KEY_EXCHANGE, lambda _, msg: []), "unexpected_message"),
    "key with a rest": (on(CLIENT_KEY_EXCHANGE, longer), "decode_error"),
    "key too short": (
        on(CLIENT_KEY_EXCHANGE, instead(HANDSHAKE, message(CLIENT_KEY_EXCHANGE, vector(1, bytes(31))))),
        "illegal_parameter",
    ),
    "key of small order": (
        on(CLIENT_KEY_EXCHANGE, instead(HANDSHAKE, message(CLIENT_KEY_EXCHANGE, vector(1, bytes(32))))),
        "illegal_parameter",
    ),
    "key of another one": (on(CLIENT_KEY_EXCHANGE, spoiled), "bad_record_mac"),
    "certificate that nobody asked for": (
        on(CLIENT_KEY_EXCHANGE, before(HANDSHAKE, message(CERTIFICATE, bytes(3)))),
        "unexpected_message",
    ),
    "check that nobody asked for": (
        on_change_of_keys(before(HANDSHAKE, message(CERTIFICATE_VERIFY, b"\4\3\0\0"))),
        "unexpected_message",
    ),
    "data before Finished": (on(FINISHED, before(DATA, b"hello")), "unexpected_message"),
    "data before the key": (on(CLIENT_KEY_EXCHANGE, before(DATA, b"hello")), "unexpected_message"),
    "second hello": (on(CLIENT_KEY_EXCHANGE, before(HANDSHAKE, HELLO_12.message)), "unexpected_message"),
    "message of a server": (
        on(CLIENT_KEY_EXCHANGE, before(HANDSHAKE, message(SERVER_HELLO_DONE))),
        "unexpected_message",
    ),
    "alert of an unknown level": (on(CLIENT_KEY_EXCHANGE, before(ALERT, b"\7\x28")), "illegal_parameter"),
    "heartbeat": (on(CLIENT_KEY_EXCHANGE, before(HEARTBEAT, b"\1\0\1x" + bytes(16))), "decode_error"),
}

# Cases with the words of the log: rustls ends without an alert, or by one that tlslite-ng cannot read.
WITHOUT_ALERT = [
    ("data amid a message", TLS12, on(FINISHED, in_parts_around(DATA, b"hello")), "interleaved"),
    ("data amid a message", TLS13, on(FINISHED, in_parts_around(DATA, b"hello")), "interleaved"),
    ("alert amid a message", TLS12, on(FINISHED, in_parts_around(ALERT, b"\2\x28")), "interleaved"),
    ("alert amid a message", TLS13, on(FINISHED, in_parts_around(ALERT, b"\2\x28")), "interleaved"),
    ("message over the limit", TLS12, on(CLIENT_KEY_EXCHANGE, too_large), "too large"),
    ("message over the limit", TLS13, on(FINISHED, too_large), "too large"),
    ("many warnings", TLS12, on(CLIENT_KEY_EXCHANGE, lambda _, msg: [raw(ALERT, b"\1\x5a")] * 10 + [msg]), "too many"),
    ("many CCS", TLS13, on(FINISHED, as_record(record(CCS, b"\1") * 40)), "illegal middlebox"),
    (
        "key of no byte",
        TLS12,
        on(CLIENT_KEY_EXCHANGE, instead(HANDSHAKE, message(CLIENT_KEY_EXCHANGE))),
        "malformed message",
    ),
    ("record of padding alone", TLS13, on(FINISHED, only_zeros), "inner plaintext"),
]


@pytest.mark.parametrize(
    ("version", "tamper", "alert"),
    [
        pytest.param(version, tamper, alert, id=f"1.{version[1] - 1} {name}")
        for version, cases in ((TLS12, CASES_12), (TLS13, CASES_13))
        for name, (tamper, alert) in cases.items()
    ],
)
def test_a_broken_handshake_gets_its_alert(target, tells, version, tamper, alert):
    assert outcome(Attacker(target, version, tamper)) == alert
    assert "a TLS handshake with 127.0.0.1:" in tells.next()


@pytest.mark.parametrize(
    ("version", "tamper", "words"),
    [pytest.param(*case, id=f"1.{case[0][1] - 1} {name}") for name, *case in WITHOUT_ALERT],
)
def test_a_broken_handshake_ends_the_connection(target, tells, version, tamper, words):
    assert outcome(Attacker(target, version, tamper)) is None
    assert words in tells.next()


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_the_attacker_itself_follows_the_rules(target, version):
    """Otherwise the cases above prove nothing."""
    with Attacker(target, version) as client:
        client.shake_hands()
        client.wait_for_echo()


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_messages_in_small_records_are_put_together(target, version, size):
    """Handshake records of a byte each (RFC 8446 section 5.1)."""

    def split(_, msg):
        whole = bytes(msg.write())
        if msg.contentType != HANDSHAKE:
            return [msg]
        return [raw(HANDSHAKE, whole[at : at + size]) for at in range(0, len(whole), size)]

    def counted(attacker, msg):
        # The parts are no messages of their own, so the attacker counts the whole in its hash.
        if msg.contentType == HANDSHAKE:
            attacker._handshake_hash.update(msg.write())
        return split(attacker, msg)

    with Attacker(target, version, counted) as client:
        client.shake_hands()
        client.wait_for_echo()


def test_changes_of_keys_amid_the_handshake_are_ignored_in_1_3(target):
    """For middleboxes (RFC 8446 appendix D.4)."""
    with Attacker(target, TLS13, on(FINISHED, lambda _, msg: [raw(CCS, b"\1"), msg])) as client:
        client.shake_hands()
        client.wait_for_echo()


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_client_that_goes_amid_the_handshake_leaves_nothing(target, tells, version):
    def leave(attacker, msg):
        attacker.wire.socket.close()
        return []

    with pytest.raises(OSError, match=r"closed|descriptor"):
        Attacker(target, version, on(CLIENT_KEY_EXCHANGE if version == TLS12 else FINISHED, leave)).shake_hands()
    assert "a TLS handshake with 127.0.0.1:" in tells.next()
