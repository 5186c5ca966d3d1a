"""What a training leaves behind that says how it was when it failed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from mmtrain.engine.messages import EpochEnd, Iteration, News, parse_news
from mmtrain.engine.order import LOG, MESSAGES
from trainer_sdk.failures.evidence import LastIteration, last_lines
from trainer_sdk.workspace import Workspace

LAST_ITERATIONS = 20
TAIL_BYTES = 2**20
"""Of the messages: some hours."""


def seen_in(space: Workspace) -> Mapping[str, Any]:
    """Fields of `trainer_sdk.failures.evidence.Evidence`, from the job's folder."""
    found: dict[str, Any] = {"worker_log": last_lines(space.work / LOG)}
    return found | _plan(space.path("plan.json")) | _course(space.work / MESSAGES)


def _plan(path: Path) -> dict[str, Any]:
    """Empty before there is one."""
    try:
        plan = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return {name: plan[name]["value"] for name in ("batch", "accumulate", "imgsz", "workers")}


def _course(path: Path) -> dict[str, Any]:
    news = _last_news(path)
    iterations = [one for one in news if isinstance(one, Iteration)][-LAST_ITERATIONS:]
    ends = [one for one in news if isinstance(one, EpochEnd)]
    fields = LastIteration.model_fields
    return {
        "last_iterations": [LastIteration.model_validate(one.model_dump(include=set(fields))) for one in iterations],
        "peak_worker_bytes": max((int(end.peak_rss_bytes) for end in ends if end.peak_rss_bytes), default=None),
        "peak_gpu_bytes": max((int(end.peak_gpu_bytes) for end in ends if end.peak_gpu_bytes), default=None),
    }


def _last_news(path: Path) -> list[News]:
    """As far as they can be read: the first line may be cut, the last half written."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().splitlines()
    news = []
    for line in lines:
        with contextlib.suppress(ValidationError):
            news.append(parse_news(line))
    return news
