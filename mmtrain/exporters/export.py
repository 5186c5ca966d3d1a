"""From a model in memory to a proven package. The worker's part: needs torch."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmtrain.exporters.asked import check
from mmtrain.exporters.certificate import Certificate
from mmtrain.exporters.embedding import embedded
from mmtrain.exporters.graphs.choose import graph_of
from mmtrain.exporters.graphs.chosen import chosen
from mmtrain.exporters.graphs.dense import with_raw
from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.limits import in_the_model, refuse_what_has_no_meaning, told
from mmtrain.exporters.metadata import About, metadata
from mmtrain.exporters.package import add_runtime, write_certificate, write_metadata
from mmtrain.exporters.preprocessing import at_size, fixed, preprocessing_of
from mmtrain.exporters.probes import probe_images
from mmtrain.exporters.progress import Say, silent
from mmtrain.exporters.reference import Reference
from mmtrain.exporters.runtime.predict_standalone import Predictor
from mmtrain.exporters.shape import input_shape
from mmtrain.exporters.validating import Images
from mmtrain.exporters.verify import Candidate, verify
from mmtrain.exporters.writing import FILES, INPUT, written
from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

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
    size_multiple: int = 32
    """Both sides of its input are multiples of it."""


class Plan(NamedTuple):
    """What will be written."""

    plain: Graph
    """As PyTorch's numbers are compared: it takes normalised images."""
    graph: Graph
    pre: dict[str, Any]
    shape: tuple[int, int, int, int]
    reference: Reference


def export(
    source: Source,
    config: ExportConfig,
    export_format: str,
    folder: Path,
    *,
    images: Images | None = None,
    threads: int = 0,
    measure_speed: bool = True,
    say: Say = silent,
) -> Certificate:
    """Writes the model and everything of the package into the folder, and says whether it is the same model.

    Args:
        images: validation images with their truth; int8 is calibrated with them too.
        say: is told what is done, how many steps of it, and of how many.

    Raises:
        ConfigError: something that this model or format cannot honour.
        ExportError: it cannot be written.
        ResourceError: TensorRT or its GPU is missing.
    """
    check(config, export_format)
    folder.mkdir(parents=True, exist_ok=True)
    source.model.eval()
    with in_the_model(source.model, config):
        plan = _planned(source, config)
        say(f"writing {export_format}", 0, 1)
        operators, opset = written(plan.graph, config, export_format, folder, plan.shape, plan.pre, images)
        document = _metadata(source, plan, config, export_format, folder, opset)
        write_metadata(folder, document)
        candidate = Candidate(
            task=source.task,
            model_name=source.about.model_name,
            export_format=export_format,
            precision=config.number_format,
            opset=opset,
            folder=folder,
            model_files=tuple(sorted(folder.glob("model.*"))),
            graph=plan.plain,
            reference=plan.reference,
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
            say=say,
        )
    document["postprocessing"] |= told(config)  # after the comparison, in which both choose by the same rules
    write_metadata(folder, document)
    write_certificate(folder, certificate)
    add_runtime(folder, document, source.about.licence)
    return certificate


def _planned(source: Source, config: ExportConfig) -> Plan:
    pipeline = list(source.pipeline)
    asked = config.input_shape
    size = (asked[3], asked[2]) if asked else config.imgsz
    if size is not None:
        pipeline = at_size(pipeline, size)
    graph = graph_of(source.model, dynamic_size=config.dynamic_size)
    refuse_what_has_no_meaning(config, graph.postprocessing["kind"])
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
    shape = input_shape(pre, graph, config, multiple=source.size_multiple)
    if not config.dynamic_size:
        pre = fixed(pre, (shape[3], shape[2]), graph.postprocessing["kind"])
    reference = Reference(source.model, pipeline, pre, scope=source.scope)
    plain = graph
    if config.embed_preprocessing:
        graph, pre = embedded(graph, pre)
    return Plan(plain, graph, pre, shape, reference)


def _metadata(
    source: Source, plan: Plan, config: ExportConfig, export_format: str, folder: Path, opset: int | None
) -> dict[str, Any]:
    """With the outputs' shapes, for which the file is run once."""
    graph, shape = plan.graph, plan.shape
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
        pre=plan.pre,
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
