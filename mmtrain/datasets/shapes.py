"""A small data set drawn in code: circles, squares and triangles in DICE, for the demo and for tests.

``python -m mmtrain.datasets.shapes FOLDER`` writes one.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from trainer_sdk.workspace import write_json

CLASSES = ("circle", "square", "triangle")
COLOURS = ((205, 60, 50), (60, 170, 75), (55, 95, 200))
"""One family per class, so that a few epochs from scratch are enough to learn something."""
ANNOTATIONS = {
    "object_detection": "annotations_detection.json",
    "instance_segmentation": "annotations_segmentation.json",
    "semantic_segmentation": "annotations_semantic_segmentation.json",
}
Point = tuple[float, float]
Outline = list[Point]


def write_shapes(
    folder: Path,
    *,
    counts: dict[str, int],
    size: tuple[int, int] = (128, 128),
    task: Literal["object_detection", "instance_segmentation", "semantic_segmentation"] = "object_detection",
    variant: Literal["A", "B"] = "A",
    mask_files: bool = False,
    seed: int = 0,
) -> Path:
    """Draws a data set.

    Args:
        counts: images per split, for example {"train": 80, "val": 20}.
        size: width and height of every image in pixels.
        variant: A, the labeler's nested form, or B, the COCO-like one with other category ids.
        mask_files: a picture of class ids for every image instead of polygons; semantic segmentation in variant A.

    Returns:
        the folder.
    """
    draw = random.Random(seed)
    splits = [split for split, count in counts.items() for _ in range(count)]
    images = [_write_image(folder, index, split, size, draw) for index, split in enumerate(splits, start=1)]
    if mask_files:
        document = _with_mask_files(images, folder, task)
    else:
        document = _nested(images, folder.name, task) if variant == "A" else _coco_like(images, folder.name)
    write_json(folder / ANNOTATIONS[task], document)
    return folder


def _write_image(folder: Path, index: int, split: str, size: tuple[int, int], draw: random.Random) -> dict[str, Any]:
    picture = background(size, draw)
    objects = [_draw_object(picture, size, draw) for _ in range(draw.randint(1, 4))]
    name = f"shape_{index:04d}.png"
    path = folder / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    width, height = size
    return {"id": index, "file_name": name, "width": width, "height": height, "split": split, "objects": objects}


def background(size: tuple[int, int], draw: random.Random) -> Image.Image:
    """Soft grey noise: enough to make an empty patch differ from an object."""
    noise = np.random.default_rng(draw.randrange(2**32)).integers(90, 150, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.5))


def _draw_object(picture: Image.Image, size: tuple[int, int], draw: random.Random) -> dict[str, Any]:
    label = draw.randrange(len(CLASSES))
    radius = draw.uniform(0.13, 0.26) * min(size)
    centre = (draw.uniform(radius, size[0] - radius), draw.uniform(radius, size[1] - radius))
    outline = shape_outline(CLASSES[label], centre, radius, draw.uniform(-0.25, 0.25))
    colour = tuple(value + draw.randint(-45, 45) for value in COLOURS[label])
    ImageDraw.Draw(picture).polygon(outline, fill=colour)
    return {"label": label, "outline": outline, "bbox_xywh": box_xywh(outline)}


def shape_outline(kind: str, centre: Point, radius: float, angle: float) -> Outline:
    """Corner points of a shape, upright at angle 0 (radians); a circle has 24."""
    corners, upright = {"circle": (24, 0.0), "square": (4, math.pi / 4), "triangle": (3, -math.pi / 2)}[kind]
    steps = (upright + angle + 2 * math.pi * corner / corners for corner in range(corners))
    return [(centre[0] + radius * math.cos(step), centre[1] + radius * math.sin(step)) for step in steps]


def box_xywh(outline: Outline) -> list[float]:
    """The box around some points."""
    xs, ys = zip(*outline, strict=True)
    return [round(value, 2) for value in (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))]


def _annotation(identifier: int, thing: dict[str, Any]) -> dict[str, Any]:
    polygon = [round(value, 2) for point in thing["outline"] for value in point]
    box = thing["bbox_xywh"]
    return {
        "id": identifier,
        "bbox": box,
        "area": round(box[2] * box[3], 2),
        "iscrowd": 0,
        "segmentation": [polygon],
    }


def _nested(images: Sequence[dict[str, Any]], name: str, task: str) -> dict[str, Any]:
    """Variant A of contract 4.2."""
    numbers = iter(range(1, 1_000_000))
    return {
        "format_version": "1.0",
        "dataset_id": name,
        "dataset_name": "shapes",
        "task_type": task,
        "classes": [{"id": index, "name": label, "color": "#1f77b4"} for index, label in enumerate(CLASSES)],
        "images": [
            {key: value for key, value in image.items() if key != "objects"}
            | {
                "depth": 3,
                "annotations": [
                    _annotation(next(numbers), thing)
                    | {"class_id": thing["label"], "class_name": CLASSES[thing["label"]], "bbox_format": "xywh"}
                    for thing in image["objects"]
                ],
            }
            for image in images
        ],
    }


def _with_mask_files(images: Sequence[dict[str, Any]], folder: Path, task: str) -> dict[str, Any]:
    """Variant A with masks: numbers from 1 on, and a 0, which is no class, where nothing was drawn."""
    (folder / "masks").mkdir(exist_ok=True)
    return {
        "format_version": "1.0",
        "dataset_id": folder.name,
        "task_type": task,
        "classes": [{"id": number, "name": label} for number, label in enumerate(CLASSES, start=1)],
        "images": [
            {key: value for key, value in image.items() if key != "objects"}
            | {
                "annotation": {
                    "mask_file": _write_mask(image, folder),
                    "mask_format": "indexed_png",
                    "num_classes": len(CLASSES),
                }
            }
            for image in images
        ],
    }


def _write_mask(image: dict[str, Any], folder: Path) -> str:
    mask = Image.new("L", (image["width"], image["height"]))
    for thing in image["objects"]:
        ImageDraw.Draw(mask).polygon(thing["outline"], fill=thing["label"] + 1)
    name = f"masks/{Path(image['file_name']).stem}_mask.png"
    mask.save(folder / name)
    return name


def _coco_like(images: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Variant B: flat, with category ids that are neither contiguous nor in order."""
    identifiers = (17, 3, 90)
    numbers = iter(range(1, 1_000_000))
    return {
        "info": {"description": name},
        "categories": [{"id": identifiers[index], "name": label} for index, label in enumerate(CLASSES)],
        "images": [{key: value for key, value in image.items() if key != "objects"} for image in images],
        "annotations": [
            _annotation(next(numbers), thing) | {"image_id": image["id"], "category_id": identifiers[thing["label"]]}
            for image in images
            for thing in image["objects"]
        ],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draws a small data set in DICE.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=120)
    parser.add_argument("--val", type=int, default=24)
    parser.add_argument("--test", type=int, default=24)
    parser.add_argument("--task", choices=ANNOTATIONS, default="object_detection")
    options = parser.parse_args()
    counts = {"train": options.train, "val": options.val, "test": options.test}
    write_shapes(options.folder, counts=counts, task=options.task)


if __name__ == "__main__":
    main()
