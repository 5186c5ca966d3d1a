"""Jobs side by side: the rows of a table, for a terminal and for a page that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue

from mmtrain.reports.formats import count, duration, fraction, plain, size
from mmtrain.reports.models import Curves, Metrics
from mmtrain.reports.palette import class_color
from trainer_sdk.workspace import write_atomically

NONE = "\N{EN DASH}"
_PHASES = ("check", "fetch", "inspect", "plan", "train", "report", "publish")
"""In the order of a training job; outcome.json has them by name."""
_SMALLER_IS_BETTER = ("error_px", "swapped")


class Speed(BaseModel):
    """As MMEngine logged it, but for the whole; None where nothing is known."""

    model_config = ConfigDict(frozen=True)

    iteration_s: float | None = None
    whole_iteration_s: float | None = None
    """Of a finished training with its validations, by the iterations done."""
    data_share: float | None = None
    """Of an iteration's time spent waiting for data, 0..1."""
    peak_memory_bytes: int | None = None
    """Of the GPU, as torch counts it."""


class JobSummary(BaseModel):
    """One job, as far as it has come."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: str
    remarks: list[str] = []
    task: str | None = None
    model: str | None = None
    dataset: str | None = None
    primary_metric: str | None = None
    metrics: Metrics = {}
    measured_on: str | None = None
    curves: Curves = Curves()
    epochs_done: int = 0
    epochs_planned: int | None = None
    best_epoch: int | None = None
    phases_s: dict[str, float] = {}
    speed: Speed = Speed()
    checkpoint_bytes: int | None = None
    parameters: int | None = None
    plan: dict[str, JsonValue] = {}


class Row(NamedTuple):
    """One line of the table: a cell for each job, and the positions of the best ones where they can be ranked."""

    label: str
    cells: list[str]
    best: frozenset[int] = frozenset()


class Section(NamedTuple):
    title: str
    rows: list[Row]
    remark: str = ""


def sections(jobs: Sequence[JobSummary]) -> list[Section]:
    """What there is to compare, most interesting first."""
    metrics, differences = _metrics(jobs), plan_differences(jobs)
    without = [job.name for job in jobs if not job.plan]
    return [
        Section("Job", _about(jobs)),
        Section("Metrics", metrics, "" if metrics else "none of them was measured"),
        Section("Time and memory", _costs(jobs)),
        Section(
            "Differences in the plan",
            differences,
            f"no plan: {', '.join(without)}" if without else "" if differences else "none",
        ),
    ]


def plan_differences(jobs: Sequence[JobSummary]) -> list[Row]:
    """The values that are not the same in all jobs that have a plan."""
    planned = [job for job in jobs if job.plan]
    names = dict.fromkeys(name for job in planned for name in job.plan)
    different = [name for name in names if len({plain(job.plan.get(name)) for job in planned}) > 1]
    return [Row(name, [plain(job.plan[name]) if name in job.plan else NONE for job in jobs]) for name in different]


def write_comparison(jobs: Sequence[JobSummary], path: Path) -> None:
    """One HTML file."""
    from mmtrain.reports import plots
    from mmtrain.reports.render import environment, markup  # matplotlib: a second that only the page needs

    metric = headline_metric(jobs)
    colors = [(job.name, class_color(i)) for i, job in enumerate(jobs)]
    html = environment().get_template("comparison.html.j2").render(
        jobs=jobs,
        colors=colors,
        sections=sections(jobs),
        metric=metric,
        loss_svg=markup(plots.overlaid([(job.name, _points(job.curves.train, "loss")) for job in jobs], "loss")),
        metric_svg=markup(plots.overlaid([(job.name, _validations(job, metric)) for job in jobs], metric or "")),
    )  # fmt: skip
    write_atomically(path, html.encode())


def headline_metric(jobs: Iterable[JobSummary]) -> str | None:
    """The metric of the overlaid plot: a primary one, else the first that was ever validated."""
    measured = [name for job in jobs for point in job.curves.validation for name in point.metrics]
    primary = [job.primary_metric for job in jobs if job.primary_metric in measured]
    return next(iter([*primary, *measured]), None)


def _about(jobs: Sequence[JobSummary]) -> list[Row]:
    def row(label: str, values: Iterable[Any]) -> Row:
        return Row(label, [NONE if value is None else str(value) for value in values])

    return [
        row("status", (job.status for job in jobs)),
        row("model", (job.model for job in jobs)),
        row("data set", (job.dataset for job in jobs)),
        row("task", (job.task for job in jobs)),
        row("epochs", (f"{job.epochs_done} of {job.epochs_planned or '?'}" for job in jobs)),
        row("best epoch", (job.best_epoch for job in jobs)),
        Row("parameters", [count(job.parameters) for job in jobs]),
        Row("checkpoint", [size(job.checkpoint_bytes) for job in jobs]),
    ]


def _metrics(jobs: Sequence[JobSummary]) -> list[Row]:
    names = list(dict.fromkeys(name for job in jobs for name in job.metrics))
    primary = {job.primary_metric for job in jobs}
    names.sort(key=lambda name: name not in primary)  # stable: the primary ones come first
    rows = [_metric_row(name, jobs) for name in names]
    measured = [Row("measured on", [job.measured_on or NONE for job in jobs])] if rows else []
    return measured + rows


def _metric_row(name: str, jobs: Sequence[JobSummary]) -> Row:
    values = [job.metrics.get(name) for job in jobs]
    grounds = {(job.dataset, job.measured_on) for job in jobs if job.metrics.get(name) is not None}
    best = _best(values, smaller=name in _SMALLER_IS_BETTER) if len(grounds) == 1 else frozenset[int]()
    return Row(name, [fraction(value) for value in values], best)


def _costs(jobs: Sequence[JobSummary]) -> list[Row]:
    measured = {name for job in jobs for name in job.phases_s}
    phases = [*(name for name in _PHASES if name in measured), *sorted(measured.difference(_PHASES))]
    totals = [sum(job.phases_s.values()) if job.phases_s else None for job in jobs]
    shares = [job.speed.data_share for job in jobs]
    seconds = [job.speed.iteration_s for job in jobs]
    whole = [job.speed.whole_iteration_s for job in jobs]
    memory = [job.speed.peak_memory_bytes for job in jobs]
    process = [job.curves.peak_rss_bytes for job in jobs]
    rows = [
        *(Row(name, [duration(job.phases_s.get(name)) for job in jobs]) for name in phases),
        Row("in all", [duration(total) for total in totals]),
        Row("iteration", [_seconds(s) for s in seconds], _best(seconds, smaller=True)),
        Row("of it for data", [NONE if share is None else f"{share:.0%}" for share in shares]),
        Row("with validations", [_seconds(s) for s in whole], _best(whole, smaller=True)),
        Row("peak GPU memory", [size(value) for value in memory], _best(memory, smaller=True)),
        Row("peak process memory", [size(value) for value in process], _best(process, smaller=True)),
    ]
    return [row for row in rows if {*row.cells} != {NONE}]


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f} s"


def _best(values: Sequence[float | None], *, smaller: bool) -> frozenset[int]:
    """Where the best value stands, if there are different ones to choose from."""
    known = [value for value in values if value is not None]
    if len(set(known)) < 2:
        return frozenset()
    best = min(known) if smaller else max(known)
    return frozenset(i for i, value in enumerate(values) if value == best)


def _points(rows: Iterable[Metrics], name: str) -> list[tuple[float, float]]:
    pairs = [(row.get("epoch"), row.get(name)) for row in rows]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _validations(job: JobSummary, metric: str | None) -> list[tuple[float, float]]:
    return _points([{**point.metrics, "epoch": point.epoch} for point in job.curves.validation], metric or "")
