"""A client asks for its handshake as it must, and takes no answer for an agreement that is none."""

import socket
import time
from contextlib import closing

import pytest

import goev
from support import settle
from websocket_support import NO_TAKEOVER, WORDS, ServerPeer, Told, accept_of, text


def test_the_request_is_as_it_must_be(asked):
    server, handler = asked(target="/chat/room?a=b&c")
    assert server.request == "GET /chat/room?a=b&c HTTP/1.1"
    assert accept_of(server.key)
    assert server.fields == {
        "host": f"127.0.0.1:{server.socket.getsockname()[1]}",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": server.key,
        "sec-websocket-version": "13",
        "sec-websocket-extensions": f"{NO_TAKEOVER}; client_max_window_bits",
    }
    server.agree(behind=text("hello", mask=None))
    assert handler.events.next() == ("open", handler)
    assert handler.events.next() == ("message", "hello")
    assert (handler.subprotocol, handler.compressed, handler.request) == (None, False, None)


def test_what_the_handler_wants_is_offered(asked):
    server, _ = asked(
        Told, {"subprotocols": ("v2", "v1"), "compression": False}, headers={"Origin": "http://test", "Cookie": "a=é"}
    )
    assert server.fields["sec-websocket-protocol"] == "v2, v1"
    assert (server.fields["origin"], server.fields["cookie"]) == ("http://test", "a=é")
    assert "sec-websocket-extensions" not in server.fields


def test_every_request_has_another_key(asked):
    assert len({asked()[0].key for _ in range(10)}) == 10


def test_an_answer_cut_at_every_byte(reactor, listener, stack, events):
    whole = None
    cut = 1
    while whole is None or cut < len(whole):
        handler = Told(events)
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", handler)
        server = ServerPeer(stack, listener)
        sent = []
        server.send = lambda *data, sent=sent: sent.extend(data)
        server.agree("X-More: 1", behind=text("hello", mask=None))
        whole = b"".join(sent)
        server.socket.sendall(whole[:cut])
        settle(reactor, 1)
        server.socket.sendall(whole[cut:])
        assert events.next() == ("open", handler)
        assert events.next() == ("message", "hello")
        server.reset()
        events.until("close")
        cut += 3


@pytest.mark.parametrize(
    ("fields", "subprotocol", "compressed"),
    [
        ([], None, False),
        (["Sec-WebSocket-Protocol: v1"], "v1", False),
        ([f"Sec-WebSocket-Extensions: {NO_TAKEOVER}"], None, True),
        (["Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"], None, True),
        ([f"Sec-WebSocket-Extensions: {NO_TAKEOVER}; server_max_window_bits=10"], None, True),
    ],
)
def test_what_the_server_agrees_to_is_known(opened, fields, subprotocol, compressed):
    server, handler = opened(Told, {"subprotocols": ["v2", "v1"]}, *fields)
    assert (handler.subprotocol, handler.compressed) == (subprotocol, compressed)
    server.bits = 15
    handler.send(WORDS)
    assert server.message() == WORDS
    assert server.messages_deflated == compressed


def answering(*fields, status="101 Switching Protocols", **instead):
    """An answer to the handshake with that key, with other fields or without them."""

    def answer(key):
        values = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": accept_of(key), **instead}
        lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
        return "\r\n".join([f"HTTP/1.1 {status}", *lines, *fields, "", ""]).encode()

    return answer


def test_white_space_around_fields_and_interim_answers_mean_nothing(asked, events):
    server, handler = asked(Told, {"subprotocols": ["v1"]})
    answer = answering("Sec-WebSocket-Protocol:\tv1 \t", **{ACCEPT: f"{accept_of(server.key)} "})(server.key)
    for part in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", answer):
        server.send(part)
    server.send(text("hello", mask=None))
    assert events.next() == ("open", handler)
    assert events.next() == ("message", "hello")
    assert handler.subprotocol == "v1"


ACCEPT = "sec-websocket-accept"
FAILURES = [
    (answering(status="1010 No"), "the server refused the handshake: HTTP/1.1 1010 No"),
    (lambda key: answering()(key).replace(b"HTTP/1.1", b"HTTP/1.0"), "the server refused the handshake"),
    (lambda key: b"SSH-2.0-OpenSSH\r\n\r\n", "the server refused the handshake: SSH-2.0-OpenSSH"),
    (answering(upgrade=None), "no upgrade to a WebSocket"),
    (answering(upgrade="h2c"), "no upgrade to a WebSocket"),
    (answering(connection=None), "no upgrade to a WebSocket"),
    (answering(connection="close"), "no upgrade to a WebSocket"),
    (answering(**{ACCEPT: None}), "not one to this request"),
    (answering(**{ACCEPT: accept_of("another")}), "not one to this request"),
    (lambda key: answering(f"{ACCEPT}: {accept_of(key)}")(key), "not one to this request"),
    (answering("Sec-WebSocket-Protocol:"), "the sub-protocol '', which was not offered"),
    (answering("Sec-WebSocket-Protocol: v3"), "the sub-protocol 'v3', which was not offered"),
    (answering("Sec-WebSocket-Protocol: V1"), "the sub-protocol 'V1', which was not offered"),
    (answering("Sec-WebSocket-Protocol: v1, v2"), "the sub-protocol 'v1, v2', which was not offered"),
    (
        answering("Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Protocol: v2"),
        "the sub-protocol 'v1, v2', which was not offered",
    ),
    *(
        (answering(f"Sec-WebSocket-Extensions: {extension}"), "extensions that were not offered or cannot be: ")
        for extension in (
            "x-webkit-deflate-frame",
            "permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
            f"{NO_TAKEOVER}; client_max_window_bits=8",
            f"{NO_TAKEOVER}; server_max_window_bits=" + "9" * 5000,
            f"{NO_TAKEOVER}; unknown",
            f"{NO_TAKEOVER}; server_no_context_takeover",
            f"{NO_TAKEOVER}, {NO_TAKEOVER}",
        )
    ),
    (answering("no field", "Sec-WebSocket-Protocol: v3"), "malformed: a line that is no field"),
    (answering(*(f"X-{number}: 1" for number in range(200))), "malformed: got more than 100 headers"),
]


@pytest.mark.parametrize(("answer", "reason"), FAILURES, ids=lambda value: value[:50] if isinstance(value, str) else "")
def test_an_answer_that_is_no_agreement_is_a_failure(asked, events, answer, reason):
    server, handler = asked(Told, {"subprotocols": ["v1", "v2"]})
    server.send(answer(server.key))
    name, error = events.next()
    assert (name, type(error)) == ("failed", goev.websocket.ProtocolError)
    assert reason in str(error)
    assert server.rest() == b""
    assert events.names == ["failed"]
    assert handler.close_code is None
    with pytest.raises(goev.ConnectionClosed):
        handler.send("x")


def test_an_answer_that_is_too_long_is_a_failure(asked, events):
    server, _ = asked()
    server.send(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 16_384)
    _, error = events.until("failed")
    assert isinstance(error, goev.InputOverflow)
    assert "limit=16384" in str(error)


def test_a_small_max_input_limits_the_answer(asked, events):
    server, _ = asked(max_input=1000)
    server.send(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 1000)
    _, error = events.until("failed")
    assert isinstance(error, goev.InputOverflow)
    assert "limit=1000" in str(error)


def test_compression_that_was_not_offered_is_a_failure(asked, events):
    server, _ = asked(Told, {"compression": False})
    server.agree(f"Sec-WebSocket-Extensions: {NO_TAKEOVER}")
    assert "not offered" in str(events.until("failed")[1])


@pytest.mark.parametrize("how", ["finish", "reset"])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Switch"])
def test_a_server_that_leaves_within_the_handshake_is_a_failure(asked, events, how, said):
    server, _ = asked()
    server.send(said)
    getattr(server, how)()
    _, error = events.until("failed")
    if how == "finish":
        assert type(error) is goev.websocket.ProtocolError
        assert "the server closed during the handshake" in str(error)
    else:
        assert isinstance(error, ConnectionResetError)
    assert events.names == ["failed"]


def test_a_server_that_does_not_answer_is_given_up(asked, events):
    began = time.monotonic()
    server, _ = asked(timeout=0.2)
    server.send(b"HTTP/1.1 101 ")
    _, error = events.until("failed")
    assert 0.2 <= time.monotonic() - began < 5
    assert type(error) is TimeoutError
    assert "did not answer the handshake" in str(error)
    with pytest.raises(ConnectionResetError):
        server.rest()


def test_a_connection_that_is_refused_is_a_failure_and_the_handler_may_try_again(reactor, listener, stack, events):
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        handler = Told(events)
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{nobody.getsockname()[1]}", handler)
        assert isinstance(events.until("failed")[1], ConnectionRefusedError)
    goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", handler)
    server = ServerPeer(stack, listener)
    server.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    assert "503 Busy" in str(events.until("failed")[1])
    goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", handler)
    ServerPeer(stack, listener).agree()
    assert events.until("open") == ("open", handler)


def test_a_failure_that_nobody_takes_is_logged(reactor, listener, stack, log):
    class Silent(goev.websocket.Connection):
        pass

    goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", Silent())
    ServerPeer(stack, listener).send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    record, printed = log.next()
    assert record.getMessage() == "Silent without on_connect_fail"
    assert "404 Not Found" in printed


def test_a_stop_within_the_handshake_is_told_as_one(events, listener, stack):
    with goev.Reactor() as reactor:
        reactor.start()
        goev.websocket.connect(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", Told(events))
        server = ServerPeer(stack, listener)
        reactor.stop(grace=5)
        assert isinstance(events.until("failed")[1], ConnectionAbortedError)
        server.reset()
