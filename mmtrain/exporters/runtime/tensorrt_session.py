"""Runs a TensorRT engine with the `tensorrt` and `cuda-python` packages. Not run here: no TensorRT is at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class TensorRtSession:
    """An engine on the GPU that it was built for."""

    def __init__(self, engine: Path) -> None:
        import tensorrt
        from cuda import cudart  # type: ignore[import-not-found]

        self._trt, self._cuda = tensorrt, cudart
        runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        self._engine = runtime.deserialize_cuda_engine(engine.read_bytes())
        if self._engine is None:
            raise RuntimeError(f"{engine} was built for another GPU or TensorRT")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        self._outputs = [name for name in names if self._engine.get_tensor_mode(name) == tensorrt.TensorIOMode.OUTPUT]

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Copies to the GPU, runs, copies back."""
        held: list[int] = []
        try:
            for name, value in inputs.items():
                self._context.set_input_shape(name, value.shape)
                self._bind(name, value.nbytes, held)
                self._copy(held[-1], value.ctypes.data, value.nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice)
            found = {}
            for name in self._outputs:
                kind = self._trt.nptype(self._engine.get_tensor_dtype(name))
                found[name] = np.empty(tuple(self._context.get_tensor_shape(name)), dtype=kind)
                self._bind(name, found[name].nbytes, held)
            addresses = dict(zip(self._outputs, held[len(inputs) :], strict=True))
            if not self._context.execute_async_v3(0):
                raise RuntimeError("TensorRT could not run the engine")
            self._check(self._cuda.cudaDeviceSynchronize())
            back = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
            for name, value in found.items():
                self._copy(value.ctypes.data, addresses[name], value.nbytes, back)
            return found
        finally:
            for address in held:
                self._cuda.cudaFree(address)

    def _bind(self, name: str, size: int, held: list[int]) -> None:
        held.append(self._check(self._cuda.cudaMalloc(max(1, size))))
        self._context.set_tensor_address(name, held[-1])

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._check(self._cuda.cudaMemcpy(target, source, size, kind))

    def _check(self, answer: Any) -> Any:
        if int(answer[0]) != 0:
            raise RuntimeError(f"CUDA: {answer[0]}")
        return answer[1] if len(answer) > 1 else None
