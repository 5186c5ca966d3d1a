"""What a request asks of a model or a format that cannot honour it."""

from __future__ import annotations

from typing import Any

from mmtrain.exporters.certificate import Precision
from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.preprocessing import whole_cells
from trainer_sdk.errors import ConfigError
from trainer_sdk.model_configs import ExportConfig


def check(config: ExportConfig, export_format: str) -> None:
    """What no model could honour.

    Raises:
        ConfigError: every problem at once.
    """
    problems = []
    precision: Precision = config.number_format
    if config.raw_outputs and config.nms:
        problems.append("raw_outputs and nms: a file gives the one or the other")
    if config.nms and (config.dynamic_size or export_format == "torchscript"):
        problems.append("nms in the graph is for ONNX, OpenVINO and TensorRT, and one input size")
    if export_format == "torchscript" and config.dynamic_axes:
        problems.append("dynamic_axes: a traced TorchScript file is for one shape")
    if export_format == "torchscript" and precision != "fp32":
        problems.append(f"{precision}: TorchScript files are written in fp32")
    if export_format == "onnx" and precision == "fp16":
        problems.append("fp16: ONNX files are written in fp32 or int8; OpenVINO and TensorRT take fp16")
    if export_format == "openvino" and precision == "int8":
        problems.append("int8: OpenVINO files are written in fp32 or fp16; ONNX takes int8")
    if export_format != "tensorrt":
        problems += [
            f"{key} is TensorRT's, EXPORT_FORMAT is {export_format}"
            for key in ("profiles", "workspace_size_gb", "timing_cache")
            if getattr(config, key) is not None
        ]
    if problems:
        raise ConfigError.of_problems("EXPORT_CONFIG", problems)


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
