"""Echoes WebSocket messages on picows, on uvloop; picows uses the transports of aiofastnet by itself."""

import argparse
import ssl

import uvloop
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

import secure


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


async def serve(port: int, tls: ssl.SSLContext | None) -> None:
    server = await ws_create_server(lambda _: Echo(), "127.0.0.1", port, ssl=tls)
    print("ready", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9999)
    secure.add_arguments(parser)
    arguments = parser.parse_args()

    uvloop.run(serve(arguments.port, secure.python_context(arguments)))


if __name__ == "__main__":
    main()
