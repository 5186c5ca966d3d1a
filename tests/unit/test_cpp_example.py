"""The packaged C++ example compiles, against a stand-in for ONNX Runtime's header, which only its releases have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mmtrain.exporters.package import RUNTIME, settings

STAND_IN = Path(__file__).parent / "onnxruntime_stand_in"
PRE = {
    "size_wh": [640, 480], "color_space": "RGB", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
    "pad_value": [114.0] * 3,
}  # fmt: skip
POST = {
    "kind": "dense", "one_label": False, "clip_boxes": True, "score_threshold": 0.05, "iou_threshold": 0.65,
    "min_box_size": -1.0, "max_detections": 300,
}  # fmt: skip
METADATA = {"preprocessing": PRE, "postprocessing": POST, "output_spec": [{"name": "boxes"}, {"name": "scores"}]}
WEIGHED = METADATA | {"output_spec": [*METADATA["output_spec"], {"name": "factors"}]}


@pytest.mark.parametrize("metadata", [METADATA, WEIGHED], ids=["scores", "weighed scores"])
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_it_compiles(tmp_path: Path, metadata: dict[str, Any]) -> None:
    shutil.copy2(RUNTIME / "cpp" / "predict.cpp", tmp_path)
    (tmp_path / "settings.h").write_text(settings(metadata))
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-isystem", str(STAND_IN)]
    done = subprocess.run(["g++", *strict, "predict.cpp"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
