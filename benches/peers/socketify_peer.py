"""Answers HTTP requests on socketify, in one process or several with SO_REUSEPORT, which it always sets."""

import argparse
import multiprocessing
from multiprocessing.synchronize import Barrier
from typing import Any

from socketify import App, AppListenOptions


def hello(response: Any, request: Any) -> None:
    response.write_header("Content-Type", "text/plain")
    response.end("Hello, World!")


def serve(port: int, listening: Barrier) -> None:
    def say_ready(_: AppListenOptions) -> None:
        """One process prints it when all processes listen."""
        if listening.wait() == 0:
            print("ready", flush=True)

    app = App(request_response_factory_max_items=1000, lifespan=False)
    app.get("/", hello)
    app.listen(AppListenOptions(port=port, host="127.0.0.1"), say_ready)
    app.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--pollers", type=int, default=1, help="processes")
    arguments = parser.parse_args()

    context = multiprocessing.get_context("fork")
    listening = context.Barrier(arguments.pollers)
    for _ in range(arguments.pollers - 1):
        context.Process(target=serve, args=(arguments.port, listening), daemon=True).start()
    serve(arguments.port, listening)


if __name__ == "__main__":
    main()
