"""Every recipe in every format that it declares: the file's numbers are PyTorch's. Random weights do for that."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from mmtrain.exporters.export import export
from mmtrain.recipes import Recipe, all_recipes
from tests.exports.sources import SMALL, small_probes, source_of
from tests.exports.table import Row
from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.tasks import Task

ALONE = 0.05
"""Share of objects without a partner that chance may leave: untrained models see hundreds of boxes with like scores."""
SIZES = {"dino-4scale-r50": (256, 192)}
"""Of models that need more positions than a small input has."""


SHORT = {"rtmdet-tiny", "rtmdet-ins-tiny", "faster-rcnn-r50", "bisenetv2", "rtmpose-t", "rtmo-s"}
"""One of each kind of graph: `make exports-short`."""


def exported_to(export_format: str, short: set[str]) -> list[Any]:
    """Recipes as parameters."""
    return [
        pytest.param(recipe, id=ident(recipe), marks=[pytest.mark.short] if recipe.name in short else [])
        for recipe in all_recipes()
        if export_format in recipe.exports
    ]


def ident(recipe: Recipe) -> str:
    return f"{recipe.task.value}-{recipe.name}"


@pytest.mark.parametrize("recipe", exported_to("onnx", SHORT))
def test_onnx(recipe: Recipe, tmp_path: Path, row: Row) -> None:
    prove("onnx", recipe, tmp_path, row)


@pytest.mark.parametrize("recipe", exported_to("torchscript", {"rtmdet-tiny"}))
def test_torchscript(recipe: Recipe, tmp_path: Path, row: Row) -> None:
    prove("torchscript", recipe, tmp_path, row)


@pytest.mark.parametrize("recipe", exported_to("openvino", {"rtmdet-tiny"}))
def test_openvino(recipe: Recipe, tmp_path: Path, row: Row) -> None:
    prove("openvino", recipe, tmp_path, row)


def prove(export_format: str, recipe: Recipe, folder: Path, row: Row) -> None:
    source = source_of(recipe, folder, SIZES.get(recipe.name, SMALL))
    with small_probes():
        certificate = export(source, ExportConfig(), export_format, folder / "package", measure_speed=False)
    row(ident(recipe), certificate)
    del source
    gc.collect()
    failures = [words for words in certificate.failures if "have no partner" not in words]
    assert failures == []
    assert certificate.probes.unmatched_share <= ALONE
    assert certificate.probes.pairs > 0 or certificate.task == Task.SEMANTIC.value
