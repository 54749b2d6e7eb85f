"""The subjects of a cluster, and their spelling for engines with narrower names."""

from urllib.parse import quote

NODES = "nodes"
MOST = 256  # characters of a name


def of_group(name: str) -> str:
    return f"g:{name}"


def of_presence(name: str) -> str:
    return f"p:{name}"


def of_name(name: str) -> str:
    return f"c:{name}"


def of_node(node: str) -> str:
    return f"n:{node}"


def check_name(what: str, name: str) -> str:
    """Raise TypeError or ValueError for a name that cannot be one of a group or a connection."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be str, not {type(name).__name__}")
    if not 0 < len(name) <= MOST:
        raise ValueError(f"{what} must have 1 to {MOST} characters, not {len(name)}")
    return name


def spelled(subject: str) -> str:
    """A subject in letters, digits, ``_``, ``-``, ``~`` and ``%``: without the dots, stars and spaces of NATS."""
    return quote(subject, safe="", errors="surrogatepass").replace(".", "%2E")
