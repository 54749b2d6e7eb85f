"""Channels: reading and writing by coroutines, ends, back-pressure, and wrong use."""

import asyncio
import threading
import tracemalloc
from typing import Any

import pytest

import goev
import goev.asyncio
from channel_support import FRAMES, all_of, cancelled, on_loop, peer_of, reset, settled
from goev.asyncio import Channel, ChannelClosed
from support import SMALL_BUFFERS


def begun(coroutine: Any) -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(coroutine)


# ---- bytes ----------------------------------------------------------------------------------------------------------


@on_loop
async def test_read_takes_all_that_has_come_or_the_first_bytes_of_it() -> None:
    async with peer_of() as (channel, _, writer):
        writer.write(b"abcdef")
        assert await channel.read(2) == b"ab"
        assert await channel.read() == b"cdef"
        assert await channel.read(0) == b""


@on_loop
async def test_read_exactly_waits_for_the_bytes_wherever_they_are_cut() -> None:
    async with peer_of() as (channel, _, writer):
        for cut in range(1, 6):
            reading = begun(channel.read_exactly(6))
            writer.write(b"abcdef"[:cut])
            await settled()
            writer.write(b"abcdef"[cut:] + b"!")
            assert await reading == b"abcdef"
            assert await channel.read() == b"!"
        assert await channel.read_exactly(0) == b""


@on_loop
async def test_read_until_finds_a_separator_wherever_it_is_cut() -> None:
    async with peer_of() as (channel, _, writer):
        for cut in range(1, 8):
            reading = begun(channel.read_until(b"\r\n\r\n"))
            writer.write(b"abc\r\n\r\n"[:cut])
            await settled()
            writer.write(b"abc\r\n\r\n"[cut:] + b"next\n")
            assert await reading == b"abc\r\n\r\n"
            assert await channel.read_until() == b"next\n"


@on_loop
async def test_read_until_without_a_separator_raises_and_leaves_the_bytes() -> None:
    async with peer_of() as (channel, _, writer):
        writer.write(b"abcdefgh\n")
        with pytest.raises(goev.InputOverflow, match=r"no separator b'\\n' within limit=4 bytes"):
            await channel.read_until(b"\n", limit=4)
        assert await channel.read_until(b"\n", limit=9) == b"abcdefgh\n"


@on_loop
async def test_pieces_come_by_async_for_until_the_peer_finishes() -> None:
    async with peer_of() as (channel, _, writer):
        writer.write(b"abc")
        writer.write_eof()
        assert b"".join([piece async for piece in channel]) == b"abc"
        assert await channel.read() == b""


@on_loop
async def test_a_half_closed_peer_still_gets_an_answer() -> None:
    async with peer_of() as (channel, reader, writer):
        writer.write(b"question")
        writer.write_eof()
        assert b"".join([piece async for piece in channel]) == b"question"
        channel.write(b"answer")
        channel.shutdown_write()
        assert await reader.read() == b"answer"
        assert await channel.closed() is None


@on_loop
async def test_bytes_before_the_end_are_given_even_if_nobody_read_until_then() -> None:
    async with peer_of() as (channel, _, writer):
        writer.write(b"last words")
        writer.close()
        await settled(20)
        assert await channel.read_exactly(4) == b"last"
        assert await channel.read() == b" words"
        assert await channel.read() == b""


@on_loop
async def test_a_stream_that_ends_early_raises_with_the_bytes_that_came() -> None:
    async with peer_of() as (channel, _, writer):
        writer.write(b"ab")
        writer.close()
        with pytest.raises(ChannelClosed, match="the peer has ended the stream") as ended:
            await channel.read_exactly(3)
        assert ended.value.partial == b"ab"
        assert ended.value.__cause__ is None
        with pytest.raises(ChannelClosed) as ended:
            await channel.read_until()
        assert ended.value.partial == b""


@on_loop
async def test_a_reset_is_the_cause_behind_the_bytes_that_came() -> None:
    async with peer_of() as (channel, _, writer):
        writer.write(b"ab")
        reading = begun(channel.read_exactly(3))
        await settled(20)
        reset(writer)
        with pytest.raises(ChannelClosed, match="Connection reset by peer") as ended:
            await reading
        assert ended.value.partial == b"ab"
        assert isinstance(ended.value.__cause__, ConnectionResetError)
        for use in (channel.read, channel.drain, channel.read_until):
            with pytest.raises(ChannelClosed):
                await use()
        with pytest.raises(ChannelClosed):
            channel.write(b"x")
        assert isinstance(await channel.closed(), ConnectionResetError)


# ---- messages -------------------------------------------------------------------------------------------------------


@on_loop
async def test_messages_come_in_order_and_the_end_behind_them() -> None:
    async with peer_of(framing=FRAMES) as (channel, _, writer):
        sent = [b"%d" % number for number in range(100)]
        writer.write(b"".join(map(FRAMES.frame, sent)))
        writer.close()
        assert await channel.receive() == b"0"
        assert [message async for message in channel] == sent[1:]
        with pytest.raises(ChannelClosed, match="the peer has ended the stream"):
            await channel.receive()


@on_loop
async def test_sent_messages_are_framed() -> None:
    async with peer_of(framing=FRAMES) as (channel, reader, _):
        await channel.send(b"abc")
        assert await reader.readexactly(7) == FRAMES.frame(b"abc")


class Pairs:
    """A framing in Python: messages of two bytes, as numbers, which have no length."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[int]:
        data = self.rest + data
        whole = len(data) // 2 * 2
        self.rest = data[whole:]
        return [int.from_bytes(data[at : at + 2], "big") for at in range(0, whole, 2)]

    def frame(self, message: int) -> bytes:
        return message.to_bytes(2, "big")


@on_loop
async def test_a_framing_in_python_serves_one_channel() -> None:
    async with peer_of(framing=Pairs()) as (channel, reader, writer):
        writer.write(b"\0\1\0")
        assert await channel.receive() == 1
        writer.write(b"\2")
        assert await channel.receive() == 2
        await channel.send(3)
        assert await reader.readexactly(2) == b"\0\3"


@on_loop
async def test_a_broken_frame_ends_the_channel_with_its_error() -> None:
    async with peer_of(framing=goev.LengthPrefixed(4, max_size=10)) as (channel, _, writer):
        writer.write(FRAMES.frame(b"good") + FRAMES.frame(bytes(11)))
        assert await channel.receive() == b"good"
        with pytest.raises(ChannelClosed) as ended:
            await channel.receive()
        assert isinstance(ended.value.__cause__, goev.MessageTooLong)
        with pytest.raises(ChannelClosed):
            await all_of(channel)


# ---- back-pressure --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [None, FRAMES])
@on_loop
async def test_a_flood_that_nobody_reads_stays_with_the_peer(framing: Any) -> None:
    options = {"max_input": 65536, "receive_buffer_size": 65536}
    async with peer_of(framing=framing, **options) as (channel, _, writer):
        sent = 32 * 1024 * 1024
        writer.write(FRAMES.frame(bytes(1020)) * (sent // 1024))
        # The transport of asyncio gets rid of no more once the buffers of the kernel are full.
        before, now = -1, writer.transport.get_write_buffer_size()
        while before != now:
            await asyncio.sleep(0.05)
            before, now = now, writer.transport.get_write_buffer_size()
        feed: Any = channel.connection
        assert len(getattr(feed, "input", b"")) < 65536 + 300 * 1024
        assert sum(map(len, feed.messages)) < 65536 + 300 * 1024
        assert now > sent // 2
        count = 0
        while count < sent:
            count += len(await channel.read()) if framing is None else len(await channel.receive()) + 4
        assert count == sent


@on_loop
async def test_a_flood_of_empty_messages_is_bounded_in_number() -> None:
    async with peer_of(framing=FRAMES, receive_buffer_size=65536) as (channel, _, writer):
        writer.write(FRAMES.frame(b"") * 4_000_000)
        feed: Any = channel.connection
        while len(feed.messages) < 1024:
            await asyncio.sleep(0.001)
        await settled(50)
        kept = len(feed.messages)
        await settled(50)
        assert len(feed.messages) == kept < 150_000


@on_loop
async def test_send_and_drain_wait_while_the_peer_reads_nothing() -> None:
    async with peer_of(framing=FRAMES, **SMALL_BUFFERS) as (channel, reader, writer):
        writer.transport.pause_reading()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await channel.send(bytes(65532))
                sent += 65536

        flooding = begun(flood())
        draining = begun(wait_for_drain(channel))
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert not draining.done()
        assert channel.connection.pending_output <= 65536 * 2 + 65536
        await cancelled(flooding)
        writer.transport.resume_reading()
        read = asyncio.create_task(reader.readexactly(sent))
        assert await draining is None
        assert len(await read) == sent


async def wait_for_drain(channel: Channel) -> None:
    while not channel.connection.over_high_water:
        await asyncio.sleep(0)
    await channel.drain()


@on_loop
async def test_a_message_whose_sending_was_cancelled_was_not_sent() -> None:
    async with peer_of(framing=FRAMES, **SMALL_BUFFERS) as (channel, reader, writer):
        writer.transport.pause_reading()
        sent = 0
        while not channel.connection.over_high_water:
            await channel.send(bytes(65536))
            sent += 65540
        sending = begun(channel.send(b"cancelled"))
        await settled()
        await cancelled(sending)
        channel.shutdown_write()
        writer.transport.resume_reading()
        assert len(await reader.read()) == sent


@on_loop
async def test_memory_stays_flat_over_many_messages() -> None:
    async with peer_of(framing=FRAMES) as (channel, _, writer):

        async def pass_on(count: int) -> None:
            for _ in range(count):
                writer.write(FRAMES.frame(bytes(60)) * 1000)
                await writer.drain()
                for _ in range(1000):
                    await channel.receive()

        await pass_on(5)
        tracemalloc.start()
        await pass_on(2)
        before = tracemalloc.get_traced_memory()[0]
        await pass_on(20)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert after - before < 100_000


# ---- cancellation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["read", "read_exactly", "read_until"])
@on_loop
async def test_cancelled_reads_take_nothing(use: str) -> None:
    async with peer_of() as (channel, _, writer):
        arguments = {"read": (), "read_exactly": (6,), "read_until": (b"\n",)}[use]
        for is_late in (False, True):
            reading = begun(getattr(channel, use)(*arguments))
            await settled()
            assert not reading.done()
            if is_late:
                writer.write(b"input\n")
                while not channel.connection.input:  # type: ignore[attr-defined]
                    await asyncio.sleep(0)
                # The input has woken the coroutine, which has not run yet.
            reading.cancel()
            await asyncio.wait([reading])
        if reading.cancelled():
            assert await channel.read() == b"input\n"
        else:
            assert reading.result() == b"input\n"


@on_loop
async def test_a_cancelled_receive_loses_no_message() -> None:
    async with peer_of(framing=FRAMES) as (channel, _, writer):
        receiving = begun(channel.receive())
        await settled()
        await cancelled(receiving)
        receiving = begun(channel.receive())
        await settled()
        feed: Any = channel.connection
        feed.messages.append(b"one")
        feed.wake_reader()
        await cancelled(receiving)
        assert await channel.receive() == b"one"
        writer.write(FRAMES.frame(b"two"))
        assert await channel.receive() == b"two"


@on_loop
async def test_cancelled_waits_for_room_and_for_the_end_leave_the_channel_usable() -> None:
    async with peer_of(framing=FRAMES, **SMALL_BUFFERS) as (channel, reader, writer):
        writer.transport.pause_reading()
        while not channel.connection.over_high_water:
            await channel.send(bytes(65536))
        waits = [begun(channel.drain()), begun(channel.closed())]
        await settled()
        for wait in waits:
            await cancelled(wait)
        waits = [begun(channel.drain()) for _ in range(3)]
        await settled()
        await cancelled(waits.pop())
        writer.transport.resume_reading()
        reading = begun(reader.read())
        await asyncio.gather(*waits)
        channel.close()
        assert await channel.closed() is None
        await reading


# ---- ends -----------------------------------------------------------------------------------------------------------


@on_loop
async def test_close_sends_what_is_queued_and_ends_every_wait() -> None:
    async with peer_of() as (channel, reader, _):
        reading = begun(channel.read())
        await settled()
        channel.write(bytes(1_000_000))
        channel.close()
        channel.close()
        assert await reading == b""
        assert len(await reader.read()) == 1_000_000
        assert await channel.closed() is None
        assert await channel.closed() is None
        with pytest.raises(ChannelClosed, match="the channel was closed"):
            channel.write(b"x")
        with pytest.raises(ChannelClosed, match="the channel was closed"):
            await channel.read_exactly(1)
        assert repr(channel) == "<goev.asyncio.Channel closed>"


@on_loop
async def test_a_block_closes_the_channel_and_one_that_raises_too() -> None:
    async with peer_of() as (channel, reader, _):
        async with channel:
            channel.write(b"bye")
        assert repr(channel) == "<goev.asyncio.Channel closed>"
        assert await reader.read() == b"bye"
    async with peer_of() as (channel, reader, _):
        channel.write(b"bye")
        with pytest.raises(ZeroDivisionError):
            async with channel:
                raise ZeroDivisionError
        assert await reader.read() == b"bye"


@on_loop
async def test_abort_resets() -> None:
    async with peer_of() as (channel, reader, _):
        channel.abort()
        assert isinstance(await channel.closed(), ConnectionAbortedError)
        with pytest.raises(ConnectionResetError):
            await reader.read()


# ---- wrong use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [None, FRAMES])
@on_loop
async def test_only_one_coroutine_reads_at_a_time(framing: Any) -> None:
    async with peer_of(framing=framing) as (channel, _, writer):
        uses = (channel.read, channel.read_until) if framing is None else (channel.receive, channel.__anext__)
        reading = begun(uses[0]())
        await settled()
        for use in uses:
            with pytest.raises(RuntimeError, match="another coroutine waits for input"):
                await use()
        writer.write(FRAMES.frame(b"x"))
        assert await reading == (b"x" if framing else FRAMES.frame(b"x"))


@on_loop
async def test_methods_of_the_other_kind_say_which_to_use() -> None:
    async with peer_of() as (channel, _, _):
        with pytest.raises(TypeError, match=r"receive\(\) needs a framing; read\(\) takes bytes"):
            await channel.receive()
        with pytest.raises(TypeError, match=r"send\(\) needs a framing; write\(\) sends bytes"):
            await channel.send(b"x")
    async with peer_of(framing=FRAMES) as (channel, _, _):
        for use in (channel.read(), channel.read_exactly(1), channel.read_until()):
            with pytest.raises(TypeError, match=r"this channel has messages; use receive\(\)"):
                await use
        with pytest.raises(TypeError):
            await channel.send("text")
        with pytest.raises(goev.MessageTooLong):
            await channel.send(bytes(1024 * 1024 + 1))


@on_loop
async def test_wrong_numbers_are_named_with_their_limit() -> None:
    async with peer_of(max_input=1000) as (channel, _, _):
        for use, text in [
            (channel.read(-2), r"n must be -1 .* or more, not -2"),
            (channel.read_exactly(-1), r"n must be 0 to max_input=1000, not -1"),
            (channel.read_exactly(1001), r"n must be 0 to max_input=1000, not 1001"),
            (channel.read_until(b""), "separator must not be empty"),
            (channel.read_until(b"\r\n", limit=1), "limit must leave room for the separator's 2 bytes, not 1"),
            (channel.read_until(limit=1001), "limit must be 0 to max_input=1000, not 1001"),
        ]:
            with pytest.raises(ValueError, match=text):
                await use


@pytest.mark.parametrize("framing", [None, FRAMES])
@on_loop
async def test_another_loop_gets_wrong_thread(framing: Any) -> None:
    async with peer_of(framing=framing) as (channel, _, writer):
        uses = [channel.drain, channel.closed, channel.__anext__]
        uses += [channel.read, channel.read_until] if framing is None else [channel.receive, lambda: channel.send(b"x")]
        writer.write(FRAMES.frame(b"x") * 100)
        await settled(20)
        errors: list[Exception] = []

        def elsewhere() -> None:
            async def use_all() -> None:
                for use in uses:
                    try:
                        await use()
                    except goev.WrongThread as error:
                        errors.append(error)
                for method in (channel.close, channel.abort, lambda: channel.write(b"x")):
                    try:
                        method()
                    except goev.WrongThread as error:
                        errors.append(error)

            asyncio.run(use_all())

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert len(errors) == len(uses) + 3


@on_loop
async def test_the_connection_is_there() -> None:
    async with peer_of() as (channel, _, writer):
        assert channel.remote_address == writer.get_extra_info("sockname")
        assert channel.local_address == writer.get_extra_info("peername")
        assert channel.tls is None
        assert channel.proxy is None
        assert isinstance(channel.connection, goev.Connection)
        assert repr(channel) == "<goev.asyncio.Channel open>"
