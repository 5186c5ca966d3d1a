"""The cases of fuzz.py: sound annotation files, and what a number makes of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

from mutations import mutated
from PIL import Image

from converters.dice_to_coco import SHAPE_OF_TASK
from mmtrain.datasets.shapes import write_shapes

MASK_FILE = "masks/a_mask.png"
IMAGE_SIDE_PX = 128
"""What write_shapes draws."""


def write_sources(folder: Path, data: Path | None) -> list[Path]:
    """Sound annotation files; the last one, if it is the user's, is damaged less often."""
    files = []
    for variant in ("A", "B"):
        for task in ("object_detection", "instance_segmentation"):
            shapes = folder / f"{variant}-{task}"
            write_shapes(shapes, counts={"train": 8, "val": 3, "test": 2}, task=task, variant=variant)
            files.append(next(shapes.glob("annotations_*.json")))
    everything = _write_everything(folder / "everything.json", files[1])
    files += [everything] * 3  # the only one with keypoints and a mask file
    return files + (sorted(data.glob("annotations*.json"))[:1] if data else [])


def _write_everything(path: Path, source: Path) -> Path:
    """Every field of the platform contract (4.2) in one file."""
    document = json.loads(source.read_bytes())
    document |= {
        "storage_info": {"image_root": "datasets/x/images/"},
        "split_config": {"method": "partial", "default_ratio": [0.7, 0.15, 0.15], "seed": 3, "splits": {"1": "train"},
                         "exclude_images": [2], "stratify": True, "group_by": "metadata.source"},
    }  # fmt: skip
    document["classes"].insert(0, {"id": 99, "name": "__background__", "color": "#000000"})
    runs = {"size": [128, 128], "counts": [4000, 64, 64, 64, 128 * 128 - 4192]}
    for index, image in enumerate(document["images"]):
        image |= {
            "metadata": {"source": f"camera {index % 3}"},
            "file_name": f"images/{index % 2}/{image['file_name']}",
        }
        points = [[float(8 * point), float(5 * point), point % 3] for point in range(17)]
        for annotation in image["annotations"]:
            flat = [value for point in points for value in point]
            annotation |= {"keypoints": points if index % 2 else flat, "num_keypoints": 17, "attributes": {"a": [1]}}
            if index % 3 == 0:
                annotation |= {"segmentation": runs, "iscrowd": 1}
    document["images"][-1]["annotations"] = [{"id": 1, "class_id": 99, "class_name": "__background__"}]
    mask = {"mask_file": MASK_FILE, "mask_format": "indexed_png", "num_classes": 3}
    document["images"][-2] |= {"annotations": None, "annotation": mask}
    path.write_text(json.dumps(document))
    return path


def write_mask(folder: Path) -> None:
    """The mask file that a case may name: class ids in two stripes, the rest to ignore."""
    mask = Image.new("L", (IMAGE_SIDE_PX, IMAGE_SIDE_PX), 255)
    for class_id in (0, 1):
        mask.paste(class_id, (0, 40 * class_id, IMAGE_SIDE_PX, 40 * class_id + 30))
    (folder / MASK_FILE).parent.mkdir(parents=True, exist_ok=True)
    mask.save(folder / MASK_FILE)


class Case(NamedTuple):
    """What one number stands for."""

    raw: bytes
    arguments: list[str]


def make_case(seed: int, number: int, documents: list[Any], *, rare_last: bool) -> Case:
    """The same on every machine: a text seeds by its SHA-512."""
    draw = random.Random(f"{seed}/{number}")
    common = documents[:-1] if rare_last and number % 20 else documents
    document = documents[-1] if rare_last and number % 20 == 0 else draw.choice(common)
    raw = mutated(document, draw)
    arguments = ["--task", draw.choice(sorted(SHAPE_OF_TASK))]
    if draw.random() < 0.2:
        arguments += ["--split", draw.choice(["0.7,0.15,0.15", "0.5,0.5", "1,0"]), "--seed", str(draw.randrange(9))]
    return Case(raw, arguments)
