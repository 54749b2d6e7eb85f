"""The startup and the shutdown of an application; and an application as a service runs it."""

import asyncio

import pytest

import goev
import goev.asyncio
from asgi_support import body_message, hello, site, start_message
from goev.asgi.interface import Application
from goev.service.interfaces import Handlers, interface_of, name_of
from goev.service.settings import Settings
from support import PATIENCE


def run(main):
    async def limited():
        async with asyncio.timeout(PATIENCE):
            return await main()

    return goev.asyncio.run(limited())


async def ask(server, path="/") -> bytes:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


def living(events, startup="complete", shutdown="complete", **more):
    """An application with a lifespan that answers so."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(start_message())
            await send(body_message(repr(scope["state"]).encode()))
            return
        events.append(scope["type"])
        scope["state"]["pool"] = 5
        for event, answer in (("startup", startup), ("shutdown", shutdown)):
            message = await receive()
            events.append(message)
            await send({"type": f"lifespan.{event}.{answer}", **more})

    return app


def test_an_application_is_started_and_shut_down_and_its_state_goes_along():
    events = []
    app = living(events)

    async def main():
        async with goev.asgi.Lifespan(app) as state:
            assert events == ["lifespan", {"type": "lifespan.startup"}]
            async with goev.asyncio.serve(site(app, state=state), "127.0.0.1:0") as server:
                assert (await ask(server)).endswith(b"{'pool': 5}")
        assert events[2:] == [{"type": "lifespan.shutdown"}]

    run(main)


def test_the_scope_of_a_lifespan():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(dict(scope))

    async def main():
        async with goev.asgi.Lifespan(app):
            pass

    run(main)
    assert scopes == [{"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}]


async def raises(scope, receive, send):
    raise AssertionError(scope["type"])


async def raises_at_startup(scope, receive, send):
    await receive()
    raise AssertionError(scope["type"])


async def returns(scope, receive, send):
    pass


@pytest.mark.parametrize("app", [raises, raises_at_startup, returns])
def test_an_application_without_a_lifespan_is_served(app):
    async def main():
        async with goev.asgi.Lifespan(app) as state:
            assert state == {}

    run(main)


@pytest.mark.parametrize(
    ("more", "text"), [({"message": "no database"}, "no database"), ({}, "the startup of the application has failed")]
)
def test_a_startup_that_fails(more, text):
    async def main():
        async with goev.asgi.Lifespan(living([], startup="failed", **more)):
            pytest.fail("it has not started")

    with pytest.raises(goev.asgi.LifespanFailed, match=rf"^{text}$"):
        run(main)


def test_a_shutdown_that_fails(log):
    async def main(raised=None):
        async with goev.asgi.Lifespan(living([], shutdown="failed", message="still busy")):
            if raised:
                raise raised

    with pytest.raises(goev.asgi.LifespanFailed, match=r"^still busy$"):
        run(main)
    with pytest.raises(KeyError):
        run(lambda: main(KeyError("first")))
    assert log.next()[1] == "still busy"


def test_an_exception_in_the_lifespan_is_logged(log):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise KeyError("broken")

    async def main():
        async with goev.asgi.Lifespan(app):
            pass

    run(main)
    assert "exception in the lifespan of the application" in log.next()[1]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("lifespan.shutdown.complete", "expected 'lifespan.startup.complete' or 'lifespan.startup.failed'"),
        ("http.response.start", "unexpected ASGI message 'http.response.start'"),
    ],
)
def test_a_wrong_message_of_a_lifespan(kind, text):
    errors = []

    async def app(scope, receive, send):
        await receive()
        try:
            await send({"type": kind})
        except RuntimeError as error:
            errors.append(str(error))
            raise

    async def main():
        async with goev.asgi.Lifespan(app):
            pass

    run(main)
    assert text in errors[0]


def test_the_shutdown_waits_for_calls_that_have_answered():
    events = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await living(events)(scope, receive, send)
            return
        await send(start_message())
        await send(body_message())
        await asyncio.sleep(0.1)
        events.append("background")

    async def main():
        async with goev.asgi.Lifespan(app), goev.asyncio.serve(site(app), "127.0.0.1:0") as server:
            await ask(server)

    run(main)
    assert events[-2:] == ["background", {"type": "lifespan.shutdown"}]


@pytest.mark.parametrize(("arguments", "error"), [((5,), TypeError), ((returns,), ValueError)])
def test_wrong_arguments(arguments, error):
    with pytest.raises(error, match=r"app must be|grace must be 0 seconds or more, not -1"):
        goev.asgi.Lifespan(*arguments, grace=-1)


# ---- as a service runs it


class Callable:
    async def __call__(self, scope, receive, send):
        await hello()(scope, receive, send)


@pytest.mark.parametrize("app", [hello(), Callable(), site(hello())], ids=["function", "object", "handler"])
def test_an_application_as_an_interface(app):
    async def main():
        interface = interface_of(app, Settings(target="x:app"))
        assert (type(interface), interface.on_loop, interface.asyncio) == (Application, True, True)
        await interface.begin()
        async with goev.asyncio.serve(interface.connection, "127.0.0.1:0") as server:
            assert (await ask(server)).endswith(b"hello")
        await interface.end()
        interface.close()

    run(main)


def test_an_interface_has_a_lifespan():
    events = []

    async def main():
        interface = Application(living(events), Settings(target="x:app"))
        await interface.begin()
        async with goev.asyncio.serve(interface.connection, "127.0.0.1:0") as server:
            assert (await ask(server)).endswith(b"{'pool': 5}")
        await interface.end()

    run(main)
    assert events[1:] == [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]


def test_the_name_of_an_interface():
    assert name_of(site(hello())) == name_of(hello()) == name_of(Callable()) == "asgi"
    assert name_of(goev.http.Connection) == "goev"
    assert isinstance(interface_of(goev.http.Connection, Settings(target="x:app")), Handlers)


@pytest.mark.parametrize("app", [5, type("Site", (goev.asgi.Connection,), {})])
def test_an_object_that_is_no_application(app):
    with pytest.raises(TypeError, match=r"x:app is .*, and no ASGI application"):
        Application(app, Settings(target="x:app"))
