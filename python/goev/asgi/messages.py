"""Errors of the messages that an application sends."""

from collections.abc import Mapping


def without_type(message: object) -> Exception:
    """The error of a message whose ``type`` cannot be read."""
    if isinstance(message, Mapping):
        return ValueError("an ASGI message has no 'type'")
    return TypeError(f"an ASGI message must be a dict, not {type(message).__name__}")


def unexpected(kind: str, expected: str) -> RuntimeError:
    """The error of a message that may not come now."""
    return RuntimeError(f"unexpected ASGI message {kind!r}: expected {expected}")
