"""Clients of ours check the certificate of the server: the error says what is wrong, and the server gets the alert."""

import ssl
import warnings
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import goev
from certificates import Authority, Identity, self_signed
from support import PATIENCE, Recorder, in_thread, names
from tls_support import VERSIONS, accepting, alert_of, serving

EXPIRED = {"starts": -10, "ends": -0.5}
NOT_YET = {"starts": 1, "ends": 2}


class Client(Recorder):
    def on_open(self):
        self.events("open", self.tls)

    def on_connect_fail(self, error):
        self.events("connect_fail", error)


@pytest.fixture
def meet(reactor, root, tmp_path, events):
    """``meet(identity, version)``: a client of ours meets a server of Python's that has this certificate.

    Returns the client's event, and the error of the server.
    """

    def shake_hands(accept):
        with accept() as peer:
            try:
                peer.shake_hands()
            except ssl.SSLError as error:
                return error
            # Without a fault the client goes when it has seen the end.
            with suppress(ssl.SSLError, OSError):
                peer.say_close()
                peer.receive_all()
            return None

    def meet(identity, version="TLSv1.3", *, ca=None, **options):
        context = goev.tls.ClientContext(ca=ca or root.pem, **options)
        with accepting(serving(identity, tmp_path, version=version)) as (address, accept):
            served = in_thread(shake_hands, accept)
            goev.connect(reactor, address, Client(events), tls=context)
            return events.next(), served.result(PATIENCE)

    return meet


def refused(meeting, alert, *words):
    (name, error), theirs = meeting
    assert name == "connect_fail", error
    assert type(error) is goev.tls.CertificateError
    assert isinstance(error, OSError)
    assert names(error, *words), str(error)
    assert error.alert == alert
    assert theirs is not None, "the server noticed nothing"
    assert alert_of(theirs) == alert


@pytest.mark.parametrize("version", VERSIONS)
class TestRefused:
    def test_expired(self, meet, root, version):
        identity = root.issue("localhost", **EXPIRED)
        date = identity.certificate.not_valid_after_utc.strftime("%a, %d %b %Y %H:%M:%S GMT")
        refused(meet(identity, version), "certificate_expired", f"expired on {date}")

    def test_not_yet_valid(self, meet, root, version):
        identity = root.issue("localhost", **NOT_YET)
        date = identity.certificate.not_valid_before_utc.strftime("%a, %d %b %Y %H:%M:%S GMT")
        refused(meet(identity, version), "certificate_expired", f"not valid before {date}")

    def test_other_name(self, meet, root, version):
        identity = root.issue("a.example", "*.b.example", "127.0.0.1")
        words = 'not for "localhost", but for a.example, *.b.example, 127.0.0.1'
        refused(meet(identity, version), "bad_certificate", words)

    def test_no_name_but_the_common_one(self, meet, root, version):
        refused(meet(root.issue(), version), "bad_certificate", "no name at all", "subjectAltName")

    @pytest.mark.parametrize("name", ["x.y.b.example", "b.example", "xb.example"])
    def test_wildcard_of_another_level(self, meet, root, version, name):
        meeting = meet(root.issue("*.b.example"), version, server_name=name)
        refused(meeting, "bad_certificate", f'not for "{name}", but for *.b.example')

    def test_name_for_an_address(self, meet, root, version):
        meeting = meet(root.issue("localhost"), version, server_name="127.0.0.1")
        refused(meeting, "bad_certificate", "127.0.0.1", "but for localhost")

    @pytest.mark.parametrize(("purpose", "use"), [("client", "client authentication"), ("code", "1.3.6.1.5.5.7.3.3")])
    def test_wrong_use(self, meet, root, version, purpose, use):
        meeting = meet(root.issue("localhost", purpose=purpose), version)
        refused(meeting, "unsupported_certificate", "not for server authentication", use)

    def test_self_signed(self, meet, version):
        refused(meet(self_signed("localhost"), version), "unknown_ca", "issuer of the certificate is unknown")

    def test_unknown_issuer(self, meet, version):
        refused(
            meet(Authority("Other").issue("localhost"), version), "unknown_ca", "issuer of the certificate is unknown"
        )

    def test_issuer_of_the_same_name_with_another_key(self, meet, root, version):
        other = Authority("Root of the tests")
        assert other.certificate.subject == root.certificate.subject
        words = ("a signature of the certificate", "name of the issuer, but another key")
        refused(meet(other.issue("localhost"), version), "decrypt_error", *words)

    def test_missing_intermediate(self, meet, root, version):
        whole = root.intermediate().issue("localhost")
        alone = Identity(whole.certificate, whole.private_key)
        refused(meet(alone, version), "unknown_ca", "lacks an intermediate certificate")

    def test_certificate_of_a_ca(self, meet, root, version):
        meeting = meet(root.issue("localhost", ca=True), version)
        refused(meeting, "certificate_unknown", "CA:TRUE")

    def test_issued_by_a_server(self, meet, root, version):
        """A server's certificate makes no CA of its owner."""
        server = root.issue("localhost")
        fake = Authority("Fake")
        fake.certificate, fake.private_key, fake.above = server.certificate, server.private_key, (server.certificate,)
        identity = fake.issue("localhost", number=1)
        (name, error), theirs = meet(identity, version)
        assert (name, type(error)) == ("connect_fail", goev.tls.CertificateError)
        assert theirs is not None


@pytest.mark.parametrize("version", VERSIONS)
class TestAccepted:
    @staticmethod
    def accepted(meeting, identity):
        (name, tls), theirs = meeting
        assert name == "open", tls
        assert tls.peer_certificates == tuple(
            one.public_bytes(Encoding.DER) for one in (identity.certificate, *identity.above)
        )
        assert theirs is None

    def test_chain_of_two_intermediates(self, meet, root, version):
        identity = root.intermediate("A").intermediate("B").issue("localhost")
        self.accepted(meet(identity, version), identity)

    def test_wildcard_of_one_level(self, meet, root, version):
        identity = root.issue("*.b.example")
        self.accepted(meet(identity, version, server_name="x.b.example"), identity)

    def test_address(self, meet, root, version):
        identity = root.issue("127.0.0.1")
        self.accepted(meet(identity, version, server_name="127.0.0.1"), identity)

    @pytest.mark.parametrize("purpose", ["both", "none"])
    def test_other_uses_too(self, meet, root, version, purpose):
        identity = root.issue("localhost", purpose=purpose)
        self.accepted(meet(identity, version), identity)

    @pytest.mark.parametrize("ca", [False, True])
    def test_self_signed_that_was_given(self, meet, version, ca):
        identity = self_signed("localhost", ca=ca)
        self.accepted(meet(identity, version, ca=identity.pem), identity)

    def test_anything_without_verification(self, reactor, tmp_path, events, version):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context = goev.tls.ClientContext(verify=False)
        identity = Authority("Other").issue("other.example", **EXPIRED)
        with accepting(serving(identity, tmp_path, version=version)) as (address, accept):
            served = in_thread(lambda: accept().__enter__())
            goev.connect(reactor, address, Client(events), tls=context)
            with served.result(PATIENCE) as peer:
                peer.shake_hands()
                assert events.next()[0] == "open"
                peer.say_close()


def test_the_error_names_the_address(meet):
    (_, error), _ = meet(Authority("Other").issue("localhost"))
    assert names(error, "cannot connect to", "localhost:", "with TLS"), str(error)


def test_the_log_of_a_server_of_ours_tells_of_the_alert(serve, reactor, events, tells):
    acceptor = serve(Recorder)
    context = goev.tls.ClientContext(ca=Authority("Other").pem)
    goev.connect(reactor, f"localhost:{acceptor.address[1]}", Client(events), tls=context)
    assert events.next()[0] == "connect_fail"
    assert names(tells.next(), "127.0.0.1:", "does not know the issuer of our certificate", "alert unknown_ca")
