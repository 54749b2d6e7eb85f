"""Remote calls: JSON messages behind their length, answered in any order. Server and client in one program.

Start the server, then call it: ``rpc.py`` and ``rpc.py --call add 1 2``.
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import goev

FUNCTIONS = {"add": lambda *numbers: sum(numbers), "echo": lambda value: value, "upper": str.upper}
MAX_SIZE, MAX_ID, MAX_ERROR = 64 * 1024, 256, 256  # so that every error fits into a message


def encoded(value: object, max_size: int = MAX_SIZE) -> bytes:
    message = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    if len(message) > max_size:
        raise ValueError(f"{len(message)} bytes of JSON are more than {max_size}")
    return message


class Rpc(goev.Connection):
    framing = goev.LengthPrefixed(4, max_size=MAX_SIZE)


class Server(Rpc):
    def on_message(self, message: bytes) -> None:
        id_ = None
        try:
            request = dict(json.loads(message))
            encoded(request.get("id"), MAX_ID)
            id_ = request.get("id")
            result = FUNCTIONS[request["function"]](*request["arguments"])
            answer = encoded({"id": id_, "result": result})
        except Exception as error:  # the peer's fault: it gets the error, and the connection goes on
            answer = encoded({"id": id_, "error": repr(error)[:MAX_ERROR]})
        self.send(answer)


class Client(Rpc):
    def __init__(self, function: str, arguments: list[Any]) -> None:
        self.request = encoded({"id": 1, "function": function, "arguments": arguments})
        self.answer: dict[str, Any] = {"error": "no answer came"}
        self.done: Callable[[], object] = lambda: None

    def on_open(self) -> None:
        self.send(self.request)

    def on_message(self, message: bytes) -> None:
        self.answer = json.loads(message)
        self.close()

    def on_connect_fail(self, error: Exception) -> None:
        self.answer = {"error": str(error)}
        self.done()

    def on_close(self, error: BaseException | None) -> None:
        self.done()


def call(address: str, function: str, arguments: list[Any]) -> dict[str, Any]:
    client = Client(function, arguments)
    reactor = goev.Reactor()
    client.done = reactor.stop
    goev.Connector(reactor).connect(address, client, timeout=5)
    reactor.run()
    return client.answer


def value_of(text: str) -> Any:
    """JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--call", nargs="+", metavar=("FUNCTION", "ARGUMENT"), help="call a function of the server")
    args = parser.parse_args()
    address = f"127.0.0.1:{args.port}"
    if not args.call:
        goev.serve(Server, address, ready=lambda acceptor: print("rpc on {}:{}".format(*acceptor.address), flush=True))
        return
    try:
        answer = call(address, args.call[0], [value_of(text) for text in args.call[1:]])
    except ValueError as error:  # values that JSON cannot express, or that are too long
        answer = {"error": str(error)}
    if "error" in answer:
        sys.exit(f"rpc.py: {answer['error']}")
    print(json.dumps(answer["result"]))


if __name__ == "__main__":
    main()
