#!/usr/bin/env python3
"""Predicting beside MMDetection's DetInferencer: same weights, same images, same machine, in turns.

    python scripts/bench_predict.py [--images FOLDER] [--count 24] [--rounds 5] [--ways pytorch onnx ...]

RTMDet-s at 640 px on the CPU, files in and one JSON file out. Each round runs every way over all images, so that a
ratio compares neighbours in time; what is told is the median of the rounds' ratios, with the smallest and the largest.
Nothing is drawn by any of them.

The weights are drawn: batch norms see the images, and the classifier is set so that some hundred candidates of an image
pass MMDetection's score of 0.001 and about ten pass 0.25, as those of a trained model do. An untrained one has either
none or tens of thousands, and suppression would be all that is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

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

MODEL, SIZE, CLASSES = "rtmdet-s", 640, ("a", "b", "c")
SPREAD, MIDDLE = 5.3, -18.9
"""Of the classifier's logits: 1.2 % of them pass -6.9, a score of 0.001, and 0.04 % pass -1.1, one of 0.25."""
PAUSE_S = 0.3
"""Between two ways: the threads of one stop spinning."""

WAYS = ("pytorch", "onnx", "openvino")
REDUCED = ("pytorch", "openvino")
"""Those that compute in bfloat16 when asked; OpenVINO does it by default on CPUs that have it."""

Way = Callable[[list[str], Path], None]


def main() -> None:
    arguments = parsed()
    with tempfile.TemporaryDirectory() as folder:
        files = images(arguments.images, arguments.count, Path(folder))
        checkpoint, config = draw_model(Path(folder), files)
        ways = all_ways(checkpoint, config, arguments.ways, files, Path(folder))
        rows = measured(ways, files, arguments.rounds, Path(folder))
    print(f"{len(files)} images, {arguments.rounds} rounds, {available_cores()} cores, load {os.getloadavg()[0]:.1f}")
    for name, row in rows.items():
        span = f"{row['least']:.2f} to {row['most']:.2f}"
        print(f"{name:24s} {row['images_per_s']:6.2f} images/s   x {row['ratio']:.2f} ({span})")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of pictures; by default they are drawn")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="beside DetInferencer")
    return parser.parse_args()


def images(folder: Path | None, count: int, temporary: Path) -> list[str]:
    """Paths of pictures; drawn ones are 640 x 480 JPEGs with noise, about as hard to decode as photographs."""
    if folder is not None:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        return [str(path) for path in found[:count]]
    random = np.random.default_rng(0)
    paths = [temporary / f"{number:03}.jpg" for number in range(count)]
    for path in paths:
        coarse = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(path), cv2.add(picture, random.integers(0, 24, picture.shape, dtype=np.uint8)))
    return [str(path) for path in paths]


def draw_model(folder: Path, files: list[str]) -> tuple[Path, Path]:
    """A checkpoint in our form, and the configuration that MMDetection's own tools build the same model from."""
    import torch

    from mmtrain import compat

    compat.apply()
    compat.import_framework("mmdet")
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    from mmtrain.engine.fit import upstream_config
    from mmtrain.engine.model_of import load_model
    from mmtrain.recipes import load_recipe
    from trainer_sdk.tasks import Task

    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    init_default_scope("mmdet")
    recipe = load_recipe(MODEL, Task.DETECTION)
    config = upstream_config(recipe)
    config["model"]["backbone"].pop("init_cfg", None)
    config["model"]["bbox_head"]["num_classes"] = len(CLASSES)
    model = revert_sync_batchnorm(MODELS.build(config["model"]))
    model.init_weights()
    settle(model, torch.cat([as_input(path, model) for path in files[:4]]))
    description = {
        "format": "openmmlab-trainer/1", "task": Task.DETECTION.value, "recipe": MODEL, "classes": list(CLASSES),
        "input_size_wh": [SIZE, SIZE], "dataset": {}, "config": "",
    }  # fmt: skip
    checkpoint = folder / "model.pth"
    meta = {"trainer": description, "dataset_meta": {"classes": list(CLASSES)}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, checkpoint)
    path = folder / "config.py"
    load_model(checkpoint).cfg.dump(path)
    return checkpoint, path


def as_input(path: str, model: Any) -> Any:
    """(1, 3, 640, 640), normalised."""
    import torch

    picture = torch.from_numpy(cv2.resize(cv2.imread(path), (SIZE, SIZE))).permute(2, 0, 1).float()
    return ((picture - model.data_preprocessor.mean) / model.data_preprocessor.std)[None]


def settle(model: Any, inputs: Any) -> None:
    """Gives the batch norms the statistics of some images, and the classifier logits like a trained one's."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()
        model._forward(inputs)
        model.eval()
        scores, _ = model._forward(inputs)
        for layer, logits in zip(model.bbox_head.rtm_cls, scores, strict=True):
            factor = SPREAD / logits.std()
            layer.weight.mul_(factor)
            layer.bias.copy_((layer.bias - logits.mean()) * factor + MIDDLE)


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
    from mmtrain.engine.model_of import load_model
    from mmtrain.exporters.export import export
    from mmtrain.exporters.worker import source_of
    from trainer_sdk.model_configs import ExportConfig

    certificate = export(source_of(load_model(checkpoint)), ExportConfig(), kind, folder, measure_speed=False)
    print(f"certificate of {kind}: {certificate.verdict} {'; '.join(certificate.failures)}")
    return folder


def opened(path: Path, precision: str) -> tuple[Any, Options]:
    """A predictor of a checkpoint or a package."""
    options = Options(threads=available_cores(), precision=precision)  # type: ignore[arg-type]
    if path.is_dir():
        from mmtrain.predicting.package import open_package

        return open_package(path, options)[0], options
    from mmtrain.engine.model_of import load_model
    from mmtrain.predicting.checkpoint import predictor_of

    return predictor_of(load_model(path), options), options


def looked(model: tuple[Any, Options], files: list[str]) -> list[Seen]:
    looker = Looker(*model)
    items = [Item(number, path, path, path) for number, path in enumerate(files)]
    return list(looker.see([looker.ready(Pending(item), cv2.imread(item.address)) for item in items]))


def upstream(checkpoint: Path, config: Path) -> Way:
    """As MMDetection's documentation has it."""
    from mmdet.apis import DetInferencer

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
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for place, (name, run) in enumerate(ways.items()):
            time.sleep(PAUSE_S)
            started = time.perf_counter()
            run(files, folder / f"out{place}")
            if number:  # the first one warms up
                times[name].append(time.perf_counter() - started)
    first = next(iter(ways))
    return {name: row_of(times[first], took, len(files)) for name, took in times.items()}


def row_of(reference: list[float], took: list[float], count: int) -> dict[str, float]:
    ratios = sorted(one / other for one, other in zip(reference, took, strict=True))
    return {
        "images_per_s": count / statistics.median(took),
        "ratio": statistics.median(ratios),
        "least": ratios[0],
        "most": ratios[-1],
    }


if __name__ == "__main__":
    main()
