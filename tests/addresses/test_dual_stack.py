"""``"*:port"`` is one socket for both versions of IP; peers of IPv4 have IPv4 addresses."""

import errno
import platform
import socket

import pytest

import goev
from support import Client, Echo, Recorder, need_ipv6, on_poller, run_script


class Ends(Recorder):
    def on_open(self):
        self.events("open", self.local_address, self.remote_address)


def test_both_versions_of_ip_are_served_by_one_socket(start, events):
    need_ipv6()
    server = start(lambda: Ends(events), address="*:0")
    port = server.acceptor.address[1]
    assert server.acceptor.addresses == [("::", port, 0, 0)]
    for address in (("127.0.0.1", port), ("::1", port, 0, 0)):
        with Client(address) as client:
            assert events.until("open")[1:] == (client.socket.getpeername(), client.socket.getsockname())


def test_its_port_is_taken_for_both_versions(start):
    need_ipv6()
    port = start(Echo, address="*:0").acceptor.address[1]
    for taken in (f"127.0.0.1:{port}", f"[::1]:{port}", f"*:{port}"):
        with goev.Reactor(pollers=1) as reactor, pytest.raises(OSError, match=r"cannot listen on") as raised:
            goev.Acceptor(reactor, taken, Echo)
        assert raised.value.errno == errno.EADDRINUSE


def test_with_reuse_port_each_poller_has_such_a_socket(start):
    need_ipv6()
    server = start(Echo, address="*:0", reuse_port=True, pollers=2)
    port = server.acceptor.address[1]
    for address in [("127.0.0.1", port), ("::1", port, 0, 0)] * 32:  # all on one side has a chance of 2 ** -63
        with Client(address) as client:
            assert client.ask(b"x") == b"x"
    assert all(poller["accepted"] for poller in server.reactor.stats())


def test_a_limit_for_each_address_counts_a_peer_of_ipv4_by_its_address(start):
    """Otherwise all IPv4 peers would be of one IPv6 network of 64 bits."""
    need_ipv6()
    server = start(Echo, address="*:0", max_connections_per_address=1)
    port = server.acceptor.address[1]
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.settimeout(10)
        with Client(("127.0.0.1", port)) as client:
            assert client.ask(b"x") == b"x"
            other.connect(("127.0.0.1", port))
            other.sendall(b"y")
            assert other.recv(1) == b"y"


def test_a_socket_of_the_user_for_both_versions_shows_ipv4_peers_as_such(start, events):
    need_ipv6()
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        start(lambda: Ends(events), address=both)
        with Client(("127.0.0.1", both.getsockname()[1])) as client:
            assert events.until("open")[1:] == (client.socket.getpeername(), client.socket.getsockname())


def test_a_connection_to_a_mapped_address_shows_ipv4(start, events):
    need_ipv6()
    server = start(Echo)
    host, port = server.acceptor.address
    goev.connect(server.reactor, f"[::ffff:{host}]:{port}", Ends(events))
    _, local, remote = events.until("open")
    assert local[0] == "127.0.0.1"
    assert remote == (host, port)


WITHOUT_IPV6 = """
    import ctypes, platform, struct, sys
    import goev
    from socket import create_connection, socket, SOCK_DGRAM

    SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
    AF_INET6, EAFNOSUPPORT = 10, 97

    def statement(code, value, yes=0, no=0):
        return struct.pack("HBBI", code, yes, no, value)

    # Makes socket(AF_INET6, ...) fail as on a kernel without IPv6 (seccomp(2)).
    LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
    program = b"".join([
        statement(LOAD, 0), statement(EQUAL, SOCKET, 0, 3),  # the number of the system call
        statement(LOAD, 16), statement(EQUAL, AF_INET6, 0, 1),  # its first argument
        statement(RETURN, 0x00050000 | EAFNOSUPPORT), statement(RETURN, 0x7FFF0000),
    ])
    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    reactor = goev.Reactor(pollers=1)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(Program(len(program) // 8, program))):
        sys.exit(print("no seccomp"))

    class Echo(goev.Connection):
        def on_read(self):
            self.write(self.read())

    class Answers(goev.Datagram):
        def on_datagram(self, data, address):
            self.send_to(data, address)

    with reactor:
        acceptor, datagrams = goev.Acceptor(reactor, "*:0", Echo), Answers()
        datagrams.bind(reactor, "*:0")
        reactor.start()
        print(acceptor.address[0])
        with create_connection(("127.0.0.1", acceptor.address[1]), 10) as client:
            client.sendall(b"stream")
            print(client.recv(6).decode())
        with socket(type=SOCK_DGRAM) as client, socket(fileno=__import__("os").dup(datagrams.fileno())) as copy:
            client.settimeout(10)
            client.sendto(b"datagram", ("127.0.0.1", copy.getsockname()[1]))
            print(client.recv(8).decode())
        try:
            goev.Acceptor(reactor, "[::]:0", Echo)
        except OSError as error:
            print(error.errno == EAFNOSUPPORT)
"""


def test_on_a_machine_without_ipv6_it_is_every_ipv4_address():
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("the filter of system calls is written for x86-64 and AArch64")
    lines = run_script(WITHOUT_IPV6).split()
    if lines == ["no", "seccomp"]:
        pytest.skip("this system allows no filter of system calls")
    assert lines == ["0.0.0.0", "stream", "datagram", "True"]


@pytest.mark.parametrize(
    "use",
    [
        lambda reactor: goev.connect(reactor, "*:80", Echo()),
        lambda reactor: goev.Connector(reactor, local_address="*:0"),
        lambda reactor: goev.Datagram().bind(reactor, peer="*:80"),
    ],
    ids=["connect", "local_address", "peer"],
)
def test_it_is_no_address_of_one_end(idle, use):
    with pytest.raises(ValueError, match=r"\*:"):
        use(idle)


class Answers(goev.Datagram):
    def __init__(self, events):
        self.events = events

    def on_datagram(self, data, address):
        self.events("datagram", data, address)
        self.send_to(data, address)


def test_a_socket_for_datagrams_serves_both_versions_too(reactor, events):
    need_ipv6()
    handler = Answers(events)
    handler.bind(reactor, "*:0")
    port = on_poller(reactor, lambda: handler.local_address)[1]
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.bind((host, 0))
            client.sendto(b"x", (host, port))
            assert client.recv(10) == b"x"
            assert events.next() == ("datagram", b"x", client.getsockname())


def test_a_socket_for_both_versions_sends_to_plain_tuples_of_both(reactor, events):
    need_ipv6()
    handler = Answers(events)
    handler.bind(reactor, "*:0")
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.bind((host, 0))
            on_poller(reactor, handler.send_to, b"y", client.getsockname())
            assert client.recv(10) == b"y"
