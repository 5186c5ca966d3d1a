"""The shape of a file's input."""

from __future__ import annotations

from typing import Any

from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.preprocessing import whole_cells
from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.errors import ConfigError


def input_shape(
    pre: dict[str, Any], asked: tuple[int, int, int, int] | None, graph: Graph, config: ExportConfig
) -> tuple[int, int, int, int]:
    """(batch, 3, height, width) of the file: what was asked for, or one image of the model's own size.

    Raises:
        ConfigError: a size or a batch that the model cannot take.
    """
    width, height = whole_cells(pre)
    if asked and (asked[3], asked[2]) != (width, height):
        raise ConfigError(
            f"input_shape={list(asked)}: height and width must be multiples of {pre['size_multiple']}",
            hint=f"{[asked[0], 3, height, width]} is the next",
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
