"""A class for every pixel."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmtrain.exporters.graphs.graph import Graph


class Semantic(nn.Module):
    """Images (B, 3, H, W) -> scores (B, classes, H, W)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        size = (int(images.shape[2]), int(images.shape[3]))
        facts = [{"img_shape": size, "pad_shape": size} for _ in range(int(images.shape[0]))]
        return self.model.decode_head.predict(self.model.extract_feat(images), facts, self.model.test_cfg)


def semantic_graph(model: Any) -> Graph:
    """Of any encoder and decoder of MMSegmentation."""
    post = {"kind": "semantic", "apply_nms": False, "align_corners": bool(model.align_corners)}
    layouts = {"logits": "(batch, classes, height, width): the class of a pixel is the one with the largest value"}
    dynamic = {"logits": {0: "batch", 2: "height", 3: "width"}}
    counts = hasattr(model.decode_head, "num_queries")  # Mask2Former
    return Graph(Semantic(model), ("logits",), post, layouts, dynamic=dynamic, fixed_batch=counts)
