"""New snapshots of all workers. A worker that does not answer holds up nothing."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any

from goev.metrics.snapshots import Snapshot
from goev.metrics.totals import Totals


async def refresh(
    totals: Totals,
    workers: Mapping[Hashable, Callable[[], Coroutine[Any, Any, Snapshot]]],
    *,
    timeout: float = 1.0,
) -> None:
    """Ask each worker for a snapshot, all at once, and update ``totals``.

    Args:
        totals: gets the snapshots.
        workers: for each id the coroutine function that asks the worker.
        timeout: seconds for all answers, > 0. A worker that has not answered by then, or fails to, keeps its last
            snapshot; ``goev_worker_scrape_age_seconds`` tells how old that is.

    Raises ``ValueError`` for a wrong ``timeout``.
    """
    if timeout <= 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")

    async def update(worker: Hashable, ask: Callable[[], Coroutine[Any, Any, Snapshot]]) -> None:
        try:
            snapshot = await ask()
        except (Exception, asyncio.CancelledError):
            return
        # At once: a worker that is retired while others are awaited must not come back.
        totals.update(worker, snapshot)

    tasks = [asyncio.ensure_future(update(worker, ask)) for worker, ask in workers.items()]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()
