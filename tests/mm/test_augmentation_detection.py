"""Boxes and masks stay on their objects: a picture of coloured rectangles goes through the built pipeline, and what was
drawn is looked for by its colour in what comes out.
"""

from __future__ import annotations

import colorsys
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from mmtrain import compat
from mmtrain.config.detection import dataset, train_pipeline
from mmtrain.config.files import DatasetFiles
from mmtrain.config.schedule import switch_pipeline, without_strong
from mmtrain.recipes import load_recipe
from tests.unit.test_plan import plan_of

WIDTH, HEIGHT = 120, 90
SIZE = 128
OBJECTS = {0: (30, 20, 50, 40), 1: (60, 45, 90, 60), 2: (35, 50, 50, 70)}
"""Class -> xyxy in pixels; the colour is full in the channel of the same number (blue, green, red)."""
PLAIN: dict[str, Any] = {
    "imgsz": SIZE, "mosaic": 0, "mixup": 0, "fliplr": 0, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0, "scale": 0,
}  # fmt: skip
MODELS = ("rtmdet-tiny", "faster-rcnn-r50", "rtmdet-ins-tiny", "mask-rcnn-r50")
"""Padded to one size, and as large as the picture; without masks, and with."""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "objects.png"
    pixels = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for channel, (left, top, right, bottom) in OBJECTS.items():
        pixels[top:bottom, left:right] = 0
        pixels[top:bottom, left:right, channel] = 255
    cv2.imwrite(str(path), pixels)
    return path


class Drawn:
    """What a pipeline makes of the picture."""

    def __init__(self, path: Path, model: str, objects: dict[int, Any] | None = None, **asked: Any) -> None:
        compat.apply()
        from mmengine.config import Config
        from mmengine.dataset import Compose
        from mmengine.registry import init_default_scope

        compat.import_quietly("mmdet.datasets")
        init_default_scope("mmdet")
        recipe = load_recipe(model)
        plan = plan_of(recipe, **{**PLAIN, **asked})
        self.run = Compose(Config({"steps": train_pipeline(recipe, plan)}).steps)
        self.path, self.objects = path, OBJECTS if objects is None else objects

    def info(self) -> dict[str, Any]:
        instances = [
            {
                "bbox": list(box),
                "bbox_label": label,
                "ignore_flag": 0,
                # pycocotools fills the pixels whose centres lie inside
                "mask": [[box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]],
            }
            for label, box in self.objects.items()
        ]
        return {"img_path": str(self.path), "img_id": 1, "height": HEIGHT, "width": WIDTH, "instances": instances}

    def one(self) -> tuple[NDArray[Any], Any]:
        packed = self.run(self.info())
        return packed["inputs"].permute(1, 2, 0).numpy(), packed["data_samples"].gt_instances

    def many(self, count: int = 12) -> Iterator[tuple[NDArray[Any], Any]]:
        np.random.seed(1)
        for _ in range(count):
            yield self.one()


def coloured(pixels: NDArray[Any], channel: int) -> NDArray[np.bool_]:
    """Where one channel stands out."""
    rest = np.delete(pixels.astype(int), channel, axis=2).max(axis=2)
    return np.asarray(pixels[:, :, channel].astype(int) - rest > 100)


def extent(found: NDArray[np.bool_]) -> NDArray[Any]:
    """xyxy of what is True."""
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def assert_same_within_a_pixel(mask: NDArray[Any], found: NDArray[Any]) -> None:
    """Nearest and linear interpolation differ at the edge, nowhere else."""
    kernel = np.ones((3, 3), np.uint8)
    for one, other in ((mask, found), (found, mask)):
        assert not (cv2.erode(one.astype(np.uint8), kernel) > cv2.dilate(other.astype(np.uint8), kernel)).any()


def assert_truth_lies_on_colours(pixels: NDArray[Any], truth: Any, *, least: int = 40, loose: float = 2.0) -> int:
    """Every object left is where its colour is, every colour left has an object; returns how many objects."""
    labels = truth.labels.numpy().tolist()
    for channel in OBJECTS:
        found = coloured(pixels, channel)
        if found.sum() < least:
            continue
        assert channel in labels
        number = labels.index(channel)
        np.testing.assert_allclose(truth.bboxes.tensor[number].numpy(), extent(found), atol=loose)
        if "masks" in truth:
            assert_same_within_a_pixel(truth.masks.masks[number], found)
    return len(labels)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"fliplr": 1},
        {"flipud": 1},
        {"fliplr": 0.5, "flipud": 0.5},
        {"translate": 0.15},
        {"scale": 0.4},
        {"random_crop": 1},
        {"mosaic": 0.5, "scale": 0.3},  # with a cache not yet filled: one picture at a random place
        {"hsv_h": 0.02, "hsv_s": 0.1, "hsv_v": 0.2},
        {"albumentations": [{"type": "GaussianBlur", "blur_limit": [3, 3], "p": 1.0}]},
        {"translate": 0.1, "scale": 0.3, "fliplr": 0.5, "flipud": 0.5, "random_crop": 0.5},
    ],
    ids=lambda asked: "-".join(asked) or "nothing",
)
def test_truth_stays_on_its_object(picture: Path, model: str, asked: dict[str, Any]) -> None:
    drawn = Drawn(picture, model, **asked)
    left = [assert_truth_lies_on_colours(*sample) for sample in (drawn.many(4 if "mosaic" in asked else 12))]
    assert max(left) == 3


@pytest.mark.parametrize("model", MODELS)
def test_turned_boxes_hold_the_corners_of_what_they_held(picture: Path, model: str) -> None:
    """A rectangle's turned box is that of its turned corners, as long as the picture's edge does not cut it."""
    drawn = Drawn(picture, model, degrees=30)
    angles = set()
    for pixels, truth in drawn.many():
        assert assert_truth_lies_on_colours(pixels, truth) == 3
        angles.add(tuple(truth.bboxes.tensor[0].tolist()))
    assert len(angles) > 6


def test_a_flip_is_a_mirror_to_the_pixel(picture: Path) -> None:
    scale = SIZE / WIDTH
    for asked, mirrored in (
        ({"fliplr": 1}, lambda box: (WIDTH - box[2], box[1], WIDTH - box[0], box[3])),
        ({"flipud": 1}, lambda box: (box[0], HEIGHT - box[3], box[2], HEIGHT - box[1])),
    ):
        _, truth = Drawn(picture, "faster-rcnn-r50", **asked).one()
        expected = np.array([mirrored(box) for box in OBJECTS.values()]) * scale
        np.testing.assert_allclose(truth.bboxes.tensor.numpy(), expected, atol=0.01)


def test_a_shift_is_at_most_the_share_asked_for_and_keeps_the_size(picture: Path) -> None:
    expected = np.array(list(OBJECTS.values()))[:, :2] * SIZE / WIDTH
    drawn = Drawn(picture, "faster-rcnn-r50", translate=0.1)
    shifts = []
    for pixels, truth in drawn.many(30):
        assert abs(pixels.shape[0] - 96) <= 1
        assert abs(pixels.shape[1] - 128) <= 1
        shifts.append((truth.bboxes.tensor.numpy()[:, :2] - expected)[0] / (128, 96))
    assert np.abs(shifts).max() <= 0.1 + 0.01
    assert (np.ptp(shifts, axis=0) > 0.08).all()


def test_sizes_change_by_at_most_the_share_asked_for(picture: Path) -> None:
    first = np.array(OBJECTS[0])
    width = (first[2] - first[0]) * SIZE / WIDTH
    drawn = Drawn(picture, "faster-rcnn-r50", scale=0.4)
    ratios = [
        (truth.bboxes.tensor[0, 2] - truth.bboxes.tensor[0, 0]).item() / width
        for pixels, truth in drawn.many(30)
        if 0 in truth.labels[:1]
    ]
    assert 0.55 < min(ratios) < 0.8 < 1.1 < max(ratios) < 1.45


def test_a_random_crop_shows_at_least_half_of_each_side(picture: Path) -> None:
    widths = []
    for pixels, _ in Drawn(picture, "faster-rcnn-r50", random_crop=1).many():
        height, width = pixels.shape[:2]
        assert max(height, width) == SIZE  # what was cut out is seen larger
        widths.append(width / height)
    assert 0.6 < min(widths) < max(widths) < 2.7
    assert np.ptp(widths) > 0.3


@pytest.mark.parametrize("model", ["rtmdet-tiny", "rtmdet-ins-tiny"])
@pytest.mark.parametrize("imgsz", [128, (160, 96), (96, 160)])
def test_a_mosaic_fills_the_input_size_with_truth_where_the_colours_are(picture: Path, model: str, imgsz: Any) -> None:
    drawn = Drawn(picture, model, mosaic=1, imgsz=imgsz, scale=0.3)
    width, height = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    counts = []
    for pixels, truth in list(drawn.many(30))[6:]:
        assert pixels.shape[:2] == (height, width)
        counts.append(len(truth.labels))
        for channel in OBJECTS:  # several of each colour: boxes together must cover it
            found = coloured(pixels, channel)
            covered = np.zeros_like(found)
            for number in np.flatnonzero(truth.labels.numpy() == channel):
                left, top, right, bottom = truth.bboxes.tensor[number].round().int().tolist()
                covered[top:bottom, left:right] = True
                if "masks" in truth:
                    assert truth.masks.masks.shape[1:] == (height, width)
                    mask = truth.masks.masks[number].astype(bool)
                    assert (mask & found).sum() > 0.7 * mask.sum() or mask.sum() < 40
            assert (found & ~covered).sum() < 0.15 * found.sum() + 40
    assert max(counts) > 3


@pytest.mark.parametrize("model", ["rtmdet-tiny", "rtmdet-ins-tiny"])
def test_a_mix_up_shows_two_pictures_with_the_truth_of_both(picture: Path, model: str) -> None:
    drawn = Drawn(picture, model, mixup=1, flipud=0.5)
    samples = list(drawn.many(12))[2:]
    assert {len(truth.labels) for _, truth in samples} == {6}
    for pixels, truth in samples:
        for box in truth.bboxes.tensor.round().int().tolist():
            inside = pixels[box[1] + 2 : box[3] - 2, box[0] + 2 : box[2] - 2].astype(int)
            assert (inside.max(axis=2) - inside.min(axis=2)).mean() > 60


@pytest.mark.parametrize("model", MODELS)
def test_pictures_without_objects_come_through_everything(picture: Path, model: str) -> None:
    asked = {"degrees": 20, "translate": 0.1, "scale": 0.5, "random_crop": 1, "mosaic": 0.5, "mixup": 0.5, "flipud": 1}
    drawn = Drawn(picture, model, objects={}, hsv_h=0.01, hsv_v=0.1, **asked)
    assert [len(truth.labels) for _, truth in drawn.many(12)] == [0] * 12


@pytest.mark.parametrize("model", ["rtmdet-tiny", "rtmdet-ins-tiny"])
def test_what_leaves_the_picture_is_no_truth_any_more(picture: Path, model: str) -> None:
    drawn = Drawn(picture, model, objects={0: (0, 0, 4, 4), 1: (60, 45, 90, 60)}, degrees=45, translate=0.3)
    for _, truth in drawn.many(20):
        sides = truth.bboxes.tensor[:, 2:] - truth.bboxes.tensor[:, :2]
        assert (sides > 1).all()
        if "masks" in truth:
            assert len(truth.masks) == len(truth.labels)
            assert (truth.masks.areas > 0).all()


def test_albumentations_moves_boxes_with_the_picture(picture: Path) -> None:
    drawn = Drawn(picture, "rtmdet-tiny", albumentations=[{"type": "HorizontalFlip", "p": 1.0}])
    for sample in drawn.many(3):
        assert assert_truth_lies_on_colours(*sample) == 3


class TestColours:
    """hsv_h, hsv_s, hsv_v, each alone, on one colour and one grey."""

    COLOUR, GREY = (60, 90, 160), (100, 100, 100)

    @pytest.fixture
    def patches(self, tmp_path: Path) -> Path:
        pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        pixels[:, : WIDTH // 2], pixels[:, WIDTH // 2 :] = self.COLOUR, self.GREY
        cv2.imwrite(str(tmp_path / "patches.png"), pixels)
        return tmp_path / "patches.png"

    def seen(self, path: Path, **asked: Any) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        samples = Drawn(path, "faster-rcnn-r50", objects={}, **asked).many(40)
        return [(pixels[20, 20].astype(int), pixels[20, 110].astype(int)) for pixels, _ in samples]

    def test_hue_turns_both_ways_and_nothing_else_changes(self, patches: Path) -> None:
        before = colorsys.rgb_to_hsv(*(value / 255 for value in self.COLOUR[::-1]))
        turns = []
        for colour, grey in self.seen(patches, hsv_h=0.1):
            hue, saturation, value = colorsys.rgb_to_hsv(*(colour[::-1] / 255))
            assert (saturation, value) == pytest.approx(before[1:], abs=0.02)
            assert grey.tolist() == list(self.GREY)
            turns.append((hue - before[0] + 0.5) % 1 - 0.5)
        assert -0.11 < min(turns) < -0.05 < 0.05 < max(turns) < 0.11

    def test_saturation_leaves_grey_and_hue_alone(self, patches: Path) -> None:
        chroma = max(self.COLOUR) - min(self.COLOUR)
        factors = []
        for colour, grey in self.seen(patches, hsv_s=0.5):
            assert grey.tolist() == list(self.GREY)
            assert list(np.argsort(colour)) == [0, 1, 2]
            factors.append(np.ptp(colour) / chroma)
        assert 0.45 < min(factors) < 0.75 < 1.25 < max(factors) < 1.55

    def test_brightness_is_one_factor_for_all(self, patches: Path) -> None:
        factors = []
        for colour, grey in self.seen(patches, hsv_v=0.4):
            factor = grey[0] / self.GREY[0]
            np.testing.assert_allclose(colour, np.array(self.COLOUR) * factor, atol=2)
            factors.append(factor)
        assert 0.55 < min(factors) < 0.8 < 1.2 < max(factors) < 1.45

    def test_one_seed_gives_one_picture(self, patches: Path) -> None:
        """albumentations would draw from a generator of its own; see mmtrain/compat.py."""
        first, second = (np.array(self.seen(patches, hsv_h=0.1, hsv_s=0.5, hsv_v=0.4)) for _ in range(2))
        assert (first == second).all()
        assert len(np.unique(first[:, 0], axis=0)) > 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures with one object each, blue on the left and red on the right, and one without."""
    folder = tmp_path_factory.mktemp("pasted")
    images, annotations = [], []
    for number, (channel, box) in enumerate(((0, (10, 20, 50, 60)), (2, (60, 30, 110, 80)), (None, None))):
        pixels = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        images.append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
        if channel is not None and box is not None:
            left, top, right, bottom = box
            pixels[top:bottom, left:right] = 0
            pixels[top:bottom, left:right, channel] = 255
            annotations.append(
                {
                    "id": number + 1, "image_id": number, "category_id": channel, "iscrowd": 0,
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                    "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                }
            )  # fmt: skip
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    categories = [{"id": number, "name": name} for number, name in enumerate("abc")]
    (folder / "train.json").write_bytes(
        orjson.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder


class TestCopyPaste:
    """Built as a training builds it: the data set, its wrappers and the loader's order of calls."""

    @pytest.mark.parametrize("model", ["rtmdet-ins-tiny", "mask-rcnn-r50"])
    @pytest.mark.parametrize("asked", [{}, {"translate": 0.1, "scale": 0.2, "flipud": 0.5, "hsv_v": 0.1}], ids=len)
    def test_what_is_pasted_has_its_mask(self, folder: Path, model: str, asked: dict[str, Any]) -> None:
        compat.apply()
        from mmengine.config import Config
        from mmengine.registry import DATASETS, init_default_scope

        compat.import_quietly("mmdet.datasets")
        init_default_scope("mmdet")
        recipe = load_recipe(model)
        plan = plan_of(recipe, **{**PLAIN, **asked}, copy_paste=1).model_copy(update={"class_names": ("a", "b", "c")})
        files = DatasetFiles(images=folder, train=folder / "train.json", val=folder / "train.json", test=None)
        built = DATASETS.build(Config(dataset(plan, files, "train", train_pipeline(recipe, plan))))
        assert len(built) == 3
        np.random.seed(1)
        random.seed(1)  # which picture, 3 for the one after the last
        counts = set()
        for turn in range(60):
            packed = built[turn % 3]
            pixels, truth = packed["inputs"].permute(1, 2, 0).numpy(), packed["data_samples"].gt_instances
            assert pixels.shape == (SIZE, SIZE, 3)
            labels = truth.labels.tolist()
            counts.add(len(labels))
            assert len(truth.bboxes) == len(truth.masks) == len(labels)
            for channel in (0, 2):
                mask = np.zeros(pixels.shape[:2], np.uint8)
                for number in np.flatnonzero(truth.labels.numpy() == channel):
                    mask |= truth.masks.masks[number].astype(np.uint8)
                    np.testing.assert_allclose(
                        truth.bboxes.tensor[number].numpy(), extent(truth.masks.masks[number] > 0), atol=2
                    )
                assert_same_within_a_pixel(mask, coloured(pixels, channel))
        assert counts >= {0, 1, 2}


@pytest.mark.parametrize("model", ["rtmdet-tiny", "rtmdet-ins-tiny"])
def test_the_last_epochs_see_one_picture_at_a_time_in_living_loader_processes_too(folder: Path, model: str) -> None:
    compat.apply()
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    compat.import_quietly("mmdet.datasets")
    init_default_scope("mmdet")
    from mmdet.engine.hooks import PipelineSwitchHook

    recipe = load_recipe(model)
    plan = plan_of(recipe, **{**PLAIN, "mosaic": 1, "scale": 0.3, "epochs": 12, "weak_epochs": 4})
    plan = plan.model_copy(update={"class_names": ("a", "b", "c")})
    files = DatasetFiles(images=folder, train=folder / "train.json", val=folder / "train.json", test=None)
    loader_config = {
        "batch_size": 1, "num_workers": 1, "persistent_workers": True,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": dataset(plan, files, "train", train_pipeline(recipe, plan)),
    }  # fmt: skip
    loader = Runner.build_dataloader(Config(loader_config), seed=1)
    (wanted,) = switch_pipeline(plan, train_pipeline(recipe, without_strong(plan)))
    kind = wanted.pop("type")
    assert kind == "mmdet.PipelineSwitchHook"
    hook = PipelineSwitchHook(**Config(wanted))
    logger = SimpleNamespace(info=lambda text: None)
    most = []
    for epoch in range(12):
        hook.before_train_epoch(SimpleNamespace(epoch=epoch, train_dataloader=loader, logger=logger))
        most.append(max(len(sample.gt_instances) for batch in loader for sample in batch["data_samples"]))
    assert max(most[2:8]) > 1  # a mosaic needs a few pictures in its cache
    assert max(most[8:]) == 1
