"""Finds methods of handler classes that look like callbacks and are none, since they would silently never be called.

Pure functions on classes. The native module calls ``check`` once for each class of handlers.

A method is reported when its name is

- a callback of another kind of handler: ``on_request`` of a ``goev.Connection``;
- a callback in another style: ``onRead``, ``OnRead``;
- what another library calls such a callback (``KNOWN``): ``data_received``, ``on_connected``;
- a callback with two letters swapped, one doubled or one left out: ``on_mesage``.

A method that the class uses by itself is its own business and is never reported: one that other methods of the class
name, and all of a class that looks names up with ``getattr``.
"""

import warnings
from collections.abc import Iterator
from types import CodeType, FunctionType

from goev._core import Connection, Datagram, EventHandler, HttpConnection, WebSocketConnection

_COMMON = {"on_open", "on_eof", "on_drain", "on_stopping", "on_timeout", "on_connect_fail", "on_close"}

# The callbacks of each kind of handler.
CALLBACKS = {
    "goev.Connection": _COMMON | {"on_read", "on_message", "on_messages"},
    "goev.http.Connection": _COMMON | {"on_request", "on_body", "on_answered"},
    "goev.websocket.Connection": _COMMON | {"on_message", "on_pong", "on_handshake"},
    "goev.EventHandler": {"on_read", "on_write", "on_close"},
    "goev.Datagram": {"on_open", "on_datagram", "on_error", "on_close"},
}

_KINDS: dict[type, str] = {
    Connection: "goev.Connection",
    HttpConnection: "goev.http.Connection",
    WebSocketConnection: "goev.websocket.Connection",
    EventHandler: "goev.EventHandler",
    Datagram: "goev.Datagram",
}

# The names of other libraries, without underscores and in lower case, and ours for them: the first that the kind has.
# asyncio, asyncore, Twisted, tornado, websockets, websocket-client, Autobahn, socketserver, gnet, Node.js, browsers.
KNOWN = {
    "connectionmade": ("on_open",),
    "onconnect": ("on_open",),
    "onconnected": ("on_open",),
    "onconnection": ("on_open",),
    "onconnectionmade": ("on_open",),
    "onopened": ("on_open",),
    "handleconnect": ("on_open",),
    "datareceived": ("on_read", "on_body", "on_message", "on_datagram"),
    "ondata": ("on_read", "on_body", "on_message", "on_datagram"),
    "ondatareceived": ("on_read", "on_body", "on_message", "on_datagram"),
    "onreceive": ("on_read", "on_body", "on_message", "on_datagram"),
    "onreceived": ("on_read", "on_body", "on_message", "on_datagram"),
    "onrecv": ("on_read", "on_body", "on_message", "on_datagram"),
    "onreadable": ("on_read",),
    "ontraffic": ("on_read", "on_request", "on_message", "on_datagram"),
    "handleread": ("on_read",),
    "linereceived": ("on_message",),
    "stringreceived": ("on_message",),
    "messagereceived": ("on_message",),
    "onmessagereceived": ("on_message",),
    "onmsg": ("on_message",),
    "datagramreceived": ("on_datagram",),
    "ondatagramreceived": ("on_datagram",),
    "onpacket": ("on_datagram",),
    "requestreceived": ("on_request",),
    "onrequestreceived": ("on_request",),
    "handlerequest": ("on_request",),
    "eofreceived": ("on_eof", "on_close"),
    "onend": ("on_eof",),
    "onwritable": ("on_drain", "on_write"),
    "onwrite": ("on_drain", "on_write"),
    "handlewrite": ("on_drain", "on_write"),
    "resumewriting": ("on_drain",),
    "connectionlost": ("on_close",),
    "onconnectionlost": ("on_close",),
    "onconnectionclose": ("on_close",),
    "onconnectionclosed": ("on_close",),
    "ondisconnect": ("on_close",),
    "ondisconnected": ("on_close",),
    "onclosed": ("on_close",),
    "handleclose": ("on_close",),
    "handleerror": ("on_error", "on_close"),
    "onerror": ("on_error", "on_close"),
    "errorreceived": ("on_error", "on_close"),
    "connectionfailed": ("on_connect_fail",),
    "clientconnectionfailed": ("on_connect_fail",),
    "onconnectfailed": ("on_connect_fail",),
    "onconnecterror": ("on_connect_fail",),
    "onconnectionfailed": ("on_connect_fail",),
}


def check(cls: type) -> None:
    """Warn (``RuntimeWarning``) of each method of ``cls`` that is never called, with the line of that method."""
    methods = _methods(cls)
    for name, callback, kind in suspects(cls):
        text = f"{cls.__module__}.{cls.__qualname__}.{name} is never called: "
        text += f"{kind} has {callback}" if kind == _kind(cls) else f"{callback} is a callback of {kind}"
        code = methods[name].__code__
        place = (code.co_filename, code.co_firstlineno, methods[name].__module__)
        warnings.warn_explicit(f"{text} [GOEV205]", RuntimeWarning, *place)


def suspects(cls: type) -> Iterator[tuple[str, str, str]]:
    """Methods of ``cls`` that look like callbacks: the name, the callback that was meant, and its kind of handler."""
    methods = _methods(cls)
    used = {name for method in methods.values() for name in _names(method.__code__)}
    if "getattr" in used:
        return
    kind = _kind(cls)
    for name in methods:
        if name not in CALLBACKS[kind] and name not in used and (meant := _meant(name, kind)) is not None:
            yield name, *meant


def _meant(name: str, kind: str) -> tuple[str, str] | None:
    plain = name.replace("_", "").lower()
    for callback in sorted(CALLBACKS[kind]):
        if plain == callback.replace("_", "") or _is_slip(name, callback):
            return callback, kind
    for callback in KNOWN.get(plain, ()):
        if callback in CALLBACKS[kind]:
            return callback, kind
    for other in CALLBACKS:
        if name in CALLBACKS[other]:
            return name, other
    return None


def _is_slip(name: str, callback: str) -> bool:
    """Two neighbours swapped, one letter doubled, or one left out that is not the first of its word.

    A letter is left out of long words only: ``on_pog`` may be a name, ``on_mesage`` is none.
    """
    pairs = range(len(callback) - 1)
    swapped = {callback[:at] + callback[at + 1] + callback[at] + callback[at + 2 :] for at in pairs}
    doubled = {callback[: at + 1] + callback[at:] for at in range(len("on_"), len(callback))}
    missing = {callback[:at] + callback[at + 1 :] for at in range(len("on_x"), len(callback))}
    return name != callback and name in swapped | doubled | (missing if len(callback) >= len("on_close") else set())


def _kind(cls: type) -> str:
    return next(_KINDS[base] for base in cls.__mro__ if base in _KINDS)


def _methods(cls: type) -> dict[str, FunctionType]:
    """The plain functions that ``cls`` and its bases outside of goev define."""
    bases = [base for base in reversed(cls.__mro__) if base.__module__.partition(".")[0] != "goev"]
    return {name: value for base in bases for name, value in vars(base).items() if isinstance(value, FunctionType)}


def _names(code: CodeType) -> Iterator[str]:
    """The names of attributes and globals that the code uses, in nested functions too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
