"""The report as one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from mmtrain.reports import plots
from mmtrain.reports.browse import ShownSection
from mmtrain.reports.formats import count, duration, fraction, is_double, plain, size
from mmtrain.reports.models import ERROR_KINDS, Metrics, Sample, TrainReport
from mmtrain.reports.palette import COLORS, class_color
from trainer_sdk.workspace import write_atomically

_WRITTEN_COUNTS_UP_TO = 25  # classes; a larger matrix shows colours only
_LEVEL_NAMES_UP_TO = 6  # classes, and _LEVEL_CHARACTERS each; more turn the column names upright
_LEVEL_CHARACTERS = 14
_TILES = 8
_TILE_ORDER = (
    *("mIoU", "mDice", "mAcc", "aAcc"),
    *("OKS-AP", "OKS-AP@0.5", "OKS-AP@0.75", "OKS-AR", "PCK@0.05", "PCK@0.1", "PCK@0.2", "swapped"),
    *("mAP@0.5:0.95", "mAP@0.5", "mAP@0.75", "precision", "recall", "f1", "AR@100"),
)  # fmt: skip
_CLASS_COLUMNS = {
    "ap_50_95": "AP 50:95", "ap_50": "AP 50", "ar_100": "AR 100", "ar": "AR",
    "iou": "IoU", "dice": "Dice", "acc": "Acc (recall)",
    "precision": "Precision", "recall": "Recall", "f1": "F1", "best_f1": "Best F1", "best_threshold": "at score",
}  # fmt: skip
_KEYPOINT_COLUMNS = {
    "pck_0.1": "PCK 0.1", "pck_0.05": "PCK 0.05", "pck_0.2": "PCK 0.2", "error_px": "Mean error (px)",
    "swapped": "Swapped",
}  # fmt: skip
_SEVERITIES = {"blocks": "bad", "repaired": "warn", "warns": "warn", "info": "calm"}
DATA_PAGE = "data.html"
"""Beside report.html, which links to it."""
_SEVERITY_ORDER = ("bad", "warn", "calm")


class Cell(NamedTuple):
    """One field of the confusion matrix; `share` of its row, 0..1."""

    objects: int
    share: float


def render_html(
    report: TrainReport,
    samples: Sequence[Sample] = (),
    shown: ShownSection | None = None,
    data_page: str | None = None,
) -> str:
    """The page. Sections without data say why they are empty in one line; `data_page` is linked to."""
    split = report.splits.get(report.evaluated_on)
    colors = _legend(report.class_names)
    curves, errors = (split.pr_curves, split.errors) if split else (None, None)
    drawn = [entry for entry in colors if curves and entry[0] in curves.classes]
    return environment().get_template("report.html.j2").render(
        report=report,
        split=split,
        samples=samples,
        data_page=data_page,
        shown=shown or ShownSection(problem="none were kept"),
        tiles=tiles(report),
        metric_rows=_metric_rows(report),
        class_columns=_class_columns(report),
        keypoint_columns=_KEYPOINT_COLUMNS,
        matrix=matrix_cells(report.confusion_matrix),
        matrix_labels=[*report.class_names, "background"][: len(report.confusion_matrix)],
        matrix_style=_matrix_style(report.class_names),
        loss_svg=markup(plots.loss_plot(report.curves)),
        lr_svg=markup(plots.lr_plot(report.curves)),
        metric_svg=markup(plots.metric_plot(report.curves, report.primary_metric.name, report.best_epoch)),
        pr_svg=markup(plots.pr_plot(curves, split.class_names) if split and curves else None),
        error_svg=markup(plots.error_plot(errors.counts) if errors else None),
        error_kinds=ERROR_KINDS,
        pr_legend=drawn if len(drawn) <= len(COLORS) else [],
        sample_legend=colors[:_WRITTEN_COUNTS_UP_TO],
        findings=sorted(report.findings, key=lambda finding: _SEVERITY_ORDER.index(_severity_class(finding.severity))),
    )  # fmt: skip


def write_report(
    report: TrainReport, samples: Sequence[Sample], folder: Path, shown: ShownSection | None = None
) -> tuple[Path, Path]:
    """Write report.json and report.html, each whole or not at all; returns their paths."""
    as_json, as_html = folder / "report.json", folder / "report.html"
    write_atomically(as_json, report.model_dump_json().encode())  # pydantic writes NaN and infinity as null
    data_page = DATA_PAGE if (folder / DATA_PAGE).exists() else None
    write_atomically(as_html, render_html(report, samples, shown, data_page).encode())
    return as_json, as_html


def tiles(report: TrainReport) -> Metrics:
    """The key numbers beside the headline: well-known ones first, never the headline or a double."""
    shown = {
        key: value for key, value in report.metrics.items() if key != report.primary_metric.name and not is_double(key)
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
    names = dict.fromkeys(name for metrics in by_split.values() for name in metrics if not is_double(name))
    return {name: {split: metrics.get(name) for split, metrics in by_split.items()} for name in names}


def _class_columns(report: TrainReport) -> dict[str, str]:
    """Key in per_class -> heading; masks lead where there are any, other tasks bring their own keys."""
    keys = list(dict.fromkeys(key for row in report.per_class.values() for key in row))
    suffix = "(M)" if "ap_50_95(M)" in keys else ""
    known = {f"{key}{suffix}": heading for key, heading in _CLASS_COLUMNS.items() if f"{key}{suffix}" in keys}
    if "acc" in keys:  # the same number
        known.pop("recall", None)
    return known or {key: key for key in keys if key not in ("support", "predictions")}


def environment() -> jinja2.Environment:
    """Where the pages' templates are rendered."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # not select_autoescape: it does not know the ending .j2
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in (fraction, count, duration, size, plain)}
    environment.filters["severity_class"] = _severity_class
    return environment


def markup(svg: str | None) -> Markup | None:
    """An SVG of ours, not to be escaped."""
    return None if svg is None else Markup(svg)  # noqa: S704 - drawn by us; texts in it were escaped by matplotlib


def _legend(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, class_color(i)) for i, name in enumerate(names)]


def _severity_class(severity: str) -> str:
    return _SEVERITIES.get(severity.lower(), "calm")
