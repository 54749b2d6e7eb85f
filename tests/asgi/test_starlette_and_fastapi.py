"""Starlette and FastAPI run unchanged: the features of their tutorials, by httpx, curl and a browser."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets
from fastapi import BackgroundTasks, Depends, FastAPI, Form, HTTPException, UploadFile
from fastapi import WebSocket as FastSocket
from playwright.sync_api import sync_playwright
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from asgi_support import site
from hosting import hosted
from http_support import HttpClient, get
from support import PATIENCE, Events, eventually, need, resident

GIGABYTE = 1 << 30


def starlette(events: Events, folder: Any = None) -> Starlette:
    """An application with the features that the documentation of Starlette shows."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        events("startup")
        yield {"pool": "of the lifespan"}
        events("shutdown")

    async def home(request):
        return JSONResponse({"state": request.state.pool, "url": str(request.url), "client": request.client.host})

    async def form(request):
        async with request.form() as form:
            upload = form["file"]
            return JSONResponse({"name": form["name"], "file": upload.filename, "size": len(await upload.read())})

    async def upload(request):
        size = 0
        async for part in request.stream():
            size += len(part)
        return PlainTextResponse(str(size))

    async def stream(request):
        async def parts():
            for number in range(3):
                yield f"{number}\n"
                await asyncio.sleep(0)

        return StreamingResponse(parts(), media_type="text/plain")

    async def ticks(request):
        async def parts():
            try:
                number = 0
                while True:
                    yield f"data: {number}\n\n"
                    number += 1
                    await asyncio.sleep(0.01)
            finally:
                events("ticks ended")

        return StreamingResponse(parts(), media_type="text/event-stream")

    async def listening(request):
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        events("disconnected")
        return PlainTextResponse("")

    async def background(request):
        async def work():
            await asyncio.sleep(0.05)
            events("worked")

        return PlainTextResponse("accepted", 202, background=BackgroundTask(work))

    async def file(request):
        return FileResponse(folder / "file.bin")

    async def broken(request):
        raise KeyError("broken")

    async def page(request):
        return HTMLResponse(PAGE)

    async def echo(socket):
        await socket.accept(subprotocol=(socket.scope["subprotocols"] or [None])[0])
        try:
            while True:
                await socket.send_text((await socket.receive_text()).upper())
        except WebSocketDisconnect as gone:
            events("gone", gone.code)

    async def denied(socket):
        await socket.send_denial_response(PlainTextResponse("not you", 401))

    def plain(request):  # in a thread
        return PlainTextResponse("from a thread")

    routes = [
        Route("/", home),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/ticks", ticks),
        Route("/listening", listening),
        Route("/background", background),
        Route("/file", file),
        Route("/broken", broken),
        Route("/page", page),
        Mount("/mounted", routes=[Route("/thread", plain)]),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/denied", denied),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


PAGE = """<!doctype html><p id=socket></p><p id=event></p><p id=upload></p><script>
const show = (id, text) => document.getElementById(id).textContent = text
const socket = new WebSocket("/echo", ["chat"])
socket.onopen = () => socket.send("hello")
socket.onmessage = (message) => { show("socket", message.data + " " + socket.protocol); socket.close(1000) }
const source = new EventSource("/ticks")
source.onmessage = (event) => { if (event.data === "3") { show("event", event.data); source.close() } }
fetch("/upload", {method: "POST", body: new Uint8Array(3000000)})
    .then(answer => answer.text()).then(text => show("upload", text))
</script>"""


@pytest.fixture(scope="module")
def module_events() -> Events:
    return Events()


@pytest.fixture(scope="module")
def url(module_events: Events, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The application; it must have been started and shut down once."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "file.bin").write_bytes(bytes(range(256)) * 1000)
    with hosted(starlette(module_events, folder)) as address:
        assert module_events.names == ["startup"]
        yield address
    assert module_events.names[-1] == "shutdown"


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        yield client


def test_the_state_of_the_lifespan(client, url):
    answer = client.get("/?q=1")
    assert answer.json() == {"state": "of the lifespan", "url": f"{url}/?q=1", "client": "127.0.0.1"}


def test_forms_and_files(client):
    answer = client.post("/form", data={"name": "ada"}, files={"file": ("a.txt", b"x" * 200_000)})
    assert answer.json() == {"name": "ada", "file": "a.txt", "size": 200_000}


def test_streams_and_files_and_threads(client):
    assert client.get("/stream").text == "0\n1\n2\n"
    assert client.get("/file").content == bytes(range(256)) * 1000
    part = client.get("/file", headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"\1\2\3")
    assert client.get("/mounted/thread").text == "from a thread"
    assert client.head("/file").headers["content-length"] == "256000"


def test_server_sent_events_end_with_their_client(client, module_events):
    with client.stream("GET", "/ticks") as answer:
        lines = answer.iter_lines()
        assert [next(lines), next(lines), next(lines)] == ["data: 0", "", "data: 1"]
    module_events.until("ticks ended")


def test_a_request_tells_that_its_client_has_gone(url, module_events):
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{url}/listening", timeout=0.1)
    module_events.until("disconnected")


def test_background_tasks(client, module_events):
    assert client.get("/background").status_code == 202
    assert client.get("/mounted/thread").status_code == 200  # the connection does not wait for it
    module_events.until("worked")


def test_an_exception_is_500(client, log):
    assert client.get("/broken").status_code == 500
    assert "KeyError: 'broken'" in log.next()[1]
    assert client.get("/nothing").status_code == 404


def test_websockets(url, module_events):
    with connect(f"ws{url[4:]}/echo", subprotocols=["chat"], open_timeout=PATIENCE) as socket:
        assert socket.subprotocol == "chat"
        socket.send("hello")
        assert socket.recv(PATIENCE) == "HELLO"
        socket.close(1001)
    assert module_events.until("gone")[1] == 1001
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(f"ws{url[4:]}/denied", open_timeout=PATIENCE)
    assert (refused.value.response.status_code, refused.value.response.body) == (401, b"not you")


def test_curl(url, tmp_path):
    curl = need("curl")
    (tmp_path / "data").write_bytes(bytes(2_000_000))
    command = [curl, "-sS", "-m", str(PATIENCE), "-T", tmp_path / "data", "-X", "POST"]
    assert subprocess.check_output([*command, f"{url}/upload"]) == b"2000000"
    chunked = [*command, "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"]
    assert subprocess.check_output([*chunked, f"{url}/upload"]) == b"2000000"
    assert subprocess.check_output([curl, "-sS", "--http1.0", f"{url}/stream"]) == b"0\n1\n2\n"
    form = [curl, "-sS", "-F", "name=ada", "-F", f"file=@{tmp_path}/data", f"{url}/form"]
    assert subprocess.check_output(form) == b'{"name":"ada","file":"data","size":2000000}'


@pytest.mark.timeout(60)
def test_a_gigabyte_in_bounded_memory(start, stack, events):
    """Starlette's stream of a request, from a client that repeats one buffer."""
    client = HttpClient(stack, start(site(starlette(events)), asyncio=True))
    before, buffer = resident(), bytes(1 << 20)
    client.send(get("/upload", f"Content-Length: {GIGABYTE}", method="POST"))
    for _ in range(GIGABYTE >> 20):
        client.send(buffer)
    assert client.answer().body == b"%d" % GIGABYTE
    assert resident() - before < 32 << 20


def test_a_browser(url):
    executable = need("chromium")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=options)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{url}/page")
        for name, text in (("socket", "HELLO chat"), ("event", "3"), ("upload", "3000000")):
            page.wait_for_function(f"document.getElementById('{name}').textContent === '{text}'")
        browser.close()


class Adds(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        answer = await call_next(request)
        answer.headers["x-added"] = "yes"
        return answer


def test_middleware(events):
    async def big(request):
        return PlainTextResponse("x" * 10_000)

    app = Starlette(routes=[Route("/", big)], middleware=[Middleware(Adds), Middleware(GZipMiddleware)])
    with hosted(app) as url:
        answer = httpx.get(url, timeout=PATIENCE)
        assert answer.text == "x" * 10_000
        assert (answer.headers["x-added"], answer.headers["content-encoding"]) == ("yes", "gzip")


# ---- FastAPI


class Item(BaseModel):
    name: str
    price: float


def fastapi(events: Events) -> FastAPI:
    app = FastAPI()

    async def common(q: str = "none"):
        events("begun")
        yield q
        events("ended")

    @app.post("/items/{number}")
    async def create(number: int, item: Item, q: str = Depends(common)):
        return {"number": number, "q": q, **item.model_dump()}

    @app.post("/files")
    def files(file: UploadFile, token: str = Form()):
        return {"size": len(file.file.read()), "token": token}

    @app.get("/mail")
    async def mail(tasks: BackgroundTasks):
        tasks.add_task(events, "mailed")
        return "sent"

    @app.get("/teapot")
    async def teapot():
        raise HTTPException(418, "short and stout")

    @app.websocket("/ws/{room}")
    async def room(socket: FastSocket, room: str):
        await socket.accept()
        await socket.send_json({"room": room, "said": await socket.receive_json()})
        await socket.close(4000, "enough")

    return app


def test_fastapi(events):
    with hosted(fastapi(events)) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        item = {"name": "ham", "price": 1.5}
        assert client.post("/items/3?q=x", json=item).json() == {"number": 3, "q": "x", **item}
        assert client.post("/items/3", json={}).status_code == 422
        files = client.post("/files", data={"token": "t"}, files={"file": ("f", bytes(100_000))})
        assert files.json() == {"size": 100_000, "token": "t"}
        assert client.get("/mail").json() == "sent"
        assert client.get("/teapot").json() == {"detail": "short and stout"}
        assert "/items/{number}" in client.get("/openapi.json").json()["paths"]
        with connect(f"ws{url[4:]}/ws/lobby", open_timeout=PATIENCE) as socket:
            socket.send('{"a": 1}')
            assert socket.recv(PATIENCE) == '{"room":"lobby","said":{"a":1}}'
            with pytest.raises(websockets.ConnectionClosed) as closed:
                socket.recv(PATIENCE)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "enough")
        assert eventually(lambda: {"begun", "ended", "mailed"} <= set(events.names), "all has run")
