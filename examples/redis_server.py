"""A small in-memory server of the Redis protocol (RESP2): GET, SET, INCR, DEL, EXISTS, EXPIRE, TTL, PING, ECHO.

Try it with ``redis-cli -p 6380`` and ``redis-benchmark -p 6380 -t get,set -P 16``.
"""

import argparse
import math
import time
from collections.abc import Callable

import goev

Command = list[bytes]

CRLF = b"\r\n"
LARGEST = 2 << 20  # bytes of a command
LONGEST_LINE, LONGEST_COUNT = 64 << 10, 16  # bytes: of words, and of a number
MOST_WORDS = 1024
SHORTEST_WORD = len(b"$0\r\n\r\n")
ENOUGH = 64 << 10  # bytes of answers for one write
TEN_YEARS = 315_360_000  # seconds: the longest delay of goev's timers

values: dict[bytes, bytes] = {}
expiries: dict[bytes, tuple[float, goev.Timer]] = {}


class ProtocolError(Exception):
    """The input is no RESP."""


class Resp:
    """The framing: cuts arrays of bulk strings, and lines of words, out of the stream."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self.needed = 0  # bytes that ``rest`` needs before another search makes sense

    def feed(self, data: bytes) -> list[Command | ProtocolError]:
        if self.rest:
            self.rest += data
            if len(self.rest) < self.needed:
                return []
            data = bytes(self.rest)
        commands: list[Command | ProtocolError] = []
        at = 0
        try:
            while at < len(data) and (found := self.first(data, at)):
                command, at = found
                if command:
                    commands.append(command)
        except ProtocolError as error:
            commands.append(error)
        self.rest = bytearray(data[at:])
        return commands

    def first(self, data: bytes, start: int) -> tuple[Command, int] | None:
        """The command that begins at ``start``, and where it ends; None while it is incomplete."""
        array = data[start] == ord("*")
        end = data.find(CRLF if array else b"\n", start)
        if end < 0:
            self.wait(data, start, start)
            return None
        if not array:
            return data[start:end].split(), end + 1
        if (count := data[start + 1 : end]) == b"-1":  # a null array asks for nothing
            return [], end + 2
        command, at = [], end + 2
        for missing in range(number(count, "multibulk", MOST_WORDS), 0, -1):
            end = data.find(CRLF, at)
            if end < 0:
                self.wait(data, start, at, missing)
                return None
            if data[at] != ord("$"):
                raise ProtocolError(f"expected '$', got {chr(data[at])!r}")
            begin = end + 2
            at = begin + number(data[at + 1 : end], "bulk", LARGEST) + 2
            if at > len(data):
                self.wait(data, start, at, missing - 1)
                return None
            command.append(data[begin : at - 2])
        return command, at

    def wait(self, data: bytes, start: int, at: int, missing: int = 0) -> None:
        """Wait until the stream reaches ``at`` and ``missing`` words more, or one byte more within a line."""
        if len(data) - at > (LONGEST_COUNT if data[start] == ord("*") else LONGEST_LINE):
            raise ProtocolError("too long a line")
        self.needed = max(len(data) + 1, at + missing * SHORTEST_WORD) - start
        if self.needed > LARGEST:
            raise ProtocolError("too big a command")

    def frame(self, message: bytes) -> bytes:
        return message


def number(text: bytes, what: str, most: int) -> int:
    if text.isdigit() and len(text) < 8 and (found := int(text)) <= most:
        return found
    raise ProtocolError(f"invalid {what} length")


class Redis(goev.Connection):
    framing = Resp

    def on_messages(self, messages: list[Command | ProtocolError]) -> bool:
        answers, size = [], 0
        for command in messages:
            if isinstance(command, ProtocolError):
                answers.append(b"-ERR Protocol error: %s\r\n" % str(command).encode())
                break
            answers.append(answer := self.answer(command))
            size += len(answer)
            if size > ENOUGH:  # one write may have any length; max_output limits several
                self.write(b"".join(answers))
                answers, size = [], 0
        self.write(b"".join(answers))
        return not isinstance(messages[-1], ProtocolError)

    def answer(self, command: Command) -> bytes:
        name, *arguments = command
        function = COMMANDS.get(name.upper())
        if function is None:
            return b"-ERR unknown command '%s'\r\n" % printable(name)
        try:
            return function(self, *arguments)
        except TypeError:
            return b"-ERR wrong number of arguments for '%s' command\r\n" % printable(name.lower())
        except ValueError:
            return b"-ERR value is not an integer or out of range\r\n"

    def ping(self, message: bytes | None = None) -> bytes:
        return b"+PONG\r\n" if message is None else bulk(message)

    def echo(self, message: bytes) -> bytes:
        return bulk(message)

    def get(self, key: bytes) -> bytes:
        return bulk(values.get(key))

    def set(self, key: bytes, value: bytes) -> bytes:
        forget_expiry(key)
        values[key] = value
        return b"+OK\r\n"

    def incr(self, key: bytes) -> bytes:
        value = integer(values.get(key, b"0")) + 1
        if value >= 1 << 63:
            return b"-ERR increment or decrement would overflow\r\n"
        values[key] = b"%d" % value
        return b":%d\r\n" % value

    def delete(self, first: bytes, *others: bytes) -> bytes:
        return b":%d\r\n" % sum(remove(key) for key in (first, *others))

    def exists(self, first: bytes, *others: bytes) -> bytes:
        return b":%d\r\n" % sum(key in values for key in (first, *others))

    def expire(self, key: bytes, seconds: bytes) -> bytes:
        delay = integer(seconds)
        if delay > TEN_YEARS:
            return b"-ERR invalid expire time in 'expire' command\r\n"
        if key not in values:
            return b":0\r\n"
        forget_expiry(key)
        if delay <= 0:
            remove(key)
        else:
            timer = self.reactor.schedule(delay, lambda: remove(key) and None)
            expiries[key] = time.monotonic() + delay, timer
        return b":1\r\n"

    def ttl(self, key: bytes) -> bytes:
        if key not in values:
            return b":-2\r\n"
        if key not in expiries:
            return b":-1\r\n"
        return b":%d\r\n" % math.ceil(expiries[key][0] - time.monotonic())

    def nothing(self, *_: bytes) -> bytes:
        """The answer to commands by which clients ask about the server."""
        return b"*0\r\n"


COMMANDS: dict[bytes, Callable[..., bytes]] = {
    b"PING": Redis.ping,
    b"ECHO": Redis.echo,
    b"GET": Redis.get,
    b"SET": Redis.set,
    b"INCR": Redis.incr,
    b"DEL": Redis.delete,
    b"EXISTS": Redis.exists,
    b"EXPIRE": Redis.expire,
    b"TTL": Redis.ttl,
    b"COMMAND": Redis.nothing,
    b"CONFIG": Redis.nothing,
}


def bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def integer(text: bytes) -> int:
    """An integer of 64 bits, in the one spelling that Redis takes."""
    value = int(text)
    if b"%d" % value != text or not -(1 << 63) <= value < 1 << 63:
        raise ValueError(text)
    return value


def printable(name: bytes) -> bytes:
    return name[:64].translate(None, b"\r\n")


def remove(key: bytes) -> bool:
    forget_expiry(key)
    return values.pop(key, None) is not None


def forget_expiry(key: bytes) -> None:
    if key in expiries:
        expiries.pop(key)[1].cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6380, help="TCP port, 0 for a free one (default: %(default)s)")
    args = parser.parse_args()
    # One poller: the values need no lock.
    goev.serve(
        Redis,
        f"127.0.0.1:{args.port}",
        pollers=1,
        ready=lambda acceptor: print("redis on {}:{}".format(*acceptor.address), flush=True),
    )


if __name__ == "__main__":
    main()
