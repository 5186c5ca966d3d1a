"""An exported package as a `Predictor`, run by the same file that travels with it.

The package's own copy of that file is never run: a zip from elsewhere is data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtrain.exporters.runtime.predict_standalone import OpenVinoSession, Prepared
from mmtrain.exporters.runtime.predict_standalone import Predictor as Runtime
from mmtrain.predicting.flow import chunks
from mmtrain.predicting.found import Bgr, Box, Classes, Found, Painted
from mmtrain.predicting.options import Options
from mmtrain.predicting.predictor import Sight
from mmtrain.predicting.shapes import encoded
from mmtrain.reports.drawing import Skeleton
from trainer_sdk.errors import CheckpointError, ConfigError, ResourceError
from trainer_sdk.tasks import TASK_ALIASES, Task

CROPS = ("heatmap", "simcc")
"""Kinds of output of models that see the crop around a box."""
COUNTED_FROM = 0.2
"""As in `mmtrain.engine.pose_rows`."""


class PackagePredictor:
    """One package in its runtime.

    Raises:
        ConfigError: an option that an exported model cannot honour.
    """

    def __init__(self, runtime: Runtime, options: Options) -> None:
        metadata = runtime.metadata
        self.task = TASK_ALIASES[metadata["task_type"]]
        self.classes = Classes.of(runtime.class_names, metadata.get("class_ids"))
        self.flip_pairs: Sequence[tuple[int, int]] = [tuple(pair) for pair in metadata.get("flip_pairs") or ()]
        self._runtime, self._options = runtime, options
        self.flips_itself = False
        self.crops = metadata["postprocessing"]["kind"] in CROPS
        if self.crops and options.flip:
            hint = "use the checkpoint, or leave flip out"
            raise ConfigError(
                "flip: an exported pose model says points, not the maps that would be averaged", hint=hint
            )
        if self.task is Task.SEMANTIC and not options.one_view:
            hint = "use the checkpoint, or leave tiles and flip out"
            raise ConfigError("an exported semantic model says no probabilities, which tiles and flip need", hint=hint)

    def prepare(self, picture: Bgr, boxes_xyxy: Sequence[Box]) -> list[tuple[Prepared, Box]]:
        height, width = picture.shape[:2]
        whole = (0.0, 0.0, float(width), float(height))
        if not self.crops:
            return [(self._runtime.prepare(picture), whole)]
        return [(self._runtime.prepare(picture, np.array(box, np.float32)), box) for box in boxes_xyxy or (whole,)]

    def infer(self, inputs: Sequence[tuple[Prepared, Box]]) -> list[Sight]:
        sights: list[Sight] = []
        for _, alike in groupby(inputs, key=lambda one: one[0].tensor.shape):
            group = list(alike)
            for part in chunks(group, self._runtime.most_at_a_time or len(group)):
                sights += self._inferred(part)
        return sights

    def _inferred(self, part: list[tuple[Prepared, Box]]) -> list[Sight]:
        places = [prepared.place for prepared, _ in part]
        outputs = self._runtime.run(np.stack([prepared.tensor for prepared, _ in part]), places)
        limits: dict[str, Any] = {
            "conf": self._options.conf, "iou": self._options.iou, "max_det": self._options.candidates,
        }  # fmt: skip
        return [
            self._sight(self._runtime.finish(outputs, place, number=number, **limits), box)
            for number, (place, (_, box)) in enumerate(zip(places, part, strict=True))
        ]

    def _sight(self, found: dict[str, NDArray[Any]], box: Box) -> Sight:
        if "class_map" in found:
            return Sight(painted=Painted(np.asarray(found["class_map"], dtype=np.uint8), {}))
        if self.crops:
            points = found["keypoints"][0]
            return Sight([Found(0, _mean_of_sure(points[:, 2]), box, None, _points(points))])
        return Sight([self._found(found, index) for index in range(len(found["scores"]))])

    def _found(self, found: dict[str, NDArray[Any]], index: int) -> Found:
        left, top, right, bottom = (float(value) for value in found["boxes"][index])
        return Found(
            int(found["labels"][index]),
            float(found["scores"][index]),
            (left, top, right, bottom),
            encoded(found["masks"][index]) if "masks" in found else None,
            _points(found["keypoints"][index]) if "keypoints" in found else None,
        )


def open_package(folder: Path, options: Options) -> tuple[PackagePredictor, Skeleton, tuple[str, ...]]:
    """The package in this folder.

    Raises:
        CheckpointError: it is none, or a damaged one.
        ConfigError: an option that an exported model cannot honour.
        ResourceError: its runtime is not installed.
    """
    try:
        runtime = _runtime(folder, options)
        if options.imgsz is not None and list(options.imgsz) != list(runtime.metadata["preprocessing"]["size_wh"]):
            raise ConfigError(
                "imgsz: the input size of an exported model is fixed", hint="leave imgsz out, or export anew"
            )
        predictor = PackagePredictor(runtime, options)
    except ImportError as error:
        raise ResourceError(f"the runtime of this package is not installed: {error}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"the package cannot be used: {type(error).__name__}: {error}") from error
    metadata = runtime.metadata
    limbs = [(start - 1, end - 1) for start, end in metadata.get("skeleton") or ()]  # counted from 1, as COCO does
    skeleton = Skeleton(metadata.get("keypoint_names") or (), limbs)
    return predictor, skeleton, _notes(runtime, options)


def _runtime(folder: Path, options: Options) -> Runtime:
    """In float32, as its certificate was made, or as CONFIG says where the runtime can choose: OpenVINO."""
    if options.precision == "fp32":
        return Runtime(folder, threads=options.threads)
    metadata = json.loads((folder / "metadata.json").read_bytes())
    if metadata["export_format"] != "openvino" or options.precision != "bf16":
        raise ConfigError(
            f"precision {options.precision}: an exported model has the one it was exported with",
            hint="leave precision out; an OpenVINO model also computes in bf16",
        )
    return Runtime(folder, session=OpenVinoSession(folder / metadata["model_file"], options.threads, "bf16"))


def _notes(runtime: Runtime, options: Options) -> tuple[str, ...]:
    metadata = runtime.metadata
    notes = []
    if options.iou is not None and metadata["postprocessing"]["kind"] == "detections":
        notes.append("iou: this model chooses its boxes in its graph, with the value it was exported with")
    if metadata["preprocessing"].get("fixed"):
        width, height = metadata["preprocessing"]["size_wh"]
        notes.append(
            f"this file has one input size: pictures are fitted into {width}x{height} and padded, where the checkpoint "
            "sees them without padding; of another shape they give other results"
        )
    return tuple(notes)


def _points(points: NDArray[Any]) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(x), float(y), float(score)) for x, y, score in points)


def _mean_of_sure(scores: NDArray[Any]) -> float:
    sure = scores > COUNTED_FROM
    return float((scores * sure).sum() / max(int(sure.sum()), 1))
