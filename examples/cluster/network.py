"""The network of the example: each node in a network namespace of its own, as on a machine of its own, or all on ports.

Namespaces are for root, and need ``ip`` of iproute2. A bridge joins the nodes with the engine and the balancer. The end
of the program removes everything.
"""

import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """The place of a node.

    Attributes:
        host: the address on which it listens.
        prefix: the words before its command.
    """

    host: str
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """The places of the nodes, and ``host``, the address of the engine and the balancer for them."""

    host: str
    places: list[Place]


def on_ports(count: int) -> Network:
    """All nodes on the loopback address of this machine."""
    return Network(LOOPBACK, [Place(LOOPBACK)] * count)


def in_namespaces(stack: ExitStack, count: int) -> Network:
    """Each node in a namespace of its own.

    Raises OSError: this user may not make namespaces, or the kernel has none.
    """
    name, net = f"goev{os.getpid() % 100_000}", f"10.212.{os.getpid() % 256}"
    if shutil.which("ip") is None:
        raise OSError("ip of iproute2 is not installed")
    try:
        _made(stack, "link", name, "type", "bridge")
        _run("address", "add", f"{net}.1/24", "dev", name)
        _run("link", "set", name, "up")
        for number in range(2, 2 + count):
            _join(stack, name, number, f"{net}.{number}")
    except subprocess.CalledProcessError as error:
        raise OSError(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from error
    prefixes = (("ip", "netns", "exec", f"{name}-{number}") for number in range(2, 2 + count))
    places = [Place(f"{net}.{number}", prefix) for number, prefix in enumerate(prefixes, 2)]
    return Network(f"{net}.1", places)


def _join(stack: ExitStack, bridge: str, number: int, address: str) -> None:
    """Make a namespace with an address on the bridge."""
    namespace, port = f"{bridge}-{number}", f"{bridge}.{number}"
    _made(stack, "netns", namespace)
    _run("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    _run("link", "set", port, "master", bridge, "up")
    _run("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _run("-n", namespace, "link", "set", device, "up")


def _made(stack: ExitStack, kind: str, name: str, *options: str) -> None:
    """Add an object that the end of the program removes."""
    _run(kind, "add", name, *options)
    stack.callback(_run, kind, "delete", name)


def _run(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
