"""Colour order and normalisation as a part of the graph, which then takes pixels as OpenCV reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.exporters.graphs.graph import Graph


class Normalised(nn.Module):
    """Images (B, 3, H, W) of 0 to 255, blue first -> what the model says."""

    def __init__(self, module: nn.Module, pre: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = module
        self.rgb = pre["color_space"] == "RGB"
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(pre[name], dtype=torch.float32)[None, :, None, None])

    def forward(self, images: Tensor, *more: Tensor) -> Any:
        pixels = images.flip(1) if self.rgb else images
        return self.module((pixels - self.mean) / self.std, *more)


def embedded(graph: Graph, pre: Mapping[str, Any]) -> tuple[Graph, dict[str, Any]]:
    """The graph that does it itself, and what is left to do before."""
    colour = pre["pad_value"][::-1] if pre["color_space"] == "RGB" else pre["pad_value"]
    values = {name: pre[name] for name in ("mean", "std", "color_space")}
    left = {"mean": [0.0] * 3, "std": [1.0] * 3, "color_space": "BGR", "pad_value": list(colour), "embedded": True}
    return replace(graph, module=Normalised(graph.module, pre)), {**pre, **left, "embedded_values": values}
