"""Servers of ours check the certificates of clients: the client gets the alert, and the log says what is wrong."""

import ssl
import time

import pytest

import goev
from certificates import Authority, Identity, self_signed
from support import PATIENCE, Recorder, in_thread, names, settle
from tls_support import VERSIONS, Echo, Peer, accepting, alert_of, serving, trusting


class Shows(goev.Connection):
    """Answers by the number of certificates of its peer, then by these."""

    def on_read(self):
        self.read()
        certificates = self.tls.peer_certificates
        self.write(bytes([len(certificates)]) + b"".join(certificates))
        self.close()


class Client(Recorder):
    def on_open(self):
        self.events("open", self.tls)
        self.write(b"x")

    def on_connect_fail(self, error):
        self.events("connect_fail", error)


@pytest.fixture
def own(root):
    """The certificate of a client."""
    return root.issue("client", purpose="client", number=1)


@pytest.fixture
def demanding(root, serve):
    """``demanding(handler)``: a server that needs certificates of the CA."""

    def demand(handler=Shows, client_certificates="required"):
        return serve(handler, tls={"client_ca": root.pem, "client_certificates": client_certificates})

    return demand


@pytest.fixture
def showing(root, tmp_path):
    """``showing(identity, version)``: the settings of a client with this certificate, or none.

    OpenSSL sends a root that it trusts behind a certificate without a chain.
    """

    def show(identity, version):
        context = trusting(root, version=version)
        if identity is not None:
            context.load_cert_chain(*identity.files(tmp_path, "client"))
        return context

    return show


def refusal(acceptor, context):
    """The alert that a client gets. In TLS 1.3 it comes behind the handshake of the client."""
    with pytest.raises(ssl.SSLError) as raised, Peer.to(acceptor.address, context) as client:
        client.read()
    return alert_of(raised.value)


WRONG = {
    "expired": (
        lambda root: root.issue("client", purpose="client", starts=-10, ends=-0.5),
        "certificate_expired",
        "expired on ",
    ),
    "not yet valid": (
        lambda root: root.issue("client", purpose="client", starts=1),
        "certificate_expired",
        "not valid before ",
    ),
    "of a server": (
        lambda root: root.issue("client", purpose="server"),
        "unsupported_certificate",
        "not for client authentication, but for server authentication",
    ),
    "of an unknown issuer": (
        lambda root: Authority("Other").issue("client", purpose="client"),
        "unknown_ca",
        "issuer of the certificate is unknown",
    ),
    "self-signed": (
        lambda root: self_signed("client", purpose="client"),
        "unknown_ca",
        "issuer of the certificate is unknown",
    ),
    "without its intermediate": (
        lambda root: alone(root.intermediate().issue("client", purpose="client")),
        "unknown_ca",
        "lacks an intermediate certificate",
    ),
    "of a CA": (lambda root: root.issue("client", ca=True), "certificate_unknown", "CA:TRUE"),
}


def alone(identity):
    return Identity(identity.certificate, identity.private_key)


@pytest.mark.parametrize("demand", ["required", "optional"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_certificate_is_refused(demanding, root, showing, tells, wrong, version, demand):
    make, alert, words = WRONG[wrong]
    acceptor = demanding(client_certificates=demand)
    assert refusal(acceptor, showing(make(root), version)) == alert
    assert names(tells.next(), "a TLS handshake with 127.0.0.1:", words)
    assert tells.events.names.count("INFO") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_certificate_is_refused(demanding, showing, tells, version):
    acceptor = demanding()
    alert = refusal(acceptor, showing(None, version))
    assert alert == "certificate_required"
    assert "sent no certificate" in tells.next()


@pytest.mark.parametrize("kind", ["ecdsa", "p384", "ed25519", "rsa"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_handler_sees_the_certificates_of_the_client(demanding, root, showing, kind, version):
    lower = root.intermediate()
    own = lower.issue("client", purpose="client", kind=kind)
    with Peer.to(demanding().address, showing(own, version)) as client:
        client.send(b"x")
        assert client.receive_all() == b"\2" + own.der + lower.der


@pytest.mark.parametrize("version", VERSIONS)
def test_an_optional_certificate_may_be_missing(demanding, root, showing, own, version):
    acceptor = demanding(client_certificates="optional")
    for identity, shown in ((None, b"\0"), (own, b"\2" + own.der + root.der)):
        with Peer.to(acceptor.address, showing(identity, version)) as client:
            client.send(b"x")
            assert client.receive_all() == shown


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_session_keeps_the_certificates(demanding, root, showing, own, version):
    acceptor, context = demanding(), showing(own, version)
    session = None
    for resumed in (False, True):
        with Peer.to(acceptor.address, context, session=session) as client:
            client.send(b"x")
            assert client.receive_all() == b"\2" + own.der + root.der
            assert client.tls.session_reused is resumed
            session = client.tls.session


# --- clients of ours ---


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_ours_shows_its_certificate(reactor, root, identity, own, tmp_path, events, version):
    context = serving(identity, tmp_path, version=version)
    context.load_verify_locations(cadata=root.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(accept):
        with accept() as peer:
            peer.shake_hands()
            assert peer.receive(1) == b"x"
            return peer.tls.getpeercert(binary_form=True)

    with accepting(context) as (address, accept):
        shown = in_thread(serve, accept)
        with_own = goev.tls.ClientContext(ca=root.pem, certificate=own.chain, key=own.key)
        goev.connect(reactor, address, Client(events), tls=with_own)
        assert events.next()[0] == "open"
        assert shown.result(PATIENCE) == own.der


def test_both_sides_of_ours_see_the_other(demanding, reactor, root, identity, own, events):
    acceptor = demanding()
    context = goev.tls.ClientContext(ca=root.pem, certificate=own.chain, key=own.key)
    goev.connect(reactor, f"localhost:{acceptor.address[1]}", Client(events), tls=context)
    assert events.until("open")[1].peer_certificates == (identity.der,)
    assert events.until("read")[1] == b"\1" + own.der


def test_a_client_of_ours_hears_behind_its_handshake_that_a_certificate_is_needed(
    demanding, reactor, root, events, tells
):
    """A client of TLS 1.3 is done before the server knows whether it has a certificate (RFC 8446 section 4.4.2.4)."""
    context = goev.tls.ClientContext(ca=root.pem, minimum_version="TLSv1.3")
    goev.connect(reactor, f"localhost:{demanding().address[1]}", Client(events), tls=context)
    assert events.next()[0] == "open"
    error = events.until("close")[1]
    assert type(error) is goev.tls.CertificateError
    assert error.alert == "certificate_required"
    assert "needs a certificate of ours" in str(error)
    assert "sent no certificate" in tells.next()


def test_a_client_of_ours_hears_in_its_handshake_that_a_certificate_is_needed(
    reactor, root, identity, tmp_path, events
):
    context = serving(identity, tmp_path, version="TLSv1.2")
    context.load_verify_locations(cadata=root.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(accept):
        with accept() as peer, pytest.raises(ssl.SSLError, match="did not return a certificate"):
            peer.shake_hands()

    with accepting(context) as (address, accept):
        served = in_thread(serve, accept)
        goev.connect(reactor, address, Client(events), tls=goev.tls.ClientContext(ca=root.pem))
        error = events.until("connect_fail")[1]
        served.result(PATIENCE)
    # OpenSSL has no better alert in TLS 1.2.
    assert (type(error), error.alert) == (goev.tls.Error, "handshake_failure")


# --- the log ---


def test_each_reason_is_told_at_most_once_a_second(demanding, reactor, root, showing, tells):
    acceptor = demanding(Echo)
    wrong = showing(Authority("Other").issue("client", purpose="client"), "TLSv1.3")
    started = time.monotonic()
    for _ in range(20):
        assert refusal(acceptor, wrong) == "unknown_ca"
    old = showing(None, "TLSv1.2")
    old.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")  # the key is ECDSA
    assert refusal(acceptor, old) == "handshake_failure"
    settle(reactor)
    lines = [event[1] for event in tells.events.of("INFO")]
    assert 1 <= sum("issuer" in line for line in lines) <= 1 + int(time.monotonic() - started)
    assert sum("in common" in line for line in lines) == 1
    assert set(tells.events.names) == {"INFO"}
