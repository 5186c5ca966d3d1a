"""Whole numbers of 8 bits in ONNX files, by ONNX Runtime's static quantization (QDQ, per channel)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_sdk.errors import ExportError


def write_int8(source: Path, target: Path, *, input_name: str, batches: Iterator[NDArray[np.float32]]) -> None:
    """Quantizes the convolutions and matrix products of a file.

    Args:
        batches: (1, 3, H, W) each, as the model sees them.

    Raises:
        ExportError: ONNX Runtime cannot quantize this model.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands over one batch after the other."""

        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {input_name: batch}

    try:
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],  # what follows them in heads is small, and decides about scores
            extra_options={"QuantizeBias": False},  # TensorRT refuses biases of int32
        )
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"ONNX Runtime could not quantize the model: {str(error)[:500]}") from error
