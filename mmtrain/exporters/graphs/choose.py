"""Which graph a model has."""

from __future__ import annotations

from typing import Any

from mmtrain.exporters.graphs.dense import dense_graph
from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.graphs.poses import one_stage_graph, top_down_graph
from mmtrain.exporters.graphs.semantic import semantic_graph
from mmtrain.exporters.graphs.transformers import masks_graph, peaks_graph, queries_graph
from mmtrain.exporters.graphs.two_stage import two_stage_graph
from trainer_sdk.errors import ExportError

DENSE = {"ATSSHead", "FCOSHead", "RTMDetInsSepBNHead", "RTMDetSepBNHead", "RTMDetHead", "RetinaHead", "YOLOXHead"}
QUERIES = {"DETRHead", "DINOHead"}


def graph_of(model: Any, *, dynamic_size: bool = False) -> Graph:
    """The tensors-to-tensors part of a model of MMDetection, MMSegmentation or MMPose.

    Raises:
        ExportError: a kind of model that has no graph, or none for pictures of any size.
    """
    kind, head = type(model).__name__, type(getattr(model, "bbox_head", None)).__name__
    if head in DENSE:
        return dense_graph(model)
    if head in QUERIES:
        return _of_one_size(queries_graph(model), kind, dynamic_size)
    if head == "CenterNetHead":
        return _of_one_size(peaks_graph(model), kind, dynamic_size)
    if hasattr(model, "rpn_head"):
        return two_stage_graph(model, dynamic_size=dynamic_size)
    if hasattr(model, "panoptic_head"):
        return _of_one_size(masks_graph(model), kind, dynamic_size)
    if hasattr(model, "decode_head"):
        return _of_one_size(semantic_graph(model), kind, dynamic_size)
    if kind == "TopdownPoseEstimator":
        return _of_one_size(top_down_graph(model), kind, dynamic_size)
    if kind == "BottomupPoseEstimator":
        return _of_one_size(one_stage_graph(model), kind, dynamic_size)
    raise ExportError(f"a {kind} with a {head} has no exporter")


def _of_one_size(graph: Graph, kind: str, dynamic_size: bool) -> Graph:
    if dynamic_size:
        raise ExportError(f"a {kind} is exported for one input size", hint="leave 2 and 3 out of dynamic_axes")
    return graph
