"""The shape of a file's input."""

from __future__ import annotations

import math
from typing import Any

from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.preprocessing import whole_cells
from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.errors import ConfigError


def input_shape(pre: dict[str, Any], graph: Graph, config: ExportConfig, *, multiple: int) -> tuple[int, int, int, int]:
    """(batch, 3, height, width) of the file: what was asked for, or one image of the model's own size.

    Args:
        multiple: of which both sides are multiples.

    Raises:
        ConfigError: a size or a batch that the model cannot take.
    """
    asked = config.input_shape
    width, height = whole_cells(pre, multiple)
    if asked and (asked[3], asked[2]) != (width, height):
        cell = math.lcm(pre["size_multiple"], multiple)
        raise ConfigError(
            f"input_shape={list(asked)}: height and width must be multiples of {cell}",
            hint=f"{[asked[0], 3, height, width]} is the next",
        )
    if config.imgsz not in (None, (width, height)) and pre["pad_to_size"]:
        raise ConfigError(
            f"imgsz={list(config.imgsz or ())}: width and height must be multiples of {multiple}",
            hint=f"{[width, height]} is the next",
        )
    batch = asked[0] if asked else 1
    if graph.one_image and (batch != 1 or config.dynamic_batch):
        raise ConfigError(
            "this model chooses its objects itself, one image at a time",
            hint="set the batch of input_shape to 1, and leave axis 0 out of dynamic_axes",
        )
    if graph.fixed_batch and config.dynamic_batch:
        raise ConfigError(
            "this model counts its images while it is written", hint="leave axis 0 out of dynamic_axes, set input_shape"
        )
    return batch, 3, height, width
