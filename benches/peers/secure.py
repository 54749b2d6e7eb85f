"""The TLS of a server: the certificate and key that its command line names, and TLS 1.3 only."""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import goev


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--certificate", type=Path, help="PEM file; with it the server speaks TLS")
    parser.add_argument("--key", type=Path, help="PEM file")


def python_context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if arguments.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(arguments.certificate, arguments.key)
    return context


def goev_context(arguments: argparse.Namespace) -> goev.tls.ServerContext | None:
    if arguments.certificate is None:
        return None
    import goev  # only where it is installed

    return goev.tls.ServerContext(arguments.certificate, arguments.key, minimum_version="TLSv1.3")
