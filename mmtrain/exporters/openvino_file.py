"""Writes OpenVINO's files from ours of ONNX, with OpenVINO's own converter."""

from __future__ import annotations

from pathlib import Path

from trainer_sdk.errors import ExportError


def write_openvino(onnx_file: Path, target: Path, *, fp16: bool = False) -> dict[str, int]:
    """Writes ``<target>.xml`` and ``.bin`` and returns how often each operator occurs.

    Args:
        fp16: weights of 16 bits; what is computed in is the runtime's choice (`INFERENCE_PRECISION_HINT`).

    Raises:
        ExportError: OpenVINO cannot read the ONNX file.
    """
    import openvino

    try:
        model = openvino.convert_model(str(onnx_file))
        openvino.save_model(model, str(target), compress_to_fp16=fp16)
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot convert the ONNX file: {str(error)[:500]}") from error
    counts: dict[str, int] = {}
    for node in model.get_ops():
        counts[node.get_type_name()] = counts.get(node.get_type_name(), 0) + 1
    return counts
