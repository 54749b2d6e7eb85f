"""Plaintext on goev, as a user would write it: an incomplete head simply stays in the connection."""

import argparse

import busy
import goev
import secure

RESPONSE = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
END_OF_HEAD = b"\r\n\r\n"


class Plain(goev.Connection):
    __slots__ = ()

    def on_read(self) -> None:
        heads = self.read_until(END_OF_HEAD, last=True)
        if heads:
            self.write(RESPONSE * heads.count(END_OF_HEAD))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=2)
    parser.add_argument("--reuse-port", action="store_true", help="one listener per poller")
    parser.add_argument("--cpu-steering", action="store_true", help="a connection goes to the poller of its CPU")
    parser.add_argument("--placement", default="auto", help="how a connection gets its poller (%(default)s)")
    parser.add_argument("--busy-thread", action="store_true", help="compute in pure Python beside it")
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    reactor = goev.Reactor(arguments.pollers)
    goev.Acceptor(
        reactor,
        f"127.0.0.1:{arguments.port}",
        Plain,
        reuse_port=arguments.reuse_port,
        cpu_steering=arguments.cpu_steering,
        placement=arguments.placement,
        tls=secure.goev_context(arguments),
    )
    if arguments.busy_thread:
        busy.start()
    print("ready", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
