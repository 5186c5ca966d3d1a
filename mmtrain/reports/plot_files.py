"""The report's plots as PNG files, for a platform that shows pictures and no page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mmtrain.reports.models import Evaluation
from mmtrain.reports.palette import COLORS, class_color
from trainer_sdk.texts.printable import printable

DPI = 120
MOST_NAMES = 40
"""Classes; a larger matrix has numbered rows."""
MOST_WRITTEN = 15
"""Classes whose counts are written into their fields."""


def write_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Those that there is something to draw for: ``confusion_matrix.png``, ``PR_curve.png``, ``per_class.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    draw: dict[str, Callable[[Evaluation], Figure | None]] = {
        "confusion_matrix": _confusion_matrix,
        "PR_curve": _pr_curve,
        "per_class": _per_class,
    }
    written = []
    for name, function in draw.items():
        with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
            figure = function(evaluation)
            if figure is not None:
                written.append(folder / f"{name}.png")
                figure.savefig(written[-1], dpi=DPI, metadata={"Software": None})
    return written


def _confusion_matrix(evaluation: Evaluation) -> Figure | None:
    """Colour: share of the row."""
    if not evaluation.confusion_matrix:
        return None
    counts = np.asarray(evaluation.confusion_matrix, dtype=np.float64)
    labels = [printable(name) for name in (*evaluation.class_names, "background")][: len(counts)]
    side = min(14.0, 3.5 + 0.35 * len(labels))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="what the model says", ylabel="what it is")
    if len(labels) <= MOST_NAMES:
        axes.set_xticks(range(len(labels)), labels, rotation=90, parse_math=False)
        axes.set_yticks(range(len(labels)), labels, parse_math=False)
    if len(labels) <= MOST_WRITTEN:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                dark = count > counts[row].sum() / 2
                axes.text(column, row, f"{count:.0f}", ha="center", va="center", color="white" if dark else "black")
    return figure


def _pr_curve(evaluation: Evaluation) -> Figure | None:
    curves = evaluation.pr_curves
    if curves is None or not curves.classes:
        return None
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    few = len(curves.classes) <= len(COLORS)
    for name, curve in curves.classes.items():
        color = class_color(evaluation.class_names.index(name)) if few else "#8891a0"
        axes.plot(curves.recall, curve.precision, color=color, linewidth=1.6 if few else 0.6, label=printable(name))
    mean = np.mean([curve.precision for curve in curves.classes.values()], axis=0)
    axes.plot(curves.recall, mean, color="black", linewidth=2.2, linestyle="--", label="mean")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    if few:
        for text in axes.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)  # a "$" in a name is no formula
    return figure


def _per_class(evaluation: Evaluation) -> Figure | None:
    """The first number that the report's table has, of each class."""
    keys = ("ap_50_95(M)", "ap_50_95", "iou", "ap")
    key = next((key for key in keys if any(key in row for row in evaluation.per_class.values())), None)
    if key is None or len(evaluation.per_class) > 2 * MOST_NAMES:
        return None
    rows = {name: row.get(key) for name, row in evaluation.per_class.items()}
    figure = Figure(figsize=(6.4, 1.2 + 0.25 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(rows)), [value or 0.0 for value in rows.values()], color=COLORS[0])
    axes.set_yticks(range(len(rows)), [printable(name) for name in rows], parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel=key.replace("_", " "), xlim=(0, 1))
    return figure
