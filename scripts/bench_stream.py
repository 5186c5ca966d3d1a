"""`make bench-stream`: an epoch with images from the disk beside the same epoch with images from a bucket.

RTMDet-tiny at 320 px, batches of 8, 2 loading processes. The storage is that of EXTERNAL_STORAGE_*; the images are put
below `datasets/bench-stream/` of its bucket and removed at the end. All ways take turns; of each, the fastest counts.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from mmtrain import compat  # noqa: E402
from mmtrain.datasets.shapes import write_shapes  # noqa: E402
from mmtrain.datasets.stream import StreamedImages, open_stream  # noqa: E402
from trainer_sdk.settings import Settings, StorageSettings  # noqa: E402
from trainer_sdk.storage.opening import open_storage  # noqa: E402

PREFIX = "datasets/bench-stream"
AMPLE_BYTES = 10**11
Seconds = dict[str, list[dict[str, float]]]
"""Way -> wall and CPU seconds of each of its epochs."""
WAYS = ("disk", "cold", "warm", "half", "alone")
MEANING = {
    "disk": "files",
    "cold": "bucket, empty cache",
    "warm": "bucket, cache that holds all",
    "half": "bucket, full cache of half the size",
    "alone": "bucket, empty cache, no reading ahead",
}


def main() -> int:
    options = parse_arguments()
    settings = Settings.from_env(os.environ).datasets
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as folder:
        data = options.data.resolve() if options.data else draw(Path(folder) / "drawn", options.images)
        command = [sys.executable, "-m", "converters", str(data), str(Path(folder) / "coco")]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        shorten(Path(folder) / "coco" / "train.json", options.images)
        with in_the_bucket(data / "images", settings):
            bench = Bench(Path(folder), data, settings)
            work = (("loading", bench.load, options.rounds), ("training", bench.train, options.training_rounds))
            measured = {name: bench.rounds(epoch, options.ways, count) for name, epoch, count in work if count}
        report(measured, bench, options.json)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a DICE detection folder with images/; else one is drawn")
    parser.add_argument("--images", type=int, default=200, help="training images: to draw, or the first ones of --data")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of loading per way")
    parser.add_argument("--training-rounds", type=int, default=2, help="epochs of training per way")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--json", type=Path, default=ROOT / "workspace" / "bench_stream.json")
    options = parser.parse_args()
    options.ways = ["disk", *(way for way in options.ways if way != "disk")]  # what the others are compared with
    return options


def draw(folder: Path, images: int) -> Path:
    return write_shapes(folder, counts={"train": images, "val": 1, "test": 1}, size=(640, 480))


def shorten(annotations: Path, images: int) -> None:
    """The first images of a split, with their annotations."""
    split = json.loads(annotations.read_text())
    split["images"] = split["images"][:images]
    kept = {row["id"] for row in split["images"]}
    split["annotations"] = [row for row in split["annotations"] if row["image_id"] in kept]
    annotations.write_text(json.dumps(split))


@contextmanager
def in_the_bucket(images: Path, settings: StorageSettings) -> Iterator[None]:
    """The images as objects, for as long as this lasts."""
    client = s3_client(settings)
    if settings.bucket not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=settings.bucket)
    storage = open_storage(settings)
    files = {f"{PREFIX}/{path.name}": path for path in images.iterdir()}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: storage.upload(item[1], item[0]), files.items()))
    try:
        yield
    finally:
        for key in files:
            client.delete_object(Bucket=settings.bucket, Key=key)


def s3_client(settings: StorageSettings) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.access_key.get_secret_value(),
        aws_secret_access_key=settings.secret_key.get_secret_value(),
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


class Bench:
    """One data set, five ways to read it, two things to do with it."""

    def __init__(self, folder: Path, data: Path, settings: StorageSettings) -> None:
        compat.apply()
        compat.import_quietly("mmdet")
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._folder, self._images, self._settings = folder, data / "images", settings
        rows = json.loads((folder / "coco" / "train.json").read_text())["images"]
        self._names = [row["file_name"] for row in rows]
        self.count = len(rows)
        self.bytes = sum((self._images / name).stat().st_size for name in self._names)
        self._made = 0

    def rounds(self, epoch: Callable[[Any, Any], float], ways: list[str], rounds: int) -> Seconds:
        """Seconds of each epoch by way, ways taking turns."""
        seconds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(rounds):
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                seconds[way].append(self._measure(epoch, way, seed=number))
                print(f"{epoch.__name__} {way}: {seconds[way][-1]}", file=sys.stderr, flush=True)
        return seconds

    def _measure(self, epoch: Callable[[Any, Any], float], way: str, seed: int) -> dict[str, float]:
        """A new loader with new processes, whose start counts. On a busy machine CPU time says more than wall time; the
        storage's own is not in it."""
        from mmengine.registry import DefaultScope
        from mmengine.runner import Runner

        config = self._config(way)
        with DefaultScope.overwrite_default_scope("mmdet"), contextlib.redirect_stdout(io.StringIO()):
            loader = Runner.build_dataloader(config.train_dataloader, seed=seed)
            before = os.times()
            wall_s = epoch(config, loader)
            del loader  # ends its processes, whose time counts only then
        spent = [now - then for now, then in zip(os.times()[:4], before[:4], strict=True)]
        return {"wall": wall_s, "cpu": round(sum(spent), 3)}

    def load(self, _: Any, loader: Any) -> float:
        start = time.perf_counter()
        assert sum(len(batch["inputs"]) for batch in loader) == self.count
        return round(time.perf_counter() - start, 3)

    def train(self, config: Any, loader: Any) -> float:
        from mmdet.registry import MODELS
        from mmengine.optim import build_optim_wrapper

        model = MODELS.build(config.model).train()
        optimizer = build_optim_wrapper(model, config.optim_wrapper)
        start = time.perf_counter()
        for batch in loader:
            model.train_step(batch, optimizer)
        return round(time.perf_counter() - start, 3)

    def _config(self, way: str) -> Any:
        """Upstream's, edited as for `make real`; its images at this way's place."""
        from mmengine.config import Config
        from reference_mmdet import edit

        base = Path(find_spec("mmdet").origin).parent / ".mim/configs/rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
        config = Config.fromfile(base)
        options = {"size": 320, "epochs": 1, "val_interval": 1, "seed": 1, "work_dir": self._folder / "work"}
        edit(config, SimpleNamespace(annotations=self._folder / "coco", images=self._images, **options))
        if way != "disk":
            self._stream(config, way)
        return config

    def _stream(self, config: Any, way: str) -> None:
        from mmtrain.engine.stream import read_ahead, register

        self._made += 1
        size = self.bytes // 2 if way == "half" else AMPLE_BYTES
        folder = self._folder / f"cache-{self._made}"
        images = StreamedImages(uri=f"s3://{self._settings.bucket}/{PREFIX}", cache_dir=folder, cache_bytes=size)
        stream = open_stream(self._settings, images)
        if way in ("warm", "half"):
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(stream.read_ahead, map(images.uri_of, self._names)))
        register(stream)
        config.train_dataloader.dataset.data_prefix = {"img": images.uri}
        if way != "alone":
            read_ahead(config)


def report(measured: dict[str, Seconds], bench: Bench, target: Path) -> None:
    print(f"{bench.count} images, {bench.bytes / 1e6:.1f} MB")
    for work, seconds in measured.items():
        print(
            f"\n{work:44} {'wall s':>7} {'vs disk':>8} {'CPU s':>7} {'vs disk':>8}  (fastest of {len(seconds['disk'])})"
        )
        least = {way: [min(row[kind] for row in rows) for kind in ("wall", "cpu")] for way, rows in seconds.items()}
        for way, (wall_s, cpu_s) in least.items():
            over = [f"{mine / disk - 1:+.1%}" for mine, disk in zip(least[way], least["disk"], strict=True)]
            print(f"{way + ': ' + MEANING[way]:44} {wall_s:7.2f} {over[0]:>8} {cpu_s:7.2f} {over[1]:>8}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"images": bench.count, "bytes": bench.bytes, "seconds": measured}, indent=2))


if __name__ == "__main__":
    sys.exit(main())
