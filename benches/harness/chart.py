"""Requests per second as bars, readable on a light and on a dark page."""

from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes

from harness.cases import CASES
from harness.results import Result

CHARTED = ("headline", "c64", "c1000", "pipelined")
TEXT = "#6e7781"  # readable on white and on GitHub's dark page
COLOURS = {"goev": "#2f81f7", "core": "#9db8d9", "bare": "#b9c0c7"}
OTHERS = "#8c959f"


def draw(results: dict[str, Result], path: Path) -> None:
    """Writes an SVG with one panel for each case of CHARTED that was measured."""
    names = [name for name in CHARTED if name in results]
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "goev", "font.size": 9, "text.color": TEXT})
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 6.6), layout="constrained")
    for name, panel in zip(names, panels.flat, strict=False):
        _draw_panel(panel, name, results[name])
    for panel in panels.flat[len(names) :]:
        panel.set_visible(False)
    figure.suptitle("Requests per second: goev blue, other servers grey, limits without Python pale", fontsize=11)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    pyplot.close(figure)


def _draw_panel(panel: Axes, name: str, result: Result) -> None:
    peers = [peer for peer in CASES[name].peers if peer in result.runs]
    rates = [result.median(peer, "rate") for peer in peers]
    bars = panel.barh(peers, rates, color=[COLOURS.get(peer.partition("-")[0], OTHERS) for peer in peers])
    panel.bar_label(bars, labels=[f"{rate:,.0f}" for rate in rates], padding=3, color=TEXT, fontsize=8)
    panel.set_title(CASES[name].title, color=TEXT, fontsize=10, loc="left")
    panel.invert_yaxis()
    panel.set_xlim(right=max(rates) * 1.18)
    panel.xaxis.set_visible(False)
    panel.tick_params(axis="y", length=0, labelcolor=TEXT)
    panel.spines[:].set_visible(False)
