"""A data set on its way into the cache: complete, once, checked, and nothing but what is used."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from mmtrain.datasets import cache, documents, fetch
from mmtrain.datasets.fetch import FetchedDataset
from tests.doubles.proxy import FaultyProxy
from tests.doubles.s3 import DATASETS, S3Double
from trainer_sdk.errors import DatasetError, NetworkError, ResourceError
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings, settings_problems
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.tasks import Task

PREFIX = "datasets/d/"
REF = DatasetRef(id="d", prefix=PREFIX)
Fetch = Callable[..., FetchedDataset]


def quiet(done: int, total: int) -> None:
    assert done <= total


def body_of(name: str, size: int = 500) -> bytes:
    return (name.encode() * size)[:size]


def annotations(names: list[str], **more: Any) -> bytes:
    images = [
        {"id": number, "file_name": name, "width": 8, "height": 8, "annotations": []}
        for number, name in enumerate(names)
    ]
    return orjson.dumps({"classes": [{"id": 0, "name": "thing"}], "images": images, **more})


def put(s3: S3Double, names: list[str], dataset: str = "d", size: int = 500) -> None:
    s3.put(DATASETS, f"datasets/{dataset}/annotations_detection.json", annotations(names))
    for name in names:
        s3.put(DATASETS, f"datasets/{dataset}/images/{name}", body_of(name, size))


@pytest.fixture
def proxy(s3: S3Double) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def fetched(s3: S3Double, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetch]:
    """``fetched(ref=REF, task=..., download_images=..., **environ)``: one job's fetch, through the proxy."""
    monkeypatch.setattr("trainer_sdk.storage.s3.PAUSES_S", (0.0, 0.0, 0.0))

    def call(
        ref: DatasetRef = REF, *, task: Task = Task.DETECTION, download_images: bool = True, **environ: str
    ) -> FetchedDataset:
        environ = {**proxy.environment(s3.environment()), "DATASET_CACHE_DIR": str(tmp_path / "cache"), **environ}
        return fetch.fetch(ref, task, Settings.from_env(environ), quiet, download_images=download_images)

    yield call
    cache.leave_all()


def images_asked(proxy: FaultyProxy) -> dict[str, int]:
    return {path.rpartition("/")[2]: times for path, times in proxy.asked.items() if "/images/" in path}


def assert_complete(found: FetchedDataset, names: list[str], size: int = 500) -> None:
    assert list(found.image_paths) == names
    for name, path in found.image_paths.items():
        assert (found.root / path).read_bytes() == body_of(name, size)
    assert orjson.loads((found.root / ".complete").read_bytes())["sha256"] == found.sha256
    assert not list(found.root.rglob("*.part"))


def test_more_images_than_a_page_of_a_listing(s3: S3Double, fetched: Fetch) -> None:
    names = [f"{number:04}.jpg" for number in range(1003)]
    put(s3, names, size=5)
    assert_complete(fetched(), names, size=5)


def test_only_what_is_used_is_fetched(s3: S3Double, fetched: Fetch) -> None:
    put(s3, ["a.jpg"])
    s3.put(DATASETS, PREFIX + "images/unused.jpg", b"large")
    found = fetched()
    assert sorted(path.name for path in found.root.rglob("*.jpg")) == ["a.jpg"]


def test_a_second_job_fetches_nothing(s3: S3Double, fetched: Fetch, proxy: FaultyProxy) -> None:
    put(s3, ["a.jpg", "b.jpg"])
    first = fetched()
    proxy.asked.clear()
    assert fetched() == first
    assert images_asked(proxy) == {}


def test_a_torn_and_a_replaced_image_are_fetched_again(s3: S3Double, fetched: Fetch, proxy: FaultyProxy) -> None:
    put(s3, ["a.jpg", "b.jpg", "c.jpg"])
    found = fetched()
    (found.root / found.image_paths["a.jpg"]).write_bytes(b"torn")
    s3.put(DATASETS, PREFIX + "images/b.jpg", b"x" * 500)  # of the same size: only the ETag tells
    (found.root / "images" / ".77-88.part").write_bytes(b"left by a killed job")
    proxy.asked.clear()
    again = fetched()
    assert images_asked(proxy) == {"a.jpg": 1, "b.jpg": 1}
    assert (again.root / again.image_paths["a.jpg"]).read_bytes() == body_of("a.jpg")
    assert (again.root / again.image_paths["b.jpg"]).read_bytes() == b"x" * 500
    assert not list(again.root.rglob("*.part"))


def test_a_torn_record_costs_one_transfer(s3: S3Double, fetched: Fetch, proxy: FaultyProxy) -> None:
    names = ["a.jpg", "b.jpg", "c.jpg"]
    put(s3, names)
    record = fetched().root / ".files.jsonl"
    record.write_bytes(record.read_bytes()[:-7])
    proxy.asked.clear()
    assert_complete(fetched(), names)
    assert len(images_asked(proxy)) == 1
    proxy.asked.clear()
    fetched()
    assert images_asked(proxy) == {}


def test_images_without_objects_are_only_absent(s3: S3Double, fetched: Fetch, proxy: FaultyProxy) -> None:
    put(s3, ["a.jpg", "b.jpg", "c.jpg"])
    s3.client.delete_object(Bucket=DATASETS, Key=PREFIX + "images/b.jpg")
    proxy.missing = {f"/{DATASETS}/{PREFIX}images/c.jpg"}  # listed, and gone when it is asked for
    assert list(fetched().image_paths) == ["a.jpg"]
    proxy.missing = set()
    assert list(fetched().image_paths) == ["a.jpg", "c.jpg"]


def test_damage_on_the_way_is_repaired(s3: S3Double, fetched: Fetch, proxy: FaultyProxy) -> None:
    names = [f"{number}.jpg" for number in range(30)]
    put(s3, names)
    proxy.damage = lambda path, times, body: (
        body if times > 1 else body[:-1] + b"?" if path[-5] in "02468" else body[:9]
    )
    assert_complete(fetched(), names)


def test_damage_that_stays_names_the_object(s3: S3Double, fetched: Fetch, proxy: FaultyProxy) -> None:
    put(s3, ["a.jpg", "b.jpg"])
    proxy.damage = lambda path, times, body: body[:-1] + b"?" if path.endswith("b.jpg") else body
    with pytest.raises(NetworkError, match=r"datasets/d/images/b\.jpg"):
        fetched()
    assert not (fetched(download_images=False).root / ".complete").exists()
    proxy.damage = lambda path, times, body: body
    proxy.asked.clear()
    assert_complete(fetched(), ["a.jpg", "b.jpg"])
    assert "b.jpg" in images_asked(proxy)


def test_another_version_than_the_job_was_made_for_shows_both(s3: S3Double, fetched: Fetch) -> None:
    put(s3, ["a.jpg"])
    sha256 = fetched().sha256
    assert fetched(REF.model_copy(update={"version_hash": sha256})).sha256 == sha256
    with pytest.raises(DatasetError) as caught:
        fetched(REF.model_copy(update={"version_hash": "0" * 64}))
    assert "0" * 64 in caught.value.message and sha256 in caught.value.message


def test_the_version_covers_every_annotation_file(s3: S3Double, fetched: Fetch) -> None:
    put(s3, ["a.jpg"])
    before = fetched()
    s3.put(DATASETS, PREFIX + "annotations_pose.json", b"{}")
    after = fetched()
    assert after.sha256 != before.sha256
    assert after.root != before.root


def test_every_node_sees_the_same_images_in_the_same_order(
    s3: S3Double, fetched: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["z.jpg", "a.jpg", "m/a.jpg", "M.jpg", "z.jpg", "missing.jpg"]
    put(s3, names[:5])
    s3.put(DATASETS, PREFIX + "annotations_detection.json", annotations(names))
    first = fetched()
    assert list(first.image_paths) == ["z.jpg", "a.jpg", "m/a.jpg", "M.jpg"]

    def backwards(storage: Any, prefix: str, after: str) -> Any:
        page = storage._page_of_boto(prefix, after)
        return page._replace(objects=page.objects[::-1])

    monkeypatch.setattr("trainer_sdk.storage.s3.S3Storage._page_of_obstore", backwards)
    other_node = fetched(DATASET_CACHE_DIR=str(tmp_path / "other"))
    assert list(other_node.image_paths.items()) == list(first.image_paths.items())
    assert other_node.sha256 == first.sha256


def test_located_only(s3: S3Double, fetched: Fetch, proxy: FaultyProxy) -> None:
    put(s3, ["a.jpg", "b/c.jpg"])
    found = fetched(download_images=False)
    assert not found.root.exists()
    assert images_asked(proxy) == {}
    assert (found.bucket, found.prefix) == (DATASETS, PREFIX)
    storage = open_storage(Settings.from_env(s3.environment()).datasets, found.bucket)
    assert [storage.read(found.key(path)) for path in found.image_paths.values()] == [
        body_of("a.jpg"),
        body_of("b/c.jpg"),
    ]
    assert fetched().image_paths == found.image_paths


@pytest.mark.parametrize("download_images", [True, False])
def test_masks_come_with_or_without_their_images(s3: S3Double, fetched: Fetch, download_images: bool) -> None:
    """The conversion reads them, also where images are streamed."""
    put(s3, ["a.jpg", "b.jpg", "c.jpg"])
    document = orjson.loads(annotations(["a.jpg", "b.jpg", "c.jpg"]))
    for image, mask in zip(document["images"], ("masks/a_mask.png", "masks/missing.png", "../x.png"), strict=True):
        image["annotation"] = {"mask_file": mask, "mask_format": "indexed_png"}
        del image["annotations"]
    s3.put(DATASETS, PREFIX + "annotations_segmentation.json", orjson.dumps(document))
    s3.put(DATASETS, PREFIX + "masks/a_mask.png", b"mask")
    found = fetched(task=Task.SEMANTIC, download_images=download_images)
    assert found.other_paths == {"masks/a_mask.png": "masks/a_mask.png"}
    assert (found.root / "masks" / "a_mask.png").read_bytes() == b"mask"
    assert (found.root / "images" / "a.jpg").exists() is download_images
    assert fetched(task=Task.DETECTION).other_paths == {}


@pytest.mark.parametrize("folder", ["datasets/d", "raw"], ids=["below", "elsewhere"])
def test_a_data_set_of_the_ancestor_format(s3: S3Double, fetched: Fetch, folder: str) -> None:
    """Label files and images are named by URIs, and may lie anywhere in the bucket."""
    uri = f"s3://{DATASETS}/{folder}"
    names = ["one/a.jpg", "two/a.jpg", "gone.jpg"]
    entries = [{"img_path": f"{uri}/images/{name}", "label_path": f"{uri}/labels/{name}.json"} for name in names]
    label_map = {"class_summary": {"classes": [{"name": "thing", "idx": 1}]}, "data_summary": entries}
    s3.put(DATASETS, PREFIX + "label_map.json", orjson.dumps(label_map))
    box = {"label": "thing", "shape_type": "rectangle", "points": [[1, 1], [4, 4]]}
    for name in names[:2]:
        label = {"shapes": [box], "imageWidth": 8, "imageHeight": 8}
        s3.put(DATASETS, f"{folder}/labels/{name}.json", orjson.dumps(label))
        s3.put(DATASETS, f"{folder}/images/{name}", body_of(name))
    found = fetched()
    assert_complete(found, names[:2])
    assert [path.name for path in sorted(found.root.rglob("*.json"))].count("a.jpg.json") == 2
    assert (found.root / "label_map.json").exists()
    assert "DS080" in {finding.code for finding in found.dice.findings}
    assert found.key(found.image_paths["one/a.jpg"]) == f"{folder}/images/one/a.jpg"
    s3.put(DATASETS, f"{folder}/labels/one/a.jpg.json", b'{"shapes": [], "imageWidth": 8, "imageHeight": 8}')
    assert fetched().sha256 != found.sha256


def test_a_label_map_that_is_none() -> None:
    with pytest.raises(DatasetError, match=r"label_map\.json"):
        documents.label_files(b'{"data_summary": 3}')


def test_no_object_is_written_outside_the_entry(s3: S3Double, fetched: Fetch) -> None:
    names = ["a.jpg", "../../../out.jpg", f"s3://{DATASETS}/../../out.jpg"]
    s3.put(
        DATASETS,
        PREFIX + "annotations_detection.json",
        annotations(names, storage_info={"image_root": PREFIX + "../../"}),
    )
    for key in (PREFIX + "../../a.jpg", PREFIX + "../../../out.jpg", "../../out.jpg"):
        s3.put(DATASETS, key, b"out")
    assert fetched().image_paths == {}


def use(name: str, seconds_ago: float, root: Path) -> None:
    """As if the entry had been used then."""
    lock = root / ".locks" / f"{name}.use"
    os.utime(lock, (time.time() - seconds_ago,) * 2)


def test_the_least_recently_used_leave_and_what_is_used_or_not_ours_stays(
    s3: S3Double, fetched: Fetch, tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    entries = {}
    for name, seconds_ago in (("old", 100), ("used", 300), ("older", 200)):
        put(s3, [f"{name}.jpg"], name, size=100_000)
        entries[name] = fetched(DatasetRef(id=name, prefix=f"datasets/{name}/")).root
        use(entries[name].name, seconds_ago, root)
    cache.leave_all()
    (root / "theirs").mkdir()
    (root / "theirs" / "weights.bin").write_bytes(b"x" * 500_000)
    held = fetched(DatasetRef(id="used", prefix="datasets/used/"))
    use(held.root.name, 300, root)
    put(s3, ["new.jpg"], "new", size=100_000)
    new = fetched(DatasetRef(id="new", prefix="datasets/new/"), DATASET_CACHE_MAX_GB="0.000310")
    assert_complete(new, ["new.jpg"], 100_000)
    assert [name for name, entry in entries.items() if entry.exists()] == ["old", "used"]
    put(s3, ["last.jpg"], "last", size=100_000)
    last = fetched(DatasetRef(id="last", prefix="datasets/last/"), DATASET_CACHE_MAX_GB="0")
    assert_complete(last, ["last.jpg"], 100_000)
    assert [name for name, entry in entries.items() if entry.exists()] == ["used"]
    assert new.root.exists()
    assert (root / "theirs" / "weights.bin").exists()


@pytest.mark.parametrize(
    ("number", "error", "text"),
    [
        (errno.ENOSPC, ResourceError, "the disk is full"),
        (errno.EROFS, ResourceError, "cannot be used"),
        (errno.ENAMETOOLONG, DatasetError, "cannot be one here"),
    ],
)
def test_a_cache_that_cannot_be_written(
    s3: S3Double, fetched: Fetch, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], text: str
) -> None:
    put(s3, ["a.jpg", "b.jpg"])

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "a.jpg")

    monkeypatch.setattr("trainer_sdk.storage.partfile.PartFile.write", refuse)
    with pytest.raises(error, match=text):
        fetched()


def test_a_limit_that_is_no_number() -> None:
    assert "DATASET_CACHE_MAX_GB='much'" in settings_problems({"DATASET_CACHE_MAX_GB": "much"})[0]
    assert settings_problems({"DATASET_CACHE_MAX_GB": "0.5"}) == []
    assert Settings.from_env({}).dataset_cache_max_gb == 100
