"""Runs tests of test.test_asyncio on one kind of event loop, and writes an outcome a line, as JSON.

cpython.py starts it, with any interpreter that has goev: the loop's name, the file to write, and the names of tests.
"""

import asyncio
import faulthandler
import importlib
import json
import os
import sys
import unittest
from asyncio import unix_events
from collections import Counter
from typing import Any, TextIO

LIMIT = 120  # seconds that one test may take; the longest of them take 20 on a slow machine


def main() -> None:
    kind, path, *names = sys.argv[1:]
    counts = substitute(kind)
    own = os.getpid()
    with open(path, "w", buffering=1) as file:
        suite = unittest.defaultTestLoader.loadTestsFromNames([f"test.test_asyncio.{name}" for name in names])
        suite.run(Report(file))
        if os.getpid() == own:  # some tests fork
            print(json.dumps(counts), file=file)


def substitute(kind: str) -> Counter[str]:
    """Have asyncio make loops of this kind and no others; return how many it has made, and how many turns they ran.

    Tests that hand a selector of their own to the loop get a loop without it, since the selector is the part to test.
    The names with an underscore are those by which the tests and the default policy reach the class.
    """
    base = importlib.import_module("goev.asyncio").EventLoop if kind == "goev" else asyncio.SelectorEventLoop
    counts = Counter(loops=0, turns=0)

    class Counted(base):  # type: ignore[misc]
        def __new__(cls, selector: Any = None) -> "Counted":
            return super().__new__(cls)  # goev's takes options here

        def __init__(self, selector: Any = None) -> None:
            if selector is not None:
                selector.close()
            super().__init__()
            counts["loops"] += 1

        def _run_once(self) -> None:
            counts["turns"] += 1
            super()._run_once()

    for module, name in [
        (unix_events, "_UnixSelectorEventLoop"),
        (unix_events, "SelectorEventLoop"),
        (asyncio, "SelectorEventLoop"),
        (unix_events, "EventLoop"),
        (asyncio, "EventLoop"),
    ]:
        if hasattr(module, name):  # EventLoop came with 3.13
            setattr(module, name, Counted)
    asyncio.DefaultEventLoopPolicy._loop_factory = Counted
    return counts


class Report(unittest.TestResult):
    """Writes a line when a test begins and a line when it ends, so that a crash or a hang names its test."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self.file = file
        self.outcome: tuple[str, str] = ("", "")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.outcome = ("passed", "")
        self.write(test, "begun", "")
        faulthandler.dump_traceback_later(LIMIT, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        self.write(test, *self.outcome)
        super().stopTest(test)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.outcome = ("skipped", reason)

    def addError(self, test: Any, error: Any) -> None:
        self.outcome = ("failed", self._exc_info_to_string(error, test))
        if not isinstance(test, unittest.TestCase):  # setUpClass or setUpModule: no test of it begins
            self.write(test, *self.outcome)

    addFailure = addError

    def addSubTest(self, test: unittest.TestCase, subtest: Any, error: Any) -> None:
        if error is not None:
            self.addError(test, error)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.outcome = ("failed", "unexpected success")

    def write(self, test: Any, outcome: str, detail: str) -> None:
        name = test.id().removeprefix("test.test_asyncio.")
        print(json.dumps({"test": name, "outcome": outcome, "detail": detail}), file=self.file)


if __name__ == "__main__":
    main()
