"""The certificate of all servers over TLS, and clients that trust any."""

import ssl
from functools import cache

from harness.programs import BUILD, Command, run

CERTIFICATE = BUILD / "certificate.pem"
KEY = BUILD / "key.pem"
SUBJECT = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")


@cache
def arguments() -> Command:
    """The command line that gives a server its certificate: ECDSA P-256, signed by itself, made once in a run."""
    BUILD.mkdir(exist_ok=True)
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "30")
    command = ("openssl", "req", "-x509", *kind, *SUBJECT, "-keyout", KEY, "-out", CERTIFICATE)
    run(command, "openssl could not make a certificate (Debian: apt-get install openssl)")
    return ["--certificate", str(CERTIFICATE), "--key", str(KEY)]


@cache
def client_context() -> ssl.SSLContext:
    """For the checks of a server; TLS 1.3 only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_context() -> ssl.SSLContext:
    """For the check of a client; any version."""
    arguments()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context
