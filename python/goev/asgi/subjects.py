"""The subject of a certificate as text: a distinguished name in the form of RFC 4514."""

from collections.abc import Iterator

VERSION = 0xA0
SUBJECT = 4  # the place behind the serial number, the algorithm, the issuer and the validity
NAMES = {  # RFC 4514 section 3
    "2.5.4.3": "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
SPECIAL = frozenset('"+,;<>\\')


def subject_of(certificate: bytes) -> str | None:
    """The subject of a DER certificate. The last part of its name comes first (RFC 4514 section 2.1).

    ``None`` if it cannot be read: a CA may have signed a name that rustls does not look into.
    """
    try:
        (whole,) = _contents(certificate)
        fields = [content for tag, content, _ in _elements(_contents(whole)[0]) if tag != VERSION]
        parts = ["+".join(map(_attribute, _contents(part))) for part in _contents(fields[SUBJECT])]
    except (IndexError, ValueError):
        return None
    return ",".join(reversed(parts))


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The elements of a constructed value: of each its tag, its content, and both with the length."""
    begin = 0
    while begin < len(data):
        tag, length, at = data[begin], data[begin + 1], begin + 2
        if length & 0x80:
            more = at + (length & 0x7F)
            length, at = int.from_bytes(data[at:more]), more
        yield tag, data[at : at + length], data[begin : at + length]
        begin = at + length


def _contents(data: bytes) -> list[bytes]:
    return [content for _, content, _ in _elements(data)]


def _attribute(pair: bytes) -> str:
    """A type and its value. A type without a name stands as numbers, and its value in hexadecimal digits."""
    (_, identifier, _), (tag, value, whole) = _elements(pair)
    numbers = _numbers(identifier)
    if numbers in NAMES and tag in ENCODINGS:
        return f"{NAMES[numbers]}={_escaped(value.decode(ENCODINGS[tag], 'replace'))}"
    return f"{NAMES.get(numbers, numbers)}=#{whole.hex()}"


def _numbers(identifier: bytes) -> str:
    """An object identifier, ``2.5.4.3``."""
    found, number = list[int](), 0
    for byte in identifier:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            found.append(number)
            number = 0
    first = min(found[0] // 40, 2)
    return ".".join(map(str, [first, found[0] - 40 * first, *found[1:]]))


def _escaped(text: str) -> str:
    """The value of an attribute (RFC 4514 section 2.4)."""
    escaped = "".join(f"\\{each}" if each in SPECIAL else "\\00" if each == "\0" else each for each in text)
    if escaped[:1] in ("#", " "):
        escaped = "\\" + escaped
    return escaped[:-1] + "\\ " if text.endswith(" ") and len(text) > 1 else escaped
