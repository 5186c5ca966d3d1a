"""An exporter that is broken on purpose is seen by the certificate; one that is not passes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from mmtrain.exporters import export as exporting
from mmtrain.exporters import verify
from mmtrain.exporters.certificate import Certificate
from mmtrain.exporters.graphs import dense
from mmtrain.exporters.runtime import predict_standalone
from mmtrain.exporters.validating import Images
from mmtrain.recipes import load_recipe
from tests.exports.sources import small_probes, source_of
from trainer_sdk.config.model_jobs import ExportConfig
from trainer_sdk.errors import ConfigError

pytestmark = pytest.mark.short


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
        {"nms": True, "iou": 0.3, "conf": 0.05, "max_det": 30},
        {"raw_outputs": True},
        {"simplify": False},
        {"input_shape": [2, 3, 64, 96]},
    ],
    ids=[
        "plain", "embedded", "any batch", "any size", "nms in the graph", "nms by other rules", "raw outputs too",
        "not simplified", "two images of another size",
    ],
)  # fmt: skip
def test_an_export_passes(source: exporting.Source, tmp_path: Path, config: dict[str, Any]) -> None:
    certificate = exported(source, tmp_path, **config)
    assert certificate.failures == []
    assert certificate.probes.objects > 20
    assert ("NonMaxSuppression" in certificate.file.operators) == bool(config.get("nms"))


@pytest.mark.parametrize(
    ("export_format", "config", "operator"),
    [("onnx", {"int8": True}, "QuantizeLinear"), ("openvino", {"fp16": True}, "Convolution"), ("torchscript", {}, "")],
    ids=["int8", "16-bit weights", "TorchScript"],
)
def test_other_numbers_and_formats_are_measured_on_images(
    source: exporting.Source, tmp_path: Path, export_format: str, config: dict[str, Any], operator: str
) -> None:
    images = validation_images(tmp_path / "data", source.about.class_names)
    asked = ExportConfig(max_drop=100.0, **config)
    certificate = exporting.export(
        source, asked, export_format, tmp_path / "package", images=images, measure_speed=False
    )
    assert certificate.failures == []
    assert certificate.validation is not None
    assert certificate.validation.images == 3
    assert not operator or certificate.file.operators[operator] > 10


def validation_images(folder: Path, class_names: Sequence[str]) -> Images:
    """The probes, with one object of each class in them."""
    folder.mkdir()
    images, objects = [], []
    for number, pixels in enumerate([*verify.probe_images(), verify.probe_images()[0][::-1]]):
        height, width = pixels.shape[:2]
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        for label in range(len(class_names)):
            objects.append({
                "id": len(objects) + 1, "image_id": number, "category_id": label, "bbox": [8 * label, 8, 40, 30],
                "area": 1200, "iscrowd": 0,
            })  # fmt: skip
    categories = [{"id": label, "name": name} for label, name in enumerate(class_names)]
    document = {"images": images, "annotations": objects, "categories": categories}
    (folder / "val.json").write_text(json.dumps(document))
    return Images(root=folder, annotations=folder / "val.json")


def test_another_letterbox_than_the_trained_one(tmp_path: Path) -> None:
    """Trained on squares, exported for lying pictures: MMCV's own resize would leave such a letterbox."""
    square = source_of(load_recipe("rtmdet-tiny"), tmp_path / "square", (96, 96))
    certificate = exported(square, tmp_path, input_shape=[1, 3, 64, 128])
    assert certificate.failures == []
    assert certificate.probes.pairs > 20


def test_a_size_that_the_model_cannot_see_is_refused(source: exporting.Source, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiples of 32") as caught:
        exported(source, tmp_path, input_shape=[1, 3, 100, 128])
    assert "[1, 3, 128, 128] is the next" in caught.value.hint


def test_int8_without_images_is_refused(source: exporting.Source, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int8 needs images"):
        exported(source, tmp_path, int8=True)


def test_swapped_mean_and_deviation_fail(
    source: exporting.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = exporting.preprocessing_of

    def swapped(*arguments: Any) -> dict[str, Any]:
        pre = right(*arguments)
        return pre | {"mean": pre["std"], "std": pre["mean"]}

    monkeypatch.setattr(exporting, "preprocessing_of", swapped)
    assert_seen_in_the_probes(exported(source, tmp_path))


def test_swapped_colours_fail(source: exporting.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = exporting.preprocessing_of
    wrong = {"color_space": "RGB"}
    monkeypatch.setattr(exporting, "preprocessing_of", lambda *arguments: right(*arguments) | wrong)
    assert_seen_in_the_probes(exported(source, tmp_path))


def test_another_resize_fails(source: exporting.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nearest:
        """OpenCV, but for one thing."""

        def __getattr__(self, name: str) -> Any:
            return getattr(cv2, name)

        def resize(self, image: Any, size: Any, interpolation: int) -> Any:
            return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)

    monkeypatch.setattr(predict_standalone, "cv2", Nearest())
    assert_seen_in_the_probes(exported(source, tmp_path))


def assert_seen_in_the_probes(certificate: Certificate) -> None:
    """The file is right, what is done before it is not: its outputs for the same input cannot show that."""
    assert certificate.verdict == "fail"
    assert any("of the probes differ" in words or "have no partner" in words for words in certificate.failures)
    assert not any(words.startswith("output") for words in certificate.failures)


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
