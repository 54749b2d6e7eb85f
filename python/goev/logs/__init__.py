"""Logs: the access log of HTTP, and log lines as text or JSON that no full pipe holds up.

``AccessLog`` goes to ``Acceptor(access_log=...)``. ``configure`` sets up the root logger of a service. Its parts serve
in a configuration of one's own: the formatters ``JsonFormatter`` and ``TextFormatter``, the handler ``StderrHandler``.
"""

from goev._core import AccessLog
from goev.logs.configuring import configure
from goev.logs.formatting import JsonFormatter, TextFormatter
from goev.logs.handler import StderrHandler

__all__ = ["AccessLog", "JsonFormatter", "StderrHandler", "TextFormatter", "configure"]
