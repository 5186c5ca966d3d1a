"""The final boxes chosen in the graph, by ONNX's NonMaxSuppression, for readers that do not want to do it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.graphs.operators import Suppress
from mmtrain.exporters.graphs.two_stage import LAYOUTS, OUTPUTS, clipped
from trainer_sdk.errors import ConfigError


class Chosen(nn.Module):
    """Image (1, 3, H, W) -> objects, by MMDetection's rules: the best of each level, then the best of each class."""

    def __init__(self, inner: nn.Module, rules: dict[str, Any], *, factors: bool) -> None:
        super().__init__()
        self.inner, self.rules, self.factors = inner, rules, factors

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = self.inner(images)
        boxes, every = outputs[0][0], outputs[1][0]
        at, scores, labels = self._candidates(every, (images.shape[2], images.shape[3]))
        if self.factors:
            scores = torch.where(scores > 0, scores * outputs[2][0][at], scores)
        boxes = boxes[at]
        if self.rules["clip_boxes"]:
            boxes = clipped(boxes, torch._shape_as_tensor(images)[2:].float())
        if self.rules["min_box_size"] >= 0:
            large = ((boxes[:, 2:] - boxes[:, :2]) > self.rules["min_box_size"]).all(dim=1)
            scores = torch.where(large, scores, torch.full_like(scores, -1.0))
        apart = boxes + (labels.float() * (boxes.max() + 1))[:, None]
        kept = Suppress.apply(apart, scores, self.rules["iou_threshold"], self.rules["max_detections"], 0.0)
        return boxes[kept], scores[kept], labels[kept]

    def _candidates(self, scores: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, scores (-1: not sure enough) and labels."""
        least = self.rules["score_threshold"]
        if self.rules["one_label"]:
            best, labels = scores.max(dim=1)
            sure = torch.where(best >= least, best, torch.full_like(best, -1.0))
            return torch.arange(scores.shape[0]), sure, labels
        classes, begin = scores.shape[1], 0
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for level in self.rules["levels"]:
            cells = [math.ceil(int(side) / level["stride"]) for side in size_hw]
            count = cells[0] * cells[1] * level["anchors"]
            best, order = (
                scores[begin : begin + count].reshape(-1).topk(min(self.rules["candidates_per_level"], count * classes))
            )
            sure = torch.where(best > least, best, torch.full_like(best, -1.0))
            found.append((torch.div(order, classes, rounding_mode="floor") + begin, sure, order % classes))
            begin += count
        at, sure, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        return at, sure, labels


def chosen(graph: Graph) -> Graph:
    """The graph of a dense detector with its choice.

    Raises:
        ConfigError: its masks depend on what is chosen.
    """
    if graph.postprocessing["kind"] != "dense" or graph.one_image:
        return graph
    if "kernels" in graph.outputs:
        raise ConfigError("nms: the masks of this model are made for the boxes that are chosen", hint="leave nms out")
    rules = graph.postprocessing
    post = rules | {
        "kind": "detections",
        "in_graph": ["nms"],
        "apply_nms": False,
        "nms_method": "in the model, per class",
    }
    return Graph(
        Chosen(graph.module, rules, factors="factors" in graph.outputs),
        OUTPUTS,
        post | {"score_threshold": 0.0},
        {name: LAYOUTS[name] for name in OUTPUTS},
        one_image=True,
        dynamic={name: {0: "objects"} for name in OUTPUTS},
    )
