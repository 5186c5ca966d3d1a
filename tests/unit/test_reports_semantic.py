"""Pixels counted by hand, and against a loop over them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmtrain.reports.semantic import evaluate_semantic

Picture = list[list[int]]


def save(folder: Path, name: str, pictures: list[Picture]) -> dict[int, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {i: folder / f"{name}{i:06}.png" for i in range(len(pictures))}
    for i, picture in enumerate(pictures):
        indexed = Image.fromarray(np.array(picture, dtype=np.uint8)).convert("P")
        indexed.save(paths[i])
    return paths


def test_counts_and_rates_are_those_on_paper(tmp_path: Path) -> None:
    truth = save(tmp_path, "t", [[[0, 0, 1], [0, 255, 1]], [[1, 1, 1], [1, 1, 1]]])
    found = save(tmp_path, "f", [[[0, 1, 1], [0, 2, 1]], [[1, 1, 1], [1, 1, 0]]])
    result = evaluate_semantic(truth, found, ["sky", "sea", "never"], file_names={0: "a.jpg"})
    assert result.confusion_matrix == [[2, 1, 0], [1, 7, 0], [0, 0, 0]]
    sky, sea = 2 / 4, 7 / 9
    assert result.per_class["sky"]["iou"] == pytest.approx(sky)
    assert result.per_class["sea"] == {
        "iou": pytest.approx(sea), "acc": 7 / 8, "dice": 14 / 16, "precision": 7 / 8, "recall": 7 / 8,
        "support": 8, "predictions": 8,
    }  # fmt: skip
    assert result.metrics["mIoU"] == pytest.approx((sky + sea) / 2)
    assert result.metrics["mAcc"] == pytest.approx((2 / 3 + 7 / 8) / 2)
    assert result.metrics["mDice"] == pytest.approx((4 / 6 + 14 / 16) / 2)
    assert result.metrics["aAcc"] == pytest.approx(9 / 11)
    assert result.pixels == 11
    assert {value for key, value in result.per_class["never"].items() if key not in ("support", "predictions")} == {
        None
    }


def test_the_worst_and_the_best_image_are_named(tmp_path: Path) -> None:
    truth = save(tmp_path, "t", [[[0, 0]], [[0, 1]], [[1, 1]], [[255, 255]]])
    found = save(tmp_path, "f", [[[0, 0]], [[0, 0]], [[0, 0]], [[0, 0]]])
    ranking = evaluate_semantic(truth, found, ["a", "b"], file_names={2: "two.jpg"}).ranking
    assert ranking is not None
    assert [(image.file_name, image.score) for image in ranking.worst] == [("two.jpg", 0.0), ("t000001.png", 0.25)]
    assert [(image.image_id, image.score) for image in ranking.best] == [(0, 1.0)]
    assert ranking.worst[1].reason == "mIoU 0.250, 50.0% of the pixels wrong"


def test_a_class_only_predicted_is_zero_and_not_none(tmp_path: Path) -> None:
    result = evaluate_semantic(save(tmp_path, "t", [[[0, 0]]]), save(tmp_path, "f", [[[0, 1]]]), ["a", "b"])
    assert result.per_class["b"] == {
        "iou": 0.0, "acc": None, "dice": 0.0, "precision": 0.0, "recall": None, "support": 0, "predictions": 1,
    }  # fmt: skip


@pytest.mark.parametrize("pictures", [[], [[[255, 255]]]])
def test_nothing_to_measure_is_none_and_json(tmp_path: Path, pictures: list[Picture]) -> None:
    result = evaluate_semantic(save(tmp_path, "t", pictures), save(tmp_path, "f", pictures), ["a"])
    assert set(result.metrics.values()) == {None}
    json.dumps(result.model_dump(), allow_nan=False)


def test_what_does_not_fit_is_said_by_name(tmp_path: Path) -> None:
    truth = save(tmp_path, "t", [[[0, 0]], [[0, 0]]])
    with pytest.raises(ValueError, match=r"no predicted mask of image 1 \(1 of 2"):
        evaluate_semantic(truth, save(tmp_path, "f", [[[0, 0]]]), ["a"])
    with pytest.raises(ValueError, match=r"g000000.png: 1x2 pixels, but its truth has 2x1"):
        evaluate_semantic(truth, save(tmp_path, "g", [[[0], [0]], [[0, 0]]]), ["a"])
    with pytest.raises(ValueError, match=r"h000000.png: holds 3, but classes are 0..0"):
        evaluate_semantic(truth, save(tmp_path, "h", [[[0, 3]], [[0, 0]]]), ["a"])


CLASSES = 4
PIXELS = st.lists(
    st.tuples(st.sampled_from([*range(CLASSES), 255]), st.integers(0, CLASSES - 1)), min_size=1, max_size=40
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=st.lists(PIXELS, min_size=1, max_size=3))
def test_the_numbers_are_those_of_a_loop_over_the_pixels(
    tmp_path_factory: pytest.TempPathFactory, images: list[list[tuple[int, int]]]
) -> None:
    folder = tmp_path_factory.mktemp("masks")
    truth = save(folder, "t", [[[t for t, _ in image]] for image in images])
    found = save(folder, "f", [[[f for _, f in image]] for image in images])
    result = evaluate_semantic(truth, found, [str(k) for k in range(CLASSES)])
    pixels = [(t, f) for image in images for t, f in image if t != 255]
    ious = []
    for k in range(CLASSES):
        both = sum(t == k and f == k for t, f in pixels)
        either = sum(t == k or f == k for t, f in pixels)
        expected = both / either if either else None
        assert result.per_class[str(k)]["iou"] == pytest.approx(expected)
        ious += [expected] if expected is not None else []
        assert result.confusion_matrix[k] == [sum((t, f) == (k, other) for t, f in pixels) for other in range(CLASSES)]
    assert result.metrics["mIoU"] == (pytest.approx(sum(ious) / len(ious)) if ious else None)
    assert result.metrics["aAcc"] == (pytest.approx(sum(t == f for t, f in pixels) / len(pixels)) if pixels else None)
