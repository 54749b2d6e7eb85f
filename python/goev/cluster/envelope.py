"""The bytes of a message between machines: a head of 18 bytes, and a body.

No sockets, threads or clocks in here. The head is the version, the kind, the sender, and a number that the sender
counts: the receivers know by it what they have had.
"""

import json
from enum import IntEnum
from itertools import count
from struct import Struct
from typing import Any, NamedTuple

VERSION = 1
HEAD = Struct(">BB8sQ")
LIFE = 1 << 36  # numbers of one object; those of a later object for the same group are greater

lives = count(1)


class Kind(IntEnum):
    """The meaning of a body; odd ones of a pair are text."""

    BYTES = 0
    TEXT = 1
    CALL_BYTES = 2
    CALL_TEXT = 3
    ANSWER_BYTES = 4
    ANSWER_TEXT = 5
    FAILURE = 6
    TELL_BYTES = 8
    TELL_TEXT = 9
    NODE = 16
    PRESENCE = 18


KINDS = {int(kind): kind for kind in Kind}  # the call `Kind(number)` takes longer


class Envelope(NamedTuple):
    """A message between machines."""

    kind: Kind
    sender: bytes
    number: int
    body: bytes

    @property
    def message(self) -> str | bytes:
        """The body as its kind says: text or bytes."""
        return self.body.decode(errors="surrogatepass") if self.kind & 1 else self.body


def new_life() -> int:
    """The number before the first one of a new object. A program may drop a group, and make it again."""
    return next(lives) * LIFE


def missed_between(last: int, number: int) -> int:
    """How many messages are missing between two of a sender. The end of an earlier life is not known."""
    return number - last - 1 if number // LIFE == last // LIFE else number % LIFE - 1


def sealed(kind: int, sender: bytes, number: int, body: bytes) -> bytes:
    """The bytes of an envelope."""
    return HEAD.pack(VERSION, kind, sender, number) + body


def sealed_message(kind: Kind, sender: bytes, number: int, message: str | bytes) -> bytes:
    """The bytes of an envelope of ``kind``, or of the kind beside it for text."""
    if isinstance(message, str):
        return sealed(kind + 1, sender, number, message.encode(errors="surrogatepass"))
    return sealed(kind, sender, number, message)


def content_of(body: bytes) -> Any:
    """The JSON in a body. Raises ValueError: there is none, or it is nested too deeply."""
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def opened(data: bytes) -> Envelope:
    """Read an envelope.

    Raises ValueError: the bytes are none, or those of another version.
    """
    if len(data) < HEAD.size:
        raise ValueError(f"{len(data)} bytes are too few for a message between machines")
    version, kind, sender, number = HEAD.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"version {version} of messages between machines is unknown; this is version {VERSION}")
    if kind not in KINDS:
        raise ValueError(f"the kind {kind} of messages between machines is unknown")
    return Envelope(KINDS[kind], sender, number, data[HEAD.size :])
