"""The runtime that travels with an exported model, without a model: pictures in, boxes and masks out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtrain.config.build import TASKS
from mmtrain.exporters.comparing import overlaps
from mmtrain.exporters.metadata import About, metadata
from mmtrain.exporters.preprocessing import at_size, fixed, preprocessing_of, whole_cells
from mmtrain.exporters.runtime.predict_standalone import (
    Place,
    Predictor,
    pasted,
    resized,
    stretched,
    suppressed,
    warped,
)
from mmtrain.recipes import Recipe, all_recipes, load_recipe
from tests.unit.test_plan import plan_of
from trainer_sdk.errors import ExportError

PLAIN = {"mean": [1.0, 2.0, 3.0], "std": [2.0, 2.0, 2.0], "bgr_to_rgb": True, "pad_size_divisor": 32}


def pre_of(recipe: Recipe, **changes: Any) -> dict[str, Any]:
    pipeline = TASKS[recipe.task].test_pipeline(recipe, plan_of(recipe, imgsz=(320, 256)))
    return preprocessing_of(pipeline, PLAIN) | changes


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: f"{recipe.task.value}-{recipe.name}")
def test_the_pipeline_of_every_recipe_is_understood(recipe: Recipe) -> None:
    pre = pre_of(recipe)
    assert pre["size_wh"] == [320, 256]
    assert (pre["mean"], pre["color_space"]) == ([1.0, 2.0, 3.0], "RGB")
    assert pre["pad_to_size"] == (recipe.letterbox or recipe.task.value == "pose_estimation")
    image = np.full((90, 200, 3), 50, np.uint8)
    place = (warped if pre["resize_mode"] in ("crop", "centred") else resized)(image, pre, None)[1]
    assert place.input_hw == ((256, 320) if pre["pad_to_size"] else (160, 320))


def test_a_step_that_the_runtime_does_not_know_is_refused() -> None:
    steps = [{"type": "Resize", "scale": (64, 64), "keep_ratio": True}, {"type": "Solarize"}]
    with pytest.raises(ExportError, match="knows no Solarize"):
        preprocessing_of(steps, PLAIN)


def test_another_size_reaches_every_step_that_has_one() -> None:
    recipe = load_recipe("rtmdet-tiny")
    pipeline = TASKS[recipe.task].test_pipeline(recipe, plan_of(recipe, imgsz=(320, 320)))
    assert preprocessing_of(at_size(pipeline, (128, 96)), PLAIN)["size_wh"] == [128, 96]


@pytest.mark.parametrize(("kind", "clip_to"), [("dense", "input"), ("semantic", "picture"), ("queries", "picture")])
def test_a_file_of_one_size_is_filled_by_every_picture(kind: str, clip_to: str) -> None:
    pre = preprocessing_of([{"type": "Resize", "scale": (100, 60), "keep_ratio": True}], PLAIN)
    assert whole_cells(pre) == (128, 64)
    pre = fixed(pre, (128, 64), kind)
    for shape in ((40, 200), (200, 40), (10, 10)):
        picture, place = resized(np.full((*shape, 3), 9, np.uint8), pre, None)
        assert picture.shape == (64, 128, 3)
        assert place.input_hw == (64, 128)
        assert (place.picture_hw == (64, 128)) == (clip_to == "input" or shape == (64, 128))


def test_pixels_are_normalised_in_the_order_of_the_channels(tmp_path: Path) -> None:
    pre = fixed(preprocessing_of([{"type": "Resize", "scale": (32, 32), "keep_ratio": True}], PLAIN), (32, 32), "dense")
    package = written(tmp_path, pre, {"kind": "dense"})
    image = np.zeros((16, 32, 3), np.uint8)
    image[:] = (10, 20, 30)  # blue, green, red
    prepared = Predictor(package, session=Silent()).prepare(image)
    np.testing.assert_allclose(prepared.tensor[:, 0, 0], [(30 - 1) / 2, (20 - 2) / 2, (10 - 3) / 2])
    np.testing.assert_allclose(prepared.tensor[:, 31, 31], 0)  # padding: the mean


class Silent:
    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError


def written(folder: Path, pre: dict[str, Any], post: dict[str, Any]) -> Path:
    about = About(model_name="m", task="object_detection", framework="mmdet", class_names=("a", "b"), class_ids=(3, 5))
    document = metadata(
        about, export_format="onnx", model_file="model.onnx", shape=(1, 3, 32, 32), input_name="input",
        picture_input=None, pre=pre, post=post, outputs=[], export_config={}, precision="fp32", opset=17,
    )  # fmt: skip
    (folder / "metadata.json").write_text(json.dumps(document))
    return folder


def test_the_three_readers_of_the_platform_find_what_they_look_for(tmp_path: Path) -> None:
    pre = preprocessing_of([{"type": "Resize", "scale": (32, 32), "keep_ratio": True}], PLAIN)
    document = json.loads((written(tmp_path, pre, {"kind": "dense"}) / "metadata.json").read_text())
    # the SDK's helper
    for key in (
        "framework", "model_name", "export_format", "task_type", "input_shape", "input_dtype", "output_shape",
        "created_at", "class_names", "num_classes", "preprocessing", "postprocessing", "export_config", "export_info",
    ):  # fmt: skip
        assert key in document
    # the backend's own inference engine
    assert document["input_spec"]["shape"] == [1, 3, 32, 32]
    assert document["preprocessing"]["mean"] == [1.0, 2.0, 3.0]
    assert (
        document["model_info"] | {"class_names": ["a", "b"], "task_type": "object_detection"} == document["model_info"]
    )
    # the bundled wrapper
    assert document["input_shape"][2:4] == [32, 32]


def test_dense_outputs_are_chosen_as_mmdetection_does(tmp_path: Path) -> None:
    post = {
        "kind": "dense", "one_label": False, "clip_boxes": True, "score_threshold": 0.05, "iou_threshold": 0.5,
        "max_detections": 3, "candidates_per_level": 2, "min_box_size": -1,
        "levels": [{"stride": 16, "anchors": 1}, {"stride": 32, "anchors": 1}],
    }  # fmt: skip
    predictor = Predictor(written(tmp_path, {"size_wh": [32, 32]}, post), session=Silent())
    boxes = np.array([[[0, 0, 8, 8], [0, 0, 8, 9], [16, 16, 40, 40], [1, 1, 2, 2], [0, 16, 8, 30]]], np.float32)
    scores = np.array([[[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.06, 0.0], [0.5, 0.6]]], np.float32)
    place = Place((2.0, 2.0), (0.0, 0.0), (32, 32), (32, 32), (64, 64))
    found = predictor.finish({"boxes": boxes, "scores": scores}, place)
    # the first level gives its two best, of which the second falls to the first; the second level one of each class
    np.testing.assert_allclose(found["scores"], [0.9, 0.6, 0.5])
    assert found["labels"].tolist() == [0, 1, 0]
    np.testing.assert_allclose(found["boxes"][1], [0, 32, 16, 60])
    with pytest.raises(ValueError, match="should have 5"):
        predictor.finish({"boxes": boxes[:, :4], "scores": scores[:, :4]}, place)


def test_suppression_is_greedy_and_by_class() -> None:
    random = np.random.default_rng(0)
    corner = random.uniform(0, 50, (200, 2))
    boxes = np.concatenate([corner, corner + random.uniform(5, 30, (200, 2))], axis=1).astype(np.float32)
    scores, labels = random.permutation(200).astype(np.float32) / 200, random.integers(0, 3, 200)
    kept: list[int] = []
    for at in np.argsort(-scores):
        rivals = [other for other in kept if labels[other] == labels[at]]
        if not rivals or overlaps(boxes[[at]], boxes[rivals]).max() <= 0.5:
            kept.append(int(at))
    assert suppressed(boxes, scores, labels, 0.5).tolist() == kept


def test_a_mask_is_pasted_into_its_box() -> None:
    whole = pasted(np.ones((28, 28), np.float32), np.array([10.0, 5.0, 30.0, 25.0]), (40, 50)) >= 0.5
    rows, columns = np.nonzero(whole)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 24, 10, 29)


def test_stretching_with_corners_keeps_them() -> None:
    maps = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    grown = stretched(maps, (5, 7), align_corners=True)
    assert grown[0, ::4, ::6].tolist() == maps[0, ::2, ::3].tolist()
    assert grown[0, 2, 3] == pytest.approx(maps.mean())


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_image_is_refused(tmp_path: Path, image: Any) -> None:
    pre = preprocessing_of([{"type": "Resize", "scale": (32, 32), "keep_ratio": True}], PLAIN)
    with pytest.raises(ValueError, match="uint8"):
        Predictor(written(tmp_path, pre, {"kind": "dense"}), session=Silent()).prepare(image)
