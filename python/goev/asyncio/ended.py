"""The end of a channel, as an exception."""

from goev._core import ConnectionClosed


class ChannelClosed(ConnectionClosed, EOFError):
    """The stream of a channel has ended, so it gives or takes no more.

    One class for every end: ``__cause__`` is the exception that ended the connection, ``ConnectionResetError`` say, and
    ``None`` after an orderly end. It is a ``goev.ConnectionClosed``, as the methods of connections raise, and an
    ``EOFError``, as ``asyncio.IncompleteReadError`` is.
    """

    partial: bytes = b""
    """The last bytes, which were fewer than ``read_exactly`` or ``read_until`` asked for; they are taken."""
