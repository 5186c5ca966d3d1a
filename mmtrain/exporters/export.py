"""From a model in memory to a proven package. The worker's part: needs torch."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from mmtrain.exporters.certificate import Certificate, Precision
from mmtrain.exporters.embedding import embedded
from mmtrain.exporters.graphs.choose import graph_of
from mmtrain.exporters.graphs.chosen import chosen
from mmtrain.exporters.graphs.dense import with_raw
from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.metadata import About, metadata
from mmtrain.exporters.onnx_file import DEFAULT_OPSET, write_onnx
from mmtrain.exporters.openvino_file import write_openvino
from mmtrain.exporters.package import add_runtime, write_certificate, write_metadata
from mmtrain.exporters.preprocessing import at_size, fixed, preprocessing_of, whole_cells
from mmtrain.exporters.probes import probe_images
from mmtrain.exporters.quantize import write_int8
from mmtrain.exporters.reference import Reference
from mmtrain.exporters.runtime.predict_standalone import Predictor
from mmtrain.exporters.simplify import simplified
from mmtrain.exporters.tensorrt_file import write_tensorrt
from mmtrain.exporters.torchscript_file import write_torchscript
from mmtrain.exporters.validating import Images
from mmtrain.exporters.verify import Candidate, verify
from trainer_sdk.errors import ConfigError, ExportError
from trainer_sdk.model_configs import ExportConfig
from trainer_sdk.tasks import Task

INPUT = "input"
FILES = {"onnx": "model.onnx", "torchscript": "model.torchscript", "openvino": "model.xml", "tensorrt": "model.engine"}
PACKAGES = {
    "onnx": ("onnx", "onnxruntime", "torch"),
    "openvino": ("openvino", "onnx", "torch"),
    "torchscript": ("torch",),
    "tensorrt": ("tensorrt", "onnx", "torch"),
}


@dataclass(frozen=True)
class Source:
    """A trained model and what is known of it."""

    model: Any
    pipeline: Sequence[dict[str, Any]]
    """The test pipeline of its configuration."""
    preprocessor: dict[str, Any]
    scope: str
    """mmdet, mmseg or mmpose."""
    task: Task
    about: About


def export(
    source: Source,
    config: ExportConfig,
    export_format: str,
    folder: Path,
    *,
    images: Images | None = None,
    threads: int = 0,
    measure_speed: bool = True,
    say: Callable[[str], None] = lambda words: None,
) -> Certificate:
    """Writes the model and everything of the package into the folder, and says whether it is the same model.

    Args:
        images: validation images with their truth; int8 is calibrated with them too.
        say: is told what is done next.

    Raises:
        ConfigError: something that this model or format cannot honour.
        ExportError: it cannot be written.
        ResourceError: TensorRT or its GPU is missing.
    """
    check(config, export_format)
    folder.mkdir(parents=True, exist_ok=True)
    source.model.eval()
    pipeline = list(source.pipeline)
    asked = config.input_shape
    size = (asked[3], asked[2]) if asked else config.imgsz
    if size is not None:
        pipeline = at_size(pipeline, size)
    graph = graph_of(source.model, dynamic_size=config.dynamic_size)
    if config.raw_outputs:
        if graph.postprocessing["kind"] != "dense":
            raise ConfigError("raw_outputs is for one-stage detectors", hint="leave it out")
        graph = with_raw(graph)
    if config.nms:
        graph = chosen(graph)
    pre = preprocessing_of(pipeline, source.preprocessor)
    own = preprocessing_of(source.pipeline, source.preprocessor)["size_wh"]
    if pre["resize_mode"] == "crop" and pre["size_wh"] != own:
        raise ConfigError(
            f"a pose model reads points from crops of the size it was trained with, {own[0]}x{own[1]}",
            hint="leave input_shape and imgsz out",
        )
    shape = _shape(pre, asked, graph, config)
    if not config.dynamic_size:
        pre = fixed(pre, (shape[3], shape[2]), graph.postprocessing["kind"])
    reference = Reference(source.model, pipeline, pre, scope=source.scope)
    plain = graph
    if config.embed_preprocessing:
        graph, pre = embedded(graph, pre)
    say(f"writing {export_format}")
    operators, opset = _written(graph, config, export_format, folder, shape, pre, images)
    document = _metadata(source, graph, config, export_format, folder, shape, pre, opset)
    write_metadata(folder, document)
    say("comparing with the trained model")
    candidate = Candidate(
        task=source.task,
        model_name=source.about.model_name,
        export_format=export_format,
        precision=config.number_format,
        opset=opset,
        folder=folder,
        model_files=tuple(sorted(folder.glob("model.*"))),
        graph=plain,
        reference=reference,
        operators=operators,
        runtime={name: importlib.metadata.version(name) for name in PACKAGES[export_format]},
    )
    certificate = verify(
        candidate,
        tolerance=config.tolerance,
        max_drop=config.max_drop,
        images=images,
        most_images=config.num_samples,
        class_names=source.about.class_names,
        threads=threads,
        measure_speed=measure_speed,
    )
    document["postprocessing"] |= _limits(config)  # after the comparison, in which both have the model's own
    write_metadata(folder, document)
    write_certificate(folder, certificate)
    add_runtime(folder, document, source.about.licence)
    return certificate


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


def _shape(
    pre: dict[str, Any], asked: tuple[int, int, int, int] | None, graph: Graph, config: ExportConfig
) -> tuple[int, int, int, int]:
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


def _limits(config: ExportConfig) -> dict[str, Any]:
    """What the request says about choosing objects; the runtime does it."""
    asked = {"score_threshold": config.conf, "iou_threshold": config.iou, "max_detections": config.max_det}
    return {name: value for name, value in asked.items() if value is not None}


def _written(
    graph: Graph,
    config: ExportConfig,
    export_format: str,
    folder: Path,
    shape: tuple[int, int, int, int],
    pre: dict[str, Any],
    images: Images | None,
) -> tuple[dict[str, int], int | None]:
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


def _metadata(
    source: Source,
    graph: Graph,
    config: ExportConfig,
    export_format: str,
    folder: Path,
    shape: tuple[int, int, int, int],
    pre: dict[str, Any],
    opset: int | None,
) -> dict[str, Any]:
    open_shape: list[int | str] = list(shape)
    for at, name in ((0, "batch"), (2, "height"), (3, "width")):
        if (at == 0 and config.dynamic_batch) or (at > 0 and config.dynamic_size):
            open_shape[at] = name
    outputs = [{"name": name, "layout": graph.layouts[name], "shape": []} for name in graph.outputs]
    document = metadata(
        source.about,
        export_format=export_format,
        model_file=FILES[export_format],
        shape=open_shape,
        input_name=INPUT,
        picture_input=graph.picture_input,
        pre=pre,
        post=graph.postprocessing,
        outputs=outputs,
        export_config=config.model_dump(mode="json"),
        precision=config.number_format,
        opset=opset,
    )
    write_metadata(folder, document)
    predictor = Predictor(folder)
    prepared = predictor.prepare(probe_images()[0])
    tensors = np.repeat(prepared.tensor[None], shape[0], axis=0)
    found = predictor.run(tensors, [prepared.place] * shape[0])
    for output in outputs:
        output["shape"] = list(found[output["name"]].shape)
    return document | {"output_spec": outputs, "output_shape": [output["shape"] for output in outputs]}


def counted(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator occurs."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts
