"""Writes TorchScript files by tracing, as MMDetection's tool does."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.graphs.operators import exportable
from trainer_sdk.errors import ExportError


def write_torchscript(graph: Graph, target: Path, *, shape: tuple[int, int, int, int]) -> dict[str, int]:
    """Writes the file and returns how often it calls each of PyTorch's functions.

    Args:
        shape: (batch, 3, height, width); the traced model is for this shape alone.

    Raises:
        ExportError: it cannot be traced, or calls compiled code that PyTorch does not bring along.
    """
    if graph.one_image:
        raise ExportError(
            "this model chooses its objects with operators that TorchScript has not",
            hint="use EXPORT_FORMAT=onnx or openvino",
        )
    try:
        with warnings.catch_warnings(), torch.no_grad(), exportable():
            warnings.simplefilter("ignore")  # of every Python number; the certificate compares
            traced = torch.jit.trace(graph.module.eval(), torch.rand(shape), check_trace=False)
            traced = torch.jit.freeze(traced.eval())
            traced.save(str(target))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExportError(f"PyTorch could not write the model as TorchScript: {str(error)[:500]}") from error
    counts: dict[str, int] = {}
    for node in traced.inlined_graph.nodes():
        if node.kind().startswith("aten::"):
            counts[node.kind()] = counts.get(node.kind(), 0) + 1
    return counts
