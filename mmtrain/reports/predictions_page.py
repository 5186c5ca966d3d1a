"""What a model saw in many pictures, as one page: how many of what, some pictures, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from mmtrain.reports.drawing import jpeg, read_rgb
from mmtrain.reports.palette import class_color
from mmtrain.reports.render import environment
from trainer_sdk.workspace import write_atomically

PAGE = "report.html"
MOST_TILES = 24
TILE = (720, 720)
QUALITY = 80


class Tile(NamedTuple):
    """A picture that was drawn on."""

    name: str
    remark: str
    jpeg: str


class FoundClass(NamedTuple):
    """One row of the table; `share` of the most frequent class, 0..1."""

    name: str
    color: str
    found: int
    share: float


def write_predictions_page(
    summary: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], out: Path, *, title: str = "Predictions"
) -> Path:
    """Writes report.html into `out` and returns its path.

    Args:
        summary: of all pictures: task, class_names, of_class, images, objects, unreadable, first_problems, notes,
            inference_ms, wall_s.
        rows: {path, error, row} of the first pictures; annotated ones are in ``out/images/<path>``.
    """
    looked_at = summary["images"] - summary["unreadable"]
    page = environment().get_template("predictions.html.j2").render(
        title=title,
        task=summary["task"],
        images=summary["images"],
        objects=summary["objects"],
        average_ms=f"{summary['inference_ms'] / max(looked_at, 1):.1f}",
        per_second=f"{looked_at / max(summary['wall_s'], 1e-9):.1f}",
        notes=summary["notes"],
        legend=found_classes(summary["class_names"], summary["of_class"]),
        tiles=_tiles([row for row in rows if not row["error"]], out / "images"),
        unreadable=summary["unreadable"],
        problems=summary["first_problems"],
    )  # fmt: skip
    path = out / PAGE
    write_atomically(path, page.encode())
    return path


def found_classes(names: Sequence[str], counts: Mapping[str, int]) -> list[FoundClass]:
    """Those that were found, the most frequent first, in the colours of their pictures."""
    most = max(counts.values(), default=0)
    found = [
        FoundClass(name, class_color(k), counts[name], counts[name] / most)
        for k, name in enumerate(names)
        if counts.get(name)
    ]
    return sorted(found, key=lambda one: -one.found)


def spread(count: int, most: int) -> list[int]:
    """At most so many positions, evenly over all."""
    return list(range(count)) if count <= most else [round(at * (count - 1) / (most - 1)) for at in range(most)]


def _tiles(rows: Sequence[Mapping[str, Any]], images: Path) -> list[Tile]:
    tiles = []
    for position in spread(len(rows), MOST_TILES):
        row = rows[position]
        picture = read_rgb(images / row["path"])
        if picture is None:
            continue
        height, width = picture.shape[:2]
        scale = min(1.0, TILE[0] / width, TILE[1] / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        found = len(row["row"]["predictions"])
        remark = f"{found} found" if found else "nothing found"
        tiles.append(Tile(row["row"]["image_name"], remark, jpeg(Image.fromarray(small), QUALITY)))
    return tiles
