"""Builds a TensorRT engine from our ONNX file. Not run here: no TensorRT is at hand (docs/results.md)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtrain.exporters.asked import check_machine
from trainer_sdk.errors import ExportError

Shape = tuple[int, int, int, int]
GIB = 2**30


def tensorrt_module() -> Any:
    """The package. Raises: ResourceError: it is not installed, or there is no GPU to build for."""
    import torch

    check_machine("tensorrt", range(torch.cuda.device_count()))
    return importlib.import_module("tensorrt")


def write_tensorrt(
    onnx_file: Path,
    target: Path,
    *,
    input_name: str,
    profiles: Mapping[str, Shape],
    precision: str,
    workspace_gb: float | None,
    timing_cache: Path | None,
    calibration: Iterator[NDArray[np.float32]] | None = None,
) -> None:
    """Writes the engine.

    Args:
        profiles: ``min``, ``opt`` and ``max`` of the input.
        precision: fp32, fp16 or int8; int8 with fp16 where int8 cannot.
        workspace_gb: of GPU memory while building.
        timing_cache: read if it is there, and written.
        calibration: batches (B, 3, H, W) as the model sees them, for int8.

    Raises:
        ResourceError: no TensorRT, or no GPU.
        ExportError: the parser or the builder refuses.
    """
    trt = tensorrt_module()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):
        problems = [str(parser.get_error(number)) for number in range(parser.num_errors)]
        raise ExportError.of_problems("TensorRT cannot read the ONNX file", problems)
    config = builder.create_builder_config()
    if workspace_gb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace_gb * GIB))
    profile = builder.create_optimization_profile()
    profile.set_shape(input_name, *(profiles[name] for name in ("min", "opt", "max")))
    config.add_optimization_profile(profile)
    _set_precision(trt, config, precision, profile, calibration)
    cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache and timing_cache.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ExportError("TensorRT built no engine; its reasons are in worker.log")
    target.write_bytes(bytes(engine))
    if timing_cache is not None:
        timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))


def _set_precision(
    trt: Any, config: Any, precision: str, profile: Any, calibration: Iterator[NDArray[np.float32]] | None
) -> None:
    if precision in ("fp16", "int8"):
        config.set_flag(trt.BuilderFlag.FP16)
    if precision == "int8":
        if calibration is None:
            raise ExportError("int8 needs images to calibrate with", hint="set DATASET_ID or DATASET_PATH")
        config.set_flag(trt.BuilderFlag.INT8)
        config.set_calibration_profile(profile)
        config.int8_calibrator = _calibrator(trt, calibration)


def _calibrator(trt: Any, batches: Iterator[NDArray[np.float32]]) -> Any:
    import torch

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        """Hands over batches in GPU memory."""

        def __init__(self) -> None:
            super().__init__()
            self._held: Any = None

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> list[int] | None:
            batch = next(batches, None)
            if batch is None:
                return None
            self._held = torch.from_numpy(np.ascontiguousarray(batch)).cuda()
            return [int(self._held.data_ptr())]

        def read_calibration_cache(self) -> None:
            return None

        def write_calibration_cache(self, cache: Any) -> None:
            """Every export calibrates with its own images."""

    return Calibrator()
