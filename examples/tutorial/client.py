"""A client for steps 1 to 3: it sends the lines that you type, and shows at once what arrives."""

import os
import select
import socket
import sys

KEYBOARD, SCREEN = 0, 1


def talk(server: socket.socket) -> None:
    sources: list[socket.socket | int] = [server, KEYBOARD]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if server in ready:
            data = server.recv(65536)
            if not data:
                return  # the server has closed the connection
            os.write(SCREEN, data)
        if KEYBOARD in ready:
            typed = os.read(KEYBOARD, 65536)
            if not typed:
                sources.remove(KEYBOARD)  # Ctrl-D, or the end of a pipe: go on reading
            server.sendall(typed)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    try:
        talk(socket.create_connection(("127.0.0.1", port)))
    except (KeyboardInterrupt, OSError) as end:
        sys.exit(str(end) or None)
