"""The report as one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import orjson
from markupsafe import Markup

from mmtrain.reports import plots
from mmtrain.reports.models import Metrics, Sample, TrainReport
from mmtrain.reports.palette import COLORS, class_color
from trainer_sdk.workspace import write_atomically

_WRITTEN_COUNTS_UP_TO = 25  # classes; a larger matrix shows colours only
_LEVEL_NAMES_UP_TO = 6  # classes, and _LEVEL_CHARACTERS each; more turn the column names upright
_LEVEL_CHARACTERS = 14
_TILES = 8
_TILE_ORDER = ("mAP@0.5:0.95", "mAP@0.5", "mAP@0.75", "precision", "recall", "f1", "AR@100")
_UI_DOUBLES = ("mAP50(", "mAP50-95(", "precision(B)", "recall(B)")  # the same numbers under the platform's names
_CLASS_COLUMNS = {"ap_50_95": "AP 50:95", "ap_50": "AP 50", "precision": "Precision", "recall": "Recall", "f1": "F1"}
_SEVERITIES = {"blocks": "bad", "repaired": "warn", "warns": "warn", "info": "calm"}
_SEVERITY_ORDER = ("bad", "warn", "calm")


class Cell(NamedTuple):
    """One field of the confusion matrix; `share` of its row, 0..1."""

    objects: int
    share: float


def render_html(report: TrainReport, samples: Sequence[Sample] = ()) -> str:
    """The page. Sections without data say why they are empty in one line."""
    split = report.splits.get(report.evaluated_on)
    colors = _legend(report.class_names)
    drawn = [entry for entry in colors if split and entry[0] in split.pr_curves.classes]
    return _environment().get_template("report.html.j2").render(
        report=report,
        split=split,
        samples=samples,
        tiles=tiles(report),
        metric_rows=_metric_rows(report),
        class_columns=_class_columns(report),
        matrix=matrix_cells(report.confusion_matrix),
        matrix_labels=[*report.class_names, "background"],
        matrix_style=_matrix_style(report.class_names),
        loss_svg=_markup(plots.loss_plot(report.curves)),
        lr_svg=_markup(plots.lr_plot(report.curves)),
        metric_svg=_markup(plots.metric_plot(report.curves, report.primary_metric.name, report.best_epoch)),
        pr_svg=_markup(plots.pr_plot(split.pr_curves, split.class_names) if split else None),
        pr_legend=drawn if len(drawn) <= len(COLORS) else [],
        sample_legend=colors[:_WRITTEN_COUNTS_UP_TO],
        findings=sorted(report.findings, key=lambda finding: _SEVERITY_ORDER.index(_severity_class(finding.severity))),
    )  # fmt: skip


def write_report(report: TrainReport, samples: Sequence[Sample], folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.html, each whole or not at all; returns their paths."""
    as_json, as_html = folder / "report.json", folder / "report.html"
    write_atomically(as_json, report.model_dump_json().encode())  # pydantic writes NaN and infinity as null
    write_atomically(as_html, render_html(report, samples).encode())
    return as_json, as_html


def tiles(report: TrainReport) -> Metrics:
    """The key numbers beside the headline: well-known ones first, never the headline or a double."""
    shown = {
        key: value
        for key, value in report.metrics.items()
        if key != report.primary_metric.name and not key.startswith(_UI_DOUBLES)
    }
    known = [f"{key}{suffix}" for suffix in ("(M)", "") for key in _TILE_ORDER]
    order = [key for key in known if key in shown] + [key for key in shown if key not in known]
    return {key: shown[key] for key in order[:_TILES]}


def matrix_cells(matrix: list[list[int]]) -> list[list[Cell]]:
    """Counts with their share of the row: of the objects of one class, how many were seen as what."""
    return [[Cell(count, count / max(sum(row), 1)) for count in row] for row in matrix]


def _matrix_style(class_names: list[str]) -> str:
    """The CSS class that makes the matrix fit: "level", "steep" or "large"."""
    if len(class_names) > _WRITTEN_COUNTS_UP_TO:
        return "large"
    short = all(len(name) <= _LEVEL_CHARACTERS for name in class_names)
    return "level" if short and len(class_names) <= _LEVEL_NAMES_UP_TO else "steep"


def _metric_rows(report: TrainReport) -> dict[str, Metrics]:
    """Metric name -> value by split, for the table that compares val and test."""
    by_split = {name: split.metrics for name, split in report.splits.items()} or {report.evaluated_on: report.metrics}
    names = dict.fromkeys(name for metrics in by_split.values() for name in metrics if not name.startswith(_UI_DOUBLES))
    return {name: {split: metrics.get(name) for split, metrics in by_split.items()} for name in names}


def _class_columns(report: TrainReport) -> dict[str, str]:
    """Key in per_class -> heading; masks lead where there are any, other tasks bring their own keys."""
    keys = list(dict.fromkeys(key for row in report.per_class.values() for key in row))
    suffix = "(M)" if "ap_50_95(M)" in keys else ""
    known = {f"{key}{suffix}": heading for key, heading in _CLASS_COLUMNS.items() if f"{key}{suffix}" in keys}
    return known or {key: key for key in keys if key not in ("support", "predictions")}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # not select_autoescape: it does not know the ending .j2
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fraction": _fraction, "duration": _duration, "size": _size, "plain": _plain}
    environment.filters["severity_class"] = _severity_class
    return environment


def _markup(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)  # noqa: S704 - drawn by us; texts in it were escaped by matplotlib


def _legend(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, class_color(i)) for i, name in enumerate(names)]


def _severity_class(severity: str) -> str:
    return _SEVERITIES.get(severity.lower(), "calm")


def _fraction(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
