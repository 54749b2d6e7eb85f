"""The scope of a request is as the specification says."""

import asyncio

import pytest

import goev
from asgi_support import scope_of
from http_support import HttpClient, get, post


def asked(events, client, request: bytes) -> dict:
    assert client.ask(request).status == 200
    return events.until("scope")[1]


def test_the_scope_of_a_request(client_of, events):
    client = client_of(scope_of(events))
    scope = asked(events, client, get("/a%20b/%C3%A4?q=%20x", "X-One: 1", "ACCEPT: a", "X-One: 2"))
    own = client.raw.socket.getsockname()
    extensions = scope.pop("extensions")
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a b/ä",
        "raw_path": b"/a%20b/%C3%A4",
        "query_string": b"q=%20x",
        "root_path": "",
        "headers": [(b"host", b"test"), (b"x-one", b"1"), (b"accept", b"a"), (b"x-one", b"2")],
        "client": own,
        "server": client.server.address,
        "state": {},
    }
    assert extensions == {"http.response.early_hint": {}, "http.response.pathsend": {}}


@pytest.mark.parametrize(
    ("request_", "key", "value"),
    [
        (get(version="1.0"), "http_version", "1.0"),
        (get(method="PURGE"), "method", "PURGE"),
        (get(method="put"), "method", "PUT"),
        (get("http://other/x?y"), "raw_path", b"/x"),
        (get("http://other"), "path", "/"),
        (get("*", method="OPTIONS"), "path", "*"),
        (get("/?a?b=c"), "query_string", b"a?b=c"),
        (get("/%2F%ff"), "path", "//\ufffd"),
    ],
)
def test_keys_of_scopes_by_request(client_of, events, request_, key, value):
    assert asked(events, client_of(scope_of(events)), request_)[key] == value


@pytest.mark.parametrize(("field", "has"), [("TE: trailers", True), ("TE: gzip;q=1, Trailers", True), ("X: y", False)])
def test_trailers_are_an_extension_if_the_client_takes_them(client_of, events, field, has):
    scope = asked(events, client_of(scope_of(events)), get("/", field))
    assert ("http.response.trailers" in scope["extensions"]) == has


def test_a_request_may_change_its_scope_and_no_other(client_of):
    seen = []

    async def app(scope, receive, send):
        seen.append((dict(scope["state"]), dict(scope["extensions"]), scope["query_string"]))
        scope["state"]["x"] = scope["extensions"]["x"] = scope["path"] = 1
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    client = client_of(app, state={"of": "lifespan"})
    assert [client.ask(get("/?a")).status, client.ask(get()).status] == [204, 204]
    assert seen[0][:2] == seen[1][:2]
    assert seen[0][0] == {"of": "lifespan"}
    assert [query for *_, query in seen] == [b"a", b""]


def test_a_root_path_is_a_prefix_of_the_path(client_of, events):
    scope = asked(events, client_of(scope_of(events), root_path="/api"), get("/a%20b"))
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/a b", b"/api/a%20b")


@pytest.mark.parametrize("root_path", ["api", "/api/", 1])
def test_a_root_path_begins_with_a_slash_and_does_not_end_with_one(client_of, events, log, root_path):
    client = client_of(scope_of(events), root_path=root_path)
    assert client.ask(get()).status == 500
    assert "root_path must be '' or like '/api', not" in log.next()[1]


def test_an_application_has_to_be_callable(start, stack, log):
    client = HttpClient(stack, start(type("Site", (goev.asgi.Connection,), {"app": 5}), asyncio=True))
    assert client.ask(get()).status == 500
    assert "Site.app must be an ASGI application, not 5" in log.next()[1]


def test_a_unix_socket_has_a_path_and_no_client(serving, stack, events, tmp_path):
    server = serving(scope_of(events), options={"address": f"unix:{tmp_path}/s"})
    scope = asked(events, HttpClient(stack, server), get())
    assert (scope["client"], scope["server"]) == (None, (f"{tmp_path}/s", None))


@pytest.mark.wires("tls")
def test_the_extension_for_tls(client_of, events, wire):
    scope = asked(events, client_of(scope_of(events)), get())
    tls = scope["extensions"]["tls"]
    assert scope["scheme"] == "https"
    assert (tls["tls_version"], tls["server_cert"], tls["client_cert_chain"]) == (0x0304, None, [])
    assert tls["cipher_suite"] >> 8 == 0x13
    assert tls["client_cert_name"] is None
    assert tls["client_cert_error"] is None


def test_the_proxy_protocol_names_the_client(serving, stack, events):
    server = serving(scope_of(events), options={"proxy_protocol": True, "proxy_from": ["127.0.0.1"]})
    client = HttpClient(stack, server)
    scope = asked(events, client, b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\n" + get())
    assert (scope["client"], scope["server"], scope["scheme"]) == (("192.0.2.1", 4000), ("192.0.2.2", 80), "http")


FORWARDED = ("X-Forwarded-For: 203.0.113.9, 198.51.100.7 , 10.1.2.3", "X-Forwarded-Proto: https")


@pytest.mark.parametrize(
    ("proxies", "client", "scheme"),
    [
        ((), "127.0.0.1", "http"),
        (("10.0.0.0/8",), "127.0.0.1", "http"),
        (("127.0.0.1",), "10.1.2.3", "https"),
        (("127.0.0.0/8", "10.0.0.0/8"), "198.51.100.7", "https"),
        (("0.0.0.0/0",), "203.0.113.9", "https"),
    ],
)
def test_fields_of_proxies_are_believed_if_the_peer_is_trusted(client_of, events, proxies, client, scheme):
    scope = asked(events, client_of(scope_of(events), trusted_proxies=proxies), get("/", *FORWARDED))
    assert (scope["client"][0], scope["scheme"]) == (client, scheme)


@pytest.mark.parametrize(
    ("hosts", "client"),
    [
        (["203.0.113.9, 198.51.100.7", "10.1.2.3"], "198.51.100.7"),
        (["198.51.100.7:4000, 10.1.2.3:80"], "198.51.100.7"),
        (["[2001:db8::1]:4000"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["unknown"], "unknown"),
        ([" , "], "127.0.0.1"),
    ],
)
def test_each_proxy_appends_to_the_field_or_adds_one(client_of, events, hosts, client):
    application = client_of(scope_of(events), trusted_proxies=["127.0.0.1", "10.0.0.0/8"])
    scope = asked(events, application, get("/", *(f"X-Forwarded-For: {host}" for host in hosts)))
    assert scope["client"][0] == client


@pytest.mark.parametrize(
    ("field", "expected"), [("X-Forwarded-Proto: gopher", "http"), ("X-Forwarded-Proto: WSS", "https")]
)
def test_a_scheme_is_one_of_those_that_are_known(client_of, events, field, expected):
    scope = asked(events, client_of(scope_of(events), trusted_proxies=["127.0.0.1"]), get("/", field))
    assert (scope["scheme"], scope["client"][0]) == (expected, "127.0.0.1")


def test_the_peer_of_a_unix_socket_may_be_trusted(serving, stack, events, tmp_path):
    server = serving(scope_of(events), options={"address": f"unix:{tmp_path}/s"}, trusted_proxies=["unix:"])
    assert asked(events, HttpClient(stack, server), get("/", *FORWARDED))["client"] == ("10.1.2.3", 0)


@pytest.mark.parametrize(
    ("proxies", "text"),
    [
        ("127.0.0.1", "must be a collection of str, not '127.0.0.1'"),
        (["10.0.0.1/8"], "has host bits set"),
        (["x"], "'x'"),
    ],
)
def test_wrong_proxies(client_of, events, log, proxies, text):
    assert client_of(scope_of(events), trusted_proxies=proxies).ask(get()).status == 500
    assert text in log.next()[1]


def test_a_class_needs_an_event_loop(reactor):
    site = type("Site", (goev.asgi.Connection,), {"app": None})
    with pytest.raises(TypeError, match="app is async def, which needs an event loop: use Reactor"):
        goev.Acceptor(reactor, "127.0.0.1:0", site)


def test_the_first_step_of_an_application_runs_in_the_callback_as_a_task(client_of):
    seen = []

    async def app(scope, receive, send):
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": asyncio.current_task().get_name().encode()})

    assert client_of(app).ask(post("/", b"x")).body == b"goev.asgi"
    assert seen[0] is seen[1] is not None
