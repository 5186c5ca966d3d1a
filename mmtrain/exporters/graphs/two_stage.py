"""Detectors that look twice: regions first, then their classes, boxes and masks. They choose the objects themselves.

MMDetection's way, step by step, so that the numbers are its own: suppression of regions by level, of objects by class,
boxes cut at the edge of the picture, not of its padding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.exporters.graphs.dense import flat, sizes
from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.graphs.operators import Align, Suppress

OUTPUTS = ("det_boxes", "det_scores", "det_labels")
LAYOUTS = {
    "det_boxes": "(objects, 4): x1, y1, x2, y2 in pixels of the input, best first",
    "det_scores": "(objects,): 0 to 1",
    "det_labels": "(objects,): int64, position of the class",
    "det_masks": "(objects, height, width): odds of each cell of the box",
}


class TwoStage(nn.Module):
    """Image (1, 3, H, W) and the height and width of the picture in it (1, 2) -> objects."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, picture_hw: Tensor | None = None) -> tuple[Tensor, ...]:
        features = self.model.extract_feat(images)
        whole = torch._shape_as_tensor(images)[2:].float()
        limit = whole if picture_hw is None else picture_hw[0]
        regions = self._regions(features, limit)
        regions, scores, deltas = self._refined(features, regions, limit)
        boxes, scores, labels = self._objects(regions, scores, deltas, limit)
        if not self.model.roi_head.with_mask:
            return boxes, scores, labels
        return boxes, scores, labels, self._masks(features, boxes, labels)

    def _regions(self, features: Any, limit: Tensor) -> Tensor:
        head = self.model.rpn_head
        config = head.test_cfg
        classes, deltas = head(features)
        priors = head.prior_generator.grid_priors(sizes(classes), device=classes[0].device)
        kept_boxes, kept_scores, kept_levels = [], [], []
        for level, (score, delta, prior) in enumerate(zip(classes, deltas, priors, strict=True)):
            scores, order = flat([score], 1).sigmoid().reshape(-1).sort(descending=True)
            order = order[: config.nms_pre]
            boxes = head.bbox_coder.decode(prior[order], flat([delta], 4)[0][order])
            kept_boxes.append(clipped(boxes, limit))
            kept_scores.append(scores[: config.nms_pre])
            kept_levels.append(torch.full_like(kept_scores[-1], level))
        boxes, scores = torch.cat(kept_boxes), torch.cat(kept_scores)
        if config.get("min_bbox_size", -1) >= 0:
            large = ((boxes[:, 2:] - boxes[:, :2]) > config.min_bbox_size).all(dim=1)
            scores = torch.where(large, scores, torch.full_like(scores, -1.0))
        apart = boxes + (torch.cat(kept_levels) * (boxes.max() + 1))[:, None]
        at = Suppress.apply(apart, scores, float(config.nms.iou_threshold), int(config.max_per_img), 0.0)
        return boxes[at]

    def _refined(self, features: Any, regions: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Regions, scores (M, classes + 1) and deltas of the last stage."""
        heads, extractors = stages(self.model.roi_head.bbox_head), stages(self.model.roi_head.bbox_roi_extractor)
        every: list[Tensor] = []
        deltas = regions
        for number, (head, extractor) in enumerate(zip(heads, extractors, strict=True)):
            logits, deltas = head(aligned(extractor, features, regions))
            every.append(logits)
            if number + 1 < len(heads):
                regions = clipped(head.bbox_coder.decode(regions, deltas), limit)
        return (
            regions,
            (sum(every) / float(len(every))).softmax(dim=-1),
            deltas,
        )  # logits are averaged, as MMDetection does

    def _objects(self, regions: Tensor, scores: Tensor, deltas: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        head, config = stages(self.model.roi_head.bbox_head)[-1], self.model.roi_head.test_cfg
        classes = head.num_classes
        every = regions[:, None].expand(-1, 1 if head.reg_class_agnostic else classes, -1).reshape(-1, 4)
        boxes = clipped(head.bbox_coder.decode(every, deltas.reshape(-1, 4)), limit)
        if head.reg_class_agnostic:
            boxes = boxes[:, None].expand(-1, classes, -1).reshape(-1, 4)
        odds = scores[:, :-1].reshape(-1)
        labels = torch.arange(classes)[None].expand(scores.shape[0], -1).reshape(-1)
        apart = boxes + (labels.float() * (boxes.max() + 1))[:, None]
        iou = float(config.nms.iou_threshold)
        at = Suppress.apply(apart, odds, iou, int(config.max_per_img), float(config.score_thr))
        return boxes[at], odds[at], labels[at]

    def _masks(self, features: Any, boxes: Tensor, labels: Tensor) -> Tensor:
        heads, extractors = stages(self.model.roi_head.mask_head), stages(self.model.roi_head.mask_roi_extractor)
        every = [
            head(aligned(extractor, features, boxes)).sigmoid()
            for head, extractor in zip(heads, extractors, strict=True)
        ]
        masks = sum(every) / float(len(every))
        size = masks.shape[-2:]
        return masks.gather(1, labels[:, None, None, None].expand(-1, 1, size[0], size[1])).squeeze(1)


def stages(part: nn.Module) -> list[Any]:
    """Of a cascade, or the one there is."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def aligned(extractor: Any, features: Any, boxes: Tensor) -> Tensor:
    """Features (M, C, h, w) of boxes (M, 4), each from the level that fits its size, in the boxes' order."""
    regions = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
    layers = extractor.roi_layers
    levels = extractor.map_roi_levels(regions, len(layers))
    places, parts = [], []
    for number, layer in enumerate(layers):
        at = torch.nonzero(levels == number).squeeze(1)
        height, width = layer.output_size
        options = (int(height), int(width), float(layer.spatial_scale), int(layer.sampling_ratio))
        parts.append(Align.apply(features[number], regions[at], *options))
        places.append(at)
    back = torch.sort(torch.cat(places))[1]
    return torch.cat(parts)[back]


def clipped(boxes: Tensor, limit_hw: Tensor) -> Tensor:
    """Within a picture of this height and width."""
    height, width = limit_hw[0], limit_hw[1]
    zero = torch.zeros_like(boxes[:, 0])
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack(
        [
            torch.minimum(torch.maximum(side, zero), edge)
            for side, edge in ((x1, width), (y1, height), (x2, width), (y2, height))
        ],
        dim=1,
    )


def two_stage_graph(model: Any, *, dynamic_size: bool) -> Graph:
    """Of Faster, Mask and Cascade R-CNN."""
    config = model.roi_head.test_cfg
    masks = bool(model.roi_head.with_mask)
    outputs = (*OUTPUTS, "det_masks") if masks else OUTPUTS
    post = {
        "kind": "detections",
        "in_graph": ["nms"],
        "coordinate_format": "xyxy",
        "apply_nms": False,
        "nms_method": "in the model, per class",
        "clip_boxes": True,
        "score_threshold": float(config.score_thr),
        "iou_threshold": float(config.nms.iou_threshold),
        "max_detections": int(config.max_per_img),
        **({"mask_threshold": float(config.mask_thr_binary)} if masks else {}),
    }
    return Graph(
        TwoStage(model),
        outputs,
        post,
        {name: LAYOUTS[name] for name in outputs},
        picture_input="picture_hw" if dynamic_size else None,
        one_image=True,
        dynamic={name: {0: "objects"} for name in outputs},
    )
