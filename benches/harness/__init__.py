"""The machinery behind ``bench.py``: which servers, which cases, how each is measured, and what is written of it."""

from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
REPO = BENCHES.parent


class Unavailable(Exception):
    """Why a program, a peer or a run cannot be had.

    ``reason`` is published beside the name that is skipped; ``detail`` is for the terminal of whoever measures.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
