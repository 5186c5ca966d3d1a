"""Every recipe in every format that it declares: the file's numbers are PyTorch's. Random weights do for that."""

from __future__ import annotations

import gc
from pathlib import Path

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


def ident(recipe: Recipe) -> str:
    return f"{recipe.task.value}-{recipe.name}"


@pytest.mark.parametrize("recipe", [one for one in all_recipes() if "onnx" in one.exports], ids=ident)
def test_onnx(recipe: Recipe, tmp_path: Path, row: Row) -> None:
    prove("onnx", recipe, tmp_path, row)


@pytest.mark.parametrize("recipe", [one for one in all_recipes() if "torchscript" in one.exports], ids=ident)
def test_torchscript(recipe: Recipe, tmp_path: Path, row: Row) -> None:
    prove("torchscript", recipe, tmp_path, row)


@pytest.mark.parametrize("recipe", [one for one in all_recipes() if "openvino" in one.exports], ids=ident)
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
