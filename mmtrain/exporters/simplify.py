"""Folds the constants of an ONNX file, by ONNX Runtime's own first level of optimisation."""

from __future__ import annotations

from pathlib import Path

import onnx

from mmtrain.exporters.onnx_file import checked


def simplified(path: Path) -> onnx.ModelProto:
    """Rewrites the file in place with standard operators only; where nothing is to be folded it stays as it was."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    folded = path.with_suffix(".folded.onnx")
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    folded.replace(path)
    return checked(path)
