"""An upgrade hands the connection over behind its answer of 101, with all that is behind the head."""

import pytest

import goev
from http_support import HttpClient, Keeps, get, post_chunked
from support import settle


class Shouts(goev.Connection):
    def __init__(self, events) -> None:
        self.events = events

    def on_open(self):
        self.write(b"<open>")

    def on_read(self):
        self.write(self.read().upper())

    def on_close(self, error):
        self.events("close of the new one", error)


class Upgrades(Keeps):
    def on_request(self, request):
        self.events("request", request.target)
        if request.target == "/upgrade":
            request.respond(101, {"Upgrade": "shouts", "Connection": "Upgrade"})
            self.hand_over(Shouts(self.events))
        else:
            request.respond(200, None, request.target.encode())


UPGRADE = get("/upgrade", "Connection: Upgrade", "Upgrade: shouts")


@pytest.mark.parametrize("behind", [b"", b"behind the head"])
def test_an_upgrade_hands_over_the_connection_and_what_is_behind_the_head(connected, events, behind):
    client = connected(lambda: Upgrades(events))
    client.send(get("/before") + UPGRADE + behind)
    assert client.answer().body == b"/before"
    answer = client.answer()
    assert (answer.status, answer["upgrade"], answer["connection"]) == (101, "shouts", "Upgrade")
    assert client.take(6 + len(behind)) == b"<open>" + behind.upper()
    client.send(get("/never"))
    assert client.take(len(get("/never"))) == get("/never").upper()
    client.finish()
    assert client.rest() == b""
    assert events.until("close of the new one")[1] is None
    assert events.history[:-1] == [("request", "/before"), ("request", "/upgrade"), ("close", None)]


@pytest.mark.parametrize(
    ("request_", "headers", "reason"),
    [
        (get(), {"upgrade": "x", "connection": "upgrade"}, "the request has no Upgrade"),
        (get("/", "Upgrade: x"), {"upgrade": "x", "connection": "upgrade"}, "the request has no Upgrade"),
        (get("/", "Upgrade: x", "Connection: upgrade", version="1.0"), {"upgrade": "x"}, "or is of HTTP/1.0"),
        (UPGRADE, {"connection": "upgrade"}, "the fields must have an Upgrade"),
    ],
)
def test_101_is_for_those_who_asked_for_it(kept, request_, headers, reason):
    client, request = kept(request_)
    with pytest.raises(ValueError, match=f"101 cannot be answered: .*{reason}"):
        request.respond(101, headers)
    request.respond(200, None, b"without")
    assert client.answer().body == b"without"


@pytest.mark.parametrize("request_", [UPGRADE, get("test:443", method="CONNECT")])
def test_what_another_protocol_follows_has_no_body(kept, request_):
    client, request = kept(request_)
    with pytest.raises(ValueError, match="another protocol follows, and no body"):
        request.start(200 if b"CONNECT" in request_ else 101, {"upgrade": "shouts"})
    request.respond(500)
    assert client.answer().status == 500


def test_a_connection_is_not_handed_over_amid_the_next_request(connected, events):
    class Hands(Keeps):
        def on_request(self, request):
            request.respond()
            try:
                self.hand_over(Shouts(self.events))
            except RuntimeError as error:
                self.events("refused", str(error))

    client = connected(lambda: Hands(events))
    client.send(get() + post_chunked("/", b"next"))
    assert "in the middle of a request" in events.next()[1]
    assert [client.answer().status, client.answer().status] == [200, 200]
    assert client.take(6) == b"<open>"


def test_an_upgrade_cut_anywhere(start, stack, events):
    server = start(lambda: Upgrades(events))
    for cut in range(1, len(UPGRADE)):
        client = HttpClient(stack, server)
        client.send(UPGRADE[:cut])
        settle(server.reactor, 1)
        client.send(UPGRADE[cut:] + b"x")
        assert client.answer().status == 101
        assert client.take(7) == b"<open>X"
