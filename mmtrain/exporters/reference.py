"""What the trained model itself sees in an image, by the pipeline that it was evaluated with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import nn

from mmtrain.exporters.runtime.predict_standalone import Found

Array = NDArray[Any]
TRUTH = {"LoadImageFromFile", "LoadImage", "LoadAnnotations"}
SURE_POINT = 0.2


class Reference:
    """PyTorch's answer, in the form of `predict_standalone.Predictor`'s."""

    def __init__(
        self, model: nn.Module, pipeline: Sequence[Mapping[str, Any]], pre: Mapping[str, Any], *, scope: str
    ) -> None:
        """Builds the pipeline without the steps that load.

        Args:
            pre: the exported file's preprocessing; of it only whether and to what size pictures are padded is taken.
            scope: the package whose transforms the pipeline names.
        """
        steps = [dict(step) for step in pipeline if str(step["type"]).rpartition(".")[2] not in TRUTH]
        for step in steps:
            step.pop("pack_transformed", None)  # the truth's points, of which there are none
        loader = next((step for step in pipeline if str(step["type"]).endswith(("LoadImageFromFile", "LoadImage"))), {})
        self._dtype = np.float32 if loader.get("to_float32") else np.uint8
        self.model = model.eval()
        with DefaultScope.overwrite_default_scope(scope):
            self._pipeline = Compose(steps)
        self._fixed = pre if pre.get("fixed") else None
        if self._fixed and hasattr(self.model, "decode_head"):
            width, height = self._fixed["size_wh"]
            self.model.data_preprocessor.test_cfg = {"size": (height, width)}

    def predict(self, image_bgr: Array, *, boxes: Array | None = None) -> Found:
        """Of an image (H, W, 3) uint8; `boxes` (N, 4) xyxy for models that see crops."""
        top_down = "TopdownPoseEstimator" in type(self.model).__name__
        if not top_down:
            return found_in(self.run([self._packed(image_bgr)])[0])
        height, width = image_bgr.shape[:2]
        wanted = np.array([[0, 0, width, height]]) if boxes is None else np.asarray(boxes).reshape(-1, 4)
        crops = [self._packed(image_bgr, box) for box in wanted.astype(np.float32)]
        points = [_points(self.run([crop])[0]) for crop in crops]
        keypoints = np.concatenate(points) if points else np.zeros((0, 0, 3), dtype=np.float32)
        scores = _mean_of_sure(keypoints[..., 2])
        labels = np.zeros(len(scores), dtype=np.int64)
        return {"boxes": wanted.astype(np.float32), "scores": scores, "labels": labels, "keypoints": keypoints}

    def run(self, packed: list[Any]) -> list[Any]:
        """Samples with predictions."""
        with torch.inference_mode():
            samples: list[Any] = self.model.test_step(pseudo_collate(packed))
        return samples

    def _packed(self, image_bgr: Array, box: Array | None = None) -> Any:
        info: dict[str, Any] = {
            "img": image_bgr.astype(self._dtype), "img_path": "", "img_id": 0, "id": 0,
            "img_shape": image_bgr.shape[:2], "ori_shape": image_bgr.shape[:2],
        }  # fmt: skip
        if box is not None:
            info |= {"bbox": box[None], "bbox_score": np.ones(1, dtype=np.float32), "category_id": 1}
        if not self._fixed:
            return self._pipeline(info)
        self._fit(image_bgr.shape[1], image_bgr.shape[0])
        return self._filled(self._pipeline(info))

    def _fit(self, width: int, height: int) -> None:
        """Lets the pipeline resize this picture to the largest size that fits."""
        assert self._fixed is not None
        ratio = min(self._fixed["size_wh"][0] / width, self._fixed["size_wh"][1] / height)
        for step in self._pipeline.transforms:
            if type(step).__name__ == "Resize":
                step.scale, step.keep_ratio = (int(width * ratio + 0.5), int(height * ratio + 0.5)), False

    def _filled(self, packed: Any) -> Any:
        """Padded to the whole size; semantic models do it themselves."""
        assert self._fixed is not None
        if hasattr(self.model, "decode_head"):
            return packed
        width, height = self._fixed["size_wh"]
        colour = torch.tensor(self._fixed["pad_value"], dtype=packed["inputs"].dtype)
        canvas = (colour.flip(0) if self._fixed["color_space"] == "RGB" else colour)[:, None, None].repeat(
            1, height, width
        )
        canvas[:, : packed["inputs"].shape[1], : packed["inputs"].shape[2]] = packed["inputs"]
        packed["inputs"] = canvas
        if self._fixed["clip_to"] == "input":
            packed["data_samples"].set_metainfo({"img_shape": (height, width)})
        return packed


def found_in(sample: Any) -> Found:
    """Of a sample of any of the packages."""
    if "pred_sem_seg" in sample:
        return {"class_map": sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)}
    seen: InstanceData = sample.pred_instances
    found: Found = {
        "boxes": _numpy(seen.bboxes).astype(np.float32).reshape(-1, 4),
        "scores": _numpy(seen.scores if "scores" in seen else seen.bbox_scores).astype(np.float32),
        "labels": _numpy(seen.labels).astype(np.int64),
    }
    if "masks" in seen:
        found["masks"] = _numpy(seen.masks).astype(bool)
    if "keypoints" in seen:
        found["keypoints"] = _points(sample)
    return found


def _points(sample: Any) -> Array:
    """(N, K, 3)."""
    seen = sample.pred_instances
    pairs = [_numpy(seen.keypoints), _numpy(seen.keypoint_scores)[..., None]]
    return np.concatenate(pairs, axis=-1).astype(np.float32)


def _numpy(values: Any) -> Array:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _mean_of_sure(scores: Array) -> Array:
    sure = scores > SURE_POINT
    return np.asarray((scores * sure).sum(axis=1) / np.maximum(sure.sum(axis=1), 1), dtype=np.float32)
