"""A link between a machine and its engine that a test can cut and freeze: a forwarder of bytes."""

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self


class Cutter:
    """Forwards connections to a port of this machine. ``cut`` ends them and refuses more; ``freeze`` says nothing.

    A link that is frozen one way takes connections; the other ones are accepted by the kernel, and by nobody else.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._machines: set[socket.socket] = set()  # the ends at machines; the others are at the engine
        self._lock = threading.Lock()
        self._state = "open"
        self._changed, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def _run(self) -> None:
        while True:
            with self._lock:
                watched = [self._changed, *([] if self._state == "freeze" else [self._listener])]
                watched += [each for each in self._pairs if not self._is_silent(each)]
            for ready in select.select(watched, [], [])[0]:
                if ready is self._changed:
                    if self._changed.recv(1) == b"e":
                        return
                elif ready is self._listener:
                    self._accept()
                else:
                    self._forward(ready)

    def _is_silent(self, source: socket.socket) -> bool:
        return self._state in ("freeze", "freeze up" if source in self._machines else "freeze down")

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        with self._lock:
            try:
                if self._state == "cut":
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                return
            self._pairs[client], self._pairs[server] = server, client
            self._machines.add(client)

    def _forward(self, source: socket.socket) -> None:
        with self._lock:
            sink = self._pairs.get(source)
        if sink is None:
            return
        try:
            data = source.recv(1 << 16)
            if data:
                sink.sendall(data)
                return
        except OSError:
            pass
        with self._lock:
            for end in (source, sink):
                self._pairs.pop(end, None)
                self._machines.discard(end)
                end.close()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        with self._lock:
            self._state = "cut"
            for each in self._pairs:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._wake.send(b"c")

    def freeze(self, way: str = "") -> None:
        """Forward nothing, and accept nothing; the connections stay. ``"up"`` is to the engine, ``"down"`` from it."""
        with self._lock:
            self._state = f"freeze {way}".strip()
        self._wake.send(b"c")

    def heal(self) -> None:
        """Forward again."""
        with self._lock:
            self._state = "open"
        self._wake.send(b"c")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wake.send(b"e")
        self._thread.join(10)
        for each in [self._listener, self._changed, self._wake, *self._pairs]:
            each.close()
