#!/usr/bin/env python3
"""Predicting beside MMDetection's DetInferencer: same weights, same images, same machine, in turns.

    python scripts/bench_predict.py [--checkpoint FILE] [--count 24] [--rounds 5] [--ways pytorch onnx ...]

RTMDet-s at 640 px on the CPU, files in and one JSON file out. Each round runs every way over all images, so that a
ratio compares neighbours in time; what is told is the median of the rounds' ratios, with the smallest and the largest.
Nothing is drawn by any of them.

The weights are trained on drawn shapes, once, and kept in workspace/bench-predict: random ones find either nothing or
tens of thousands of objects, and in fewer bits something else. Nobody's pictures are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmtrain.datasets.shapes import write_shapes  # noqa: E402
from mmtrain.machine import available_cores  # noqa: E402
from mmtrain.predicting.agreement import PROBES, agreement  # noqa: E402
from mmtrain.predicting.found import Item, Seen  # noqa: E402
from mmtrain.predicting.inputs import Places, entries  # noqa: E402
from mmtrain.predicting.options import Options  # noqa: E402
from mmtrain.predicting.pixels import Pending  # noqa: E402
from mmtrain.predicting.predictor import Looker  # noqa: E402
from mmtrain.predicting.run import Reading, Writing, predict_all  # noqa: E402
from mmtrain.predicting.writers import Wanted  # noqa: E402
from trainer_sdk.settings import Settings  # noqa: E402

MODEL, SIZE, FIELD = "rtmdet-s", 640, 128
PAUSE_S = 0.3
"""Between two ways: the threads of one stop spinning."""

WAYS = ("pytorch", "onnx", "openvino")
REDUCED = ("pytorch", "openvino")
"""Those that compute in bfloat16 when asked; OpenVINO does it by default on CPUs that have it."""

Way = Callable[[list[str], Path], None]


class Cost(NamedTuple):
    """Of one way over all images. The CPU's part counts the spinning of threads too, and hardly what others do."""

    wall_s: float
    cpu_s: float


def main() -> None:
    arguments = parsed()
    with tempfile.TemporaryDirectory() as folder:
        files = images(arguments.count, Path(folder))
        checkpoint = arguments.checkpoint or trained(ROOT / "workspace" / "bench-predict")
        config = written_config(checkpoint, Path(folder) / "config.py")
        ways = all_ways(checkpoint, config, arguments.ways, files, Path(folder))
        rows = measured(ways, files, arguments.rounds, Path(folder))
    print(f"{len(files)} images, {arguments.rounds} rounds, {available_cores()} cores, load {os.getloadavg()[0]:.1f}")
    for name, row in rows.items():
        wall = f"x {row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f})"
        print(f"{name:16s} {row['images_per_s']:6.2f} images/s   {wall}, by CPU x {row['cpu_ratio']:.2f}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="of a detector; by default RTMDet-s is trained on drawn shapes")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="beside DetInferencer")
    return parser.parse_args()


def images(count: int, folder: Path) -> list[str]:
    """Paths of drawn pictures: 640 x 480 JPEGs of 20 fields of noise, four of them with one to four shapes."""
    write_shapes(folder / "fields", counts={"val": 4 * count}, size=(FIELD, FIELD), seed=1)
    fields = [cv2.imread(str(path)) for path in sorted((folder / "fields/images").iterdir())]
    random = np.random.default_rng(0)
    paths = [folder / f"{number:03}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        noise = random.integers(90, 150, (4 * FIELD, 5 * FIELD, 3), dtype=np.uint8)
        picture = cv2.GaussianBlur(noise, (0, 0), 1.5)
        for place, field in zip(random.permutation(15)[:4], fields[4 * number :], strict=False):
            top, left = FIELD * (place // 5), FIELD * (place % 5)
            picture[top : top + FIELD, left : left + FIELD] = field
        cv2.imwrite(str(path), picture[:480])
    return [str(path) for path in paths]


def trained(folder: Path) -> Path:
    """A checkpoint that knows the shapes, from scratch, at the size of a field; one that is there already is taken."""
    checkpoint = folder / "1" / "out" / "best.pth"
    if not checkpoint.is_file():
        data = write_shapes(folder / "shapes", counts={"train": 160, "val": 16, "test": 8}, size=(FIELD, FIELD))
        config = {"epochs": 15, "batch": 8, "imgsz": FIELD, "mosaic": 0, "val_interval": 15, "workers": 0}
        asked = {"JOB_ID": "1", "MODEL_NAME": MODEL, "DATASET_PATH": str(data), "WORKSPACE_DIR": str(folder)}
        asked["CONFIG"] = json.dumps(config | {"pretrained": False, "device": "cpu"})
        basic = {name: os.environ[name] for name in ("PATH", "HOME")}
        subprocess.run([sys.executable, ROOT / "train.py"], env={**basic, **asked}, check=True, stdout=sys.stderr)
    return checkpoint


def written_config(checkpoint: Path, path: Path) -> Path:
    """The configuration that MMDetection's own tools build the same model from."""
    source(checkpoint).cfg.dump(path)
    return path


def source(checkpoint: Path) -> Any:
    """The model, for pictures of the benchmark's size."""
    from mmtrain.engine.model_of import load_model

    return load_model(checkpoint, size_wh=(SIZE, SIZE))


def all_ways(checkpoint: Path, config: Path, names: Sequence[str], files: list[str], folder: Path) -> dict[str, Way]:
    """DetInferencer first. Fewer bits only with the word on what they see, as in a job."""
    ways: dict[str, Way] = {"DetInferencer": upstream(checkpoint, config)}
    for name in names:
        path = checkpoint if name == "pytorch" else exported(checkpoint, name, folder / name)
        plain = opened(path, "fp32")
        ways[f"{name} fp32"] = way_of(*plain, folder)
        if name in REDUCED:
            fewer = opened(path, "bf16")
            seen = [looked(one, files[:PROBES]) for one in (plain, fewer)]
            share = agreement(*seen, plain[1].conf)
            print(f"{name} bf16 sees {share:.1%} of what fp32 sees" if share is not None else f"{name}: nothing found")
            ways[f"{name} bf16"] = way_of(*fewer, folder)
    return ways


def exported(checkpoint: Path, kind: str, folder: Path) -> Path:
    """A package with its certificate."""
    from mmtrain.exporters.export import export
    from mmtrain.exporters.worker import source_of
    from trainer_sdk.config.model_jobs import ExportConfig

    certificate = export(source_of(source(checkpoint)), ExportConfig(), kind, folder, measure_speed=False)
    print(f"certificate of {kind}: {certificate.verdict} {'; '.join(certificate.failures)}")
    return folder


def opened(path: Path, precision: str) -> tuple[Any, Options]:
    """A predictor of a checkpoint or a package."""
    options = Options(threads=available_cores(), precision=precision)  # type: ignore[arg-type]
    if path.is_dir():
        from mmtrain.predicting.package import open_package

        return open_package(path, options)[0], options
    from mmtrain.predicting.checkpoint import predictor_of

    return predictor_of(source(path), options), options


def looked(model: tuple[Any, Options], files: list[str]) -> list[Seen]:
    looker = Looker(*model)
    items = [Item(number, path, path, path) for number, path in enumerate(files)]
    return list(looker.see([looker.ready(Pending(item), cv2.imread(item.address)) for item in items]))


def upstream(checkpoint: Path, config: Path) -> Way:
    """As MMDetection's documentation has it, with as many threads as ours."""
    import torch
    from mmdet.apis import DetInferencer

    torch.set_num_threads(available_cores())
    inferencer = DetInferencer(model=str(config), weights=str(checkpoint), device="cpu", show_progress=False)

    def run(files: list[str], target: Path) -> None:
        target.write_text(json.dumps(inferencer(files, no_save_vis=True)["predictions"]))

    return run


def way_of(predictor: Any, options: Options, folder: Path) -> Way:
    nothing = Wanted(save_images=False, save_txt=False)
    reading = Reading(Places(Settings.from_env({})), available_cores(), folder)

    def run(files: list[str], target: Path) -> None:
        target.mkdir(exist_ok=True)
        predict_all(
            entries(files, reading.places),
            predictor,
            options,
            reading,
            Writing(target, nothing, False),
            lambda done: None,
        )

    return run


def measured(ways: dict[str, Way], files: list[str], rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    cv2.setNumThreads(1)
    times: dict[str, list[Cost]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for place, (name, run) in enumerate(ways.items()):
            time.sleep(PAUSE_S)
            started, used = time.perf_counter(), time.process_time()
            run(files, folder / f"out{place}")
            cost = Cost(time.perf_counter() - started, time.process_time() - used)
            print(f"round {number}: {name} {cost.wall_s:.2f} s, {cost.cpu_s:.2f} s of the CPU", file=sys.stderr)
            if number:  # the first one warms up
                times[name].append(cost)
    first = next(iter(ways))
    return {name: row_of(times[first], took, len(files)) for name, took in times.items()}


def row_of(reference: list[Cost], took: list[Cost], count: int) -> dict[str, float]:
    ratios = sorted(one.wall_s / other.wall_s for one, other in zip(reference, took, strict=True))
    return {
        "images_per_s": count / statistics.median(one.wall_s for one in took),
        "cpu_ratio": statistics.median(one.cpu_s / other.cpu_s for one, other in zip(reference, took, strict=True)),
        "ratio": statistics.median(ratios),
        "least": ratios[0],
        "most": ratios[-1],
    }


if __name__ == "__main__":
    main()
