"""Parses and builds ONNX files with tensorrt-rtx, which needs no GPU for that: proves the graphs, not the numbers.

In an environment of its own: python -m venv rtx && rtx/bin/pip install tensorrt-rtx==1.7.1.116
rtx/bin/python scripts/tensorrt_rtx.py model.onnx ...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tensorrt_rtx as trt  # type: ignore[import-not-found]


def build(path: Path) -> str:
    """What became of a file: ``built, N MB`` or the first reason why not."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        return f"not parsed: {parser.get_error(0).desc()}"
    config: Any = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    return "parsed, not built" if engine is None else f"built, {engine.nbytes / 1e6:.1f} MB"


def main() -> None:
    for name in sys.argv[1:]:
        print(f"{name}: {build(Path(name))}", flush=True)


if __name__ == "__main__":
    main()
