"""The client that the Autobahn test suite tests: it asks for each case in turn, and echoes each message.

Its arguments are the suite's address, ws://127.0.0.1:9001 say, and its name in the report.
"""

import sys

from echo_server import Echo

import goev


class Case(Echo):
    """One connection: a case, or a question to the suite. When it ends, the next one begins."""

    def __init__(self, run: "Run") -> None:
        self.run = run

    def on_close(self, error: BaseException | None) -> None:
        self.run.next()

    def on_connect_fail(self, error: Exception) -> None:
        if isinstance(error, ConnectionError):
            self.run.end(f"no connection to the suite: {error}")
        else:  # a failed handshake that is itself a case
            self.run.next()


class Count(Case):
    def on_message(self, message: str | bytes) -> None:
        self.run.steps = [f"/runCase?case={number + 1}&agent={self.run.agent}" for number in range(int(message))]
        self.run.steps.append(f"/updateReports?agent={self.run.agent}")


class Run:
    def __init__(self, reactor: goev.Reactor, url: str, agent: str) -> None:
        self.reactor, self.url, self.agent = reactor, url, agent
        self.steps: list[str] = []
        self.failure: str | None = "the suite did not say how many cases there are"
        goev.websocket.connect(reactor, f"{url}/getCaseCount", Count(self))

    def next(self) -> None:
        if self.steps:
            self.failure = None
            goev.websocket.connect(self.reactor, self.url + self.steps.pop(0), Case(self))
        else:
            self.end(self.failure)

    def end(self, failure: str | None) -> None:
        self.failure = failure
        self.reactor.stop()


def main() -> None:
    with goev.Reactor(pollers=1) as reactor:
        run = Run(reactor, *sys.argv[1:])
        reactor.run()
    sys.exit(run.failure)


if __name__ == "__main__":
    main()
