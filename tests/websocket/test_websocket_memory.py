"""An idle WebSocket keeps no buffer, and one that has ended keeps no handler."""

import gc
import weakref

import goev
from http_support import get
from support import Child, Client, eventually, resident
from websocket_support import BINARY, DEFLATE, NOISE, TEXT, WORDS, ClientPeer, close, deflated, frame


def test_an_idle_websocket_keeps_no_buffer(stack):
    """2,000 after an echo of 16 KiB each, compressed and not: kept buffers would be 32 MB or more."""
    child = stack.enter_context(
        Child.running(
            """
            import goev

            class Echo(goev.websocket.Connection):
                def on_message(self, message):
                    self.send(message)

            with goev.Reactor(pollers=1) as reactor:
                acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo)
                print(acceptor.address[1], flush=True)
                reactor.run()
            """
        )
    )

    class There:
        address = ("127.0.0.1", int(child.line()))

        def connect(self):
            return stack.enter_context(Client(self.address))

    server = There()
    plain = frame(BINARY, NOISE[:16_384])
    words = frame(TEXT, deflated(WORDS[:16_384].encode()), rsv=4)

    def visit():
        client = ClientPeer(stack, server)
        client.open(DEFLATE)
        client.send(plain + words)
        assert client.message() == NOISE[:16_384]
        assert client.message() == WORDS[:16_384]

    for _ in range(200):
        visit()
    before = resident(child.pid)
    for _ in range(2000):
        visit()
    grown = (resident(child.pid) - before) / 2000
    assert grown < 5000, f"{grown:.0f} bytes a connection"
    child.interrupt()


def test_handlers_in_cycles_are_collected_after_the_end(connected, stack, events):
    alive = []

    class Cyclic(goev.websocket.Connection):
        def __init__(self, _):
            alive.append(weakref.ref(self))

        def on_open(self):
            self.myself = self
            self.method = self.on_message
            self.timer = self.schedule(60.0, self.on_pong)
            self.send("open")

    first = connected(Cyclic)
    for number in range(10):
        client = ClientPeer(stack, first.server)
        client.open()
        assert client.message() == "open"
        if number % 2:
            client.send(close())
            client.farewell()
        client.reset()
    refused = ClientPeer(stack, first.server)
    refused.send(get("/"))
    assert refused.answer()[0] == 426
    first.reset()
    refused.reset()
    assert len(alive) == 12
    eventually(lambda: gc.collect() >= 0 and all(ref() is None for ref in alive), "the handlers are collected")
