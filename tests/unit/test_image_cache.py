"""The local cache of streamed images: bounded, shared, and keeping what it has."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from mmtrain.datasets import image_cache
from mmtrain.datasets.image_cache import ImageCache
from mmtrain.datasets.stream import ImageStream, StreamedImages, cache_capacity_bytes, open_stream
from trainer_sdk.errors import DatasetError, NetworkError
from trainer_sdk.settings import Settings, StorageSettings

SIZE = 100


def image(number: int) -> bytes:
    return bytes([number % 256]) * SIZE


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for part in ("kept", "passing") for path in (folder / part).iterdir())


def bucket(folder: Path, count: int = 10) -> StorageSettings:
    """A folder that plays the data set bucket, with images 0.png, 1.png, ..."""
    images = folder / "storage" / "training-datasets" / "datasets" / "d" / "images"
    images.mkdir(parents=True)
    for number in range(count):
        (images / f"{number}.png").write_bytes(image(number))
    return Settings.from_env({"EXTERNAL_STORAGE_ENDPOINT": f"file://{folder}/storage"}).datasets


def streamed(folder: Path, cache_bytes: int) -> StreamedImages:
    return StreamedImages(uri="s3://training-datasets/datasets/d", cache_dir=folder / "cache", cache_bytes=cache_bytes)


def test_what_was_kept_stays_and_comes_back(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 10 * SIZE)
    assert cache.keep("a", image(1))
    assert cache.take("a") == cache.take("a") == image(1)
    assert cache.has("a")
    assert (cache.take("b"), cache.has("b")) == (None, False)


def test_a_full_cache_takes_no_more_and_loses_nothing(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 8 * SIZE)  # a quarter of it is for what passes through
    assert [cache.keep(str(number), image(number)) for number in range(8)] == [True] * 6 + [False] * 2
    assert [cache.take(str(number)) for number in range(6)] == [image(number) for number in range(6)]


def test_what_passes_through_is_read_once(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 8 * SIZE)
    cache.pass_on("a", image(1))
    assert cache.has("a")
    assert [cache.take("a"), cache.take("a")] == [image(1), None]


def test_what_waits_for_its_reader_is_not_thrown_out_for_what_comes_later(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 8 * SIZE)
    assert [cache.pass_on(str(number), image(number)) for number in range(4)] == [True, True, False, False]
    assert cache.take("0") == image(0)
    assert cache.pass_on("4", image(4))


def test_images_whose_reader_never_came_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ImageCache(tmp_path, 8 * SIZE)
    for number in range(2):
        cache.pass_on(str(number), image(number))
    monkeypatch.setattr(image_cache, "FORGOTTEN_S", -1.0)
    assert cache.pass_on("2", image(2))
    assert [cache.has(str(number)) for number in range(3)] == [False, False, True]


def test_an_image_that_is_larger_than_the_cache_is_not_stored(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, SIZE // 2)
    assert not cache.keep("a", image(1))
    cache.pass_on("a", image(1))
    assert bytes_on_disk(tmp_path) == 0


def test_a_disk_without_room_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "LEAVE_FREE_BYTES", 2**60)
    cache = ImageCache(tmp_path, 8 * SIZE)
    assert not cache.keep("a", image(1))
    cache.pass_on("a", image(1))
    assert bytes_on_disk(tmp_path) == 0


def fill(folder: Path, first: int) -> None:
    cache = ImageCache(folder, 80 * SIZE)
    for number in range(first, first + 40):
        cache.keep(str(number), image(number))


def test_processes_together_keep_to_the_bound(tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=fill, args=(tmp_path, first)) for first in (0, 20, 60)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert bytes_on_disk(tmp_path) == 60 * SIZE  # three quarters of it, full: what two of them had counts once
    assert len(list((tmp_path / "kept").iterdir())) == 60


def test_a_second_read_needs_no_bucket(tmp_path: Path) -> None:
    images = streamed(tmp_path, 100 * SIZE)
    stream = open_stream(bucket(tmp_path), images)
    uri = images.uri_of("images/3.png")
    assert stream.read(uri) == image(3)
    (tmp_path / "storage/training-datasets/datasets/d/images/3.png").unlink()
    assert stream.read(uri) == image(3)


@pytest.mark.parametrize("cache_bytes", [0, 4 * SIZE, 1000 * SIZE])
def test_every_image_comes_whole_whatever_the_size_of_the_cache(tmp_path: Path, cache_bytes: int) -> None:
    images = streamed(tmp_path, cache_bytes)
    stream = open_stream(bucket(tmp_path), images)
    for number in [*range(10), *range(10)]:
        uri = images.uri_of(f"images/{number}.png")
        if number % 2:
            stream.read_ahead(uri)
        assert stream.read(uri) == image(number)
        assert bytes_on_disk(tmp_path / "cache") <= cache_bytes


def test_an_image_outside_of_the_data_sets_prefix(tmp_path: Path) -> None:
    images = streamed(tmp_path, 0)
    settings = bucket(tmp_path)
    other = tmp_path / "storage/training-datasets/shared/x.png"
    other.parent.mkdir()
    other.write_bytes(image(9))
    assert open_stream(settings, images).read(images.uri_of(".elsewhere/shared/x.png")) == image(9)


def test_a_missing_image_is_the_data_sets_fault_and_named(tmp_path: Path) -> None:
    images = streamed(tmp_path, 0)
    for verb in (ImageStream.read, ImageStream.read_ahead):
        with pytest.raises(DatasetError, match=r"s3://training-datasets/datasets/d/images/no\.png is gone"):
            verb(open_stream(bucket(tmp_path / verb.__name__), images), images.uri_of("images/no.png"))


def test_a_storage_that_is_not_there_is_the_networks_fault_and_the_image_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmtrain.datasets.stream.PATIENCE_S", 0)
    settings = Settings.from_env({"EXTERNAL_STORAGE_ENDPOINT": "http://127.0.0.1:9"}).datasets
    images = streamed(tmp_path, 0)
    with pytest.raises(NetworkError, match=r"images/1\.png"):
        open_stream(settings, images).read(images.uri_of("images/1.png"))


@pytest.mark.parametrize(
    ("asked_gb", "free_bytes", "expected"),
    [(None, 10**12, 50 * 10**9), (None, 10**10, 5 * 10**9), (2.5, 10**12, 2_500_000_000), (0, 10**12, 0)],
)
def test_the_size_of_the_cache(asked_gb: float | None, free_bytes: int, expected: int) -> None:
    assert cache_capacity_bytes(asked_gb, free_bytes) == expected
