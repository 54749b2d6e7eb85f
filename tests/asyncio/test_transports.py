"""The socket transports of the loop: two paths are goev's, and all that a program sees is as on asyncio's own loop."""

import asyncio
import contextlib
import contextvars
import errno
import os
import socket
import struct

import pytest

import goev.asyncio
from goev.asyncio.transports import SocketTransport
from support import PATIENCE

value: contextvars.ContextVar[str] = contextvars.ContextVar("value", default="none")


@pytest.fixture(params=[asyncio.SelectorEventLoop, goev.asyncio.EventLoop], ids=["asyncio", "goev"])
def run(request):
    """Runs a coroutine function on either loop, with a limit."""

    async def limited(main):
        async with asyncio.timeout(PATIENCE):
            return await main()

    with asyncio.Runner(loop_factory=request.param) as runner:
        yield lambda main: runner.run(limited(main))


class Notes(asyncio.Protocol):
    """Keeps all that a protocol is told, and gives it to the test as it comes."""

    def __init__(self):
        self.told = asyncio.Queue()
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        self.told.put_nowait("data")

    def eof_received(self):
        self.told.put_nowait("eof")
        return True

    def pause_writing(self):
        self.told.put_nowait("pause")

    def resume_writing(self):
        self.told.put_nowait("resume")

    def connection_lost(self, error):
        self.error = error
        self.told.put_nowait(("lost", type(error)))

    async def until(self, told):
        while await self.told.get() != told:
            pass

    async def received(self, count):
        while len(self.data) < count:
            await self.until("data")
        return self.data


class Buffered(asyncio.BufferedProtocol):
    """Has a small buffer of its own, and gives the test what comes into it."""

    def __init__(self):
        self.room, self.told = bytearray(5), asyncio.Queue()

    def get_buffer(self, hint):
        return self.room

    def buffer_updated(self, count):
        self.told.put_nowait(bytes(self.room[:count]))


async def pair(make=Notes):
    """A protocol over one end of a connection, and the socket of the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs = listener.accept()[0]
    theirs.settimeout(PATIENCE)
    ours.setblocking(False)
    transport, protocol = await asyncio.get_running_loop().create_connection(make, sock=ours)
    return transport, protocol, theirs


def in_thread(function, *args):
    return asyncio.get_running_loop().run_in_executor(None, function, *args)


def receive(peer, count):
    """Exactly so many bytes."""
    parts = []
    while count > 0:
        parts.append(peer.recv(min(count, 1 << 20)))
        assert parts[-1]
        count -= len(parts[-1])
    return b"".join(parts)


def test_the_loop_makes_them():
    async def main():
        transport, _, peer = await pair()
        assert isinstance(transport, SocketTransport)
        assert isinstance(transport, asyncio.Transport)
        transport.close()
        peer.close()

    goev.asyncio.run(main())


def test_bytes_arrive_in_order_and_whole(run):
    data = os.urandom(3_000_000)

    async def main():
        transport, protocol, peer = await pair()
        sending = in_thread(peer.sendall, data)
        assert await protocol.received(len(data)) == data
        await sending
        peer.close()
        transport.close()
        await protocol.until(("lost", type(None)))

    run(main)


def test_more_than_the_socket_takes_is_sent_later_and_in_order(run):
    data = os.urandom(20_000_000)

    async def main():
        transport, protocol, peer = await pair()
        transport.write(data[:9_000_000])  # a part goes out, the rest waits
        assert 0 < transport.get_write_buffer_size() < 9_000_000
        transport.write(data[9_000_000:9_000_005])
        transport.write(bytearray(data[9_000_005:9_100_000]))
        transport.write(memoryview(data)[9_100_000:])
        await protocol.until("pause")
        receiving = in_thread(receive, peer, len(data))
        await protocol.until("resume")
        assert await receiving == data
        transport.close()
        peer.close()

    run(main)


def test_many_parts_at_once_pause_the_protocol():
    """asyncio's own transports do not from CPython 3.12.0 to 3.13.1 (CVE-2024-12254)."""

    async def main():
        transport, protocol, peer = await pair()
        transport.writelines([bytes(1_000_000)] * 20)
        assert transport.get_write_buffer_size() > 0
        async with asyncio.timeout(PATIENCE):
            await protocol.until("pause")
            receiving = in_thread(receive, peer, 20_000_000)
            await protocol.until("resume")
        await receiving
        transport.close()
        peer.close()

    goev.asyncio.run(main())


def test_the_end_of_the_stream(run):
    async def main():
        transport, protocol, peer = await pair()
        peer.sendall(b"last")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until("eof")
        assert protocol.data == b"last"
        transport.write(b"answer")
        transport.write_eof()
        assert await in_thread(receive, peer, 6) == b"answer"
        with pytest.raises(RuntimeError, match="write_eof"):
            transport.write(b"more")
        assert await in_thread(peer.recv, 1) == b""
        transport.close()
        peer.close()

    run(main)


@pytest.mark.parametrize("paused", [False, True])
def test_a_reset_is_the_error_of_the_end(run, paused):
    """Also if it is met by a write."""

    async def main():
        transport, protocol, peer = await pair()
        if paused:
            transport.pause_reading()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        if paused:
            while not transport.is_closing():
                transport.write(b"x")
                await asyncio.sleep(0.001)
            assert (await protocol.told.get())[1] in (ConnectionResetError, BrokenPipeError)
        else:
            await protocol.until(("lost", ConnectionResetError))
        assert protocol.error.errno in (errno.ECONNRESET, errno.EPIPE)
        assert protocol.error.strerror

    run(main)


def test_nothing_arrives_while_reading_is_paused(run):
    async def main():
        transport, protocol, peer = await pair()
        transport.pause_reading()
        peer.sendall(b"hello")
        await asyncio.sleep(0.02)  # it would be here by now
        assert protocol.data == b""
        transport.resume_reading()
        assert await protocol.received(5) == b"hello"
        transport.close()
        peer.close()

    run(main)


def test_another_protocol_takes_over(run):
    async def main():
        transport, first, peer = await pair()
        second = Notes()
        peer.sendall(b"one")
        await first.received(3)
        transport.set_protocol(second)
        peer.sendall(b"two")
        assert await second.received(3) == b"two"
        assert first.data == b"one"
        transport.close()
        peer.close()

    run(main)


def test_a_protocol_with_a_buffer_of_its_own(run):
    async def main():
        transport, protocol, peer = await pair(Buffered)
        peer.sendall(b"helloworld")
        data = await protocol.told.get()
        while len(data) < 10:
            data += await protocol.told.get()
        assert data == b"helloworld"
        transport.close()
        peer.close()

    run(main)


def test_an_exception_of_the_protocol_ends_the_connection_and_is_reported(run):
    class Wrong(Exception):
        pass

    class Raises(Notes):
        def data_received(self, data):
            raise Wrong

    async def main():
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        _, protocol, peer = await pair(Raises)
        peer.sendall(b"hello")
        await protocol.until(("lost", Wrong))
        (context,) = reported
        assert context["message"] == "Fatal error: protocol.data_received() call failed."
        assert isinstance(context["exception"], Wrong)
        assert context["protocol"] is protocol
        peer.close()

    run(main)


def test_an_interrupt_in_the_protocol_ends_the_loop(run):
    class Interrupts(Notes):
        def data_received(self, data):
            raise KeyboardInterrupt

    async def main():
        transport, protocol, peer = await pair(Interrupts)
        peer.sendall(b"hello")
        try:
            await protocol.until("never")
        finally:
            transport.close()
            peer.close()

    with pytest.raises(KeyboardInterrupt):
        run(main)


def test_the_protocol_runs_in_the_context_of_the_connect(run):
    class Looks(Notes):
        def data_received(self, data):
            super().data_received(value.get().encode())

    async def main():
        value.set("connected")
        transport, protocol, peer = await pair(Looks)
        value.set("later")
        peer.sendall(b"hello")
        assert await protocol.received(1) == b"connected"
        transport.close()
        peer.close()

    run(main)


@pytest.mark.parametrize("wrong", ["text", None, 5])
def test_only_bytes_can_be_written(run, wrong):
    async def main():
        transport, _, peer = await pair()
        with pytest.raises(TypeError, match=r"bytes-like|memoryview"):  # as the version of CPython says it
            transport.write(wrong)
        transport.write(b"")
        transport.write(b"fine")
        assert await in_thread(receive, peer, 4) == b"fine"
        transport.close()
        peer.close()

    run(main)


def test_a_transport_that_was_closed_sends_what_waits_and_nothing_more(run):
    data = os.urandom(5_000_000)

    async def main():
        transport, protocol, peer = await pair()
        transport.write(data)
        transport.close()
        assert await in_thread(receive, peer, len(data)) == data
        assert await in_thread(peer.recv, 1) == b""
        await protocol.until(("lost", type(None)))
        peer.close()

    run(main)


def test_a_transport_that_has_ended_writes_into_no_other_socket(run):
    """Its descriptor has been closed, and the next socket gets that number."""

    async def main():
        transport, protocol, peer = await pair()
        number = transport.get_extra_info("socket").fileno()
        transport.write(bytes(5_000_000))
        transport.close()
        receiving = in_thread(receive, peer, 5_000_000)
        await protocol.until(("lost", type(None)))
        await receiving
        peer.close()
        ours, theirs = socket.socketpair()
        assert number in (ours.fileno(), theirs.fileno())
        with contextlib.suppress(AttributeError):  # of asyncio's own transport
            transport.write(b"too late")
        with ours, theirs:
            for end in ours, theirs:
                with pytest.raises(BlockingIOError):
                    end.recv(1, socket.MSG_DONTWAIT)

    run(main)


def test_a_socket_that_was_closed_behind_the_transport_is_an_error_and_not_another_socket(run):
    async def main():
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        transport, protocol = await asyncio.get_running_loop().create_connection(Notes, sock=ours)
        await asyncio.sleep(0.001)
        ours.close()
        with peer, contextlib.ExitStack() as others:
            pairs = [others.enter_context(end) for _ in range(2) for end in socket.socketpair()]
            transport.write(b"secret")
            await protocol.until(("lost", OSError))
            assert protocol.error.errno == errno.EBADF
            for end in pairs:
                with pytest.raises(BlockingIOError):
                    end.recv(1, socket.MSG_DONTWAIT)

    run(main)


def test_a_subclass_of_the_socket_is_asked(run):
    class Counts(socket.socket):
        calls = 0

        def send(self, *args):
            self.calls += 1
            return super().send(*args)

        def recv(self, *args):
            self.calls += 1
            return super().recv(*args)

    async def main():
        ours, peer = socket.socketpair()
        counts = Counts(fileno=ours.detach())
        counts.setblocking(False)
        transport, protocol = await asyncio.get_running_loop().create_connection(Notes, sock=counts)
        transport.write(b"one")
        assert await in_thread(receive, peer, 3) == b"one"
        peer.sendall(b"two")
        assert await protocol.received(3) == b"two"
        assert counts.calls == 2
        transport.close()
        peer.close()

    run(main)


def test_a_protocol_may_pause_and_resume_another_transport_that_is_ready_too(run):
    """A proxy does. The other one has bytes in the same turn, and a buffer of its own, as TLS has."""

    async def main():
        class Pauses(asyncio.Protocol):
            def data_received(self, data):
                slow.pause_reading()
                slow.resume_reading()

        slow, buffered, slow_peer = await pair(Buffered)
        other, _, other_peer = await pair(Pauses)
        await asyncio.sleep(0.01)
        slow_peer.send(b"one")
        other_peer.send(b"x")
        assert await buffered.told.get() == b"one"
        slow_peer.send(b"two")
        assert await buffered.told.get() == b"two"
        assert slow.is_reading()
        for end in slow, other, slow_peer, other_peer:
            end.close()

    run(main)


def test_a_reader_that_a_callback_sets_anew_stays(run):
    async def main():
        loop, seen = asyncio.get_running_loop(), asyncio.Queue()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)

        def read(name):
            seen.put_nowait((name, ours.recv(10)))

        class Replaces(asyncio.Protocol):
            def data_received(self, data):
                loop.remove_reader(ours)
                loop.add_reader(ours, read, "new")

        transport, _, peer = await pair(Replaces)
        loop.add_reader(ours, read, "old")
        await asyncio.sleep(0.01)
        peer.send(b"x")
        theirs.send(b"one")
        assert (await seen.get())[1] == b"one"
        theirs.send(b"two")
        assert await seen.get() == ("new", b"two")
        loop.remove_reader(ours)
        for end in transport, peer, ours, theirs:
            end.close()

    run(main)


def test_a_number_that_is_used_again_has_not_the_readiness_of_the_one_before(run):
    """The first socket is ready for writing, the second one never connects."""

    async def main():
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        filling = [socket.socket() for _ in range(3)]
        for one in filling:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        for rounds in range(1, 8):
            ready, other = socket.socketpair()
            connecting = []

            def step(number, rounds=rounds, ready=ready, connecting=connecting):
                if number == 10:
                    loop.add_writer(ready, lambda: None)
                if number == 10 + rounds:
                    loop.remove_writer(ready)
                    with socket.socket() as second:
                        os.dup2(second.fileno(), ready.fileno())
                    second = socket.socket(fileno=ready.detach())
                    second.setblocking(False)
                    task = loop.create_task(loop.sock_connect(second, listener.getsockname()))
                    connecting.extend([second, task])
                if number < 25:
                    loop.call_soon(step, number + 1)

            loop.call_soon(step, 0)
            await asyncio.sleep(0.03)
            second, task = connecting
            assert not task.done()
            task.cancel()
            await asyncio.wait([task])
            other.close()
            second.close()
        for one in [*filling, listener]:
            one.close()

    run(main)
