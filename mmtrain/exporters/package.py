"""The package: the model, what it is, its proof, and a small runtime, in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from mmtrain.exporters.archive import CERTIFICATE, CERTIFICATE_PAGE, METADATA
from mmtrain.exporters.certificate import Certificate, page

RUNTIME = Path(__file__).parent / "runtime"
PYTHON_RUNTIME = {
    "onnx": "numpy\nopencv-python-headless\nonnxruntime\n",
    "openvino": "numpy\nopencv-python-headless\nopenvino\n",
    "torchscript": "numpy\nopencv-python-headless\ntorch\n",
    "tensorrt": "numpy\nopencv-python-headless\ntensorrt\ncuda-python\n",
}
"""Requirements of `predict_standalone.py`."""


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
    (python / "requirements.txt").write_text(PYTHON_RUNTIME[export_format])
    if export_format == "tensorrt":
        shutil.copy2(RUNTIME / "tensorrt_session.py", python / "tensorrt_session.py")
    if export_format == "onnx" and metadata["postprocessing"]["kind"] == "dense":
        shutil.copytree(RUNTIME / "cpp", folder / "runtimes" / "cpp", dirs_exist_ok=True)
        (folder / "runtimes" / "cpp" / "settings.h").write_text(settings(metadata["preprocessing"]))
    shutil.copy2(RUNTIME / "README.md", folder / "README.md")
    (folder / "LICENCES.md").write_text(LICENCES.format(licence=licence or "unknown"))


def settings(pre: Mapping[str, Any]) -> str:
    """``settings.h`` of the C++ example: the model's preprocessing."""

    def row(values: Any) -> str:
        return ", ".join(f"{float(value)!r}f" for value in values)

    return f"""// Written by the exporter: the preprocessing of metadata.json.
#pragma once

namespace settings {{
constexpr int width = {pre["size_wh"][0]}, height = {pre["size_wh"][1]};
constexpr bool rgb = {"true" if pre["color_space"] == "RGB" else "false"};
constexpr float mean[] = {{{row(pre["mean"])}}};
constexpr float deviation[] = {{{row(pre["std"])}}};
constexpr float pad_value[] = {{{row(pre["pad_value"])}}};
}}  // namespace settings
"""


LICENCES = """# Licences

* The weights were trained by the owner of this package. The published weights that the training may have started from:
  {licence}.
* The model's architecture comes from the OpenMMLab projects: Apache-2.0.
* `runtimes/`: Apache-2.0, as the trainer that wrote them.
"""
