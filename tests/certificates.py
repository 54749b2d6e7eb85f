"""Certificates of every kind, made while the tests run.

An ``Authority`` is a CA, a root or an intermediate one; ``issue`` makes an ``Identity``, a certificate with its key::

    root = Authority()
    server = root.issue("a.example", "*.b.example", "127.0.0.1")
    goev.tls.ServerContext(*server.files(tmp_path))
    goev.tls.ClientContext(ca=root.pem)
"""

import datetime
import ipaddress
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = CertificateIssuerPrivateKeyTypes

MAKERS = {
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "rsa4096": lambda: rsa.generate_private_key(65537, 4096),
    # Kinds that have no use in TLS here.
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "ed448": ed448.Ed448PrivateKey.generate,
    "dsa": lambda: dsa.generate_private_key(2048),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
}
GOOD_KINDS = ["ecdsa", "p384", "p521", "ed25519", "rsa", "rsa4096"]
BAD_KINDS = ["rsa1024", "ed448", "dsa", "secp256k1"]

PURPOSES = {
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "code": [ExtendedKeyUsageOID.CODE_SIGNING],
    "none": [],
}

SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@cache
def key_of(kind: str, number: int = 0) -> Key:
    """A key of this kind; the same one for the same number, because RSA keys take long to make."""
    return MAKERS[kind]()


def key_pem(key: Key, *, form: str = "PKCS8", password: bytes | None = None) -> bytes:
    """A private key in PEM: PKCS8 or TraditionalOpenSSL, encrypted if there is a password."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption)


def public_pem(key: Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Identity:
    """A certificate, the key of it, and the chain to its root without the root."""

    def __init__(self, certificate: x509.Certificate, key: Key, above: tuple[x509.Certificate, ...] = ()) -> None:
        self.certificate = certificate
        self.private_key = key
        self.above = above

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def chain(self) -> bytes:
        """The certificate and the intermediate ones, as a server sends them."""
        return self.pem + b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self.above)

    @property
    def key(self) -> bytes:
        return key_pem(self.private_key)

    def files(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """Writes chain and key to two files; returns their paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.chain)
        key.write_bytes(self.key)
        return certificate, key


def names_of(names: tuple[str, ...]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def build(
    subject: str,
    key: Key,
    *names: str,
    issuer: Identity | None = None,
    ca: bool = False,
    starts: float = -1.0,
    ends: float = 30.0,
    purpose: str = "server",
) -> x509.Certificate:
    """A certificate; self-signed without an issuer. It is valid between two times in days from now."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    signer = issuer.private_key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=starts))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if ca:
        builder = builder.add_extension(SIGNS_CERTIFICATES, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names_of(names)), critical=False)
    if PURPOSES[purpose] and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(PURPOSES[purpose]), critical=False)
    is_edwards = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(signer, None if is_edwards else hashes.SHA256())


class Authority(Identity):
    """A CA that issues certificates."""

    def __init__(
        self, name: str = "Root of the tests", *, issuer: "Authority | None" = None, kind: str = "ecdsa"
    ) -> None:
        key = MAKERS[kind]()
        certificate = build(name, key, issuer=issuer, ca=True, ends=365.0)
        above = (certificate, *issuer.above) if issuer else ()
        super().__init__(certificate, key, above)

    def intermediate(self, name: str = "Intermediate of the tests") -> "Authority":
        """A CA below this one. Identities that it issues have its certificate in their chain."""
        return Authority(name, issuer=self)

    def issue(
        self,
        *names: str,
        kind: str = "ecdsa",
        number: int = 0,
        starts: float = -1.0,
        ends: float = 30.0,
        purpose: str = "server",
        ca: bool = False,
    ) -> Identity:
        """A certificate for host names, wildcards and IP addresses, with its key.

        Args:
            kind, number: the key, one of ``MAKERS``; those with the same number are the same.
            starts, ends: days from now; ``ends=-0.5`` has expired, ``starts=1`` is not valid yet.
            purpose: one of ``PURPOSES``.
            ca: whether it is marked as a CA's, which is wrong for a server.
        """
        key = key_of(kind, number)
        subject = names[0] if names else "nobody"
        certificate = build(subject, key, *names, issuer=self, ca=ca, starts=starts, ends=ends, purpose=purpose)
        return Identity(certificate, key, self.above)


def self_signed(*names: str, ca: bool = False, kind: str = "ecdsa", purpose: str = "server") -> Identity:
    """A certificate without a CA; with ``ca`` as ``openssl req -x509`` makes it."""
    key = key_of(kind)
    return Identity(build(names[0], key, *names, ca=ca, purpose=purpose), key)
