"""Operators of ONNX's own for what mm* computes with compiled code, with the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional


class Suppress(torch.autograd.Function):
    """Non-maximum suppression of one class: indices of what stays, best first; ONNX's NonMaxSuppression."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou: float, most: int, least: float) -> Tensor:
        """`boxes` (N, 4) xyxy, `scores` (N,); only scores above `least` count."""
        from mmcv.ops.nms import ext_module

        at = torch.nonzero(scores > least).squeeze(1)
        if not len(at):
            return at
        return at[ext_module.nms(boxes[at].contiguous(), scores[at].contiguous(), iou_threshold=iou, offset=0)[:most]]

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float, most: int, least: float) -> Any:
        """(M,) int64."""

        def constant(value: Any, kind: torch.dtype) -> Any:
            return g.op("Constant", value_t=torch.tensor(value, dtype=kind))

        chosen = g.op(
            "NonMaxSuppression",
            g.op("Unsqueeze", boxes, constant([0], torch.int64)),
            g.op("Unsqueeze", scores, constant([0, 1], torch.int64)),
            constant([most], torch.int64),
            constant([iou], torch.float32),
            constant([least], torch.float32),
        )
        return g.op("Gather", chosen, constant(2, torch.int64), axis_i=1)


class Align(torch.autograd.Function):
    """Features (M, C, h, w) of regions (M, 5): number of the image, x1, y1, x2, y2; ONNX's RoiAlign."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, regions: Tensor, height: int, width: int, scale: float, ratio: int
    ) -> Tensor:
        from mmcv.ops import roi_align

        return roi_align(features, regions, (height, width), scale, ratio, "avg", True)

    @staticmethod
    def symbolic(g: Any, features: Any, regions: Any, height: int, width: int, scale: float, ratio: int) -> Any:
        def columns(begin: int, end: int) -> Any:
            bounds = [g.op("Constant", value_t=torch.tensor([value])) for value in (begin, end, 1)]
            return g.op("Slice", regions, *bounds, g.op("Constant", value_t=torch.tensor([1])))

        images = g.op("Squeeze", columns(0, 1), g.op("Constant", value_t=torch.tensor([1])))
        return g.op(
            "RoiAlign",
            features,
            columns(1, 5),
            g.op("Cast", images, to_i=torch.onnx.TensorProtoDataType.INT64),
            coordinate_transformation_mode_s="half_pixel",
            mode_s="avg",
            output_height_i=height,
            output_width_i=width,
            sampling_ratio_i=ratio,
            spatial_scale_f=scale,
        )


@contextmanager
def exportable() -> Iterator[None]:
    """While a model is traced: operators that ONNX has not, by others that give the same numbers."""
    pool = functional.adaptive_avg_pool2d

    def pooled(images: Tensor, output_size: Any) -> Tensor:
        return averaged(images, output_size) if wanted(output_size) != (1, 1) else pool(images, output_size)

    with patch.object(functional, "adaptive_avg_pool2d", pooled):
        yield


def wanted(output_size: Any) -> tuple[Any, Any]:
    """Both sides."""
    return (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)


def averaged(images: Tensor, output_size: Any) -> Tensor:
    """`adaptive_avg_pool2d` as two matrix products; ONNX has none whose output does not divide its input."""
    height, width = wanted(output_size)
    shape = torch._shape_as_tensor(images)
    rows = shares(shape[2], height)
    columns = shares(shape[3], width)
    return torch.matmul(torch.matmul(rows, images), columns.t())


def shares(length: Tensor, cells: int) -> Tensor:
    """(cells, length): how much of each position goes into each cell."""
    cell = torch.arange(cells)
    begin = torch.div(cell * length, cells, rounding_mode="floor")
    end = torch.div((cell + 1) * length + (cells - 1), cells, rounding_mode="floor")
    at = torch.arange(length)
    inside = (at[None] >= begin[:, None]) & (at[None] < end[:, None])
    return inside.float() / (end - begin)[:, None].float()
