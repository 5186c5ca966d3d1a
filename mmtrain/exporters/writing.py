"""A graph becomes the file of a format; int8 is calibrated with the data set's images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.onnx_file import DEFAULT_OPSET, write_onnx
from mmtrain.exporters.openvino_file import write_openvino
from mmtrain.exporters.package import write_metadata
from mmtrain.exporters.quantize import write_int8
from mmtrain.exporters.runtime.predict_standalone import Predictor
from mmtrain.exporters.simplify import simplified
from mmtrain.exporters.tensorrt_file import write_tensorrt
from mmtrain.exporters.torchscript_file import write_torchscript
from mmtrain.exporters.validating import Images
from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.errors import ConfigError, ExportError

INPUT = "input"
FILES = {"onnx": "model.onnx", "torchscript": "model.torchscript", "openvino": "model.xml", "tensorrt": "model.engine"}


def written(
    graph: Graph,
    config: ExportConfig,
    export_format: str,
    folder: Path,
    shape: tuple[int, int, int, int],
    pre: dict[str, Any],
    images: Images | None,
) -> tuple[dict[str, int], int | None]:
    """Writes the model's file and returns how often each operator occurs, and ONNX's opset.

    Raises:
        ConfigError: int8 without images.
        ExportError: it cannot be written.
        ResourceError: TensorRT or its GPU is missing.
    """
    target = folder / FILES[export_format]
    if export_format == "torchscript":
        return write_torchscript(graph, target, shape=shape), None
    onnx_file = target if export_format == "onnx" else folder.parent / f"{folder.name}.onnx"
    opset = config.opset_version or DEFAULT_OPSET
    model = write_onnx(
        graph, onnx_file, shape=shape, opset=opset, dynamic_batch=config.dynamic_batch, dynamic_size=config.dynamic_size
    )
    if config.simplify:
        model = simplified(onnx_file)
    if export_format == "onnx":
        if config.number_format == "int8":
            model = _quantized(onnx_file, config, pre, images)
        return counted(model), opset
    try:
        if export_format == "openvino":
            return write_openvino(onnx_file, target, fp16=config.number_format == "fp16"), opset
        profiles = config.profiles or dict.fromkeys(("min", "opt", "max"), shape)
        write_tensorrt(
            onnx_file,
            target,
            input_name=INPUT,
            profiles={name: profiles.get(name, shape) for name in ("min", "opt", "max")},  # type: ignore[call-overload]
            precision=config.number_format,
            workspace_gb=config.workspace_size_gb,
            timing_cache=Path(config.timing_cache) if config.timing_cache else None,
            calibration=_batches(config, pre, images, folder) if config.number_format == "int8" else None,
        )
        return counted(model), opset
    finally:
        onnx_file.unlink(missing_ok=True)


def _quantized(onnx_file: Path, config: ExportConfig, pre: dict[str, Any], images: Images | None) -> onnx.ModelProto:
    float_file = onnx_file.with_suffix(".fp32.onnx")
    onnx_file.replace(float_file)
    try:
        batches = _batches(config, pre, images, onnx_file.parent)
        write_int8(float_file, onnx_file, input_name=INPUT, batches=batches)
    finally:
        float_file.unlink(missing_ok=True)
    return onnx.load(str(onnx_file))


def _batches(
    config: ExportConfig, pre: dict[str, Any], images: Images | None, folder: Path
) -> Iterator[NDArray[np.float32]]:
    """Of the data set's images, as the model sees them.

    Raises:
        ConfigError: there is no data set.
    """
    if images is None:
        raise ConfigError("int8 needs images to calibrate with", hint="set DATASET_ID or DATASET_PATH")
    names = images.names()[: config.calibration_dataset_size]
    if not names:
        raise ExportError("the data set has no images to calibrate int8 with")
    described = {"preprocessing": pre, "class_names": [], "postprocessing": {"kind": "none"}}
    write_metadata(folder, described)
    predictor = Predictor(folder, session=_Nothing())
    for name in names:
        image = cv2.imread(str(images.root / name), cv2.IMREAD_COLOR)
        if image is not None:
            yield predictor.prepare(image).tensor[None]


class _Nothing:
    """Of a predictor that only prepares."""

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        raise ExportError("a predictor that only prepares images was asked to run")


def counted(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
