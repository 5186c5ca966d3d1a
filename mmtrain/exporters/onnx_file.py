"""Writes ONNX files of standard operators."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.graphs.operators import exportable
from trainer_sdk.errors import ExportError

STANDARD_DOMAINS = {"", "ai.onnx"}
DEFAULT_OPSET = 17


def write_onnx(
    graph: Graph,
    target: Path,
    *,
    shape: tuple[int, int, int, int],
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = False,
    dynamic_size: bool = False,
    input_name: str = "input",
) -> onnx.ModelProto:
    """Writes the file and checks it.

    Args:
        shape: (batch, 3, height, width) of the input; of what is dynamic, an example.

    Raises:
        ExportError: PyTorch cannot trace it, or the result needs operators that are not ONNX's own.
    """
    images = torch.rand(shape) * 2 - 1
    inputs: tuple[torch.Tensor, ...] = (images,)
    names = [input_name]
    if graph.picture_input:
        inputs = (images, torch.tensor([[float(shape[2]), float(shape[3])]] * shape[0]))
        names.append(graph.picture_input)
    try:
        with warnings.catch_warnings(), torch.no_grad(), exportable():
            warnings.simplefilter("ignore")  # tracing warns of every Python number; the certificate compares
            torch.onnx.export(
                graph.module.eval(),
                inputs,
                str(target),
                input_names=names,
                output_names=list(graph.outputs),
                opset_version=opset,
                dynamic_axes=_dynamic_axes(graph, names, batch=dynamic_batch, size=dynamic_size),
                dynamo=False,  # its own tracer knows neither the heads' loops nor symbolics of our own
            )
    except (RuntimeError, TypeError, ValueError, AttributeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ExportError(f"PyTorch could not write the model as ONNX: {str(error)[:500]}") from error
    return checked(target)


def _dynamic_axes(graph: Graph, inputs: list[str], *, batch: bool, size: bool) -> dict[str, dict[int, str]]:
    """Names of the dimensions that a file leaves open. What is seen varies in any case."""
    free = {"batch"} if batch else set()
    axes = {inputs[0]: ({0: "batch"} if batch else {}) | ({2: "height", 3: "width"} if size else {})}
    if len(inputs) > 1 and batch:
        axes[inputs[1]] = {0: "batch"}
    for name, dimensions in graph.dynamic.items():
        axes[name] = {
            at: word
            for at, word in dimensions.items()
            if word in free or word == "objects" or (size and word != "batch")
        }
    return {name: dimensions for name, dimensions in axes.items() if dimensions}


def checked(path: Path) -> onnx.ModelProto:
    """The model of a file.

    Raises:
        ExportError: it is no valid model, or needs a library of custom operators.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX file is not valid: {str(error)[:500]}") from error
    model = onnx.load(str(path))
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in model.graph.node} - operators_of(model))
    if foreign:
        raise ExportError(f"the ONNX file needs operators that are not ONNX's own: {', '.join(foreign)}")
    return model


def operators_of(model: onnx.ModelProto) -> set[str]:
    """Of the standard, as `::Name`."""
    return {f"{node.domain}::{node.op_type}" for node in model.graph.node if node.domain in STANDARD_DOMAINS}
