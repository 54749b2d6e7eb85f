"""Records as they come: cut anywhere, of every size, with new keys and alerts between them; and the ends of streams."""

import hashlib
import socket
import ssl
import subprocess
from contextlib import suppress

import pytest

import goev
import goev.http
from support import PATIENCE, Recorder, eventually, in_thread, need, on_poller, settle
from tls_support import BIG, VERSIONS, Echo, Hashes, Peer, accepting, serving, trusting

each_version = pytest.mark.parametrize("version", VERSIONS)


class Told(Recorder):
    """Reports everything."""

    def on_open(self):
        self.events("open", self)

    def on_eof(self):
        self.events("eof")

    def on_connect_fail(self, error):
        self.events("connect_fail", error)


# --- cut anywhere ---


@each_version
def test_ciphertext_may_come_byte_by_byte(serve, reactor, root, version):
    """Each byte is read by itself: the poller turns before the next is sent."""
    acceptor = serve(Echo)
    with Peer.to(acceptor.address, trusting(root, version=version), paced=lambda: settle(reactor, 1)) as client:
        for size in (1, 100, 2000):
            assert client.ask(BIG[:size]) == BIG[:size]


@each_version
def test_ciphertext_may_come_byte_by_byte_to_a_client(reactor, root, identity, tmp_path, events, version):
    def serve(accept):
        with accept() as peer:
            peer.shake_hands()
            peer.send(BIG[:2000])
            peer.say_close()
            return peer.receive_all()

    context = serving(identity, tmp_path, version=version)
    with accepting(context, paced=lambda: settle(reactor, 1)) as (address, accept):
        served = in_thread(serve, accept)
        goev.connect(reactor, address, Told(events), tls=goev.tls.ClientContext(ca=root.pem))
        client = events.until("open")[1]
        events.until("eof")
        assert b"".join(data for _, data in events.of("read")) == BIG[:2000]
        on_poller(client, client.close)
        assert served.result(PATIENCE) == b""
        assert events.until("close")[1] is None


@each_version
@pytest.mark.parametrize("size", [1, 2, 16_383, 16_384, 16_385])
def test_records_of_each_size_arrive_whole(serve, root, version, size):
    """Of one byte up to the greatest, many in a packet."""
    count = 2000 if size < 10 else 20
    parts = [BIG[at : at + size] for at in range(count)]
    with Peer.to(serve(Hashes).address, trusting(root, version=version)) as client:
        for part in parts:
            client.tls.write(part[:16_384])
            if part[16_384:]:
                client.tls.write(part[16_384:])
        client.push()
        client.say_close()
        assert client.receive_all() == hashlib.sha256(b"".join(parts)).digest()


@each_version
def test_our_records_are_as_large_as_they_may_be(serve, root, version):
    """16 KiB each: fewer would cost more, larger ones break the rules."""

    class Sends(goev.Connection):
        def on_open(self):
            self.write(bytes(163_840))
            self.close()

    with Peer.to(serve(Sends).address, trusting(root, version=version)) as client:
        # The first of them may have come with the handshake.
        ciphertext = client.coming.read() + b"".join(iter(lambda: client.socket.recv(1 << 20), b""))
    sizes, at = [], 0
    while at < len(ciphertext):
        kind, size = ciphertext[at], int.from_bytes(ciphertext[at + 3 : at + 5], "big")
        at += 5 + size
        if kind == 23 and size > 1000:
            sizes.append(size)
    assert len(sizes) == 10
    assert max(sizes) <= 16_384 + 256


# --- key updates ---


def test_openssl_changes_its_keys_amid_the_data(serve, root, tmp_path):
    """``k`` sends a KeyUpdate; ``K`` asks for one of ours, too."""
    (tmp_path / "ca.pem").write_bytes(root.pem)
    host, port = serve(Echo).address
    command = [need("openssl"), "s_client", "-connect", f"{host}:{port}", "-servername", "localhost", "-tls1_3"]
    command += ["-CAfile", tmp_path / "ca.pem"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as client:
        seen = []

        def told(words):
            for line in client.stdout:
                seen.append(line.decode(errors="replace"))
                if words in seen[-1]:
                    return
            pytest.fail("".join(seen))

        try:
            for number in range(6):
                client.stdin.write(b"hello %d\n" % number)
                client.stdin.flush()
                in_thread(told, f"hello {number}").result(PATIENCE)
                client.stdin.write(b"K\n" if number % 2 else b"k\n")
                client.stdin.flush()
                in_thread(told, "KEYUPDATE").result(PATIENCE)
        finally:
            client.kill()


# --- close_notify and ends ---


@each_version
@pytest.mark.parametrize("size", [1, 16_384, 100_000])
def test_an_end_in_the_same_packet_as_data_is_told(serve, root, events, version, size):
    """The socket itself has no end then, and is never readable again."""
    with Peer.to(serve(lambda: Told(events)).address, trusting(root, version=version)) as client:
        server = events.until("open")[1]
        for at in range(0, size, 16_384):
            client.tls.write(BIG[at : min(at + 16_384, size)])
        client.say_close()
        events.until("eof")
        assert b"".join(data for _, data in events.of("read")) == BIG[:size]
        on_poller(server, server.close)
        assert client.receive_all() == b""
        assert events.until("close")[1] is None


@each_version
def test_what_comes_behind_close_notify_is_ignored(serve, root, events, version):
    with Peer.to(serve(lambda: Told(events)).address, trusting(root, version=version)) as client:
        server = events.until("open")[1]
        client.tls.write(b"hello")
        # A record that was encrypted before the end, and noise.
        client.push()
        client.say_close()
        client.socket.sendall(b"\x17\3\3\0\x20" + bytes(32) + b"noise" * 1000)
        assert events.until("read")[1] == b"hello"
        events.until("eof")
        on_poller(server, server.write, b"bye")
        on_poller(server, server.close)
        assert client.receive_all() == b"bye"
        assert events.until("close")[1] is None
    assert [event[0] for event in events.history] == ["open", "read", "eof", "close"]


@each_version
def test_our_half_close_leaves_the_other_direction(serve, root, events, version):
    class Half(Told):
        def on_open(self):
            super().on_open()
            self.write(b"that is all")
            self.shutdown_write()

    with Peer.to(serve(lambda: Half(events)).address, trusting(root, version=version)) as client:
        assert client.receive_all() == b"that is all"
        for number in range(5):
            client.send(b"%d" % number)
            assert events.until("read")[1] == b"%d" % number
        client.say_close()
        events.until("eof")
        assert events.until("close")[1] is None, "both sides have finished"


@each_version
def test_the_half_close_of_a_peer_leaves_our_direction(serve, root, events, version):
    with Peer.to(serve(lambda: Told(events)).address, trusting(root, version=version)) as client:
        server = events.until("open")[1]
        client.say_close()
        events.until("eof")
        for number in range(5):
            server.write(b"%d" % number)
            assert client.receive(1) == b"%d" % number
        server.write(BIG)
        server.close()
        assert client.receive_all() == BIG
        assert events.until("close")[1] is None


@each_version
def test_both_directions_of_a_client_of_ours_end_by_themselves(reactor, root, identity, tmp_path, events, version):
    class Half(Told):
        def on_open(self):
            super().on_open()
            self.write(b"question")
            self.shutdown_write()

    def serve(accept):
        with accept() as peer:
            peer.shake_hands()
            question = peer.receive_all()
            peer.send(question + b" answered")
            peer.say_close()

    with accepting(serving(identity, tmp_path, version=version)) as (address, accept):
        served = in_thread(serve, accept)
        goev.connect(reactor, address, Half(events), tls=goev.tls.ClientContext(ca=root.pem))
        assert events.until("read")[1] == b"question answered"
        events.until("eof")
        served.result(PATIENCE)
        assert events.until("close")[1] is None


@each_version
def test_close_says_close_notify_behind_the_output(serve, root, version):
    class Closes(goev.Connection):
        def on_read(self):
            self.read()
            self.write(b"bye")
            self.close()

    with Peer.to(serve(Closes).address, trusting(root, version=version)) as client:
        client.send(b"x")
        assert client.receive_all() == b"bye"


@each_version
def test_abort_says_no_close_notify(serve, root, events, version):
    """A stream that was cut must not look whole."""
    with Peer.to(serve(lambda: Told(events)).address, trusting(root, version=version)) as client:
        server = events.until("open")[1]
        on_poller(server, server.abort)
        with pytest.raises((ssl.SSLEOFError, ConnectionError)):
            client.receive_all()


# --- cut streams ---


@each_version
@pytest.mark.parametrize("end", ["fin", "fin amid a record", "alert"])
def test_a_cut_stream_is_no_end(serve, root, events, version, end):
    with Peer.to(serve(lambda: Told(events)).address, trusting(root, version=version)) as client:
        client.send(b"hello")
        assert events.until("read")[1] == b"hello"
        if end == "fin amid a record":
            client.tls.write(b"the rest")
            client.socket.sendall(client.going.read()[:-1])
        elif end == "alert":
            client.socket.sendall(b"\x15\3\3\0\2\1\0")  # close_notify of somebody without the key
        with suppress(OSError):  # behind the alert the server may have gone first
            client.socket.shutdown(socket.SHUT_WR)
        error = events.until("close")[1]
    assert type(error) is (goev.tls.Error if end == "alert" else goev.tls.TruncatedError), error
    assert [event[0] for event in events.history] == ["open", "read", "close"]


@each_version
def test_a_cut_stream_is_no_end_for_a_client_of_ours(reactor, root, identity, tmp_path, events, version):
    def serve(accept):
        with accept() as peer:
            peer.shake_hands()
            peer.send(b"half of it")
            peer.socket.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                peer.socket.recv(1 << 16)

    with accepting(serving(identity, tmp_path, version=version)) as (address, accept):
        served = in_thread(serve, accept)
        goev.connect(reactor, address, Told(events), tls=goev.tls.ClientContext(ca=root.pem))
        assert events.until("read")[1] == b"half of it"
        error = events.until("close")[1]
        served.result(PATIENCE)
    assert type(error) is goev.tls.TruncatedError
    assert "eof" not in events.names


@each_version
def test_a_reset_is_a_reset(serve, root, events, version):
    with Peer.to(serve(lambda: Told(events)).address, trusting(root, version=version)) as client:
        events.until("open")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert isinstance(events.until("close")[1], ConnectionResetError)


# --- floods and idle connections ---


@each_version
def test_a_slow_reader_gets_everything(serve, root, version):
    """The ciphertext of one batch goes out in many parts."""

    class Sends(goev.Connection):
        def on_open(self):
            self.write(BIG)
            self.close()

    acceptor = serve(Sends, send_buffer_size=4096)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(acceptor.address)
    with Peer(sock, trusting(root, version=version), server_hostname="localhost") as client:
        client.shake_hands()
        digest = hashlib.sha256()
        while part := client.read(4096):
            digest.update(part)
    assert digest.digest() == hashlib.sha256(BIG).digest()


@each_version
def test_both_directions_at_once_with_small_buffers(serve, reactor, root, version):
    acceptor = serve(Echo, send_buffer_size=4096, receive_buffer_size=4096)
    with Peer.to(acceptor.address, trusting(root, version=version)) as client:
        data, got = BIG[:1_000_000], b""
        for at in range(0, len(data), 50_000):
            client.send(data[at : at + 50_000])
            got += client.receive(50_000)
        assert got == data
    eventually(lambda: reactor.stats()[0]["open"] == 0, "the connection is gone")
