"""Line plots as inline SVG: no background, text in the page's own font and colour, so light and dark both read well."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # the object API: pyplot keeps figures alive and picks a backend
from matplotlib.ticker import MaxNLocator

from mmtrain.reports.models import Curves, ErrorKind, Metrics, PrCurves
from mmtrain.reports.palette import COLORS, class_color
from trainer_sdk.texts.printable import printable

INK = "#010203"  # stands for the page's text colour until the SVG is written
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",  # same report, same bytes
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
_MOST_POINTS = 400
_MOST_LINES = len(COLORS)
_MOST_METRICS = 4
_LOG_SCALE_FROM = 30  # largest / smallest value

Line = tuple[str, list[float], list[float]]  # label, x, y


def loss_plot(curves: Curves) -> str | None:
    """The total loss and its parts over the epochs; None without points."""
    names = sorted({key for point in curves.train for key in point if "loss" in key})
    parts = [n for n in names if n != "loss" and "." not in n]  # "d3.loss_cls": auxiliary decoder layers, one too many
    wanted = [n for n in ("loss",) if n in names] + (parts or [n for n in names if n != "loss"])
    plot = _line_plot([_train_line(curves, name) for name in wanted[:_MOST_LINES]], "loss")
    if plot is None:
        return None
    figure, axes = plot
    if _spans_decades(axes):
        axes.set_yscale("log")
    return svg(figure)


def lr_plot(curves: Curves) -> str | None:
    """Learning rate over the epochs; None without points."""
    plot = _line_plot([_train_line(curves, "lr")], "learning rate")
    if plot is None:
        return None
    figure, axes = plot
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return svg(figure)


def metric_plot(curves: Curves, primary: str, best_epoch: float | None) -> str | None:
    """Validation metrics over the epochs with the best epoch marked; the primary one comes first."""
    names = list(dict.fromkeys(name for point in curves.validation for name in point.metrics))
    wanted = [primary] * (primary in names) + [n for n in names if n != primary]
    rows: list[Metrics] = [{**point.metrics, "epoch": point.epoch} for point in curves.validation]
    plot = _line_plot([_line(name, rows) for name in wanted[:_MOST_METRICS]], "validation metric")
    if plot is None:
        return None
    figure, axes = plot
    for line in axes.get_lines():
        line.set(marker="o", markersize=2.5)  # a run with one validation has a point and no line
    if best_epoch is not None:
        axes.axvline(best_epoch, color=INK, linewidth=1, linestyle=":")
        axes.set_title(f"best: epoch {best_epoch:g}", fontsize=8, color=INK, loc="right")
    return svg(figure)


def pr_plot(curves: PrCurves, class_names: list[str]) -> str | None:
    """Precision over recall at IoU 0.5 and the mean over the classes; the legend is the page's."""
    if not curves.classes:
        return None
    figure, axes = canvas("recall", "precision")
    few = len(curves.classes) <= _MOST_LINES
    for name, curve in curves.classes.items():
        color, width = (class_color(class_names.index(name)), 1.6) if few else ("#8891a0", 0.6)
        axes.plot(curves.recall, curve.precision, color=color, linewidth=width)
    columns = zip(*(curve.precision for curve in curves.classes.values()), strict=True)
    mean = [sum(column) / len(column) for column in columns]
    axes.plot(curves.recall, mean, color=INK, linewidth=2.2, linestyle="--")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03))
    return svg(figure)


def error_plot(counts: Mapping[ErrorKind, int]) -> str | None:
    """A bar for each kind of mistake with its count and its share of all; None without mistakes."""
    total = sum(counts.values())
    if not total:
        return None
    figure, axes = canvas("mistakes", "")
    bars = axes.barh([*counts], [*counts.values()], color=COLORS[0], height=0.62)
    axes.bar_label(bars, [f"{n} ({n / total:.0%})" for n in counts.values()], padding=3, fontsize=8, color=INK)
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()  # the first kind on top
    axes.margins(x=0.2)  # room for the labels
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return svg(figure)


def overlaid(lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], label: str) -> str | None:
    """The same curve of several jobs over their epochs, each in the colour of its place; None without points."""
    if not any(points for _, points in lines):
        return None
    figure, axes = canvas("epoch", label)
    for i, (_, points) in enumerate(lines):
        alone = "o" if len(points) == 1 else None
        axes.plot([x for x, _ in points], [y for _, y in points], color=class_color(i), linewidth=1.6, marker=alone)
    if _spans_decades(axes):
        axes.set_yscale("log")
    return svg(figure)


def _train_line(curves: Curves, name: str) -> Line:
    """Thinned to a few hundred means: a long run logs more points than a page has pixels."""
    label, x, y = _line(name, curves.train)
    stride = -(-len(x) // _MOST_POINTS) or 1
    return (
        label,
        [_mean(x[i : i + stride]) for i in range(0, len(x), stride)],
        [_mean(y[i : i + stride]) for i in range(0, len(y), stride)],
    )


def _line(name: str, rows: Iterable[Metrics]) -> Line:
    points = [(row["epoch"], row.get(name)) for row in rows]
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return name, [x for x, _ in known], [y for _, y in known]


def _line_plot(lines: Sequence[Line], label: str) -> tuple[Figure, Axes] | None:
    """One axes with the lines that have points; None when there is none."""
    lines = [line for line in lines if line[1]]
    if not lines:
        return None
    figure, axes = canvas("epoch", label)
    for i, (_, x, y) in enumerate(lines):
        alone = "o" if len(x) == 1 else None  # a line of one point would be invisible
        axes.plot(x, y, color=COLORS[i], linewidth=2 if i == 0 else 1.2, marker=alone)
    if len(lines) > 1:
        _legend(axes, [name for name, _, _ in lines])
    return figure, axes


def _spans_decades(axes: Axes) -> bool:
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()])
    return bool(values.min() > 0 and values.max() > _LOG_SCALE_FROM * values.min())


def canvas(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """One empty plot in the pages' style."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.margins(x=0.02)
    return figure, axes


def _legend(axes: Axes, names: list[str]) -> None:
    with mpl.rc_context(STYLE):
        legend = axes.legend(axes.get_lines()[: len(names)], [printable(name) for name in names])
    for text in legend.get_texts():
        text.set_parse_math(False)  # a "$" in a name is no formula


def svg(figure: Figure) -> str:
    """For inlining: without addresses, and its ink is the page's."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r' xmlns(:\w+)?="[^"]*"', "", text
    )  # HTML needs none, and a page without any address is easy to check
    return text.replace(INK, "currentColor")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
