"""Messages as senders pass them."""

from goev._core import MessageTooLong

PLAIN = (str, bytes)

Message = str | bytes | bytearray | memoryview


def plain_of(message: Message, most: int, what: str) -> str | bytes:
    """A message that no one can change any more.

    Raises MessageTooLong: it has more than ``most`` bytes.
    """
    plain = message if isinstance(message, str) else bytes(message)
    size = len(plain.encode(errors="surrogatepass")) if isinstance(plain, str) else len(plain)
    if size > most:
        raise MessageTooLong(f"{what} has {size} bytes, more than max_message={most}")
    return plain
