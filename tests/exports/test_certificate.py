"""An exporter that is broken on purpose is seen by the certificate; one that is not passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from mmtrain.exporters import export as exporting
from mmtrain.exporters.certificate import Certificate
from mmtrain.exporters.graphs import dense
from mmtrain.exporters.runtime import predict_standalone
from mmtrain.recipes import load_recipe
from tests.exports.sources import small_probes, source_of
from trainer_sdk.config.model_jobs import ExportConfig


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> exporting.Source:
    return source_of(load_recipe("rtmdet-tiny"), tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _probes() -> Iterator[None]:
    with small_probes():
        yield


def exported(source: exporting.Source, folder: Path, **config: Any) -> Certificate:
    return exporting.export(source, ExportConfig(**config), "onnx", folder / "package", measure_speed=False)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"embed_preprocessing": True},
        {"dynamic_axes": {"input": [0]}},
        {"dynamic_axes": {"input": [2, 3]}},
        {"nms": True},
        {"raw_outputs": True},
        {"simplify": False},
    ],
    ids=["plain", "embedded", "any batch", "any size", "nms in the graph", "raw outputs too", "not simplified"],
)
def test_an_export_passes(source: exporting.Source, tmp_path: Path, config: dict[str, Any]) -> None:
    certificate = exported(source, tmp_path, **config)
    assert certificate.failures == []
    assert certificate.probes.objects > 20
    assert ("NonMaxSuppression" in certificate.file.operators) == bool(config.get("nms"))


def test_swapped_mean_and_deviation_fail(
    source: exporting.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = exporting.preprocessing_of

    def swapped(*arguments: Any) -> dict[str, Any]:
        pre = right(*arguments)
        return pre | {"mean": pre["std"], "std": pre["mean"]}

    monkeypatch.setattr(exporting, "preprocessing_of", swapped)
    assert exported(source, tmp_path).verdict == "fail"


def test_swapped_colours_fail(source: exporting.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = exporting.preprocessing_of
    wrong = {"color_space": "RGB"}
    monkeypatch.setattr(exporting, "preprocessing_of", lambda *arguments: right(*arguments) | wrong)
    assert exported(source, tmp_path).verdict == "fail"


def test_another_resize_fails(source: exporting.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nearest(image: Any, size: Any, interpolation: int = 0) -> Any:
        return cv2_resize(image, size, interpolation=cv2.INTER_NEAREST)

    cv2_resize = cv2.resize
    fake = type(
        "Cv2", (), {name: getattr(cv2, name) for name in ("INTER_LINEAR", "dnn")} | {"resize": staticmethod(nearest)}
    )
    monkeypatch.setattr(predict_standalone, "cv2", fake)
    assert exported(source, tmp_path).verdict == "fail"


def test_a_dropped_class_fails(source: exporting.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = dense.Dense.forward

    def without_last(self: Any, images: Any) -> Any:
        boxes, scores = right(self, images)
        if not torch.onnx.is_in_onnx_export():
            return boxes, scores
        return boxes, torch.cat([scores[..., :-1], torch.zeros_like(scores[..., -1:])], dim=-1)

    monkeypatch.setattr(dense.Dense, "forward", without_last)
    certificate = exported(source, tmp_path)
    assert certificate.verdict == "fail"
    assert any("output scores differs" in words for words in certificate.failures)
    assert any("have no partner" in words for words in certificate.failures)
