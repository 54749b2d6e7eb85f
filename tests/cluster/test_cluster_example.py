"""`examples/cluster/`: three nodes behind HAProxy, with TLS and the PROXY protocol. A client survives its node."""

import json
import os
import re
import signal
import ssl
from contextlib import contextmanager

import pytest
import websockets.sync.client
from websockets.exceptions import ConnectionClosed

from support import PATIENCE, ROOT, Child, eventually, need

UNCHECKED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
UNCHECKED.check_hostname = False
UNCHECKED.verify_mode = ssl.CERT_NONE


class Browser:
    """What the page does: it connects again with the last place that it has had."""

    def __init__(self, stack, port, name):
        self.stack, self.port, self.name, self.place = stack, port, name, None
        self.people = []
        self.connect()

    def connect(self):
        def try_it():
            try:
                url = f"wss://127.0.0.1:{self.port}/chat"
                opening = websockets.sync.client.connect(url, ssl=UNCHECKED, proxy=None, open_timeout=2)
                self.socket = self.stack.enter_context(opening)
            except (OSError, websockets.exceptions.WebSocketException):
                return False
            return True

        eventually(try_it, "a node answers", 20)
        self.socket.send(json.dumps({"join": self.name, "after": self.place}))

    def say(self, text, **more):
        self.socket.send(json.dumps({"say": text, **more}))

    def next(self):
        while True:
            message = json.loads(self.socket.recv(PATIENCE))
            if "people" not in message:
                self.place = message.get("place", self.place)
                return message
            self.people = message["people"]

    def until_people(self, *names):
        while self.people != list(names):
            self.people = json.loads(self.socket.recv(PATIENCE)).get("people", self.people)


@contextmanager
def started(engine, network):
    """The example; whatever happens it ends by Ctrl-C, so that it ends its processes."""
    program, options = str(ROOT / "examples/cluster/start.py"), ("--engine", engine, "--network", network)
    with Child(program, "--port", "0", *options) as child:
        try:
            yield child
        finally:
            child.interrupt()
            child.end()
            print(child.errors)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("engine", "network"), [("nats", "auto"), ("redis", "auto"), ("redis", "ports")])
def test_a_client_survives_its_node_and_misses_nothing(stack, engine, network):
    for program in (f"{engine}-server", "haproxy", "openssl"):
        need(program)
    with started(engine, network) as child:
        nodes = {}
        while found := re.fullmatch(r"node (\d+) is process (\d+)", line := child.line()):
            nodes[int(found[1])] = int(found[2])
        port = int(line.rpartition(":")[2])
        ada, bob, cid = (Browser(stack, port, name) for name in ("ada", "bob", "cid"))
        for browser in (ada, bob, cid):
            browser.until_people("ada", "bob", "cid")
        machines = set()
        for browser in (ada, bob, cid):
            browser.say(f"I am {browser.name}")
            for each in (ada, bob, cid):
                message = each.next()
                assert (message["from"], message["text"]) == (browser.name, f"I am {browser.name}")
            machines.add(message["at"])
            if browser is ada:
                node = message["at"]
        assert len(machines) == 3, "the balancer spread them"
        bob.say("just for you", to="ada")
        assert ada.next() | {"at": 0} == {"from": "bob", "text": "just for you", "at": 0, "to": "ada"}
        os.kill(nodes[node], signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            ada.next()
        bob.say("while you were away")
        assert bob.next()["text"] == cid.next()["text"] == "while you were away"
        ada.connect()
        assert ada.next()["text"] == "while you were away"
        ada.say("back again")
        for each in (ada, bob, cid):
            message = each.next()
            assert message["text"] == "back again"
        assert message["at"] != node
