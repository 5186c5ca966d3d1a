"""What a request asks that no model, no format or this machine can do. The parent imports this: no torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.errors import ConfigError, ResourceError


def check(config: ExportConfig, export_format: str) -> None:
    """What no model could honour.

    Raises:
        ConfigError: every problem at once.
    """
    problems = []
    precision = config.number_format
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


def check_machine(export_format: str, gpus: Sequence[object]) -> None:
    """
    Raises:
        ResourceError: TensorRT is not installed, or the GPU that an engine is built for is not there.
    """
    if export_format != "tensorrt":
        return
    if importlib.util.find_spec("tensorrt") is None:
        raise ResourceError(
            "EXPORT_FORMAT=tensorrt needs TensorRT, which is not installed",
            hint="install the tensorrt package that fits the GPU's driver, or use EXPORT_FORMAT=onnx",
        )
    if not gpus:
        raise ResourceError(
            "EXPORT_FORMAT=tensorrt needs the GPU that the engine is for, and there is none",
            hint="run the job on that GPU, or use EXPORT_FORMAT=onnx and build the engine there",
        )


def check_recipe(name: str, formats: Sequence[str], export_format: str) -> None:
    """
    Raises:
        ConfigError: the model is not exported to this format.
    """
    if export_format not in formats:
        hint = f"formats: {', '.join(formats) or 'none'}"
        raise ConfigError(f"{name} is not exported to {export_format}", hint=hint)
