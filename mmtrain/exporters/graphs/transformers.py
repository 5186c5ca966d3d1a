"""Detectors without suppression: DETR, DINO, Mask2Former, and CenterNet's peaks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.exporters.graphs.graph import Graph

OUTPUTS = ("top_boxes", "top_scores", "top_labels")
LAYOUTS = {
    "top_boxes": "(batch, objects, 4): x1, y1, x2, y2 in pixels of the input, best first",
    "top_scores": "(batch, objects): 0 to 1",
    "top_labels": "(batch, objects): int64, position of the class",
    "class_logits": "(batch, queries, classes + 1): the last is no object",
    "mask_logits": "(batch, queries, height / 4, width / 4): a mask where above 0",
}


class Queries(nn.Module):
    """DETR and DINO: images (B, 3, H, W) -> the best boxes, scores and labels."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = self.model.bbox_head
        height, width = int(images.shape[2]), int(images.shape[3])
        samples = whole_pictures(images)
        given = self.model.forward_transformer(self.model.extract_feat(images), samples)
        if "references" in given:
            classes, boxes = head(given["hidden_states"], given["references"])
        else:
            classes, boxes = head(given["hidden_states"][-1:])
        scores, labels, boxes = best(head, classes[-1], boxes[-1])
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        size = torch.tensor([width, height, width, height], dtype=torch.float32)
        return torch.cat([centre - half, centre + half], dim=-1) * size, scores, labels


def best(head: Any, logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, Q, C) and (B, Q, 4) -> scores (B, K), labels (B, K), boxes (B, K, 4)."""
    most = head.test_cfg.get("max_per_img", logits.shape[1])
    if head.loss_cls.use_sigmoid:
        scores, at = logits.sigmoid().flatten(1).topk(most)
        labels, at = at % head.num_classes, at // head.num_classes
    else:
        every, of_each = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
        scores, at = every.topk(min(most, every.shape[1]))
        labels = of_each.gather(1, at)
    return scores, labels, boxes.gather(1, at[..., None].expand(-1, -1, 4))


class Masks(nn.Module):
    """Mask2Former: images (B, 3, H, W) -> logits of classes and masks of all queries."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        classes, masks = self.model.panoptic_head(self.model.extract_feat(images), whole_pictures(images))
        return classes[-1], masks[-1]


class Peaks(nn.Module):
    """CenterNet: images (B, 3, H, W) -> the highest peaks of its heatmaps as boxes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = self.model.bbox_head
        heat, sides, offsets = head(self.model.extract_feat(images))
        boxes, labels = head._decode_heatmap(
            heat[0],
            sides[0],
            offsets[0],
            (int(images.shape[2]), int(images.shape[3])),
            k=head.test_cfg.topk,
            kernel=head.test_cfg.local_maximum_kernel,
        )
        return boxes[..., :4], boxes[..., 4], labels


def whole_pictures(images: Tensor) -> list[Any]:
    """Samples whose pictures fill the input: nothing is masked."""
    size = (int(images.shape[2]), int(images.shape[3]))
    facts = {"batch_input_shape": size, "img_shape": size, "pad_shape": size}
    return [SimpleNamespace(metainfo=facts, **facts) for _ in range(int(images.shape[0]))]


def queries_graph(model: Any) -> Graph:
    """Of DETR and DINO."""
    head = model.bbox_head
    return _tops(Queries(model), int(head.test_cfg.get("max_per_img", model.num_queries)), clip=True)


def peaks_graph(model: Any) -> Graph:
    """Of CenterNet."""
    return _tops(Peaks(model), int(model.bbox_head.test_cfg.topk), clip=False)


def _tops(module: nn.Module, most: int, *, clip: bool) -> Graph:
    post = {
        "kind": "tops",
        "coordinate_format": "xyxy",
        "apply_nms": False,
        "nms_method": "none",
        "clip_boxes": clip,
        "score_threshold": 0.0,
        "iou_threshold": 1.0,
        "max_detections": most,
    }
    return Graph(
        module,
        OUTPUTS,
        post,
        {name: LAYOUTS[name] for name in OUTPUTS},
        dynamic={name: {0: "batch"} for name in OUTPUTS},
    )


def masks_graph(model: Any) -> Graph:
    """Of MMDetection's Mask2Former."""
    config = model.panoptic_fusion_head.test_cfg
    post = {
        "kind": "queries",
        "apply_nms": False,
        "nms_method": "none",
        "score_threshold": 0.0,
        "iou_threshold": 1.0,
        "max_detections": int(config.get("max_per_image", 100)),
        "clip_boxes": False,
    }
    outputs = ("class_logits", "mask_logits")
    dynamic = {"class_logits": {0: "batch"}, "mask_logits": {0: "batch", 2: "mask_height", 3: "mask_width"}}
    layouts = {name: LAYOUTS[name] for name in outputs}
    return Graph(Masks(model), outputs, post, layouts, dynamic=dynamic, fixed_batch=True)
