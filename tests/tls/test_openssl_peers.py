"""The programs of OpenSSL on the other side: each version, each cipher suite, each kind of key, and ALPN."""

import re
import subprocess
from contextlib import contextmanager

import pytest

import goev
from support import PATIENCE, Recorder, need
from tls_support import openssl

SUITES_13 = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]
SUITES_12 = {  # by OpenSSL's names, as -cipher takes them
    "ECDHE-{}-AES256-GCM-SHA384": "TLS_ECDHE_{}_WITH_AES_256_GCM_SHA384",
    "ECDHE-{}-AES128-GCM-SHA256": "TLS_ECDHE_{}_WITH_AES_128_GCM_SHA256",
    "ECDHE-{}-CHACHA20-POLY1305": "TLS_ECDHE_{}_WITH_CHACHA20_POLY1305_SHA256",
}
AUTHENTICATION = {"rsa": "RSA", "ecdsa": "ECDSA", "p384": "ECDSA", "ed25519": "ECDSA"}

# version, name in the registry, arguments of openssl, kind of key
CASES = [
    *(("TLSv1.3", suite, ("-tls1_3", "-ciphersuites", suite), kind) for suite in SUITES_13 for kind in AUTHENTICATION),
    *(
        ("TLSv1.2", name.format(form), ("-tls1_2", "-cipher", suite.format(form)), kind)
        for suite, name in SUITES_12.items()
        for kind, form in AUTHENTICATION.items()
    ),
]
each_case = pytest.mark.parametrize(("version", "suite", "options", "kind"), CASES)


class Answers(goev.Connection):
    """Answers one line by the facts of its TLS."""

    def on_read(self):
        if line := self.read_until(b"\n"):
            tls = self.tls
            self.write(f"goev has {tls.version} {tls.cipher} {tls.alpn} and read {bytes(line)!r}\n".encode())
            self.close()


class Asks(Recorder):
    """Sends a line, and closes behind its answer."""

    def on_open(self):
        self.events("open", self.tls)
        self.write(b"hello\n")

    def on_read(self):
        if (line := self.read_until(b"\n")) is not None:
            self.events("read", bytes(line))
            self.close()

    def on_connect_fail(self, error):
        self.events("connect_fail", error)


@pytest.fixture
def ca(root, tmp_path):
    """The file of the CA."""
    path = tmp_path / "ca.pem"
    path.write_bytes(root.pem)
    return path


def s_client(address, ca, *options, line="hello\n"):
    """All that s_client prints. It sends a line, and goes on to the end of the stream."""
    fixed = ("-CAfile", ca, "-servername", "localhost", "-verify_hostname", "localhost", "-verify_return_error")
    return openssl("s_client", "-connect", f"{address[0]}:{address[1]}", "-ign_eof", *fixed, *options, stdin=line)


@contextmanager
def s_server(identity, folder, *options):
    """A server for one connection that sends each line back reversed: its address, and a function for its output."""
    certificate, key = identity.files(folder)
    command = [need("openssl"), "s_server", "-accept", "127.0.0.1:0", "-cert", certificate, "-key", key, "-rev"]
    command += ["-naccept", "1", "-chainCAfile", certificate, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            accepts = next(line for line in process.stdout if line.startswith("ACCEPT"))
            yield f"localhost:{accepts.rpartition(':')[2].strip()}", lambda: process.communicate(timeout=PATIENCE)[0]
        finally:
            process.kill()


@each_case
def test_s_client_meets_a_server_of_ours(serve, root, ca, version, suite, options, kind):
    acceptor = serve(Answers, root.issue("localhost", kind=kind))
    output = s_client(acceptor.address, ca, *options)
    assert f"goev has {version} {suite} None and read b'hello" in output, output
    assert "Verify return code: 0 (ok)" in output


@each_case
def test_a_client_of_ours_meets_s_server(reactor, root, tmp_path, events, version, suite, options, kind):
    with s_server(root.issue("localhost", kind=kind), tmp_path, *options) as (address, output):
        goev.connect(reactor, address, Asks(events), tls=goev.tls.ClientContext(ca=root.pem))
        tls = events.next()[1]
        assert (tls.version, tls.cipher, tls.resumed) == (version, suite, False), tls
        assert events.until("read")[1] == b"olleh\n"
        assert events.until("close")[1] is None
        assert f"Protocol version: {version}" in output()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384"])
def test_s_client_may_choose_the_group(serve, root, ca, version, group):
    # The groups of a client of TLS 1.2 are those of ECDSA, too.
    output = s_client(serve(Answers, root.issue("localhost", kind="rsa")).address, ca, version, "-groups", group)
    assert "goev has TLSv1" in output, output
    key = re.search(r"Server Temp Key: (?:ECDH, )?([\w-]+)", output)
    assert key, output
    assert key[1] in (group, "prime256v1" if group == "P-256" else "secp384r1")


def test_a_second_hello_follows_a_key_share_of_a_group_that_we_lack(serve, ca):
    output = s_client(serve(Answers).address, ca, "-tls1_3", "-groups", "X448:P-256", "-msg")
    assert "goev has TLSv1.3" in output, output
    assert output.count("ClientHello") == 2


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_large_chain_of_rsa_4096_is_taken(serve, root, ca, version):
    """The messages of the handshake fill more than one packet."""
    lower = root.intermediate().intermediate()
    output = s_client(serve(Answers, lower.issue("localhost", kind="rsa4096")).address, ca, version)
    assert "Verify return code: 0 (ok)" in output, output
    assert "goev has TLSv1" in output


# --- old versions and other ciphers ---


@pytest.mark.parametrize(
    ("options", "alert"),
    [
        (("-tls1_2", "-cipher", "AES256-GCM-SHA384"), "handshake failure"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384"), "handshake failure"),
        (("-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"), "handshake failure"),
        (("-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"), "handshake failure"),  # the key is ECDSA
        (("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"), "handshake failure"),
        (("-tls1_3", "-groups", "X448"), "handshake failure"),
    ],
)
def test_a_client_with_nothing_in_common_gets_the_alert(serve, ca, tells, options, alert):
    output = s_client(serve(Answers).address, ca, *options)
    assert f"alert {alert}" in output, output
    assert "in common with the peer" in tells.next()


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_a_client_of_an_old_version_is_refused(serve, ca, tells, version):
    """rustls misses its signature algorithms, before it looks at the version (protocol_version would be the alert)."""
    output = s_client(serve(Answers).address, ca, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert handshake failure" in output, output
    assert "TLS 1.1 or older" in tells.next()


def test_a_context_for_version_1_3_alone_refuses_1_2(serve, ca, tells):
    acceptor = serve(Answers, tls={"minimum_version": "TLSv1.3"})
    assert "alert protocol version" in s_client(acceptor.address, ca, "-tls1_2")
    assert "minimum_version" in tells.next()
    assert "goev has TLSv1.3" in s_client(acceptor.address, ca)


@pytest.mark.parametrize(
    ("options", "alert"),
    [
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "protocol_version"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384"), "handshake_failure"),
        (("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"), "handshake_failure"),
    ],
)
def test_a_server_with_nothing_in_common_is_an_error_of_the_client(
    reactor, root, identity, tmp_path, events, options, alert
):
    with s_server(identity, tmp_path, *options) as (address, _):
        goev.connect(reactor, address, Asks(events), tls=goev.tls.ClientContext(ca=root.pem))
        name, error = events.next()
    assert name == "connect_fail"
    assert isinstance(error, goev.tls.Error)
    assert not isinstance(error, goev.tls.CertificateError)
    assert error.alert == alert


# --- ALPN ---


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (["h2", "http/1.1"], "http/1.1,h2", "h2"),  # the server prefers
        (["http/1.1"], "h2,http/1.1", "http/1.1"),
        (["http/1.1"], None, "None"),
        ([], "http/1.1", "None"),
    ],
)
def test_a_protocol_is_agreed_with_s_client(serve, ca, version, ours, theirs, agreed):
    options = () if theirs is None else ("-alpn", theirs)
    output = s_client(serve(Answers, tls={"alpn": ours}).address, ca, version, *options)
    assert f" {agreed} and read " in output, output
    assert f"ALPN protocol: {agreed}\n" in output or agreed == "None"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_client_of_other_protocols_is_refused(serve, ca, tells, version):
    output = s_client(serve(Answers, tls={"alpn": ["http/1.1"]}).address, ca, version, "-alpn", "h2")
    assert "alert no application protocol" in output, output
    assert "none of the protocols in alpn" in tells.next()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(("theirs", "agreed"), [("http/1.1,h2", "http/1.1"), ("h2", "h2"), (None, None)])
def test_a_protocol_is_agreed_with_s_server(reactor, root, identity, tmp_path, events, version, theirs, agreed):
    options = () if theirs is None else ("-alpn", theirs)
    with s_server(identity, tmp_path, version, *options) as (address, _):
        context = goev.tls.ClientContext(ca=root.pem, alpn=["h2", "http/1.1"])
        goev.connect(reactor, address, Asks(events), tls=context)
        assert events.next()[1].alpn == agreed
        assert events.until("read")[1] == b"olleh\n"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_server_of_other_protocols_is_an_error_of_the_client(reactor, root, identity, tmp_path, events, version):
    with s_server(identity, tmp_path, version, "-alpn", "h2") as (address, _):
        context = goev.tls.ClientContext(ca=root.pem, alpn=["http/1.1"])
        goev.connect(reactor, address, Asks(events), tls=context)
        error = events.until("connect_fail")[1]
    assert isinstance(error, goev.tls.Error)
    assert error.alert == "no_application_protocol"
    assert "alpn" in str(error)
