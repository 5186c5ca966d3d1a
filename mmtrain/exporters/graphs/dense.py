"""Detectors that say something at every position: boxes and scores of all of them, suppression is left to the reader.

What of the heads is ours here is only the order of their outputs; priors and decoding are theirs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.exporters.graphs.graph import Graph

BATCH = {0: "batch", 1: "positions"}
UNLIMITED = 10**9
"""As YOLOX is in MMDetection."""


class Dense(nn.Module):
    """Images (B, 3, H, W) -> boxes (B, N, 4) xyxy in pixels of the input, scores (B, N, classes), and factors (B, N)
    of heads that judge their boxes too (FCOS, ATSS).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = self.model.bbox_head
        outputs = head(self.model.extract_feat(images))
        scores = flat(outputs[0], head.cls_out_channels)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
        boxes = decoded(head, outputs[1])
        if len(outputs) == 2:
            return boxes, scores
        return boxes, scores, flat(outputs[2], 1).sigmoid().squeeze(-1)


class DenseYolox(nn.Module):
    """YOLOX: the scores (B, N, classes) are already weighed by the odds that there is an object."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = self.model.bbox_head
        classes, boxes, objects = head(self.model.extract_feat(images))
        priors = torch.cat(head.prior_generator.grid_priors(sizes(classes), device=images.device, with_stride=True))
        scores = flat(classes, head.cls_out_channels).sigmoid() * flat(objects, 1).sigmoid()
        return head._bbox_decode(priors, flat(boxes, 4)), scores


class DenseInstances(nn.Module):
    """RTMDet-Ins: also the weights of each position's mask convolutions (B, N, P), the features that they read
    (B, C, h, w), and the positions' x, y, stride (B, N, 3).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = self.model.bbox_head
        classes, boxes, kernels, features = head(self.model.extract_feat(images))
        priors = torch.cat(head.prior_generator.grid_priors(sizes(classes), device=images.device, with_stride=True))
        scores = flat(classes, head.cls_out_channels).sigmoid()
        corners = torch.cat(
            [priors[None, :, :2] - flat(boxes, 4)[..., :2], priors[None, :, :2] + flat(boxes, 4)[..., 2:]], dim=-1
        )
        positions = priors[None, :, :3].expand(images.shape[0], -1, -1)
        return corners, scores, flat(kernels, head.num_gen_params), features, positions


class WithRaw(nn.Module):
    """A dense graph whose head's own maps follow: per level (B, channels, h, w), all of one kind after the other."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        said: list[Any] = []
        hook = self.inner.model.bbox_head.register_forward_hook(lambda head, given, outputs: said.extend(outputs))
        try:
            found = self.inner(images)
        finally:
            hook.remove()
        return (*found, *(level for kind in said if not isinstance(kind, Tensor) for level in kind))


RAW = ("classes", "boxes", "objects_or_kernels")
"""Kinds of maps, in the heads' order; the last one only where the head has it."""


def with_raw(graph: Graph) -> Graph:
    """The graph with the maps before they are decoded."""
    kinds = RAW[: 3 if {"kernels", "factors"} & set(graph.outputs) or graph.postprocessing["one_label"] else 2]
    names = [f"raw_{kind}_{number}" for kind in kinds for number in range(len(graph.postprocessing["levels"]))]
    layouts = dict.fromkeys(names, "(batch, channels, height / stride, width / stride): as the head says it")
    dynamic = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in names}
    return replace(
        graph,
        module=WithRaw(graph.module),
        outputs=(*graph.outputs, *names),
        layouts=graph.layouts | layouts,
        dynamic=graph.dynamic | dynamic,
    )


def dense_graph(model: Any) -> Graph:
    """Of a single-stage detector of MMDetection."""
    head, config = model.bbox_head, model.test_cfg
    kind = type(head).__name__
    instances, yolox = "Ins" in kind, kind == "YOLOXHead"
    module = (DenseYolox if yolox else DenseInstances if instances else Dense)(model)
    names = ["boxes", "scores"]
    names += ["kernels", "mask_features", "priors"] if instances else []
    names += ["factors"] if hasattr(head, "conv_centerness") or hasattr(head, "atss_centerness") else []
    strides = [stride[0] for stride in head.prior_generator.strides]
    post = {
        "kind": "dense",
        "coordinate_format": "xyxy",
        "apply_nms": True,
        "nms_method": "per class",
        "one_label": yolox,
        "clip_boxes": not yolox,
        "score_threshold": float(config.get("score_thr", 0)),
        "iou_threshold": float(config.nms.iou_threshold),
        "max_detections": int(config.get("max_per_img", UNLIMITED)),
        "candidates_per_level": int(config.get("nms_pre", UNLIMITED)),
        "min_box_size": float(config.get("min_bbox_size", -1)),
        "levels": [{"stride": int(stride), "anchors": int(getattr(head, "num_base_priors", 1))} for stride in strides],
    }
    if instances:
        post |= {
            "mask_threshold": float(config.mask_thr_binary),
            "mask_stride": int(strides[0]),
            "mask_layers": [
                [biases, weights // biases] for weights, biases in zip(head.weight_nums, head.bias_nums, strict=True)
            ],
        }
    layouts = {
        "boxes": "(batch, positions, 4): x1, y1, x2, y2 in pixels of the input",
        "scores": "(batch, positions, classes): 0 to 1",
        "factors": "(batch, positions): by which the scores of the best candidates are multiplied",
        "kernels": "(batch, positions, parameters): weights and biases of the mask convolutions",
        "mask_features": "(batch, channels, height / stride, width / stride): what these convolutions read",
        "priors": "(batch, positions, 3): x, y and stride",
    }
    dynamic: dict[str, dict[int, str]] = {name: dict(BATCH) for name in names}
    if instances:
        dynamic["mask_features"] = {0: "batch", 2: "mask_height", 3: "mask_width"}
    return Graph(module, tuple(names), post, {name: layouts[name] for name in names}, dynamic=dynamic)


def decoded(head: Any, maps: list[Tensor]) -> Tensor:
    """Boxes (B, N, 4) from what a head says of them at every position."""
    priors = torch.cat(head.prior_generator.grid_priors(sizes(maps), device=maps[0].device))
    deltas = flat(maps, 4)
    batch = deltas.shape[0]
    every = priors[None].expand(batch, -1, -1).reshape(-1, priors.shape[-1])
    return head.bbox_coder.decode(every, deltas.reshape(-1, 4)).reshape(batch, -1, 4)


def flat(maps: list[Tensor], channels: int) -> Tensor:
    """Levels (B, A * channels, h, w) -> (B, N, channels), as the heads order them."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, channels) for level in maps], dim=1)


def sizes(maps: list[Tensor]) -> list[Any]:
    """(h, w) of each level."""
    return [level.shape[-2:] for level in maps]
