"""Metrics of a program or a service, as OpenMetrics text, and pages for health checks (docs/metrics.md).

``snapshot`` reads one process. ``Totals`` adds up the snapshots of all processes, and writes the text. ``pages`` serves
the text. ``serve`` does all three for a program of one process. Text needs ``prometheus_client``, which the extra
``goev[metrics]`` installs.
"""

from goev.metrics.clusters import include
from goev.metrics.pages import Source, pages
from goev.metrics.process import process_figures
from goev.metrics.refreshing import refresh
from goev.metrics.serving import MetricsServer, serve
from goev.metrics.snapshots import Snapshot, snapshot
from goev.metrics.totals import SupervisorFigures, Totals

__all__ = [
    "MetricsServer",
    "Snapshot",
    "Source",
    "SupervisorFigures",
    "Totals",
    "include",
    "pages",
    "process_figures",
    "refresh",
    "serve",
    "snapshot",
]
