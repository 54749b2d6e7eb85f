"""A handler chooses whom it lets in, and agrees on a sub-protocol and on compression."""

import pytest

from websocket_support import NO_TAKEOVER, TEXT, Echo, Site, deflated, ended, frame, handshake, text


@pytest.mark.parametrize(
    ("origins", "origin", "is_let_in"),
    [
        (None, "https://anywhere.example", True),
        (None, None, True),
        ({"https://example.org"}, "https://example.org", True),
        (["https://example.org", None], None, True),
        ({"https://example.org"}, "https://example.org.evil.example", False),
        ({"https://example.org"}, "http://example.org", False),
        ({"https://example.org"}, None, False),
        ((), "https://example.org", False),
    ],
)
def test_only_the_origins_that_are_allowed_get_in(connected, events, origins, origin, is_let_in):
    client = connected(Echo, {"origins": origins})
    client.send(handshake(*([] if origin is None else [f"Origin: {origin}"])))
    status, fields = client.answer()
    assert status == (101 if is_let_in else 403)
    if not is_let_in:
        assert fields["body"] == "not from this origin\n"
        ended(client, events)


def test_a_handler_refuses_with_403(connected, events):
    class Picks(Echo):
        def on_handshake(self, request):
            return request.path == "/chat"

    client = connected(Picks)
    client.send(handshake(target="/other"))
    status, fields = client.answer()
    assert (status, fields["connection"]) == (403, "close")
    ended(client, events)


class Guarded(Echo):
    """Answers by itself who does not say who it is."""

    def on_handshake(self, request):
        if "authorization" not in request.headers:
            assert not request.answered
            request.respond(401, {"www-authenticate": "Basic"}, b"who are you?\n")
            assert request.answered


def test_a_handler_answers_a_handshake_by_itself(connected, events):
    client = connected(Guarded)
    client.send(handshake())
    status, fields = client.answer()
    assert (status, fields["www-authenticate"], fields["body"]) == (401, "Basic", "who are you?\n")
    ended(client, events)


def test_a_handler_answers_an_upgrade_by_itself_and_the_connection_goes_on(connected, events):
    client = connected(Site, {"make": Guarded})
    client.send(handshake())
    assert client.answer()[0] == 401
    assert events.next() == ("upgraded", False)
    client.open("Authorization: Basic eDp5")
    client.send(text("hello"))
    assert client.message() == "hello"


def test_a_handler_that_raises_in_the_handshake_gets_500_and_a_line_in_the_log(connected, events, log):
    class Fails(Echo):
        def on_handshake(self, request):
            raise RuntimeError("not today")

    client = connected(Fails)
    client.send(handshake())
    assert client.answer()[0] == 500
    ended(client, events)
    assert "not today" in log.next()[1]


@pytest.mark.parametrize("answer", [0, "yes", [1]])
def test_a_handler_must_answer_the_handshake_with_a_bool_or_none(connected, events, log, answer):
    client = connected(Echo, {"on_handshake": lambda self, request: answer})
    client.send(handshake())
    assert client.answer()[0] == 500
    ended(client, events)
    assert f"on_handshake must return None, True or False, not {type(answer).__name__}" in log.next()[1]


@pytest.mark.parametrize(
    ("ours", "offered", "chosen"),
    [
        ((), ["chat"], None),
        (("v2", "v1"), [], None),
        (("v2", "v1"), ["v1"], "v1"),
        (("v2", "v1"), ["v1, v2"], "v2"),
        (["v2", "v1"], ["v1", "v0 ,v2"], "v2"),
        (("v2", "v1"), ["V2, v3"], None),
        (("v2", "v1"), ['x=",v2,", v1'], "v1"),
    ],
)
def test_the_first_of_our_subprotocols_that_is_offered_is_chosen(connected, events, ours, offered, chosen):
    client = connected(Echo, {"subprotocols": ours})
    answer = client.open(*(f"Sec-WebSocket-Protocol: {value}" for value in offered))
    assert answer.get("sec-websocket-protocol") == chosen
    assert events.until("open")[1].subprotocol == chosen


@pytest.mark.parametrize(
    ("offers", "agreed"),
    [
        ([], None),
        (["permessage-deflate"], ""),
        (["permessage-deflate; client_max_window_bits"], ""),
        (["permessage-deflate; client_max_window_bits=8"], ""),
        (["permessage-deflate;server_no_context_takeover ;  client_no_context_takeover"], ""),
        (["permessage-deflate; server_max_window_bits=10"], "; server_max_window_bits=10"),
        (['permessage-deflate; server_max_window_bits="10"'], "; server_max_window_bits=10"),
        (["permessage-deflate; server_max_window_bits=9; client_max_window_bits"], "; server_max_window_bits=9"),
        (["permessage-deflate; server_max_window_bits=8"], None),
        (["permessage-deflate; server_max_window_bits=8, permessage-deflate"], ""),
        (["permessage-deflate; server_max_window_bits=8", "permessage-deflate; client_max_window_bits"], ""),
        (["x-webkit-deflate-frame, permessage-deflate"], ""),
        (["x-webkit-deflate-frame"], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; server_max_window_bits=7"], None),
        (["permessage-deflate; server_max_window_bits=010"], None),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits="], None),
        (["permessage-deflate; client_max_window_bits=0"], None),
        (["permessage-deflate; client_max_window_bits="], None),
        (["permessage-deflate; server_no_context_takeover=1"], None),
        (["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (["permessage-deflate; server_max_window_bits=10; server_max_window_bits=10"], None),
        (["permessage-deflate; unknown"], None),
        (["permessage-deflate; unknown, permessage-deflate"], ""),
        # A quoted string hides commas and semicolons (RFC 9110 section 5.6.4).
        (['x; y=",permessage-deflate; client_max_window_bits,"'], None),
        (['x; y="\\",permessage-deflate,\\\\", permessage-deflate'], ""),
        (['x; y=", permessage-deflate'], None),
        (['x; y="a\\", permessage-deflate'], None),
        (['x; y="b;c", permessage-deflate'], ""),
        (['permessage-deflate; server_max_window_bits="1\\0"'], "; server_max_window_bits=10"),
        (['permessage-deflate; server_max_window_bits="10'], None),
        (['permessage-deflate; server_max_window_bits="'], None),
        (['permessage-deflate; x=";server_no_context_takeover"'], None),
        ([";, permessage-deflate"], ""),
    ],
)
def test_compression_is_agreed_on_by_the_first_offer_that_can_be_met(connected, events, offers, agreed):
    client = connected()
    answer = client.open(*(f"Sec-WebSocket-Extensions: {offer}" for offer in offers))
    assert answer.get("sec-websocket-extensions") == (None if agreed is None else NO_TAKEOVER + agreed)
    assert events.until("open")[1].compressed is (agreed is not None)


def test_a_window_that_was_asked_for_is_answered_also_when_it_is_the_largest(connected):
    answer = connected().open("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=15")
    assert answer["sec-websocket-extensions"] == f"{NO_TAKEOVER}; server_max_window_bits=15"


def test_a_window_of_five_thousand_digits_is_declined(connected):
    offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=" + "9" * 5000
    assert "sec-websocket-extensions" not in connected().open(offer)


def test_a_server_without_compression_agrees_to_none(connected):
    client = connected(Echo, {"compression": False})
    answer = client.open("Sec-WebSocket-Extensions: permessage-deflate")
    assert "sec-websocket-extensions" not in answer
    client.send(frame(TEXT, deflated(b"x"), rsv=4))
    assert client.farewell()[0] == 1002
