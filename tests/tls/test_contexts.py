"""TLS contexts take certificates of every kind, reload them, and refuse what is wrong at the call."""

import os
import pickle
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

import goev
from certificates import BAD_KINDS, GOOD_KINDS, Authority, key_of, key_pem, public_pem, self_signed
from goev.tls import ClientContext, ServerContext
from support import names, need


def refused(error: type[Exception], *words: object, **arguments: object) -> str:
    """The text of the error of a ServerContext, which has these words."""
    certificate, key = arguments.pop("certificate"), arguments.pop("key")
    with pytest.raises(error) as raised:
        ServerContext(certificate, key, **arguments)
    assert names(raised.value, *map(str, words))
    return str(raised.value)


# --- certificates and keys ---


@pytest.mark.parametrize("kind", GOOD_KINDS)
def test_a_key_of_each_kind_is_taken_from_files_and_from_bytes(root, tmp_path, kind):
    identity = root.issue("a.example", kind=kind)
    certificate, key = identity.files(tmp_path)
    ServerContext(certificate, key)
    ServerContext(str(certificate), str(key))
    ServerContext(identity.chain, bytearray(identity.key))
    ClientContext(ca=root.pem, certificate=memoryview(identity.chain), key=identity.key)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_a_key_in_the_old_format_is_taken(root, kind):
    identity = root.issue("a.example", kind=kind)
    ServerContext(identity.chain, key_pem(identity.private_key, form="TraditionalOpenSSL"))


def test_one_file_may_hold_the_chain_and_the_key(root, tmp_path):
    identity = root.intermediate().issue("a.example")
    whole = tmp_path / "whole.pem"
    for text in (identity.chain + identity.key, identity.key + b"\nnotes\n" + identity.chain):
        whole.write_bytes(text)
        ServerContext(whole, whole)


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_a_key_of_another_kind_is_refused(server, kind):
    text = refused(ValueError, "key", "RSA", "ECDSA", "Ed25519", certificate=server.chain, key=key_pem(key_of(kind)))
    assert "BEGIN" not in text


def test_a_missing_file_is_named(server, tmp_path):
    certificate, key = server.files(tmp_path)
    nowhere = tmp_path / "nowhere.pem"
    for which, arguments in {
        "certificate": {"certificate": nowhere, "key": key},
        "key": {"certificate": certificate, "key": nowhere},
        "client_ca": {
            "certificate": certificate,
            "key": key,
            "client_ca": nowhere,
            "client_certificates": "required",
        },
        'certificate of names["b.example"]': {
            "certificate": certificate,
            "key": key,
            "names": {"b.example": (nowhere, key)},
        },
    }.items():
        refused(FileNotFoundError, which, nowhere, **arguments)
    with pytest.raises(FileNotFoundError, match=r"ca .*nowhere"):
        ClientContext(ca=nowhere)


def test_a_folder_is_an_os_error_that_names_it(server, tmp_path):
    refused(IsADirectoryError, "certificate", tmp_path, certificate=tmp_path, key=server.key)


def test_a_path_that_is_empty_or_raises_is_an_error(server):
    class Broken:
        def __fspath__(self):
            raise LookupError("of the user's")

    refused(ValueError, "certificate", "empty", certificate="", key=server.key)
    refused(LookupError, "of the user's", certificate=Broken(), key=server.key)


def test_text_that_is_not_pem_is_refused(server, tmp_path):
    certificate, key = server.files(tmp_path)
    wrong = tmp_path / "wrong.pem"
    for content, *words in [
        (b"", "empty"),
        (b"hello\n", "not PEM"),
        (server.der, "DER", "openssl x509"),
        (server.key, "holds no certificate", "PRIVATE KEY"),
        (b"\n" + server.pem[:-30], "line 2", "no end"),
        (server.pem.replace(b"MII", b"M!I"), "line 1", "not base64"),
        (b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "line 1", "malformed"),
        (server.pem + b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n", "line", "malformed"),
    ]:
        wrong.write_bytes(content)
        refused(ValueError, "certificate", wrong, *words, certificate=wrong, key=key)
        with pytest.raises(ValueError, match=re.escape(str(wrong))) as raised:
            ClientContext(ca=wrong)
        assert names(raised.value, "ca ", *words)
    for content, *words in [
        (b"", "empty"),
        (server.pem, "holds no private key", "CERTIFICATE"),
        (public_pem(server.private_key), "holds no private key", "PUBLIC KEY"),
        (server.key[:-30], "line 1", "no end"),
    ]:
        wrong.write_bytes(content)
        refused(ValueError, "key", wrong, *words, certificate=certificate, key=wrong)


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_an_encrypted_key_is_refused_with_the_command_that_decrypts_it(server, tmp_path, form):
    need("openssl")
    certificate, _ = server.files(tmp_path)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(key_pem(server.private_key, form=form, password=b"secret"))
    text = refused(ValueError, encrypted, "encrypted", certificate=certificate, key=encrypted)
    command = text[text.index("openssl pkey") :].partition(";")[0].split()
    subprocess.run([*command, "-passin", "pass:secret"], check=True, capture_output=True)
    ServerContext(certificate, command[command.index("-out") + 1])


def test_a_certificate_in_der_is_refused_with_the_command_that_converts_it(server, tmp_path):
    need("openssl")
    certificate, key = server.files(tmp_path)
    certificate.write_bytes(server.der)
    text = refused(ValueError, certificate, "DER", certificate=certificate, key=key)
    command = re.search(r"openssl x509 -in \S+ -out (\S+?)(?=;)", text)
    subprocess.run(command[0].split(), check=True, capture_output=True)
    ServerContext(command[1], key)


def test_the_key_of_another_certificate_is_refused(root, server, tmp_path):
    certificate, _ = server.files(tmp_path)
    _, other = root.issue("a.example", number=1).files(tmp_path, "other")
    refused(ValueError, certificate, other, "not the key of", certificate=certificate, key=other)
    with pytest.raises(ValueError, match="not the key of"):
        ClientContext(ca=root.pem, certificate=certificate, key=other)


def test_a_chain_in_the_wrong_order_is_refused_with_the_line_of_the_first(root):
    identity = root.intermediate().issue("a.example")
    ca, leaf = identity.chain.removeprefix(identity.pem), identity.pem
    line = ca.count(b"\n") + 1
    refused(ValueError, f"line {line}", "first", certificate=ca + leaf, key=identity.key)


def test_no_error_shows_the_key(root, server):
    other = root.issue("a.example", number=1)
    secret = other.key.splitlines()[2].decode()
    for certificate, key in [
        (server.chain, other.key),
        (server.chain, other.key[:-40]),
        (server.chain, other.key.replace(b"M", b"!", 1)),
        (other.key, other.key),
    ]:
        assert secret not in refused(ValueError, certificate=certificate, key=key)


@pytest.mark.parametrize("value", [None, 1, object(), ["cert.pem"], 1.5])
def test_an_argument_of_another_type_is_a_type_error_that_names_it(server, value):
    refused(TypeError, "certificate", type(value).__name__, certificate=value, key=server.key)
    refused(TypeError, "key", type(value).__name__, certificate=server.chain, key=value)


def test_pem_in_a_str_is_told_from_a_path(server):
    text = refused(TypeError, "certificate", "encode()", certificate=server.chain.decode(), key=server.key)
    assert len(text) < 200
    assert "MII" not in text


# --- names ---


def test_names_have_certificates_of_their_own(root, server, tmp_path):
    other = root.issue("b.example", "*.b.example", number=1)
    for pair in ((other.chain, other.key), other.files(tmp_path)):
        ServerContext(server.chain, server.key, names={"b.example": pair, "*.B.example.": pair})


@pytest.mark.parametrize(
    "name",
    ["", "*", "*.*.b.example", "b*.example", "a.*.example", "127.0.0.1", "::1", "b example", "-b", "bücher.example"],
)
def test_a_name_that_no_client_can_ask_for_is_refused(server, name):
    pair = (server.chain, server.key)
    refused(ValueError, "names", name, certificate=pair[0], key=pair[1], names={name: pair})


@pytest.mark.parametrize(
    "wrong", [[("b.example", None)], "b.example", 1, {1: (b"", b"")}, {"b.example": b""}, {"b.example": (b"",)}]
)
def test_names_of_another_type_are_refused(server, wrong):
    refused(TypeError, "names", certificate=server.chain, key=server.key, names=wrong)


def test_the_key_of_a_name_is_checked_too(root, server):
    other = root.issue("b.example", number=1)
    pair = (other.chain, server.key)
    refused(
        ValueError, 'key of names["b.example"]', certificate=server.chain, key=server.key, names={"b.example": pair}
    )


def test_names_may_be_a_callable_which_is_not_called_yet(server):
    ServerContext(server.chain, server.key, names=lambda name: pytest.fail(name))


# --- clients' certificates ---


def test_a_demand_for_certificates_needs_their_ca(root, server):
    pair = {"certificate": server.chain, "key": server.key}
    for demand in ("optional", "required"):
        ServerContext(server.chain, server.key, client_ca=root.pem, client_certificates=demand)
        refused(ValueError, "client_ca", demand, client_certificates=demand, **pair)
    refused(ValueError, "client_ca", "client_certificates", client_ca=root.pem, **pair)
    refused(ValueError, "client_certificates", "always", client_ca=root.pem, client_certificates="always", **pair)
    refused(TypeError, "client_certificates", client_certificates=True, **pair)


def test_a_client_gives_its_certificate_and_key_together(root, server):
    with pytest.raises(ValueError, match=r"certificate .* needs its key"):
        ClientContext(ca=root.pem, certificate=server.chain)
    with pytest.raises(ValueError, match=r"key .* needs its certificate"):
        ClientContext(ca=root.pem, key=server.key)


# --- versions and protocols ---


@pytest.mark.parametrize("version", ["TLSv1.1", "TLSv1", "SSLv3", "1.2", "", "tlsv1.3", "TLSv1.4"])
def test_another_minimum_version_is_refused_with_those_that_exist(root, server, version):
    words = ["minimum_version", f'"{version}"', "TLSv1.2", "TLSv1.3"]
    text = refused(ValueError, *words, certificate=server.chain, key=server.key, minimum_version=version)
    assert ("RFC 8996" in text) is (version in ("TLSv1.1", "TLSv1", "SSLv3"))
    with pytest.raises(ValueError, match="minimum_version"):
        ClientContext(ca=root.pem, minimum_version=version)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_both_versions_may_be_the_oldest(root, server, version):
    ServerContext(server.chain, server.key, minimum_version=version)
    ClientContext(ca=root.pem, minimum_version=version)


@pytest.mark.parametrize("name", ["x" * 256, b"x" * 1000, "", "é" * 128])
def test_a_protocol_of_no_length_that_can_be_sent_is_refused(root, server, name):
    size = len(name if isinstance(name, bytes) else name.encode())
    words = ["alpn", "255", f"not {size} "]
    refused(ValueError, *words, certificate=server.chain, key=server.key, alpn=["http/1.1", name])
    with pytest.raises(ValueError, match="alpn"):
        ClientContext(ca=root.pem, alpn=[name])


def test_protocols_are_str_and_bytes_in_a_list_or_a_tuple(root, server):
    for alpn in ([], (), ["http/1.1"], (b"h2", "http/1.1"), ["x" * 255]):
        ServerContext(server.chain, server.key, alpn=alpn)
        ClientContext(ca=root.pem, alpn=alpn)
    for alpn in ("http/1.1", b"h2", {"h2"}, 1, [1], [None]):
        refused(TypeError, "alpn", certificate=server.chain, key=server.key, alpn=alpn)


def test_more_protocols_than_fit_in_a_handshake_are_refused(server):
    refused(ValueError, "alpn", "65535", "65536", certificate=server.chain, key=server.key, alpn=["x" * 255] * 256)


# --- reload ---


def test_a_reload_takes_new_files_and_keeps_the_old_ones_after_an_error(root, server, tmp_path):
    certificate, key = server.files(tmp_path)
    context = ServerContext(certificate, key)
    context.reload()
    other = root.issue("a.example", number=1)
    certificate.write_bytes(other.chain)
    with pytest.raises(ValueError, match="not the key of"):
        context.reload()
    key.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(str(key))):
        context.reload()
    key.write_bytes(other.key)
    context.reload()


def test_a_reload_reads_all_files(root, server, tmp_path):
    certificate, key = server.files(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(root.pem)
    named = root.issue("b.example").files(tmp_path, "named")
    context = ServerContext(certificate, key, names={"b.example": named}, client_ca=ca, client_certificates="optional")
    for path in (certificate, key, ca, *named):
        text = path.read_bytes()
        path.write_bytes(b"hello")
        with pytest.raises(ValueError, match=re.escape(str(path))):
            context.reload()
        path.write_bytes(text)
        context.reload()


def test_a_context_of_bytes_reloads_as_well(server):
    ServerContext(server.chain, server.key).reload()


def test_many_threads_may_reload_at_once(server, tmp_path):
    context = ServerContext(*server.files(tmp_path))
    failed: list[BaseException] = []

    def reload() -> None:
        try:
            for _ in range(20):
                context.reload()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=reload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


# --- clients ---


def test_the_cas_of_the_system_are_read_when_they_are_needed(root, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(root.pem)
    program = "import goev; print(goev.tls.ClientContext(), goev.tls.ClientContext())"
    assert run(program, SSL_CERT_FILE=str(bundle), SSL_CERT_DIR="").split("\n")[0].count("ca=None") == 2


def test_a_system_without_cas_is_an_error_that_says_what_to_do(tmp_path):
    program = """
import goev
try:
    goev.tls.ClientContext()
except RuntimeError as error:
    print(error)
"""
    text = run(program, SSL_CERT_FILE=str(tmp_path / "nowhere.pem"), SSL_CERT_DIR="")
    assert names(text, "ca-certificates", "SSL_CERT_FILE", "nowhere.pem")


def test_a_certificate_of_a_server_itself_may_be_trusted():
    ClientContext(ca=self_signed("a.example").pem)
    ClientContext(ca=self_signed("a.example", ca=True).pem)


@pytest.mark.parametrize("name", ["a.example", "A.Example.", "localhost", "127.0.0.1", "::1", "xn--bcher-kva.example"])
def test_a_server_name_is_a_host_name_or_an_address(root, name):
    assert repr(name).strip("'") in repr(ClientContext(ca=root.pem, server_name=name))


@pytest.mark.parametrize(
    "name", ["", ".", "a b", "a..b", "*.a.example", "[::1]", "a.example:443", "bücher.example", "a/b"]
)
def test_a_server_name_that_is_no_name_is_refused(root, name):
    with pytest.raises(ValueError, match="server_name") as raised:
        ClientContext(ca=root.pem, server_name=name)
    assert names(raised.value, f'"{name}"', *(["xn--"] if not name.isascii() else []))


def test_a_server_name_of_another_type_is_refused(root):
    for name in (b"a.example", 1, ["a.example"]):
        with pytest.raises(TypeError, match="server_name"):
            ClientContext(ca=root.pem, server_name=name)


def test_no_verification_warns_once_and_takes_no_ca(root):
    program = """
import warnings, goev
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        goev.tls.ClientContext(verify=False)
print(len(caught), caught[0].category.__name__, caught[0].filename, caught[0].message)
"""
    assert names(run(program), "1 RuntimeWarning <string>", "verify=False")
    with pytest.raises(ValueError, match=r"ca .*verify=False"):
        ClientContext(ca=root.pem, verify=False)
    with pytest.raises(TypeError, match="verify"):
        ClientContext(ca=root.pem, verify="no")


# --- the log of keys ---


def test_the_log_of_keys_is_a_file_that_only_its_owner_reads(root, server, tmp_path):
    for number, make in enumerate(
        [
            lambda path: ServerContext(server.chain, server.key, key_log=path),
            lambda path: ClientContext(ca=root.pem, key_log=path),
        ]
    ):
        path = tmp_path / f"keys{number}"
        make(path)
        make(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_that_cannot_be_opened_is_an_error_that_names_it(server, tmp_path):
    nowhere = tmp_path / "nowhere" / "keys"
    refused(FileNotFoundError, "key_log", nowhere, certificate=server.chain, key=server.key, key_log=nowhere)
    refused(TypeError, "key_log", certificate=server.chain, key=server.key, key_log=True)


def test_the_environment_alone_logs_nothing_but_its_name_does(server, tmp_path, monkeypatch):
    path = tmp_path / "keys"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    ServerContext(server.chain, server.key, key_log="SSLKEYLOGFILE")
    assert os.listdir(tmp_path) == []
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    ServerContext(server.chain, server.key)
    assert not path.exists()
    ServerContext(server.chain, server.key, key_log="SSLKEYLOGFILE")
    assert path.exists()


# --- the classes ---


def test_the_text_of_a_context_shows_its_files_and_no_secret(root, server, tmp_path):
    certificate, key = server.files(tmp_path)
    pair = (server.chain, server.key)
    shown = repr(ServerContext(certificate, key, names={"b.example": pair}))
    assert shown == f'<goev.tls.ServerContext certificate "{certificate}" names=["b.example"]>'
    assert repr(ServerContext(*pair)) == "<goev.tls.ServerContext certificate (bytes)>"
    assert repr(ClientContext(ca=root.pem)) == "<goev.tls.ClientContext ca (bytes)>"


def test_contexts_cannot_be_copied_into_other_processes(server):
    """Their keys would go along."""
    with pytest.raises(TypeError):
        pickle.dumps(ServerContext(server.chain, server.key))


def test_the_errors_are_os_errors_and_goevs_own():
    error = goev.tls.CertificateError("the certificate has expired")
    assert isinstance(error, goev.tls.Error)
    assert isinstance(error, OSError)
    assert isinstance(error, goev.Error)
    assert error.alert is None
    assert str(error) == "the certificate has expired"
    assert issubclass(goev.tls.TruncatedError, goev.tls.Error)
    for name in goev.tls.__all__:
        found = getattr(goev.tls, name)
        assert (found.__module__, found.__name__) == ("goev.tls", name)


def run(program: str, **environment: str) -> str:
    """The output of a Python program in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_helper_makes_chains_that_openssl_accepts(root: Authority, tmp_path: Path):
    need("openssl")
    intermediate = root.intermediate()
    identity = intermediate.issue("a.example", "*.b.example", "127.0.0.1", purpose="both")
    assert serialization.load_pem_private_key(identity.key, None)
    for name, text in {"root": root.pem, "between": intermediate.pem, "leaf": identity.pem}.items():
        (tmp_path / name).write_bytes(text)
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", "root", "-untrusted", "between", "-purpose", "sslserver"]
    subprocess.run([*verify, "leaf"], cwd=tmp_path, check=True, capture_output=True)
