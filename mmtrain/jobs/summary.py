"""What a job's folder says about it, as far as it has come: the input of a comparison.

Read without our own strict models where older and newer versions may differ (plan.json, report.json), and never
failing: what cannot be read is a remark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from mmtrain.engine.messages import EpochEnd, Finished, FitStarted, News, Validated, lasting, read_news
from mmtrain.engine.order import MESSAGES
from mmtrain.metrics import ui_metrics
from mmtrain.reports.comparison import JobSummary, Speed
from mmtrain.reports.formats import is_double
from mmtrain.reports.models import Curves, Metrics, ValidationPoint
from trainer_sdk.lifecycle.outcome import Outcome

JOB_FILES = ("job.json", "outcome.json", "plan.json")
"""Any of them makes a folder a job's."""
NOT_COMPARED = ("weights_file", "keypoints")
"""Of the plan: where a file happens to lie, and what follows from the data."""

Read = TypeVar("Read")


def is_job(folder: Path) -> bool:
    """Whether a job was ever begun in this folder."""
    return any((folder / name).is_file() for name in JOB_FILES)


def summary_of(folder: Path) -> JobSummary:
    """Reads outcome.json, plan.json, out/report.json, the worker's messages and MMEngine's scalars."""
    remarks: list[str] = []
    outcome = _read(folder / "outcome.json", Outcome.model_validate_json, remarks)
    job: dict[str, Any] = _read(folder / "job.json", _object, remarks) or {}
    plan: dict[str, Any] = _read(folder / "plan.json", _object, remarks) or {}
    report: dict[str, Any] = _read(folder / "out" / "report.json", _object, remarks) or {}
    news = lasting(read_news(folder / "work" / MESSAGES))
    started = [message for message in news if isinstance(message, FitStarted)]
    finished = [message for message in news if isinstance(message, Finished)]
    decided = _decided(plan)
    epochs = [message for message in news if isinstance(message, EpochEnd)]
    curves = _curves(news)
    metrics, measured_on = _metrics(report, curves)
    best = folder / "out" / "best.pth"
    return JobSummary(
        name=folder.name,
        status=outcome.status if outcome else "unfinished",
        remarks=[*_ending(outcome), *remarks],
        task=plan.get("task") or job.get("task"),
        model=plan.get("recipe") or job.get("model_name"),
        dataset=(job.get("dataset") or {}).get("id"),
        primary_metric=(report.get("primary_metric") or {}).get("name"),
        metrics=metrics,
        measured_on=measured_on,
        curves=curves,
        epochs_done=finished[-1].epochs if finished else max((message.epoch for message in epochs), default=0),
        epochs_planned=decided.get("epochs"),
        best_epoch=finished[-1].best_epoch if finished else None,
        phases_s=outcome.timings_s if outcome else {},
        speed=_speed(folder / "work", finished[-1].train_s / epochs[-1].iteration if finished and epochs else None),
        checkpoint_bytes=best.stat().st_size if best.is_file() else None,
        parameters=started[-1].parameters if started else None,
        plan=decided,
    )


def _ending(outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return ["no outcome.json: still running, or ended without a word"]
    if outcome.status == "completed":
        return []
    return [f"{outcome.status} during {outcome.phase}: [{outcome.code}] {outcome.message}"]


def _read(path: Path, parse: Callable[[bytes], Read], remarks: list[str]) -> Read | None:
    """None for a file that is not there; one that cannot be read is a remark besides."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # pydantic's and orjson's errors are ValueErrors
        remarks.append(f"{path.name} cannot be read: {_first_line(error)}")
        return None


def _object(raw: bytes) -> dict[str, Any]:
    document = orjson.loads(raw)
    if not isinstance(document, dict):
        raise ValueError(f"holds {type(document).__name__}, not an object")
    return document


def _decided(plan: dict[str, Any]) -> dict[str, Any]:
    """Name -> value; what was decided comes with origin and reason."""
    return {
        name: value["value"] if isinstance(value, dict) and "value" in value else value
        for name, value in plan.items()
        if name not in NOT_COMPARED
    }


def _curves(news: Sequence[News]) -> Curves:
    train: list[Metrics] = []
    validation = []
    for message in news:
        if isinstance(message, EpochEnd):
            about = {"epoch": message.epoch, "lr": message.lr, "peak_rss_bytes": message.peak_rss_bytes}
            train.append({**about, **message.losses})
        elif isinstance(message, Validated):
            metrics = {name: value for name, value in ui_metrics(message.metrics).items() if not is_double(name)}
            validation.append(ValidationPoint(epoch=message.epoch, metrics=metrics))
    return Curves(train=train, validation=validation)


def _metrics(report: dict[str, Any], curves: Curves) -> tuple[Metrics, str | None]:
    """The report's; without one the last validation's."""
    if report.get("metrics"):
        return {k: v for k, v in report["metrics"].items() if not is_double(k)}, report.get("evaluated_on")
    if curves.validation:
        last = curves.validation[-1]
        return last.metrics, f"val, epoch {last.epoch:g}"
    return {}, None


def _speed(work: Path, whole_iteration_s: float | None) -> Speed:
    """From MMEngine's own log: `time` and `data_time` in seconds an iteration, `memory` in MiB of a GPU."""
    rows: list[dict[str, Any]] = []
    for path in sorted(work.glob("*/vis_data/scalars.json")):
        for line in path.read_bytes().splitlines():
            try:
                rows.append(_object(line))
            except ValueError:
                continue
    training = [row for row in rows if "time" in row and "loss" in row]
    seconds = [float(row["time"]) for row in training]
    waiting = [float(row.get("data_time") or 0) for row in training]
    memory = [float(row["memory"]) for row in rows if row.get("memory")]
    return Speed(
        whole_iteration_s=whole_iteration_s,
        iteration_s=sum(seconds) / len(seconds) if seconds else None,
        data_share=sum(waiting) / sum(seconds) if sum(seconds) else None,
        peak_memory_bytes=round(max(memory) * 2**20) if memory else None,
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
