"""The package: the model, what it is, its proof, and a small runtime, in one folder."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from mmtrain.exporters.archive import CERTIFICATE, CERTIFICATE_PAGE, METADATA
from mmtrain.exporters.certificate import Certificate, page

RUNTIME = Path(__file__).parent / "runtime"
PYTHON_RUNTIME = {
    "onnx": ("numpy", "opencv-python-headless", "onnxruntime"),
    "openvino": ("numpy", "opencv-python-headless", "openvino"),
    "torchscript": ("numpy", "opencv-python-headless", "torch"),
    "tensorrt": ("numpy", "opencv-python-headless", "tensorrt", "cuda-python"),
}
"""What `predict_standalone.py` needs."""


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Before the certificate: the model is loaded back by it."""
    (folder / METADATA).write_bytes(orjson.dumps(metadata, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


def write_certificate(folder: Path, certificate: Certificate) -> None:
    """``certificate.json`` and the page of the same."""
    (folder / CERTIFICATE).write_bytes(orjson.dumps(certificate.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
    (folder / CERTIFICATE_PAGE).write_text(page(certificate))


def add_runtime(folder: Path, metadata: Mapping[str, Any], licence: str) -> None:
    """The files with which the model runs without us, and what may be done with it."""
    export_format = metadata["export_format"]
    python = folder / "runtimes" / "python"
    python.mkdir(parents=True, exist_ok=True)
    shutil.copy2(RUNTIME / "predict_standalone.py", python / "predict_standalone.py")
    (python / "requirements.txt").write_text(requirements(PYTHON_RUNTIME[export_format]))
    if export_format == "tensorrt":
        shutil.copy2(RUNTIME / "tensorrt_session.py", python / "tensorrt_session.py")
    if has_cpp_example(metadata):
        shutil.copytree(RUNTIME / "cpp", folder / "runtimes" / "cpp", dirs_exist_ok=True)
        (folder / "runtimes" / "cpp" / "settings.h").write_text(settings(metadata))
    shutil.copy2(RUNTIME / "README.md", folder / "README.md")
    (folder / "LICENCES.md").write_text(LICENCES.format(licence=licence or "unknown"))


def requirements(packages: Sequence[str]) -> str:
    """By name, and as a remark the versions here, with which the certificate was made."""
    here = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return "\n".join([f"# proven with {here}", *packages]) + "\n"


def has_cpp_example(metadata: Mapping[str, Any]) -> bool:
    """ONNX files of one size that give every position."""
    one_size = all(isinstance(side, int) for side in metadata["input_spec"]["shape"][2:])
    return metadata["export_format"] == "onnx" and metadata["postprocessing"]["kind"] == "dense" and one_size


def settings(metadata: Mapping[str, Any]) -> str:
    """``settings.h`` of the C++ example: the model's pre- and post-processing."""
    pre, post = metadata["preprocessing"], metadata["postprocessing"]
    weighed = any(output["name"] == "factors" for output in metadata["output_spec"]) and not post["one_label"]

    def row(values: Any) -> str:
        return ", ".join(f"{float(value)!r}f" for value in values)

    def word(value: Any) -> str:
        return "true" if value else "false"

    return f"""// Written by the exporter: what metadata.json says.
#pragma once

#include <cstddef>

namespace settings {{
constexpr int width = {pre["size_wh"][0]}, height = {pre["size_wh"][1]};
constexpr bool rgb = {word(pre["color_space"] == "RGB")};
constexpr float mean[] = {{{row(pre["mean"])}}};
constexpr float deviation[] = {{{row(pre["std"])}}};
constexpr float pad_value[] = {{{row(pre["pad_value"])}}};
constexpr bool weighed = {word(weighed)};  // scores of positions are multiplied by the output `factors`
constexpr bool one_label = {word(post["one_label"])};  // a position is of its surest class alone
constexpr bool clipped = {word(post["clip_boxes"])};  // boxes end at the edge of the input
constexpr float candidate_score = {float(post["score_threshold"])!r}f, iou = {float(post["iou_threshold"])!r}f;
constexpr float least_side = {float(post["min_box_size"])!r}f;  // of boxes in the image; below 0: any
constexpr std::size_t most_objects = {int(post["max_detections"])};
}}  // namespace settings
"""


LICENCES = """# Licences

* The weights were trained by the owner of this package. The published weights that the training may have started from:
  {licence}.
* The model's architecture comes from the OpenMMLab projects: Apache-2.0.
* `runtimes/`: Apache-2.0, as the trainer that wrote them.
"""
