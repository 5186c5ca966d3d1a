"""What a data set holds, in numbers: classes, sizes, amounts. Pure, from columns: a million objects take 0.3 s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from converters.coco import ObjectTable
from converters.findings import MAX_EXAMPLES, FindingCounter
from mmtrain.datasets.columns import SplitColumns

SMALL_BELOW_PX, LARGE_FROM_PX = 32, 96
"""COCO's classes of sqrt(area) (Lin et al. 2014, arXiv:1405.0312; pycocotools Params.areaRng)."""
TINY_BELOW_PX = 4.0
"""Half a cell of RTMDet's finest feature map (stride 8), one cell of an FPN's (stride 4)."""


class Contents(NamedTuple):
    """Which kinds of labels there are, whatever task the data set was exported for."""

    boxes: bool
    masks: bool
    """Polygons or RLE of objects."""
    keypoints: bool
    mask_files: bool = False
    """Images of class ids."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Distribution(_Frozen):
    """Quantiles."""

    min: float
    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    max: float


class SizeShares(_Frozen):
    """Of the objects, 0..1; by COCO's limits at the size they have in their image."""

    small: float
    medium: float
    large: float


class DatasetProfile(_Frozen):
    """Part of ``findings.json``. Sizes are those of all splits together, without crowd regions."""

    has_boxes: bool
    has_masks: bool
    has_keypoints: bool
    has_mask_files: bool
    num_classes: int
    images: dict[str, int]
    objects: dict[str, int]
    objects_per_class: dict[str, dict[str, int]]
    """Class name -> split -> objects."""
    object_px: Distribution | None
    """sqrt(area) in pixels."""
    object_to_image: Distribution | None
    """sqrt(object's area / image's area), 0..1."""
    object_to_long_side: Distribution | None
    """sqrt(area) / longer side of the image: what is left of an object at an input size is this times the size."""
    shares: SizeShares | None
    objects_per_image: Distribution | None
    image_width_px: Distribution | None
    image_height_px: Distribution | None
    image_long_side_px: Distribution | None
    images_with_objects: dict[str, int] = {}
    poses: dict[str, int] = {}
    """Split -> objects with a labelled point: samples of a top-down pose model."""


def nothing_known(num_classes: int) -> DatasetProfile:
    """For a model whose data are not at hand; as if they were enough for any batch."""
    unknown: dict[str, Any] = dict.fromkeys(
        name for name, field in DatasetProfile.model_fields.items() if "None" in str(field.annotation)
    )
    counts = {"train": 1000, "val": 1, "test": 0}
    return DatasetProfile(
        has_boxes=True,
        has_masks=False,
        has_keypoints=False,
        has_mask_files=False,
        num_classes=num_classes,
        images=counts,
        objects=counts,
        objects_per_class={},
        poses=counts,
        **unknown,
    )


def make_profile(splits: Mapping[str, SplitColumns], class_names: Sequence[str], contents: Contents) -> DatasetProfile:
    """The numbers of the images that are used."""
    size_wh = np.concatenate([split.size_wh for split in splits.values()])
    long_side = size_wh.max(axis=1) if len(size_wh) else np.zeros(0)
    per_class = {name: _per_class(split, len(class_names)) for name, split in splits.items()}
    side, of_image, of_long_side = _object_sizes(splits)
    return DatasetProfile(
        has_boxes=contents.boxes,
        has_masks=contents.masks,
        has_keypoints=contents.keypoints,
        has_mask_files=contents.mask_files,
        num_classes=len(class_names),
        images={name: len(split.image_id) for name, split in splits.items()},
        objects={name: len(split.objects.image_id) for name, split in splits.items()},
        objects_per_class={
            name: {split: int(counts[index]) for split, counts in per_class.items()}
            for index, name in enumerate(class_names)
        },
        object_px=distribution(side),
        object_to_image=distribution(of_image),
        object_to_long_side=distribution(of_long_side),
        shares=_shares(side),
        objects_per_image=distribution(np.concatenate([objects_per_image(split) for split in splits.values()])),
        image_width_px=distribution(size_wh[:, 0]),
        image_height_px=distribution(size_wh[:, 1]),
        image_long_side_px=distribution(long_side),
        images_with_objects={name: len(np.unique(split.objects.image_id)) for name, split in splits.items()},
        poses={name: _poses(split.objects) for name, split in splits.items()} if contents.keypoints else {},
    )


def distribution(values: NDArray[np.float64]) -> Distribution | None:
    """Without what is not finite; None when nothing is left."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    quantiles = [round(value, 4) for value in np.quantile(known, (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)).tolist()]
    return Distribution(**dict(zip(Distribution.model_fields, quantiles, strict=True)))


def objects_per_image(split: SplitColumns) -> NDArray[np.float64]:
    """(m,): one number per image."""
    return np.bincount(split.row_of_object, minlength=len(split.image_id)).astype(np.float64)


def tiny_objects(name: str, split: SplitColumns, imgsz: tuple[int, int], findings: FindingCounter) -> None:
    """DS058: objects whose shorter side is under 4 pixels when their image is fitted into `imgsz` (width, height)."""
    rows = split.row_of_object
    scale = (np.array(imgsz) / split.size_wh[rows]).min(axis=1)
    short_side = split.objects.bbox_xywh[:, 2:].min(axis=1, initial=np.inf) * scale
    tiny = np.flatnonzero((short_side < TINY_BELOW_PX) & ~split.objects.iscrowd)
    for row in tiny[:MAX_EXAMPLES].tolist():
        file = split.file_names[rows[row]]
        x, y, width, height = (round(side, 1) for side in split.objects.bbox_xywh[row].tolist())
        at_input = f"{short_side[row]:.1f} px at {imgsz[0]}x{imgsz[1]}"
        example = f"{file} ({name}): box {width:g} x {height:g} px, {at_input}"
        findings.add("DS058", example, file=file, bbox_xywh=(x, y, width, height))
    if len(tiny) > MAX_EXAMPLES:
        findings.add("DS058", count=len(tiny) - MAX_EXAMPLES)


def _poses(objects: ObjectTable) -> int:
    return int(((objects.keypoints_labelled > 0) & ~objects.iscrowd).sum())


def _per_class(split: SplitColumns, classes: int) -> NDArray[np.intp]:
    return np.bincount(split.objects.category_id, minlength=classes)


def _object_sizes(
    splits: Mapping[str, SplitColumns],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """sqrt(area): in pixels, to sqrt(image area), to the longer side."""
    sides: list[NDArray[np.float64]] = []
    image_sides: list[NDArray[np.float64]] = []
    long_sides: list[NDArray[np.float64]] = []
    for split in splits.values():
        rows = split.row_of_object[~split.objects.iscrowd]
        sides.append(np.sqrt(split.objects.area[~split.objects.iscrowd]))
        image_sides.append(np.sqrt(split.size_wh.prod(axis=1))[rows])
        long_sides.append(split.size_wh.max(axis=1, initial=0)[rows])
    side = np.concatenate(sides)
    return side, side / np.concatenate(image_sides), side / np.concatenate(long_sides)


def _shares(side: NDArray[np.float64]) -> SizeShares | None:
    if not side.size:
        return None
    small, large = float((side < SMALL_BELOW_PX).mean()), float((side >= LARGE_FROM_PX).mean())
    return SizeShares(small=small, medium=1.0 - small - large, large=large)
