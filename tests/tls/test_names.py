"""The certificate for the name that a client asks for (SNI)."""

import socket
import ssl
import threading

import pytest

import goev
from certificates import Authority
from support import PATIENCE, Echo, Events, Recorder


@pytest.fixture(scope="module")
def identities(root: Authority):
    return {name: root.issue(name) for name in ("default.example", "a.example", "*.b.example", "c.example")}


@pytest.fixture
def name_served(reactor: goev.Reactor, root: Authority, identities):
    """``name_served(context, name)``: the names of the certificate that a client gets who asks for ``name``."""

    def name_served(context: goev.tls.ServerContext, name: str | None) -> list[str]:
        acceptor = goev.Acceptor(reactor, "127.0.0.1:0", Echo, tls=context)
        trusting = ssl.create_default_context(cadata=root.pem.decode())
        trusting.check_hostname = False
        with trusting.wrap_socket(socket.create_connection(acceptor.address, PATIENCE), server_hostname=name) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            return [value for _, value in client.getpeercert()["subjectAltName"]]

    return name_served


def pair(identity):
    return identity.chain, identity.key


def test_names_of_a_dict(name_served, identities) -> None:
    names = {name: pair(identities[name]) for name in ("a.example", "*.b.example")}
    context = goev.tls.ServerContext(*pair(identities["default.example"]), names=names)
    for asked, served in [
        ("a.example", "a.example"),
        ("x.b.example", "*.b.example"),
        ("y.x.b.example", "default.example"),
        ("b.example", "default.example"),
        ("other.example", "default.example"),
        (None, "default.example"),
    ]:
        assert name_served(context, asked) == [served], asked


def test_a_callable_is_asked_once_for_each_name_off_the_poller(name_served, reactor, identities) -> None:
    asked = []

    def names(name: str):
        asked.append((name, threading.current_thread().name))
        return pair(identities["c.example"]) if name == "c.example" else None

    context = goev.tls.ServerContext(*pair(identities["default.example"]), names=names)
    for _ in range(2):
        assert name_served(context, "c.example") == ["c.example"]
        assert name_served(context, "d.example") == ["default.example"]
        assert name_served(context, None) == ["default.example"]
    assert [name for name, _ in asked] == ["c.example", "d.example"]
    assert {thread for _, thread in asked} == {"goev-resolver"}
    assert "goev-resolver" not in {thread.name for thread in threading.enumerate()}
    context.reload()
    assert name_served(context, "c.example") == ["c.example"]
    assert len(asked) == 3


def test_a_slow_callable_holds_up_its_own_handshake_only(reactor, root, identities, name_served) -> None:
    gate = threading.Event()
    begun = threading.Event()

    def names(name: str):
        begun.set()
        assert gate.wait(PATIENCE)
        return pair(identities["c.example"])

    context = goev.tls.ServerContext(*pair(identities["default.example"]), names=names)
    results = []
    waiting = threading.Thread(target=lambda: results.append(name_served(context, "c.example")))
    waiting.start()
    assert begun.wait(PATIENCE)
    assert name_served(context, None) == ["default.example"]
    assert results == []
    gate.set()
    waiting.join(PATIENCE)
    assert results == [["c.example"]]


@pytest.mark.parametrize("answer", [KeyError("unknown"), "cert.pem", (b"no PEM", b"no PEM"), ("a", "b", "c")])
def test_a_wrong_answer_is_logged_and_the_default_certificate_serves(name_served, identities, log, answer) -> None:
    def names(name: str):
        if isinstance(answer, Exception):
            raise answer
        return answer

    context = goev.tls.ServerContext(*pair(identities["default.example"]), names=names)
    assert name_served(context, "c.example") == ["default.example"]
    record, text = log.next()
    assert text.startswith("exception in names of a ServerContext for 'c.example'")
    assert record.callback == "names"


def test_the_handler_sees_the_name(reactor, root, identities) -> None:
    events = Events()

    class Asks(Recorder):
        def on_open(self) -> None:
            self.events("name", self.tls.server_name)

    context = goev.tls.ServerContext(*pair(identities["a.example"]))
    acceptor = goev.Acceptor(reactor, "127.0.0.1:0", lambda: Asks(events), tls=context)
    trusting = ssl.create_default_context(cadata=root.pem.decode())
    session = None
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        trusting.minimum_version = trusting.maximum_version = version
        for _ in range(2):  # the second one resumes
            plain = socket.create_connection(acceptor.address, PATIENCE)
            with trusting.wrap_socket(plain, server_hostname="a.example", session=session) as client:
                assert events.until("name")[1] == "a.example"
                session = client.session if version == ssl.TLSVersion.TLSv1_2 else None
        session = None
