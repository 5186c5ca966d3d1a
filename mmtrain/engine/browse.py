"""Runs pictures through a training's own pipeline and keeps what comes out. No model, no Runner."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import RandomApply, RandomChoice
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from numpy.typing import NDArray

from mmtrain import compat
from mmtrain.config.semantic_pipelines import IGNORE
from mmtrain.config.slots import innermost, parts
from mmtrain.engine.infer import encoded_masks
from mmtrain.shown import Shown, ShownObject, ShownPicture
from trainer_sdk.errors import DatasetError

JPEG_QUALITY = 92
LOOKED_THROUGH = 500
"""Pictures whose classes are looked at, so that a rare one is among those shown."""
HURRIED_CACHE = 5
"""Mosaic works from five pictures on; a full cache costs time and memory."""
FEWEST = 4
TRIES_PER_PICTURE = 20
"""A random crop that holds no object gives no picture; the next one is tried."""

Transform = dict[str, Any]


def show_config(
    config: Config, folder: Path, *, split: str = "train", augment: bool = True, count: int, seed: int
) -> Shown:
    """What a configuration shows its model of one split.

    Args:
        config: a complete one, as in a job's ``config.py``.
        split: "train" or "val"; val is never augmented.
        augment: False: the pipeline of evaluation, on training pictures too.

    Raises:
        DatasetError: there is nothing to show.
    """
    init_default_scope(config.default_scope)
    compat.import_framework(config.default_scope)
    dataset = DATASETS.build(innermost(config[f"{split}_dataloader"].dataset))
    augmented = augment and split == "train"
    pipeline = whole_pipeline(config[f"{'train' if augmented else 'val'}_dataloader"].dataset)
    pipeline = pipeline if augmented else annotations_first(pipeline)
    return show(dataset, pipeline, folder, count=count if augmented else min(count, len(dataset)), seed=seed)


def show(
    dataset: BaseDataset,
    pipeline: Sequence[Transform],
    folder: Path,
    *,
    count: int,
    seed: int,
    budget_s: float = math.inf,
) -> Shown:
    """Writes `count` pictures and shown.json.

    The dataset is only read; transforms are built anew, because theirs hold caches that a training fills itself.
    All random state is as before afterwards.

    Args:
        budget_s: when it is spent, the first few pictures have to do.

    Raises:
        DatasetError: no picture came out of the pipeline.
    """
    transforms = _built(pipeline, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + budget_s
    with own_randomness(seed):
        indices = choose(dataset, count, seed)
        cached = cache_size(pipeline)
        fill_caches(dataset, transforms, cached if math.isinf(budget_s) else min(cached, HURRIED_CACHE), seed)
        pictures: list[ShownPicture] = []
        for sample in itertools.islice(_samples(dataset, transforms, indices, count), count):
            if len(pictures) >= FEWEST and time.monotonic() > deadline:
                break
            pictures.append(_write(sample, dataset, folder, len(pictures)))
    if not pictures:
        raise DatasetError("no picture came out of the augmentation", hint="are there objects in the training split?")
    names, limbs = _keypoint_layout(dataset.metainfo)
    shown = Shown(
        class_names=_class_names(dataset.metainfo),
        pipeline=tuple(pipeline),
        pictures=tuple(pictures),
        keypoint_names=names,
        limbs=limbs,
    )
    shown.write(folder)
    return shown


@contextlib.contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Everything random inside comes from `seed`; afterwards it goes on as if nothing had happened."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: that one reseeds GPUs too
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def choose(dataset: BaseDataset, count: int, seed: int) -> list[int]:
    """An order over all pictures: first, for at most half of `count`, those that bring a class not yet seen."""
    shuffled = [int(index) for index in np.random.default_rng(seed).permutation(len(dataset))]
    seen: set[int] = set()
    first: list[int] = []
    for index in shuffled[:LOOKED_THROUGH]:
        classes = {int(instance["bbox_label"]) for instance in dataset.get_data_info(index).get("instances", ())}
        if classes - seen and len(first) < max(1, count // 2):
            first.append(index)
            seen |= classes
    return first + [index for index in shuffled if index not in set(first)]


def whole_pipeline(dataset: Config) -> list[Transform]:
    """The transforms of a data set and then of those that hold it."""
    inner = whole_pipeline(dataset["dataset"]) if "dataset" in dataset else []
    return inner + [dict(transform) for transform in dataset.get("pipeline", ())]


def _built(pipeline: Sequence[Transform], dataset: BaseDataset) -> list[Any]:
    built: list[Any] = []
    for transform in pipeline:
        one = TRANSFORMS.build(copy.deepcopy(transform))
        built.append(_BesideAnother(one, tuple(built), dataset) if transform["type"] == "CopyPaste" else one)
    return built


class _BesideAnother:
    """What MultiImageMixDataset does for a transform of two pictures: another one, as changed as this one."""

    def __init__(self, transform: Any, before: Sequence[Any], dataset: BaseDataset) -> None:
        self.transform, self.before, self.dataset = transform, before, dataset

    def __call__(self, info: dict[str, Any]) -> dict[str, Any]:
        other = run(self.before, self.dataset.get_data_info(random.randrange(len(self.dataset))))
        if other is None:
            return info
        changed: dict[str, Any] = self.transform({**info, "mix_results": [other[0]]})
        changed.pop("mix_results")
        return changed


def cache_size(pipeline: Sequence[Transform]) -> int:
    """Samples after which caching transforms work as they do in the middle of a training."""
    return max((part.get("max_cached_images", 0) for part in parts(list(pipeline))), default=0)


def fill_caches(dataset: BaseDataset, transforms: Sequence[Any], samples: int, seed: int) -> None:
    """Runs pictures that are not shown, so that mosaic and mix-up have something to mix."""
    others = np.random.default_rng(seed + 1).permutation(len(dataset))
    for index in itertools.islice(itertools.cycle(others), samples):
        run(transforms, dataset.get_data_info(int(index)))


def annotations_first(pipeline: Sequence[Transform]) -> list[Transform]:
    """The pipeline of evaluation keeps truth in the original picture's pixels; moved up, it follows the resizing."""
    loads = [transform for transform in pipeline if transform["type"] == "LoadAnnotations"]
    rest = [transform for transform in pipeline if transform["type"] != "LoadAnnotations"]
    return [rest[0], *loads, *rest[1:]]


def run(transforms: Sequence[Any], info: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """One picture through the pipeline: what is packed and which transforms made another picture of it; or nothing."""
    steps: list[str] = []
    results: dict[str, Any] | None = info
    for transform in _drawn(transforms):
        before = info.get("img")
        results = transform(info)
        if results is None:
            return None
        info = results
        if before is not None and "img" in info and info["img"] is not before:
            kind = type(transform.transform if isinstance(transform, _BesideAnother) else transform)
            steps.append(kind.__name__)
    return info, tuple(steps)


def _drawn(transforms: Sequence[Any]) -> Iterator[Any]:
    """The transforms that this picture meets: those that hold others draw now."""
    for transform in transforms:
        if isinstance(transform, RandomChoice):
            yield from _drawn(transform.transforms[transform.random_pipeline_index()])
        elif isinstance(transform, RandomApply):
            yield from _drawn(transform.transforms) if transform.random_apply() else ()
        else:
            yield transform


def _samples(
    dataset: BaseDataset, transforms: Sequence[Any], indices: list[int], count: int
) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    for index in itertools.islice(itertools.cycle(indices), count * TRIES_PER_PICTURE):
        sample = run(transforms, dataset.get_data_info(index))
        if sample is not None:
            yield sample


def _write(
    sample: tuple[dict[str, Any], tuple[str, ...]], dataset: BaseDataset, folder: Path, number: int
) -> ShownPicture:
    """`inputs` is a uint8 tensor (3, H, W), BGR as OpenCV read it."""
    packed, steps = sample
    bgr = np.ascontiguousarray(packed["inputs"].permute(1, 2, 0).numpy().astype(np.uint8))  # CopyPaste's are int64
    name = f"{number:03}.jpg"
    cv2.imwrite(str(folder / name), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    truth = packed["data_samples"]
    prefixes = dataset.data_prefix  # MMSegmentation's lists say img_path
    root = Path(prefixes.get("img") or prefixes.get("img_path") or "")
    class_map, classes = _write_class_map(truth, folder, number) if "gt_sem_seg" in truth else (None, ())
    path = Path(truth.img_path)
    ignored = truth.get("ignored_instances")
    return ShownPicture(
        file_name=path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name,
        picture=name,
        width=bgr.shape[1],
        height=bgr.shape[0],
        steps=steps,
        objects=(
            *(_objects(_as_shown(truth), crowd=False) if "gt_instances" in truth else ()),
            *(_objects(ignored, crowd=True) if ignored is not None else ()),
        ),
        class_map=class_map,
        classes=classes,
    )


def _write_class_map(truth: Any, folder: Path, number: int) -> tuple[str, tuple[int, ...]]:
    """Its file and the classes in it; `gt_sem_seg` is (1, H, W)."""
    indices = _array(truth.gt_sem_seg.data)[0].astype(np.uint8)
    name = f"{number:03}_classes.png"
    cv2.imwrite(str(folder / name), indices)
    return name, tuple(int(k) for k in np.unique(indices) if k != IGNORE)


def _as_shown(truth: Any) -> Any:
    """The instances in pixels of the picture as it is shown.

    MMPose makes a crop of one box, packs its points besides (`transformed_keypoints`) and names its class in the
    sample; and it resizes pictures for an evaluation without a word to their truth.
    """
    instances = truth.gt_instances
    if "transformed_keypoints" in instances:
        box = [[0.0, 0.0, *truth.input_size]]
        crop = {name: instances[name] for name in ("transformed_keypoints", "keypoints_visible")}
        return type(instances)(bboxes=np.array(box), labels=np.array([int(truth.category_id)]), **crop)
    if "keypoints" in instances and "input_center" in truth:
        corner = np.asarray(truth.input_center) - np.asarray(truth.input_scale) / 2
        scale = np.asarray(truth.input_size) / np.asarray(truth.input_scale)
        instances.keypoints = (instances.keypoints - corner) * scale
        instances.bboxes = (instances.bboxes - np.tile(corner, 2)) * np.tile(scale, 2)
    return instances


def _objects(instances: Any, *, crowd: bool) -> Iterator[ShownObject]:
    """Of an InstanceData: bboxes (N, 4) xyxy; labels (N,), masks and keypoints where there are any."""
    if "bboxes" not in instances:
        return
    boxes_xywh = _array(instances.bboxes).astype(np.float64).reshape(-1, 4)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    count = len(boxes_xywh)
    labels = _array(instances.labels) if "labels" in instances else np.zeros(count, np.int64)
    masks = encoded_masks(instances.masks.to_ndarray()) if "masks" in instances else [None] * count
    keypoints = _keypoints(instances) if "keypoints_visible" in instances else [None] * count
    for box_xywh, label, mask, points in zip(boxes_xywh, labels, masks, keypoints, strict=True):
        x, y, width, height = (round(float(value), 2) for value in box_xywh)
        yield ShownObject(
            category_id=int(label), bbox=(x, y, width, height), iscrowd=crowd, segmentation=mask, keypoints=points
        )


def _keypoints(instances: Any) -> list[tuple[float, ...]]:
    """mmpose says only whether a point is labelled, so a hidden one counts as visible here.

    After a pose pipeline `transformed_keypoints` (N, K, 2) are those of the shown picture, `keypoints` the file's.
    """
    moved = "transformed_keypoints" in instances
    points = _array(instances.transformed_keypoints if moved else instances.keypoints)
    if points.shape[-1] == 2:
        labelled = _array(instances.keypoints_visible) > 0
        points = np.concatenate([points, 2.0 * labelled.reshape(*points.shape[:2], 1)], axis=-1)
    return [tuple(round(float(value), 2) for value in person.ravel()) for person in points]


def _class_names(metainfo: dict[str, Any]) -> tuple[str, ...]:
    """MMPose's data sets know the categories of their file, the others the classes of their configuration."""
    return tuple(metainfo["classes"] if "classes" in metainfo else (one["name"] for one in metainfo["CLASSES"]))


def _keypoint_layout(metainfo: dict[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Names and limbs as mmpose's dataset information has them; both empty elsewhere."""
    names = metainfo.get("keypoint_id2name", {})
    limbs = tuple((int(start), int(end)) for start, end in metainfo.get("skeleton_links", ()))
    return tuple(names[number] for number in sorted(names)), limbs


def _array(value: Any) -> NDArray[Any]:
    """Of mmdet's boxes, a tensor, or what is an array already."""
    return np.asarray(getattr(value, "tensor", value))
