"""Arrows with four points, drawn in code, for tests and for the proof that pose models learn. In DICE.

``python -m mmtrain.datasets.pose_shapes FOLDER`` writes a set of them.

An arrow points anywhere, and its wings look alike: which of them is the left one, only its direction says. So a mirror
image is a good example exactly if its left and right are exchanged.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from mmtrain.datasets.shapes import background, box_xywh
from trainer_sdk.workspace import write_json

NAMES = ("tip", "left_wing", "tail", "right_wing")
OUTLINE = ((0.0, -1.0), (-0.7, 0.8), (0.0, 0.35), (0.7, 0.8))
"""The points of an arrow that points up, in units of its radius; y down."""
SKELETON = ((1, 2), (2, 3), (3, 4), (4, 1))
FLIP_PAIRS = ((2, 4),)
CLASSES = ("arrow", "pale arrow")
COLOURS = ((200, 70, 50), (235, 225, 200))
HIDDEN_SHARE, UNLABELLED_SHARE = 0.1, 0.1
"""Of the arrows have one point behind a disc (v = 1), or one that nobody labelled (v = 0)."""
HIDDEN, VISIBLE = 1, 2


def write_arrows(
    folder: Path,
    *,
    counts: dict[str, int],
    size: tuple[int, int] = (128, 128),
    classes: int = 1,
    most: int = 3,
    seed: int = 0,
) -> Path:
    """Draws a data set in the labeler's nested form (variant A of contract 4.2).

    Args:
        counts: images per split, for example {"train": 80, "val": 20}.
        size: width and height of every image in pixels.
        classes: 1 or 2; they share their points.
        most: arrows in an image; at least one.

    Returns:
        the folder.
    """
    draw = random.Random(seed)
    splits = [split for split, count in counts.items() for _ in range(count)]
    identifiers = iter(range(1, 1_000_000))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = []
    for index, split in enumerate(splits, start=1):
        picture, name = background(size, draw), f"arrow_{index:04d}.png"
        arrows = [_draw_arrow(picture, size, draw, classes) for _ in range(draw.randint(1, most))]
        picture.save(folder / "images" / name)
        images.append(
            {"id": index, "file_name": name, "width": size[0], "height": size[1], "depth": 3, "split": split}
            | {"annotations": [{"id": next(identifiers), **arrow} for arrow in arrows]}
        )
    points = {"keypoints": list(NAMES), "skeleton": SKELETON, "flip_pairs": FLIP_PAIRS}
    declared = [{"id": number, "name": name, "color": "#1f77b4", **points} for number, name in enumerate(CLASSES)]
    document: dict[str, Any] = {"format_version": "1.0", "dataset_id": folder.name, "dataset_name": "arrows"}
    document |= {"task_type": "pose_estimation", "classes": declared[:classes], "images": images}
    write_json(folder / "annotations_pose.json", document)
    return folder


def arrow_points(centre: tuple[float, float], radius: float, turn: float) -> list[tuple[float, float]]:
    """The four points; `turn` in radians, clockwise as one sees it."""
    cos, sin = math.cos(turn), math.sin(turn)
    return [(centre[0] + radius * (x * cos - y * sin), centre[1] + radius * (x * sin + y * cos)) for x, y in OUTLINE]


def _draw_arrow(picture: Image.Image, size: tuple[int, int], draw: random.Random, classes: int) -> dict[str, Any]:
    label, radius = draw.randrange(classes), draw.uniform(0.16, 0.3) * min(size)
    centre = (draw.uniform(radius, size[0] - radius), draw.uniform(radius, size[1] - radius))
    points = arrow_points(centre, radius, draw.uniform(-math.pi, math.pi))
    pen = ImageDraw.Draw(picture)
    pen.polygon(points, fill=tuple(value + draw.randint(-20, 20) for value in COLOURS[label]))
    seen = [VISIBLE] * len(points)
    fate, chosen = draw.random(), draw.randrange(len(points))
    if fate < HIDDEN_SHARE:
        (x, y), disc = points[chosen], 0.2 * radius
        pen.ellipse((x - disc, y - disc, x + disc, y + disc), fill=(60, 60, 60))
        seen[chosen] = HIDDEN
    elif fate < HIDDEN_SHARE + UNLABELLED_SHARE:
        seen[chosen] = 0
    box = box_xywh(points)
    return {
        "class_id": label,
        "class_name": CLASSES[label],
        "bbox": box,
        "bbox_format": "xywh",
        "area": round(box[2] * box[3], 2),
        "iscrowd": 0,
        "keypoints": [
            [round(x, 2), round(y, 2), v] if v else [0, 0, 0] for (x, y), v in zip(points, seen, strict=True)
        ],
        "num_keypoints": sum(v > 0 for v in seen),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draws a small data set of arrows with keypoints in DICE.")
    parser.add_argument("folder", type=Path)
    for split, count in (("train", 300), ("val", 40), ("test", 40)):
        parser.add_argument(f"--{split}", type=int, default=count)
    options = parser.parse_args()
    write_arrows(options.folder, counts={split: getattr(options, split) for split in ("train", "val", "test")})


if __name__ == "__main__":
    main()
