"""How long a model takes for a batch, and how many images a second that is."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from mmtrain.exporters.certificate import Latency

WARM_UP = 2
MOST_RUNS = 30
LEAST_RUNS = 5
BUDGET_S = 5.0


def timed(run: Callable[[], object], batch: int, *, budget_s: float = BUDGET_S) -> Latency:
    """Runs it after a warm-up until the time is spent, five times at least.

    Args:
        run: one batch.
    """
    for _ in range(WARM_UP):
        run()
    took: list[float] = []
    begin = time.perf_counter()
    while len(took) < MOST_RUNS and (len(took) < LEAST_RUNS or time.perf_counter() - begin < budget_s):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    p50, p95 = np.percentile(took, (50, 95))
    return Latency(
        batch=batch,
        p50_ms=round(1000 * float(p50), 3),
        p95_ms=round(1000 * float(p95), 3),
        images_per_s=round(batch / float(np.mean(took)), 3),
        runs=len(took),
    )
