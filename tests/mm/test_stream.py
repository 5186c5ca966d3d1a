"""A real mmdet data set and its loaders, fed from S3: the same pixels in the same order as from the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import convert, write_conversion
from mmtrain import compat
from mmtrain.config.build import build_config
from mmtrain.config.files import DatasetFiles
from mmtrain.datasets.fetch import fetch
from mmtrain.datasets.inspect import judge, look_at_images, with_real_sizes
from mmtrain.datasets.shapes import write_shapes
from mmtrain.datasets.stream import StreamedImages, open_stream
from mmtrain.engine.classify import classify
from mmtrain.recipes import load_recipe
from tests.doubles.s3 import DATASETS, S3Double
from tests.unit.test_config import base_of
from tests.unit.test_plan import plan_of
from trainer_sdk.errors import DatasetError, JobError, NetworkError
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task

compat.apply()
compat.import_quietly("mmdet.datasets")

from mmengine.config import Config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from mmtrain.engine import stream as streaming  # noqa: E402
from mmtrain.engine.fit import runnable  # noqa: E402

IMAGES = 24
NOTHING_RANDOM = dict.fromkeys(("mosaic", "mixup", "fliplr", "scale", "hsv_h", "hsv_s", "hsv_v"), 0.0)
PREFIX = "datasets/shapes"
WORKERS = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted data set: COCO files beside DICE's."""
    folder = write_shapes(tmp_path_factory.mktemp("data") / "shapes", counts={"train": IMAGES, "val": 3})
    ref = DatasetRef(id="shapes", path=str(folder))
    fetched = fetch(ref, Task.DETECTION, Settings.from_env({}), lambda done, total: None)
    looks = look_at_images(fetched, lambda done, total: None)
    conversion, _ = judge(convert(with_real_sizes(fetched.dice, looks), Task.DETECTION), fetched, looks)
    write_conversion(conversion, folder / "coco")
    return folder


@pytest.fixture
def storage(s3: S3Double, data: Path) -> S3Double:
    s3.put_folder(data / "images", DATASETS, f"{PREFIX}/images/")
    return s3


@pytest.fixture(autouse=True)
def _mmdet_scope() -> Iterator[None]:
    """What a Runner sets for its process."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def config_of(data: Path, images: Path | StreamedImages, workers: int) -> Config:
    recipe = load_recipe("rtmdet-tiny")
    plan = plan_of(imgsz=64, batch=4, workers=workers, train_images=IMAGES, **NOTHING_RANDOM)
    plan = plan.model_copy(update={"class_names": ("circle", "square", "triangle")})
    files = DatasetFiles(images=images, train=data / "coco" / "train.json", val=data / "coco" / "val.json", test=None)
    return runnable(build_config(base_of(recipe), recipe, plan, files, data / "work"))


def streamed(folder: Path, cache_bytes: int) -> StreamedImages:
    return StreamedImages(uri=f"s3://{DATASETS}/{PREFIX}", cache_dir=folder / "cache", cache_bytes=cache_bytes)


def loader_from_s3(data: Path, images: StreamedImages, storage: S3Double, workers: int) -> Any:
    """The training loader as the worker has it."""
    streaming.register(open_stream(Settings.from_env(storage.environment()).datasets, images))
    config = config_of(data, images, workers)
    streaming.read_ahead(config)
    return Runner.build_dataloader(config.train_dataloader, seed=7)


def epoch(loader: Any, number: int = 0) -> list[tuple[int, bytes]]:
    """Image ids and pixels, in the order of their arrival."""
    loader.batch_sampler.sampler.set_epoch(number)
    return [
        (sample.img_id, np.asarray(pixels).tobytes())
        for batch in loader
        for sample, pixels in zip(batch["data_samples"], batch["inputs"], strict=True)
    ]


def failure(loader: Any) -> JobError:
    """What the job would say. Without its traceback, which would keep the loader and its processes until some later
    collection of garbage, too late for them to leave in order."""
    with pytest.raises(JobError) as caught:
        epoch(loader)
    error = classify(caught.value.with_traceback(None))
    del caught
    return error


def bytes_on_disk(images: StreamedImages) -> int:
    return sum(path.stat().st_size for part in images.cache_dir.iterdir() if part.is_dir() for path in part.iterdir())


@WORKERS
def test_the_same_pixels_in_the_same_order_as_from_the_disk(
    data: Path, storage: S3Double, tmp_path: Path, workers: int
) -> None:
    from_disk = Runner.build_dataloader(config_of(data, data, workers).train_dataloader, seed=7)
    from_s3 = loader_from_s3(data, streamed(tmp_path, 10**9), storage, workers)
    for number in (0, 1):
        expected = epoch(from_disk, number)
        assert len(expected) == IMAGES
        assert epoch(from_s3, number) == expected


@WORKERS
def test_the_second_epoch_needs_no_bucket(data: Path, storage: S3Double, tmp_path: Path, workers: int) -> None:
    loader = loader_from_s3(data, streamed(tmp_path, 10**9), storage, workers)
    first = epoch(loader)
    storage.reset()
    assert sorted(epoch(loader, 1)) == sorted(first)


@WORKERS
def test_a_data_set_larger_than_the_cache(data: Path, storage: S3Double, tmp_path: Path, workers: int) -> None:
    total_bytes = sum(path.stat().st_size for path in (data / "images").iterdir())
    images = streamed(tmp_path, total_bytes // 2)
    loader = loader_from_s3(data, images, storage, workers)
    expected = epoch(Runner.build_dataloader(config_of(data, data, 0).train_dataloader, seed=7))
    for _ in range(3):
        assert epoch(loader) == expected
        assert total_bytes // 4 < bytes_on_disk(images) <= total_bytes // 2


def test_an_image_is_near_when_its_turn_comes(data: Path, storage: S3Double, tmp_path: Path) -> None:
    images = streamed(tmp_path, 10**9)
    sampler = loader_from_s3(data, images, storage, workers=0).batch_sampler.sampler
    for index in sampler:
        assert streaming.StreamBackend.stream.is_near(sampler.dataset.get_data_info(index)["img_path"])


def test_an_epoch_that_was_broken_off_leaves_the_next_one_whole(data: Path, storage: S3Double, tmp_path: Path) -> None:
    """AspectRatioBatchSampler takes what it was about to yield over to the next epoch, from the disk as well."""
    loaders = (
        Runner.build_dataloader(config_of(data, data, 2).train_dataloader, seed=7),
        loader_from_s3(data, streamed(tmp_path, 10**9), storage, workers=2),
    )
    for loader in loaders:
        for _ in loader:
            break
    from_disk, from_s3 = (epoch(loader, 1) for loader in loaders)
    assert from_s3 == from_disk


def test_evaluation_streams_too(data: Path, storage: S3Double, tmp_path: Path) -> None:
    images = streamed(tmp_path, 10**9)
    loader_from_s3(data, images, storage, workers=0)
    config = config_of(data, images, 0)
    streaming.read_ahead(config)
    loader = Runner.build_dataloader(config.val_dataloader)
    assert isinstance(loader.batch_sampler.sampler, streaming.ReadAheadSampler)
    assert sum(len(batch["inputs"]) for batch in loader) == 3


def test_a_local_path_is_read_as_ever(data: Path, storage: S3Double, tmp_path: Path) -> None:
    """A published config.py serves inference on files."""
    from mmengine import fileio

    loader_from_s3(data, streamed(tmp_path, 0), storage, workers=0)
    path = next((data / "images").iterdir())
    assert fileio.get(str(path)) == path.read_bytes()
    uri = f"s3://{DATASETS}/{PREFIX}/images/{path.name}"
    assert fileio.get(uri) == path.read_bytes()


@pytest.mark.parametrize("ahead", [True, False])
def test_an_image_that_vanished_ends_the_training_by_name(
    data: Path, storage: S3Double, tmp_path: Path, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noticed by the training process, or, without reading ahead, by a loader's."""
    key = storage.keys(DATASETS, PREFIX)[5]
    storage.client.delete_object(Bucket=DATASETS, Key=key)
    if not ahead:
        monkeypatch.setattr(streaming, "ReadAheadSampler", streaming.DefaultSampler)
    loader = loader_from_s3(data, streamed(tmp_path, 10**9), storage, workers=2)
    error = failure(loader)
    assert type(error) is DatasetError
    assert error.message == f"the image s3://{DATASETS}/{key} is gone"


def test_storage_that_refuses_is_a_network_error_that_names_the_image(
    data: Path, storage: S3Double, tmp_path: Path
) -> None:
    loader = loader_from_s3(data, streamed(tmp_path, 10**9), storage, workers=2)
    with storage.checking_keys():
        error = failure(loader)
    assert type(error) is NetworkError
    assert f"s3://{DATASETS}/{PREFIX}/images/" in error.message
    assert "refused" in error.message


def test_the_folder_of_the_cache_may_go_at_any_time_between_jobs(data: Path, storage: S3Double, tmp_path: Path) -> None:
    images = streamed(tmp_path, 10**9)
    first = epoch(loader_from_s3(data, images, storage, workers=0))
    shutil.rmtree(images.cache_dir)
    assert epoch(loader_from_s3(data, images, storage, workers=0)) == first
