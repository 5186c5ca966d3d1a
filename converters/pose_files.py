"""What MMPose reads of a data set's points beside the annotations: their layout, and classes counted from 1.

The layout is MMPose's `dataset_info` (mmpose/datasets/datasets/utils.py, parse_pose_metainfo). A top-down model takes
it from its configuration; RTMO's losses and assigner take it from a file. Its targets are category id - 1
(mmpose/codecs/annotation_processors.py) and its results of category 1 (mmpose/evaluation/metrics/coco_metric.py), so
it reads copies of the annotations whose categories begin there.
"""

from __future__ import annotations

import pprint
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from converters.coco import CocoSplit, write_coco
from converters.keypoints import COCO_NAMES, KeypointSchema, Pair

LAYOUT_FILE = "keypoints.py"
FROM_ONE = "{split}_from_1.json"

COCO_SIGMAS = dict(
    zip(
        COCO_NAMES,
        (
            0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
            0.089, 0.089,
        ),
        strict=True,
    )
)  # fmt: skip
"""How far annotators were apart, to the root of the object's area (cocodataset.org/#keypoints-eval, 1.3)."""
USUAL_SIGMA = 0.05
"""For points that nobody measured. Within COCO's 0.025 to 0.107, and stricter than their mean of 0.067.

Ultralytics takes 1 / K, which for few points calls anything found: on corners of objects, numbers that went with what
people saw began at 0.05 (github.com/ultralytics/ultralytics/pull/4135).
"""


def sigmas_of(names: Sequence[str]) -> tuple[float, ...]:
    """Of object keypoint similarity: COCO's for points of COCO's person, all or some of them, else the usual one."""
    if set(names) <= set(COCO_NAMES):
        return tuple(COCO_SIGMAS[name] for name in names)
    return (USUAL_SIGMA,) * len(names)


def dataset_info(
    title: str, names: Sequence[str], skeleton: Sequence[Pair], flip_pairs: Sequence[Pair]
) -> dict[str, Any]:
    """MMPose's form.

    Args:
        title: what the points belong to.
        skeleton, flip_pairs: pairs of 0-based places in `names`.
    """
    partner = {one: other for pair in flip_pairs for one, other in (pair, pair[::-1])}
    return {
        "dataset_name": title,
        "keypoint_info": {
            number: {
                "name": name,
                "id": number,
                "type": "",
                "swap": names[partner[number]] if number in partner else "",
            }
            for number, name in enumerate(names)
        },
        "skeleton_info": {
            number: {"link": (names[start], names[end]), "id": number} for number, (start, end) in enumerate(skeleton)
        },
        "joint_weights": [1.0] * len(names),
        "sigmas": list(sigmas_of(names)),
    }


def write_pose_files(splits: dict[str, CocoSplit], schema: KeypointSchema, folder: Path) -> None:
    """Writes the layout and, of each split, the annotations with categories from 1."""
    categories = splits["train"].categories
    write_layout(categories[0].name if categories else "object", schema, folder)
    for name, split in splits.items():
        write_coco(_from_one(split), folder / FROM_ONE.format(split=name))


def write_layout(title: str, schema: KeypointSchema, folder: Path) -> None:
    """Writes the layout alone.

    Args:
        title: what the points belong to.
    """
    skeleton, flip_pairs = ([(a - 1, b - 1) for a, b in pairs] for pairs in (schema.skeleton, schema.flip_pairs))
    layout = dataset_info(title, schema.names, skeleton, flip_pairs)
    (folder / LAYOUT_FILE).write_text(f"dataset_info = {pprint.pformat(layout, sort_dicts=False)}\n")


def _from_one(split: CocoSplit) -> CocoSplit:
    return replace(
        split,
        categories=[msgspec.structs.replace(category, id=category.id + 1) for category in split.categories],
        objects=split.objects._replace(category_id=split.objects.category_id + 1),
    )
