"""Points of objects: of crops around given boxes, or of the whole picture (RTMO)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.exporters.graphs.dense import sizes
from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.graphs.operators import Suppress

LAYOUTS = {
    "heatmaps": "(batch, points, height / 4, width / 4)",
    "simcc_x": "(batch, points, columns)",
    "simcc_y": "(batch, points, rows)",
    "det_boxes": "(objects, 4): x1, y1, x2, y2 in pixels of the input, best first",
    "det_scores": "(objects,): 0 to 1",
    "det_labels": "(objects,): int64, position of the class",
    "det_keypoints": "(objects, points, 3): x, y in pixels of the input, and how sure",
}
MOST_POSES = 3000
"""More than there are positions at the usual sizes: MMPose limits nothing."""


class TopDown(nn.Module):
    """Crops (B, 3, H, W) -> heatmaps, or one row for x and one for y of each point."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model.head(self.model.extract_feat(images))


class OneStage(nn.Module):
    """RTMO: an image (1, 3, H, W) -> boxes, scores, labels and points of the objects in it.

    Works on a copy in upstream's form for deployment, whose batch norm is a part of its linear layer: of as many rows
    as there are objects, ONNX's cannot be written.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.head.dcc.switch_to_deploy()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head, config = self.model.head, self.model.test_cfg
        self._place(int(images.shape[2]), int(images.shape[3]))
        classes, boxes, _, visible, vectors = head(self.model.extract_feat(images))
        shapes = sizes(classes)
        levels = head.prior_generator.grid_priors(shapes, device=images.device)
        priors = torch.cat(levels)
        strides = torch.cat(
            [torch.full_like(level[:, 0], stride) for level, stride in zip(levels, head.featmap_strides, strict=True)]
        )
        found = head.decode_bbox(head._flatten_predictions(boxes), priors, strides)[0]
        scores, labels = head._flatten_predictions(classes).sigmoid()[0].max(dim=1)
        at = Suppress.apply(found, scores, float(config["nms_thr"]), MOST_POSES, float(config["score_thr"]))
        chosen = found[at]
        middle, extent = (chosen[:, :2] + chosen[:, 2:]) * 0.5, (chosen[:, 2:] - chosen[:, :2]) * head.bbox_padding
        extents = torch.cat([middle, extent], dim=1)
        vectors = head._flatten_predictions(vectors)[0][at]
        points = head.dcc.forward_test(vectors[None], extents[None], priors[at][None])
        points = points.reshape(-1, head.num_keypoints, 2)
        sure = head._flatten_predictions(visible).sigmoid()[0][at]
        return chosen, scores[at], labels[at], torch.cat([points, sure[..., None]], dim=-1)

    def _place(self, height: int, width: int) -> None:
        """Gives the neck the positions of its cells, which it looks up instead of counting them in an export."""
        neck = self.model.neck
        for number, level in enumerate(neck.use_encoder_idx):
            rows, columns = height // 2 ** (3 + level), width // 2 ** (3 + level)
            places = neck.sincos_pos_enc(size=(rows, columns)).transpose(-1, -2).reshape(1, rows * columns, -1)
            setattr(neck, f"pos_enc_{number}", places)


def top_down_graph(model: Any) -> Graph:
    """Of a model with heatmaps, or with SimCC (RTMPose)."""
    if hasattr(model.head, "simcc_split_ratio"):
        outputs: tuple[str, ...] = ("simcc_x", "simcc_y")
        post: dict[str, Any] = {"kind": "simcc", "split_ratio": float(model.head.decoder.simcc_split_ratio)}
    else:
        outputs, post = ("heatmaps",), {"kind": "heatmap"}
    post |= {"apply_nms": False, "score_threshold": 0.0}
    dynamic = {name: {0: "batch"} for name in outputs}
    return Graph(TopDown(model), outputs, post, {name: LAYOUTS[name] for name in outputs}, dynamic=dynamic)


def one_stage_graph(model: Any) -> Graph:
    """Of RTMO."""
    outputs = ("det_boxes", "det_scores", "det_labels", "det_keypoints")
    post = {
        "kind": "detections",
        "in_graph": ["nms"],
        "coordinate_format": "xyxy",
        "apply_nms": False,
        "nms_method": "in the model",
        "clip_boxes": True,
        "score_threshold": float(model.test_cfg["score_thr"]),
        "iou_threshold": float(model.test_cfg["nms_thr"]),
        "max_detections": MOST_POSES,
    }
    return Graph(
        OneStage(model),
        outputs,
        post,
        {name: LAYOUTS[name] for name in outputs},
        one_image=True,
        dynamic={name: {0: "objects"} for name in outputs},
    )
