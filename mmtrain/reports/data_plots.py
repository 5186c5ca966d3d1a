"""What a data set looks like in numbers, as inline SVG in the style of the other plots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mmtrain.datasets.columns import SplitColumns
from mmtrain.datasets.profile import LARGE_FROM_PX, SMALL_BELOW_PX, objects_per_image
from mmtrain.reports.palette import COLORS, class_color
from mmtrain.reports.plots import INK, canvas, svg

MOST_POINTS = 2000
_GREY = "#8891a0"
_FINE_BINS = 30


def size_plot(splits: Sequence[SplitColumns], classes: int) -> str | None:
    """Size against aspect ratio, one point per object; evenly sampled, coloured by class where colours suffice."""
    boxes = np.concatenate([split.objects.bbox_xywh[:, 2:] for split in splits])
    category = np.concatenate([split.objects.category_id for split in splits])
    if not len(boxes):
        return None
    order = np.random.default_rng(0).permutation(
        evenly(len(boxes), MOST_POINTS)
    )  # else the last class hides the others
    width, height = boxes[order].T
    figure, axes = canvas("sqrt(width x height) of the box, pixels", "width : height")
    colors = [class_color(k) for k in category[order]] if classes <= len(COLORS) else _GREY
    axes.scatter(np.sqrt(width * height), width / height, s=7, c=colors, alpha=0.55, linewidths=0)
    axes.set(xscale="log", yscale="log")
    for limit in (SMALL_BELOW_PX, LARGE_FROM_PX):
        axes.axvline(limit, color=INK, linewidth=1, linestyle=":")
    axes.axhline(1, color=INK, linewidth=0.6)
    for axis, form in ((axes.xaxis, _plain), (axes.yaxis, _ratio)):
        axis.set_major_locator(LogLocator(base=2, numticks=9))
        axis.set_major_formatter(FuncFormatter(form))
        axis.set_minor_locator(NullLocator())
    return svg(figure)


def per_image_plot(splits: Sequence[SplitColumns]) -> str | None:
    """How many images have how many objects."""
    counts = np.concatenate([objects_per_image(split) for split in splits])
    if not len(counts):
        return None
    figure, axes = canvas("objects in an image", "images")
    highest = int(counts.max())
    step = max(1, -(-(highest + 1) // _FINE_BINS))
    axes.hist(counts, bins=(np.arange(0, highest + step + 1, step) - 0.5).tolist(), color=COLORS[0], rwidth=0.88)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="x")
    return svg(figure)


def image_size_plot(splits: Sequence[SplitColumns]) -> str | None:
    """Width against height; the area of a point grows with the number of images of that size. None for one size."""
    sizes = np.concatenate([split.size_wh for split in splits])
    found, counts = np.unique(sizes[np.isfinite(sizes).all(axis=1)], axis=0, return_counts=True)
    if len(found) < 2:
        return None
    shown = evenly(len(found), MOST_POINTS)
    figure, axes = canvas("width of the image, pixels", "height, pixels")
    area = 8 + 150 * counts[shown] / counts.max()
    axes.scatter(found[shown, 0], found[shown, 1], s=area, color=COLORS[0], alpha=0.5, linewidths=0)
    axes.set_xlim(left=0, right=found[:, 0].max() * 1.12)
    axes.set_ylim(bottom=0, top=found[:, 1].max() * 1.12)
    return svg(figure)


def evenly(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` of the rows 0..count-1."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def _plain(value: float, _: object) -> str:
    return f"{value:g}"


def _ratio(value: float, _: object) -> str:
    return f"{value:g}:1" if value >= 1 else f"1:{1 / value:g}"
