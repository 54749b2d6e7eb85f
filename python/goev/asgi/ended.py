"""The exceptions."""


class ClientDisconnected(OSError):
    """``send`` was called when the client had gone away. An application that ends with it is not in error."""


class LifespanFailed(RuntimeError):
    """The application has said that it could not start, or not end in order; with its message."""
