"""Tells an MLflow server too, if MLFLOW_TRACKING_URI is set. A guest: whatever happens to it, the job goes on.

The parent tells it, from a thread: no training waits for a server, and its keys never reach the worker.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from mmtrain.plan import TrainPlan

log = logging.getLogger("trainer")

EXPERIMENT = "openmmlab-trainer"
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""MLflow's own defaults keep a caller waiting for minutes."""
END_WAIT_S = 15.0

Step = Callable[[Any], None]


class Tracker:
    """One run, named after the job. Without MLFLOW_TRACKING_URI it does nothing."""

    def __init__(self, environ: Mapping[str, str], job_id: str) -> None:
        self._uri = environ.get("MLFLOW_TRACKING_URI", "").strip()
        self._experiment = environ.get("MLFLOW_EXPERIMENT_NAME", "").strip() or EXPERIMENT
        self._job_id = job_id
        self._steps: queue.Queue[Step | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        if self._uri:
            self._thread.start()

    def plan(self, plan: TrainPlan) -> None:
        """The decided values as parameters."""
        values = {row["name"]: str(row["value"])[:500] for row in plan.decisions()}
        self._do(lambda mlflow: mlflow.log_params({"recipe": plan.recipe, **values}))

    def numbers(self, numbers: Mapping[str, float | int | None], step: int) -> None:
        """Metrics of one epoch; those without a value are left out."""
        known = {_allowed(name): float(value) for name, value in numbers.items() if value is not None}
        self._do(lambda mlflow: mlflow.log_metrics(known, step=step))

    def close(self) -> None:
        """Waits a little for what has not been told."""
        if self._uri:
            self._steps.put(None)
            self._thread.join(END_WAIT_S)

    def _do(self, step: Step) -> None:
        if self._uri:
            self._steps.put(step)

    def _work(self) -> None:
        try:
            for name, value in PATIENCE.items():
                os.environ.setdefault(name, value)
            import mlflow  # three seconds, in this thread only

            mlflow.set_tracking_uri(self._uri)
            mlflow.set_experiment(self._experiment)
            with mlflow.start_run(run_name=f"job-{self._job_id}", tags={"job_id": self._job_id}):
                while (step := self._steps.get()) is not None:
                    step(mlflow)
        except Exception as error:  # noqa: BLE001 - a guest: its failures are told once and stay its own
            log.warning("MLflow hears no more of this job: %s: %s", type(error).__name__, error)


def _allowed(name: str) -> str:
    """MLflow takes letters, digits and ``_-. /``: ``mAP@0.5:0.95(M)`` -> ``mAP_0.5_0.95_M``."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name).strip("_ ")
