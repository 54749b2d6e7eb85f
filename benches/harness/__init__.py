"""The machinery of ``bench.py``: the servers, the cases, the measurements and the report."""

from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
REPO = BENCHES.parent


class Unavailable(Exception):
    """A program, a peer or a run is not available.

    The report shows ``reason`` beside the name that is skipped; ``detail`` is for the terminal only.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
