"""HTTP/1.1 servers: subclass ``Connection``, and answer each ``Request``.

::

    import goev

    class Hello(goev.http.Connection):
        def on_request(self, request):
            request.respond(200, {"content-type": "text/plain"}, b"Hello!\\n")

    goev.serve(Hello, ":8080")
"""

from collections.abc import Mapping

from goev._core import Headers, Limits, ProtocolError, Request
from goev._core import HttpConnection as Connection

__all__ = ["Connection", "Headers", "Limits", "ProtocolError", "Request"]

Mapping.register(Headers)
