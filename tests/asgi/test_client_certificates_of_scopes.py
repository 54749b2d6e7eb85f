"""The extension ``tls`` of a scope has the certificates of a client, and the name of its subject (RFC 4514)."""

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID, ObjectIdentifier

import goev
from asgi_support import scope_of, site
from certificates import Authority, key_of
from goev.asgi.subjects import subject_of
from http_support import get
from support import Client, Server


def certificate(*parts: list[tuple[ObjectIdentifier, str]], kind=None) -> bytes:
    """A certificate in DER whose subject has these parts, each of one attribute or more."""
    name = x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(*pair, _type=kind) for pair in part]) for part in parts]
    )
    now, key = datetime.datetime(2026, 1, 1), key_of("ecdsa")
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1000, now, now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


CN, ORG, OU = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], ""),
        ([[(CN, "a.example")]], "CN=a.example"),
        ([[(NameOID.COUNTRY_NAME, "DE")], [(ORG, "Goev")], [(CN, "Ä")]], "CN=Ä,O=Goev,C=DE"),
        ([[(ORG, "Goev")], [(OU, "b"), (CN, "a")]], "CN=a+OU=b,O=Goev"),
        ([[(NameOID.DOMAIN_COMPONENT, "example")], [(NameOID.USER_ID, "u")]], "UID=u,DC=example"),
        ([[(CN, 'a,b+c"d\\e<f>g;h')]], 'CN=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h'),
        ([[(CN, "#a")]], "CN=\\#a"),
        ([[(CN, " a ")]], "CN=\\ a\\ "),
        ([[(CN, " ")]], "CN=\\ "),
        ([[(CN, "a\0")]], "CN=a\\00"),
        ([[(NameOID.EMAIL_ADDRESS, "a@b")]], "1.2.840.113549.1.9.1=#1603614062"),
        ([[(ObjectIdentifier("2.999.128"), "a")]], "2.999.128=#0c0161"),
        ([[(CN, "a" * 60)], [(ORG, "b" * 60)], [(OU, "c" * 60)]], f"OU={'c' * 60},O={'b' * 60},CN={'a' * 60}"),
    ],
)
def test_the_text_of_a_subject(parts, text):
    assert subject_of(certificate(*parts)) == text


def test_a_subject_that_is_cut_anywhere_has_no_text_or_another():
    whole = certificate([(CN, "a.example")], [(ORG, "Goev")])
    for size in range(len(whole)):
        subject_of(whole[:size])
    for place in range(len(whole)):
        subject_of(whole[:place] + b"\xff" + whole[place + 1 :])
    assert subject_of(b"") is None


@pytest.mark.parametrize("has_certificate", [True, False])
def test_a_scope_has_the_certificates_of_its_client(stack, events, tmp_path, has_certificate):
    root = Authority()
    own, client = root.issue("localhost"), root.intermediate().issue("client.example", purpose="client")
    tls = goev.tls.ServerContext(own.chain, own.key, client_ca=root.pem, client_certificates="optional")
    server = Server(stack, site(scope_of(events)), asyncio=True, tls=tls)
    context = ssl.create_default_context(cadata=root.pem.decode())
    if has_certificate:
        context.load_cert_chain(*client.files(tmp_path, "client"))
    with Client(server.address) as raw, context.wrap_socket(raw.socket, server_hostname="localhost") as wrapped:
        wrapped.sendall(get())
        extension = events.until("scope")[1]["extensions"]["tls"]
    chain = [ssl.PEM_cert_to_DER_cert(text) for text in extension["client_cert_chain"]]
    assert extension["client_cert_error"] is None
    if has_certificate:
        assert chain[0] == client.der
        assert len(chain) == 2
        assert extension["client_cert_name"] == client.certificate.subject.rfc4514_string() == "CN=client.example"
    else:
        assert (chain, extension["client_cert_name"]) == ([], None)
