"""First messages that are no TLS, malformed, or ask for what we lack: each gets its alert, and the server serves on."""

import socket

import pytest

from support import PATIENCE, settle
from tls_attacks import (
    ALERT,
    ALPN,
    CCS,
    CLIENT_HELLO,
    DATA,
    EARLY_DATA,
    FINISHED,
    GROUPS,
    HANDSHAKE,
    HEARTBEAT,
    HELLO_12,
    HELLO_13,
    KEY_SHARE,
    POINT_FORMATS,
    PRE_SHARED_KEY,
    PSK_MODES,
    RENEGOTIATION,
    SECP256R1,
    SIGNATURES,
    SNI,
    TICKET,
    VERSIONS,
    X448,
    X25519,
    extension,
    key_share,
    message,
    numbers,
    plain_alert,
    record,
    server_name,
    vector,
)

H, OLD = HELLO_13, HELLO_12


def old(version):
    return H.but(version=version).without(VERSIONS, KEY_SHARE)


def shares(*each):
    return H.with_extension(KEY_SHARE, vector(2, *each))


def alpn(*names):
    return H.with_extension(ALPN, vector(2, *names))


def twice(hello, kind):
    encoded = hello.encoded_extensions + extension(kind, hello.extensions[kind])
    return record(HANDSHAKE, message(CLIENT_HELLO, hello.body(encoded)))


def with_extensions(encoded):
    """A hello whose bytes of extensions are these."""
    return record(HANDSHAKE, message(CLIENT_HELLO, H.body(encoded)))


def with_length(length):
    """A hello that says it has this length."""
    return record(HANDSHAKE, bytes([CLIENT_HELLO]) + length.to_bytes(3, "big") + H.body())


def psk(identity=b"ticket", binder=bytes(32), identities=1, binders=1):
    """A hello that resumes by a ticket that no server gave."""
    identities = vector(2, *[vector(2, identity) + bytes(4)] * identities)
    binders = vector(2, *[vector(1, binder)] * binders)
    return H.with_extension(PSK_MODES, vector(1, b"\1")).with_extension(PRE_SHARED_KEY, identities + binders)


NO_TLS = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "decode_error"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "decode_error"),
    "zeros": (bytes(100), "decode_error"),
    "SSLv2": (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(64), "decode_error"),
    "SSLv2 hello for TLS 1.0": (b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + bytes(64), "decode_error"),
    "unknown type of record": (record(99, H.message), "decode_error"),
    "heartbeat": (record(HEARTBEAT, b"\1\0\3abc" + bytes(16)), "decode_error"),
    "version of the record 2.0": (record(HANDSHAKE, H.message, 0x0200), "decode_error"),
    "version of the record 5.0": (record(HANDSHAKE, H.message, 0x0500), "decode_error"),
    "oversized record": (bytes([HANDSHAKE]) + numbers(0x0301, 16_384 + 2049), "decode_error"),
    "record of 64 KiB": (bytes([HANDSHAKE]) + numbers(0x0301, 0xFFFF), "decode_error"),
    "empty handshake record": (record(HANDSHAKE, b"") + H.record, "decode_error"),
    "empty alert record": (record(ALERT, b""), "decode_error"),
    "empty CCS record": (record(CCS, b""), "decode_error"),
}

VERSIONS_AND_CIPHERS = {
    "SSLv3": (OLD.but(version=0x0300), "protocol_version"),
    "TLS 1.0": (OLD.but(version=0x0301), "protocol_version"),
    "TLS 1.1": (OLD.but(version=0x0302), "protocol_version"),
    # Their clients have no extensions for signatures, and that is looked at first.
    "TLS 1.1 without signatures": (OLD.but(version=0x0302).without(SIGNATURES), "handshake_failure"),
    "no version in common": (H.with_extension(VERSIONS, vector(1, numbers(0x0305, 0x0302))), "protocol_version"),
    "no cipher in common": (H.but(suites=numbers(0x1304, 0xC02B)), "handshake_failure"),
    "no cipher in common in 1.2": (OLD.but(suites=numbers(0x002F, 0xC009)), "handshake_failure"),
    "no cipher": (H.but(suites=b""), "decode_error"),
    "half a cipher": (H.but(suites=b"\x13\x01\x13"), "decode_error"),
    "GREASE alone": (H.but(suites=numbers(0x0A0A, 0x1A1A)), "handshake_failure"),
    "no group in common": (
        H.with_extension(GROUPS, vector(2, numbers(X448))).with_extension(
            KEY_SHARE, vector(2, key_share(X448, bytes(56)))
        ),
        "handshake_failure",
    ),
    "no group in common in 1.2": (OLD.with_extension(GROUPS, vector(2, numbers(X448))), "handshake_failure"),
    "no signature in common in 1.2": (OLD.with_extension(SIGNATURES, vector(2, numbers(0x0201))), "handshake_failure"),
    "a compression": (H.but(compressions=b"\1"), "illegal_parameter"),
    "a compression in 1.2": (OLD.but(compressions=b"\1"), "illegal_parameter"),
    "no compression at all": (H.but(compressions=b""), "decode_error"),
    "a long session": (H.but(session=bytes(33)), "decode_error"),
    "no signatures": (H.without(SIGNATURES), "handshake_failure"),
    "points compressed only": (OLD.with_extension(POINT_FORMATS, vector(1, b"\2")), "illegal_parameter"),
}

EXTENSIONS = {
    "twice the name": (twice(H, SNI), "illegal_parameter"),
    "twice a key share": (twice(H, KEY_SHARE), "illegal_parameter"),
    "twice the versions": (twice(H, VERSIONS), "illegal_parameter"),
    "unknown one twice": (with_extensions(H.encoded_extensions + extension(0x1234, b"") * 2), "illegal_parameter"),
    "longer than the message": (with_extensions(H.encoded_extensions + numbers(0x1234, 500)), "decode_error"),
    "cut in the header": (with_extensions(H.encoded_extensions + b"\x12\x34\0"), "decode_error"),
    "empty name": (H.with_extension(SNI, b"").record, "decode_error"),
    "no name in the list": (H.with_extension(SNI, vector(2)).record, "decode_error"),
    "name of no byte": (H.with_extension(SNI, server_name(b"")).record, "decode_error"),
    "name that is none": (H.with_extension(SNI, server_name(b"a b.\xff")).record, "illegal_parameter"),
    "name with a NUL": (H.with_extension(SNI, server_name(b"localhost\0.example")).record, "illegal_parameter"),
    "two names": (H.with_extension(SNI, vector(2, (b"\0" + vector(2, b"a.example")) * 2)).record, "decode_error"),
    "ALPN empty": (H.with_extension(ALPN, b"").record, "decode_error"),
    "ALPN without names": (alpn().record, "decode_error"),
    "ALPN of no byte": (alpn(vector(1)).record, "decode_error"),
    "ALPN cut": (alpn(b"\x09http/1.").record, "decode_error"),
    "versions empty": (H.with_extension(VERSIONS, vector(1)).record, "decode_error"),
    "versions cut": (H.with_extension(VERSIONS, vector(1, b"\3")).record, "decode_error"),
    "groups cut": (H.with_extension(GROUPS, vector(2, b"\0")).record, "decode_error"),
    "groups empty": (H.with_extension(GROUPS, vector(2)).record, "decode_error"),
    "signatures empty": (H.with_extension(SIGNATURES, vector(2)).record, "decode_error"),
    # RFC 8446 section 9.2 has missing_extension for these two; rustls is less exact.
    "key share missing": (H.without(KEY_SHARE).record, "handshake_failure"),
    "groups missing": (H.without(GROUPS).record, "handshake_failure"),
    "key share cut": (shares(key_share(X25519, bytes(32))[:-1]).record, "decode_error"),
    "key share of no byte": (shares(key_share(X25519, b"")).record, "decode_error"),
    "key share too short": (shares(key_share(X25519, bytes(31))).record, "illegal_parameter"),
    "key share of small order": (shares(key_share(X25519, bytes(32))).record, "illegal_parameter"),
    "two key shares of a group": (shares(*[key_share(X25519, b"\x09" + bytes(31))] * 2).record, "illegal_parameter"),
    "point not on the curve": (
        H.with_extension(GROUPS, vector(2, numbers(SECP256R1)))
        .with_extension(KEY_SHARE, vector(2, key_share(SECP256R1, b"\4" + b"\1" * 64)))
        .record,
        "illegal_parameter",
    ),
    "PSK not the last": (psk().with_extension(0x1234, b"").record, "illegal_parameter"),
    "PSK without modes": (psk().without(PSK_MODES).record, "missing_extension"),
    "PSK with too few binders": (psk(identities=2).record, "illegal_parameter"),
    "PSK without binders": (psk(binders=0).record, "decode_error"),
}

MESSAGES = {
    "too short": (record(HANDSHAKE, message(CLIENT_HELLO, H.body()[:40])), "decode_error"),
    "of no byte": (record(HANDSHAKE, message(CLIENT_HELLO)), "decode_error"),
    "with a rest": (H.but(trailing=b"abc").record, "decode_error"),
    "without extensions": (record(HANDSHAKE, message(CLIENT_HELLO, H.body()[:75])), "decode_error"),
    "of a server": (record(HANDSHAKE, message(2, H.body())), "decode_error"),
    "of another kind": (record(HANDSHAKE, message(FINISHED, bytes(32))), "unexpected_message"),
    "of an unknown kind": (record(HANDSHAKE, message(99, b"abc")), "unexpected_message"),
    "data": (record(DATA, b"hello"), "unexpected_message"),
    "twice in 1.2": (OLD.record * 2, "unexpected_message"),
    "CCS before": (record(CCS, b"\1") + H.record, "unexpected_message"),
    "CCS of another value before": (record(CCS, b"\2") + H.record, "decode_error"),
    "alert of an unknown level": (record(ALERT, b"\x07\x0a"), "illegal_parameter"),
    "alert of one byte": (record(ALERT, b"\2"), "decode_error"),
    "alert of three bytes": (record(ALERT, b"\2\x0a\0"), "decode_error"),
}


# Cases with the words of the log: rustls has no alert for them, or it is encrypted.
WITHOUT_ALERT = {
    "longer than a message may be": (with_length(0x10000), "handshake payload too large"),
    "of the greatest length": (with_length(0xFFFFFF), "handshake payload too large"),
    "twice in 1.3": (H.record * 2, "a record cannot be decrypted"),
    "a part, then data": (record(HANDSHAKE, H.message[:50]) + record(DATA, b"hello"), "interleaved"),
    "a part, then an alert": (record(HANDSHAKE, H.message[:50]) + record(ALERT, b"\1\0"), "interleaved"),
    "no signature in common": (H.with_extension(SIGNATURES, vector(2, numbers(0x0201))), "no signature of this kind"),
}

# Hellos that the server answers; then the client goes.
HARMLESS = {
    "TLS 1.3": H,
    "TLS 1.2": OLD,
    "unknown extensions": H.with_extension(0x1234, b"abc").with_extension(0x0A0A, b""),
    "ticket of another server": OLD.with_extension(TICKET, bytes(500)),
    "ticket of another server in 1.3": psk(),
    "early data": psk()
    .without(PRE_SHARED_KEY)
    .with_extension(EARLY_DATA, b"")
    .with_extension(PRE_SHARED_KEY, psk().extensions[PRE_SHARED_KEY]),
    "name of an address": H.with_extension(SNI, server_name(b"127.0.0.1")),
    "name with a dot at its end": H.with_extension(SNI, server_name(b"localhost.")),
    "unknown name": H.with_extension(SNI, server_name(b"nobody.example")),
    "no name": H.without(SNI),
    # A server that knows no version below 1.2 and no renegotiation may ignore these two.
    "fallback": OLD.but(suites=numbers(0xC02B, 0x5600)),
    "renegotiation of nothing": OLD.with_extension(RENEGOTIATION, vector(1, b"abc")),
}


def flat(*tables):
    return [
        pytest.param(sent if isinstance(sent, bytes) else sent.record, expected, id=name)
        for cases in tables
        for name, (sent, expected) in cases.items()
    ]


@pytest.mark.parametrize(("sent", "alert"), flat(NO_TLS, VERSIONS_AND_CIPHERS, EXTENSIONS, MESSAGES))
def test_a_wrong_first_message_gets_its_alert(target, tells, sent, alert):
    assert plain_alert(target, [sent]) == alert
    assert "a TLS handshake with 127.0.0.1:" in tells.next()


@pytest.mark.parametrize(("sent", "words"), flat(WITHOUT_ALERT))
def test_a_wrong_first_message_ends_the_connection_at_once(target, tells, sent, words):
    assert plain_alert(target, [sent], finish=False) is None
    assert words in tells.next()


@pytest.mark.parametrize("hello", list(HARMLESS.values()), ids=HARMLESS)
def test_an_unusual_first_message_does_no_harm(target, tells, hello):
    with socket.create_connection(target, PATIENCE) as client:
        client.sendall(hello.record)
        assert client.recv(3) == b"\x16\3\3"
    assert "a TLS handshake with 127.0.0.1:" in tells.next()


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 50])
def test_a_client_that_goes_amid_its_first_message_leaves_nothing(target, tells, cut):
    assert plain_alert(target, [HELLO_13.record[:cut]]) is None
    assert "close_notify" in tells.next()


@pytest.mark.parametrize(("level", "words"), [(1, "close_notify"), (2, "handshake_failure")])
def test_an_alert_in_plain_is_told(target, tells, level, words):
    """A warning ends nothing in TLS 1.2, so there the end of the stream is told."""
    assert plain_alert(target, [record(ALERT, bytes([level, 40]))]) is None
    assert words in tells.next()


@pytest.mark.parametrize("hello", [HELLO_12, HELLO_13])
@pytest.mark.parametrize("size", [1, 3])
def test_a_first_message_in_small_records_is_put_together(target, reactor, tells, hello, size):
    """RFC 8446 section 5.1 allows it. The poller serves on meanwhile, although all parts so far are whole records."""
    whole = hello.message
    parts = [record(HANDSHAKE, whole[at : at + size]) for at in range(0, len(whole), size)]
    with socket.create_connection(target, PATIENCE) as client:
        for part in parts[:-1]:
            client.sendall(part)
        settle(reactor)
        client.sendall(parts[-1])
        assert client.recv(3) == b"\x16\3\3"
    assert "a TLS handshake with 127.0.0.1:" in tells.next()
